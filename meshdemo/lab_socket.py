"""Asking a lab that runs: HTTP over the Unix socket in its folder, JSON in both directions.

What the lab answers is in meshdemo/lab/door/door.py. This needs nothing of the lab, so that its pods can ask it, too.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: The name of the socket in the folder of a lab, and what the names of such folders begin with.
NAME, FOLDER_PREFIX = "lab", "meshdemo-"
_MOST_BYTES = 16 * 1024 * 1024


class LabSocketError(Exception):
    """The lab does not answer, or not with what was asked for; `str()` says why in one line."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("lab", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, method: str, target: str, value: Any = None, *, timeout_seconds: float = 10.0) -> Any:
    """Return what the lab at the socket `path` answers to a request with `value` as its body, both of JSON.

    Raise LabSocketError, with the lab's own words where it refuses.
    """
    connection = _Connection(path, timeout_seconds)
    try:
        body = None if value is None else json.dumps(value)
        connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        answer = json.loads(response.read(_MOST_BYTES))
    except TimeoutError:
        raise LabSocketError(f"the lab gave no answer for {timeout_seconds:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LabSocketError(f"the lab does not answer: {reason.lower()}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise LabSocketError(str(answer.get("error") if isinstance(answer, dict) else answer))
    return answer


def find_sockets() -> Iterator[Path]:
    """Yield the sockets of this user's labs, those that have just ended among them."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):  # noqa: S108
        for path in sorted(Path(parent).glob(f"{FOLDER_PREFIX}*/{NAME}")):
            try:
                found = path.stat()
            except OSError:  # somebody else's, or gone
                continue
            if stat.S_ISSOCK(found.st_mode) and found.st_uid == os.getuid():
                yield path
