"""Serving a WSGI application until a signal: binding, starting, draining, and ending the process."""

from __future__ import annotations

import errno
import functools
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from meshdemo.console import streams
from meshdemo.errors import StartError
from meshdemo.serving import wsgi
from meshdemo.serving.waitress_server import BACKLOG, Server

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

#: Enough for 64 slow requests at once: with waitress' default of 4, four of them hold up everything else.
DEFAULT_THREADS = 64
DEFAULT_DRAIN_SECONDS = 5.0
#: Where only this machine reaches what listens.
LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 3030

_POLL_SECONDS = 0.05
_TURN_SECONDS = 0.25


@dataclass(frozen=True)
class ServeOptions:
    """How to serve; an empty `host` means every interface, and `port` 0 one that is free."""

    port: int = DEFAULT_PORT
    host: str = ""
    threads: int = DEFAULT_THREADS
    drain_seconds: float = DEFAULT_DRAIN_SECONDS
    access_log: bool = True


class _NoAddressError(StartError):
    """The machine does not have the address."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for `host`, an empty one meaning every interface, IPv4 and IPv6 where there is one.

    All of them have the same port; for port 0 one that is free. Raise StartError for what cannot be had.
    """
    sockets: list[socket.socket] = []
    for family, address in _addresses(host):
        try:
            sockets.append(_listen(family, address, port))
            port = sockets[0].getsockname()[1]
        except _NoAddressError:
            if not sockets:
                raise  # otherwise IPv6 is known to this machine, but not enabled
    return sockets


def url_of(host: str, port: int) -> str:
    """Return where a person on this machine reaches what listens on `host`."""
    return f"http://{f'[{host}]' if ':' in host else host or 'localhost'}:{port}"


def interfaces_of(host: str) -> str:
    """Return what to say of where that is reached from, nothing where `host` says it."""
    return "" if host else " on all interfaces"


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    if not host:
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise StartError(f"cannot listen on {host!r}: no such host. Name an address of this machine.") from None
    unique = dict.fromkeys((family, str(address[0])) for family, _, _, _, address in answers)
    return sorted(unique)  # IPv4 first


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens on `host`; raise StartError where there is no such host."""
    return all(address.startswith("127.") or address == "::1" for _, address in _addresses(host))


def _listen(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    try:
        return socket.create_server((address, port), family=family, backlog=BACKLOG)
    except PermissionError:
        raise StartError(f"not allowed to listen on port {port}: choose one above 1023 with --port.") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"port {port} is already in use: choose another with --port, or 0 for a free one."
            ) from None
        reason = os.strerror(error.errno or 0).lower()
        raise _NoAddressError(f"cannot listen on {address!r}: {reason}. Name an address of this machine.") from None


def serve(
    app: WSGIApplication,
    name: str,
    sockets: list[socket.socket],
    options: ServeOptions,
    started: Callable[[int], object],
) -> None:
    """Serve until a signal says otherwise; call from the main thread. `started` is told the port once it listens.

    `name` stands in the access log.

    SIGTERM drains: `/readyz` says 503 while serving goes on for `drain_seconds`, so that load balancers notice; then
    nothing new is accepted, requests that have arrived whole are answered, and this returns, at most 3 seconds later
    for clients that are slow. Ctrl+C, or a second SIGTERM, returns at once.
    From here on nothing that this process writes to its standard streams holds it up.
    """
    streams.unblock()
    signals = _Signals()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: signals.add(number))
    log_refused = None
    if options.access_log:
        app, log_refused = wsgi.with_access_log(app, name), functools.partial(wsgi.log_refused, name)
    server = Server(app, sockets, options.threads, log_refused)
    started(server.port)
    if signals.next() == signal.SIGINT:
        return
    server.drain()
    if signals.next(options.drain_seconds):
        return
    closing = threading.Thread(target=server.close, daemon=True)
    closing.start()
    while closing.is_alive():
        if signals.next(_POLL_SECONDS):
            return


class _Signals:
    """The signals that have arrived, in order."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._arrived = threading.Semaphore(0)

    def add(self, number: int) -> None:
        """Take one, in the handler of a signal."""
        self._numbers.append(number)
        self._arrived.release()

    def next(self, seconds: float = math.inf) -> int | None:
        """Return the next one, or None after `seconds`.

        Waits in turns: a signal may be given to any thread, and its handler runs in this one only once that wakes
        (Python, "signal", execution of handlers).
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._arrived.acquire(timeout=min(left, _TURN_SECONDS)):
                return self._numbers.pop(0)
        return None


def exit_process(code: int = 0) -> NoReturn:
    """End the process without waiting for threads that are still at work."""
    streams.finish()
    os._exit(code)
