"""What both roles share: reading a request, answering it, health probes and the access log.

Everything here is plain WSGI (PEP 3333) and knows neither the server nor the command line.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote

from meshdemo.escaping import percent_encode

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

#: Paths that every role answers itself, for the kubelet and for load balancers.
LIVENESS_PATH = "/healthz"
READINESS_PATH = "/readyz"
PROBE_PATHS = frozenset({LIVENESS_PATH, READINESS_PATH})

#: What a request body may hold, in bytes. More is counted but not kept, see waitress_channel.py.
BODY_LIMIT_BYTES = 1024 * 1024

#: What every answer has.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Every answer is an observation: neither a browser nor a cache may repeat an old one.
    "Cache-Control": "no-store",
}

# A Host that means this machine, whoever is asked for its address: loopback, and localhost (RFC 6761, 6.3).
_LOCAL_HOST = re.compile(r"(?i)((?:[a-z0-9-]+\.)*localhost\.?|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]*)?")
# The scheme and authority of a request target in absolute form (RFC 9112, 3.2.2).
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


def split_target(request_target: str) -> tuple[str, str]:
    """Return path and query of a request target as sent: percent-encoding untouched, without scheme and host."""
    if origin := _ORIGIN.match(request_target):
        request_target = request_target[origin.end() :]
    path, _, query = request_target.partition("?")
    return path or "/", query


def raw_target(environ: WSGIEnvironment) -> tuple[str, str]:
    """Return path and query as the client sent them, each byte as one latin-1 character."""
    if "REQUEST_URI" in environ:
        return split_target(environ["REQUEST_URI"])
    return quote(environ.get("PATH_INFO", ""), encoding="latin-1") or "/", environ.get("QUERY_STRING", "")


def raw_path(environ: WSGIEnvironment) -> str:
    """Return the path as the client sent it, each byte as one latin-1 character."""
    return raw_target(environ)[0]


class BodyTooLargeError(Exception):
    """A request body holds more than BODY_LIMIT_BYTES; `str()` says so to a person."""


def read_body(environ: WSGIEnvironment) -> bytes:
    """Return the request's body, or raise BodyTooLargeError."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > BODY_LIMIT_BYTES:
        raise BodyTooLargeError(f"request body of {length} bytes, more than 1 MiB")
    return environ["wsgi.input"].read(length) if length else b""


def request_headers(environ: WSGIEnvironment) -> dict[str, str]:
    """Return the request's headers by their usual names (`X-Request-Id`), sorted.

    WSGI does not tell how a client wrote a name, and joins the values of a repeated header with a comma.
    """
    fields = {key.removeprefix("HTTP_"): value for key, value in environ.items() if key.startswith("HTTP_")}
    fields |= {key: environ[key] for key in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(key)}
    return {name.replace("_", "-").title(): value for name, value in sorted(fields.items())}


def connection_options(environ: WSGIEnvironment) -> frozenset[str]:
    """Return what `Connection` names, in small letters: headers that are for this connection only (RFC 9110, 7.6.1)."""
    return frozenset(name.strip().lower() for name in environ.get("HTTP_CONNECTION", "").split(","))


def wants_json(environ: WSGIEnvironment) -> bool:
    """Tell whether `Accept` names application/json, and does not prefer text/plain (RFC 9110, 12.5.1)."""
    accept = environ.get("HTTP_ACCEPT", "")
    if "json" not in accept.lower():
        return False
    quality = {"application/json": 0.0, "text/plain": 0.0}
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media_type in quality:
            weights = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
            quality[media_type] = _weight(weights[0]) if weights else 1.0
    return quality["application/json"] > 0 and quality["application/json"] >= quality["text/plain"]


def _weight(text: str) -> float:
    """Return the number of a `q=` parameter, 0 where it is none (RFC 9110, 12.4.2)."""
    return float(text) if re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", text) else 0.0


def answer(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    status: int,
    body: str | dict[str, Any],
    *headers: tuple[str, str],
) -> list[bytes]:
    """Start and return a whole response: text/plain for a string, JSON for a dictionary.

    A text is sent with one line break at its end, so that the prompt of a terminal stands on a line of its own.
    `headers` are added, and replace the Content-Type where they name one. The answer to HEAD has the headers of
    GET and no body (RFC 9110, 9.3.2); 204, 205 and 304 have no body either (6.4.1 and 15.3.6), and 205 says so.
    """
    if isinstance(body, str):
        content_type, data = "text/plain; charset=utf-8", (body.rstrip("\r\n") + "\n").encode("utf-8", "replace")
    else:
        content_type, data = "application/json", json.dumps(body, allow_nan=False).encode("ascii")
    fields = {**HEADERS, "Content-Type": content_type, **dict(headers)}
    if status in (204, 205, 304):
        data = b""
    if status in (204, 304):
        del fields["Content-Type"]
    else:
        fields["Content-Length"] = str(len(data))
    start_response(status_line(status), list(fields.items()))
    return [data] if data and environ["REQUEST_METHOD"] != "HEAD" else []


@cache
def status_line(status: int) -> str:
    """Return code and phrase; a code that has no phrase, such as 599, gets `Unknown`."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Unknown"


def with_probes(app: WSGIApplication, is_ready: Callable[[], bool]) -> WSGIApplication:
    """Return `app` with `/healthz`, always 200, and `/readyz`, 503 once `is_ready` says no."""

    def probed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = raw_path(environ)
        if path == LIVENESS_PATH:
            return answer(environ, start_response, 200, "alive")
        if path == READINESS_PATH:
            ready = is_ready()
            return answer(environ, start_response, 200 if ready else 503, "ready" if ready else "shutting down")
        return app(environ, start_response)

    return probed


def with_local_names(app: WSGIApplication, below: str = "/") -> WSGIApplication:
    """Return `app` for what only this machine reaches: a Host that is another's is refused, for paths at or `below`.

    Else a page from elsewhere, whose name is made to lead to 127.0.0.1 after a while (DNS rebinding), would be to its
    browser the same site as `app`, and could call it and read its answers.
    """

    def local(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "")
        if host and not _LOCAL_HOST.fullmatch(host) and f"{raw_path(environ)}/".startswith(below):
            sentence = (
                f"Only this machine is served here, not {percent_encode(host)}. Call 127.0.0.1 or localhost, or start "
                "with --host '*'."
            )
            return answer(environ, start_response, 421, sentence)
        return app(environ, start_response)

    return local


def with_access_log(
    app: WSGIApplication,
    name: str,
    stream: TextIO | None = None,
    timer: Callable[[], float] = time.perf_counter,
) -> WSGIApplication:
    """Return `app` with a line per request on `stream` (default: standard error), handed over before the answer leaves.

    `stream` must neither wait nor fail, as a `streams.Writer` does not. A line holds the time (UTC), `name`, the
    client's address, method, path, status, milliseconds and, when the request has one, its x-request-id. The query is
    left out, since it may hold what should not be kept.
    """

    def logged(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        statuses = ["500"]

        def remember(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
            statuses.append(status[:3])
            return start_response(status, headers, *error)

        started = timer()
        try:
            return app(environ, remember)
        finally:
            fields = [name, environ.get("REMOTE_ADDR", "-"), environ["REQUEST_METHOD"], raw_path(environ)]
            fields += [statuses[-1], f"{(timer() - started) * 1000:.1f}ms", environ.get("HTTP_X_REQUEST_ID", "")]
            _write_line(stream or sys.stderr, fields)

    return logged


def log_refused(name: str, client: str, method: str, target: str, status: int) -> None:
    """Write the line of a request that was refused before it reached an application; `-` is what it did not say."""
    _write_line(sys.stderr, [name, client, method, split_target(target)[0], str(status), "0.0ms"])


def _write_line(stream: TextIO, fields: list[str]) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    stream.write(" ".join(percent_encode(field) for field in [now, *fields] if field) + "\n")
