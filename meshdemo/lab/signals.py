"""Signals that interrupt whatever the program does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Signalled(BaseException):
    """A signal arrived; wherever the program is, it goes on where this is caught."""

    def __init__(self, number: int) -> None:
        self.number = number


class Arrived:
    """The signal that has arrived last. What it raised can get lost, where Python ignores errors."""

    number: int | None = None

    def check(self) -> None:
        """Raise Signalled when one has arrived."""
        if self.number is not None:
            raise Signalled(self.number)


@contextmanager
def raising() -> Iterator[Arrived]:
    """Let SIGINT and SIGTERM raise Signalled here, and be ignored after: what is left then is the end."""
    arrived = Arrived()

    def handle(number: int, _frame: FrameType | None) -> None:
        arrived.number = number
        raise Signalled(number)

    numbers = (signal.SIGTERM, signal.SIGINT)
    try:
        for number in numbers:
            signal.signal(number, handle)
        yield arrived
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
