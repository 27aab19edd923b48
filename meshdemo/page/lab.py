"""What the page asks the lab: what runs there, edits, and why a call went where it went.

Only pods of a lab have its socket; elsewhere nothing of this is loaded, and the page asks for none of it.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshdemo import lab_socket
from meshdemo.console.terminal import Marks
from meshdemo.escaping import percent_encode
from meshdemo.explaining.text import format_call, format_short
from meshdemo.explaining.words import Object
from meshdemo.serving import wsgi

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_BODY_LIMIT_BYTES = 10_000
# What the page may look at: the scene, waiting for another one than was seen, and a call by its x-request-id.
_SCENE = re.compile(r"/scene(/[0-9a-f]{1,16})?")
_CALL = re.compile(r"/calls/[0-9a-f]{32}")
# Before the name of a file and its line: a line on the page is short.
_FOLDERS = re.compile(r"[^\s(]*/(?=[^\s/]+:[0-9])")
# In columns.
_WIDTH, _ONE_LINE = 100, 100_000
# Calls wait for it.
_FLAGS_SECONDS = 1.0


def create_lab(socket: Path, own_path: str) -> WSGIApplication:
    """Return what answers the page's questions about the lab, below `own_path`."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = wsgi.raw_path(environ)
        method, asked = environ["REQUEST_METHOD"], path.removeprefix(own_path)
        value: Any = None
        if method == "POST" and asked in ("/edit", "/met"):
            # A page's own POST always has one (Fetch, "append a request Origin header").
            if "HTTP_ORIGIN" not in environ:
                return wsgi.answer(environ, start_response, 403, "Only the lab's own page can do that.")
            if int(environ.get("CONTENT_LENGTH") or 0) > _BODY_LIMIT_BYTES:
                return wsgi.answer(environ, start_response, 413, f"This has {_BODY_LIMIT_BYTES} bytes at most.")
            try:
                value = json.loads(wsgi.read_body(environ))
            except ValueError:
                return wsgi.answer(environ, start_response, 400, "This is not JSON.")
        elif method != "GET" or not (_SCENE.fullmatch(asked) or _CALL.fullmatch(asked)):
            return wsgi.answer(
                environ, start_response, 404, f"There is nothing at {percent_encode(path)}. See {own_path}."
            )
        try:
            answer = lab_socket.ask(socket, method, asked, value)
            if _CALL.fullmatch(asked):
                answer = _explain(answer)
        except lab_socket.LabSocketError as error:
            if _CALL.fullmatch(asked):
                return wsgi.answer(environ, start_response, 200, {"lab": None})  # it has gone from memory
            return wsgi.answer(environ, start_response, 409, str(error))
        return wsgi.answer(environ, start_response, 200, {"lab": answer})

    return app


def ask_flags(socket: Path, request_ids: Sequence[str]) -> Mapping[str, str | None]:
    """Return what the lab's Envoys say of calls, as AskFlags has it."""
    flags: dict[str, str | None] = {}
    with suppress(lab_socket.LabSocketError):
        flags = lab_socket.ask(socket, "POST", "/flags", request_ids, timeout_seconds=_FLAGS_SECONDS)
    return flags


def _explain(call: Object) -> dict[str, Any]:
    """Return a call in a line, and in full as `meshdemo call` has it."""
    marks = Marks()
    way = [click.unstyle(line).strip() for line in format_short(call, _ONE_LINE, marks)]
    return {
        "way": _FOLDERS.sub("", " · ".join(way)),
        "whole": [click.unstyle(line) for line in format_call(call, _WIDTH, marks)],
    }
