"""The fixtures: an application in process, whole programs, and upstreams that end with their test."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from support import ROOT, Body, Program, Response, TcpServer


def pytest_configure() -> None:
    """Let programs that a test starts be those of this folder, and heed signals that are ignored here."""
    os.environ["PYTHONPATH"] = str(ROOT)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Return how many tests run beside each other: one more than there are cores, since much of a test is waiting.

    Four at most, since a lab is many processes.
    """
    return min((os.cpu_count() or 1) + 1, 4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Istio's control plane, so that the rest can run while that is compiled.

    What takes minutes begins first, so that in the end nobody waits for it.
    """
    for item in items:
        if "built_istiod" in item.fixturenames:
            item.add_marker("istiod")
    items.sort(key=lambda item: item.get_closest_marker("minutes") is None)


@pytest.fixture(autouse=True)
def _restore_signals() -> Iterator[None]:
    """Heed signals again that a command has left ignored in this process, which it takes for the end of it."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


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
            environ["wsgi.input"] = Body(body)
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


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """Return a function that starts `python -m meshdemo ARGS` and waits for its address."""
    programs = []

    def start(*args, **options):
        programs.append(Program(*args, **options))
        return programs[-1]

    yield start
    for started in programs:
        started.close()


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


@pytest.fixture(scope="session")
def built_istiod():
    """Skip where Istio's control plane has not been compiled, with what to do about it."""
    from meshdemo.lab.istiod import build

    try:
        return build.find()
    except build.BuildError as error:
        pytest.skip(str(error))
