"""What became of policies that were checked: each expectation with its place, as lines, and as JUnit XML."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import click

from meshdemo.console import terminal
from meshdemo.errors import StartError
from meshdemo.escaping import printable
from meshdemo.lessons.running.promises import Verdict, format_seen, format_verdict


@dataclass(frozen=True)
class Check:
    """What became of one expectation: its `verdict`; or the `problem`; or why nobody can tell here, `not_judged`.

    `command` is as one types it, `line` where it stands in the file, from 1, and `subject` what it is about.
    """

    command: str
    line: int
    verdict: Verdict | None = None
    problem: str = ""
    not_judged: str = ""
    subject: str = ""

    @property
    def is_met(self) -> bool:
        """Return whether it is as expected."""
        return self.verdict is not None and self.verdict.met

    @property
    def has_failed(self) -> bool:
        """Return whether it is not as expected, or whether it did not come to that."""
        return not self.is_met and not self.not_judged

    @property
    def reason(self) -> str:
        """Return what was seen instead, or why nothing was."""
        if self.verdict is None:
            return self.problem or f"{self.subject}{': ' if self.subject else ''}not judged: {self.not_judged}"
        return f"{self.verdict.subject}: {format_seen(self.verdict)}, expected {self.verdict.range}"


@dataclass
class FileOutcome:
    """What became of the expectations of a file, in how many seconds."""

    path: Path
    checks: list[Check] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def has_failed(self) -> bool:
        """Return whether anything is not as expected; a file that expects nothing has failed as well."""
        return not self.checks or any(each.has_failed for each in self.checks)


def is_passed(outcomes: Sequence[FileOutcome]) -> bool:
    """Return whether all is as expected of what was judged, and that is something."""
    is_any_met = any(each.is_met for outcome in outcomes for each in outcome.checks)
    return is_any_met and not any(each.has_failed for each in outcomes)


def print_outcome(outcome: FileOutcome) -> None:
    """Print a line for each expectation, and the command above those that are not met."""
    marks = terminal.marks_for(sys.stdout)
    click.echo(outcome.path)
    shown = ""
    for each in outcome.checks:
        if each.verdict and each.is_met:
            click.echo(format_verdict(each.verdict))
            continue
        if each.command != shown:
            shown = each.command
            click.echo(f"   {printable(shown)}")
        place = f"{outcome.path}:{each.line}: {printable(each.reason)}"
        if each.has_failed:
            click.echo(click.style(f"   {marks.unmet} {place}", fg="red", bold=True))
        else:
            click.echo(f"   - {place}")


def print_summary(outcomes: Sequence[FileOutcome], seconds: float) -> None:
    """Print how many expectations of how many files were met."""
    checks = [each for outcome in outcomes for each in outcome.checks]
    counts = {
        "passed": sum(each.is_met for each in checks),
        "failed": sum(each.has_failed for each in checks),
        "not judged": sum(bool(each.not_judged) for each in checks),
    }
    shown = ", ".join(f"{count} {word}" for word, count in counts.items() if count or word == "passed")
    files = f"{len(outcomes)} file{'' if len(outcomes) == 1 else 's'}"
    color = "green" if is_passed(outcomes) else "red"
    click.echo(click.style(f"\n{shown} in {seconds:.1f} s ({files})", fg=color, bold=True))


def _title(check: Check) -> str:
    """Return what an expectation is of, and the call without what else is expected of that."""
    expected = f"{check.verdict.subject}={check.verdict.range}" if check.verdict else check.subject
    call = re.sub(r" --expect[ =]('[^']*'|\S)+", "", check.command) if expected else check.command
    return ": ".join(filter(None, (expected, call))) or "is applied"


def write_junit(outcomes: Sequence[FileOutcome], target: Path) -> None:
    """Write outcomes as JUnit XML, a suite for each file; raise StartError where that cannot be written.

    It has what the schema of Jenkins allows (xunit-plugin, junit-10.xsd), which knows no line of a case.
    """
    root = ElementTree.Element("testsuites")
    for outcome in outcomes:
        name = printable(str(outcome.path))
        place = {"name": name, "file": name, "time": f"{outcome.seconds:.3f}"}
        suite = ElementTree.SubElement(root, "testsuite", place)
        for each in outcome.checks:
            case = ElementTree.SubElement(suite, "testcase", {"name": printable(_title(each)), "classname": name})
            if not each.is_met:
                kind = "skipped" if each.not_judged else "failure" if each.verdict else "error"
                message = printable(f"{outcome.path}:{each.line}: {each.reason}")
                ElementTree.SubElement(case, kind, {"message": message}).text = message
        suite.set("tests", str(len(outcome.checks)))
        for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            suite.set(attribute, str(len(suite.findall(f"testcase/{kind}"))))
    ElementTree.indent(root)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(root).write(target, "utf-8", xml_declaration=True)
    except OSError as error:
        raise StartError(f"{target} cannot be written: {(error.strerror or str(error)).lower()}.") from None
