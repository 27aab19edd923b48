"""Lessons for a person at a terminal: what each says, its commands as they run, and keys to go on."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from meshdemo.console import signals, terminal
from meshdemo.errors import StartError
from meshdemo.escaping import printable
from meshdemo.lessons import promises, running
from meshdemo.lessons.keys import Keys
from meshdemo.lessons.notes import Notes
from meshdemo.lessons.reading import Command, Lesson
from meshdemo.lessons.stage import Stage

_KEYS = "n next   p previous   r run again   e edit   u take the edit back   q quit"
_GOING = frozenset("npreuq")
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
    """Lessons on a stage, one at a time.

    `edits` is the folder for copies that are edited; None where the lessons' own files may be.
    """

    def __init__(self, stage: Stage, lessons: Sequence[Lesson], notes: Notes, edits: Path | None = None) -> None:
        self._stage = stage
        self._lessons = list(lessons)
        self._notes = notes
        self._edits = edits

    def teach(self, first: Lesson) -> None:
        """Run a lesson, and go on with what the person wants, until `q`."""
        index = self._lessons.index(first)
        key = "r"
        with Keys() as keys:
            while key != "q":
                if key in ("n", "p"):
                    index = (index + (1 if key == "n" else -1)) % len(self._lessons)
                if key == "e":
                    with keys.paused():
                        is_edited = self._edit(index)
                elif key == "u":
                    is_edited = self._take_back(index)
                if key in ("e", "u") and not is_edited:
                    key = self._wait_for_key(keys)
                else:
                    key = self._present(self._lessons[index], keys) or self._wait_for_key(keys)
        for lesson in self._lessons:
            if lesson.edited:
                click.echo(f"your edit of {lesson.name}: {lesson.edited}")

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

    def _edit(self, index: int) -> bool:
        """Let the person edit a lesson, or a copy of it; return whether that was possible."""
        try:
            lesson = self._editable(self._lessons[index])
            self._run_editor(lesson.path)
        except StartError as error:
            _echo_error(error)
            return False
        self._lessons[index] = lesson
        return True

    def _editable(self, lesson: Lesson) -> Lesson:
        """Return the lesson with a file that may be edited; raise StartError where there can be none."""
        if self._edits is None or lesson.edited:
            return lesson
        copy = self._edits / lesson.file
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            is_new = not copy.exists()
            if is_new:
                shutil.copyfile(lesson.path, copy)
        except OSError as error:
            raise StartError(f"{copy} cannot be written: {error.strerror}.") from None
        which = "a copy" if is_new else "your copy from before"
        click.echo(f"\nYou edit {which}, {copy}; the lesson's own file stays as it is.")
        return dataclasses.replace(lesson, edited=copy)

    def _run_editor(self, path: Path) -> None:
        """Return when the editor has ended; raise StartError where there is none."""
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        with self._notes.held(), signals.unheeded(signal.SIGINT):  # Ctrl+C is the editor's
            try:
                process = subprocess.Popen([*shlex.split(editor), str(path)])
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise StartError(f"the editor {editor!r} cannot be started: {reason}. Set EDITOR.") from None
            running.wait_for(self._stage, process, running.pause)

    def _take_back(self, index: int) -> bool:
        """Go back to the lesson as it came, and remove its copy; return whether it had been edited."""
        lesson = self._lessons[index]
        if not lesson.edited or self._edits is None:
            click.echo("\nThere is no edit to take back.")
            return False
        lesson.edited.unlink(missing_ok=True)
        for folder in lesson.edited.parents:
            if folder.is_relative_to(self._edits):
                with contextlib.suppress(OSError):  # other copies are in it
                    folder.rmdir()
        self._lessons[index] = dataclasses.replace(lesson, edited=None)
        return True


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
