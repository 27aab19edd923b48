"""Calls to an upstream over real sockets, well-behaved and hostile."""

import gzip
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest
from support import (
    HOSTILE,
    MEBIBYTE,
    OK,
    ROOT,
    free_port,
    hostile,
    http_response,
    read_request,
    relay,
    replying,
    wait_for_client,
)

from meshdemo import connection, proxy, server, webserver
from meshdemo.upstream import Upstream, UpstreamError
from meshdemo.waitress_server import Server


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
    """An answer of exactly 1 MiB is whole."""
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


def test_an_upstream_that_ignores_connection_close_is_not_reused(tcp_server):
    """Even where the upstream keeps a connection open, the next call opens its own."""
    backend = tcp_server(replying(http_response(b"ok", "Connection: keep-alive")))
    target = Upstream(backend.url)
    for _ in range(3):
        target.call("GET", target.url_for("/"), {})
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


def test_cookies_are_not_kept(tcp_server):
    """A cookie that the upstream sets is neither stored nor sent back."""
    requests = []
    backend = tcp_server(replying(http_response(b"ok", "Set-Cookie: session=1; Path=/"), requests))
    target = Upstream(backend.url)
    for _ in range(2):
        target.call("GET", target.url_for("/"), {})
    assert not any(b"cookie" in request.lower() for request in requests)
    assert len(target._session.cookies) == 0


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


def test_slow_name_resolution_counts(monkeypatch):
    """The resolver's time is part of the call's."""
    release = threading.Event()

    def getaddrinfo(*args, flags=0, **options):
        if flags == socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not an address")
        release.wait(20)

    monkeypatch.setattr(connection.socket, "getaddrinfo", getaddrinfo)
    sentence, seconds = failure("http://slow.example", timeout_seconds=0.3)
    release.set()
    assert sentence == "timed out after 0.3 seconds calling http://slow.example/"
    assert seconds < 5


def test_every_address_is_tried(tcp_server, monkeypatch):
    """When a name has several addresses, one that refuses does not end the call."""
    backend = tcp_server(replying(http_response(b"ok")))
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (free_port(), backend.port)]
    monkeypatch.setattr(connection.socket, "getaddrinfo", lambda *a, **k: found)
    assert call("http://several.example").text == "ok"


@pytest.mark.parametrize("behave, reason", HOSTILE.values(), ids=HOSTILE)
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
from meshdemo.upstream import Upstream, UpstreamError

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
CERTIFICATE = Path(__file__).with_name("localhost.pem")


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


def test_took_is_measured_around_the_body(tcp_server, call_app):
    """The time shown includes an answer that arrives late."""
    backend = tcp_server(hostile(OK, b"Content-Length: 2\r\n\r\no", then=lambda conn: send_later(conn, b"k", 0.3)))
    document = call_app(proxy.create_app(Upstream(backend.url)), headers={"Accept": "application/json"}).json()
    assert document["value"] == "ok"
    assert 300 <= document["milliseconds"] < 3000


def send_later(conn, data, seconds):
    time.sleep(seconds)
    conn.sendall(data)
