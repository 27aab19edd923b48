"""Connections to the upstream that end at a deadline and send the request target as it is.

Requests and urllib3 do the work; what is added here is what they lack: a bound on the sum of all waits, name
resolution included, another endpoint than the URL's where one is given, a request target that is not rewritten on its
way, and no use of a connection again that may still bring something.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from meshdemo.calling.resolver import resolve
from meshdemo.calling.response import BoundedResponse

#: Carries the request target past urllib3, which would change the case of its percent-encoding and drop `..`. The
#: name is HTTP/2's; no HTTP/1 header can have it, and it never reaches the wire.
TARGET = ":path"
#: HOST1, PORT1, HOST2, PORT2, as in curl's option --connect-to: a connection to the first two goes to the others.
#: An empty host or a port of 0 means any in the first pair, and what the URL has in the second.
ConnectTo = tuple[str, int, str, int]


class EarlyAnswerError(Exception):
    """Something arrived on a new connection, which is to be kept, before the request was sent."""


class StaleConnectionError(ConnectionResetError):
    """A kept connection was closed by the other side before it brought anything of this answer."""


def origin_of(url: str) -> str:
    """Return scheme and authority of an absolute URL: `http://webserver:80`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class _BoundedConnection(urllib3.connection.HTTPConnection):
    """A connection that sends the request target as it is and ends each exchange at its deadline.

    It is used again only when its last response is complete and nothing more has arrived when the next request is about
    to be sent. HTTP/1.1 numbers no requests (RFC 9112, 9.2), so one thing cannot be known: whether an answer that
    arrives after that moment was meant for an earlier request. An upstream that sends more than one answer to a request
    can thus deceive the next caller; without keep-alive there is none.
    """

    _deadline = 0.0
    _response: BoundedResponse | None = None  # the last one on this connection
    _is_last = False  # no further request on this connection, whatever the upstream thinks
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
        self._is_last = fields.get("Connection") == "close"
        self._is_reused = self._response is not None and self._response.is_complete and self._received() is None
        if self._is_reused:
            self._set_deadline()
        else:
            if self._response is not None:
                self.close()
            if self.sock is None:
                self.connect()
            # One that is for a single request has nobody else's answer, and a look takes two system calls.
            if not self._is_last and self._received():
                raise EarlyAnswerError
        self.timeout = max(0.001, self._deadline - time.monotonic())  # which urllib3 sets on the socket
        try:
            super().request(method, target, body=body, headers=fields, **options)
        except ConnectionResetError as error:
            raise self._reset(error) from error

    @property
    def is_connected(self) -> bool:
        """Tell the pool only whether there is a socket: `request` looks what has become of it, and once is enough."""
        return self.sock is not None

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
        host = host.replace("%25", "%", 1)  # the zone of an IPv6 address, in a URL (RFC 6874, 2)
        addresses = resolve(host, port, self._deadline - time.monotonic())
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
        self._response = BoundedResponse(sock, self._deadline, self._is_last, **options)
        return self._response


class _BoundedTLSConnection(_BoundedConnection, urllib3.connection.HTTPSConnection):
    """The same over TLS."""

    def connect(self) -> None:
        super().connect()
        sock: Any = self.sock
        sock.suppress_ragged_eofs = False  # whether it has ended too early is for the response to say


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _BoundedConnection


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _BoundedTLSConnection


class BoundedAdapter(HTTPAdapter):
    """Requests' own adapter with the connections above, and one TLS context, since each new one loads every CA.

    The first of `connect_to` that fits says where a connection goes. Pools are still by the origin of the URL, so that
    two hosts that end at one endpoint share no connection. Without `checks_certificates` any certificate will do.
    """

    def __init__(
        self, *, connect_to: Sequence[ConnectTo] = (), checks_certificates: bool = True, **options: Any
    ) -> None:
        self._connect_to = tuple(connect_to)
        self._checks_certificates = checks_certificates
        super().__init__(**options)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        # A pool hands what it does not know to its connections.
        self.poolmanager.pool_classes_by_scheme = {
            scheme: partial(pool, connect_to=self._connect_to)
            for scheme, pool in (("http", _Pool), ("https", _TLSPool))
        }

    @cached_property
    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)
        if not self._checks_certificates:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        host, options = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] != "https":
            return host, options
        kept = options if self._checks_certificates else {**options, "cert_reqs": "CERT_NONE"}
        return host, {**kept, "ssl_context": self._tls_context}

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
