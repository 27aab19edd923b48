"""A WSGI application on waitress, with what waitress lacks: probes that never wait, draining, bodies cut to size.

The only module that imports waitress. Its main loop runs in a thread of its own and is touched from there alone.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer, create_server
from waitress.task import ThreadedTaskDispatcher, WSGITask

from meshdemo import wsgi

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

BACKLOG = 1024

_CONNECTION_LIMIT = 4096
# How long an idle connection stays open. Whoever closes it while the other side sends loses that request; Envoy closes
# after an hour (Envoy, "How do I configure timeouts?", idle_timeout), so this side keeps it a little longer.
_IDLE_SECONDS = 65 * 60
# How long shutting down waits for a client that neither sends the rest of its request nor reads its answer.
_STALLED_SECONDS = 3.0
# A request that waited longer than this for a thread is not begun when its client has left meanwhile.
_PATIENCE_SECONDS = 0.5
_POLL_SECONDS = 0.05


class Server:
    """A WSGI application served from a thread of its own, with `/healthz` and `/readyz` in front.

    `sockets` come from `bind` and are closed by this. Requests run on `threads` threads; the probes have one to
    themselves, so that they answer while all others are busy.
    """

    def __init__(self, app: WSGIApplication, sockets: list[socket.socket], threads: int) -> None:
        self.port: int = sockets[0].getsockname()[1]
        self._draining = False
        # Waitress warns whenever more requests wait than threads are free, once for each of them.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._map: dict[int, Any] = {}
        self._loop = create_server(
            wsgi.with_probes(app, lambda: not self._draining),
            map=self._map,
            sockets=sockets,
            threads=threads,
            ident="meshdemo",
            # What a mesh adds, X-Forwarded-Client-Cert for one, is what people want to see.
            clear_untrusted_proxy_headers=False,
            connection_limit=_connection_limit(threads),
            channel_timeout=_IDLE_SECONDS,
            asyncore_use_poll=True,  # select() cannot watch a file number above 1023
            log_socket_errors=False,
            # Never a file: the root file system may be read-only.
            inbuf_overflow=4 * wsgi.BODY_LIMIT_BYTES,
            outbuf_overflow=16 * wsgi.BODY_LIMIT_BYTES,
        )
        self._listeners = [item for item in self._map.values() if isinstance(item, TcpWSGIServer)]
        lanes = _Lanes(self._listeners[0].task_dispatcher)
        for listener in self._listeners:
            listener.task_dispatcher = lanes
            listener.channel_class = _Channel
            listener.draining = False
        self._thread = threading.Thread(target=self._loop.run, name=f"server-{self.port}", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Turn `/readyz` to 503, and end each connection with its next answer."""
        self._draining = True
        for listener in self._listeners:
            listener.draining = True

    def close(self) -> None:
        """Stop listening, answer every request that was accepted, then end the thread. Takes as long as they do."""
        self.drain()
        self._in_loop(self._stop_listening)
        while any(listener.active_channels for listener in self._listeners):
            self._in_loop(self._close_idle_connections)
            time.sleep(_POLL_SECONDS)
        self._in_loop(lambda: wasyncore.close_all(self._map))
        self._thread.join()
        self._listeners[0].task_dispatcher.shutdown()

    def _in_loop(self, function: Callable[[], None]) -> None:
        """Run `function` in the server's thread, and wait until it has run: waitress is not to be touched elsewhere."""
        done = threading.Event()

        def run() -> None:
            try:
                function()
            finally:
                done.set()

        self._listeners[0].trigger.pull_trigger(run)
        while self._thread.is_alive() and not done.wait(_POLL_SECONDS):
            pass

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            # Connections that wait in the kernel's queue were accepted as far as their clients can tell.
            for _ in range(BACKLOG):
                if _readable(listener.socket):
                    listener.handle_accept()
            wasyncore.dispatcher.close(listener)

    def _close_idle_connections(self) -> None:
        for channel in [channel for listener in self._listeners for channel in listener.active_channels.values()]:
            if channel.requests:
                continue
            half_done = channel.request or channel.total_outbufs_len
            stalled = time.time() - channel.last_activity > _STALLED_SECONDS
            if stalled or not (half_done or _readable(channel.socket)):
                channel.handle_close()


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _has_left(sock: socket.socket) -> bool:
    """Tell whether the other side has closed; one that only stops sending looks the same, until it is written to."""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _connection_limit(threads: int) -> int:
    """Return how many connections may be open, after raising the soft limit on open files where there is one."""
    try:
        import resource
    except ImportError:  # Windows
        return _CONNECTION_LIMIT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTION_LIMIT + 2 * threads + 64
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(64, soft - 2 * threads - 64)
    return _CONNECTION_LIMIT


class _Lanes:
    """Where requests wait for a thread: the probes in a lane of their own."""

    def __init__(self, requests: ThreadedTaskDispatcher) -> None:
        self._requests = requests
        self._probes = ThreadedTaskDispatcher()
        self._probes.set_thread_count(1)

    def add_task(self, channel: HTTPChannel) -> None:
        target = getattr(channel.requests[0], "request_uri", "")
        lane = self._probes if wsgi.split_target(target)[0] in wsgi.PROBE_PATHS else self._requests
        lane.add_task(channel)

    def shutdown(self) -> None:
        self._requests.shutdown()
        self._probes.shutdown()


class _Body:
    """A request body that keeps no more than is allowed but counts it all.

    Waitress refuses a large body by closing the connection while the client still sends, and the client then sees
    a reset instead of the answer. This lets the application answer 413 by CONTENT_LENGTH.
    """

    def __init__(self, kept: Any) -> None:
        self._kept = kept
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, data: bytes) -> None:
        self._length += len(data)
        if self._length <= wsgi.BODY_LIMIT_BYTES:
            self._kept.append(data)

    def getfile(self) -> Any:
        return self._kept.getfile()

    def close(self) -> None:
        self._kept.close()


class _Parser(HTTPRequestParser):
    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError:  # from urlsplit, for a target such as http://[
            raise ParsingError("Bad URI") from None
        if self.body_rcv is not None:
            self.body_rcv.buf = _Body(self.body_rcv.buf)


class _Gathered:
    """Stands in for a channel and gathers what is written to it."""

    def __init__(self, channel: HTTPChannel) -> None:
        self._channel = channel
        self.parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def write_soon(self, data: bytes) -> None:
        self.parts.append(data)


class _Task(WSGITask):
    channel: Any

    def execute(self) -> None:
        """Call the application, unless the request waited for a thread and its client has left."""
        if time.time() - self.channel.last_activity > _PATIENCE_SECONDS and _has_left(self.channel.socket):
            raise ClientDisconnected
        super().execute()

    def write(self, data: bytes) -> None:
        """Send the header together with the body: waitress sends two packets, and wakes the client twice."""
        if self.wrote_header:
            super().write(data)
            return
        channel = self.channel
        gathered = _Gathered(channel)
        self.channel = gathered
        try:
            super().write(data)
        finally:
            self.channel = channel
        channel.write_soon(b"".join(gathered.parts))

    def build_response_header(self) -> bytes:
        if self.channel.server.draining:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header


class _Channel(HTTPChannel):
    parser_class = _Parser
    task_class = _Task
