"""What a stage says meanwhile, held back while a command has the terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Notes:
    """Lines for the person at the terminal, from any thread; `write` takes them."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._held: list[str] | None = None

    def say(self, line: str) -> None:
        """Write a line, or keep it while lines are held back."""
        with self._lock:
            if self._held is None:
                self._write(line)
            else:
                self._held.append(line)

    @contextmanager
    def held(self) -> Iterator[list[str]]:
        """Hold lines back, and write them at the end, but for those that are taken from the list until then."""
        with self._lock:
            former, self._held = self._held, []
            lines = self._held
        try:
            yield lines
        finally:
            with self._lock:
                self._held = former
            for line in lines:
                self.say(line)
