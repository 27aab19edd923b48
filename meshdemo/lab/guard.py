"""What leaves nothing behind: a process that outlives the lab, ends all that it started and removes its folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Every process of the lab is in the group of this one's child. When the lab's end of the pipe closes, also because the
# lab was killed, the group is killed and the folder removed.
_PROGRAM = """
import os, shutil, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
read, write = os.pipe()
leader = os.fork()
if leader == 0:
    os.setpgid(0, 0)
    os.write(write, b"x")
    os.close(0)
    os.close(1)
    while True:
        signal.pause()
os.read(read, 1)
print(leader, flush=True)
sys.stdin.read()
os.killpg(leader, signal.SIGKILL)
os.waitpid(leader, 0)
for _ in range(50):
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    if not os.path.exists(sys.argv[1]):
        break
"""
# A Unix socket's path holds 107 characters at most.
_LONGEST_FOLDER = 60


class Guard:
    """A folder and a process group that end with this process, however it ends."""

    def __init__(self) -> None:
        short = len(tempfile.gettempdir()) <= _LONGEST_FOLDER
        self.folder = Path(tempfile.mkdtemp(prefix="meshdemo-", dir=None if short else "/tmp"))  # noqa: S108
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                process_group=0,
            )
            if self._process.stdout is None:
                raise RuntimeError("a process without its pipe")
            #: The process group that everything started has to be in.
            self.group = int(self._process.stdout.readline())
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def close(self) -> None:
        """End everything in the group at once, and remove the folder."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
