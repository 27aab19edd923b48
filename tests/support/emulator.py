"""A terminal to run a command in: a pseudo terminal, and an emulator that tells what a person would see."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

import pyte
from support import ROOT


class _Screen(pyte.Screen):
    """A screen that counts the lines that leave it at the top, and knows how long a line was meant to be."""

    scrolled = 0

    def index(self):
        _, bottom = self.margins or (0, self.lines - 1)
        self.scrolled += self.cursor.y == bottom
        super().index()


class Terminal:
    """A command that runs in a window of `columns` and `rows`; read() until something is there, or until it ends."""

    def __init__(self, *args, columns=80, rows=24, term="xterm", environment=(), cwd=ROOT):
        self.screen = _Screen(columns, rows)
        self._stream = pyte.Stream(self.screen)
        self.output = b""
        self._master, slave = pty.openpty()
        self._set_size(columns, rows)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "meshdemo", *args], stdin=slave, stdout=slave, stderr=slave, cwd=cwd,
            env={**os.environ, "TERM": term, "PYTHONUTF8": "1", **dict(environment)}, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.frames = []

    def _set_size(self, columns, rows):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns, rows):
        """Change the window, and what the command is told of it, at once."""
        self._set_size(columns, rows)
        self.screen.resize(rows, columns)

    @property
    def lines(self):
        """What stands on the screen, without spaces at the ends of lines."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self):
        return "\n".join(self.lines).rstrip("\n")

    def read(self, until=lambda terminal: False, seconds=20):
        """Feed what the command writes to the screen until `until(self)`, or its end; keep each different picture."""
        deadline = time.monotonic() + seconds
        while not until(self):
            left = deadline - time.monotonic()
            assert left > 0, f"waited {seconds} s at:\n{self.text}"
            if not select.select([self._master], [], [], left)[0]:
                continue
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the command has ended
                data = b""
            if not data:
                break
            self.output += data
            self._stream.feed(data.decode("utf-8", "replace"))
            if not self.frames or self.frames[-1] != self.lines:
                self.frames.append(self.lines)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        os.close(self._master)
