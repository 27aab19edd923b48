"""What is shown while a watch runs: the table, redrawn in place on a terminal, or else a line of progress.

The table is drawn on the terminal's alternate screen, which no change of the window's size breaks up (xterm, "Control
Sequences", DECSET 1049); with automatic margins off (DECAWM), a line that is too long for a window that has just become
smaller is cut by the terminal. What stood there before comes back at the end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TextIO

import click

from meshdemo.console import terminal
from meshdemo.escaping import printable
from meshdemo.watching import sentences, table
from meshdemo.watching.report import Report

_START = "\x1b[?1049h\x1b[?7l"
_REST_OF_LINE, _BELOW = "\x1b[K", "\x1b[J"
# Cleared first, for terminals without an alternate screen.
_STOP = f"\x1b[H{_BELOW}\x1b[?7h\x1b[?1049l"
# Drawing takes about this part of the time at most, however much there is to sort and count.
_PART_OF_TIME = 0.1


class Display:
    """Shows nothing while a watch runs; the base of what shows something. A context manager."""

    interval_seconds = 1.0

    def __init__(self, stream: TextIO | None = None, timer: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._timer = timer
        self._last = timer()
        self._pause_seconds = self.interval_seconds
        self._size = terminal.size_of(stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Put back what stood there before, at the end or before the process is stopped."""

    def show(self, report: Callable[[], Report]) -> None:
        """Show what `report` returns, unless it is too early to show something again."""
        started = self._timer()
        if not self._stream or started < self._last + self.interval_seconds:
            return
        size = terminal.size_of(self._stream)
        if started >= self._last + self._pause_seconds or size != self._size:
            self._write(self._drawn(report(), size))
            self._last, self._size = started, size
            self._pause_seconds = max(self.interval_seconds, (self._timer() - started) / _PART_OF_TIME)

    def _drawn(self, report: Report, size: tuple[int, int]) -> str:  # noqa: ARG002
        """Return the characters that show `report` in a window of so many columns and rows."""
        return ""

    def _write(self, text: str) -> None:
        """Write at once; where nobody reads, say no more."""
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None


class Screen(Display):
    """Redraws the table in place, as large as the window is at that moment.

    `heading` are lines above it, in a window whose owner has prepared it and clears it afterwards.
    """

    interval_seconds = 0.2
    _started = False

    def __init__(
        self,
        stream: TextIO | None = None,
        timer: Callable[[], float] = time.monotonic,
        heading: Sequence[str] = (),
    ) -> None:
        super().__init__(stream, timer)
        self._heading = heading

    def leave(self) -> None:
        if self._started and not self._heading:
            self._write(_STOP)
        self._started = False

    def _drawn(self, report: Report, size: tuple[int, int]) -> str:
        columns, rows = size
        heading = [terminal.cut(printable(line), columns - 1) for line in self._heading]
        marks = terminal.marks_for(self._stream)
        lines = heading + table.format_table(report, (columns, rows - len(heading)), marks, running=True)
        context = click.get_current_context(silent=True)
        if context and context.color is False:
            lines = [click.unstyle(line) for line in lines]
        # Each line is put in its row, since a line break scrolls a window that has just become lower.
        start, self._started = "" if self._started or heading else _START, True
        return start + "".join(f"\x1b[{row};1H{line}{_REST_OF_LINE}" for row, line in enumerate(lines, 1)) + _BELOW


class ProgressLine(Display):
    """Writes a line of progress: over the last one on a terminal, below it elsewhere."""

    def _drawn(self, report: Report, size: tuple[int, int]) -> str:
        line = terminal.cut(sentences.format_progress(report), size[0] - 1, terminal.marks_for(self._stream).ellipsis)
        return f"\r{line}{_REST_OF_LINE}" if terminal.is_terminal(self._stream) else line + "\n"

    def leave(self) -> None:
        if terminal.is_terminal(self._stream):
            self._write(f"\r{_REST_OF_LINE}")


def display_for(*, as_json: bool, heading: Sequence[str] = ()) -> Display:
    """Return what suits standard output and standard error: a screen where the table goes to a terminal.

    With a `heading` it is on the terminal of standard error, whatever goes to standard output.
    """
    if heading and terminal.is_terminal(sys.stderr):
        return Screen(sys.stderr, heading=heading)
    if not as_json and terminal.is_terminal(sys.stdout):
        return Screen(sys.stdout)
    return ProgressLine(sys.stderr)
