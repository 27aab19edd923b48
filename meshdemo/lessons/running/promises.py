"""Says whether what lessons promise holds.

Where a lesson is applied is a stage (stage.py).
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import click

from meshdemo.console import terminal
from meshdemo.errors import StartError
from meshdemo.escaping import printable
from meshdemo.explaining.text import format_short
from meshdemo.lessons.files.comment import Command
from meshdemo.lessons.files.permission import is_usual
from meshdemo.lessons.files.reading import Lesson
from meshdemo.lessons.running import running
from meshdemo.lessons.running.notes import Notes
from meshdemo.lessons.stages.stage import Stage

_STEP_SECONDS = 0.05
# What a page of 80 columns has room for.
_EXPLANATION_WIDTH = 76
# How long what a command prints may take to be as promised: a copy of a call is logged after its answer.
_OUTPUT_SECONDS = 5.0
_AGAIN_SECONDS = 0.5


@dataclass(frozen=True)
class Verdict:
    """What became of one promise: what was promised of `subject`, and what was seen, None where nothing was."""

    subject: str
    range: str
    seen: float | str | None
    unit: str
    met: bool


@dataclass
class Outcome:
    """What became of a lesson: its promises, and what went wrong otherwise."""

    lesson: Lesson
    verdicts: list[Verdict] = field(default_factory=list)
    problem: str = ""
    skipped: str = ""

    @property
    def is_met(self) -> bool:
        """Return whether everything was as promised; a lesson that promises nothing is none."""
        return not self.problem and bool(self.verdicts) and all(verdict.met for verdict in self.verdicts)


def check(stage: Stage, lessons: Sequence[Lesson], notes: Notes) -> bool:
    """Run lessons one after the other, print what became of each, and return whether all promises were kept."""
    outcomes = []
    for lesson in lessons:
        click.echo(_title(lesson))
        with notes.held() as lines:
            outcome = check_one(stage, lesson)
            if outcome.is_met or outcome.skipped:
                lines.clear()
        outcomes.append(outcome)
        _print_outcome(outcome)
    if len(outcomes) > 1:
        _print_summary(outcomes)
    return all(outcome.is_met or outcome.skipped for outcome in outcomes) and not all(each.skipped for each in outcomes)


def check_one(stage: Stage, lesson: Lesson) -> Outcome:
    """Run a lesson, and return what became of it."""
    outcome = Outcome(lesson)
    try:
        outcome.skipped = stage.why_not(lesson) or ""
        if outcome.skipped:
            return outcome
        stage.show(lesson)
        for command in lesson.commands():
            if not is_usual(command):
                raise StartError(
                    f"it runs {format_pipeline(command.pipeline)}: run it at a terminal, where it asks first."
                )
            outcome.verdicts += run(stage, command).verdicts
    except StartError as error:
        outcome.problem = str(error)
    return outcome


@dataclass(frozen=True)
class Result:
    """What came of a command: of a watch its report, as `--json` writes it; of any other what it printed.

    `not_judged` are expectations that nobody can judge there. With `was_ended` a person has cut it short, so that what
    was seen so far is no verdict.
    """

    command: Command
    verdicts: list[Verdict] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    output: str | None = None
    not_judged: tuple[str, ...] = ()
    was_ended: bool = False


class _Looking:
    """Looks as it is told to, and remembers whether what runs was to be ended."""

    def __init__(self, look: running.Look) -> None:
        self._look = look
        self.has_ended = False

    def __call__(self, seconds: float) -> bool:
        self.has_ended = self._look(seconds) or self.has_ended
        return self.has_ended


def run(stage: Stage, command: Command, look: running.Look = running.pause, heading: Sequence[str] = ()) -> Result:
    """Run a command, and return what came of it; raise StartError when it did not come to that.

    With a `heading` a watch is drawn below that on the terminal. When `look` says so the command is ended.
    """
    looking = _Looking(look)
    try:
        if command.is_watch:
            return _watch(stage, command, looking, heading)
        if command.is_call and any(word.startswith("--expect") for word in command.pipeline[-1]):
            return _call(stage, command, looking)
    except StartError:
        if looking.has_ended:  # before it could say anything
            return Result(command, was_ended=True)
        raise
    output, verdict = run_plain(stage, command, looking)
    return Result(command, [verdict] if verdict else [], output=output, was_ended=looking.has_ended)


def _call(stage: Stage, command: Command, look: running.Look) -> Result:
    """Make one call, and return what became of its expectations, and why; on a cluster nobody can tell."""
    if stage.translate(command.pipeline[-1]) is None:
        return Result(command)
    report = explain(stage, command, look)
    verdicts = [call_verdict(each["expectation"], each["seen"], met=each["met"]) for each in report["expectations"]]
    return Result(command, verdicts, output="\n".join(format_short(report, _EXPLANATION_WIDTH, terminal.Marks())))


def call_verdict(expectation: str, seen: Sequence[str], *, met: bool) -> Verdict:
    """Return what became of an expectation of one call, such as `status=403`."""
    subject, _, value = expectation.partition("=")
    return Verdict(subject, value, ", ".join(seen) or None, "", met)


def explain(stage: Stage, command: Command, look: running.Look = running.pause) -> dict[str, Any]:
    """Make one call, and return its explanation as `--json` has it; raise StartError where there is none."""
    words = stage.translate(command.pipeline[-1])
    if words is None:
        raise StartError("there is nothing to call here.")
    output, errors = running.finish(stage, [*words, "--json"], look)
    return _parse_report(command.pipeline[-1], output, errors)


def _watch(stage: Stage, command: Command, look: running.Look, heading: Sequence[str]) -> Result:
    words = stage.translate(command.pipeline[-1])
    if words is None:
        return Result(command)
    options = [part for line in heading for part in ("--heading", line)]
    output, errors = running.finish(stage, [*words, "--json", *options], look, shows_errors=bool(heading))
    report = _parse_report(command.pipeline[-1], output, errors)
    if report.get("problem"):
        raise StartError(report["problem"])
    names = [each.name for each in fields(Verdict)]
    verdicts = [Verdict(**{name: expectation[name] for name in names}) for expectation in report["expectations"]]
    return Result(command, verdicts, report, was_ended=report["interrupted"])


def _parse_report(words: Sequence[str], output: str, errors: str) -> dict[str, Any]:
    """Return what a program has written as JSON; raise StartError with what it says where that is none."""
    try:
        report: dict[str, Any] = json.loads(output)
    except ValueError:
        reason = errors.strip().splitlines()
        raise StartError(
            f"{shlex.join(words)}: {reason[-1].removeprefix('Error: ') if reason else 'it says nothing'}"
        ) from None
    return report


def format_pipeline(pipeline: Sequence[Sequence[str]]) -> str:
    """Return a pipeline as one types it."""
    return " | ".join(map(shlex.join, pipeline))


def run_plain(stage: Stage, command: Command, look: running.Look = running.pause) -> tuple[str | None, Verdict | None]:
    """Run a command that is no watch; return what it prints, and whether that is as promised.

    The first is None where the stage has seen to it, the second where the lesson promises no output, or where `look`
    has ended it.
    """
    deadline = time.monotonic() + _OUTPUT_SECONDS
    is_ended = False

    def look_once(seconds: float) -> bool:
        nonlocal is_ended
        is_ended = look(seconds)
        return is_ended

    while True:
        output = running.output_of(stage, command.pipeline, look_once)
        if output is None or command.output is None or is_ended:
            return output, None
        met = output.strip() == command.output
        if met or time.monotonic() > deadline:
            seen = printable(output.strip())
            return output, Verdict(shlex.join(command.pipeline[-1]), command.output, seen, "", met)
        until = time.monotonic() + _AGAIN_SECONDS
        while time.monotonic() < until:
            stage.step()
            if look_once(_STEP_SECONDS):
                return output, None


def format_verdict(verdict: Verdict, *, is_judged: bool = True) -> str:
    """Return a line on one promise, with its mark, which is neutral where it is not judged."""
    marks = terminal.marks_for(sys.stdout)
    mark = click.style(marks.met, fg="green") if verdict.met else click.style(marks.unmet, fg="red", bold=True)
    if not is_judged:
        mark = "-"
    return f"   {mark} {verdict.subject}: {format_seen(verdict)}, expected {verdict.range}"


def format_seen(verdict: Verdict) -> str:
    """Return what was seen, with its unit."""
    if verdict.seen is None:
        return "nothing"
    if isinstance(verdict.seen, str):
        return verdict.seen
    return f"{verdict.seen * 100:g} %" if verdict.unit == "share" else f"{verdict.seen:g} {verdict.unit}"


def _print_outcome(outcome: Outcome) -> None:
    for verdict in outcome.verdicts:
        click.echo(format_verdict(verdict))
    if outcome.skipped:
        click.echo(f"   - {outcome.skipped}")
    elif outcome.problem or not outcome.verdicts:
        problem = outcome.problem or "its comment has no command with --expect"
        click.echo(click.style(f"   {terminal.marks_for(sys.stdout).unmet} {problem}", fg="red", bold=True))


def _print_summary(outcomes: Sequence[Outcome]) -> None:
    met = sum(outcome.is_met for outcome in outcomes)
    skipped = sum(bool(outcome.skipped) for outcome in outcomes)
    failed = [outcome.lesson for outcome in outcomes if not outcome.is_met and not outcome.skipped]
    click.echo(f"\nas promised: {met}, not: {len(failed)}, cannot be shown here: {skipped}")
    for lesson in failed:
        click.echo(click.style(f"  not as promised: {_title(lesson)}", fg="red"))


def _title(lesson: Lesson) -> str:
    return f"{lesson.number}. {lesson.title} ({lesson.edited or lesson.file})"
