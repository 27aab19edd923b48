"""The lab's door: HTTP over a Unix socket in its folder, by which other programs of this user ask the running lab.

Bodies are JSON; an error is `{"error": "..."}` with a status of its own. meshdemo/lab_socket.py is how to ask.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from meshdemo.lab_socket import NAME

#: Answers a request: gets what stands behind the path that it was added for, and the body; raises DoorError.
Answer = Callable[[str, Any], Any]
_MOST_BODY_BYTES = 4 * 1024 * 1024


class DoorError(Exception):
    """A request that is refused, with its status; `str()` says why in one line."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Door:
    """Serves on the socket `lab` in `folder`, each request in a thread of its own, from `open` to `close`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._answers: dict[tuple[str, str], Answer] = {}

    def add(self, method: str, path: str, answer: Answer) -> None:
        """Have requests for a path answered; one that ends with a slash stands for all that begins so."""
        self._answers[method, path] = answer

    def open(self) -> None:
        """Take requests from now on."""
        handler = type("Handler", (_Handler,), {"door": self})
        self._server = _Server(str(self.path), handler)
        self.path.chmod(0o600)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="door", daemon=True).start()

    def close(self) -> None:
        """Take no more requests; those that are being answered are not waited for."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, target: str, body: Any) -> Any:
        """Return the answer to a request; raise DoorError."""
        path = unquote(target.partition("?")[0])
        head, slash, rest = path.rpartition("/")
        for known, behind in ((path, ""), (head + slash, rest)):
            found = self._answers.get((method, known))
            if found and (behind or not known.endswith("/") or path == "/"):
                return found(behind, body)
        raise DoorError(404, f"the lab has no {method} {path}")


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    door: Door

    def do_GET(self) -> None:
        """Answer what asks."""
        self._answer()

    def do_POST(self) -> None:
        """Answer what changes or calls something."""
        self._answer()

    def _answer(self) -> None:
        try:
            status, value = 200, self.door.answer(self.command, self.path, self._body())
        except DoorError as error:
            status, value = error.status, {"error": str(error)}
        except Exception as error:  # whatever it is, it must not end the lab
            status, value = 500, {"error": f"meshdemo itself failed, please report it: {error!r}"}
        text = json.dumps(value).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except OSError:  # nobody waits for it any more
            self.close_connection = True

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _MOST_BODY_BYTES:
            self.close_connection = True
            raise DoorError(413, f"a body has {_MOST_BODY_BYTES} bytes at most")
        text = self.rfile.read(int(length))
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise DoorError(400, "the body is not JSON") from None

    def address_string(self) -> str:
        return "lab"

    def log_message(self, *_args: Any) -> None:
        """Write nothing."""
