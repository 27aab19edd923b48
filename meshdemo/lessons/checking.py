"""`meshdemo check`: policies as tests. The commands in the comment of a file run where it is applied, and are judged.

Where that is, a lab or a cluster, is a stage (stage.py), as for lessons; a file is read as theirs are (comment.py).
"""

from __future__ import annotations

import dataclasses
import functools
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import click

from meshdemo.console import signals, terminal
from meshdemo.errors import StartError
from meshdemo.escaping import printable
from meshdemo.lessons.command import folder_of, import_lab
from meshdemo.lessons.files.comment import Command
from meshdemo.lessons.files.reading import EXAMPLE, Lesson
from meshdemo.lessons.running import promises
from meshdemo.lessons.running.notes import Notes
from meshdemo.lessons.running.promises import Verdict, format_seen
from meshdemo.lessons.stages.stage import Stage

_SUFFIXES = (".yaml", ".yml")
_PROGRAMS = (("meshdemo", "call"), ("meshdemo", "watch"))


@dataclass(frozen=True)
class Check:
    """What became of one expectation; `verdict` is None where it did not come to that, with the `problem`.

    `command` is as one types it, `line` where it stands in the file, from 1.
    """

    command: str
    line: int
    verdict: Verdict | None = None
    problem: str = ""

    @property
    def is_met(self) -> bool:
        """Return whether it is as expected."""
        return self.verdict is not None and self.verdict.met

    @property
    def reason(self) -> str:
        """Return what was seen instead, or why nothing was."""
        if self.verdict is None:
            return self.problem
        return f"{self.verdict.subject}: {format_seen(self.verdict)}, expected {self.verdict.range}"


@dataclass
class FileOutcome:
    """What became of the expectations of a file, in how many seconds."""

    path: Path
    checks: list[Check] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_met(self) -> bool:
        """Return whether all is as expected; a file that expects nothing is none."""
        return bool(self.checks) and all(each.is_met for each in self.checks)


@dataclass(frozen=True)
class CheckOptions:
    """What was asked for: policies, the manifests below them, the engine, and where JUnit XML goes."""

    policies: tuple[Path, ...]
    filenames: tuple[str, ...]
    recursive: bool
    istiod: bool
    junit: Path | None
    write: bool = False


def check_policies(options: CheckOptions) -> int:
    """Check what was asked for in a lab, and return the exit status; raise StartError in one line."""
    files = find_files(options.policies)
    lab, lab_stage = import_lab("meshdemo check")
    notes = Notes(functools.partial(click.echo, err=True))
    manifests = lab.files_of(
        options.filenames or [str(folder_of(None) / EXAMPLE)], notes.say, recursive=options.recursive
    )
    engine = lab.choose_engine(istiod=options.istiod)
    stage = lab_stage.LabStage(engine, lab_stage.LabOptions(0, access_log=True), notes.say, manifests)
    try:
        with signals.raising(signal.SIGHUP):
            if options.write:
                write_commands(stage, files, manifests, notes)
                return 0
            outcomes = check(stage, files, notes)
    except signals.Signalled as signalled:
        return 128 + signalled.number
    finally:
        stage.close()
    if options.junit:
        write_junit(outcomes, options.junit)
    return 0 if outcomes and all(each.is_met for each in outcomes) else 1


def write_commands(stage: Stage, files: Sequence[Path], manifests: Sequence[Path], notes: Notes) -> None:
    """Print calls for the rules of each file, with what is seen of them now as what they expect."""
    # These need the lab's packages, of which check_policies has said what is missing.
    from meshdemo.lab.cluster.workloads import read_cluster
    from meshdemo.lab.files.manifests import Loader
    from meshdemo.lessons import proposing

    for path in files:
        click.echo(f"# {path}")
        with notes.held() as lines:
            stage.show(read_file(path))
            lines.clear()
        loaded, _ = Loader([*manifests, path]).load()
        own = [each for each in loaded if each.path == path]
        for proposal in proposing.propose(own, read_cluster(loaded)):
            if isinstance(proposal, str):
                click.echo(f"# {proposal}")
                continue
            command = Command((tuple(proposal.command),))
            expected = proposing.expectations(promises.explain(stage, command))
            click.echo(f"# {proposal.title}\n{proposing.format_command(proposal, expected)}")


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files to check: those that are named, and those in folders that are.

    Raise UsageError for a path that is not there, and StartError where there is no file.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise click.UsageError(f"{path} is not there.")
        if path.is_dir():
            files += sorted(each for each in path.rglob("*") if each.suffix in _SUFFIXES and each.is_file())
        else:
            files.append(path)
    if not files:
        raise StartError(f"{', '.join(map(str, paths))} holds no file that ends in {' or '.join(_SUFFIXES)}.")
    return list(dict.fromkeys(files))


def read_file(path: Path) -> Lesson:
    """Return a file as what stages show."""
    return Lesson(1, "", path.parent, path.name)


def check(stage: Stage, files: Sequence[Path], notes: Notes) -> list[FileOutcome]:
    """Apply one file after the other, run its commands, and print what became of each; return that.

    Each is applied in place of the one before. Files without a command are named, and not applied.
    """
    outcomes, no_tests, started = [], [], time.monotonic()
    for path in files:
        lesson = read_file(path)
        begun = time.monotonic()
        try:
            commands = lesson.commands()
        except StartError as error:
            outcome = FileOutcome(path, [Check("", 1, problem=str(error))])
        else:
            if not commands:
                no_tests.append(path)
                continue
            with notes.held() as lines:
                outcome = FileOutcome(path, list(_checks(stage, lesson, commands)))
                if outcome.is_met:
                    lines.clear()
        outcomes.append(dataclasses.replace(outcome, seconds=time.monotonic() - begun))
        _print_outcome(outcomes[-1])
    for path in no_tests:
        click.echo(f"{path} is no test: the comment that it begins with has no command.")
    _print_summary(outcomes, time.monotonic() - started)
    return outcomes


def _checks(stage: Stage, lesson: Lesson, commands: Sequence[Command]) -> Iterator[Check]:
    """Yield what becomes of each expectation; what cannot be run or applied ends the file."""
    command, line = "", 1
    try:
        for each in commands:
            command, line = promises.format_pipeline(each.pipeline), each.line
            if len(each.pipeline) > 1 or each.pipeline[0][:2] not in _PROGRAMS:
                raise StartError("it is not run: a test makes calls, by meshdemo call or meshdemo watch.")
        command, line = "", 1
        if reason := stage.why_not(lesson):
            raise StartError(reason)
        stage.show(lesson)
        for each in commands:
            command, line = promises.format_pipeline(each.pipeline), each.line
            verdicts = promises.run(stage, each).verdicts
            if not verdicts:
                raise StartError("it expects nothing: add --expect.")
            for verdict in verdicts:
                yield Check(command, line, verdict)
    except StartError as error:
        yield Check(command, line, problem=str(error))


def _print_outcome(outcome: FileOutcome) -> None:
    marks = terminal.marks_for(sys.stdout)
    click.echo(outcome.path)
    shown = ""
    for each in outcome.checks:
        if each.verdict and each.is_met:
            click.echo(promises.format_verdict(each.verdict))
            continue
        if each.command != shown:
            shown = each.command
            click.echo(f"   {printable(shown)}")
        text = f"   {marks.unmet} {outcome.path}:{each.line}: {printable(each.reason)}"
        click.echo(click.style(text, fg="red", bold=True))


def _print_summary(outcomes: Sequence[FileOutcome], seconds: float) -> None:
    checks = [each for outcome in outcomes for each in outcome.checks]
    failed = sum(not each.is_met for each in checks)
    counts = f"{len(checks) - failed} passed" + (f", {failed} failed" if failed else "")
    color = "red" if failed or not checks else "green"
    files = f"{len(outcomes)} file{'' if len(outcomes) == 1 else 's'}"
    click.echo(click.style(f"\n{counts} in {seconds:.1f} s ({files})", fg=color, bold=True))


def write_junit(outcomes: Sequence[FileOutcome], target: Path) -> None:
    """Write outcomes as JUnit XML, a suite for each file; raise StartError where that cannot be written."""
    root = ElementTree.Element("testsuites")
    for outcome in outcomes:
        name = printable(str(outcome.path))
        suite = ElementTree.SubElement(root, "testsuite", {"name": name, "time": f"{outcome.seconds:.3f}"})
        for each in outcome.checks:
            subject = f"{each.command} {each.verdict.subject if each.verdict else ''}".strip() or "is applied"
            place = {"name": printable(subject), "classname": name, "file": name, "line": str(each.line)}
            case = ElementTree.SubElement(suite, "testcase", place)
            if not each.is_met:
                kind = "failure" if each.verdict else "error"
                ElementTree.SubElement(case, kind, {"message": printable(each.reason)})
        suite.set("tests", str(len(outcome.checks)))
        for attribute, kind in (("failures", "failure"), ("errors", "error")):
            suite.set(attribute, str(len(suite.findall(f"testcase/{kind}"))))
    ElementTree.indent(root)
    try:
        ElementTree.ElementTree(root).write(target, "utf-8", xml_declaration=True)
    except OSError as error:
        raise StartError(f"{target} cannot be written: {(error.strerror or str(error)).lower()}.") from None
