"""A connection to a port where nobody speaks HTTP, and what is said there."""

from __future__ import annotations

import socket
import time

# How long a connection may take to say something, and how long after that it may go on.
_SILENT_SECONDS = 5.0
_MORE_SECONDS = 0.5
_MOST_BYTES = 64 * 1024
# What is said where there is nothing to say: a sidecar lets everybody connect, and judges by the first bytes.
_FIRST_WORD = b"\n"


def talk(at: tuple[str, int], data: bytes) -> tuple[str, str | None]:
    """Send data, at least a line, over a connection of its own; return what is said there, and why that is nothing."""
    said = bytearray()
    try:
        with socket.create_connection(at, _SILENT_SECONDS) as connection:
            connection.sendall(data or _FIRST_WORD)
            deadline = time.monotonic() + _SILENT_SECONDS
            while len(said) < _MOST_BYTES and time.monotonic() < deadline:
                part = connection.recv(_MOST_BYTES)
                if not part:
                    break
                said += part
                connection.settimeout(_MORE_SECONDS)
    except TimeoutError:
        return said.decode("utf-8", "replace"), None if said else f"nothing was said for {_SILENT_SECONDS:g} s"
    except OSError as error:
        return said.decode("utf-8", "replace"), None if said else (error.strerror or str(error)).lower()
    return said.decode("utf-8", "replace"), None if said else "the connection was closed without a word"
