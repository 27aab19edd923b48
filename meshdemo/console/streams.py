"""Standard output and error that never hold anybody up: closed, full or unread, they cost lines and nothing else."""

from __future__ import annotations

import atexit
import errno
import io
import os
import select
import sys
import threading
import time
from typing import NoReturn

#: What may wait to be written to one stream, in bytes; lines beyond it are counted and dropped.
WAITING_LIMIT_BYTES = 1024 * 1024
_LAST_WORDS_SECONDS = 1.0
# Lines that come within this time are written together, since waking a thread costs more than a line.
_GATHERING_SECONDS = 0.005


def open_missing() -> None:
    """Open the null device for each standard stream that was closed: a socket would take its number otherwise."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


class Writer(io.TextIOBase):
    """A text stream on an open file that is written to by a thread of its own, so that `write` returns at once.

    Lines appear in the order in which they came. Those that find no room, or that the file does not take, are counted,
    and their number is written as soon as the file takes something again.

    logging's QueueListener on a bounded queue does most of it, but its bound is a number of lines of any length, `stop`
    waits for ever where nobody reads, and what is lost is told nowhere.
    """

    def __init__(self, file_number: int, encoding: str = "utf-8") -> None:
        self._file_number = file_number
        self._encoding = encoding
        self._changed = threading.Condition()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._lost_lines = 0
        self._is_writing = False
        self._thread: threading.Thread | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file_number

    def isatty(self) -> bool:
        return os.isatty(self._file_number)

    def write(self, text: str) -> int:
        """Take one or more whole lines, or parts of one that follow each other in one thread."""
        data = text.encode(self._encoding, "backslashreplace")
        with self._changed:
            if self._waiting_bytes + len(data) > WAITING_LIMIT_BYTES:
                self._lost_lines += data.count(b"\n")
            elif data:
                self._waiting.append(data)
                self._waiting_bytes += len(data)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="standard stream", daemon=True)
                    self._thread.start()
                if len(self._waiting) == 1:
                    self._changed.notify_all()
        return len(text)

    def finish(self, deadline: float) -> None:
        """Wait until everything is written, or until a time of time.monotonic."""
        with self._changed:
            while (self._waiting or self._is_writing) and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                while not self._waiting:
                    self._changed.wait()
            time.sleep(_GATHERING_SECONDS)
            with self._changed:
                data, lost_lines = b"".join(self._waiting), self._lost_lines
                self._waiting, self._waiting_bytes, self._lost_lines = [], 0, 0
                self._is_writing = True
            if lost_lines:
                data += b"meshdemo: %d earlier lines are lost, since nobody took them\n" % lost_lines
            unwritten = self._write_all(data)
            if unwritten:
                with self._changed:
                    self._lost_lines += unwritten.count(b"\n")
                    if lost_lines:  # then the last line is the one above, which stands for others
                        self._lost_lines += lost_lines - 1

    def _write_all(self, data: bytes) -> bytes:
        """Write everything, waiting as long as it takes, and return what the file did not take."""
        while data:
            try:
                data = data[os.write(self._file_number, data) :]
            except BlockingIOError:  # whoever opened it chose so
                select.select([], [self._file_number], [])
            except OSError:
                break
        return data


def unblock(*names: str) -> None:
    """Put a Writer in the place of the named standard streams, or of both, for all that this process writes to them."""
    for name in names or ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Writer):
            stream.flush()
            setattr(sys, name, Writer(stream.fileno(), stream.encoding))
    atexit.register(finish)


def exit_if_disk_is_full(error: OSError) -> NoReturn:
    """End the program where a disk was full, be it that of standard output; raise any other error again."""
    if error.errno != errno.ENOSPC:
        raise error
    sys.stdout = io.StringIO()  # what is left in the buffer would fail again at the end of the process
    sys.exit(f"Error: {error.filename or 'what is to be written'}: no space left on device.")


def finish() -> None:
    """Wait until everything is written, a second at most: who has not read by then will not."""
    deadline = time.monotonic() + _LAST_WORDS_SECONDS
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Writer):
            stream.finish(deadline)
