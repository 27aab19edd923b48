"""Lessons for a person at a terminal, step by step: what the keys do, and what runs when."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import click

from meshdemo.console import terminal
from meshdemo.errors import StartError
from meshdemo.escaping import printable
from meshdemo.lessons.classroom import editing, pages
from meshdemo.lessons.classroom.pages import Page
from meshdemo.lessons.classroom.reader import BACK, ENTER, FORTH, GOING, Part, Reader, Visit
from meshdemo.lessons.files import policy
from meshdemo.lessons.files.comment import Command
from meshdemo.lessons.files.permission import is_usual
from meshdemo.lessons.files.reading import Lesson
from meshdemo.lessons.running import promises
from meshdemo.lessons.running.notes import Notes
from meshdemo.lessons.stages.stage import Stage

# How many changes of a file are said at the end.
_MOST_CHANGES = 5
# Above what was seen before an edit of the page.
_STALE = ["The page has edited the copy since these calls: r makes them again.", ""]


class Classroom:
    """Lessons on a stage, one at a time.

    `edits` is the folder for copies that are edited; None where the lessons' own files may be.
    """

    def __init__(self, stage: Stage, lessons: Sequence[Lesson], notes: Notes, edits: Path | None = None) -> None:
        self._stage = stage
        self._lessons = list(lessons)
        self._notes = notes
        self._edits = edits
        self._reader = Reader(stage, len(self._lessons))

    def teach(self, first: Lesson) -> Lesson | None:
        """Show a lesson, and go on with what the person wants, until `q`.

        Return the lesson with which to go on on another stage, None at the end.
        """
        index = next(index for index, lesson in enumerate(self._lessons) if lesson.file == first.file)
        try:
            with self._notes.held() as self._reader.said, self._reader:
                try:
                    index = self._teach(index)
                finally:
                    self._reader.said.clear()
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
        if lesson is not visit.lesson or visit.is_stale:
            visit.lesson, visit.changes, visit.is_stale = lesson, editing.changes_of(lesson), False

    def _say_edits(self) -> None:
        for lesson in map(self._stage.edited, self._lessons):
            if lesson.edited:
                found = editing.changes_of(lesson)
                more = [f"and {len(found) - _MOST_CHANGES} more"] if len(found) > _MOST_CHANGES else []
                changes = ", ".join([*found[:_MOST_CHANGES], *more]) or "nothing is changed"
                click.echo(f"your edit of {lesson.name}: {changes}; it is in {lesson.edited}")

    def _visit(self, visit: Visit, *, is_again: bool = False) -> str:
        """Apply a lesson and go through its steps, or again from its calls on; return what leads away from it."""
        self._reader.said.clear()
        visit.problem = ""
        try:
            visit.words = visit.lesson.words()
            if reason := self._stage.why_not(visit.lesson):
                return self._refuse(visit, reason)
            first_page = ["It is being applied ..."] if is_again else self._policy(visit, *self._reader.room())[0]
            self._reader.show(visit, first_page, "one moment ...")
            self._stage.show(visit.lesson)
            self._reader.said[:] = [line for line in self._reader.said if not line.endswith("...")]  # it is over
        except StartError as error:
            visit.problem = str(error)
            return self._offer_editor(visit)
        return self._go_on(visit, 0 if not is_again else None)

    def _go_on(self, visit: Visit, start: int | None) -> str:
        """Go through the steps of a lesson that is applied; return what leads away from it."""
        try:
            return self._go_through(visit, start)
        except StartError as error:  # its file goes while it is shown
            visit.problem = str(error)
            return self._offer_editor(visit)

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
            going = self._reader.read(
                visit, before[position], "make the calls" if position + 1 == len(before) else "go on"
            )
            if going not in (FORTH, BACK):
                return going
            position = max(0, position + (1 if going == FORTH else -1))
        if going := self._run(visit):
            return going
        parts = [after[0], *(part for part in after[1:] if part.pages(*self._reader.room()))]
        position = 0
        while position < len(parts):
            is_last = position + 1 == len(parts)
            going = self._reader.read(visit, parts[position], "next" if is_last else "go on")
            if going == BACK and not position:
                return self._go_through(visit, len(before) - 1)
            if going not in (FORTH, BACK):
                return going
            position += 1 if going == FORTH else -1
        return "n"

    def _policy(self, visit: Visit, columns: int, rows: int) -> list[Page]:
        changed: set[int] = set()
        if visit.lesson.edited:
            original = dataclasses.replace(visit.lesson, edited=None)
            changed = policy.changed_lines(original.text(), visit.lesson.text())
        return pages.policy_pages(visit.lesson, visit.words, columns, rows, self._reader.marks, changed)

    def _question(self, visit: Visit, columns: int) -> Page:
        return pages.question_page(visit.words, map(self._typed, visit.lesson.commands()), visit.guess, columns)

    def _typed(self, command: Command) -> Command:
        """Return a command with the ports of the stage, to be shown."""
        return dataclasses.replace(command, pipeline=tuple(tuple(self._stage.typed(each)) for each in command.pipeline))

    def _results(self, visit: Visit, columns: int, rows: int) -> list[Page]:
        note = _STALE if visit.is_stale else []
        first, *others = pages.result_pages(
            visit.lesson,
            visit.words,
            visit.results,
            visit.guess,
            visit.changes,
            columns,
            rows - len(note),
            self._reader.marks,
        ) or [[]]
        return [[*note, *first], *others]

    def _refuse(self, visit: Visit, reason: str) -> str:
        """Say why a lesson cannot be shown here, and offer the engine that can."""
        texts = (
            visit.words.about,
            "",
            *reason.splitlines(),
            "",
            "Press i to go on with Istio's own control plane (--istiod).",
        )
        page = [line for text in texts for line in terminal.wrap(printable(text), self._reader.room()[0], "")]
        self._reader.show(visit, page, "i go on with --istiod  n next  p previous  q quit")
        return self._reader.wait_for("npqi")

    # --- what runs

    def _run(self, visit: Visit) -> str:
        """Run a lesson's commands, and have it shown elsewhere what became of them; return what `_run_all` does."""
        self._stage.judged(None)
        going = self._run_all(visit)
        checks: list[tuple[str, bool | None]] = []
        for result in [] if going else visit.results:
            for each in result.verdicts:
                line = click.unstyle(promises.format_verdict(each, is_judged=not result.was_ended)).strip()
                checks.append((line, None if result.was_ended else each.met))
            if result.was_ended:
                checks.append(("You ended the calls early: nothing is judged.", None))
        self._stage.judged(checks)
        return going

    def _run_all(self, visit: Visit) -> str:
        """Run a lesson's commands; return the key with which the person has ended it, empty at the end of them."""
        self._look_at_edit(visit)
        visit.results = []
        pressed = ""

        def look(seconds: float) -> bool:
            nonlocal pressed
            key = self._reader.pressed(seconds)
            pressed = key if key in GOING or key in ENTER else ""
            return bool(pressed)

        try:
            for command in visit.lesson.commands():
                if not is_usual(command) and not self._ask(visit, promises.format_pipeline(command.pipeline)):
                    continue
                columns = self._reader.room()[0]
                shown = pages.fit_command(f"$ {pages.without_expectations(self._typed(command))}", columns)
                self._reader.show(visit, shown, "Enter enough  n next  p previous  r run  e edit  q quit")
                heading = self._heading(visit, columns)
                result = promises.run(self._stage, command, look, heading)
                visit.results.append(dataclasses.replace(result, command=self._typed(command)))
                if pressed in GOING and pressed:
                    return pressed
        except StartError as error:
            if pressed in GOING and pressed:
                return pressed
            visit.problem = str(error)
            return self._offer_editor(visit)
        return ""

    def _heading(self, visit: Visit, columns: int) -> list[str]:
        """Return what stands above the calls: the lesson and its keys, the question and the guess, what was changed."""
        texts = [f"{visit.lesson.number}. {visit.lesson.title}  (Enter: enough, n next, r again, e edit, q quit)"]
        if visit.words.question:
            texts.append(f"{visit.words.question}{f' You guessed {visit.guess}.' if visit.guess else ''}")
        elif visit.lesson.is_exercise:
            texts.append(visit.words.about)
        texts += [f"You changed {each}." for each in visit.changes[:2]]
        return [*(line for text in texts for line in terminal.wrap(printable(text), columns, "")), ""]

    def _ask(self, visit: Visit, command: str) -> bool:
        page = pages.unusual_page(command, visit.lesson.path, self._reader.room()[0])
        self._reader.show(visit, page, "y run it   any other key leaves it out")
        return self._reader.wait() == "y"

    # --- edits

    def _edit(self, visit: Visit) -> str:
        """Let the person edit a lesson, or a copy of it, and run it again; return what leads away from it."""
        came = visit.lesson
        try:
            visit.lesson = editing.make_copy(came, self._edits)
            before = visit.lesson.text()
            with self._reader.away():
                status = editing.run_editor(visit.lesson.path, self._stage)
            visit.changes = policy.describe_changes(before, visit.lesson.text())
            path = visit.lesson.path
            if not visit.changes and self._edits and before == came.text():  # a copy of nothing new
                visit.lesson = editing.take_back(visit.lesson, self._edits) if not came.edited else came
        except StartError as error:
            visit.problem = str(error)
            return self._offer_editor(visit)
        if not visit.changes:
            ending = f"; the editor ended with status {status}" if status else ""
            return self._say(visit, f"Nothing was changed in {path}{ending}.")
        return self._visit(visit, is_again=True)

    def _take_back(self, visit: Visit) -> str:
        """Go back to the lesson as it came, and run it again; return what leads away from it."""
        if not visit.lesson.edited or self._edits is None:
            return self._say(visit, "There is no edit to take back.")
        try:
            visit.lesson = editing.take_back(visit.lesson, self._edits)
        except StartError as error:
            visit.problem = str(error)
            return self._offer_editor(visit)
        visit.changes = []
        return self._visit(visit, is_again=True)

    def _say(self, visit: Visit, line: str) -> str:
        """Say something, and return what leads away from it; Enter runs the lesson again."""
        going = self._reader.read(visit, Part(lambda columns, _: [terminal.wrap(line, columns, "")]), "run again")
        if going == BACK:
            return self._offer_editor(visit) if visit.problem else self._go_on(visit, 0)
        return "r" if going == FORTH else going

    def _offer_editor(self, visit: Visit) -> str:
        """Say what is wrong, with the lines around it, and offer the editor; return what leads away."""
        undo = "u undo  " if visit.lesson.edited else ""
        hint = "h hint  " if visit.lesson.hints else ""

        def refused(columns: int, rows: int) -> list[Page]:
            return [pages.refused_page(visit.lesson, visit.words, visit.problem, columns, rows, self._reader.marks)]

        while True:
            self._reader.show_pages(visit, refused, f"e edit  {undo}{hint}r try again  n next  p previous  q quit", 0)
            key = self._reader.wait_for(f"npreuq{'h' * bool(hint)}")
            if key != "h":
                return key
            self._reader.hint(visit)
