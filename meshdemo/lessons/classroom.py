"""Lessons for a person at a terminal, step by step: what the keys do, and what runs when."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from meshdemo.console import terminal
from meshdemo.console.screen import Screen
from meshdemo.errors import StartError
from meshdemo.escaping import printable
from meshdemo.lessons import editing, pages, policy, promises, running
from meshdemo.lessons.comment import Words
from meshdemo.lessons.keys import Keys
from meshdemo.lessons.notes import Notes
from meshdemo.lessons.pages import Page
from meshdemo.lessons.permission import is_usual
from meshdemo.lessons.reading import Lesson
from meshdemo.lessons.stage import Stage

_STEP_SECONDS = 0.05
# What leads away from a step, at any moment.
_GOING = frozenset("npreuq")
_ENTER, _BACK = ("\n", "\r", " "), "b"
_ERASE = ("\x7f", "\b")
# Header and an empty line above, what the stage says and the keys below.
_FRAME_ROWS = 4


@dataclass(frozen=True)
class Part:
    """A part of a lesson: its pages, of so many columns and rows, and whether digits are a guess there."""

    pages: Callable[[int, int], list[Page]]
    takes_guess: bool = False


@dataclass
class Visit:
    """A lesson while a person is there.

    `hints` is how many were given, `has_file_changed` whether what is in force may not be what the file says.
    """

    lesson: Lesson
    words: Words = field(default_factory=Words)
    guess: str = ""
    results: list[promises.Result] = field(default_factory=list)
    problem: str = ""
    changes: list[str] = field(default_factory=list)
    hints: int = 0


class Classroom:
    """Lessons on a stage, one at a time.

    `edits` is the folder for copies that are edited; None where the lessons' own files may be.
    """

    def __init__(self, stage: Stage, lessons: Sequence[Lesson], notes: Notes, edits: Path | None = None) -> None:
        self._stage = stage
        self._lessons = list(lessons)
        self._notes = notes
        self._edits = edits
        self._said: list[str] = []
        self._marks = terminal.marks_for(sys.stdout)
        context = click.get_current_context(silent=True)
        self._screen = Screen(sys.stdout, context.color if context else None)
        self._keys = Keys(self._screen.close, self._screen.open)

    def teach(self, first: Lesson) -> Lesson | None:
        """Show a lesson, and go on with what the person wants, until `q`.

        Return the lesson with which to go on on another stage, None at the end.
        """
        index = next(index for index, lesson in enumerate(self._lessons) if lesson.file == first.file)
        try:
            with self._notes.held() as self._said, self._screen, self._keys:
                try:
                    index = self._teach(index)
                finally:
                    self._said.clear()
        finally:
            self._say_edits()
        return self._lessons[index] if index >= 0 else None

    def _teach(self, index: int) -> int:
        """Return the index of the lesson for another stage, -1 at the end."""
        visit = Visit(self._lessons[index])
        going = self._visit(visit)
        while going != "q":
            self._look_at_edit(visit)
            self._lessons[index] = visit.lesson
            if going == "i":
                return index
            if going in ("e", "u"):
                going = self._edit(visit) if going == "e" else self._take_back(visit)
                self._lessons[index] = visit.lesson
                continue
            if going == "r":
                going = self._visit(visit, is_again=True)
                continue
            if going in ("n", "p"):
                index = (index + (1 if going == "n" else -1)) % len(self._lessons)
            else:
                index = int(going) - 1
            visit = Visit(self._lessons[index])
            going = self._visit(visit)
        return -1

    def _look_at_edit(self, visit: Visit) -> None:
        """Take note of an edit that was made elsewhere, on the page."""
        lesson = self._stage.edited(visit.lesson)
        if lesson is not visit.lesson:
            visit.lesson, visit.changes = lesson, editing.changes_of(lesson)

    def _say_edits(self) -> None:
        for lesson in map(self._stage.edited, self._lessons):
            if lesson.edited:
                changes = ", ".join(editing.changes_of(lesson)) or "nothing is changed"
                click.echo(f"your edit of {lesson.name}: {changes}; it is in {lesson.edited}")

    def _visit(self, visit: Visit, *, is_again: bool = False) -> str:
        """Apply a lesson and go through its steps, or again from its calls on; return what leads away from it."""
        self._said.clear()
        visit.problem = ""
        try:
            visit.words = visit.lesson.words()
            if reason := self._stage.why_not(visit.lesson):
                return self._refuse(visit, reason)
            first_page = ["It is being applied ..."] if is_again else self._policy(visit, *self._room())[0]
            self._show(visit, first_page, "one moment ...")
            self._stage.show(visit.lesson)
        except StartError as error:
            visit.problem = str(error)
            return self._offer_editor(visit)
        return self._go_through(visit, 0 if not is_again else None)

    def _go_through(self, visit: Visit, start: int | None) -> str:
        """Go through the steps before the calls, make the calls, and go through those after them."""
        before = [Part(lambda columns, rows: self._policy(visit, columns, rows))]
        if visit.words.question:
            before.append(Part(lambda columns, _: [self._question(visit, columns)], takes_guess=True))
        after = [
            Part(lambda columns, rows: self._results(visit, columns, rows)),
            Part(lambda columns, rows: pages.more_pages(visit.words, columns, rows)),
            Part(lambda columns, rows: pages.range_pages(visit.words, columns, rows)),
        ]
        position = len(before) if start is None else start
        while position < len(before):
            going = self._read(visit, before[position], "make the calls" if position + 1 == len(before) else "go on")
            if going not in ("+", "-"):
                return going
            position = max(0, position + (1 if going == "+" else -1))
        if going := self._run(visit):
            return going
        parts = [after[0], *(part for part in after[1:] if part.pages(*self._room()))]
        position = 0
        while position < len(parts):
            is_last = position + 1 == len(parts)
            going = self._read(visit, parts[position], "next" if is_last else "go on")
            if going == "-" and not position:
                return self._go_through(visit, len(before) - 1)
            if going not in ("+", "-"):
                return going
            position += 1 if going == "+" else -1
        return "n"

    def _policy(self, visit: Visit, columns: int, rows: int) -> list[Page]:
        changed: set[int] = set()
        if visit.lesson.edited:
            original = visit.lesson.folder / visit.lesson.file
            changed = policy.changed_lines(original.read_text("utf-8", "replace"), visit.lesson.text())
        return pages.policy_pages(visit.lesson, visit.words, columns, rows, self._marks, changed)

    def _question(self, visit: Visit, columns: int) -> Page:
        return pages.question_page(visit.words, visit.lesson.commands(), visit.guess, columns)

    def _results(self, visit: Visit, columns: int, rows: int) -> list[Page]:
        return pages.result_pages(visit.words, visit.results, visit.guess, visit.changes, columns, rows, self._marks)

    # --- what a person sees and presses

    def _room(self) -> tuple[int, int]:
        """Return how many columns and rows a page may have; the last column stays empty, where some terminals wrap."""
        columns, rows = terminal.size_of(sys.stdout)
        return max(20, columns - 1), max(4, rows - _FRAME_ROWS)

    def _show(self, visit: Visit, page: Page, keys: str) -> None:
        self._show_pages(visit, lambda *_: [page], keys, 0)

    def _show_pages(self, visit: Visit, shown: Callable[[int, int], list[Page]], keys: str, index: int) -> None:
        """Show a page with the lesson above, and the last word of the stage and the keys below."""

        def draw(columns: int, rows: int) -> tuple[list[str], str]:
            room = max(4, rows - _FRAME_ROWS)
            found = shown(max(20, columns - 1), room)
            page = found[min(index, len(found) - 1)][:room] if found else []
            said = self._said[-1].replace(f"{visit.lesson.path}: ", "") if self._said else ""
            note = terminal.cut(printable(said), columns - 1, self._marks.ellipsis)
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

    def _read(self, visit: Visit, part: Part, forward: str) -> str:
        """Show a part of a lesson, page by page, and return what leads away: `+` and `-` to other parts, or a key."""
        index, typed = 0, ""
        while True:
            count = len(part.pages(*self._room()))
            index = min(index, count - 1)
            keys = f"lesson {typed}_  Enter go there" if typed else self._keys_line(visit, forward)
            self._show_pages(visit, part.pages, keys, index)
            key = self._wait()
            if key in _ERASE and part.takes_guess:
                visit.guess = visit.guess[:-1]
            elif key in _ERASE:
                typed = typed[:-1]
            elif key.isdigit() and part.takes_guess:
                visit.guess = (visit.guess + key)[:6]
            elif key.isdigit():
                typed = (typed + key)[:2]
            elif key in _ENTER and typed:
                if 1 <= int(typed) <= len(self._lessons):
                    return typed
                typed = ""
            elif key in _ENTER:
                index += 1
                if index >= count:
                    return "+"
            elif key == _BACK:
                index -= 1
                if index < 0:
                    return "-"
            elif key == "h" and visit.lesson.hints:
                self._hint(visit)
            elif key in _GOING:
                return key

    def _keys_line(self, visit: Visit, forward: str) -> str:
        undo = "  u undo" if visit.lesson.edited else ""
        hint = "  h hint" if visit.lesson.hints else ""
        return f"Enter {forward}  b back  n next  p previous  r run  e edit{undo}{hint}  q quit"

    def _wait(self) -> str:
        """Return the next key, while the stage is looked after."""
        while True:
            self._stage.step()
            self._screen.look_after()
            if key := self._keys.read(_STEP_SECONDS) or self._stage.pressed():
                return key

    def _hint(self, visit: Visit) -> None:
        """Show the hints given so far and one more, until a key; the last is what the lab says about one call."""
        hints = visit.lesson.hints
        visit.hints = min(visit.hints + 1, len(hints))
        given = [hint for hint in hints[: visit.hints] if not hint.startswith("`")]
        said = self._explain(hints[visit.hints - 1].strip("`")) if len(given) < visit.hints else []
        for page in pages.hint_pages(given, said, *self._room()):
            more = "h next hint  " if visit.hints < len(hints) else ""
            self._show(visit, page, f"{more}any other key goes on")
            if self._wait() == "h" and visit.hints < len(hints):
                return self._hint(visit)
        return None

    def _explain(self, command: str) -> list[str]:
        """Return what a command prints."""
        words = self._stage.translate(shlex.split(command))
        try:
            output, errors = running.finish(self._stage, words) if words else ("", "")
        except StartError as error:
            return [f"$ {command}", str(error)]
        return [f"$ {command}", *(output or errors).splitlines()]

    def _refuse(self, visit: Visit, reason: str) -> str:
        """Say why a lesson cannot be shown here, and offer the engine that can."""
        texts = (visit.words.about, "", reason, "", "Press i to go on with Istio's own control plane (--istiod).")
        page = [line for text in texts for line in terminal.wrap(printable(text), self._room()[0], "")]
        self._show(visit, page, "i go on with --istiod  n next  p previous  q quit")
        return self._wait_for("npqi")

    def _wait_for(self, keys: str) -> str:
        while (key := self._wait()) not in keys:
            pass
        return key

    # --- what runs

    def _run(self, visit: Visit) -> str:
        """Run a lesson's commands; return the key with which the person has ended it, empty at the end of them."""
        visit.results = []
        pressed = ""

        def look(seconds: float) -> bool:
            nonlocal pressed
            key = self._keys.read(seconds) or self._stage.pressed()
            pressed = key if key in _GOING or key in _ENTER else ""
            return bool(pressed)

        try:
            for command in visit.lesson.commands():
                if not is_usual(command) and not self._ask(visit, promises.format_pipeline(command.pipeline)):
                    continue
                columns = self._room()[0]
                shown = pages.fit_command(f"$ {promises.format_pipeline(command.pipeline)}", columns)
                self._show(visit, shown, "Enter enough  n next  p previous  r run  e edit  q quit")
                heading = [
                    f"{visit.lesson.number}. {visit.lesson.title}  (Enter: enough, n next, r again, e edit, q quit)"
                ]
                if visit.words.question:
                    heading.append(f"{visit.words.question}{f' You guessed {visit.guess}.' if visit.guess else ''}")
                heading += [f"You changed {each}." for each in visit.changes[:2]] + [""]
                visit.results.append(promises.run(self._stage, command, look, heading))
                if pressed in _GOING and pressed:
                    return pressed
        except StartError as error:
            if pressed in _GOING and pressed:
                return pressed
            visit.problem = str(error)
            return self._offer_editor(visit)
        return ""

    def _ask(self, visit: Visit, command: str) -> bool:
        page = pages.unusual_page(command, visit.lesson.path, self._room()[0])
        self._show(visit, page, "y run it   any other key leaves it out")
        return self._wait() == "y"

    # --- edits

    def _edit(self, visit: Visit) -> str:
        """Let the person edit a lesson, or a copy of it, and run it again; return what leads away from it."""
        try:
            visit.lesson = editing.make_copy(visit.lesson, self._edits)
            before = visit.lesson.text()
            self._screen.close()
            try:
                with self._keys.paused():
                    editing.run_editor(visit.lesson.path, self._stage)
            finally:
                self._screen.open()
            visit.changes = policy.describe_changes(before, visit.lesson.text())
        except StartError as error:
            visit.problem = str(error)
            return self._offer_editor(visit)
        if not visit.changes:
            self._show(visit, [f"Nothing was changed in {visit.lesson.path}."], self._keys_line(visit, "run again"))
            key = self._wait_for("npreuq\n\r ")
            return "r" if key in _ENTER else key
        return self._visit(visit, is_again=True)

    def _take_back(self, visit: Visit) -> str:
        """Go back to the lesson as it came, and run it again; return what leads away from it."""
        if not visit.lesson.edited or self._edits is None:
            self._show(visit, ["There is no edit to take back."], self._keys_line(visit, "go on"))
            key = self._wait_for("npreuq\n\r ")
            return "r" if key in _ENTER else key
        visit.lesson = editing.take_back(visit.lesson, self._edits)
        visit.changes = []
        return self._visit(visit, is_again=True)

    def _offer_editor(self, visit: Visit) -> str:
        """Say what is wrong, with the lines around it, and offer the editor; return what leads away."""
        undo = "u undo  " if visit.lesson.edited else ""
        hint = "h hint  " if visit.lesson.hints else ""

        def refused(columns: int, rows: int) -> list[Page]:
            return [pages.refused_page(visit.lesson, visit.words, visit.problem, columns, rows, self._marks)]

        while True:
            self._show_pages(visit, refused, f"e edit  {undo}{hint}r try again  n next  p previous  q quit", 0)
            key = self._wait_for(f"npreuq{'h' * bool(hint)}")
            if key != "h":
                return key
            self._hint(visit)
