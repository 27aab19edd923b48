"""What tries to break the application, over real sockets: restarts, crowds, hostile clients and hostile upstreams."""

import contextlib
import http.client
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import HOSTILE, Program, TcpServer, get, http_response, in_tiers, read_request, relay, replying, wait_until

from meshdemo.calling.upstream import Upstream
from meshdemo.serving import wsgi
from meshdemo.watching.command import Tally, Watch


@pytest.fixture
def limited(program):
    """Return a function that starts a program with a hard and a soft limit on open files."""
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, own[1]), own[1]))  # for the crowd on this side

    def start(*args, files, soft=None):
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft or files, files))

        return program(*args, preexec_fn=limit)

    yield start
    resource.setrlimit(resource.RLIMIT_NOFILE, own)


def cpu_seconds(pid):
    """Return user and system time of a process (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_at_rest(pid):
    """Watch a process for half a second, and tell whether it used less than a tenth of a core."""
    before = cpu_seconds(pid)
    time.sleep(0.5)
    return cpu_seconds(pid) - before < 0.05


def open_files(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


LAG_SECONDS = 0.3  # how long a load balancer goes on sending to a server that drains


class Balancer:
    """Sends each connection to one of the members in turn, and hears late of those that leave."""

    def __init__(self):
        self.members = []
        self._turn = 0
        self._lock = threading.Lock()

    def choose(self):
        with self._lock:
            self._turn += 1
            return self.members[self._turn % len(self.members)].port

    def replace(self, index, start):
        """Replace a member as a rolling update does: the new one first, and the old one leaves while it drains."""
        old, new = self.members[index], start()
        with self._lock:
            self.members.append(new)
        old.signal(signal.SIGTERM)
        time.sleep(LAG_SECONDS)
        with self._lock:
            self.members.remove(old)
        return old


@pytest.mark.parametrize("count", in_tiers([2, 6], 2))
def test_rolling_restart(program, tcp_server, count):
    """All web servers and the proxy are replaced one after the other under load, and not one request fails."""
    webs, fronts = Balancer(), Balancer()
    service = tcp_server(relay(webs.choose))
    gateway = tcp_server(relay(fronts.choose))

    def start_web():
        return program("webserver", "--port", "0", "--drain-seconds", "0.6", "--no-access-log")

    def start_proxy():
        return program("proxy", "--port", "0", "--drain-seconds", "0.6", "--no-access-log", "--proxy-url", service.url)

    webs.members = [start_web() for _ in range(count)]
    fronts.members = [start_proxy()]
    tally, stop = Tally(), threading.Event()

    def load():
        watch = Watch(Upstream(gateway.url), headers={}, requests=0, rate=60, concurrency=32)
        for sample in watch:
            tally.add(sample)
            if stop.is_set():
                return

    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load)
        wait_until(lambda: tally.requests > 20, "the load")
        left = [webs.replace(0, start_web) for _ in range(count)]
        left.append(fronts.replace(0, start_proxy))
        assert [old.wait_for_end()[0] for old in left] == [0] * (count + 1)
        before = tally.requests
        wait_until(lambda: tally.requests > before + 20, "the load after the restart")
        stop.set()
        loading.result(20)
    assert not tally.unanswered
    assert not tally.errors
    assert {status: count.answers for status, count in tally.statuses.items()} == {200: tally.requests}


def test_more_calls_than_threads(program):
    """With three times as many slow calls as threads, health answers while they wait, and every call in its turn."""
    web = program("webserver", "--port", "0", "--slow-ratio", "1", "--delay", "0.5")
    front = program("proxy", "--port", "0", "--threads", "8", "--proxy-url", web.url)
    with ThreadPoolExecutor(24) as pool:
        calls = [pool.submit(get, front.port, "/slowsometimes") for _ in range(24)]
        wait_until(lambda: any(call.done() for call in calls), "the first answer")
        for path in ("/healthz", "/readyz"):
            assert get(front.port, path)[0] == 200
        assert not all(call.done() for call in calls)
        assert all(call.result(30)[2].startswith("Proxying value: ") for call in calls)


def test_a_thousand_half_sent_requests(program):
    """A thousand clients that never finish their request keep nobody from being served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 2048:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    web = program("webserver", "--port", "0")
    with contextlib.ExitStack() as held:
        for number in range(1000):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", web.port), 10))
            connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"[: 29 + number % 30])
        for _ in range(10):
            started = time.monotonic()
            assert get(web.port)[0] == 200
            assert time.monotonic() - started < 5
    assert get(web.port)[0] == 200


def seconds_of(port, path):
    """Return how long an answer took."""
    started = time.monotonic()
    assert get(port, path)[0] == 200
    return time.monotonic() - started


@pytest.mark.parametrize(
    "files", [256, *(pytest.param(each, marks=pytest.mark.thorough) for each in (64, 1024, 20000))]
)
def test_five_thousand_idle_clients(tcp_server, limited, files):
    """Those idle longest make room: health and requests are answered within a second, and no core spins."""
    web = limited("webserver", "--port", "0", "--no-access-log", files=files)
    with contextlib.ExitStack() as held:
        for _ in range(5000):
            held.enter_context(socket.create_connection(("127.0.0.1", web.port), 10))
        for path in ("/healthz", "/readyz", "/"):
            # A busy machine may take longer; one of three has to hold.
            assert min(seconds_of(web.port, path) for _ in range(3)) < 1
        wait_until(lambda: is_at_rest(web.process.pid), "the server to come to rest")
        assert open_files(web.process.pid) <= files
    assert "Traceback" not in web.stderr


def test_the_connections_in_use_stay(limited):
    """A crowd takes the place of idle connections only: a slow request and a connection that was just used go on."""
    web = limited("webserver", "--port", "0", "--slow-ratio", "1", "--delay", "2", files=256)
    kept = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as held:
        slow = pool.submit(get, web.port, "/slowsometimes")
        wait_until(lambda: open_files(web.process.pid) and get(web.port, "/healthz")[0] == 200, "the server")
        for number in range(600):
            held.enter_context(socket.create_connection(("127.0.0.1", web.port), 10))
            if number % 20 == 0:
                kept.request("GET", "/")
                local = kept.sock.getsockname()
                response = kept.getresponse()
                response.read()
                assert kept.sock.getsockname() == local
        assert slow.result(20)[0] == 200
    kept.close()


def test_every_connection_busy(limited):
    """Where every connection is busy, new ones wait without a spinning core until there is room."""
    web = limited("webserver", "--port", "0", "--slow-ratio", "1", "--delay", "1.5", files=64)
    with ThreadPoolExecutor(100) as pool:
        calls = [pool.submit(get, web.port, "/slowsometimes") for _ in range(100)]
        wait_until(lambda: is_at_rest(web.process.pid), "the server to come to rest")
        assert not all(call.done() for call in calls)
        assert [call.result(30)[0] for call in calls] == [200] * 100


def test_the_limit_on_open_files_is_raised(limited):
    """A soft limit is raised as far as it takes to serve 4,096 connections, but not further."""
    for hard, expected in ((600, 600), (20000, 4240)):
        web = limited("webserver", "--port", "0", soft=128, files=hard)
        limits = Path(f"/proc/{web.process.pid}/limits").read_text()
        assert re.search(r"Max open files +(\d+) +(\d+)", limits).groups() == (str(expected), str(hard))


# Hostile clients


@pytest.fixture(scope="module")
def guarded_proxy():
    """Start a proxy in front of an upstream that remembers what it got."""
    received = []
    backend = TcpServer(replying(http_response(b"upstream"), received))
    front = Program("proxy", "--port", "0", "--proxy-url", backend.url + "/base")
    yield front, backend, received
    front.close()
    backend.close()
    assert "Traceback" not in front.stderr


@pytest.fixture
def guarded(guarded_proxy):
    """Give the proxy, which is as well at the end as it was."""
    front, _, received = guarded_proxy
    received.clear()
    yield guarded_proxy
    assert get(front.port)[2].startswith("Proxying value: upstream")
    assert "Traceback" not in front.stderr


def exchange(port, data):
    """Send bytes and return everything that comes back until the other side closes or stays silent."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(data)
        connection.settimeout(1.0)
        with contextlib.suppress(OSError):
            while more := connection.recv(65536):
                answer += more
    return answer


def request(target=b"/", *headers, method=b"GET", body=b""):
    first = [method + b" " + target + b" HTTP/1.1", b"Host: a", b"Connection: close"]
    return b"\r\n".join([*first, *headers]) + b"\r\n\r\n" + body


def check_received(received, backend, count):
    """Every request that the upstream got is one whole request to its own host, below its path."""
    assert len(received) == count
    for data in received:
        head = data.split(b"\r\n\r\n")[0]
        first, *fields = head.split(b"\r\n")
        assert re.fullmatch(rb"[A-Z-]+ /base[\x21-\x7e]* HTTP/1\.1", first), first
        names = [field.split(b":")[0].lower() for field in fields]
        assert names.count(b"host") == 1
        assert f"Host: 127.0.0.1:{backend.port}".encode() in fields
        own = {b"host", b"user-agent", b"accept", b"accept-encoding", b"connection", b"content-length", b"via"}
        assert set(names) <= own


@pytest.mark.parametrize(
    "target",
    [
        b"http://elsewhere/x",
        b"http://elsewhere:99",
        b"*",
        b"@elsewhere/",
        b"elsewhere",
        b"/%0d%0aHost:%20elsewhere",
        b"/../../etc/passwd",
        b"//elsewhere/x",
        b"/\\elsewhere",
        b"\\\\elsewhere",
        b"/\xff\xfe\x80",
        b"/a\tb\x0bc",
        b"/a\x00b",
        b"http://[/x",
        b"/" + b"x" * 60_000,
        b"?" + b"q" * 60_000,
    ],
)
def test_hostile_target(guarded, target):
    """Whatever the target, the upstream gets one request to its own host, or the client is told that it is none."""
    front, backend, received = guarded
    answer = exchange(front.port, request(target))
    assert re.match(rb"HTTP/1\.[01] (200|400) ", answer), answer[:80]
    check_received(received, backend, int(answer[9:12] == b"200"))


REFUSED = {
    "a body of two lengths": request(b"/", b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"),
    "a list of lengths": request(b"/", b"Content-Length: 5, 5", body=b"hello"),
    "a negative length": request(b"/", b"Content-Length: -1"),
    "a length in words": request(b"/", b"Content-Length: five"),
    "an unknown coding": request(b"/", b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "a coding that only looks like chunked": request(b"/", b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "chunks without a size": request(b"/", b"Transfer-Encoding: chunked", body=b"zz\r\nhello\r\n0\r\n\r\n"),
    "a chunk that is longer than its size": request(
        b"/", b"Transfer-Encoding: chunked", body=b"2\r\nhello\r\n0\r\n\r\n"
    ),
    "a space before the colon": request(b"/", b"Host : elsewhere"),
    "a header without a colon": request(b"/", b"nonsense"),
    "a bare line feed": b"GET / HTTP/1.1\nHost: a\r\nX: y\nZ: w\r\n\r\n",
    "a null byte in a header": request(b"/", b"X: a\x00b"),
    "a method in lower case": request(method=b"get"),
    "a method that is none": request(method=b"GE(T"),
    "no target": b"GET HTTP/1.1\r\n\r\n",
    "three words too many": b"GET / x y HTTP/1.1\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a handshake of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n",
    "headers of 300 KB": request(b"/", *[b"X-%d: %s" % (number, b"x" * 1000) for number in range(300)]),
}


REFUSED_WITH = {"an unknown coding": 501, "headers of 300 KB": 431, "the preface of HTTP/2": 505}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(guarded, name):
    """What is not one clear request is refused with its status, and reaches nobody."""
    front, _, received = guarded
    answer = exchange(front.port, REFUSED[name])
    assert received == []
    status = REFUSED_WITH.get(name, 400)
    # Where much is still being sent, the answer may be lost with the connection.
    assert re.match(rb"HTTP/1\.[01] %d " % status, answer) or (answer == b"" and len(REFUSED[name]) > 8192), answer[:80]


CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: elsewhere\r\n\r\n"


def post(*headers, version=b"1.1", body=b"0\r\n\r\n"):
    return b"\r\n".join([b"POST / HTTP/" + version, b"Host: a", *headers]) + b"\r\n\r\n" + body


# Request and status (RFC 9112, 6.1 and 6.3): how long the body is could be read in two ways, or not at all.
UNCLEAR = {
    "a length and chunks": (post(b"Content-Length: 5", CHUNKED), 400),
    "chunks and a length": (post(CHUNKED, b"Content-Length: 5"), 400),
    "chunks and a length of nothing": (post(CHUNKED, b"Content-Length: 0"), 400),
    "chunked twice": (post(b"Transfer-Encoding: chunked, chunked"), 400),
    "chunked twice in two fields": (post(CHUNKED, CHUNKED), 400),
    "chunked twice in a folded field": (post(b"Transfer-Encoding: chunked,\r\n chunked"), 400),
    "chunked that is not last": (post(b"Transfer-Encoding: chunked, gzip"), 400),
    "no chunked": (post(b"Transfer-Encoding: gzip"), 400),
    "a coding that does not exist": (post(b"Transfer-Encoding: identity"), 400),
    "no coding": (post(b"Transfer-Encoding:"), 400),
    "a coding nobody knows before chunked": (post(b"Transfer-Encoding: gzip, chunked"), 501),
    "chunks in HTTP/1.0": (post(CHUNKED, version=b"1.0"), 400),
    "chunks in a version to come": (post(CHUNKED, version=b"1.2"), 400),
    "two lengths": (post(b"Content-Length: 5", b"Content-Length: 6"), 400),
    "a length of too many digits": (post(b"Content-Length: " + b"9" * 5000), 400),
    "an endless size of a chunk": (post(CHUNKED, body=b"0" * 100_000), 400),
    "an endless extension of a chunk": (post(CHUNKED, body=b"5;" + b"x" * 100_000), 400),
    "endless trailers": (post(CHUNKED, body=b"0\r\n" + b"X: y\r\n" * 100_000), 400),
}


@pytest.mark.parametrize(("data", "status"), UNCLEAR.values(), ids=UNCLEAR)
def test_unclear_length(guarded, data, status):
    """It is refused, the connection is closed, and neither it nor what follows it reaches the upstream."""
    front, _, received = guarded
    with socket.create_connection(("127.0.0.1", front.port), 10) as connection:
        connection.settimeout(10)
        with contextlib.suppress(OSError):  # closed while this still sends
            connection.sendall(data)
            connection.sendall(SMUGGLED)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while more := connection.recv(65536):
                answer += more
    assert answer == b"" or answer.startswith(b"HTTP/1.%d %d " % (answer[7] - 48, status))
    assert answer.count(b"HTTP/1.") <= 1
    assert answer or len(data) > 8192  # where this was still sending, the answer may be lost with the connection
    assert received == []


def test_chunks_in_any_spelling(guarded):
    """One chunked coding is taken, in capitals and with empty elements, and the connection stays open."""
    front, backend, received = guarded
    for field in (b"Transfer-Encoding: chunked", b"transfer-encoding:\tCHUNKED", b"TRANSFER-ENCODING: ,chunked"):
        received.clear()
        with socket.create_connection(("127.0.0.1", front.port), 10) as connection:
            for _ in range(2):
                connection.sendall(post(field, body=b"3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n"))
                response = http.client.HTTPResponse(connection)
                response.begin()
                assert (response.status, response.headers["Connection"]) == (200, None)
                response.read()
        check_received(received, backend, 2)
        assert all(data.endswith(b"\r\n\r\nabc") for data in received)


def test_pipelined_requests(guarded):
    """Ten requests in one go get ten answers, in order."""
    front, backend, received = guarded
    with socket.create_connection(("127.0.0.1", front.port), 10) as connection:
        connection.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(10)))
        data = b""
        while data.count(b"Proxying value: upstream") < 10:
            more = connection.recv(65536)
            assert more, data
            data += more
    paths = [data.split(b" ")[1] for data in received]
    assert paths == [b"/base/%d" % number for number in range(10)]
    check_received(received, backend, 10)


def test_a_client_that_leaves_in_the_middle(program, tcp_server):
    """Clients that close at any moment disturb nobody."""
    front = program("proxy", "--port", "0", "--proxy-url", tcp_server(replying(http_response(b"upstream"))).url)
    for length in range(0, 60, 7):
        with socket.create_connection(("127.0.0.1", front.port), 10) as connection:
            connection.sendall(request(b"/", b"Content-Length: 9", method=b"POST", body=b"123456789")[:length])
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", front.port), 10) as connection:
            connection.sendall(request())
    assert get(front.port)[0] == 200
    assert "Traceback" not in front.stderr


TARGETS = st.binary(min_size=1, max_size=60).filter(lambda data: not re.search(rb"[ \r\n]", data))
VALUES = st.binary(max_size=40).filter(lambda data: not re.search(rb"[\r\n\x00]", data))


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(target=TARGETS, value=VALUES)
def test_no_target_and_no_header_escapes(guarded, target, value):
    """Any bytes as target and as a header that is passed on make one request to the upstream's host, or none."""
    front, backend, received = guarded
    received.clear()
    answer = exchange(front.port, request(target, b"Cookie: " + value))
    path = target.split(b"?")[0]
    if path in (b"/ui", b"/healthz", b"/readyz") or path.startswith(b"/ui/"):
        return
    assert re.match(rb"HTTP/1\.[01] (200|400) ", answer), answer[:80]
    check_received(received, backend, int(answer[9:12] == b"200"))


@settings(max_examples=500, deadline=None, database=None)
@given(target=st.text(st.characters(max_codepoint=255), max_size=80))
def test_every_target_stays_with_the_upstream(target):
    """For any text as target the URL that is called keeps scheme, host and port, and is visible ASCII."""
    url = Upstream("http://webserver:8080/base").url_for(*wsgi.split_target(target))
    assert re.fullmatch(r"http://webserver:8080/base[\x21-\x7e]*", url)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_a_header_that_is_passed_on_stays_one_header(tcp_server, value):
    """Whatever a tracing header holds, the upstream gets it as one header with that value."""
    received = []
    backend = tcp_server(replying(http_response(b"ok"), received))
    upstream = Upstream(backend.url)
    text = value.strip(b" \t").decode("latin-1")
    try:
        upstream.call("GET", upstream.url_for("/"), {"x-request-id": text})
    except ValueError:
        pytest.fail("a header was refused")
    (data,) = received
    fields = data.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    assert sorted(field.split(b":")[0].lower() for field in fields) == sorted(
        [b"host", b"user-agent", b"accept", b"accept-encoding", b"connection", b"x-request-id"]
    )
    assert b"x-request-id: " + text.encode("latin-1") in fields


# Hostile upstreams, seen through a whole proxy


def resident_megabytes(pid):
    return int(subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True).stdout) / 1024


@pytest.mark.parametrize(("at_once", "which"), in_tiers([(2, slice(1, None, 2)), (8, slice(None))], 2), ids=str)
def test_a_proxy_survives_every_hostile_upstream(program, tcp_server, at_once, which):
    """Each hostile upstream gets one sentence, several times at once; memory stays under 100 MB, and all goes on.

    In the first tier these are every second of them: the others are in that of tests/calling/test_upstream.py.
    """
    servers = {name: tcp_server(behave).port for name, (behave, _) in HOSTILE.items()}
    servers["is sound"] = tcp_server(replying(http_response(b"fine"))).port
    chosen = []
    front_port = tcp_server(relay(lambda: servers[chosen[0]]))
    front = program("proxy", "--port", "0", "--timeout", "2", "--proxy-url", front_port.url, "--no-access-log")
    for name, (_, reason) in list(HOSTILE.items())[which]:
        if reason.startswith("timed out") and name != "drips its body":
            continue  # they only wait, and are tested one by one
        chosen[:] = [name]
        with ThreadPoolExecutor(at_once) as pool:
            for status, _, text in pool.map(lambda _: get(front.port), range(at_once)):
                assert status == 200
                assert re.fullmatch(r"Error: [^\n]+ calling http://\S+ - Took \d+ milliseconds", text), (name, text)
        assert resident_megabytes(front.process.pid) < 100, name
        chosen[:] = ["is sound"]
        assert get(front.port)[2].startswith("Proxying value: fine"), name
    assert "Traceback" not in front.stderr


@pytest.mark.parametrize("count", in_tiers([12, 50], 2))
def test_an_upstream_that_keeps_its_word_late(program, tcp_server, count):
    """With keep-alive, an upstream that closes idle connections at the worst moment costs no request."""

    def behave(connection):
        if read_request(connection):
            connection.sendall(http_response(b"once", "Connection: keep-alive"))

    backend = tcp_server(behave)
    front = program("proxy", "--port", "0", "--keep-alive", "--proxy-url", backend.url)
    for _ in range(count):
        assert get(front.port)[2].startswith("Proxying value: once")


def test_head_and_options_through_both_roles(program):
    """Methods without a body in their answer leave the connection in order."""
    web = program("webserver", "--port", "0")
    front = program("proxy", "--port", "0", "--proxy-url", web.url)
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=20)
    for method in ("HEAD", "GET", "OPTIONS", "HEAD", "TRACE", "GET", "DELETE"):
        connection.request(method, "/x")
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200
        assert (body == b"") == (method == "HEAD")
    connection.close()
