"""What is added to waitress: probes that never wait, and bodies cut to size."""

import http.client
import json
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import get, wait_until

from meshdemo.calling.upstream import Upstream
from meshdemo.roles import proxy, webserver
from meshdemo.roles.webserver import Faults
from meshdemo.serving import server, waitress_channel, wsgi
from meshdemo.serving.waitress_server import Server


@pytest.fixture
def serve():
    """Return a function that serves an application and gives its port."""
    running = []

    def start(app, threads=8):
        running.append(Server(app, server.bind("127.0.0.1", 0), threads))
        return running[-1].port

    yield start
    for started in running:
        started.close()


def test_probes_do_not_wait_for_slow_requests(serve):
    """With every thread busy and more requests waiting, both probes are answered before them; the others in turn."""
    order, lock, release = [], threading.Lock(), threading.Event()

    def app(environ, start_response):
        release.wait(20)
        with lock:
            order.append(environ["PATH_INFO"])
        return wsgi.answer(environ, start_response, 200, "")

    port = serve(app, threads=1)
    with ThreadPoolExecutor(8) as pool:
        calls = []
        for number in range(6):
            calls.append(pool.submit(get, port, f"/{number}"))
            time.sleep(0.05)
        assert [get(port, path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
        assert order == []
        release.set()
        assert [call.result(20)[0] for call in calls] == [200] * 6
    assert order == [f"/{number}" for number in range(6)]


def send_and_leave(port, path, *, reset):
    """Send a request and close the connection without waiting for the answer."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)


def test_a_request_whose_client_left_while_it_waited_is_not_begun(serve, monkeypatch):
    """Of the requests that waited for a thread only those are served whose clients are still there."""
    monkeypatch.setattr(waitress_channel, "_LONG_WAIT_SECONDS", 0)
    paths, release = [], threading.Event()

    def app(environ, start_response):
        paths.append(environ["PATH_INFO"])
        release.wait(20)
        return wsgi.answer(environ, start_response, 200, "")

    port = serve(app, threads=1)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(get, port, "/first")
        wait_until(lambda: paths, "the first request")
        for number in range(10):
            send_and_leave(port, b"/left", reset=number % 2)
        last = pool.submit(get, port, "/last")
        assert get(port, "/healthz")[0] == 200
        release.set()
        assert [call.result(20)[0] for call in (first, last)] == [200, 200]
    assert paths == ["/first", "/last"]


def test_a_client_that_only_stops_sending_gets_its_answer(serve, monkeypatch):
    """A client that closes its sending side, as some scripts do, is served where nobody has to wait."""
    monkeypatch.setattr(waitress_channel, "_LONG_WAIT_SECONDS", 60)
    port = serve(webserver.create_app(content="V1"))
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while more := connection.recv(65536):
            data += more
    assert b"V1 requested from / on" in data


def test_64_slow_requests_at_once(serve):
    """64 calls that take 1 s end within 1.5 s, through the proxy too, and health answers within 0.1 s meanwhile.

    A busy machine may take longer; one of five rounds has to hold.
    """
    backend = serve(webserver.create_app(faults=Faults(slow_ratio=1, delay_seconds=1)), threads=64)
    port = serve(proxy.create_app(Upstream(f"http://127.0.0.1:{backend}")), threads=64)
    rounds = []
    for _ in range(5):
        with ThreadPoolExecutor(64) as pool:
            started = time.monotonic()
            calls = [pool.submit(get, port, "/slowsometimes") for _ in range(64)]
            time.sleep(0.5)
            probed = time.monotonic()
            assert get(port, "/healthz")[0] == 200
            health = time.monotonic() - probed
            assert all(call.result(20)[2].startswith("Proxying value: Hello world") for call in calls)
            rounds.append((time.monotonic() - started, health))
        if rounds[-1][0] < 1.5 and rounds[-1][1] < 0.1:
            return
    pytest.fail(f"seconds for all calls, and for health: {rounds}")


def send(port, body, *, method="POST", **headers):
    """Send a body and return status and text; a list is sent in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, "/x", body=body, headers=headers, encode_chunked=isinstance(body, list))
        response = connection.getresponse()
        return response.status, response.read().decode().removesuffix("\n")
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b"x" * 3_000_000, {}, id="with a length"),
        pytest.param([b"x" * 100_000] * 30, {"Transfer-Encoding": "chunked"}, id="in chunks"),
    ],
)
def test_a_large_body(serve, body, headers):
    """The proxy refuses what is over 1 MiB with 413, whole and without a reset; the web server does not mind."""
    backend = serve(webserver.create_app(content="V1", hostname="pod"))
    port = serve(proxy.create_app(Upstream(f"http://127.0.0.1:{backend}")))
    for _ in range(5):
        assert send(port, body, **headers) == (413, "Error: request body of 3000000 bytes, more than 1 MiB")
    assert send(backend, body, **headers) == (200, "V1 requested from /x on pod with code 200")


def test_a_chunked_body_crosses(serve):
    """A body in chunks reaches the upstream with its length."""
    backend = serve(webserver.create_app())
    port = serve(proxy.create_app(Upstream(f"http://127.0.0.1:{backend}")))
    _, text = send(port, [b"ab", b"c"], Accept="application/json", **{"Transfer-Encoding": "chunked"})
    assert json.loads(text)["value"]["headers"]["Content-Length"] == "3"


def test_forwarded_headers_are_shown(serve):
    """What a mesh adds under X-Forwarded names arrives."""
    port = serve(webserver.create_app())
    sent = {"X-Forwarded-Client-Cert": "By=spiffe://a", "X-Forwarded-For": "192.0.2.7", "Accept": "application/json"}
    headers = json.loads(get(port, **sent)[2])["headers"]
    assert headers["X-Forwarded-Client-Cert"] == "By=spiffe://a"
    assert headers["X-Forwarded-For"] == "192.0.2.7"


@pytest.fixture
def running():
    """Serve an application whose answers are as long as the query says."""

    def app(environ, start_response):
        return wsgi.answer(environ, start_response, 200, "x" * int(environ["QUERY_STRING"] or 1))

    started = Server(app, server.bind("127.0.0.1", 0), 2)
    yield started
    started.close()


@pytest.mark.parametrize("is_kept", [False, True], ids=["on a new connection", "on a kept connection"])
def test_a_request_that_is_still_in_the_kernel_at_the_end(running, is_kept):
    """What a client has sent before the end is answered, though the server has not looked at it yet."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    if is_kept:
        connection.request("GET", "/")
        connection.getresponse().read()

    def send_and_end():  # the server's own thread does it, so that it has seen nothing of the request
        connection.request("GET", "/?7")
        if is_kept:
            running._close_unneeded_connections(0.0)
        else:
            running._stop_listening()

    running._in_loop(send_and_end)
    assert connection.getresponse().read() == b"xxxxxxx\n"
    connection.close()


def test_who_has_an_answer_to_read_makes_room_last(running):
    """In a crowd an idle connection is closed before one whose client still reads, though it was idle for less long."""
    (listener,) = running._listeners
    length = 16 * 1024 * 1024
    with socket.socket() as reading, socket.socket() as idle:
        reading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for client, target in ((reading, b"/?%d" % length), (idle, b"/")):
            client.settimeout(20)
            client.connect(("127.0.0.1", running.port))
            client.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
            wait_until(lambda: any(each.total_outbufs_len for each in listener.active_channels.values()), "an answer")
        while not idle.recv(4096).endswith(b"x\n"):
            pass
        wait_until(lambda: not any(each.requests for each in listener.active_channels.values()), "the end of both")
        listener._connection_limit = len(listener._map) - 1
        running._in_loop(listener._make_room)
        assert idle.recv(1) == b""
        received = 0
        while received < length:
            more = reading.recv(1024 * 1024)
            assert more
            received += len(more)
