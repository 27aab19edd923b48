"""Reading a response until a deadline, up to a number of bytes, and past any number of interim ones."""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: What may come over the wire for one answer, in bytes: interim answers and trailers have no limit of their own, and
#: 1 MiB in chunks of one byte takes 6 MiB.
WIRE_LIMIT_BYTES = 8 * 1024 * 1024

# How much later than its deadline a wait may end: setting a socket's timeout is a system call, and a third of them
# can be saved.
_SLACK_SECONDS = 0.02
# How much of a line is read at a time.
_LINE_BYTES = 64 * 1024


class TooLargeError(Exception):
    """More arrived than an answer may hold."""


class ProtocolSwitchError(Exception):
    """The answer was 101, though nothing but HTTP/1.1 had been offered."""


class _Reader(io.RawIOBase):
    """Reads a socket until a deadline (time.monotonic) and up to a number of bytes.

    The timeout of a socket bounds each wait, not their sum: one byte a second would hold a thread for ever. A watchdog
    that shuts the socket at the deadline would make an answer that ends with its connection look whole.
    """

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, deadline: float) -> None:
        self._sock = sock
        self._raw = raw
        self._deadline = deadline
        self._left = WIRE_LIMIT_BYTES
        self._limited_at = time.monotonic()  # urllib3 has just set the socket's timeout
        self._ended = False
        #: Whether a TLS connection ended without its closing alert, so perhaps too early (RFC 9112, 9.8).
        self.is_cut_off = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if self._ended:
            return None
        now = time.monotonic()
        if now >= self._deadline:
            raise TimeoutError
        if now > self._limited_at + _SLACK_SECONDS:
            self._sock.settimeout(self._deadline - now)
            self._limited_at = now
        try:
            count = self._raw.readinto(buffer)
        except ssl.SSLEOFError:
            self.is_cut_off = True
            return 0
        self._left -= count or 0
        if self._left < 0:
            raise TooLargeError
        return count

    def end(self) -> None:
        """Read nothing more from the socket."""
        self._ended = True

    def close(self) -> None:
        self._raw.close()
        super().close()


class _LineReader(io.BufferedReader):
    """Takes no line for one that the end of the connection has cut off, as http.client does."""

    #: Whether anything of an answer has been read: until then, an end is no part of one.
    has_begun = False

    def readline(self, size: int | None = -1) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n") and len(line) != size and (line or self.has_begun):
            raise http.client.IncompleteRead(line)
        self.has_begun = True
        return line


class BoundedResponse(http.client.HTTPResponse):
    """A response behind any number of interim ones, which is whole, and knows whether its end is beyond doubt.

    http.client takes every 1xx but 100 for the answer, so that the real one would stay for the next request, and the
    end of the connection for the end of the headers.
    """

    fp: _LineReader

    #: Whether the response was read to its end, which only one rule gives, and nothing came behind it.
    is_complete = False

    def __init__(self, sock: socket.socket, deadline: float, is_last: bool, **options: Any) -> None:
        super().__init__(sock, **options)
        self._is_last = is_last
        self._reader = _Reader(sock, self.fp.detach(), deadline)
        self.fp = _LineReader(self._reader)

    def _read_status(self) -> tuple[str, int, str]:
        """Return the status line of the final response (RFC 9110, 15.2)."""
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                raise ProtocolSwitchError
            if not 100 <= status <= 199:
                return version, status, reason
            while self.fp.readline(_LINE_BYTES) not in (b"\r\n", b"\n", b""):
                pass  # headers that nobody reads; parsing them takes many times as long
            self.fp.has_begun = False

    def begin(self) -> None:
        super().begin()
        length = self.headers.get("Content-Length", "0")
        if not self.chunked and not re.fullmatch(r"[0-9]{1,18}", length.strip(" \t")):
            # RFC 9112, 6.3; http.client reads to the end of the connection where int() takes no so long text.
            raise http.client.HTTPException("Content-Length that is no number")
        # Where two rules say how long the body is, what one leaves over another counts to it (RFC 9112, 6.3).
        rules = [name for name in self.headers if name.lower() in ("content-length", "transfer-encoding")]
        if self._is_last or len(rules) > 1:
            self.will_close = True

    def _close_conn(self) -> None:
        """Close the response, but not the connection; http.client calls it at the end of the body."""
        if self._reader.is_cut_off and not self.chunked and self.length is None:
            raise http.client.IncompleteRead(b"")
        self._reader.end()
        self.is_complete = (self.chunked or not self.length) and not self.fp.peek(1)
        super()._close_conn()  # type: ignore[misc]
