"""Raw answers of a hostile upstream: each is its caller's answer or an error in one line, and nobody else's."""

import pytest
from support import http_response, read_request, wait_for_client

from meshdemo.calling.upstream import Upstream, UpstreamError

OK = "HTTP/1.1 200 OK"


def answer(*fields, body="", line=OK):
    return "\r\n".join([line, *fields]) + "\r\n\r\n" + body


def length(text, *fields, body="hello"):
    return answer(f"Content-Length: {text}", *fields, body=body)


def chunks(body, *fields, coding="chunked"):
    return answer(f"Transfer-Encoding: {coding}", *fields, body=body)


LAST = "0\r\n\r\n"
STOLEN = length(6, body="stolen")
# By kind: what is no answer, or none that is whole, where the connection ends behind it.
ERRORS = {
    "first line": [
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 \r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 -200 OK\r\n\r\n",
        "HTTP/1.1 99 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP 200 OK\r\n\r\n",
        "HTTPS/1.1 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "\r\n" + length(5),
        "<html></html>",
        "\x00" * 100,
        "SSH-2.0-OpenSSH_9.9\r\n",
        "+OK ready\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1 200 " + "x" * 70_000 + "\r\n\r\n",
    ],
    "headers": [
        answer("X: " + "y" * 70_000),
        answer("X" * 70_000 + ": y"),
        answer(*[f"X-{number}: y" for number in range(101)]),
        OK + "\r\nX: y",
        OK + "\r\nX: y\r\n",
        OK + "\r\nX",
    ],
    "length": [
        length(text)
        for text in (
            "",
            "-1",
            "+5",
            "5.0",
            "0x5",
            "5 5",
            "5,5",
            "5, 5",
            "5, 6",
            "five",
            "\xb2",
            "9" * 5000,
            "1e1",
            "5;",
        )
    ]
    + [
        length(5, "Content-Length: 6"),
        length(6),
        length(2**63),
        length(2 * 1024 * 1024, body="x" * 2 * 1024 * 1024),
    ],
    "chunks": [
        chunks(body)
        for body in (
            "",
            "5",
            "5\r\n",
            "5\r\nhel",
            "5\r\nhello",
            "5\r\nhello\r\n",
            "5\r\nhello\r\n0",
            "5\r\nhello\r\n0\r\n",
            "5\r\nhello\r\n0\r\nX: y\r\n",
            "zz\r\nhello\r\n" + LAST,
            "-5\r\nhello\r\n" + LAST,
            "\r\nhello\r\n" + LAST,
            "5;" + "x" * 9_000_000 + "\r\nhello\r\n" + LAST,
            "ffffffffffffffffff\r\nhello\r\n" + LAST,
        )
    ],
    "interim answers": [
        answer(line="HTTP/1.1 100 Continue"),
        answer("Link: </a>", line="HTTP/1.1 103 Early Hints"),
        answer(line="HTTP/1.1 101 Switching Protocols") + STOLEN,
        answer(line="HTTP/1.1 103 Early Hints") + "nonsense\r\n\r\n",
        answer(line="HTTP/1.1 103 Early Hints") * 300_000,
        "HTTP/1.1 103 Early Hints\r\nX: y",
    ],
    "coding": [
        length(5, "Content-Encoding: gzip"),
        length(5, "Content-Encoding: deflate"),
        length(5, "Content-Encoding: gzip, gzip"),
    ],
}
# What is an answer: its status, what its text begins with, and whether more comes than it is.
ANSWERS = {
    "more than announced": (200, "he", length(2)),
    "another answer behind it": (200, "hello", length(5) + STOLEN),
    "another answer behind chunks": (200, "hello", chunks("5\r\nhello\r\n" + LAST) + STOLEN),
    "another answer behind nothing": (204, "", answer(line="HTTP/1.1 204 No Content") + STOLEN),
    "another answer behind 304": (304, "", answer("Content-Length: 5", line="HTTP/1.1 304 Not Modified") + STOLEN),
    "another answer behind an empty one": (200, "", length(0, body="") + STOLEN),
    "one byte behind it": (200, "hello", length(5) + "x"),
    "a line break behind it": (200, "hello", length(5) + "\r\n"),
    "a request behind it": (200, "hello", length(5) + "GET / HTTP/1.1\r\n\r\n"),
    "chunks and a length": (200, "hello", chunks("5\r\nhello\r\n" + LAST, "Content-Length: 3") + STOLEN),
    "a length and chunks": (
        200,
        "hello",
        length(3, "Transfer-Encoding: chunked", body="5\r\nhello\r\n" + LAST) + STOLEN,
    ),
    "an interim answer with a length": (200, "hello", answer("Content-Length: 3", line="HTTP/1.1 102 P") + length(5)),
    "interim answers of all kinds": (
        200,
        "hello",
        "".join(answer(line=f"HTTP/1.1 {status} X") for status in (100, 102, 103, 104, 150, 199)) + length(5),
    ),
    "the same length twice": (200, "hello", length(5, "Content-Length: 5") + STOLEN),
    "chunked in other letters": (200, "hello", chunks("5\r\nhello\r\n" + LAST, coding="CHUNKED")),
    "extensions and trailers": (200, "hello", chunks("5;a=b;c\r\nhello\r\n0;x\r\nContent-Length: 3\r\n\r\n") + STOLEN),
    "a folded header": (200, "hello", length(5, "X: a\r\n b")),
    "a status nobody knows": (599, "hello", length(5).replace("200 OK", "599 Odd")),
    "a status above all": (999, "hello", length(5).replace("200 OK", "999 Odd")),
    "no phrase": (200, "hello", length(5).replace("200 OK", "200")),
    "a phrase of any bytes": (200, "hello", length(5).replace("OK", "\x80\x1b[2J")),
    "line feeds alone": (200, "hello", length(5).replace("\r\n", "\n")),
    "keep-alive for ever": (200, "hello", length(5, "Connection: keep-alive", "Keep-Alive: timeout=9999") + STOLEN),
    "a cookie and a redirect without a status": (
        200,
        "hello",
        length(5, "Set-Cookie: a=b", "Location: http://elsewhere/"),
    ),
    "a refresh": (200, "hello", length(5, "Refresh: 0; url=http://elsewhere/")),
    "an upgrade": (200, "hello", length(5, "Upgrade: h2c", "Connection: upgrade")),
    "100 headers": (200, "hello", length(5, *[f"X-{number}: y" for number in range(98)])),
    "a coding nobody knows": (200, "hello", length(5, "Content-Encoding: zz")),
    "HTTP/1.0 that stays": (200, "hello", length(5, "Connection: keep-alive").replace("1.1", "1.0") + STOLEN),
}


@pytest.fixture
def calls(tcp_server):
    """Return a function that calls an upstream which answers /hostile with bytes and all else with the path."""

    def run(data, *, keep_alive, closes):
        def behave(conn):
            while request := read_request(conn):
                path = request.split(b" ")[1]
                if path != b"/hostile":
                    conn.sendall(http_response(path))
                    continue
                conn.sendall(data.encode("latin-1"))
                if closes:
                    return
            wait_for_client(conn)

        upstream = Upstream(tcp_server(behave).url, keep_alive=keep_alive, timeout_seconds=10)

        def call(path):
            try:
                answered = upstream.call("GET", upstream.url_for(path), {})
                return answered.status, answered.text
            except UpstreamError as error:
                return None, str(error)

        outcomes = [call(path) for path in ("/before", "/hostile", "/1", "/2", "/hostile", "/3")]
        others = [outcome for number, outcome in enumerate(outcomes) if number not in (1, 4)]
        assert others == [(200, path) for path in ("/before", "/1", "/2", "/3")]
        assert outcomes[1] == outcomes[4]
        return outcomes[1]

    return run


def first_of_each(table):
    """Return a parameter for each answer of a table; all but the first of each kind are `thorough`."""
    return [
        pytest.param(data, id=f"{kind} {number}", marks=[pytest.mark.thorough] if number else [])
        for kind, values in table.items()
        for number, data in enumerate(values)
    ]


both = pytest.mark.parametrize("keep_alive", [False, True], ids=["a connection per call", "kept connections"])


@both
@pytest.mark.parametrize("data", first_of_each(ERRORS))
def test_no_answer(calls, data, keep_alive):
    """It is an error in one line of visible characters, and the calls around it get their own answers."""
    status, sentence = calls(data, keep_alive=keep_alive, closes=True)
    assert status is None
    assert sentence.isprintable()
    assert " calling http://127.0.0.1:" in sentence


@both
@pytest.mark.parametrize(("status", "text", "data"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer(calls, status, text, data, keep_alive):
    """It is its caller's answer alone, and what comes with it is nobody's."""
    assert calls(data, keep_alive=keep_alive, closes=False) == (status, text)
