"""Calls to an upstream over real sockets, well-behaved and hostile."""

import contextlib
import fcntl
import gzip
import random
import re
import select
import socket
import ssl
import struct
import subprocess
import sys
import termios
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import (
    HOSTILE,
    MEBIBYTE,
    OK,
    ROOT,
    free_port,
    hostile,
    http_response,
    in_tiers,
    read_request,
    relay,
    replying,
    reset,
    wait_for_client,
    wait_until,
)

from meshdemo.calling import connection
from meshdemo.calling.upstream import Upstream, UpstreamError
from meshdemo.roles import proxy, webserver
from meshdemo.serving import server
from meshdemo.serving.waitress_server import Server


def call(url, path="/", *, method="GET", headers=None, body=b"", **options):
    target = Upstream(url, **options)
    return target.call(method, target.url_for(path), headers or {}, body)


def failure(url, path="/", **options):
    """Return the sentence of a failed call and the seconds it took."""
    started = time.monotonic()
    with pytest.raises(UpstreamError) as caught:
        call(url, path, **options)
    return str(caught.value), time.monotonic() - started


# Good upstreams


def test_target_crosses_untouched(tcp_server):
    """The bytes of the target on the wire are those that were sent, and no header is added by them."""
    requests = []
    backend = tcp_server(replying(http_response(b"ok"), requests))
    for target in ["/a%2fB%2F/../%zz%/x;y=|\\^{}\"'<>`?q=%2f#h", "/", "//x", "/a//b/./c"]:
        made = Upstream(backend.url)
        made.call("GET", made.url_for(*target.split("?")), {})
        assert requests[-1].split(b"\r\n")[0] == f"GET {target} HTTP/1.1".encode()
        names = [line.split(b":")[0].lower() for line in requests[-1].split(b"\r\n")[1:] if line]
        assert sorted(names) == [b"accept", b"accept-encoding", b"connection", b"host", b"user-agent"]


def test_method_and_body(tcp_server):
    """A body crosses with its length."""
    requests = []
    backend = tcp_server(replying(http_response(b"ok"), requests))
    assert call(backend.url, method="PATCH", body=b"\x00\r\nx").text == "ok"
    assert requests[0].startswith(b"PATCH / HTTP/1.1\r\n")
    assert requests[0].endswith(b"\r\n\r\n\x00\r\nx")
    assert b"Content-Length: 4\r\n" in requests[0]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_answer(tcp_server, encoding):
    """An upstream that compresses without being asked is understood."""
    data = gzip.compress(b"hello") if encoding == "gzip" else zlib.compress(b"hello")
    backend = tcp_server(replying(http_response(data, f"Content-Encoding: {encoding}")))
    assert call(backend.url).text == "hello"


@pytest.mark.parametrize("size", [0, MEBIBYTE])
def test_answer_up_to_the_limit(tcp_server, size):
    """An answer of exactly 1 MiB is shown in full."""
    backend = tcp_server(replying(http_response(b"x" * size)))
    assert len(call(backend.url).text) == size


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "599 Odd", "404 Not Found"])
def test_any_status_is_an_answer(tcp_server, status):
    """The upstream's status is reported, not judged."""
    backend = tcp_server(replying(f"HTTP/1.1 {status}\r\n\r\n".encode() if status[:3] in "204 304" else
                                  http_response(b"", status=status)))  # fmt: skip
    assert call(backend.url).status == int(status[:3])


# Connections


@pytest.fixture
def backends():
    """Five web servers, each with a name of its own, on real sockets."""
    started = [
        Server(webserver.create_app(hostname=f"pod-{number}"), server.bind("127.0.0.1", 0), 4) for number in range(5)
    ]
    yield started
    for running in started:
        running.close()


def test_one_connection_per_call_reaches_all_backends(tcp_server, backends):
    """Behind a balancer that picks per connection, 100 calls open 100 connections and see every backend."""
    generator = random.Random(1)
    service = tcp_server(relay(lambda: generator.choice(backends).port))
    target = Upstream(service.url)
    texts = {target.call("GET", target.url_for("/"), {}).text for _ in range(100)}
    assert service.connections == 100
    assert len(texts) == 5


def test_keep_alive_stays_with_one_backend(tcp_server, backends):
    """With keep-alive the same 100 calls use one connection and see one backend."""
    generator = random.Random(1)
    service = tcp_server(relay(lambda: generator.choice(backends).port))
    target = Upstream(service.url, keep_alive=True)
    texts = {target.call("GET", target.url_for("/"), {}).text for _ in range(100)}
    assert service.connections == 1
    assert len(texts) == 1


KEPT = {
    "a length": (http_response(b"ok"), "GET"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n", "GET"),
    "nothing": (http_response(b""), "GET"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "DELETE"),
    "a length without a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD"),
    "an older protocol": (http_response(b"ok", "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"), "GET"),
}


@pytest.mark.parametrize(("data", "method"), KEPT.values(), ids=KEPT)
def test_a_complete_answer_leaves_its_connection_for_the_next(tcp_server, data, method):
    """However an answer says where it ends, its connection is used again."""
    backend = tcp_server(replying(data))
    target = Upstream(backend.url, keep_alive=True)
    assert len({target.call(method, target.url_for("/"), {}) for _ in range(5)}) == 1
    assert backend.connections == 1


def test_an_upstream_that_ignores_connection_close_is_not_reused(tcp_server):
    """Even where the upstream keeps a connection open, it is closed after its call, and the next opens its own."""
    ended = []

    def behave(conn):
        replying(http_response(b"ok", "Connection: keep-alive"))(conn)
        ended.append(conn)

    backend = tcp_server(behave)
    target = Upstream(backend.url)
    for number in range(1, 4):
        target.call("GET", target.url_for("/"), {})
        wait_until(lambda count=number: len(ended) == count, "the connection to be closed")
    assert backend.connections == 3


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_kept_connection_that_was_closed_meanwhile(tcp_server, method):
    """A call that finds its kept connection closed is made again where that is safe, and fails where it is not."""

    def behave(conn):
        read_request(conn)
        conn.sendall(http_response(b"first"))
        read_request(conn)  # and close without an answer

    backend = tcp_server(behave)
    target = Upstream(backend.url, keep_alive=True)
    assert target.call(method, target.url_for("/"), {}).text == "first"
    if method == "GET":
        assert target.call(method, target.url_for("/"), {}).text == "first"
        assert backend.connections == 2
    else:
        with pytest.raises(UpstreamError, match="connection closed without an answer"):
            target.call(method, target.url_for("/"), {})


def test_a_host_in_another_script_is_shown_as_it_was_typed():
    """The name is sent as IDNA has it, and told as a person wrote it; the rest of the URL stays encoded."""
    sentence, _ = failure("http://bücher.invalid/ü\u202e")
    assert sentence == "name not found calling http://bücher.invalid/%C3%BC%E2%80%AE"


def test_a_zone_of_an_address(tcp_server):
    """An IPv6 address with its zone is connected to, and the zone stays on this machine (RFC 6874, 4)."""
    requests = []
    port = tcp_server(replying(http_response(b"ok"), requests)).port
    assert call(f"http://[fe80::1%25lo]:{port}", connect_to=[("", 0, "127.0.0.1", 0)]).text == "ok"
    assert f"Host: [fe80::1]:{port}\r\n".encode() in requests[0]
    sentence, _ = failure("http://[fe80::1%25lo]:9", timeout_seconds=2)
    assert "name not found" not in sentence


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_kept_connection_that_was_reset_meanwhile(tcp_server, method):
    """The same where it ends in a reset: a POST may have done its work, and is not made twice."""
    requests = []

    def behave(conn):
        requests.append(read_request(conn))
        conn.sendall(http_response(b"first"))
        requests.append(read_request(conn))
        reset(conn)

    target = Upstream(tcp_server(behave).url, keep_alive=True)
    assert target.call(method, target.url_for("/"), {}, b"x").text == "first"
    if method == "GET":
        assert target.call(method, target.url_for("/"), {}, b"x").text == "first"
    else:
        with pytest.raises(UpstreamError, match="connection reset"):
            target.call(method, target.url_for("/"), {}, b"x")
        assert len(requests) == 2


def test_cookies_are_not_kept(tcp_server):
    """A cookie that the upstream sets is neither stored nor sent back."""
    requests = []
    backend = tcp_server(replying(http_response(b"ok", "Set-Cookie: session=1; Path=/"), requests))
    target = Upstream(backend.url)
    for _ in range(2):
        target.call("GET", target.url_for("/"), {})
    assert not any(b"cookie" in request.lower() for request in requests)
    assert len(target._session.cookies) == 0


# Interim answers, and whose answer it is


def own_answer(request):
    """Return the answer that only this request can mean: its target."""
    return http_response(request.split(b" ")[1])


def crowd(target, rounds, between=lambda: None):
    """Let 16 callers make a call in each round, all at once; return how many did not get an answer of their own."""
    paths = iter(range(16 * rounds))
    wrong = []
    with ThreadPoolExecutor(16) as pool:
        for _ in range(rounds):
            urls = [target.url_for(f"/{next(paths)}") for _ in range(16)]
            for url, answer in zip(urls, pool.map(lambda url: target.call("GET", url, {}), urls), strict=True):
                if answer.text != url.removeprefix(target.url_for("/").rstrip("/")):
                    wrong.append((url, answer.text))
            between()
    return wrong


INTERIM = {
    "102": b"HTTP/1.1 102 Processing\r\n\r\n",
    "103 with headers": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 5\r\n\r\n",
    "199 without a phrase": b"HTTP/1.1 199\r\n\r\n",
    "100, 103, 100": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 H\r\n\r\nHTTP/1.1 100 C\r\nX: y\r\n\r\n",
}


@pytest.mark.parametrize("keep_alive", [False, True], ids=["a connection per call", "kept connections"])
@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM)
def test_interim_answers_are_read_past(tcp_server, interim, keep_alive):
    """Any 1xx but 101 is read past, and every one of 16 callers at once gets its own answer."""

    def behave(conn):
        while request := read_request(conn):
            conn.sendall(interim)
            conn.sendall(own_answer(request))

    assert crowd(Upstream(tcp_server(behave).url, keep_alive=keep_alive), 10) == []


def test_switching_protocols_is_no_answer(tcp_server):
    """A 101 that nobody asked for ends in a sentence, and its connection is not used again."""
    backend = tcp_server(replying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"))
    target = Upstream(backend.url, keep_alive=True)
    for _ in range(2):
        with pytest.raises(UpstreamError, match="answer 101, a change of protocol that was not asked for, calling"):
            target.call("GET", target.url_for("/"), {})
    assert backend.connections == 2


EXTRA = http_response(b"extra")


def in_chunks(request, *headers):
    """Return the request's own answer in one chunk, with a trailer."""
    path = request.split(b" ")[1]
    head = b"".join(b"\r\n" + header for header in (b"Transfer-Encoding: chunked", *headers))
    return b"HTTP/1.1 200 OK%b\r\n\r\n%x\r\n%b\r\n0\r\nX: y\r\n\r\n" % (head, len(path), path)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda request: own_answer(request) + EXTRA, id="a whole answer"),
        pytest.param(lambda request: own_answer(request) + b"x", id="one byte"),
        pytest.param(lambda request: in_chunks(request) + EXTRA, id="an answer behind chunks"),
        pytest.param(lambda request: in_chunks(request, b"Content-Length: 2"), id="chunks and a length"),
        pytest.param(
            lambda request: own_answer(request).replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: identity\r\n\r\n"),
            id="a coding that is none and a length",
        ),
    ],
)
def test_too_much_is_nobodys_answer(tcp_server, answer):
    """What an upstream sends behind an answer, or may have, reaches no caller; its connection is not used again."""

    def behave(conn):
        while request := read_request(conn):
            conn.sendall(answer(request))

    backend = tcp_server(behave)
    target = Upstream(backend.url, keep_alive=True)
    assert crowd(target, 5) == []
    assert backend.connections == 80


def test_an_answer_that_comes_too_late_is_nobodys(tcp_server):
    """A second answer that comes while a kept connection is idle reaches no caller."""
    idle = []

    def behave(conn):
        while request := read_request(conn):
            idle.append(conn)
            conn.sendall(own_answer(request))

    def send_extra():
        for conn in idle:
            with contextlib.suppress(OSError):
                conn.sendall(EXTRA)
                wait_until(lambda: unacknowledged(conn) == 0, "the client's system to have it")  # noqa: B023
        idle.clear()

    backend = tcp_server(behave)
    target = Upstream(backend.url, keep_alive=True)
    assert crowd(target, 10, between=send_extra) == []


def unacknowledged(conn):
    """Return the bytes that the other side's system does not have yet (Linux, tcp(7), SIOCOUTQ)."""
    return struct.unpack("i", fcntl.ioctl(conn, termios.TIOCOUTQ, b"\0" * 4))[0]


@pytest.mark.parametrize("keep_alive", [False, True], ids=["a connection per call", "kept connections"])
def test_an_answer_before_the_request(tcp_server, monkeypatch, keep_alive):
    """On a connection to be kept it is nobody's (RFC 9112, 9.2); on another it can be no other caller's."""
    arrived = connection._BoundedConnection._new_conn

    def connect_and_wait(self):
        sock = arrived(self)
        assert select.select([sock], [], [], 20)[0]
        return sock

    monkeypatch.setattr(connection._BoundedConnection, "_new_conn", connect_and_wait)

    def behave(conn):
        conn.sendall(http_response(b"early"))
        while request := read_request(conn):
            conn.sendall(own_answer(request))

    target = Upstream(tcp_server(behave).url, keep_alive=keep_alive)
    with ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(target.call, "GET", target.url_for("/"), {}) for _ in range(64)]
        outcomes = {str(call.exception() or call.result().text) for call in calls}
    sentence = f"answer that came before the request calling {target.url_for('/')}"
    assert outcomes == ({sentence} if keep_alive else {"early"})


# Connecting elsewhere


@pytest.fixture
def no_resolver(monkeypatch):
    """Fail for every name that is looked up."""
    real = socket.getaddrinfo

    def getaddrinfo(host, *args, flags=0, **options):
        assert flags == socket.AI_NUMERICHOST, f"{host} was looked up"
        return real(host, *args, flags=flags, **options)

    monkeypatch.setattr(connection.socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    ("url", "rule", "applies"),
    [
        ("http://webserver", ("webserver", 80), True),
        ("http://WebServer:80", ("WEBSERVER", 80), True),
        ("http://webserver.", ("webserver", 80), True),
        ("http://webserver:8080", ("", 8080), True),
        ("http://webserver:8080", ("webserver", 0), True),
        ("http://webserver:8080", ("", 0), True),
        ("http://[2001:db8::1]:81", ("2001:db8::1", 81), True),
        ("http://192.0.2.1", ("192.0.2.1", 0), True),
        ("http://127.0.0.1:1", ("127.0.0.1", 2), False),
        ("http://127.0.0.1:1", ("127.0.0.2", 1), False),
        ("http://127.0.0.1:1", ("127.0.0", 1), False),
    ],
)
def test_connect_to(tcp_server, no_resolver, url, rule, applies):
    """A connection that a rule fits goes to its endpoint, without a look-up, and the Host is the URL's."""
    requests = []
    backend = tcp_server(replying(http_response(b"ok"), requests))
    connect_to = [(*rule, "127.0.0.1", backend.port)]
    if applies:
        assert call(url, connect_to=connect_to).text == "ok"
        assert f"Host: {url.removeprefix('http://').removesuffix('.').removesuffix(':80')}\r\n".lower().encode() in (
            requests[0].lower()
        )
    else:
        assert failure(url, connect_to=connect_to)[0] == f"connection refused calling {url}/"


def test_connect_to_takes_the_first_rule_that_fits(tcp_server, no_resolver):
    """The order decides, not how exact a rule is."""
    first, second = (tcp_server(replying(http_response(name))) for name in (b"first", b"second"))
    rules = [("other", 0, "127.0.0.1", 1), ("", 0, "127.0.0.1", first.port), ("web", 80, "127.0.0.1", second.port)]
    assert call("http://web", connect_to=rules).text == "first"


def test_connect_to_keeps_what_a_rule_leaves_empty(tcp_server, no_resolver):
    """An empty second host or port is the URL's."""
    backend = tcp_server(replying(http_response(b"ok")))
    assert call(f"http://web:{backend.port}", connect_to=[("web", 0, "127.0.0.1", 0)]).text == "ok"
    assert call("http://127.0.0.1:1", connect_to=[("", 1, "", backend.port)]).text == "ok"


def test_connect_to_an_ipv6_address():
    """The endpoint may be an IPv6 address."""
    backend = Server(webserver.create_app(content="six"), server.bind("::1", 0), 2)
    try:
        assert call("http://web", connect_to=[("web", 80, "::1", backend.port)]).text.startswith("six ")
    finally:
        backend.close()


def test_connect_to_on_a_redirect_with_kept_connections(tcp_server, no_resolver):
    """A redirect goes by the rules, and two hosts that end at one endpoint share no kept connection."""
    requests = []

    def behave(conn):
        while request := read_request(conn):
            requests.append((conn.getpeername(), request.split(b"\r\n")[1]))
            moved = b"Host: a\r\n" in request
            conn.sendall(http_response(b"", "Location: http://b:81/", status="302 Found") if moved else
                         http_response(b"there"))  # fmt: skip

    backend = tcp_server(behave)
    target = Upstream("http://a", keep_alive=True, connect_to=[("", 0, "127.0.0.1", backend.port)])
    for _ in range(3):
        assert target.call("GET", target.url_for("/"), {}).text == "there"
    hosts = {}
    for client, host in requests:
        hosts.setdefault(client, set()).add(host)
    assert all(len(names) == 1 for names in hosts.values())
    assert set().union(*hosts.values()) == {b"Host: a", b"Host: b:81"}


# Redirects


def redirecting(location, status="302 Found", then=b"there", log=None):
    """Return a behaviour that redirects every path but /there."""

    def behave(conn):
        while request := read_request(conn):
            if log is not None:
                log.append(request)
            if b" /there" in request.split(b"\r\n")[0]:
                conn.sendall(http_response(then))
            else:
                conn.sendall(http_response(b"x" * 10, f"Location: {location}", status=status))

    return behave


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        ("301 Moved", "POST", "GET"),
        ("302 Found", "POST", "GET"),
        ("303 See Other", "PUT", "GET"),
        ("303 See Other", "HEAD", "HEAD"),
        ("307 Temporary", "POST", "POST"),
        ("308 Permanent", "PUT", "PUT"),
        ("302 Found", "GET", "GET"),
    ],
)
def test_redirect_is_followed(tcp_server, status, method, then):
    """A redirect is followed with the method that the status asks for, and with the headers."""
    requests = []
    backend = tcp_server(redirecting("/there?x=%2f", status, log=requests))
    call(backend.url, method=method, body=b"data", headers={"b3": "0"})
    assert requests[1].startswith(f"{then} /there?x=%2f HTTP/1.1".encode())
    assert requests[1].endswith(b"data") == (method == then != "HEAD" or then == "HEAD")
    assert b"b3: 0\r\n" in requests[1]


# What a caller of the proxy may send along, and what --forward-header can add.
HEADERS = {
    "end-user": "tester",
    "x-request-id": "1",
    "TraceParent": "00-1",
    "accept": "application/json",
    "via": "1.1 here",
    "authorization": "Basic eDp5",
    "Cookie": "a=b",
    "x-tenant": "blue",
    "content-type": "application/x-thing",
}
SAFE = {"end-user", "x-request-id", "traceparent", "accept", "via"}


def names_of(request):
    """Return the names of a request's headers but those that every call has."""
    names = {line.partition(b":")[0].decode().lower() for line in request.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]}
    return names - {"host", "user-agent", "accept-encoding", "connection"}


@pytest.mark.parametrize("keep_alive", [False, True], ids=["a connection per call", "kept connections"])
@pytest.mark.parametrize(
    ("location", "crosses"),
    [
        pytest.param("/there", True, id="the same server"),
        pytest.param("HTTP://127.0.0.1:{port}/there", True, id="the same origin in other words"),
        pytest.param("http://127.0.0.1:{other}/there", False, id="another port"),
        pytest.param("http://localhost:{port}/there", False, id="another name"),
    ],
)
def test_headers_on_a_redirect(tcp_server, location, crosses, keep_alive):
    """To another origin only tracing headers, end-user and what every call has go along."""
    requests = []
    other = tcp_server(redirecting("/", log=requests))
    backend = tcp_server(lambda conn: redirecting(target, "307 T", log=requests)(conn))
    target = location.format(port=backend.port, other=other.port)
    call(backend.url, headers=HEADERS, keep_alive=keep_alive)
    assert names_of(requests[0]) == {name.lower() for name in HEADERS}
    assert names_of(requests[1]) == ({name.lower() for name in HEADERS} if crosses else SAFE)
    assert b"\r\naccept: application/json\r\n" in requests[1]
    assert b"\r\nvia: 1.1 here\r\n" in requests[1]


def test_headers_that_were_left_out_do_not_come_back(tcp_server):
    """A redirect back to the first origin, which another one wrote, brings no header back."""
    requests = []
    other = tcp_server(lambda conn: redirecting(f"{backend.url}/there", log=requests)(conn))
    backend = tcp_server(redirecting(other.url, log=requests))
    call(backend.url, headers=HEADERS)
    assert [names_of(request) for request in requests[1:]] == [SAFE, SAFE]


@pytest.mark.parametrize(
    ("status", "method", "body", "stays"),
    [
        ("302 Found", "POST", b"data", False),
        ("302 Found", "POST", b"", False),
        ("303 See Other", "PUT", b"data", False),
        ("307 Temporary", "POST", b"data", True),
    ],
)
def test_the_headers_of_a_body_leave_with_it(tcp_server, status, method, body, stays):
    """Where a redirect turns a method into GET, what described the body goes (RFC 9110, 15.4)."""
    requests = []
    backend = tcp_server(redirecting("/there", status, log=requests))
    described = {"content-type": "a/b", "Content-Encoding": "x", "content-language": "en", "digest": "d=1"}
    described |= {"repr-digest": "d=:1:", "Last-Modified": "Sat, 28 Nov 2026 00:00:00 GMT"}
    call(backend.url, method=method, headers={**described, "x-tenant": "blue"}, body=body)
    sent = {*map(str.lower, described), "x-tenant", "accept"}
    assert names_of(requests[0]) == sent | {"content-length"}
    assert names_of(requests[1]) == (sent | {"content-length"} if stays else {"x-tenant", "accept"})


def test_credentials_in_a_redirect_are_never_sent(tcp_server):
    """A user name and a password in a Location reach neither the next server nor the sentence of a failure."""
    requests = []
    backend = tcp_server(lambda conn: redirecting(location, log=requests)(conn))
    location = f"http://user:secret@127.0.0.1:{backend.port}/there"
    assert call(backend.url).text == "there"
    assert names_of(requests[1]) == {"accept"}
    assert f"Host: 127.0.0.1:{backend.port}\r\n".encode() in requests[1]
    assert not re.search(b"user:|secret|@", requests[1])
    location = f"http://user:secret@127.0.0.1:{(port := free_port())}/there"
    assert failure(backend.url)[0] == f"connection refused calling http://127.0.0.1:{port}/there"


def test_redirect_loop_ends_after_five(tcp_server):
    """The first request and five redirects are all."""
    backend = tcp_server(redirecting("/again"))
    sentence, _ = failure(backend.url)
    assert sentence == f"too many redirects calling {backend.url}/again"
    assert backend.connections == 6


@pytest.mark.parametrize(
    "location",
    ["ftp://127.0.0.1/", "file:///etc/passwd", "javascript:alert(1)", "http://[", "http://:80/", "http://x:99999/"],
)  # fmt: skip
def test_redirect_to_what_is_no_http_address(tcp_server, location):
    """A redirect that cannot be followed is named."""
    backend = tcp_server(redirecting(location))
    sentence, _ = failure(backend.url)
    assert sentence == f"redirect to {location}, which is not an http or https address, calling {backend.url}/"


def test_redirect_without_location_is_an_answer(tcp_server):
    """A 302 that leads nowhere is shown as it is."""
    backend = tcp_server(replying(http_response(b"stay", status="302 Found")))
    assert call(backend.url).text == "stay"


def test_redirect_with_an_endless_body(tcp_server):
    """The body of a redirect is not waited for."""

    def behave(conn):
        if b" /there" in read_request(conn):
            conn.sendall(http_response(b"there"))
            return
        conn.sendall(b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n")
        while True:
            conn.sendall(b"x" * 65536)

    assert call(tcp_server(behave).url, timeout_seconds=5).text == "there"


# Failures, each one sentence


def test_refused():
    """A port where nobody listens refuses."""
    url = f"http://127.0.0.1:{free_port()}"
    assert failure(url)[0] == f"connection refused calling {url}/"


@pytest.mark.parametrize(
    "host", ["no-such-host.invalid", "a" * 63 + ".invalid", "a" * 64 + ".invalid", "xn--0.invalid"]
)
def test_unknown_host(host):
    """A name that does not resolve is not found."""
    assert failure(f"http://{host}", timeout_seconds=20)[0] == f"name not found calling http://{host}/"


def test_every_address_is_tried(tcp_server, monkeypatch):
    """When a name has several addresses, one that refuses does not end the call."""
    backend = tcp_server(replying(http_response(b"ok")))
    addresses = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (free_port(), backend.port)
    ]
    monkeypatch.setattr(connection.socket, "getaddrinfo", lambda *a, **k: addresses)
    assert call("http://several.example").text == "ok"


@pytest.mark.parametrize("behave, reason", in_tiers(HOSTILE.values(), 2), ids=HOSTILE)
def test_upstream_that(tcp_server, behave, reason):
    """Each gets one sentence, in time, and the next call to a sound upstream is fine."""
    backend = tcp_server(behave)
    timeout_seconds = 0.5 if reason.startswith("timed out") else 10
    sentence, seconds = failure(backend.url, timeout_seconds=timeout_seconds)
    assert sentence == f"{reason} calling {backend.url}/"
    assert seconds < timeout_seconds + 2
    assert call(tcp_server(replying(http_response(b"fine"))).url).text == "fine"


PEAK = """
import re, sys
from meshdemo.calling.upstream import Upstream, UpstreamError

def peak_kilobytes():
    return int(re.search("VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

upstreams = [Upstream(url, timeout_seconds=2) for url in sys.argv[1:]]
upstreams[0].call("GET", upstreams[0].url_for("/"), {})
before = peak_kilobytes()
for upstream in upstreams[1:]:
    try:
        upstream.call("GET", upstream.url_for("/"), {})
    except UpstreamError:
        continue
    raise SystemExit("an answer")
print((peak_kilobytes() - before) // 1024)
"""


def test_hostile_answers_take_little_memory(tcp_server):
    """A gzip bomb of 200 MiB and an endless body raise the peak of a process of their own by less than 40 MiB."""
    servers = [tcp_server(replying(http_response(b"sound")))]
    for name in ("sends a gzip bomb", "sends an endless body", "sends an endless chunk size"):
        servers.append(tcp_server(HOSTILE[name][0]))
    command = [sys.executable, "-c", PEAK, *(server.url for server in servers)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr == ""
    assert int(done.stdout) < 40


def test_body_longer_than_announced_is_cut(tcp_server):
    """What comes after the announced length does not belong to the answer."""
    assert call(tcp_server(hostile(OK, b"Content-Length: 2\r\n\r\nokay")).url).text == "ok"


def test_answer_without_charset(tcp_server):
    """A body in no declared charset is read as UTF-8 and never fails."""
    backend = tcp_server(replying(http_response(b"\xc3\xa9\xff", "Content-Type: text/html")))
    assert call(backend.url).text == "é\ufffd"


def test_client_that_never_reads_the_body_of_a_request(tcp_server):
    """Sending is bounded as well as reading."""

    def behave(conn):
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        release.wait(20)

    release = threading.Event()
    sentence, seconds = failure(tcp_server(behave).url, method="POST", body=b"x" * MEBIBYTE, timeout_seconds=0.5)
    release.set()
    assert sentence.startswith("timed out after 0.5 seconds")
    assert seconds < 3


# TLS


# A certificate for localhost that nobody else signed, and its key, which protects nothing.
CERTIFICATE = ROOT / "tests/support/localhost.pem"


def tls(behave):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    def wrapped(conn):
        with context.wrap_socket(conn, server_side=True) as secure:
            behave(secure)

    return wrapped


def test_tls_certificate_that_nobody_signed(tcp_server):
    """A certificate that cannot be trusted is a TLS problem."""
    backend = tcp_server(tls(replying(http_response(b"secret"))))
    url = f"https://127.0.0.1:{backend.port}"
    assert failure(url)[0] == f"TLS problem (self-signed certificate) calling {url}/"


def test_tls_with_any_certificate(tcp_server):
    """Without the check of certificates any will do, whatever name it has."""
    backend = tcp_server(tls(replying(http_response(b"secret"))))
    rules = [("", 443, "127.0.0.1", backend.port)]
    assert call("https://other.example", connect_to=rules, checks_certificates=False).text == "secret"


def test_tls_to_a_server_without(tcp_server):
    """A plain server where TLS is expected is a TLS problem."""

    def behave(conn):
        conn.recv(65536)
        conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    backend = tcp_server(behave)
    url = f"https://127.0.0.1:{backend.port}"
    sentence, _ = failure(url)
    assert sentence.startswith("TLS problem (")
    assert sentence.endswith(f") calling {url}/")


def test_tls_handshake_that_never_ends(tcp_server):
    """The handshake is part of the call's time."""
    backend = tcp_server(wait_for_client)
    sentence, seconds = failure(f"https://127.0.0.1:{backend.port}", timeout_seconds=0.5)
    assert sentence.startswith("timed out after 0.5 seconds")
    assert seconds < 3


def test_tls_with_a_trusted_certificate(tcp_server, monkeypatch):
    """A trusted certificate works, for any number of calls, and the deadline holds there too."""
    monkeypatch.setattr(connection, "DEFAULT_CA_BUNDLE_PATH", str(CERTIFICATE))
    backend = tcp_server(tls(replying(http_response(b"secret"))))
    target = Upstream(f"https://localhost:{backend.port}")
    assert [target.call("GET", target.url_for("/"), {}).text for _ in range(3)] == ["secret"] * 3
    dripping = tcp_server(tls(HOSTILE["drips its body"][0]))
    sentence, seconds = failure(f"https://localhost:{dripping.port}", timeout_seconds=1)
    assert sentence.startswith("timed out after 1 second calling")
    assert seconds < 3


def test_tls_handshake_at_one_of_many_addresses(tcp_server, monkeypatch):
    """Connecting leaves each address its share of the time; once connected, the handshake has all that is left."""
    monkeypatch.setattr(connection, "DEFAULT_CA_BUNDLE_PATH", str(CERTIFICATE))

    def behave(conn):
        time.sleep(0.5)  # more than a twentieth of the time
        tls(replying(http_response(b"secret")))(conn)

    backend = tcp_server(behave)
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", backend.port))
    monkeypatch.setattr(connection.socket, "getaddrinfo", lambda *a, **k: [address] * 20)
    assert call("https://localhost", timeout_seconds=6).text == "secret"
    assert backend.connections == 1


def test_connect_to_leaves_tls_to_the_url(tcp_server, monkeypatch):
    """Server name and certificate are those of the URL, wherever the connection goes."""
    monkeypatch.setattr(connection, "DEFAULT_CA_BUNDLE_PATH", str(CERTIFICATE))
    names = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    context.sni_callback = lambda sock, name, _: names.append(name)

    def behave(conn):
        with context.wrap_socket(conn, server_side=True) as secure:
            replying(http_response(b"secret"))(secure)

    backend = tcp_server(behave)
    rules = [("", 443, "127.0.0.1", backend.port)]
    assert call("https://localhost", connect_to=rules).text == "secret"
    sentence, _ = failure("https://other.example", connect_to=rules)
    assert sentence.startswith("TLS problem (hostname mismatch")
    assert sentence.endswith(" calling https://other.example/")
    assert list(dict.fromkeys(names)) == ["localhost", "other.example"]


def test_took_is_measured_around_the_body(tcp_server, call_app):
    """The time shown includes an answer that arrives late."""
    backend = tcp_server(hostile(OK, b"Content-Length: 2\r\n\r\no", then=lambda conn: send_later(conn, b"k", 0.3)))
    document = call_app(proxy.create_app(Upstream(backend.url)), headers={"Accept": "application/json"}).json()
    assert document["value"] == "ok"
    assert 300 <= document["milliseconds"] < 3000


def send_later(conn, data, seconds):
    time.sleep(seconds)
    conn.sendall(data)
