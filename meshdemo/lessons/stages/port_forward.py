"""One `kubectl port-forward`, started again when it ends, as it does when its pod goes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence

from meshdemo.console import signals
from meshdemo.console.processes import end_process
from meshdemo.errors import StartError
from meshdemo.escaping import printable

_OPEN_SECONDS = 30
_POLL_SECONDS = 0.05
_PAUSE_SECONDS = 1.0
_LONGEST_OUTPUT = 65536
# "Forwarding from 127.0.0.1:3030 -> 3030". Where another program has the port there, only [::1] may be named.
_OPENED = re.compile(r"^Forwarding from 127\.0\.0\.1:(\d+) ", re.MULTILINE)


class PortForward:
    """`kubectl` with `arguments`, which forward ports of this machine: `3030:80`, or `:80` for any."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = list(arguments)
        self._file = tempfile.TemporaryFile("a+b")  # noqa: SIM115  (it is open as long as this lives)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        #: The ports of this machine, once they are open.
        self.ports: list[int] = []

    def open(self) -> None:
        """Return when all ports are open; raise StartError with kubectl's reason when they cannot be."""
        self._start()
        wanted = sum(":" in word or word.isdigit() for word in self._arguments)
        deadline = time.monotonic() + _OPEN_SECONDS
        while len(self.ports) < wanted:
            if self._has_ended or time.monotonic() > deadline:
                lines = [printable(line.strip()) for line in self._output().splitlines() if line.strip()]
                reason = "; ".join(lines) or "it does not say that its ports are open"
                self.close()
                raise StartError(f"kubectl {shlex.join(self._arguments)}: {reason}")
            time.sleep(_POLL_SECONDS)
            self.ports = [int(port) for port in _OPENED.findall(self._output())]

    def look_after(self) -> None:
        """Start it again when it has ended, at most once a second."""
        if self._has_ended and time.monotonic() > self._started + _PAUSE_SECONDS:
            chosen = iter(self.ports)
            self._arguments = [f"{next(chosen)}{word}" if word[:1] == ":" else word for word in self._arguments]
            self._start()

    def close(self) -> None:
        """End it."""
        if self._process:
            end_process(self._process)

    @property
    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _start(self) -> None:
        self._started = time.monotonic()
        self._file.truncate(0)
        with signals.held():
            self._process = subprocess.Popen(
                ["kubectl", *self._arguments],  # noqa: S607
                stdin=subprocess.DEVNULL,
                stdout=self._file,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl+C is this program's
            )

    def _output(self) -> str:
        """Return what it has written so far, and leave alone where it goes on writing."""
        return os.pread(self._file.fileno(), _LONGEST_OUTPUT, 0).decode("utf-8", "replace")
