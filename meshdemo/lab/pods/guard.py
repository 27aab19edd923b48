"""What leaves nothing behind: a process that outlives the lab, ends all that it started and removes its folder."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from meshdemo.errors import StartError

# Every process of the lab is in the group of this one's child, the leader. When the lab's end of standard input closes,
# also because the lab was killed, the group is killed and the folder removed. When this one is killed, the leader's
# pipe closes, and it kills its group itself.
_PROGRAM = """
import json, os, shutil, signal, sys, tempfile
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
ready, is_ready = os.pipe()
lives, living = os.pipe()
leader = os.fork()
if leader == 0:
    os.setpgid(0, 0)
    os.write(is_ready, b"x")
    for number in (0, 1, 2, ready, is_ready, living):
        os.close(number)
    os.read(lives, 1)
    os.killpg(0, signal.SIGKILL)
os.read(ready, 1)
folder = tempfile.mkdtemp(prefix=sys.argv[2], dir=sys.argv[1])
try:
    print(json.dumps([folder, leader]), flush=True)
    sys.stdin.read()
except OSError:
    pass
os.killpg(leader, signal.SIGKILL)
os.waitpid(leader, 0)
for _ in range(50):
    for inner in [each[0] for each in os.walk(folder)]:
        try:
            os.chmod(inner, 0o700)  # Go's modules are write-protected
        except OSError:
            pass
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.exists(folder):
        break
os._exit(0)
"""
# A Unix socket's path holds 107 characters at most.
_LONGEST_FOLDER = 60


class Guard:
    """A folder and a process group that end with this process, however it ends."""

    def __init__(self, parent: Path | None = None, prefix: str = "meshdemo-") -> None:
        """Make the folder in `parent`, or where temporary ones are; raise StartError."""
        temporary = tempfile.gettempdir()
        if parent is None:
            parent = Path(temporary if len(temporary) <= _LONGEST_FOLDER else "/tmp")  # noqa: S108
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, str(parent), prefix],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,
        )
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self.close()
            raise StartError(f"cannot make a folder in {parent}, or start a process that ends all others.")
        folder, group = json.loads(line)
        #: A folder that nobody else may look into.
        self.folder = Path(folder)
        #: The process group that everything started has to be in.
        self.group = int(group)

    def close(self) -> None:
        """End everything in the group at once, and remove the folder."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._process.wait()
