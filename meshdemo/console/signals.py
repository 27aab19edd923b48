"""Signals that interrupt whatever the program does."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
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
def raising(*others: int) -> Iterator[Arrived]:
    """Let SIGINT, SIGTERM and `others` raise Signalled here, and be ignored after: what is left then is the end.

    One of the others that is ignored, as SIGHUP is after `nohup`, stays so.
    """
    arrived = Arrived()

    def handle(number: int, _frame: FrameType | None) -> None:
        arrived.number = number
        raise Signalled(number)

    heeded = [number for number in others if signal.getsignal(number) != signal.SIG_IGN]
    numbers = (signal.SIGTERM, signal.SIGINT, *heeded)
    try:
        for number in numbers:
            signal.signal(number, handle)
        yield arrived
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def held() -> Iterator[Sequence[int]]:
    """Keep signals that arrive meanwhile, yield their numbers, and let the first do its work at the end."""
    arrived: list[int] = []

    def keep(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    handlers = {number: signal.getsignal(number) for number in numbers}
    heeded = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number in heeded:
            signal.signal(number, keep)
        yield arrived
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


@contextmanager
def unheeded(number: int) -> Iterator[None]:
    """Let a signal do nothing here meanwhile; a program that is started meanwhile heeds it."""
    former = signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(number, former)
