"""What the tests share: an application in process, whole programs, and upstreams that behave as they are told."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_SECONDS = 20


class Response:
    """What an application in process, or a server on a socket, answered."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body

    @property
    def text(self):
        """Return the body without the line break that ends every text."""
        return self.body.decode("utf-8").removesuffix("\n")

    def json(self):
        return json.loads(self.body)


@pytest.fixture
def call_app():
    """Return a function that calls a WSGI application in process, under the validator of the specification."""

    def call(app, target="/", method="GET", headers=(), body=b"", protocol="HTTP/1.1"):
        path, _, query = target.partition("?")
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path if path[:1] == "/" else "",
            "QUERY_STRING": query,
            "REQUEST_URI": target,
            "SCRIPT_NAME": "",
            "SERVER_PROTOCOL": protocol,
        }
        setup_testing_defaults(environ)
        del environ["HTTP_HOST"]
        environ["REMOTE_ADDR"] = "192.0.2.1"
        for name, value in dict(headers).items():
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        if body:
            environ["wsgi.input"] = _Input(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        started = []

        def start_response(status, response_headers, *_error):
            started.append((status, response_headers))
            return lambda data: None

        iterable = validator(app)(environ, start_response)
        try:
            data = b"".join(iterable)
        finally:
            iterable.close()
        (status, response_headers) = started[-1]
        return Response(int(status[:3]), response_headers, data)

    return call


class _Input:
    """A request body that can be read once."""

    def __init__(self, data):
        self._data = data

    def read(self, size):
        data, self._data = self._data[:size], self._data[size:]
        return data

    def readline(self, size=-1):
        raise NotImplementedError

    readlines = __iter__ = readline


def wait_until(condition: Callable[[], object], what: str, seconds: float = DEADLINE_SECONDS):
    """Return what `condition` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        threading.Event().wait(0.02)
    return result


class Program:
    """A running `meshdemo` command: its printed address, and what it writes."""

    def __init__(self, *args, env=None):
        clean = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "meshdemo", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**clean, **(env or {})},
            cwd=ROOT,
        )
        self.stderr_lines: list[str] = []
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()
        self.first_line = self.process.stdout.readline().rstrip("\n")
        found = re.search(r"http://(\S+):(\d+)/", self.first_line)
        assert found, f"no address in {self.first_line!r}, standard error: {self.wait_for_end()}"
        self.port = int(found[2])
        self.url = f"http://127.0.0.1:{self.port}"

    def _read_stderr(self):
        self.stderr_lines += self.process.stderr

    @property
    def stderr(self):
        return "".join(self.stderr_lines)

    def signal(self, number):
        self.process.send_signal(number)

    def wait_for_end(self, seconds=DEADLINE_SECONDS):
        """Return the exit status and everything on standard error."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code, self.stderr

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """Return a function that starts `python -m meshdemo ARGS` and waits for its address."""
    programs = []

    def start(*args, env=None):
        programs.append(Program(*args, env=env))
        return programs[-1]

    yield start
    for started in programs:
        started.close()


class TcpServer:
    """Accepts connections on loopback and gives each to `behave(connection)` in a thread; counts them."""

    def __init__(self, behave):
        self._behave = behave
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = 0
        self.closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if self.closing.is_set():
                connection.close()
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                self._behave(connection)
            except OSError:
                pass  # the other side has gone

    def close(self):
        self.closing.set()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            pass
        self._socket.close()


@pytest.fixture
def tcp_server() -> Iterator[Callable[..., TcpServer]]:
    """Return a function that starts a TcpServer."""
    servers = []

    def start(behave):
        servers.append(TcpServer(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def read_request(connection: socket.socket) -> bytes:
    """Return the bytes of one request with its body, or what came before the other side closed."""
    data = b""
    while b"\r\n\r\n" not in data and (more := connection.recv(65536)):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    while length and len(body) < int(length[1]) and (more := connection.recv(65536)):
        body += more
    return head + b"\r\n\r\n" + body if data else b""


def replying(data: bytes, requests: list[bytes] | None = None):
    """Return a behaviour that answers each request with `data` and remembers it."""

    def behave(connection):
        while request := read_request(connection):
            if requests is not None:
                requests.append(request)
            connection.sendall(data)

    return behave


def http_response(body: bytes = b"", *headers: str, status: str = "200 OK") -> bytes:
    """Return the bytes of a response with its length."""
    fields = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(fields).encode("latin-1") + b"\r\n\r\n" + body


def relay(choose_port: Callable[[], int]):
    """Return a behaviour that joins each connection to a port, as a Kubernetes Service does without a mesh."""

    def pump(source, sink):
        try:
            sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def behave(connection):
        with socket.create_connection(("127.0.0.1", choose_port())) as backend:
            back = threading.Thread(target=pump, args=(backend, connection), daemon=True)
            back.start()
            pump(connection, backend)
            back.join()

    return behave
