"""One call to the upstream: to the given host only, within the given time and size, with a reason when it fails."""

from __future__ import annotations

import codecs
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from meshdemo import __version__
from meshdemo.calling import failures, redirects
from meshdemo.calling.connection import TARGET, BoundedAdapter, ConnectTo, StaleConnectionError, origin_of
from meshdemo.calling.failures import Code
from meshdemo.calling.headers import CREDENTIALS
from meshdemo.calling.response import TooLargeError
from meshdemo.escaping import percent_encode, printable

#: What an answer may hold after decompression, in bytes.
ANSWER_LIMIT_BYTES = 1024 * 1024
USER_AGENT = f"meshdemo/{__version__}"

# Methods that may be sent again when a kept connection turns out to be closed (RFC 9110, 9.2.2).
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
# Python codecs that no web server declares as a charset, and that are slow or fail on some bytes.
_NOT_CHARSETS = frozenset({"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape"})
_SHOWN_URL_LENGTH = 200
_SHOWN_HEADER_LENGTH = 1000


@dataclass(frozen=True)
class Answer:
    """What the upstream answered: its final status, its body as text, and its media type, empty if not declared."""

    status: int
    text: str
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)

    def line(self) -> str:
        """Return the text without line breaks at its end, so that a chain of proxies stays on one line."""
        return self.text.rstrip("\r\n")

    def value(self) -> Any:
        """Return what the body says as JSON, or `line()` where it is none, or none that can be written again."""
        if self.media_type not in ("application/json", "") and not self.media_type.endswith("+json"):
            return self.line()
        try:
            value = json.loads(self.text)
            json.dumps({"value": value}, allow_nan=False)
        except (ValueError, RecursionError):
            return self.line()
        return value

    def public_headers(self) -> dict[str, str]:
        """Return the headers by their usual names (`X-Request-Id`), sorted, without credentials, each value cut."""
        return {
            name.title(): value[:_SHOWN_HEADER_LENGTH]
            for name, value in sorted(self.headers.items(), key=lambda item: item[0].lower())
            if name.lower() not in CREDENTIALS
        }


class UpstreamError(Exception):
    """A call that brought no complete answer; `str()` is one line for a person, with the URL that was called.

    `url` is that one, after redirects, `code` the kind of failure, `status` what a gateway answers then: 504 for a
    timeout, 508 for a loop, else 502.
    """

    def __init__(self, reason: str, url: str, code: Code) -> None:
        origin = origin_of(url)  # with a host as it was typed, be it in any script
        shown = printable(origin) + percent_encode(url[len(origin) :])
        shown = shown if len(shown) <= _SHOWN_URL_LENGTH else shown[:_SHOWN_URL_LENGTH] + "..."
        super().__init__(f"{reason} calling {shown}")
        self.code = code
        self.url = url
        self.status = {Code.TIMEOUT: 504, Code.LOOP: 508}.get(code, 502)


class _Session(requests.Session):
    """A session that leaves redirects to its caller: requests would read their bodies, whatever the size."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        return None


class Upstream:
    """The server behind the proxy.

    `url` is an absolute http or https URL. `timeout_seconds` bounds one call: name resolution, connecting,
    redirects and the body. With `keep_alive` connections are used again; without, each call opens its own, since a
    Kubernetes Service balances connections and a kept one would always reach the same pod. `connect_to` leads
    connections elsewhere, on redirects, too. Without `checks_certificates` any certificate will do. May be called from
    any number of threads.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 30.0,
        keep_alive: bool = False,
        connect_to: Sequence[ConnectTo] = (),
        checks_certificates: bool = True,
    ) -> None:
        parts = urlsplit(url)
        self._base = origin_of(url)
        # As bytes in latin-1, which is how WSGI has the path and query of a request.
        self._path, self._query = (part.encode().decode("latin-1") for part in (parts.path, parts.query))
        self._timeout_seconds = timeout_seconds
        self._keep_alive = keep_alive
        self._session = _Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = BoundedAdapter(pool_maxsize=256, connect_to=connect_to, checks_certificates=checks_certificates)
        if not checks_certificates:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
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

        Not all of `headers` follow a redirect, see redirects.py.
        """
        deadline = time.monotonic() + self._timeout_seconds
        request = redirects.Request(method, url, headers, body)
        for _ in range(redirects.LIMIT + 1):
            try:
                response = self._send(request, deadline)
                with response:
                    location = response.headers.get("Location")
                    if location is None or response.status_code not in redirects.STATUSES:
                        return _read(response)
            except failures.FAILURES as error:
                raise self._explained(error, request.url) from error
            try:
                request = redirects.follow(request, response.status_code, location)
            except ValueError as error:
                raise UpstreamError(str(error), request.url, Code.REDIRECT) from None
        raise UpstreamError("too many redirects", request.url, Code.REDIRECT)

    def _send(self, sent: redirects.Request, deadline: float) -> requests.Response:
        """Send one request; once more where a kept connection had been closed meanwhile and that does no harm."""
        request = requests.PreparedRequest()
        request.method = sent.method
        request.url = sent.url
        request.body = sent.body or None
        request.headers = CaseInsensitiveDict({"User-Agent": USER_AGENT, "Accept": "*/*", **sent.headers})
        request.headers[TARGET] = sent.url[len(origin_of(sent.url)) :]
        if sent.body:
            request.headers["Content-Length"] = str(len(sent.body))
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
                if sent.method not in _IDEMPOTENT or not any(
                    isinstance(cause, StaleConnectionError) for cause in failures.causes(error)
                ):
                    raise

    def _explained(self, error: BaseException, url: str) -> UpstreamError:
        """Return the error for a person."""
        if failures.is_timeout(error):
            seconds = f"{self._timeout_seconds:g}"
            plural = "" if seconds == "1" else "s"
            return UpstreamError(f"timed out after {seconds} second{plural}", url, Code.TIMEOUT)
        code, reason = failures.explain(error)
        return UpstreamError(reason, url, code)


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
    return Answer(response.status_code, text, media_type, response.headers)
