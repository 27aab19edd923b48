"""The proxy role: makes a second request for each one, and shows what came back and how long it took."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from meshdemo import live, wsgi
from meshdemo.upstream import Answer, Upstream, UpstreamError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

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


def create_app(
    upstream: Upstream,
    *,
    forward_headers: Iterable[str] = (),
    pass_status: bool = False,
    timer: Callable[[], float] = time.perf_counter,
) -> WSGIApplication:
    """Return the proxy as a WSGI application, with the live page at `/ui`.

    `forward_headers` names headers that cross beside FORWARDED_HEADERS; nothing else does. The status is 200
    whatever came back, or with `pass_status` the upstream's, 504 for a timeout and 502 for any other failure.
    `timer` gives seconds.
    """
    forwarded = {
        {"content-type": "CONTENT_TYPE"}.get(name, f"HTTP_{name.upper().replace('-', '_')}"): name
        for name in (*FORWARDED_HEADERS, *map(str.lower, forward_headers))
    }

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        path, query = wsgi.raw_target(environ)
        if path == live.PATH:
            html, html_headers = live.page()
            return wsgi.answer(environ, start_response, 200, html, *html_headers)
        try:
            body = wsgi.read_body(environ)
        except wsgi.BodyTooLargeError as error:
            return wsgi.answer(environ, start_response, 413, f"Error: {error}")
        as_json = wsgi.wants_json(environ)
        headers = {name: environ[key] for key, name in forwarded.items() if environ.get(key)}
        if as_json:
            headers["accept"] = "application/json"
        url = upstream.url_for(path, query)

        started = timer()
        outcome: Answer | UpstreamError
        try:
            outcome = upstream.call(environ["REQUEST_METHOD"], url, headers, body)
        except UpstreamError as error:
            outcome = error
        milliseconds = (timer() - started) * 1000

        status = _own_status(outcome) if pass_status else 200
        shown = _as_json(outcome, milliseconds) if as_json else _as_text(outcome, milliseconds)
        return wsgi.answer(environ, start_response, status, shown)

    return app


def _own_status(outcome: Answer | UpstreamError) -> int:
    """Return the status to pass on; one that no final answer may have is a bad gateway (RFC 9110, 15)."""
    if isinstance(outcome, UpstreamError):
        return 504 if outcome.timed_out else 502
    return outcome.status if 200 <= outcome.status <= 599 else 502


def _as_text(outcome: Answer | UpstreamError, milliseconds: float) -> str:
    result = f"Error: {outcome}" if isinstance(outcome, UpstreamError) else f"Proxying value: {outcome.text}"
    return f"{result} - Took {milliseconds:.0f} milliseconds"


def _as_json(outcome: Answer | UpstreamError, milliseconds: float) -> dict[str, Any]:
    """Return the object of the JSON form; the README describes it field by field."""
    error = str(outcome) if isinstance(outcome, UpstreamError) else None
    answered = outcome if isinstance(outcome, Answer) else None
    return {
        "value": _value(answered) if answered else None,
        "status": answered.status if answered else None,
        "error": error,
        "milliseconds": round(milliseconds, 3),
    }


def _value(answered: Answer) -> Any:
    """Return the upstream's JSON, or its text where it is none, or none that can be written again."""
    if answered.media_type not in ("application/json", "") and not answered.media_type.endswith("+json"):
        return answered.text
    try:
        value = json.loads(answered.text)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return answered.text
    return value
