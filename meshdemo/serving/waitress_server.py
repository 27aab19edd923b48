"""A WSGI application on waitress, with what waitress lacks: probes that never wait, draining, room in a crowd.

Only this, waitress_channel.py and waitress_parser.py import waitress. Its main loop runs in a thread of its own and is
touched from there alone.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from meshdemo.serving import wsgi
from meshdemo.serving.waitress_channel import Channel

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

BACKLOG = 1024

_CONNECTION_LIMIT = 4096
_ACCEPTS_AT_ONCE = 32
# Files that are open beside connections: standard streams, listeners, what a resolver or a certificate takes.
_OTHER_FILES = 48
# How long an idle connection stays open. Whoever closes it while the other side sends loses that request; Envoy closes
# after an hour (Envoy, "How do I configure timeouts?", idle_timeout), so this side keeps it a little longer.
_IDLE_SECONDS = 65 * 60
# How long, in all, shutting down waits for one client to send the rest of its request and to read its answer.
_CLIENT_SECONDS = 3.0
_POLL_SECONDS = 0.05
# How long a connection may take to bring its request before it makes room, where most of the others are busy.
_NEWCOMER_SECONDS = 0.2


class Server:
    """A WSGI application served from a thread of its own, with `/healthz` and `/readyz` in front.

    `sockets` come from `bind` and are closed by this. Requests run on `threads` threads; the probes have one to
    themselves, so that they answer while all others are busy. `log_refused` is told client, method, target and status
    of each request that never reaches the application.
    """

    def __init__(
        self,
        app: WSGIApplication,
        sockets: list[socket.socket],
        threads: int,
        log_refused: Callable[[str, str, str, int], object] | None = None,
    ) -> None:
        self.port: int = sockets[0].getsockname()[1]
        self._draining = False
        # Waitress warns whenever more requests wait than threads are free, once for each of them.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._map: dict[int, Any] = {}
        self._dispatcher = _Dispatcher(threads)
        probed = wsgi.with_probes(app, lambda: not self._draining)
        adjustments = Adjustments(
            ident="meshdemo",
            listen="",  # the sockets are there already
            # What a mesh adds, X-Forwarded-Client-Cert for one, is what people want to see.
            clear_untrusted_proxy_headers=False,
            connection_limit=2 * _CONNECTION_LIMIT,  # never reached: a listener has a limit of its own
            channel_timeout=_IDLE_SECONDS,
            log_socket_errors=False,
            # Never a file: the root file system may be read-only.
            inbuf_overflow=4 * wsgi.BODY_LIMIT_BYTES,
            outbuf_overflow=16 * wsgi.BODY_LIMIT_BYTES,
        )
        limit = _connection_limit(threads)
        self._listeners = [
            _Listener(probed, sock, self._map, self._dispatcher, adjustments, connection_limit=limit)
            for sock in sockets
        ]
        for listener in self._listeners:
            listener.log_refused = log_refused
        self._thread = threading.Thread(
            target=wasyncore.loop,
            # select() cannot watch a file number above 1023.
            kwargs={"timeout": 1.0, "use_poll": True, "map": self._map},
            name=f"server-{self.port}",
            daemon=True,
        )
        self._thread.start()

    def drain(self) -> None:
        """Turn `/readyz` to 503, and end each connection with its next answer."""
        self._draining = True
        for listener in self._listeners:
            listener.draining = True

    def close(self) -> None:
        """Stop listening, answer every request that has arrived whole, then end the thread.

        Takes as long as those requests do, and at most 3 seconds more for clients that are slow to send the rest of a
        request or to read an answer.
        """
        self.drain()
        self._in_loop(self._stop_listening)
        checked = time.monotonic()
        while any(listener.active_channels for listener in self._listeners):
            now = time.monotonic()
            self._in_loop(functools.partial(self._close_unneeded_connections, now - checked))
            checked = now
            time.sleep(_POLL_SECONDS)
        self._in_loop(lambda: wasyncore.close_all(self._map))
        self._thread.join()
        self._dispatcher.shutdown()

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
            for _ in range(BACKLOG // _ACCEPTS_AT_ONCE):
                if _is_readable(listener.socket):
                    listener.handle_accept()
            wasyncore.dispatcher.close(listener)

    def _close_unneeded_connections(self, elapsed_seconds: float) -> None:
        """Close connections that are idle, and those whose clients have been waited for long enough.

        How much a client sends or reads meanwhile does not count: a byte a second would hold up the end for ever.
        """
        for channel in [channel for listener in self._listeners for channel in listener.active_channels.values()]:
            # Above that mark the thread that makes the answers waits for the client to read.
            waits_for_client = channel.total_outbufs_len > channel.adj.outbuf_high_watermark
            if channel.requests and not waits_for_client:
                continue
            channel.waited_seconds += elapsed_seconds
            is_idle = not (channel.request or channel.total_outbufs_len or _is_readable(channel.socket))
            if is_idle or channel.waited_seconds > _CLIENT_SECONDS:
                channel.handle_close()


def _is_readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _connection_limit(threads: int) -> int:
    """Return how many connections may be open, after raising the soft limit on open files where there is one.

    Each thread may have a connection to an upstream as well; where files are few, clients get half of them.
    """
    try:
        import resource
    except ImportError:  # Windows
        return _CONNECTION_LIMIT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reserve = threads + _ACCEPTS_AT_ONCE + _OTHER_FILES
    wanted = _CONNECTION_LIMIT + reserve
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return _CONNECTION_LIMIT
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(soft // 2, soft - reserve)


class _Dispatcher:
    """Hands requests to threads: the probes to one of their own."""

    def __init__(self, threads: int) -> None:
        self._requests = ThreadedTaskDispatcher()
        self._requests.set_thread_count(threads)
        self._probes = ThreadedTaskDispatcher()
        self._probes.set_thread_count(1)

    def add_task(self, channel: Channel) -> None:
        target = getattr(channel.requests[0], "request_uri", "")
        is_probe = wsgi.split_target(target)[0] in wsgi.PROBE_PATHS
        (self._probes if is_probe else self._requests).add_task(channel)

    def shutdown(self) -> None:
        self._requests.shutdown()
        self._probes.shutdown()


class _Listener(TcpWSGIServer):
    """A listening socket that still accepts at the limit of connections: those idle longest make room.

    Waitress stops accepting there, so that idle clients shut everybody out, the probes among them. Where no file is
    left for a connection, it tries again without a pause. A short time for idle connections instead would end those
    that Envoy keeps, and with them requests that are on their way.
    """

    channel_class = Channel
    draining = False
    log_refused: Callable[[str, str, str, int], object] | None = None
    _is_full = False

    def __init__(
        self,
        app: WSGIApplication,
        sock: socket.socket,
        channels: dict[int, Any],
        dispatcher: _Dispatcher,
        adjustments: Adjustments,
        *,
        connection_limit: int,
    ) -> None:
        self._connection_limit = connection_limit
        where = (sock.family, sock.type, sock.proto, sock.getsockname())
        super().__init__(
            app, channels, _sock=sock, dispatcher=dispatcher, adj=adjustments, sockinfo=where, bind_socket=False
        )

    def readable(self) -> bool:
        if self._is_full:
            # One turn of the loop without this socket: it waits until something else happens, or for a second.
            self._is_full = False
            return False
        return bool(super().readable())

    def handle_accept(self) -> None:
        """Accept several connections, since each turn of the loop looks at all of them, and then make room."""
        if not self._make_room():
            self._is_full = True
            return
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                accepted = self.accept()
            except OSError:  # no file is left
                self._is_full = not self._make_room(at_least=1)
                break
            if accepted is None:
                break
            connection, address = accepted
            with contextlib.suppress(OSError):  # macOS says here that the client has gone already
                self.set_socket_options(connection)
            self.channel_class(self, connection, address, self.adj, map=self._map)
        self._make_room()

    def _make_room(self, at_least: int = 0) -> bool:
        """Close connections until the limit holds, those idle longest first; tell whether it holds."""
        wanted = max(at_least, len(self._map) - self._connection_limit)
        if wanted <= 0:
            return True
        idle = [item for item in self._map.values() if isinstance(item, Channel) and not item.requests]
        if len(idle) < self._connection_limit / 2:
            # Most are busy, so that those without a request are newcomers, whose requests are on their way.
            now = time.time()
            idle = [channel for channel in idle if now - channel.last_activity > _NEWCOMER_SECONDS]
        # Those with an answer that their client has not read yet come last.
        idle.sort(key=lambda channel: (channel.total_outbufs_len > 0, channel.last_activity))
        for channel in idle:
            if not _is_readable(channel.socket):  # otherwise a request may have come meanwhile
                channel.handle_close()
                wanted -= 1
                if not wanted:
                    return True
        return False
