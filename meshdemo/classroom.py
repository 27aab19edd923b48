"""Applies lessons one after the other, runs their commands, and says whether what they promise holds.

Where a lesson is applied is a stage: the lab (meshdemo.lab.stage) or a cluster (meshdemo.kubectl).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import click

from meshdemo import terminal
from meshdemo.keys import Keys
from meshdemo.lessons import Lesson
from meshdemo.server import StartError

_KEYS = "n next   p previous   r run again   e edit   q quit"
_STEP_SECONDS = 0.05


class Stage(Protocol):
    """Where lessons are applied."""

    #: What is said of it at the start of each lesson, such as "in the lab".
    where: str

    def show(self, lesson: Lesson) -> None:
        """Apply a lesson in place of the one before, and return when it is in force; raise StartError."""

    def translate(self, command: Sequence[str]) -> list[str] | None:
        """Return a command of a lesson as it is run here; None for one that is not needed here."""

    def step(self) -> None:
        """Look after everything; to be called many times a second."""

    def why_not(self, lesson: Lesson) -> str | None:
        """Return why a lesson cannot be shown here, None when it can."""


@dataclass
class Outcome:
    """What became of a lesson: its expectations, as `watch --json` has them, and what went wrong otherwise."""

    lesson: Lesson
    expectations: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""
    skipped: str = ""

    @property
    def is_met(self) -> bool:
        """Return whether everything was as promised; a lesson that promises nothing is none."""
        return not self.problem and bool(self.expectations) and all(each["met"] for each in self.expectations)


def list_lessons(lessons: Sequence[Lesson], reasons: dict[Lesson, str | None]) -> None:
    """Print all lessons: number, title, name, and what each needs that the quick engine does not have."""
    width = max(terminal.width_of(lesson.title) for lesson in lessons)
    for lesson in lessons:
        needs = "--istiod" if reasons.get(lesson) else ""
        click.echo(f"{lesson.number:>3}  {terminal.pad(lesson.title, width)}  {lesson.name:<26}{needs}".rstrip())
    click.echo("\nmeshdemo lesson NUMBER or NAME runs one of them; --all --check runs them all and says what holds.")


def check(stage: Stage, lessons: Sequence[Lesson]) -> bool:
    """Run lessons one after the other, print what became of each, and return whether all promises were kept."""
    outcomes = []
    for lesson in lessons:
        outcome = _check_one(stage, lesson)
        outcomes.append(outcome)
        _print_outcome(outcome)
    if len(outcomes) > 1:
        _print_summary(outcomes)
    return all(outcome.is_met or outcome.skipped for outcome in outcomes) and not all(each.skipped for each in outcomes)


def _check_one(stage: Stage, lesson: Lesson) -> Outcome:
    reason = stage.why_not(lesson)
    if reason:
        return Outcome(lesson, skipped=reason)
    outcome = Outcome(lesson)
    try:
        stage.show(lesson)
        for command in lesson.commands():
            run = stage.translate(command)
            if run is not None and _is_watch(run):
                outcome.expectations += _expectations(_run(stage, [*run, "--json"]))
            elif run is not None:
                _run(stage, run)
    except StartError as error:
        outcome.problem = str(error)
    return outcome


def _is_watch(command: Sequence[str]) -> bool:
    return list(command[:2]) == ["meshdemo", "watch"]


def _expectations(output: str) -> list[dict[str, Any]]:
    try:
        report = json.loads(output)
    except ValueError:
        raise StartError("a command did not say what it has seen.") from None
    if report.get("problem"):
        raise StartError(report["problem"])
    return list(report["expectations"])


def _program(command: Sequence[str]) -> list[str]:
    """Return a command with the program that it means: this one for meshdemo."""
    if command[0] == "meshdemo":
        return [sys.executable, "-m", "meshdemo", *command[1:]]
    if shutil.which(command[0]) is None:
        raise StartError(f"{command[0]} is not installed, which the lesson runs: {shlex.join(command)}")
    return list(command)


def _run(stage: Stage, command: Sequence[str], *, shown: bool = False) -> str:
    """Run a command while the stage is looked after, and return what it printed, unless that is `shown`."""
    output = None if shown else subprocess.PIPE
    process = subprocess.Popen(
        _program(command), stdin=subprocess.DEVNULL, stdout=output, stderr=None if shown else output
    )
    try:
        while True:
            try:
                printed, _ = process.communicate(timeout=_STEP_SECONDS)
                return (printed or b"").decode("utf-8", "replace")
            except subprocess.TimeoutExpired:
                stage.step()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _print_outcome(outcome: Outcome) -> None:
    lesson, marks = outcome.lesson, terminal.marks_for(sys.stdout)
    click.echo(f"{lesson.number}. {lesson.title} ({lesson.file})")
    for each in outcome.expectations:
        mark = click.style(marks.met, fg="green") if each["met"] else click.style(marks.unmet, fg="red", bold=True)
        seen = "nothing" if each["seen"] is None else f"{each['seen']:g}"
        click.echo(f"   {mark} {each['subject']}: {seen} {each['unit']}, expected {each['range']}")
    if outcome.skipped:
        click.echo(f"   - {outcome.skipped}")
    if outcome.problem or not (outcome.expectations or outcome.skipped):
        problem = outcome.problem or "its comment has no command with --expect"
        click.echo(click.style(f"   {marks.unmet} {problem}", fg="red", bold=True))


def _print_summary(outcomes: Sequence[Outcome]) -> None:
    met = sum(outcome.is_met for outcome in outcomes)
    skipped = sum(bool(outcome.skipped) for outcome in outcomes)
    failed = [outcome.lesson for outcome in outcomes if not outcome.is_met and not outcome.skipped]
    click.echo(f"\n{met} lessons as promised, {len(failed)} not, {skipped} not shown here")
    for lesson in failed:
        click.echo(click.style(f"  not as promised: {lesson.number}. {lesson.title} ({lesson.file})", fg="red"))


def teach(stage: Stage, lessons: Sequence[Lesson], first: Lesson) -> None:
    """Run a lesson on a terminal, and go on with what the person wants, until `q`."""
    index = lessons.index(first)
    _present(stage, lessons[index])
    with Keys() as keys:
        while True:
            stage.step()
            key = keys.read(_STEP_SECONDS)
            if key == "q":
                return
            if key in ("n", "p"):
                index = (index + (1 if key == "n" else -1)) % len(lessons)
            if key == "e":
                with keys.paused():
                    _edit(stage, lessons[index])
            if key in ("n", "p", "r", "e"):
                with keys.paused():
                    _present(stage, lessons[index])


def _present(stage: Stage, lesson: Lesson) -> None:
    """Show a lesson: its comment, its commands as they run, and what came of them."""
    click.echo(click.style(f"\n{lesson.number}. {lesson.title}", bold=True) + f"  ({lesson.path}, {stage.where})\n")
    try:
        for line in lesson.comment():
            click.echo(line)
        reason = stage.why_not(lesson)
        if reason:
            click.echo(f"\n{reason}")
        else:
            stage.show(lesson)
            for command in lesson.commands():
                run = stage.translate(command)
                click.echo(f"\n$ {shlex.join(run or command)}" + ("" if run else "   (not needed here)"))
                if run:
                    _run(stage, run, shown=True)
    except StartError as error:
        click.echo(click.style(f"\nError: {error}", fg="red"), err=True)
    click.echo(f"\n{_KEYS}")


def _edit(stage: Stage, lesson: Lesson) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        process = subprocess.Popen([*shlex.split(editor), str(lesson.path)])
    except (OSError, ValueError) as error:
        raise StartError(f"the editor {editor!r} cannot be started: {error}. Set EDITOR.") from None
    while process.poll() is None:
        stage.step()
        try:
            process.wait(_STEP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
