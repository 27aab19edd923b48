"""What the first call of a watch shows: whether it is worth going on, and if not, why and what to do.

Where it is not clear whether a port speaks HTTP or HTTPS, one more connection is made to ask it.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from meshdemo.calling.upstream import Answer, UpstreamError
from meshdemo.page.page import PATH

_PROBE_SECONDS = 1.0


def find_problem(url: str, outcome: Answer | UpstreamError) -> str | None:
    """Return what is wrong with the first call to `url` and what to do, in sentences; None where it was answered."""
    if isinstance(outcome, UpstreamError):
        return " ".join(filter(None, [f"{outcome}.", _hint(url, str(outcome))]))
    parts = urlsplit(url)
    if parts.path == PATH and outcome.media_type == "text/html" and "meshdemo" in outcome.text:
        return f"{url} is the live page, not an answer. Use {parts.scheme}://{parts.netloc}/ instead."
    return None


def find_problem_of_wait(url: str) -> str | None:
    """Return what is wrong where the first call takes long: a TLS handshake with a server that waits for a request."""
    if urlsplit(url).scheme == "https" and _soon(_speaks_http, url):
        return _other_scheme(url)
    return None


def _hint(url: str, reason: str) -> str | None:
    """Return what to do about a call that was not answered."""
    parts = urlsplit(url)
    if reason.startswith("connection refused"):
        return "Is meshdemo up running?" if _is_loopback(parts.hostname or "") else "Is the server running?"
    if reason.startswith("name not found"):
        return "The name of a Service is known only inside its cluster."
    if parts.scheme == "https" and reason.startswith("TLS problem") and _soon(_speaks_http, url):
        return _other_scheme(url)
    if parts.scheme == "http" and reason.startswith(("connection ", "not an HTTP answer")) and _soon(_speaks_tls, url):
        return _other_scheme(url)
    return None


def _other_scheme(url: str) -> str:
    if url.startswith("https"):
        return f"This port speaks HTTP, not HTTPS: use http{url.removeprefix('https')}"
    return f"This port speaks HTTPS, not HTTP: use https{url.removeprefix('http')}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _soon(probe: Callable[[str], bool], url: str) -> bool:
    """Tell what `probe` says of `url`; where it takes long, as a resolver may, that is a no."""
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(probe(url)), daemon=True)
    thread.start()
    thread.join(2 * _PROBE_SECONDS)
    return results == [True]


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return socket.create_connection((parts.hostname or "", port), _PROBE_SECONDS)


def _speaks_http(url: str) -> bool:
    """Tell whether the port answers a plain request."""
    try:
        with _connect(url) as connection:
            connection.sendall(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(5) == b"HTTP/"
    except OSError:
        return False


def _speaks_tls(url: str) -> bool:
    """Tell whether the port answers a TLS handshake, whoever its certificate is for."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with _connect(url) as connection, context.wrap_socket(connection):
            return True
    except OSError:
        return False
