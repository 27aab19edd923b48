"""What a person at a terminal sees of a lesson, and presses: pages with a line of keys, a guess, hints."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

import click

from meshdemo.console import terminal
from meshdemo.console.screen import Screen
from meshdemo.errors import StartError
from meshdemo.escaping import printable
from meshdemo.lessons.classroom import pages
from meshdemo.lessons.classroom.keys import Keys
from meshdemo.lessons.classroom.pages import Page
from meshdemo.lessons.files.comment import Words
from meshdemo.lessons.files.reading import Lesson
from meshdemo.lessons.running import promises, running
from meshdemo.lessons.stages.stage import Stage

#: What leads away from a step, at any moment, and what goes on.
GOING = frozenset("npreuq")
ENTER = ("\n", "\r", " ")
#: What `read` returns where a person goes on to the next part, or back to the one before.
FORTH, BACK = "+", "-"
_BACK = "b"
_ERASE = ("\x7f", "\b")
_STEP_SECONDS = 0.05
_CLOCK = re.compile(r"^\d\d:\d\d:\d\d ")
# Header and link above, what the stage says and the keys below.
_FRAME_ROWS = 4


@dataclass(frozen=True)
class Part:
    """A part of a lesson: its pages, of so many columns and rows, and whether digits are a guess there."""

    pages: Callable[[int, int], list[Page]]
    takes_guess: bool = False


@dataclass
class Visit:
    """A lesson while a person is there; `hints` is how many were given, `changes` what the last edit has changed.

    With `is_stale` the page has edited it since its calls were made.
    """

    lesson: Lesson
    words: Words = field(default_factory=Words)
    guess: str = ""
    results: list[promises.Result] = field(default_factory=list)
    problem: str = ""
    changes: list[str] = field(default_factory=list)
    hints: int = 0
    is_stale: bool = False


class Reader:
    """A person's window and keys, while this is entered; `lesson_count` is to how many lessons a number leads."""

    def __init__(self, stage: Stage, lesson_count: int) -> None:
        self._stage = stage
        self._lesson_count = lesson_count
        #: What the stage has said so far; the last of it is shown.
        self.said: list[str] = []
        self.marks = terminal.marks_for(sys.stdout)
        context = click.get_current_context(silent=True)
        self._screen = Screen(sys.stdout, context.color if context else None)
        self._keys = Keys(self._screen.close, self._screen.open)

    def __enter__(self) -> Self:
        self._screen.open()
        self._keys.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._keys.__exit__(None, None, None)
        self._screen.close()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let another program have window and keys."""
        self._screen.close()
        try:
            with self._keys.paused():
                yield
        finally:
            self._screen.open()

    def pressed(self, seconds: float) -> str:
        """Return the key that is pressed within `seconds`, here or on the page, else nothing."""
        return self._keys.read(seconds) or self._stage.pressed()

    def room(self) -> tuple[int, int]:
        """Return how many columns and rows a page may have; the last column stays empty, where some terminals wrap."""
        columns, rows = terminal.size_of(sys.stdout)
        return max(20, columns - 1), max(4, rows - _FRAME_ROWS)

    def show(self, visit: Visit, page: Page, keys: str) -> None:
        """Show one page."""
        self.show_pages(visit, lambda *_: [page], keys, 0)

    def show_pages(self, visit: Visit, shown: Callable[[int, int], list[Page]], keys: str, index: int) -> None:
        """Show a page with the lesson above, and the last word of the stage and the keys below."""

        def draw(columns: int, rows: int) -> tuple[list[str], str]:
            room = max(4, rows - _FRAME_ROWS)
            found = shown(max(20, columns - 1), room)
            page = found[min(index, len(found) - 1)][:room] if found else []
            said = self.said[-1].replace(f"{visit.lesson.path}: ", "") if self.said else ""
            if terminal.width_of(said) > columns - 1:
                said = _CLOCK.sub("", said)  # room for the words
            note = terminal.cut(printable(said), columns - 1, self.marks.ellipsis)
            link = click.style(terminal.cut(self._stage.page or "", columns - 1), dim=True)
            lines = [
                pages.header(visit.lesson, self._stage.where, columns - 1),
                link,
                *page,
                *[""] * (room - len(page)),
            ]
            bottom = click.style(terminal.cut(keys, columns - 1), reverse=True)
            return [*lines, click.style(note, dim=True)], bottom

        self._screen.show(draw)

    def read(self, visit: Visit, part: Part, forward: str) -> str:
        """Show a part of a lesson, page by page, and return what leads away: FORTH, BACK, a number or a key."""
        index, typed = 0, ""
        while True:
            count = len(part.pages(*self.room()))
            index = min(index, count - 1)
            keys = f"lesson {typed}_  Enter go there" if typed else self.keys_line(visit, forward)
            self.show_pages(visit, part.pages, keys, index)
            key = self._wait_or_notice(visit)
            if key in _ERASE and part.takes_guess:
                visit.guess = visit.guess[:-1]
            elif key in _ERASE:
                typed = typed[:-1]
            elif key.isdigit() and part.takes_guess:
                visit.guess = (visit.guess + key)[:6]
            elif key.isdigit():
                typed = (typed + key)[:2]
            elif key in ENTER and typed:
                if 1 <= int(typed) <= self._lesson_count:
                    return typed
                typed = ""
            elif key in ENTER:
                index += 1
                if index >= count:
                    return FORTH
            elif key == _BACK:
                index -= 1
                if index < 0:
                    return BACK
            elif key == "h" and visit.lesson.hints:
                self.hint(visit)
            elif key in GOING:
                return key

    def keys_line(self, visit: Visit, forward: str) -> str:
        """Return the line of keys, with what Enter does."""
        undo = "  u undo" if visit.lesson.edited else ""
        hint = "  h hint" if visit.lesson.hints else ""
        return f"Enter {forward}  b back  n next  p previous  r run  e edit{undo}{hint}  q quit"

    def wait(self) -> str:
        """Return the next key, while the stage is looked after."""
        while True:
            self._stage.step()
            self._screen.look_after()
            if key := self.pressed(_STEP_SECONDS):
                return key

    def _wait_or_notice(self, visit: Visit) -> str:
        """Return the next key, or nothing as soon as there is news to draw: of the stage, or an edit of the page."""
        said = self.said[-1:]
        while True:
            self._stage.step()
            self._screen.look_after()
            lesson = self._stage.edited(visit.lesson)
            if lesson is not visit.lesson:
                visit.lesson, visit.is_stale = lesson, True
                return ""
            if (key := self.pressed(_STEP_SECONDS)) or self.said[-1:] != said:
                return key

    def hint(self, visit: Visit) -> None:
        """Show the hints given so far and one more, until a key; the last is what the lab says about one call.

        With a file that it refuses no call is made: what it says of that stands on the page.
        """
        hints = [hint for hint in visit.lesson.hints if not (visit.problem and hint.startswith("`"))]
        visit.hints = min(visit.hints + 1, len(hints))
        given = [hint for hint in hints[: visit.hints] if not hint.startswith("`")]
        said = self._explain(hints[visit.hints - 1].strip("`")) if len(given) < visit.hints else []
        for page in pages.hint_pages(given, said, *self.room()):
            more = "h next hint  " if visit.hints < len(hints) else ""
            self.show(visit, page, f"{more}any other key goes on")
            if self.wait() == "h" and visit.hints < len(hints):
                return self.hint(visit)
        return None

    def _explain(self, command: str) -> list[str]:
        """Return what a command prints."""
        words = self._stage.translate(shlex.split(command))
        command = shlex.join(self._stage.typed(shlex.split(command)))
        try:
            output, errors = running.finish(self._stage, words) if words else ("", "")
        except StartError as error:
            return [f"$ {command}", str(error)]
        return [f"$ {command}", *(output or errors).splitlines()]

    def wait_for(self, keys: str) -> str:
        """Return the first of some keys that is pressed."""
        while (key := self.wait()) not in keys:
            pass
        return key
