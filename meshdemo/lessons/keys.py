"""Single keys from a terminal, without Enter."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self


class Keys:
    """Standard input as single keys while this is entered; the terminal is as before afterwards."""

    def __enter__(self) -> Self:
        self._number = sys.stdin.fileno()
        self._former = termios.tcgetattr(self._number)
        tty.setcbreak(self._number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(termios.error):  # the terminal has gone
            termios.tcsetattr(self._number, termios.TCSADRAIN, self._former)

    def read(self, seconds: float) -> str:
        """Return the key that is pressed within `seconds`, else nothing; `q` when the terminal has gone."""
        ready, _, _ = select.select([self._number], [], [], seconds)
        if not ready:
            return ""
        try:
            pressed = os.read(self._number, 32).decode("ascii", "replace")
        except OSError:
            return "q"
        if pressed.startswith("\x1b"):
            return ""  # an arrow or the like, whose other characters are no keys
        return pressed[:1].lower() or "q"

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let others use the terminal as it was."""
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            with suppress(termios.error):
                termios.tcflush(self._number, termios.TCIFLUSH)
                tty.setcbreak(self._number)
