"""Reading requests on waitress as RFC 9112 has them, their bodies cut to size."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented, get_header_lines
from waitress.receiver import ChunkedReceiver
from waitress.utilities import Error

from meshdemo.serving import wsgi

_START_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^ ]+) HTTP/([0-9])\.[0-9]")
# A name or address, perhaps empty, and a port (RFC 9110, 7.2, and RFC 3986, 3.2.2); two fields are joined by a space.
_HOST = re.compile(r"(?:\[[0-9A-Fa-fv:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
_CONTROL_CHARACTER = re.compile(rb"[\0-\x1f\x7f]")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")

# What the first line of a chunk, and the trailers of a body, may hold; waitress lets both grow without an end.
_CHUNK_LINE_LIMIT_BYTES = 4096
_TRAILER_LIMIT_BYTES = 64 * 1024
# Nobody can send a chunk as large as this, and others read its size as another number.
_CHUNK_LIMIT_BYTES = 2**63


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


class _RefusedError(Error):
    """Why a request is refused: a status and a sentence."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.reason = status.value, status.phrase


class RequestParser(HTTPRequestParser):
    """Reads a request, and refuses what is none, or what could be read in two ways.

    Waitress answers a request without a version, or in one that is not HTTP/1; CONNECT; no Host, two or a wrong one. It
    waits for ever behind a line that ends in a line feed alone. What it does with an expectation is right only where a
    body is still to come.
    """

    completed: bool
    headers_finished: bool
    #: Of a request that is refused, as far as it was understood.
    command = "-"
    request_uri = "-"

    def parse_header(self, header_plus: bytes) -> None:
        start_line, _, fields = header_plus.partition(b"\r\n")
        match = _START_LINE.fullmatch(start_line.rstrip())
        if not match:
            raise ParsingError("the first line is not METHOD TARGET HTTP/1.1")
        method, target, major_version = match.groups()
        self.command, self.request_uri = method.decode(), target.decode("latin-1")
        if major_version != b"1":
            self.error = _RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this server speaks HTTP/1.1")
            return
        if _CONTROL_CHARACTER.search(target):
            raise ParsingError("the target has a control character")
        if target == b"*" and method != b"OPTIONS":
            raise ParsingError("the target * is for OPTIONS")
        if b"transfer-encoding" in fields.lower():
            self._check_framing(start_line, fields)
        try:
            super().parse_header(header_plus)
        except ValueError:  # from urlsplit, for a target such as http://[, and from int
            raise ParsingError("wrong target or Content-Length") from None
        self._check_host()
        if method == b"CONNECT":
            self.error = _RefusedError(HTTPStatus.NOT_IMPLEMENTED, "this server makes no tunnels")
        if self.version == "1.1" and self.headers.get("EXPECT", "100-continue").lower() != "100-continue":
            sentence = "the one expectation that is met is 100-continue"
            self.error = _RefusedError(HTTPStatus.EXPECTATION_FAILED, sentence)
        if self.error:
            self.body_rcv = None  # which the client may not send before it has an answer
        if self.body_rcv is None:
            self.expect_continue = False  # else waitress sends 100, and never an answer
        else:
            self.body_rcv.buf = _Body(self.body_rcv.buf)

    def _check_host(self) -> None:
        """Refuse a request that does not say once, and rightly, whom it is for (RFC 9112, 3.2)."""
        if "HOST" not in self.headers and self.version != "1.0":
            raise ParsingError("Host is missing")
        if not _HOST.fullmatch(self.headers.get("HOST", "")):
            raise ParsingError("Host is not one name or address with a port")

    def _check_framing(self, start_line: bytes, fields: bytes) -> None:
        """Take a body in chunks only where it is the one way to read the request (RFC 9112, 6.1 and 6.3).

        Chunked is to be there once and last. A server may refuse a length beside it, and should refuse the field
        in a version of HTTP that has none; waitress takes both, and keeps the connection.
        """
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
        if not self.completed and not self.headers_finished and b"\n" in data:
            begun = self.header_plus.lstrip()
            if _BARE_LINE_FEED.search(begun, max(0, len(begun) - len(data))):
                self.error = _RefusedError(HTTPStatus.BAD_REQUEST, "a line ends in a line feed alone")
                self.completed = True
        body = self.body_rcv
        if isinstance(body, ChunkedReceiver) and (
            len(body.control_line) > _CHUNK_LINE_LIMIT_BYTES
            or len(body.trailer) > _TRAILER_LIMIT_BYTES
            or body.chunk_remainder >= _CHUNK_LIMIT_BYTES
        ):
            self.error = _RefusedError(HTTPStatus.BAD_REQUEST, "a chunk, its first line or the trailers are too long")
            self.completed = True
        return consumed
