"""The proxy role: makes a second request for each one, and shows what came back and how long it took."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from meshdemo.calling.failures import Code
from meshdemo.calling.headers import FORWARDED_HEADERS
from meshdemo.calling.upstream import Answer, Upstream, UpstreamError
from meshdemo.page.page import NO_LAB, PageOptions, change_headers, create_page, is_own
from meshdemo.serving import wsgi

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


def create_app(
    upstream: Upstream,
    *,
    forward_headers: Iterable[str] = (),
    pass_status: bool = False,
    name: str | None = None,
    page_options: PageOptions = NO_LAB,
    timer: Callable[[], float] = time.perf_counter,
) -> WSGIApplication:
    """Return the proxy as a WSGI application, with the live page at `/ui`.

    `forward_headers` names headers that cross beside FORWARDED_HEADERS; nothing else does. The status is 200
    whatever came back, or with `pass_status` the upstream's, or that of the UpstreamError. `name` is what this proxy
    adds to `Via` and knows itself by, so it has to be its own: by default one at random. `timer` gives seconds.
    """
    name = name or f"meshdemo-{secrets.token_hex(8)}"
    forwarded = {
        {"content-type": "CONTENT_TYPE"}.get(header, f"HTTP_{header.upper().replace('-', '_')}"): header
        for header in (*FORWARDED_HEADERS, *map(str.lower, forward_headers))
    }

    def call(
        method: str, path: str, query: str, headers: Mapping[str, str], body: bytes = b"", protocol: str = "1.1"
    ) -> tuple[Answer | UpstreamError, float]:
        """Call the upstream; return what came of it, and in how many milliseconds.

        `headers` may have `via`, and get the entry of this proxy, received by `protocol` (RFC 9110, 7.6.3).
        """
        url = upstream.url_for(path, query)
        via = headers.get("via", "")
        passed_on = {**headers, "via": ", ".join(entry for entry in (via, f"{protocol} {name}") if entry)}
        started = timer()
        outcome: Answer | UpstreamError
        try:
            if any(entry.split()[1:2] == [name] for entry in via.split(",")):
                raise UpstreamError(
                    "loop: this proxy has sent this request before, so it ends here instead of", url, Code.LOOP
                )
            outcome = upstream.call(method, url, passed_on, body)
        except UpstreamError as error:
            outcome = error
        return outcome, (timer() - started) * 1000

    def observe(path: str, query: str, headers: Mapping[str, str]) -> dict[str, Any]:
        return _as_json(*call("GET", path, query, {**headers, "accept": "application/json"}))

    page = create_page(observe, frozenset(forwarded.values()), page_options)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, query = wsgi.raw_target(environ)
        if is_own(path):
            return page(environ, start_response)
        try:
            body = wsgi.read_body(environ)
        except wsgi.BodyTooLargeError as error:
            return wsgi.answer(environ, start_response, 413, f"Error: {error}")
        as_json = wsgi.wants_json(environ)
        of_connection = wsgi.connection_options(environ)
        headers = {
            header: environ[key]
            for key, header in {**forwarded, "HTTP_VIA": "via"}.items()
            if environ.get(key) and header not in of_connection
        }
        if as_json:
            headers["accept"] = "application/json"
        changed = change_headers(page_options.changes_file) if as_json else ()
        protocol = environ["SERVER_PROTOCOL"].removeprefix("HTTP/")
        outcome, milliseconds = call(environ["REQUEST_METHOD"], path, query, headers, body, protocol)
        # A status that no final answer may have is a bad gateway (RFC 9110, 15).
        status = 200 if not pass_status else outcome.status if 200 <= outcome.status <= 599 else 502
        if not as_json:
            return wsgi.answer(environ, start_response, status, _as_text(outcome, milliseconds))
        own = {"connection", "content-length", "host"}  # of the request that this proxy makes
        left_out = [name for name in map(str.lower, wsgi.request_headers(environ)) if name not in own | headers.keys()]
        return wsgi.answer(environ, start_response, status, _as_json(outcome, milliseconds, left_out), *changed)

    return app


def _as_text(outcome: Answer | UpstreamError, milliseconds: float) -> str:
    if isinstance(outcome, UpstreamError):
        result = f"Error: {outcome}"
    else:
        result = f"Proxying value: {outcome.line() or f'(empty, status {outcome.status})'}"
    return f"{result} - Took {milliseconds:.0f} milliseconds"


def _as_json(outcome: Answer | UpstreamError, milliseconds: float, not_passed_on: Iterable[str] = ()) -> dict[str, Any]:
    """Return the object of the JSON form; docs/reference.md describes it field by field."""
    answered = outcome if isinstance(outcome, Answer) else None
    return {
        "value": answered and answered.value(),
        "status": answered and answered.status,
        "error": None if answered else str(outcome),
        "code": outcome.code if isinstance(outcome, UpstreamError) else None,
        "milliseconds": round(milliseconds, 3),
        "headers": answered and answered.public_headers(),
        "not passed on": [*not_passed_on],
    }
