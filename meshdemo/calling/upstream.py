"""One call to the upstream: to the given host only, within the given time and size, with a reason when it fails."""

from __future__ import annotations

import codecs
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from meshdemo import __version__
from meshdemo.calling import failures
from meshdemo.calling.connection import TARGET, BoundedAdapter, ConnectTo, StaleConnectionError, origin_of
from meshdemo.calling.response import TooLargeError
from meshdemo.escaping import percent_encode

#: What an answer may hold after decompression, in bytes.
ANSWER_LIMIT_BYTES = 1024 * 1024
REDIRECT_LIMIT = 5
USER_AGENT = f"meshdemo/{__version__}"

#: Headers that an application has to copy for the spans of a trace to join, by the systems that Istio and Envoy
#: support (Istio, "Distributed Tracing FAQ: what headers must be propagated"), and the one that lessons route by.
FORWARDED_HEADERS = (
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "sw8",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "end-user",
)

# What goes along when a redirect leads to another origin: it says nothing that was meant for the first one alone.
_SAFE_HEADERS = frozenset({*FORWARDED_HEADERS, "accept", "via"})
# What describes a body, beside headers that begin with content- (RFC 9110, 15.4; RFC 9530).
_BODY_HEADERS = frozenset({"digest", "last-modified", "repr-digest"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Methods that may be sent again when a kept connection turns out to be closed (RFC 9110, 9.2.2).
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
# Python codecs that no web server declares as a charset, and that are slow or fail on some bytes.
_NOT_CHARSETS = frozenset({"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape"})
_SHOWN_URL_LENGTH = 200


@dataclass(frozen=True)
class Answer:
    """What the upstream answered: its final status, its body as text, and its media type, empty if not declared."""

    status: int
    text: str
    media_type: str


class UpstreamError(Exception):
    """A call that brought no complete answer; `str()` is one line for a person, with the URL that was called.

    `status` is what a gateway answers then: 504 for a timeout, 508 for a loop, else 502.
    """

    def __init__(self, reason: str, url: str, *, status: int = 502) -> None:
        shown = url if len(url) <= _SHOWN_URL_LENGTH else url[:_SHOWN_URL_LENGTH] + "..."
        super().__init__(f"{reason} calling {percent_encode(shown)}")
        self.status = status


class _Session(requests.Session):
    """A session that leaves redirects to its caller: requests would read their bodies, whatever the size."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        return None


class Upstream:
    """The server behind the proxy.

    `url` is an absolute http or https URL. `timeout_seconds` bounds one call: name resolution, connecting,
    redirects and the body. With `keep_alive` connections are used again; without, each call opens its own, since a
    Kubernetes Service balances connections and a kept one would always reach the same pod. `connect_to` leads
    connections elsewhere, on redirects, too. May be called from any number of threads.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 30.0,
        keep_alive: bool = False,
        connect_to: Sequence[ConnectTo] = (),
    ) -> None:
        parts = urlsplit(url)
        self._base = origin_of(url)
        # As bytes in latin-1, which is how WSGI has the path and query of a request.
        self._path, self._query = (part.encode().decode("latin-1") for part in (parts.path, parts.query))
        self._timeout_seconds = timeout_seconds
        self._keep_alive = keep_alive
        self._session = _Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = BoundedAdapter(pool_maxsize=256, connect_to=connect_to)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def url_for(self, path: str, query: str = "") -> str:
        """Return the URL to call for a request to `path`, which is appended unless it is a lone slash.

        Whatever `path` holds, the result keeps scheme, host and port of the upstream's URL.
        """
        if path != "/":
            path = self._path.rstrip("/") + ("" if path.startswith("/") else "/") + path
        else:
            path = self._path or "/"
        query = "&".join(part for part in (self._query, query) if part)
        return self._base + percent_encode(path + (f"?{query}" if query else ""))

    def call(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Call `url`, made by `url_for`, following up to 5 redirects; raise UpstreamError when no answer came.

        Of `headers` only FORWARDED_HEADERS, `accept` and `via` follow a redirect to another origin, and none that
        describes the body follows one that drops it.
        """
        deadline = time.monotonic() + self._timeout_seconds
        for _ in range(REDIRECT_LIMIT + 1):
            try:
                response = self._send(method, url, headers, body, deadline)
                with response:
                    location = response.headers.get("Location")
                    if location is None or response.status_code not in _REDIRECTS:
                        return _read(response)
            except failures.FAILURES as error:
                raise self._explained(error, url) from error
            origin = _origin(url)
            url = _redirect_url(url, location)
            if _origin(url) != origin:
                headers = {name: value for name, value in headers.items() if name.lower() in _SAFE_HEADERS}
            if _becomes_get(method, response.status_code):
                method, body = "GET", b""
                headers = {name: value for name, value in headers.items() if not _describes_body(name.lower())}
        raise UpstreamError("too many redirects", url)

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> requests.Response:
        """Send one request; once more where a kept connection had been closed meanwhile and that does no harm."""
        request = requests.PreparedRequest()
        request.method = method
        request.url = url
        request.body = body or None
        request.headers = CaseInsensitiveDict({"User-Agent": USER_AGENT, "Accept": "*/*", **headers})
        request.headers[TARGET] = url[len(origin_of(url)) :]
        if body:
            request.headers["Content-Length"] = str(len(body))
        if not self._keep_alive:
            request.headers["Connection"] = "close"
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            try:
                timeout: Any = urllib3.Timeout(total=left)
                # No proxies: without that, requests reads the environment for each call.
                return self._session.send(request, stream=True, timeout=timeout, proxies={}, allow_redirects=False)
            except requests.ConnectionError as error:
                if method not in _IDEMPOTENT or not any(
                    isinstance(cause, StaleConnectionError) for cause in failures.causes(error)
                ):
                    raise

    def _explained(self, error: BaseException, url: str) -> UpstreamError:
        """Return the error for a person."""
        if failures.is_timeout(error):
            seconds = f"{self._timeout_seconds:g}"
            plural = "" if seconds == "1" else "s"
            return UpstreamError(f"timed out after {seconds} second{plural}", url, status=504)
        return UpstreamError(failures.reason_of(error), url)


def _becomes_get(method: str, status: int) -> bool:
    """Tell whether the next request is a GET without a body, as browsers have it (RFC 9110, 15.4)."""
    return (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST")


def _describes_body(name: str) -> bool:
    return name.startswith("content-") or name in _BODY_HEADERS


def _origin(url: str) -> tuple[str, str | None, int]:
    """Return scheme, host and port of a URL, by which two URLs have the same origin (RFC 6454, 4)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]


def _redirect_url(url: str, location: str) -> str:
    """Return the absolute URL that a `Location` means."""
    try:
        parts = urlsplit(urljoin(url, percent_encode(location)))
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            authority = parts.netloc.rpartition("@")[2]
            query = f"?{parts.query}" if parts.query else ""
            return f"{parts.scheme}://{authority}{parts.path or '/'}{query}"
    except ValueError:
        pass
    shown = percent_encode(location[:_SHOWN_URL_LENGTH])
    raise UpstreamError(f"redirect to {shown}, which is not an http or https address,", url)


def _read(response: requests.Response) -> Answer:
    """Return the answer with its body decoded by the declared charset, else as UTF-8, whatever bytes it holds."""
    body = bytearray()
    for chunk in response.iter_content(64 * 1024):
        body += chunk
        if len(body) > ANSWER_LIMIT_BYTES:
            raise TooLargeError
    media_type, *parameters = (part.strip().lower() for part in response.headers.get("Content-Type", "").split(";"))
    charsets = [part.partition("=")[2].strip("\"' ") for part in parameters if part.startswith("charset=")]
    charset = charsets[0] if charsets else "utf-8"
    try:
        if codecs.lookup(charset).name.replace("-", "_") in _NOT_CHARSETS:
            raise LookupError
        text = body.decode(charset, "replace")
    except (LookupError, ValueError):
        text = body.decode("utf-8", "replace")
    return Answer(response.status_code, text, media_type)
