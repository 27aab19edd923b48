"""What a lesson shows at a terminal, page by page: each a list of lines that fit the window.

Nothing here knows of keys, or runs anything.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from meshdemo.console import terminal
from meshdemo.console.terminal import Marks
from meshdemo.errors import StartError
from meshdemo.escaping import printable
from meshdemo.lessons.files import policy
from meshdemo.lessons.files.comment import Command, Words
from meshdemo.lessons.files.reading import Lesson
from meshdemo.lessons.running.promises import Result, Verdict, format_verdict

_NAME_WIDTH = 34
_BAR_WIDTH = 24
_MOST_ROWS = 6
# A word of a shell, with its quotes.
_WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")

Page = list[str]


def header(lesson: Lesson, where: str, columns: int) -> str:
    """Return the line at the top: which lesson this is, and where it is shown."""
    left = printable(f"{lesson.number}. {lesson.title}")
    room = columns - terminal.width_of(left) - 2
    right = terminal.cut(where, room) if room > 0 else ""
    gap = " " * (columns - terminal.width_of(left) - terminal.width_of(right))
    return click.style(left, bold=True) + gap + click.style(right, dim=True)


def policy_pages(
    lesson: Lesson, words: Words, columns: int, rows: int, marks: Marks, changed: Collection[int]
) -> list[Page]:
    """Return what a lesson is about, and its policy below."""
    about = _wrap(words.about, columns)
    cut = policy.cut_policy(lesson.text(), whole=lesson.is_exercise)
    pages = policy.pages_of(cut, columns, rows - len(about) - 1, marks, changed)
    return [[*about, "", *page] for page in pages] or [about]


def question_page(words: Words, commands: Iterable[Command], guess: str, columns: int) -> Page:
    """Return the question, the guess so far, and what is about to run, without what it gives away."""
    lines = [click.style(line, bold=True) for line in _wrap(words.question, columns)]
    lines += ["", f"Your guess: {guess}_", "", "Type a number, or just go on. This runs then:", ""]
    return lines + [
        f"  {line}" for command in commands for line in fit_command(without_expectations(command), columns - 2)[:2]
    ]


def without_expectations(command: Command) -> str:
    """Return a command without its expectations, and with long words cut."""
    pipeline = []
    for words in command.pipeline:
        kept, rest = [], list(words)
        while rest:
            word = rest.pop(0)
            if word == "--expect":
                rest[:1] = []
            else:
                kept.append(terminal.cut(printable(word), 40, ".."))
        pipeline.append(shlex.join(kept))
    return " | ".join(pipeline)


def result_pages(
    lesson: Lesson,
    words: Words,
    results: Sequence[Result],
    guess: str,
    changes: Sequence[str],
    columns: int,
    rows: int,
    marks: Marks,
) -> list[Page]:
    """Return what was seen, each promise with its mark, the guess beside it, and why."""
    blocks = (
        [_wrap(f"You changed {', '.join(changes[:3])}{' and more' * (len(changes) > 3)}.", columns)] if changes else []
    )
    answer = _answer(words, results)
    for result in results:
        if result.output is None and not result.report and not result.was_ended:
            continue  # the stage has seen to it
        block = fit_command(f"$ {without_expectations(result.command)}", columns)[:2]
        block += list(_rows(result, columns, marks))
        for verdict in result.verdicts:
            line = format_verdict(verdict, is_judged=not result.was_ended).strip() + (
                f"; you guessed {guess}" if guess and verdict is answer else ""
            )
            fits = terminal.width_of(click.unstyle(line)) <= columns
            block += [line] if fits else terminal.wrap(click.unstyle(line), columns)
        if result.was_ended:
            after = f" after {result.report['requests']} calls" if result.report else ""
            block.append(f"You ended it{after}: nothing is judged.")
        blocks.append([_fit(line, columns) for line in block])
    met = [verdict.met for result in results for verdict in result.verdicts]
    was_ended = any(result.was_ended for result in results)
    if lesson.is_exercise and (was_ended or not met):
        blocks.append(["Not judged: r makes all calls, and checks them."])
    elif lesson.is_exercise:
        blocks.append(
            ["Mended: all checks are green." if all(met) else "Not mended yet: e edits the file, h gives a hint."]
        )
    elif changes and not all(met) and not was_ended:
        blocks.append(["What is expected is what the lesson shows without your change."])
    blocks += [_wrap(text, columns) for text in words.section("Expect")]
    blocks += _section("Why", words.section("Why"), columns)
    return pack(blocks, rows)


def more_pages(words: Words, columns: int, rows: int) -> list[Page]:
    """Return what stays the same, the common mistake, and something to try; none where the lesson has none of them."""
    names = {"Stays the same": "What stays the same", "Mistake": "A common mistake", "Try": "Try it: e opens the file"}
    return pack([block for key, name in names.items() for block in _section(name, words.section(key), columns)], rows)


def range_pages(words: Words, columns: int, rows: int) -> list[Page]:
    """Return how the numbers that are expected come about."""
    return pack(_section("How the range was computed", words.section("Range"), columns), rows)


def refused_page(lesson: Lesson, words: Words, problem: str, columns: int, rows: int, marks: Marks) -> Page:
    """Return what is wrong with a file, and the lines around the place that is named, where one is."""
    about = [*_wrap(words.about, columns), ""] if lesson.is_exercise else []
    lines = about + [click.style(line, fg="red") for line in _wrap(f"Error: {problem}", columns)]
    place = re.search(r"\.ya?ml:(\d+)|line (\d+)", problem)
    if not place:
        return lines
    number = int(place[1] or place[2])
    try:
        around = policy.excerpt(lesson.text(), number, max(1, rows - len(lines) - 1))
    except StartError:  # the file has gone since
        return lines
    return [*lines, "", *(policy.format_line(line, columns, marks, {number}) for line in around)]


def hint_pages(hints: Sequence[str], said: Sequence[str], columns: int, rows: int) -> list[Page]:
    """Return the hints given so far, or what was said about a call, which has lines of its own."""
    if said:
        return pack([[terminal.cut(printable(line), columns + 1) for line in said]], rows)
    return pack([["Hints"], *(_wrap(f"{index}. {hint}", columns) for index, hint in enumerate(hints, 1))], rows)


def unusual_page(command: str, file: object, columns: int) -> Page:
    """Return the question whether a command may run."""
    return [
        *_wrap(f"{file} wants to run this, which is not what lessons run:", columns),
        "",
        *(f"  {line}" for line in fit_command(command, columns - 2)),
        "",
        "Run it?",
    ]


def _answer(words: Words, results: Sequence[Result]) -> Verdict | None:
    """Return the promise that answers the lesson's question."""
    verdicts = [verdict for result in results for verdict in result.verdicts]
    return next((each for each in verdicts if words.answer in (None, each.subject)), None)


def _rows(result: Result, columns: int, marks: Marks) -> Iterator[str]:
    """Yield who answered, with a bar each, or what was printed."""
    if result.output is not None:
        yield from (printable(line) for line in result.output.splitlines()[:_MOST_ROWS])
    report = result.report
    rows = [(version["content"], version["count"]) for version in report.get("versions", [])]
    rows += [(_name_answer(each), each["count"]) for each in report.get("others", [])]
    rows += [*report.get("errors", {}).items(), *report.get("unanswered", {}).items()]
    for name, count in rows[:_MOST_ROWS]:
        share = count / report["requests"] if report["requests"] else 0
        cell = terminal.pad(terminal.cut(printable(str(name)), _NAME_WIDTH, marks.ellipsis), _NAME_WIDTH)
        bar = marks.bar * round(share * min(_BAR_WIDTH, max(0, columns - _NAME_WIDTH - 18)))
        yield f"  {cell}{count:>6}{share * 100:>7.1f} %  {bar}".rstrip()


def _name_answer(other: Mapping[str, Any]) -> str:
    """Return an answer that no application gave in few words: what explains its reason has no room in a row."""
    if not other["reason"]:
        return f"{other['status']} {other['text']}"
    probably = "probably " if other["guessed"] else ""
    return f"{other['status']} {probably}{other['reason'].partition(':')[0]} ({other['flag']})"


def _fit(line: str, columns: int) -> str:
    """Return a line in at most so many columns, without its colours where it is cut."""
    plain = click.unstyle(line)
    return line if terminal.width_of(plain) <= columns else terminal.cut(plain, columns)


def _section(name: str, paragraphs: Sequence[str], columns: int) -> list[Page]:
    if not paragraphs:
        return []
    first, *others = (_wrap(text, columns) for text in paragraphs)
    return [[click.style(name, bold=True), *first], *others]


def pack(blocks: Sequence[Page], rows: int) -> list[Page]:
    """Return blocks of lines as pages of at most so many rows, with an empty line between two blocks."""
    pages: list[Page] = []
    for block in blocks:
        rest = list(block)
        if pages and len(pages[-1]) + 1 + len(rest) <= rows:
            pages[-1] += ["", *rest]
            continue
        while rest:
            pages.append(rest[:rows])
            rest = rest[rows:]
    return pages


def _wrap(text: str, columns: int) -> Page:
    return terminal.wrap(printable(text), columns, "") if text else []


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
