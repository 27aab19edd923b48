"""One connection on waitress: answers in one packet, refusals in one line, and no work for clients that have left."""

from __future__ import annotations

import socket
import time

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import InternalServerError

from meshdemo.escaping import printable
from meshdemo.serving import wsgi
from meshdemo.serving.waitress_parser import RequestParser

# A request that waited longer than this for a thread is not begun when its client has left meanwhile.
_LONG_WAIT_SECONDS = 0.5


def _has_left(sock: socket.socket) -> bool:
    """Tell whether the other side has closed; one that only stops sending looks the same, until it is written to."""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


class _Task(WSGITask):
    wrote_header: bool

    def execute(self) -> None:
        """Call the application, unless the request waited for a thread and its client has left."""
        waited_seconds = time.time() - self.channel.last_activity
        if waited_seconds > _LONG_WAIT_SECONDS and _has_left(self.channel.socket):
            raise ClientDisconnected
        super().execute()

    def write(self, data: bytes) -> None:
        """Send the header together with a whole body: waitress sends two packets, and wakes the client twice.

        Its setting send_bytes would make one of them, but hold back what is streamed, and is deprecated.
        """
        if self.complete and not self.wrote_header:
            header = self.build_response_header()
            self.wrote_header = True
            if self.has_body and data and len(data) == self.content_length:
                self.content_bytes_written = len(data)
                self.channel.write_soon(header + data)
                return
            self.channel.write_soon(header)
        super().write(data)

    def build_response_header(self) -> bytes:
        options = self.request.headers.get("CONNECTION", "").lower().split(",")
        if self.channel.server.draining or "close" in map(str.strip, options):
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header


class _RefusingTask(ErrorTask):
    """Says in one line why a request is refused, logs it, and ends the connection."""

    def execute(self) -> None:
        """Answer."""
        error = self.request.error
        data = f"Error: {error.reason.lower()}: {printable(error.body)}\n".encode()
        self.version = "1.1"
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [*wsgi.HEADERS.items(), ("Content-Type", "text/plain; charset=utf-8")]
        self.content_length = len(data)
        self.set_close_on_finish()
        log_refused = self.channel.server.log_refused
        if log_refused and not isinstance(error, InternalServerError):  # which the application's log has
            log_refused(self.channel.addr[0], self.request.command, self.request.request_uri, error.code)
        self.write(b"" if self.request.command == "HEAD" else data)


class Channel(HTTPChannel):
    """A connection of a client."""

    parser_class = RequestParser
    task_class = _Task
    error_task_class = _RefusingTask
    #: How long shutting down has waited for its client, in seconds.
    waited_seconds = 0.0
