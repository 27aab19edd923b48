"""An answer is complete or an error: wherever it is cut off, and however its end is marked."""

import json
import ssl
import subprocess
import sys

import pytest
from support import DEADLINE_SECONDS, ROOT, hostile, http_response, read_request

from meshdemo.calling import connection
from meshdemo.calling.upstream import Upstream, UpstreamError

CERTIFICATE = ROOT / "tests/support/localhost.pem"
WHOLE = {
    "a length": (http_response(b"hello", "X-Header: y", status="500 Odd"), "GET"),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\n",
        "GET",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", "GET"),
    "nothing": (http_response(b"", status="404 Not Found"), "GET"),
    "headers alone": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD"),
    "an interim answer first": (b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" + http_response(b"ok"), "GET"),
    "line feeds alone": (http_response(b"hello").replace(b"\r\n", b"\n"), "GET"),
}


@pytest.mark.parametrize("keep_alive", [False, True], ids=["a connection per call", "kept connections"])
@pytest.mark.parametrize(("data", "method"), WHOLE.values(), ids=WHOLE)
def test_an_answer_that_is_cut_off(tcp_server, data, method, keep_alive):
    """Cut off before any of its bytes, an answer is an error: in a line, between two, in the body or its chunks."""
    sent = []

    def behave(conn):
        read_request(conn)
        conn.sendall(data[: sent[-1]])

    backend = tcp_server(behave)
    target = Upstream(backend.url, keep_alive=keep_alive)
    sent.append(len(data))
    whole = target.call(method, target.url_for("/"), {})
    reasons = set()
    for length in range(len(data)):
        sent.append(length)
        with pytest.raises(UpstreamError) as caught:
            target.call(method, target.url_for("/"), {})
        reasons.add(str(caught.value).partition(" calling ")[0])
    assert reasons <= {"connection closed in the middle of the answer", "connection closed without an answer"}
    sent.append(len(data))
    assert target.call(method, target.url_for("/"), {}) == whole


@pytest.mark.parametrize("cut", [b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 20"])
def test_an_answer_that_is_cut_off_on_a_kept_connection(tcp_server, cut):
    """A call whose answer has begun is not made again."""
    requests = []

    def behave(conn):
        for answer in (http_response(b"first"), cut):
            requests.append(read_request(conn))
            conn.sendall(answer)

    target = Upstream(tcp_server(behave).url, keep_alive=True)
    assert target.call("GET", target.url_for("/"), {}).text == "first"
    with pytest.raises(UpstreamError, match="connection closed in the middle of the answer"):
        target.call("GET", target.url_for("/"), {})
    assert len(requests) == 2


def tls(answer, *, closing_alert):
    """Return a behaviour that answers over TLS and closes, with or without TLS's own word for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    def behave(conn):
        with context.wrap_socket(conn, server_side=True) as secure:
            hostile(answer)(secure)
            if closing_alert:
                secure.unwrap().close()

    return behave


UNMARKED = b"HTTP/1.1 200 OK\r\n\r\nhello"


@pytest.mark.parametrize("keep_alive", [False, True], ids=["a connection per call", "kept connections"])
@pytest.mark.parametrize(
    ("answer", "closing_alert", "text"),
    [
        (UNMARKED, True, "hello"),
        (UNMARKED, False, None),
        (http_response(b"hello"), True, "hello"),
        (http_response(b"hello"), False, "hello"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", False, "hello"),
        (http_response(b"hello")[:-1], False, None),
    ],
    ids=["closed", "cut off", "a length, closed", "a length, cut off", "chunks, cut off", "a length not reached"],
)
def test_the_end_of_a_tls_connection(tcp_server, monkeypatch, answer, closing_alert, text, keep_alive):
    """An answer that ends with its connection is whole only where TLS says that this is the end (RFC 9112, 9.8)."""
    monkeypatch.setattr(connection, "DEFAULT_CA_BUNDLE_PATH", str(CERTIFICATE))
    backend = tcp_server(tls(answer, closing_alert=closing_alert))
    target = Upstream(f"https://localhost:{backend.port}", keep_alive=keep_alive)
    for _ in range(2):
        if text:
            assert target.call("GET", target.url_for("/"), {}).text == text
        else:
            with pytest.raises(UpstreamError, match="connection closed in the middle of the answer"):
                target.call("GET", target.url_for("/"), {})


def test_a_watch_counts_an_answer_that_is_cut_off_as_none(tcp_server):
    """An empty 200 is not made of half a header."""
    backend = tcp_server(hostile(b"HTTP/1.1 200 OK\r\nContent-Le"))
    command = [sys.executable, "-m", "meshdemo", "watch", backend.url, "-n", "5", "--rate", "0", "--json"]
    command += ["--expect", "unanswered=5", "--expect", "200=0"]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, timeout=DEADLINE_SECONDS)
    assert done.returncode == 0
    assert json.loads(done.stdout)["unanswered"] == {
        f"connection closed in the middle of the answer calling {backend.url}/": 5
    }
