"""Noticing that files change, and reading them beside everything else, so that nothing waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from meshdemo.lab.files.manifests import Say, say_no_answer, unheard
from meshdemo.lab.files.sources import SILENT_SECONDS, files_of

Result = TypeVar("Result")
#: What tells one state of the files from another.
Signature = list[tuple[str, int, int, int]]
# How long a look at files holds up everything else.
_LOOK_SECONDS = 0.2


class WatchedFiles:
    """The files of `paths`: whether they have changed since they were last said to have.

    As long as one of them gives no answer, as on a mount whose server is gone, all count as they were; `say` is told.
    """

    def __init__(self, paths: Sequence[Path], say: Say = unheard) -> None:
        self.paths = paths
        self._say = say
        self._pending: _Look | None = None
        self._latest: Signature = []
        self._seen = self._look()
        self._reported: Signature | None = self._seen

    @property
    def have_unreported_changes(self) -> bool:
        """Return whether the files are other ones than those last reported."""
        return self._look() != self._reported

    def hold(self, path: Path) -> bool:
        """Return whether a file is one of them."""
        return any(name == str(path) for name, *_ in self._look())

    def read_again(self) -> None:
        """Count the files as changed, whatever they are."""
        self._reported = None

    def have_changed(self) -> bool:
        """Return whether there is an edit that nobody was told of, once the files are not being written any more."""
        signature = self._look()
        settled, self._seen = signature == self._seen, signature
        if signature == self._reported or not settled:
            return False
        self._reported = signature
        return True

    def are_as_reported(self) -> bool:
        """Return whether they are as they were when an edit was told last: what was read since then counts."""
        return self._look() == self._reported

    def _look(self) -> Signature:
        look = self._pending
        if look is None or look.paths != self.paths:
            look = self._pending = _Look(self.paths)
            look.is_done.wait(_LOOK_SECONDS)
        if look.is_done.is_set():
            self._pending, self._latest = None, look.signature
        elif not look.is_said and time.monotonic() > look.started_at + SILENT_SECONDS:
            look.is_said = True
            say_no_answer(look.at, self._say)
        return self._latest


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


class _Look:
    """A look at files, in a thread of its own, since it may never end."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.at = paths[0] if paths else Path()
        self.signature: Signature = []
        self.is_done = threading.Event()
        self.is_said = False
        self.started_at = time.monotonic()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        for path in self.paths:
            self.at = path
            for file in files_of([path]):
                self.at = file
                self.signature.append(_signature(file))
        self.is_done.set()


def _signature(path: Path) -> tuple[str, int, int, int]:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return str(path), 0, 0, 0
    return str(path), status.st_mtime_ns, status.st_size, status.st_ino
