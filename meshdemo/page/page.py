"""The live page at `/ui`: one HTML file, the policy that lets nothing else run, and what the page asks for below it."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshdemo.escaping import percent_encode
from meshdemo.page.calls import Calls, Observe
from meshdemo.serving import wsgi

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

#: The path of the page; the proxy passes on neither it nor what is below it.
PATH = "/ui"
CALLS_PATH = f"{PATH}/calls"
#: Half of the threads that a server has by default: the rest is for requests that are no page's.
DEFAULT_STREAM_LIMIT = 32

#: In the proxy's JSON answers, where a mesh may change: time and text of the last change before the call, or `-`.
CHANGED_HEADER = "Meshdemo-Changed"

_CHANGES_SHOWN = 20
# In one answer, so that the page comes as a whole or not at all.
_PARTS = ("page.html", "page.css", "page.js", "calls.js", "stream.js", "picture.js", "lab.js")
# By which the page's own requests are known.
_COOKIE_NAME = "meshdemo-page"
_COOKIE = re.compile(rf"(?:^|;) *{_COOKIE_NAME}=([0-9a-f]{{32}}) *(?:;|$)")
_VALUE_KEY = "HTTP_MESHDEMO_PAGE"
# Where the page holds what it is told.
_PLACE = '<meta name="meshdemo">'


def is_own(path: str) -> bool:
    """Tell whether a path is answered here."""
    return path == PATH or path.startswith(PATH + "/")


@dataclass(frozen=True)
class PageOptions:
    """How pages are served: on how many threads at most, and what a lab says of itself.

    `changes_file` is where whoever changes the mesh says so, see `read_changes`; `lab_socket` is the lab's door.
    """

    stream_limit: int = DEFAULT_STREAM_LIMIT
    changes_file: Path | None = None
    lab_socket: Path | None = None


#: The page as it is without a lab.
NO_LAB = PageOptions()


def create_page(observe: Observe, header_names: Collection[str], options: PageOptions) -> WSGIApplication:
    """Return what answers PATH and everything below it.

    `observe` makes one call, `header_names` are those that a call may carry.
    """
    changes = functools.partial(read_changes, options.changes_file)
    lab, flags = None, None
    if options.lab_socket:
        from meshdemo.page.lab import ask_flags, create_lab

        lab, flags = create_lab(options.lab_socket, PATH), functools.partial(ask_flags, options.lab_socket)
    calls = Calls(observe, header_names, changes, own_path=PATH, stream_limit=options.stream_limit, ask_flags=flags)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, query = wsgi.raw_target(environ)
        if path == PATH + "/":
            location = percent_encode(f"{PATH}?{query}" if query else PATH)
            return wsgi.answer(environ, start_response, 308, f"See {PATH}.", ("Location", location))
        if path == PATH:
            html, headers = read_page()
            value = _value_of(environ) or secrets.token_hex(16)
            html = html.replace(_PLACE, _meta(value, environ, has_lab=lab is not None), 1)
            cookie = ("Set-Cookie", f"{_COOKIE_NAME}={value}; SameSite=Lax; HttpOnly")
            return wsgi.answer(environ, start_response, 200, html, *headers, cookie)
        if path == CALLS_PATH or lab:
            if not _is_own_request(environ):
                return wsgi.answer(environ, start_response, 403, "Only the proxy's own page can make calls. Reload it.")
            return calls(environ, start_response) if path == CALLS_PATH or not lab else lab(environ, start_response)
        return wsgi.answer(environ, start_response, 404, f"There is nothing at {percent_encode(path)}. See {PATH}.")

    return app


def _meta(value: str, environ: WSGIEnvironment, *, has_lab: bool) -> str:
    """Return what the page is told: its value, whether a page from elsewhere led to it, and whether there is a lab."""
    is_led = environ.get("HTTP_SEC_FETCH_SITE", "none") in ("cross-site", "same-site")
    flags = " data-led" * is_led + " data-lab" * has_lab
    return f'<meta name="meshdemo" content="{value}"{flags}>'


def _value_of(environ: WSGIEnvironment) -> str | None:
    """Return the value that this browser's page was given, None where it was given none."""
    found = _COOKIE.search(environ.get("HTTP_COOKIE", ""))
    return found[1] if found else None


def _is_own_request(environ: WSGIEnvironment) -> bool:
    """Return whether a request comes from the page itself, and not from another page in the same browser.

    It carries the value that the page was given, which no other page can read, in a header that no other page may
    send. The value is also in a cookie, so that any replica behind a Service knows it (OWASP, "Cross-Site Request
    Forgery Prevention", double-submit cookie). An Origin, which a page's own GET has not, has to be the host called.
    """
    value = _value_of(environ)
    origin = environ.get("HTTP_ORIGIN")
    is_foreign = origin is not None and origin.partition("://")[2] != environ.get("HTTP_HOST")
    return value is not None and environ.get(_VALUE_KEY) == value and not is_foreign


@cache
def read_page() -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the page, its parts in one file, and its headers."""
    folder = files("meshdemo.page")
    html, style, *scripts = (folder.joinpath(name).read_text("utf-8") for name in _PARTS)
    html = html.replace("<style></style>", f"<style>\n{style}</style>")
    html = html.replace("<script></script>", "<script>\n{}</script>".format("\n".join(scripts)))
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash_of(html, 'script')}",
            f"style-src {_hash_of(html, 'style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ]
    )
    return html, (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", policy),
        ("Referrer-Policy", "no-referrer"),
    )


def _hash_of(html: str, tag: str) -> str:
    """Return the source expression for the only element of a kind (Content Security Policy Level 3, 2.3.1)."""
    (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def read_changes(file: Path | None) -> list[dict[str, Any]]:
    """Return the latest changes of the mesh, newest last: `time` as written, and `text`.

    The file holds a JSON list, such as `[{"time": "2026-11-25T14:02:07.123Z", "text": "Gateway/webserver changed"}]`.
    What is missing, or no such list, counts as none: the page goes on without it.
    """
    try:
        entries = json.loads(file.read_text("utf-8")) if file else []
        return [
            {"time": datetime.fromisoformat(entry["time"]).astimezone(UTC).isoformat(), "text": str(entry["text"])}
            for entry in entries[-_CHANGES_SHOWN:]
        ]
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return []


def change_headers(file: Path | None) -> tuple[tuple[str, str], ...]:
    """Return CHANGED_HEADER, by which `watch` knows what an answer belongs to; nothing where nobody changes a mesh."""
    if file is None:
        return ()
    changes = read_changes(file)
    return ((CHANGED_HEADER, percent_encode("{time} {text}".format(**changes[-1])) if changes else "-"),)
