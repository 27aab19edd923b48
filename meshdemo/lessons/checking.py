"""`meshdemo check`: policies as tests. The commands in the comment of a file run where it is applied, and are judged.

Where that is, a lab or a cluster, is a stage (stage.py), as for lessons; a file is read as theirs are (comment.py).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshdemo.console import signals
from meshdemo.errors import StartError
from meshdemo.lessons.command import ending, folder_of, import_lab, open_cluster
from meshdemo.lessons.files.comment import Command
from meshdemo.lessons.files.reading import EXAMPLE, Lesson
from meshdemo.lessons.outcomes import Check, FileOutcome, is_passed, print_outcome, print_summary, write_junit
from meshdemo.lessons.running import one_call, promises
from meshdemo.lessons.running.notes import Notes
from meshdemo.lessons.stages.stage import Stage, UnusableStageError

if TYPE_CHECKING:
    from meshdemo.lab.options import ManifestOptions
    from meshdemo.lessons.stages.lab_stage import LabStage

_SUFFIXES = (".yaml", ".yml")
_PROGRAMS = (("meshdemo", "call"), ("meshdemo", "watch"))


@dataclass(frozen=True)
class CheckOptions:
    """What was asked for: policies, the manifests below them, the engine or the cluster, and where JUnit XML goes."""

    policies: tuple[Path, ...]
    manifests: ManifestOptions
    istiod: bool
    junit: Path | None
    write: bool = False
    cluster: bool = False


def check_policies(options: CheckOptions) -> int:
    """Check what was asked for, and return the exit status; raise StartError or UsageError in one line."""
    if options.cluster:
        _check_combination(options)
    files = find_files(options.policies)
    notes = Notes(functools.partial(click.echo, err=True))
    try:
        if options.write:
            with ending(_lab_stage(options, notes)) as lab:
                return 0 if write_commands(lab, files, notes) else 1
        with ending(open_cluster(None, 0, notes) if options.cluster else _lab_stage(options, notes)) as stage:
            outcomes = check(stage, files, notes)
    except signals.Signalled as signalled:
        return 128 + signalled.number
    if options.junit:
        write_junit(outcomes, options.junit)
    return 0 if is_passed(outcomes) else 1


def _lab_stage(options: CheckOptions, notes: Notes) -> LabStage:
    lab, lab_stage = import_lab("meshdemo check")
    reading = lab.read_options(options.manifests)
    manifests = lab.find_paths(options.manifests, notes.say) or [folder_of(None) / EXAMPLE]
    engine = lab.choose_engine(istiod=options.istiod)
    lab_options = lab_stage.LabOptions(0, access_log=True, reading=reading)
    stage: LabStage = lab_stage.LabStage(engine, lab_options, notes.say, manifests)
    return stage


def _check_combination(options: CheckOptions) -> None:
    """Raise UsageError for options that a cluster has no use for."""
    of_lab = {
        **{"-f": options.manifests.filenames, "-R": options.manifests.recursive, "-n": options.manifests.namespace},
        **{"--stand-in": options.manifests.stand_ins, "--replicas": options.manifests.replicas},
        **{"--skip-invalid": options.manifests.skip_invalid, "--istiod": options.istiod, "--write": options.write},
    }
    for name in (name for name, value in of_lab.items() if value):
        raise click.UsageError(
            f"--cluster cannot be combined with {name}, which is for the lab: on a cluster policies are tested on what "
            "runs in kubectl's current namespace."
        )


def write_commands(stage: LabStage, files: Sequence[Path], notes: Notes) -> bool:
    """Print calls for the rules of each file, with what is seen of them now as what they expect.

    Return whether all files could be applied: the reason why one could not is printed in its place.
    """
    from meshdemo.lessons.proposing import proposals  # which needs the lab's packages

    def make(command: Sequence[str]) -> dict[str, Any]:
        return promises.explain(stage, Command((tuple(command),)))

    is_complete = True
    for path in files:
        lesson = read_file(path)
        click.echo(f"# {path}")
        try:
            if reason := stage.why_not(lesson):
                raise StartError(reason)
            with notes.held() as lines:
                stage.show(lesson)
                lines.clear()
        except UnusableStageError:
            raise
        except StartError as error:
            is_complete = False
            click.echo(f"# it is not applied: {error}")
            continue
        applied = stage.files.manifests
        own = [each for each in applied if each.path == path]
        for line in proposals.propose(own, applied, stage.files.cluster, make):
            click.echo(line)
    return is_complete


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
                known = [each.problem for each in outcome.checks if each.problem]
                lines[:] = [line for line in lines if outcome.has_failed and not any(map(line.endswith, known))]
        outcomes.append(dataclasses.replace(outcome, seconds=time.monotonic() - begun))
        print_outcome(outcomes[-1])
    for path in no_tests:
        click.echo(f"{path} is no test: the comment that it begins with has no command.")
    print_summary(outcomes, time.monotonic() - started)
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
            if reason := stage.why_not_judged(each):
                yield Check(command, line, not_judged=reason)
                continue
            result = promises.run(stage, each) if stage.explains or each.is_watch else one_call.run(stage, each)
            if not result.verdicts and not result.not_judged:
                raise StartError("it expects nothing: add --expect.")
            for verdict in result.verdicts:
                yield Check(command, line, verdict)
            for subject in result.not_judged:
                yield Check(command, line, not_judged="only a lab explains a call", subject=subject)
    except UnusableStageError:
        raise
    except StartError as error:
        yield Check(command, line, problem=str(error).removeprefix(f"{command}: "))
