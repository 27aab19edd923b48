"""Connections to the upstream that end at a deadline and send the request target as it is.

Requests and urllib3 do the work; what is added here is what they lack: a bound on the sum of all waits, name
resolution included, a bound on the bytes, and a request target that is not rewritten on its way.
"""

from __future__ import annotations

import http.client
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: What may come over the wire for one answer, in bytes: interim answers and trailers have no limit of their own, and
#: 1 MiB in chunks of one byte takes 6 MiB.
WIRE_LIMIT_BYTES = 8 * 1024 * 1024
#: Carries the request target past urllib3, which would change the case of its percent-encoding and drop `..`. The
#: name is HTTP/2's; no HTTP/1 header can have it, and it never reaches the wire.
TARGET = ":path"
#: HOST1, PORT1, HOST2, PORT2, as in curl's option --connect-to: a connection to the first two goes to the others.
#: An empty host or a port of 0 means any in the first pair, and what the URL has in the second.
ConnectTo = tuple[str, int, str, int]


# How much later than its deadline a wait may end: setting a socket's timeout is a system call, and a third of them
# can be saved.
_SLACK_SECONDS = 0.02


class TooLargeError(Exception):
    """More arrived than an answer may hold."""


# Origins whose connections are kept in mind; redirects may lead to any number.
_POOLS = 10


class ProtocolSwitchError(Exception):
    """The answer was 101, though nothing but HTTP/1.1 had been offered."""


class EarlyAnswerError(Exception):
    """Something arrived on a new connection before the request was sent."""


class StaleConnectionError(ConnectionResetError):
    """A kept connection was closed by the other side before it brought anything of this answer."""


def origin_of(url: str) -> str:
    """Return scheme and authority of an absolute URL: `http://webserver:80`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class _Reader(io.RawIOBase):
    """Reads a socket until a deadline (time.monotonic) and up to a number of bytes.

    The timeout of a socket bounds each wait, not their sum: one byte a second would hold a thread for ever.
    """

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, deadline: float) -> None:
        self._sock = sock
        self._raw = raw
        self._deadline = deadline
        self._left = WIRE_LIMIT_BYTES
        self._limited_at = time.monotonic()  # urllib3 has just set the socket's timeout
        self._ended = False

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
        count = self._raw.readinto(buffer)
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


class _Response(http.client.HTTPResponse):
    """A response behind any number of interim ones, which knows whether its end is beyond doubt.

    http.client takes every 1xx but 100 for the answer, so that the real one would stay for the next request.
    """

    #: Whether the response was read to its end, which only one rule gives, and nothing came behind it.
    is_complete = False

    def __init__(self, sock: socket.socket, deadline: float, **options: Any) -> None:
        super().__init__(sock, **options)
        self._reader = _Reader(sock, self.fp.detach(), deadline)
        self.fp = io.BufferedReader(self._reader)

    def _read_status(self) -> tuple[str, int, str]:
        """Return the status line of the final response (RFC 9110, 15.2)."""
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                raise ProtocolSwitchError
            if not 100 <= status <= 199:
                return version, status, reason
            http.client.parse_headers(self.fp)

    def begin(self) -> None:
        super().begin()
        lengths = self.headers.get_all("Content-Length", [])
        codings = self.headers.get_all("Transfer-Encoding", [])
        if len(lengths) + len(codings) > 1:
            self.will_close = True  # what one rule leaves over, another counts to the body (RFC 9112, 6.3)

    def _close_conn(self) -> None:
        """Close the response, but not the connection; http.client calls it at the end of the body."""
        self._reader.end()
        self.is_complete = (self.chunked or not self.length) and not self.fp.peek(1)
        super()._close_conn()  # type: ignore[misc]


def _resolve(host: str, port: int, seconds: float) -> list[Any]:
    """Return what getaddrinfo does, within `seconds`: the system's resolver takes no timeout, so a thread waits.

    An address needs no resolver, and so no thread, which would take 0.25 ms of a call's 1 ms.
    """
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass  # a name
    results: queue.SimpleQueue[list[Any] | OSError | UnicodeError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            results.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            results.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        result = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(result, Exception):
        raise result
    return result


class _BoundedConnection(urllib3.connection.HTTPConnection):
    """A connection that sends the request target as it is and ends each exchange at its deadline.

    It is used again only when its last response is complete and nothing more has arrived when the next request is about
    to be sent. HTTP/1.1 numbers no requests (RFC 9112, 9.2), so one thing cannot be known: whether an answer that
    arrives after that moment was meant for an earlier request. An upstream that sends more than one answer to a request
    can thus deceive the next caller; without keep-alive there is none.
    """

    _deadline = 0.0
    _response: _Response | None = None  # the last one on this connection
    _is_reused = False

    def __init__(self, *args: Any, connect_to: Sequence[ConnectTo] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self._connect_to = connect_to

    # Before each of connect, request and getresponse urllib3 sets `self.timeout` to what is left of the call, in
    # seconds. A pool connects TLS connections before their first request; others connect in request.

    def connect(self) -> None:
        self._response = None
        self._set_deadline()
        super().connect()

    def _set_deadline(self) -> None:
        self._deadline = time.monotonic() + float(self.timeout or 0)

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        """Send a request."""
        fields = dict(headers or {})
        target = fields.pop(TARGET, url)
        may_reuse = fields.get("Connection") != "close" and self._response is not None and self._response.is_complete
        self._is_reused = may_reuse and self._received() is None
        if self._is_reused:
            self._set_deadline()
        else:
            if self._response is not None:
                self.close()
            if self.sock is None:
                self.connect()
            if self._received():
                raise EarlyAnswerError
        self.sock.settimeout(max(0.001, self._deadline - time.monotonic()))
        try:
            super().request(method, target, body=body, headers=fields, **options)
        except ConnectionResetError as error:
            raise self._reset(error) from error

    def _received(self) -> bytes | None:
        """Return what has arrived, a byte of it at most: b"" when the other side has closed, None when nothing has."""
        if self.sock is None:
            return b""
        self.sock.settimeout(0)
        try:
            return self.sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            return b""

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        """Return the response, its body still to be read."""
        self._set_deadline()
        try:
            return super().getresponse()
        except BaseException as error:
            if self._response is not None:
                self._response.close()  # it holds the socket where its headers end the connection
            if isinstance(error, ConnectionResetError | BrokenPipeError):
                raise self._reset(error) from error
            raise

    def _reset(self, error: OSError) -> OSError:
        return StaleConnectionError() if self._is_reused else error

    def _endpoint(self) -> tuple[str, int]:
        """Return the host and port to connect to; everything else, TLS as well, goes by those of the URL."""
        for host, port, other_host, other_port in self._connect_to:
            if host.lower() in ("", self.host.lower()) and port in (0, self.port):
                return other_host or self._dns_host, other_port or self.port
        return self._dns_host, self.port

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that accepts, leaving each of the others its share of the time."""
        host, port = self._endpoint()
        addresses = _resolve(host, port, self._deadline - time.monotonic())
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(max(0.001, (self._deadline - time.monotonic()) / (len(addresses) - tried)))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if len(addresses) > 1:
                    sock.settimeout(max(0.001, self._deadline - time.monotonic()))
                return sock
            except OSError:
                sock.close()
                if tried + 1 == len(addresses):
                    raise
        raise socket.gaierror(socket.EAI_NONAME, "no address")

    def response_class(  # type: ignore[override]
        self, sock: socket.socket, **options: Any
    ) -> http.client.HTTPResponse:
        """Return the response that http.client reads, from a reader that knows the deadline."""
        self._response = _Response(sock, self._deadline, **options)
        return self._response


class _BoundedTLSConnection(_BoundedConnection, urllib3.connection.HTTPSConnection):
    """The same over TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _BoundedConnection


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _BoundedTLSConnection


class BoundedAdapter(HTTPAdapter):
    """Requests' own adapter with the connections above, and one TLS context, since each new one loads every CA.

    The first of `connect_to` that fits says where a connection goes. Pools are still by the origin of the URL, so that
    two hosts that end at one endpoint share no connection.
    """

    def __init__(self, *, connect_to: Sequence[ConnectTo] = (), **options: Any) -> None:
        self._connect_to = tuple(connect_to)
        super().__init__(**options)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        self._pools: dict[str, Any] = {}
        super().init_poolmanager(*args, **options)
        # A pool hands what it does not know to its connections.
        self.poolmanager.pool_classes_by_scheme = {
            scheme: partial(pool, connect_to=self._connect_to)
            for scheme, pool in (("http", _Pool), ("https", _TLSPool))
        }

    @cached_property
    def _tls_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        host, options = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, options | ({"ssl_context": self._tls_context} if host["scheme"] == "https" else {})

    def get_connection_with_tls_context(self, request: Any, *args: Any, **options: Any) -> Any:
        """Return the pool for a request, found by its origin: the base class makes a key of 27 parts each time."""
        origin = origin_of(request.url)
        pool = self._pools.get(origin)
        if pool is None:
            if len(self._pools) >= _POOLS:
                self._pools.clear()
            pool = super().get_connection_with_tls_context(request, *args, **options)
            self._pools[origin] = pool
        return pool

    def request_url(self, *_: Any) -> str:
        """Return what urllib3 may rewrite as it likes: the connection sends the target that TARGET carries."""
        return "/"

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        """Return the response as the base class does, but without cookies, which nobody here wants."""
        response = requests.Response()
        response.status_code = resp.status
        response.headers = CaseInsensitiveDict(resp.headers)
        response.raw = resp
        response.reason = resp.reason
        response.url = req.url
        response.request = req
        return response

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave it to the context, which verifies."""
