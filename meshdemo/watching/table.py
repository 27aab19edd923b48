"""The result of a watch as tables for people, fitted to a window: no line is wider, and no more are there than fit.

What a server says goes through `printable` before it becomes a cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import click

from meshdemo import reasons
from meshdemo.console import terminal
from meshdemo.console.terminal import Marks
from meshdemo.escaping import printable
from meshdemo.watching import sentences, times
from meshdemo.watching.expectations import COUNT, SHARE, Verdict
from meshdemo.watching.report import Report, Row

# In columns: each of the numbers; the bar, and the name beside it.
_NUMBER_WIDTH = 8
_BAR_WIDTH, _LEAST_BAR_WIDTH = 40, 8
_NAME_WIDTH, _LEAST_NAME_WIDTH = 24, 20
# What all tables need.
_LEAST_WIDTH = 30


@dataclass(frozen=True)
class Detail:
    """How much is shown: pods of each version, None for all; rows of other lists and of the histogram; empty lines."""

    pods: int | None
    rows: int
    histogram: int
    spaced: bool = True


def _details() -> Iterator[Detail]:
    """Yield what to try where a window is too low, from rich to poor."""
    yield from (Detail(None, 20, 10), Detail(None, 10, 6), Detail(None, 5, 4), Detail(None, 5, 4, spaced=False))
    yield from (Detail(pods, 4, 4) for pods in (16, 12, 10, 8, 6, 5, 4, 3, 2))
    yield from (Detail(pods, 4, 4, spaced=False) for pods in range(4, 0, -1))
    yield from (Detail(0, 4, 4), Detail(0, 4, 4, spaced=False), Detail(0, 2, 0, spaced=False))


def format_table(report: Report, size: tuple[int, int | None], marks: Marks, *, running: bool = False) -> list[str]:
    """Return the lines for a window of columns and rows; None for the rows shows all pods.

    The last column stays empty, where some terminals wrap, and the last row, where the prompt will be. A full bar is
    all requests, its failures are the letter x.
    """
    columns, rows = size
    head: list[str] = []
    tail: list[str] = []
    for detail in _details():
        head, tail = _Table(report, max(_LEAST_WIDTH, columns - 1), marks, detail, running).lines()
        if rows is None or len(head) + len(tail) < rows:
            return head + tail
    room = max(1, (rows or 0) - 1)
    return head[: max(0, room - len(tail))] + tail[-room:]


class _Table:
    """The lines of one report at one width and in one detail."""

    def __init__(self, report: Report, width: int, marks: Marks, detail: Detail, running: bool) -> None:
        self._report = report
        self._width = width
        self._marks = marks
        self._detail = detail
        self._running = running
        pods = [printable(pod.name) for version in report.versions for pod in version.pods]
        versions = [printable(version.name) for version in report.versions]
        longest = max([_NAME_WIDTH, *map(terminal.width_of, versions), *(2 + terminal.width_of(pod) for pod in pods)])
        room = width - 3 * _NUMBER_WIDTH
        beside_bar = room - 2 - _LEAST_BAR_WIDTH
        self._name_width = min(longest, beside_bar if beside_bar >= _LEAST_NAME_WIDTH else room)
        self._bar_width = min(_BAR_WIDTH, room - 2 - self._name_width)
        if self._bar_width < _LEAST_BAR_WIDTH:
            self._bar_width = 0

    def lines(self) -> tuple[list[str], list[str]]:
        """Return the lines of what was seen, and those that must not be missing, an empty one between two blocks."""
        report, detail = self._report, self._detail
        others: Counter[str] = Counter()
        for text in report.texts:
            others[reasons.format_answer(text.status, text.text, text.reason)] += text.answers
        signed = report.versions or report.times["proxy"]
        heading = "answered by the mesh itself" if all(text.reason for text in report.texts) else "other answers"
        facts = sentences.format_facts(report, detail.rows)
        pace = sentences.format_pace(report, running=self._running)
        head = [
            self._versions(),
            self._statuses(),
            self._texts(heading if signed else "answer", dict(others.most_common())),
            self._texts("the proxy got no answer", report.errors, "red"),
            self._texts("no answer at all", report.unanswered, "red"),
            times.format_times(report, self._width, detail.histogram, self._marks.bar),
            self._wrapped(facts),
        ]
        tail = [self._expectations(), self._wrapped(pace)]
        gap = [""] if detail.spaced else []
        lines = [[line for block in filter(None, blocks) for line in [*gap, *block]] for blocks in (head, tail)]
        return lines[0][len(gap) :], lines[1] if lines[0] else lines[1][len(gap) :]

    def _wrapped(self, sentences: Sequence[str]) -> list[str]:
        return [line for sentence in sentences for line in terminal.wrap(sentence, self._width)]

    def _versions(self) -> list[str]:
        versions, limit = self._report.versions, self._detail.rows
        if not versions:
            return []
        lines = [self._heading("version and pod", self._name_width, "answers", "share", "failed")]
        for version in versions[:limit]:
            pods = version.pods
            shown = len(pods) if self._detail.pods is None else self._detail.pods
            name = version.name + ("" if shown else f" ({len(pods)} pod{'s' * (len(pods) > 1)})")
            lines.append(self._row(name, version.answers, version.failed))
            if shown and len(pods) == shown + 1:  # the line for the rest would take as much room
                shown += 1
            lines += [self._row(pod.name, pod.answers, pod.failed, "  ") for pod in pods[:shown]]
            if shown:
                lines += self._rest(pods[shown:], "  ")
        return lines + self._rest(versions[limit:])

    def _rest(self, rest: Sequence[Row], indent: str = "", *, show_failed: bool = True) -> list[str]:
        """Return one line for all that are not shown, none where there are none."""
        count, failed = sum(row.answers for row in rest), sum(row.failed for row in rest)
        return [self._row(f"and {len(rest)} more", count, failed, indent, show_failed=show_failed)] if rest else []

    def _statuses(self) -> list[str]:
        rows = self._report.statuses
        if not rows:
            return []
        lines = [self._heading("status", self._name_width, "answers", "share")]
        lines += [self._row(row.name, row.answers, row.failed, show_failed=False) for row in rows[: self._detail.rows]]
        return lines + self._rest(rows[self._detail.rows :], show_failed=False)

    def _texts(self, heading: str, counts: Mapping[str, int], colour: str | None = None) -> list[str]:
        """Return rows of a text, which gets all the room, and a number; the most frequent first."""
        if not counts:
            return []
        rows = [(printable(text), count) for text, count in counts.items()]
        rest = rows[self._detail.rows :]
        rows = rows[: self._detail.rows]
        if rest:
            rows.append((f"and {len(rest)} more", sum(count for _, count in rest)))
        longest = max(terminal.width_of(text) for text in [heading, *(text for text, _ in rows)])
        width = min(max(longest, self._name_width), self._width - 2 * _NUMBER_WIDTH)
        lines = [self._heading(heading, width, "calls", "share")]
        for text, count in rows:
            cell = terminal.pad(terminal.cut(text, width, self._marks.ellipsis), width)
            lines.append((click.style(cell, fg=colour) if colour else cell) + self._numbers(count))
        return lines

    def _expectations(self) -> list[str]:
        """Return a row for each, with a mark where it is decided."""
        verdicts = self._report.verdicts
        rows = [(printable(each.expectation.subject), _format_seen(each), _format_expected(each)) for each in verdicts]
        seen, expected = (2 + max((len(row[column]) for row in rows), default=0) for column in (1, 2))
        longest = max((terminal.width_of(subject) for subject, *_ in rows), default=0)
        width = min(longest, max(8, self._width - 2 - seen - expected))
        lines = []
        for (subject, number, allowed), verdict in zip(rows, verdicts, strict=True):
            mark = self._marks.met if verdict.met else self._marks.unmet
            mark = " " if self._running else click.style(mark, fg="green" if verdict.met else "red", bold=True)
            cell = terminal.pad(terminal.cut(subject, width, self._marks.ellipsis), width)
            cells = terminal.cut(f"{cell}{number:>{seen}}  {allowed}", self._width - 2, self._marks.ellipsis)
            lines.append(f"{mark} {cells}")
        return lines

    def _heading(self, name: str, width: int, *numbers: str) -> str:
        cell = terminal.pad(terminal.cut(name, width, self._marks.ellipsis), width)
        return cell + "".join(f"{number:>{_NUMBER_WIDTH}}" for number in numbers)

    def _row(self, name: str, count: int, failed: int, indent: str = "", *, show_failed: bool = True) -> str:
        """Return a row with a bar."""
        cell = terminal.cut(printable(name), self._name_width - len(indent), self._marks.ellipsis, middle=True)
        column = f"{(failed or '-') if show_failed else '':>{_NUMBER_WIDTH}}"
        if failed and show_failed:
            column = click.style(column, fg="red", bold=True)
        cells = terminal.pad(indent + cell, self._name_width) + self._numbers(count) + column
        return f"{cells}  {self._bar(count, failed)}".rstrip()

    def _numbers(self, count: int) -> str:
        """Return a number and its share of all requests."""
        share = count / self._report.requests if self._report.requests else 0.0
        return f"{count:>{_NUMBER_WIDTH}}{share * 100:>{_NUMBER_WIDTH - 2}.1f} %"

    def _bar(self, count: int, failed: int) -> str:
        width = round(count * self._bar_width / (self._report.requests or 1))
        failures = min(width, -(-width * failed // count)) if count else 0
        return self._marks.bar * (width - failures) + click.style("x" * failures, fg="red") * bool(failures)


def _format_seen(verdict: Verdict) -> str:
    if verdict.seen is None:
        return "nothing"
    kind = verdict.expectation.range.kind
    return f"{verdict.seen:g}" if kind == COUNT else f"{verdict.seen:.1f} {'%' if kind == SHARE else 'ms'}"


def _format_expected(verdict: Verdict) -> str:
    expected = f"expected {verdict.expectation.range.text}"
    return f"{expected}, did you mean {printable(verdict.did_you_mean)}?" if verdict.did_you_mean else expected
