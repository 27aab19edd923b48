"""One connection on waitress: its requests framed as RFC 9112 says, their bodies cut to size, answers in one packet."""

from __future__ import annotations

import socket
import time
from typing import Any

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented, get_header_lines
from waitress.receiver import ChunkedReceiver
from waitress.task import WSGITask
from waitress.utilities import BadRequest

from meshdemo.serving import wsgi

# What the first line of a chunk, and the trailers of a body, may hold; waitress lets both grow without an end.
_CHUNK_LINE_LIMIT_BYTES = 4096
_TRAILER_LIMIT_BYTES = 64 * 1024

# A request that waited longer than this for a thread is not begun when its client has left meanwhile.
_PATIENCE_SECONDS = 0.5


class _Body:
    """A request body that keeps no more than is allowed but counts it all.

    Waitress refuses a large body by closing the connection while the client still sends, and the client then sees
    a reset instead of the answer. This lets the application answer 413 by CONTENT_LENGTH.
    """

    def __init__(self, kept: Any) -> None:
        self._kept = kept
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, data: bytes) -> None:
        self._length += len(data)
        if self._length <= wsgi.BODY_LIMIT_BYTES:
            self._kept.append(data)

    def getfile(self) -> Any:
        return self._kept.getfile()

    def close(self) -> None:
        self._kept.close()


class _Parser(HTTPRequestParser):
    """Reads a request, and refuses what could be read in two ways: what follows it might be taken for another one."""

    completed: bool

    def parse_header(self, header_plus: bytes) -> None:
        if b"transfer-encoding" in header_plus.lower():
            self._check_framing(header_plus)
        try:
            super().parse_header(header_plus)
        except ValueError:  # from urlsplit, for a target such as http://[, and from int
            raise ParsingError("Bad URI or length") from None
        if self.body_rcv is not None:
            self.body_rcv.buf = _Body(self.body_rcv.buf)

    def _check_framing(self, header_plus: bytes) -> None:
        """Take a body in chunks only where it is the one way to read the request (RFC 9112, 6.1 and 6.3).

        Chunked is to be there once and last. A server may refuse a length beside it, and should refuse the field
        in a version of HTTP that has none; waitress takes both, and keeps the connection.
        """
        start_line, _, fields = header_plus.partition(b"\r\n")
        values: dict[bytes, list[bytes]] = {}
        for line in get_header_lines(fields):
            name, _, value = line.partition(b":")
            values.setdefault(name.lower(), []).append(value)
        if b"transfer-encoding" not in values:
            return
        if b"content-length" in values:
            raise ParsingError("Both Content-Length and Transfer-Encoding")
        if not start_line.rstrip().endswith(b" HTTP/1.1"):
            raise ParsingError("Transfer-Encoding in a version without it")
        elements = b",".join(values[b"transfer-encoding"]).split(b",")
        codings = [coding for element in elements if (coding := element.strip(b" \t").lower())]
        if codings[-1:] != [b"chunked"] or codings.count(b"chunked") > 1:
            raise ParsingError("Transfer-Encoding does not end with the only chunked")
        if len(codings) > 1:
            raise TransferEncodingNotImplemented("Transfer-Encoding requested is not supported.")

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        body = self.body_rcv
        if isinstance(body, ChunkedReceiver) and (
            len(body.control_line) > _CHUNK_LINE_LIMIT_BYTES or len(body.trailer) > _TRAILER_LIMIT_BYTES
        ):
            self.error = BadRequest("Chunk line or trailers too long")
            self.completed = True
        return consumed


def _has_left(sock: socket.socket) -> bool:
    """Tell whether the other side has closed; one that only stops sending looks the same, until it is written to."""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


class _Task(WSGITask):
    wrote_header: bool

    def execute(self) -> None:
        """Call the application, unless the request waited for a thread and its client has left."""
        waited_seconds = time.time() - self.channel.last_activity
        if waited_seconds > _PATIENCE_SECONDS and _has_left(self.channel.socket):
            raise ClientDisconnected
        super().execute()

    def write(self, data: bytes) -> None:
        """Send the header together with a whole body: waitress sends two packets, and wakes the client twice."""
        if self.complete and not self.wrote_header:
            header = self.build_response_header()
            self.wrote_header = True
            if self.has_body and data and len(data) == self.content_length:
                self.content_bytes_written = len(data)
                self.channel.write_soon(header + data)
                return
            self.channel.write_soon(header)
        super().write(data)

    def build_response_header(self) -> bytes:
        if self.channel.server.draining:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header


class Channel(HTTPChannel):
    """A connection of a client."""

    parser_class = _Parser
    task_class = _Task
    #: How long shutting down has waited for its client, in seconds.
    waited_seconds = 0.0
