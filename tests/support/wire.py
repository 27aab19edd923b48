"""HTTP/1.1 byte by byte: what a client sends as it is, and the responses that come back."""

from __future__ import annotations

import contextlib
import re
import socket
from typing import NamedTuple


class Received(NamedTuple):
    """One response; `headers` have names in small letters."""

    version: str
    status: int
    headers: dict[str, str]
    body: bytes


def exchange(port: int, *pieces: bytes, silence: float = 1.0) -> tuple[bytes, bool]:
    """Send pieces, each in a packet of its own; return all that comes back, and whether the other side closed.

    Ends when the other side closes, or says nothing for `silence` seconds.
    """
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                connection.settimeout(10)
                connection.sendall(piece)
                connection.settimeout(0.005)
                with contextlib.suppress(TimeoutError):
                    answer += connection.recv(65536)
        except OSError:  # closed while this still sends
            pass
        connection.settimeout(silence)
        try:
            while more := connection.recv(65536):
                answer += more
        except TimeoutError:
            return answer, False
        except OSError:
            pass
    return answer, True


def parse_responses(data: bytes, *methods: str) -> list[Received]:
    """Return the responses in `data`, to requests with `methods` (GET where there are no more); fail for a rest."""
    responses = []
    pending = list(methods)
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"no whole response: {head[:200]!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"(HTTP/1\.[01]) ([0-9]{3}) [^\r\n]*", first)
        assert match, f"no status line: {first!r}"
        headers = {}
        for line in lines:
            name, colon, value = line.partition(": ")
            assert colon, f"no header: {line!r}"
            headers[name.lower()] = value
        status = int(match[2])
        method = "GET" if status < 200 or not pending else pending.pop(0)
        length = 0 if method == "HEAD" or status < 200 or status in (204, 304) else int(headers["content-length"])
        body, data = data[:length], data[length:]
        assert len(body) == length, f"{length} bytes announced, {len(body)} came"
        responses.append(Received(match[1], status, headers, body))
    return responses
