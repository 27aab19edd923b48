"""Calls that the lab makes for somebody who asks: from outside, or as the program in a pod would."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from meshdemo import __version__
from meshdemo.lab.door.connecting import talk
from meshdemo.lab.door.door import DoorError
from meshdemo.lab.envoy.xds.access_log import FLUSH_SECONDS
from meshdemo.lab.pods.pod import RunningPod
from meshdemo.lab.ways import PORTS, Ways, host_and_port, is_here
from meshdemo.lab.xray.facts.calls import Call
from meshdemo.lab.xray.facts.records import Record

if TYPE_CHECKING:
    from meshdemo.lab.lab import Lab

#: How long one call may take.
CALL_SECONDS = 60.0
#: What an Envoy has not logged after twice its own time for that does not come.
SETTLE_SECONDS = 2 * FLUSH_SECONDS
#: The scheme of what does not speak HTTP.
TCP = "tcp"
_MOST_BODY_BYTES = 1024 * 1024
# A request is refused that would be another one on the wire (RFC 9110, 5.6.2, 5.5 and 9.1).
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TARGET = re.compile(r"[\x21-\x7e]+")
_SERVER_NAME = re.compile(r"([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}")


@dataclass(frozen=True)
class _Wish:
    """A call to make."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    origin: str | None


@dataclass(frozen=True)
class Made:
    """A call that was made, without hops.

    `local` is the caller's end of its connection, empty where there was none, `server_name` what TLS was asked for,
    empty without.
    """

    call: Call
    local: str = ""
    server_name: str = ""


class CallMaker:
    """Makes calls in one lab; what they met is explained elsewhere."""

    def __init__(self, lab: Lab, ways: Ways) -> None:
        self._lab = lab
        self._ways = ways

    def make(self, body: Any) -> Made:
        """Make a call, `{"from", "method", "url", "headers", "body"}`; raise DoorError."""
        wish = _read_wish(body)
        pod = self._ways.caller(wish.origin) if wish.origin else None
        if pod and (missing := self._ways.missing_port(pod, *host_and_port(wish.url))):
            return Made(Call(str(uuid.uuid4()), wish.method, wish.url, pod.pod.name, None, 0.0, error=missing))
        return (self._connect if urlsplit(wish.url).scheme == TCP else self._call)(wish, pod)

    def _connect(self, wish: _Wish, pod: RunningPod | None) -> Made:
        """Connect where HTTP is not spoken, and return what is said there."""
        host, port = host_and_port(wish.url)
        at = self._ways.where(pod, host, port)
        started = time.monotonic()
        said = talk(at, wish.body)
        error = said.error
        if error and pod and self._is_silent_about(host, port, pod.pod.namespace):
            error += f": port {port} of {host} does not say that it is for TCP, so what stands in there speaks HTTP"
        milliseconds = (time.monotonic() - started) * 1000
        origin = pod.pod.name if pod else None
        call = Call(str(uuid.uuid4()), "CONNECT", wish.url, origin, None, milliseconds, (), said.text, error)
        return Made(call, said.local)

    def _is_silent_about(self, host: str, port: int, namespace: str) -> bool:
        """Return whether a Service's port does not say what it is for, so that its pods are taken to speak HTTP."""
        service = self._lab.state.cluster.service_from(namespace, host)
        found = service.port(port) if service else None
        return found is not None and not found.is_for_tcp

    def _call(self, wish: _Wish, pod: RunningPod | None) -> Made:
        """Make a call, and return it without its hops."""
        parts = urlsplit(wish.url)
        host, port = host_and_port(wish.url)
        at = self._ways.where(pod, host, port)
        connection = http.client.HTTPConnection(*at, timeout=CALL_SECONDS)
        names = {name.lower() for name, _ in wish.headers}
        server_name = _server_name(wish, host) if parts.scheme == "https" else ""
        request_id = next((value for name, value in wish.headers if name.lower() == "x-request-id"), str(uuid.uuid4()))
        own = {"host": parts.netloc, "user-agent": f"meshdemo/{__version__}", "accept": "application/json"}
        own |= {"x-request-id": request_id, **({"content-length": str(len(wish.body))} if wish.body else {})}
        target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        origin = pod.pod.name if pod else None
        status: int | None = None
        headers: tuple[tuple[str, str], ...] = ()
        text, error, local = "", None, ""
        started = time.monotonic()
        try:
            connection.connect()
            local = "{}:{}".format(*connection.sock.getsockname()[:2])
            if parts.scheme == "https":
                connection.sock = _begin_tls(connection.sock, server_name)
            connection.putrequest(wish.method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in (*((name, value) for name, value in own.items() if name not in names), *wish.headers):
                connection.putheader(name, value)
            connection.endheaders(wish.body or None)
            response = connection.getresponse()
            data = response.read(_MOST_BODY_BYTES)
            status, headers, text = response.status, tuple(response.getheaders()), data.decode("utf-8", "replace")
        except TimeoutError:
            error = f"no answer for {CALL_SECONDS:g} s"
        except ssl.SSLError as problem:
            error = f"no TLS there: {(problem.reason or 'it failed').lower().replace('_', ' ')}"
        except http.client.BadStatusLine as problem:
            closed = isinstance(problem, http.client.RemoteDisconnected)
            error = str(problem).lower() if closed else f"no HTTP is spoken there, but: {str(problem.args[0]).strip()}"
        except (OSError, http.client.HTTPException) as problem:
            error = (getattr(problem, "strerror", None) or str(problem) or type(problem).__name__).lower()
        finally:
            milliseconds = (time.monotonic() - started) * 1000
            connection.close()
        logged_id = self._logged_id(request_id, local)
        call = Call(logged_id, wish.method, wish.url, origin, status, milliseconds, _told(headers), text, error)
        return Made(call, local, server_name)

    def _logged_id(self, request_id: str, local: str) -> str:
        """Return the id by which a call was logged: a gateway gives one of its own to what comes from outside."""
        found: list[Record] = self._lab.records.wait(request_id, bool, settle_seconds=0, seconds=SETTLE_SECONDS)
        return request_id if found or not local else self._lab.records.id_of(local) or request_id


def _server_name(wish: _Wish, host: str) -> str:
    """Return what TLS asks for: the host in the Host header where there is one, else that of the URL; no address."""
    wanted = next((value for name, value in wish.headers if name.lower() == "host"), host)
    name = wanted.rpartition(":")[0] if re.search(r":[0-9]+$", wanted) else wanted
    return name if _SERVER_NAME.fullmatch(name) and not is_here(name) else ""


def _begin_tls(connection: socket.socket, server_name: str) -> ssl.SSLSocket:
    """Return a connection that asks for a name by TLS; the certificate is one that the lab's own files made."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(connection, server_hostname=server_name or None)


def _read_wish(body: Any) -> _Wish:
    """Return the call that somebody asks for; raise DoorError for what is none."""
    if not isinstance(body, Mapping):
        raise DoorError(400, "a call is an object with a url")
    method, url = body.get("method") or "GET", body.get("url")
    headers, text, origin = body.get("headers") or [], body.get("body") or "", body.get("from")
    if not isinstance(method, str) or not _TOKEN.fullmatch(method):
        raise DoorError(400, f"{method!r} is not a method")
    parts = None
    if isinstance(url, str) and _TARGET.fullmatch(url):
        with suppress(ValueError):
            whole = urlsplit(url)
            parts = whole if whole.port != 0 else None  # which raises ValueError for what is no port
    if (
        not isinstance(url, str)
        or parts is None
        or (parts.scheme not in PORTS and not (parts.scheme == TCP and parts.port))
        or not parts.hostname
        or "@" in parts.netloc
    ):
        raise DoorError(400, f"{url!r} is not a URL such as http://webserver/v2")
    if not isinstance(origin, str | None) or not isinstance(text, str) or not isinstance(headers, list):
        raise DoorError(400, "from and body are strings, headers a list of pairs")
    pairs = []
    for pair in headers:
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(isinstance(each, str) for each in pair)
        if not is_pair or not _TOKEN.fullmatch(pair[0]) or not _VALUE.fullmatch(pair[1]):
            raise DoorError(400, f"{pair!r} is not a header")
        pairs.append((pair[0], pair[1]))
    return _Wish(method, url, tuple(pairs), text.encode(), origin)


def _told(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return the headers of an answer without what is secret."""
    secret = {"set-cookie", "authorization"}
    return tuple((name.lower(), "(present)" if name.lower() in secret else value) for name, value in headers)
