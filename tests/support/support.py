"""What the tests share: whole programs, calls, manifests, and upstreams that behave as they are told."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml

from meshdemo.cli import main

#: The commands of the program by their names.
COMMANDS = {name: main.get_command(click.Context(main), name) for name in main.list_commands(click.Context(main))}
ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 20
MEBIBYTE = 1024 * 1024
#: What the lesson `path` does in any engine: the path that is called, the version that answers, the path that it sees.
PATHS = [("/v2", "2", "/"), ("/v2?q=1", "2", "/"), ("/v2/x", "2", "/x"), ("/v2beta", "1", "/v2beta"), ("/", "1", "/")]


def wait_until(condition: Callable[[], object], what: str, seconds: float = DEADLINE_SECONDS, *, every: float = 0.02):
    """Return what `condition` returns as soon as that is true, looking every so many seconds."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(every)
    return result


def replace_text(path: Path, text: str | bytes) -> None:
    """Give a file another text at once, as most editors do: no reader sees it half written, or empty."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(text.encode() if isinstance(text, str) else text)
    new.replace(path)


def in_tiers(parameters, every):
    """Return parameters for a test: the first of every so many are for the first tier, the others for the second."""
    return [
        pytest.param(
            *(each if isinstance(each, tuple) else (each,)), marks=[pytest.mark.thorough] if number % every else []
        )
        for number, each in enumerate(parameters)
    ]


# Applications in process


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


class Body:
    """A request body that can be read once."""

    def __init__(self, data):
        self._data = data

    def read(self, size):
        data, self._data = self._data[:size], self._data[size:]
        return data

    def readline(self, size=-1):
        raise NotImplementedError

    readlines = __iter__ = readline


# Whole programs


class Program:
    """A running `meshdemo` command: its printed address, and what it writes."""

    def __init__(self, *args, env=None, **options):
        clean = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "PYTHONPATH")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "meshdemo", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**clean, **(env or {})},
            cwd=ROOT,
            **options,
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


def get(port, path="/", **headers):
    """Return status, headers and text of one call on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode().removesuffix("\n")
    finally:
        connection.close()


def is_refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def free_port():
    """Return a port that nobody has, nor is given by the system for a connection, and that no lab chooses."""
    for port in random.Random().sample(range(10000, 20000), 200):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


#: What the page's own requests carry: the value that it was given, which its cookie has, too.
OF_THE_PAGE = {"Cookie": f"a=b; meshdemo-page={'0' * 32}", "Meshdemo-Page": "0" * 32}


# Upstreams


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


# Upstreams that misbehave


def reset(conn):
    """Close a connection with a reset."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def hostile(*parts, then=None):
    """Return a behaviour that reads the request, sends `parts`, and closes or does `then`."""

    def behave(conn):
        read_request(conn)
        for part in parts:
            conn.sendall(part)
        if then:
            then(conn)

    return behave


def for_ever(data, pause=0.0):
    def send(conn):
        while True:
            conn.sendall(data)
            if pause:
                time.sleep(pause)

    return send


def wait_for_client(conn):
    while conn.recv(65536):
        pass


# The beginning of an answer.
OK = b"HTTP/1.1 200 OK\r\n"


@functools.cache
def gzip_bomb() -> bytes:
    """Return 200 MiB of zeros, compressed in steps that take no memory of their own."""
    compressor = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    parts = [compressor.compress(bytes(MEBIBYTE)) for _ in range(200)]
    return b"".join(parts) + compressor.flush()


def send_gzip_bomb(conn):
    read_request(conn)
    conn.sendall(http_response(gzip_bomb(), "Content-Encoding: gzip"))


HOSTILE = {
    "never answers": (hostile(then=wait_for_client), "timed out after 0.5 seconds"),
    "never reads": (wait_for_client, "timed out after 0.5 seconds"),
    "drips its headers": (hostile(OK, then=for_ever(b"X: y\r\n", 0.1)), "timed out after 0.5 seconds"),
    "drips its body": (
        hostile(OK, b"Content-Length: 99\r\n\r\n", then=for_ever(b"x", 0.1)),
        "timed out after 0.5 seconds",
    ),
    "drips its status line": (hostile(then=for_ever(b"H", 0.1)), "timed out after 0.5 seconds"),
    "closes at once": (hostile(), "connection closed without an answer"),
    "resets": (hostile(then=reset), "connection reset"),
    "closes in the middle of the body": (
        hostile(OK, b"Content-Length: 99\r\n\r\nhalf"),
        "connection closed in the middle of the answer",
    ),
    "resets in the middle of the body": (
        hostile(OK, b"Content-Length: 99\r\n\r\nhalf", then=reset),
        "connection reset",
    ),
    "is no web server": (hostile(b"220 mail.example ESMTP\r\n"), "not an HTTP answer"),
    "sends garbage": (hostile(bytes(range(256)) * 64), "not an HTTP answer"),
    "sends an endless line": (hostile(then=for_ever(b"x" * 65536)), "answer with a line of more than 64 KiB"),
    "sends endless headers": (hostile(OK, then=for_ever(b"X: y\r\n")), "answer with more than 100 headers"),
    "sends a large header": (
        hostile(OK, b"X: ", b"x" * 70_000, b"\r\n\r\n"),
        "answer with a line of more than 64 KiB",
    ),
    "sends a length that is no number": (hostile(OK, b"Content-Length: abc\r\n\r\nok"), "not an HTTP answer"),
    "sends an empty length": (hostile(OK, b"Content-Length:\r\n\r\nok"), "not an HTTP answer"),
    "sends a negative length": (hostile(OK, b"Content-Length: -2\r\n\r\nok"), "not an HTTP answer"),
    "sends endless interim answers": (
        hostile(then=for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)),
        "answer larger than 1 MiB",
    ),
    "sends endless early hints": (
        hostile(then=for_ever(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000)),
        "answer larger than 1 MiB",
    ),
    "drips early hints": (
        hostile(then=for_ever(b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.1)),
        "timed out after 0.5 seconds",
    ),
    "sends an interim answer and closes": (
        hostile(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        "connection closed without an answer",
    ),
    "sends an endless body": (hostile(OK, b"\r\n", then=for_ever(b"x" * 65536)), "answer larger than 1 MiB"),
    "sends an endless chunk size": (
        hostile(OK, b"Transfer-Encoding: chunked\r\n\r\n", then=for_ever(b"0" * 65536)),
        "not an HTTP answer",
    ),
    "sends endless trailers": (
        hostile(OK, b"Transfer-Encoding: chunked\r\n\r\n0\r\n", then=for_ever(b"X: y\r\n" * 1000)),
        "answer larger than 1 MiB",
    ),
    "sends a gzip bomb": (send_gzip_bomb, "answer larger than 1 MiB"),
    "says gzip and sends none": (
        hostile(http_response(b"plain", "Content-Encoding: gzip")),
        "answer that cannot be decompressed",
    ),
    "announces too much": (
        hostile(http_response(b"x" * (MEBIBYTE + 1))),
        "answer larger than 1 MiB",
    ),
    "lies about its chunks": (
        hostile(OK, b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"),
        "answer with broken chunks",
    ),
    "ends between two chunks": (
        hostile(OK, b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        "connection closed in the middle of the answer",
    ),
    "sends a chunk of a negative size": (
        hostile(OK, b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n"),
        "answer with broken chunks",
    ),
    "ends within a chunk": (
        hostile(OK, b"Transfer-Encoding: chunked\r\n\r\nff\r\nhello"),
        "connection closed in the middle of the answer",
    ),
}


# Manifests


def documents(path: Path) -> list[dict]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def parsed(args):
    """Return what the real command makes of a container's arguments."""
    command = COMMANDS[args[0]]
    return command.make_context(args[0], list(args[1:]), help_option_names=["-h", "--help"]).params
