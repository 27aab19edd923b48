"""Binding, starting, draining and leaving, with whole programs and real signals."""

import contextlib
import ctypes
import http.client
import re
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import DEADLINE_SECONDS, get, is_refused, wait_until
from wire import exchange

from meshdemo.errors import StartError
from meshdemo.serving import server

# Binding


def test_bind_all_interfaces_gives_one_port():
    """Port 0 picks a free port, the same for IPv4 and IPv6."""
    sockets = server.bind("", 0)
    try:
        assert {sock.getsockname()[0] for sock in sockets} <= {"0.0.0.0", "::"}
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        assert sockets[0].getsockname()[1] > 0
    finally:
        for sock in sockets:
            sock.close()


def test_bind_without_ipv6(monkeypatch):
    """A machine without IPv6 listens on IPv4 alone."""
    create = socket.create_server

    def create_server(address, *, family, **options):
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return create(address, family=family, **options)

    monkeypatch.setattr(server.socket, "create_server", create_server)
    (only,) = server.bind("", 0)
    only.close()
    assert only.family == socket.AF_INET


def test_bind_a_busy_port():
    """A busy port is named."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(StartError, match=f"port {port} is already in use: choose another"):
            server.bind("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (
            "192.0.2.1",
            "cannot listen on '192.0.2.1': cannot assign requested address. Name an address of this machine.",
        ),
        ("no-such-host.invalid", "cannot listen on 'no-such-host.invalid': no such host. Name"),
        ("two\nlines", r"cannot listen on 'two\nlines': no such host. Name"),
        ("a..b", "cannot listen on 'a..b': no such host. Name"),
    ],
)
def test_bind_an_address_of_another_machine(host, words):
    """An address that is not this machine's is named."""
    with pytest.raises(StartError, match=re.escape(words)):
        server.bind(host, 0)


def test_bind_a_port_that_needs_root(monkeypatch):
    """A privileged port is named with what to do."""

    def create_server(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(server.socket, "create_server", create_server)
    with pytest.raises(StartError, match="not allowed to listen on port 80: choose one above 1023"):
        server.bind("127.0.0.1", 80)


# Starting


def test_first_line_tells_the_port_really_bound(program):
    """The first line of each role says where it listens, the proxy's also what it calls."""
    web = program("webserver", "--port", "0")
    assert web.first_line == f"meshdemo webserver listening at http://localhost:{web.port}/ on all interfaces"
    front = program("proxy", "--port", "0", "--host", "127.0.0.1", "--proxy-url", web.url)
    assert front.first_line == f"meshdemo proxy listening at http://127.0.0.1:{front.port}/, proxying {web.url}"
    assert get(front.port)[2].startswith("Proxying value: Hello world requested from / on ")


def test_all_interfaces_include_ipv6(program):
    """The default listens on IPv6 where the machine has it."""
    web = program("webserver", "--port", "0")
    try:
        connection = socket.create_connection(("::1", web.port), 5)
    except OSError:
        with pytest.raises(OSError, match=r".*"):
            server._listen(socket.AF_INET6, "::1", 0)  # the machine has none
        return
    connection.close()


# Draining


def test_sigterm_drains(program):
    """Readiness turns 503 while answers go on and end their connections; then the port closes and the end is 0."""
    web = program("webserver", "--port", "0", "--drain-seconds", "1")
    kept = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
    kept.request("GET", "/")
    first = kept.getresponse()
    first.read()
    assert first.headers["Connection"] is None
    assert get(web.port, "/readyz")[0] == 200
    web.signal(signal.SIGTERM)
    wait_until(lambda: get(web.port, "/readyz")[0] == 503, "readiness to turn")
    assert get(web.port, "/healthz")[0] == 200
    kept.request("GET", "/")
    second = kept.getresponse()
    assert (second.status, second.headers["Connection"]) == (200, "close")
    kept.close()
    code, stderr = web.wait_for_end()
    assert code == 0
    assert "Traceback" not in stderr
    assert is_refused(web.port)


def test_a_slow_request_outlives_the_drain(program):
    """A request in flight is answered although the port has closed meanwhile."""
    web = program("webserver", "--port", "0", "--drain-seconds", "0", "--slow-ratio", "1", "--delay", "1.5")
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(get, web.port, "/slowsometimes")
        wait_until(lambda: get(web.port, "/healthz")[0] == 200, "the server")
        time_sent = time.monotonic()
        time.sleep(0.3)
        web.signal(signal.SIGTERM)
        wait_until(lambda: is_refused(web.port), "the port to close")
        assert slow.result(20)[0] == 200
    assert time.monotonic() - time_sent < 10
    assert web.wait_for_end()[0] == 0


@pytest.mark.parametrize("role", ["webserver", "proxy", "up"])
def test_no_request_is_lost_when_sigterm_comes(program, role):
    """Of 200 requests, sent while SIGTERM arrives, each on its own connection, every one gets its answer."""
    options = ["--port", "0", "--drain-seconds", "1.5"]
    if role == "proxy":
        options += ["--proxy-url", program("webserver", "--port", "0").url]
    running = program(role, *options)
    sent = threading.Semaphore(0)

    def call(_):
        sent.release()
        return get(running.port)

    with ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(call, number) for number in range(200)]
        for _ in range(60):
            sent.acquire()
        running.signal(signal.SIGTERM)
        answers = [made.result(30) for made in calls]
    assert [status for status, _, _ in answers] == [200] * 200
    assert all("requested from / on" in text for _, _, text in answers)
    assert any(headers["Connection"] == "close" for _, headers, _ in answers)
    assert running.wait_for_end()[0] == 0


def test_requests_in_flight_when_the_port_closes_are_answered(program):
    """Without any drain time, connections that were accepted before still get their answers."""
    web = program("webserver", "--port", "0", "--drain-seconds", "0", "--threads", "2",
                  "--slow-ratio", "1", "--delay", "0.2")  # fmt: skip
    connections = [http.client.HTTPConnection("127.0.0.1", web.port, timeout=20) for _ in range(16)]
    for connection in connections:
        connection.request("GET", "/slowsometimes")
    wait_until(lambda: web.stderr.count("\n") >= 1, "the first answer")
    web.signal(signal.SIGTERM)
    assert [connection.getresponse().status for connection in connections] == [200] * 16
    for connection in connections:
        connection.close()
    assert web.wait_for_end()[0] == 0


def drip(connection, ended):
    """Send a byte of a request that never ends, ten times a second, and read a byte of what comes."""
    with contextlib.suppress(OSError):
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        while not ended.wait(0.1):
            connection.sendall(b"x")


def sip(connection, ended):
    """Ask for more than the system keeps for a client, and read a byte of it, ten times a second."""
    with contextlib.suppress(OSError):
        connection.sendall(b"GET /ui HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
        while not ended.wait(0.1):
            connection.recv(1)


def many(connection, ended):
    """Ask for more answers than are kept for a client, and read none."""
    with contextlib.suppress(OSError):
        connection.sendall(b"GET /ui HTTP/1.1\r\nHost: a\r\n\r\n" * 2000)
        ended.wait(DEADLINE_SECONDS)


def keep(connection, ended):
    """Do nothing."""


def send_half(connection, ended):
    """Send half a request."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost:")


@pytest.mark.parametrize(
    "behave", [drip, keep, *(pytest.param(each, marks=pytest.mark.thorough) for each in (sip, many, send_half))]
)
def test_no_client_holds_up_the_end(program, behave):
    """Whatever clients do, the end comes when requests that had arrived whole are answered, and 3 seconds later."""
    web = program("proxy", "--port", "0", "--drain-seconds", "0", "--no-access-log")
    ended = threading.Event()
    with ThreadPoolExecutor(3) as pool, contextlib.ExitStack() as held:
        for _ in range(3):
            connection = held.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect(("127.0.0.1", web.port))
            pool.submit(behave, connection, ended)
        get(web.port, "/healthz")
        time.sleep(0.5)  # so that the clients are at what they do
        started = time.monotonic()
        web.signal(signal.SIGTERM)
        try:
            assert web.wait_for_end(15)[0] == 0
        finally:
            ended.set()
        assert time.monotonic() - started < 8  # 3, and what a busy machine takes


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param([signal.SIGINT], id="Ctrl+C"),
        pytest.param([signal.SIGTERM, signal.SIGTERM], id="a second SIGTERM"),
        pytest.param([signal.SIGTERM, signal.SIGINT], id="Ctrl+C while draining"),
    ],
)
@pytest.mark.parametrize("role", ["webserver", "up"])
def test_stop_at_once(program, role, signals):
    """Ctrl+C and a second signal end the process although a request is in flight, without a traceback."""
    running = program(role, "--port", "0", "--drain-seconds", "60", "--slow-ratio", "1", "--delay", "60")
    with socket.create_connection(("127.0.0.1", running.port), 20) as waiting:
        waiting.sendall(b"GET /slowsometimes HTTP/1.1\r\nHost: x\r\n\r\n")
        get(running.port)
        running.signal(signals[0])
        if signals[1:]:
            wait_until(lambda: get(running.port, "/readyz")[0] == 503, "draining to begin")
            running.signal(signals[1])
        code, stderr = running.wait_for_end(5)
    assert code == 0
    assert "Traceback" not in stderr
    assert "Fatal" not in stderr


# The access log of a whole program


def test_access_log_of_a_program(program):
    """Requests are logged on standard error, probes are not, and the request id crosses both roles."""
    web = program("webserver", "--port", "0")
    front = program("proxy", "--port", "0", "--proxy-url", web.url)
    for path in ("/healthz", "/readyz", "/a%0Ab?q=secret"):
        get(front.port, path, **{"X-Request-Id": "id-7"})
    wait_until(lambda: web.stderr and front.stderr, "the log lines")
    for running, role in ((web, "webserver"), (front, "proxy")):
        pattern = rf"\S+Z {role} 127\.0\.0\.1 GET /a%0Ab 200 [\d.]+ms id-7\n"
        assert re.fullmatch(pattern, running.stderr)


def test_a_refused_request_is_one_line_in_the_log(program):
    """What never reaches the role is logged as well, with what is known of it."""
    web = program("webserver", "--port", "0")
    exchange(web.port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    exchange(web.port, b"GET /a\x1b?q=secret HTTP/1.1\r\n\r\n")
    exchange(web.port, b"\x16\x03\x01\r\n\r\n")
    wait_until(lambda: web.stderr.count("\n") >= 3, "the log lines")
    lines = [re.sub(r"^\S+Z ", "", line) for line in web.stderr.splitlines()]
    assert lines == [
        "webserver 127.0.0.1 PRI * 505 0.0ms",
        "webserver 127.0.0.1 GET /a%1B 400 0.0ms",
        "webserver 127.0.0.1 - - 400 0.0ms",
    ]


def test_access_log_can_be_turned_off(program):
    """With --no-access-log nothing is written."""
    web = program("webserver", "--port", "0", "--no-access-log", "--drain-seconds", "0")
    get(web.port)
    exchange(web.port, b"PRI * HTTP/2.0\r\n\r\n")
    web.signal(signal.SIGTERM)
    assert web.wait_for_end() == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a signal be aimed at a thread from outside")
def test_a_signal_that_another_thread_takes(program):
    """The system may give a signal to any thread of the process; it ends all the same."""
    running = program("webserver", "--port", "0")
    tasks = Path(f"/proc/{running.process.pid}/task")
    threads = [int(each.name) for each in tasks.iterdir()]

    def main_thread_waits():
        return all((tasks / str(min(threads)) / "stat").read_text().split()[2] == "S" for _ in range(50))

    wait_until(lambda: get(running.port)[0] == 200 and main_thread_waits(), "the main thread to wait for signals")
    assert ctypes.CDLL(None).tgkill(running.process.pid, max(threads), int(signal.SIGINT)) == 0
    assert running.wait_for_end()[0] == 0
