"""Ending a process that this program started."""

from __future__ import annotations

import subprocess
from typing import Any

_GRACE_SECONDS = 5.0


def end_process(process: subprocess.Popen[Any]) -> None:
    """End a process that may still run, by force where it does not end within some seconds, and close its streams."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
