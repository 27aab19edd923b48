"""Single keys from a terminal, without Enter."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Self


class Keys:
    """Standard input as single keys while this is entered; the terminal is as before afterwards.

    Also while Ctrl+Z has stopped the program: the shell gets the terminal as it was. `leave` and `come_back` are called
    then, so that the screen is given back, too.
    """

    def __init__(
        self, leave: Callable[[], object] = lambda: None, come_back: Callable[[], object] = lambda: None
    ) -> None:
        self._leave = leave
        self._come_back = come_back
        self._waiting = ""

    def __enter__(self) -> Self:
        self._number = sys.stdin.fileno()
        self._former = termios.tcgetattr(self._number)
        self._handler = signal.signal(signal.SIGTSTP, self._stop)
        self._take()
        return self

    def _take(self) -> None:
        with suppress(termios.error):  # the terminal has gone
            tty.setcbreak(self._number)

    def _give_back(self) -> None:
        with suppress(termios.error):
            termios.tcsetattr(self._number, termios.TCSADRAIN, self._former)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        """Stop as the shell's job that this is, and go on here when it is continued."""
        self._leave()
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self._come_back()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGTSTP, self._handler)
        self._give_back()

    def read(self, seconds: float) -> str:
        """Return the key that is pressed within `seconds`, else nothing; `q` when the terminal has gone."""
        if self._waiting:
            key, self._waiting = self._waiting[0], self._waiting[1:]
            return key.lower()
        ready, _, _ = select.select([self._number], [], [], seconds)
        if not ready:
            return ""
        try:
            pressed = os.read(self._number, 32).decode("ascii", "replace")
        except OSError:
            return "q"
        if pressed.startswith("\x1b"):
            return ""  # an arrow or the like, whose other characters are no keys
        self._waiting = pressed[1:]
        return pressed[:1].lower() or "q"

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let others use the terminal as it was."""
        signal.signal(signal.SIGTSTP, self._handler)
        self._give_back()
        try:
            yield
        finally:
            self._waiting = ""
            with suppress(termios.error):
                termios.tcflush(self._number, termios.TCIFLUSH)
            signal.signal(signal.SIGTSTP, self._stop)
            self._take()
