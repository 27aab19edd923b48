"""What the page asks the lab: what runs there, edits, and why a call went where it went.

Only pods of a lab have its socket; elsewhere nothing of this is loaded, and the page asks for none of it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshdemo import lab_socket
from meshdemo.escaping import percent_encode
from meshdemo.serving import wsgi

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_BODY_LIMIT_BYTES = 10_000
# What the page may look at: the scene, waiting for another one than was seen, and a call by its x-request-id.
_SEEN = re.compile(r"/scene(/[0-9a-f]{1,16})?|/calls/[0-9a-f-]{1,40}")


def create_lab(socket: Path, own_path: str) -> WSGIApplication:
    """Return what answers the page's questions about the lab, below `own_path`."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = wsgi.raw_path(environ)
        method, asked = environ["REQUEST_METHOD"], path.removeprefix(own_path)
        value: Any = None
        if method == "POST" and asked == "/edit":
            # A page's own POST always has one (Fetch, "append a request Origin header").
            if "HTTP_ORIGIN" not in environ:
                return wsgi.answer(environ, start_response, 403, "Only the lab's own page can edit.")
            if int(environ.get("CONTENT_LENGTH") or 0) > _BODY_LIMIT_BYTES:
                return wsgi.answer(environ, start_response, 413, "An edit is a few numbers.")
            try:
                value = json.loads(wsgi.read_body(environ))
            except ValueError:
                return wsgi.answer(environ, start_response, 400, "An edit is JSON.")
        elif method != "GET" or not _SEEN.fullmatch(asked):
            return wsgi.answer(
                environ, start_response, 404, f"There is nothing at {percent_encode(path)}. See {own_path}."
            )
        try:
            answer = lab_socket.ask(socket, method, asked, value)
        except lab_socket.LabSocketError as error:
            return wsgi.answer(environ, start_response, 409, str(error))
        return wsgi.answer(environ, start_response, 200, {"lab": answer})

    return app
