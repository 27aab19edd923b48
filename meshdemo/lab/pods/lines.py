"""Answers with a line at a port where nobody speaks HTTP, in this process."""

from __future__ import annotations

import socket
import socketserver
import threading

#: How long a caller may keep a connection open without a word, and how much is read at a time.
IDLE_SECONDS = 60.0
READ_BYTES = 65536
# How long a caller may be silent before it gets the first word. A sidecar judges a connection by what the caller says
# first, and a caller that speaks sooner is to be judged before it is answered.
_FIRST_WORD_SECONDS = 1.0


class LineHandler(socketserver.BaseRequestHandler):
    """Says `line` to one who has said something, or nothing for a while, and takes whatever else is said."""

    line = b""

    def handle(self) -> None:
        """Say it to one who has connected."""
        self.first_byte()
        self.say_line()

    def first_byte(self) -> bytes:
        """Return what the caller begins with, and leave it there; nothing where it is silent."""
        self.request.settimeout(_FIRST_WORD_SECONDS)
        try:
            return bytes(self.request.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return b""

    def say_line(self) -> None:
        """Say it, and that this is all."""
        self.request.settimeout(IDLE_SECONDS)
        self.request.sendall(self.line)
        self.request.shutdown(socket.SHUT_WR)
        while self.request.recv(READ_BYTES):
            pass


class LineServer:
    """Says `line` to each who connects to a port of loopback, from `start` to `stop`.

    A `handler` of another class does what it does, with `attributes`.
    """

    def __init__(self, port: int, line: str, handler: type[LineHandler] = LineHandler, **attributes: object) -> None:
        self._port = port
        self._handler = type("Handler", (handler,), {"line": f"{line}\n".encode(), **attributes})
        self._server: _Server | None = None

    def start(self) -> None:
        """Listen from now on."""
        self._server = _Server(("127.0.0.1", self._port), self._handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="line", daemon=True).start()

    def stop(self) -> None:
        """Listen no more, once; calls that are being answered go on."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a caller that has gone."""
