"""Noticing that files change, and reading them beside everything else, so that nothing waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from meshdemo.lab.files.manifests import files_of

Result = TypeVar("Result")


class WatchedFiles:
    """The files of `paths`: whether they have changed since they were last said to have."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._seen = _signature(paths)
        self._reported: list[tuple[str, int, int, int]] | None = self._seen

    @property
    def have_unreported_changes(self) -> bool:
        """Return whether the files are other ones than those last reported."""
        return _signature(self.paths) != self._reported

    def read_again(self) -> None:
        """Count the files as changed, whatever they are."""
        self._reported = None

    def have_changed(self) -> bool:
        """Return whether there is an edit that nobody was told of, once the files are not being written any more."""
        signature = _signature(self.paths)
        settled, self._seen = signature == self._seen, signature
        if signature == self._reported or not settled:
            return False
        self._reported = signature
        return True

    def are_as_reported(self) -> bool:
        """Return whether they are as they were when an edit was told last: what was read since then counts."""
        return _signature(self.paths) == self._reported


class BackgroundJob(Generic[Result]):
    """Does one thing at a time in a thread of its own."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Return whether something was begun whose result has not been taken."""
        return self._thread is not None

    def begin(self, job: Callable[[], Result]) -> None:
        """Begin a job; the one before has to be done."""
        self._result: Result | None = None
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._result = job()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def result(self) -> Result | None:
        """Return what the job has returned, once, or raise what it raised; None while it is not done."""
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread = None
        if self._error:
            raise self._error
        return self._result


def _signature(paths: Sequence[Path]) -> list[tuple[str, int, int, int]]:
    """Return what tells one state of the files from another."""
    signature = []
    for path in files_of(paths):
        try:
            status = path.stat()
        except (OSError, ValueError):
            signature.append((str(path), 0, 0, 0))
        else:
            signature.append((str(path), status.st_mtime_ns, status.st_size, status.st_ino))
    return signature
