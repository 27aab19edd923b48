"""A screen that a person reads: lines from the top, one line at the bottom, and what stood there before at the end.

It is the terminal's alternate screen (xterm, "Control Sequences", DECSET 1049) with automatic margins off (DECAWM), so
that no line wraps in a window that has just become smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self, TextIO

import click

from meshdemo.console import terminal

_BELOW = "\x1b[J"
_ENTER = "\x1b[?1049h\x1b[?7l\x1b[?25l"
# Cleared first, for terminals without an alternate screen.
_LEAVE = f"\x1b[H{_BELOW}\x1b[?25h\x1b[?7h\x1b[?1049l"

#: What is drawn in a window of so many columns and rows: the lines, and the one at the bottom.
Picture = Callable[[int, int], tuple[Sequence[str], str]]


class Screen:
    """The window behind `stream`, while this is entered."""

    def __init__(self, stream: TextIO, color: bool | None = None) -> None:
        self._stream = stream
        self._color = color
        self._picture: Picture | None = None
        self._size = (0, 0)
        self._is_open = False

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Take the window, and draw in it what was drawn before."""
        self._is_open = True
        self._write(_ENTER)
        self._draw()

    def close(self) -> None:
        """Give the window back as it was."""
        if self._is_open:
            self._write(_LEAVE)
        self._is_open = False

    def show(self, picture: Picture) -> None:
        """Draw a picture, and again whenever `look_after` sees another size."""
        self._picture = picture
        self._draw()

    def look_after(self) -> None:
        """Draw again when the window has another size; to be called often, unless somebody else draws in it."""
        if self._size != terminal.size_of(self._stream):
            self._draw()

    def _draw(self) -> None:
        columns, rows = self._size = terminal.size_of(self._stream)
        if self._picture is None or not self._is_open:
            return
        lines, bottom = self._picture(columns, rows)
        placed = [*enumerate(lines[: rows - 1], 1), (rows, bottom)]
        text = "".join(f"\x1b[{row};1H{line}" for row, line in placed)
        if self._color is False:
            text = "".join(f"\x1b[{row};1H{click.unstyle(line)}" for row, line in placed)
        self._write(f"\x1b[H{_BELOW}{text}")

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal has gone
            self._stream.write(text)
            self._stream.flush()
