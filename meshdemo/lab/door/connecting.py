"""A connection to a port where nobody speaks HTTP, and what is said there."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

# How long a connection may take to say something, and how long after that it may go on.
_SILENT_SECONDS = 5.0
_MORE_SECONDS = 0.5
_MOST_BYTES = 64 * 1024
# What is said where there is nothing to say, in empty lines: a sidecar lets everybody connect, and judges by the first
# bytes. It waits for five of them where it has to see whether they are TLS (RFC 8446, 5.1: the header of a record).
_FIRST_WORD = b"\n" * 5


@dataclass(frozen=True)
class Said:
    """What was said, or why nothing, and the caller's end of the connection, as `127.0.0.1:40000`, if there was one."""

    text: str
    error: str | None
    local: str = ""


def talk(at: tuple[str, int], data: bytes) -> Said:
    """Send data, at least empty lines, over a connection of its own, and return what is said there."""
    said, local, error = bytearray(), "", "the connection was closed without a word"
    try:
        with socket.create_connection(at, _SILENT_SECONDS) as connection:
            local = "{}:{}".format(*connection.getsockname()[:2])
            connection.sendall(data or _FIRST_WORD)
            deadline = time.monotonic() + _SILENT_SECONDS
            while len(said) < _MOST_BYTES and time.monotonic() < deadline:
                part = connection.recv(_MOST_BYTES)
                if not part:
                    break
                said += part
                connection.settimeout(_MORE_SECONDS)
    except TimeoutError:
        error = f"nothing was said for {_SILENT_SECONDS:g} s"
    except OSError as problem:
        error = (problem.strerror or str(problem)).lower()
    return Said(said.decode("utf-8", "replace"), None if said else error, local)
