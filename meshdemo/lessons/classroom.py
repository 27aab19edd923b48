"""Lessons for a person at a terminal: what each says, its commands as they run, and keys to go on."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence

import click

from meshdemo.console import signals, terminal
from meshdemo.errors import StartError
from meshdemo.escaping import printable
from meshdemo.lessons import promises, running
from meshdemo.lessons.keys import Keys
from meshdemo.lessons.notes import Notes
from meshdemo.lessons.reading import Command, Lesson
from meshdemo.lessons.stage import Stage

_KEYS = "n next   p previous   r run again   e edit   q quit"
_GOING = frozenset("npreq")
_STEP_SECONDS = 0.05
# A word of a shell, with its quotes.
_WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")


def list_lessons(lessons: Sequence[Lesson], reasons: dict[Lesson, str | None]) -> None:
    """Print all lessons: number, title, name, and what each needs that the quick engine does not have."""
    width = max(terminal.width_of(lesson.title) for lesson in lessons)
    for lesson in lessons:
        needs = "--istiod" if reasons.get(lesson) else ""
        click.echo(f"{lesson.number:>3}  {terminal.pad(lesson.title, width)}  {lesson.name:<26}{needs}".rstrip())
    click.echo("\nmeshdemo lesson NUMBER or NAME runs one of them; --all --check runs them all.")


class Classroom:
    """Lessons on a stage, one at a time."""

    def __init__(self, stage: Stage, lessons: Sequence[Lesson], notes: Notes) -> None:
        self._stage = stage
        self._lessons = lessons
        self._notes = notes

    def teach(self, first: Lesson) -> None:
        """Run a lesson, and go on with what the person wants, until `q`."""
        index = self._lessons.index(first)
        key = ""
        with Keys() as keys:
            while key != "q":
                if key in ("n", "p"):
                    index = (index + (1 if key == "n" else -1)) % len(self._lessons)
                if key == "e":
                    with keys.paused():
                        self._edit(self._lessons[index])
                key = self._present(self._lessons[index], keys) or self._wait_for_key(keys)

    def _wait_for_key(self, keys: Keys) -> str:
        click.echo(f"\n{_KEYS}")
        while True:
            self._stage.step()
            key = keys.read(_STEP_SECONDS)
            if key in _GOING:
                return key

    def _present(self, lesson: Lesson, keys: Keys) -> str:
        """Show a lesson: what to expect, its commands as they run, what came of them, and why.

        Return the key with which the person ended it.
        """
        where = self._stage.where
        click.echo(click.style(f"\n{lesson.number}. {lesson.title}", bold=True) + f"  ({lesson.path}, {where})\n")
        try:
            comment = fit(lesson.comment(), terminal.size_of(sys.stdout)[0])
            why = next((index for index, line in enumerate(comment) if line.startswith("Why")), len(comment))
            click.echo("\n".join(comment[:why]))
            reason = self._stage.why_not(lesson)
            if reason:
                click.echo(f"\n{reason}")
                return ""
            click.echo()
            self._stage.show(lesson)
            for command in lesson.commands():
                if key := self._run(command, keys):
                    return key
            click.echo("\n".join(["", *comment[why:]]))
        except StartError as error:
            _echo_error(error)
        return ""

    def _run(self, command: Command, keys: Keys) -> str:
        """Run a command while the stage is looked after; return the key with which the person has ended it."""
        pressed = ""

        def look_at_keys(seconds: float) -> bool:
            nonlocal pressed
            key = keys.read(seconds)
            pressed = key if key in _GOING else ""
            return bool(pressed)

        if command.is_watch:
            words = self._stage.translate(command.pipeline[-1]) or []
            _echo_command(shlex.join(words))
            with self._notes.held():
                running.wait_for(self._stage, running.start(words), look_at_keys)
            return pressed
        _echo_command(" | ".join(map(shlex.join, command.pipeline)))
        output, verdict = promises.run_plain(self._stage, command, look_at_keys)
        click.echo("(done)" if output is None else output.rstrip("\n"))
        if verdict:
            click.echo(promises.format_verdict(verdict))
        return pressed

    def _edit(self, lesson: Lesson) -> None:
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        with self._notes.held(), signals.unheeded(signal.SIGINT):  # Ctrl+C is the editor's
            self._run_editor(editor, lesson)

    def _run_editor(self, editor: str, lesson: Lesson) -> None:
        try:
            process = subprocess.Popen([*shlex.split(editor), str(lesson.path)])
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            _echo_error(StartError(f"the editor {editor!r} cannot be started: {reason}. Set EDITOR."))
            return
        running.wait_for(self._stage, process, running.pause)


def fit(comment: Sequence[str], width: int) -> list[str]:
    """Return a comment as lines of at most `width` columns: paragraphs flow, and commands can be copied as they are."""
    lines: list[str] = []
    for is_text, group in itertools.groupby(comment, lambda line: line[:1].strip() != ""):
        for text in [" ".join(group)] if is_text else group:
            words = printable(text.strip())
            if is_text or not words:
                lines += terminal.wrap(words, width, "")
            else:
                lines += [f"  {line}" for line in fit_command(words, width - 2)]
    return lines


def fit_command(command: str, width: int) -> list[str]:
    """Return a command as lines of at most `width` columns, broken between its words, so that it can be copied."""
    lines = [""]
    for word in _WORD.findall(command):
        line = f"{lines[-1]} {word}".strip()
        if lines[-1] and terminal.width_of(line) > width - (4 if lines[1:] else 2):
            lines.append(word)
        else:
            lines[-1] = line
    return " \\\n  ".join(lines).split("\n")


def _echo_command(command: str) -> None:
    click.echo("\n" + "\n".join(fit_command(f"$ {command}", terminal.size_of(sys.stdout)[0])))


def _echo_error(error: StartError) -> None:
    click.echo(click.style(f"\nError: {error}", fg="red"), err=True)
