"""Requests as RFC 9112 has them, over real sockets: each gets its own answer, and what is none is refused at once."""

import itertools
import re

import pytest
from wire import exchange, parse_responses

from meshdemo.serving import server, wsgi
from meshdemo.serving.waitress_server import Server


@pytest.fixture
def served():
    """Serve an application that answers with method, target and body; return its port, and what was refused."""
    refused = []

    def app(environ, start_response):
        body = wsgi.read_body(environ).decode("latin-1")
        text = " ".join([environ["REQUEST_METHOD"], environ["REQUEST_URI"], body])
        return wsgi.answer(environ, start_response, 200, text)

    running = Server(app, server.bind("127.0.0.1", 0), 4, lambda *line: refused.append(line))
    yield running.port, refused
    running.close()


def message(*lines, body=b""):
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


NEXT = message(b"GET /next HTTP/1.1", b"Host: a", b"Connection: close")
EXPECT = b"Expect: 100-continue"
CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"

# What is sent, in packets, and the statuses of what comes back before the answer to NEXT.
EXPECTATIONS = {
    "GET": ([message(b"GET /1 HTTP/1.1", b"Host: a", EXPECT)], [200], "GET /1 "),
    "HEAD": ([message(b"HEAD /1 HTTP/1.1", b"Host: a", EXPECT)], [200], None),
    "DELETE in other letters": (
        [message(b"DELETE /1 HTTP/1.1", b"Host: a", b"expect: 100-CONTINUE")],
        [200],
        "DELETE /1 ",
    ),
    "POST of length 0": (
        [message(b"POST /1 HTTP/1.1", b"Host: a", b"Content-Length: 0", EXPECT)],
        [200],
        "POST /1 ",
    ),
    "POST without a length": ([message(b"POST /1 HTTP/1.1", b"Host: a", EXPECT)], [200], "POST /1 "),
    "a body that waits": (
        [message(b"POST /1 HTTP/1.1", b"Host: a", b"Content-Length: 3", EXPECT), b"abc"],
        [100, 200],
        "POST /1 abc",
    ),
    "a body that comes along": (
        [message(b"POST /1 HTTP/1.1", b"Host: a", b"Content-Length: 3", EXPECT, body=b"abc")],
        [100, 200],
        "POST /1 abc",
    ),
    "chunks that wait": (
        [message(b"POST /1 HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", EXPECT), CHUNKS],
        [100, 200],
        "POST /1 abc",
    ),
    "no chunk": (
        [message(b"POST /1 HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", EXPECT), b"0\r\n\r\n"],
        [100, 200],
        "POST /1 ",
    ),
    "HTTP/1.0, which has no expectation": (
        [message(b"POST /1 HTTP/1.0", b"Connection: keep-alive", b"Content-Length: 3", EXPECT, body=b"abc")],
        [200],
        "POST /1 abc",
    ),
    "HTTP/1.0 and an expectation nobody knows": (
        [message(b"GET /1 HTTP/1.0", b"Connection: keep-alive", b"Expect: tea")],
        [200],
        "GET /1 ",
    ),
}


@pytest.mark.parametrize("pipelined", [False, True], ids=["next in a packet of its own", "next in the same packet"])
@pytest.mark.parametrize(("pieces", "statuses", "text"), EXPECTATIONS.values(), ids=EXPECTATIONS)
def test_an_expectation(served, pieces, statuses, text, pipelined):
    """100 comes only where a body may follow, and each request has its own answer (RFC 9110, 10.1.1)."""
    sent = [*pieces[:-1], pieces[-1] + NEXT] if pipelined else [*pieces, NEXT]
    data, closed = exchange(served[0], *sent)
    responses = parse_responses(data, "HEAD" if text is None else "GET")
    assert [response.status for response in responses] == [*statuses, 200]
    assert responses[-2].body.decode() == (f"{text}\n" if text is not None else "")
    assert responses[-1].body == b"GET /next \n"
    assert closed


def test_an_expectation_behind_another_request(served):
    """The 100 of a request comes behind the answer to the one before it."""
    first = message(b"GET /0 HTTP/1.1", b"Host: a")
    second = message(b"POST /1 HTTP/1.1", b"Host: a", b"Content-Length: 3", EXPECT)
    data, _ = exchange(served[0], first + second, b"abc" + NEXT)
    responses = parse_responses(data)
    assert [response.status for response in responses] == [200, 100, 200, 200]
    assert [response.body for response in responses if response.status == 200] == [
        b"GET /0 \n",
        b"POST /1 abc\n",
        b"GET /next \n",
    ]


HOST = b"Host: a"
# Status, method and target in the log, and what is sent.
REFUSED = {
    "an unknown expectation": (417, "GET", "/", [b"GET / HTTP/1.1", HOST, b"Expect: tea"]),
    "two expectations": (417, "GET", "/", [b"GET / HTTP/1.1", HOST, b"Expect: 100-continue, tea"]),
    "an unknown expectation before a body": (
        417,
        "POST",
        "/",
        [b"POST / HTTP/1.1", HOST, b"Content-Length: 3", b"Expect: tea"],
    ),
    "no Host": (400, "GET", "/", [b"GET / HTTP/1.1"]),
    "no Host, absolute target": (400, "GET", "http://a/", [b"GET http://a/ HTTP/1.1"]),
    "no Host in a version to come": (400, "GET", "/", [b"GET / HTTP/1.2"]),
    "two Hosts": (400, "GET", "/", [b"GET / HTTP/1.1", HOST, b"Host: b"]),
    "the same Host twice": (400, "GET", "/", [b"GET / HTTP/1.1", HOST, HOST]),
    "an empty Host and another": (400, "GET", "/", [b"GET / HTTP/1.1", b"Host:", HOST]),
    "two Hosts in HTTP/1.0": (400, "GET", "/", [b"GET / HTTP/1.0", HOST, b"Host: b"]),
    "two names": (400, "GET", "/", [b"GET / HTTP/1.1", b"Host: a b"]),
    "a list of names": (400, "GET", "/", [b"GET / HTTP/1.1", b"Host: a, b"]),
    "a path in Host": (400, "GET", "/", [b"GET / HTTP/1.1", b"Host: a/b"]),
    "a user in Host": (400, "GET", "/", [b"GET / HTTP/1.1", b"Host: me@a"]),
    "a URL in Host": (400, "GET", "/", [b"GET / HTTP/1.1", b"Host: http://a"]),
    "a port in words": (400, "GET", "/", [b"GET / HTTP/1.1", b"Host: a:http"]),
    "two ports": (400, "GET", "/", [b"GET / HTTP/1.1", b"Host: a:1:2"]),
    "half an address": (400, "GET", "/", [b"GET / HTTP/1.1", b"Host: [::1"]),
    "bytes that are no name": (400, "GET", "/", [b"GET / HTTP/1.1", b"Host: \xff"]),
    "the preface of HTTP/2": (505, "PRI", "*", [b"PRI * HTTP/2.0"]),
    "HTTP/2": (505, "GET", "/", [b"GET / HTTP/2.0", HOST]),
    "HTTP/0.9 by its number": (505, "GET", "/", [b"GET / HTTP/0.9"]),
    "CONNECT": (501, "CONNECT", "a:443", [b"CONNECT a:443 HTTP/1.1", b"Host: a:443"]),
    "CONNECT with a body to come": (
        501,
        "CONNECT",
        "a:443",
        [b"CONNECT a:443 HTTP/1.1", b"Host: a", b"Content-Length: 9"],
    ),
    "no version": (400, "-", "-", [b"GET /"]),
    "no target": (400, "-", "-", [b"GET HTTP/1.1", HOST]),
    "two spaces": (400, "-", "-", [b"GET  / HTTP/1.1", HOST]),
    "a version of two digits": (400, "-", "-", [b"GET / HTTP/1.10", HOST]),
    "a version in small letters": (400, "-", "-", [b"GET / http/1.1", HOST]),
    "a NUL in the target": (400, "GET", "/a\0b", [b"GET /a\0b HTTP/1.1", HOST]),
    "a tab in the target": (400, "GET", "/a\tb", [b"GET /a\tb HTTP/1.1", HOST]),
    "a carriage return in the target": (400, "GET", "/a\rb", [b"GET /a\rb HTTP/1.1", HOST]),
    "a DEL in the target": (400, "GET", "/\x7f", [b"GET /\x7f HTTP/1.1", HOST]),
    "an asterisk for what is not OPTIONS": (400, "GET", "*", [b"GET * HTTP/1.1", HOST]),
    "a chunk larger than any number": (
        400,
        "POST",
        "/",
        [b"POST / HTTP/1.1", HOST, b"Transfer-Encoding: chunked", b"", b"FFFFFFFFFFFFFFFF0", b"abc"],
    ),
    "an empty length": (400, "POST", "/", [b"POST / HTTP/1.1", HOST, b"Content-Length:"]),
    "a header without a colon": (400, "GET", "/", [b"GET / HTTP/1.1", HOST, b"nonsense"]),
    "a first header that is folded": (400, "GET", "/", [b"GET / HTTP/1.1", b" X: y", HOST]),
    "a method in small letters": (400, "get", "/", [b"get / HTTP/1.1", HOST]),
}


@pytest.mark.parametrize(("status", "method", "target", "lines"), REFUSED.values(), ids=REFUSED)
def test_refused(served, status, method, target, lines):
    """It gets its status and one line that says why, is logged once, and the connection ends."""
    port, refused = served
    data, closed = exchange(port, message(*lines) + b"SM\r\n\r\n" + NEXT)  # of which nothing counts
    (response,) = parse_responses(data)
    assert (response.version, response.status, closed) == ("HTTP/1.1", status, True)
    assert re.fullmatch(rb"Error: [a-z ]+: [^\r\n]+\n", response.body)
    assert response.headers["connection"] == "close"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert refused == [("127.0.0.1", method, target, status)]


def test_an_asterisk_for_options(served):
    """OPTIONS may ask about the server as a whole (RFC 9112, 3.2.4)."""
    data, _ = exchange(served[0], message(b"OPTIONS * HTTP/1.1", HOST, b"Connection: close"))
    (response,) = parse_responses(data)
    assert (response.status, response.body) == (200, b"OPTIONS * \n")


def test_head_is_refused_without_a_body(served):
    """The answer to HEAD has no body, whatever it is (RFC 9110, 9.3.2)."""
    data, closed = exchange(served[0], message(b"HEAD / HTTP/1.1"))
    (response,) = parse_responses(data, "HEAD")
    assert (response.status, closed) == (400, True)
    assert int(response.headers["content-length"]) > 0


# What arrives, to the first line feed without a carriage return, and what would follow.
BARE = {
    "the first line": (b"GET / HTTP/1.1\n", b"Host: a\r\n\r\n"),
    "a header": (b"GET / HTTP/1.1\r\nHost: a\n", b"\r\n\r\n"),
    "the end": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", b""),
    "the first line behind blank ones": (b"\r\n\n\nGET / HTTP/1.1\n", b"\n"),
}


@pytest.mark.parametrize("split", ["with the rest", "alone", "byte by byte"])
@pytest.mark.parametrize(("data", "rest"), BARE.values(), ids=BARE)
def test_a_bare_line_feed(served, data, rest, split):
    """A line that ends in a line feed alone is refused at once, however it arrives, and never met with silence."""
    sent = {"with the rest": [data + rest], "alone": [data], "byte by byte": [b"%c" % byte for byte in data]}
    answer, closed = exchange(served[0], *sent[split])
    (response,) = parse_responses(answer)
    assert (response.status, closed) == (400, True)


@pytest.mark.parametrize("sent", ["in one packet", "byte by byte"])
def test_line_feeds_where_they_belong(served, sent):
    """Blank lines before a request, line breaks between any two packets and line feeds in a body make no difference."""
    whole = b"\r\n" + message(b"POST /1 HTTP/1.1", HOST, b"Content-Length: 4", body=b"\na\n\n") + NEXT
    data, _ = exchange(served[0], *([whole] if sent == "in one packet" else [b"%c" % byte for byte in whole]))
    assert [response.body for response in parse_responses(data)] == [b"POST /1 \na\n", b"GET /next \n"]


@pytest.mark.parametrize(
    "host",
    [
        b"a",
        b"a:80",
        b"a:",
        b"",
        b"my_service.default",
        b"a.",
        b"192.0.2.1:80",
        b"[::1]",
        b"[2001:db8::1]:8080",
        b"%C3%A9",
    ],
)
def test_hosts_that_are_right(served, host):
    """Names, addresses and an empty Host are served."""
    data, _ = exchange(served[0], message(b"GET / HTTP/1.1", b"Host: " + host, b"Connection: close"))
    assert [response.status for response in parse_responses(data)] == [200]


def test_http_1_0_needs_no_host(served):
    """A request of HTTP/1.0 is served without Host, and its connection is closed."""
    data, closed = exchange(served[0], message(b"GET /1 HTTP/1.0"))
    assert ([response.body for response in parse_responses(data)], closed) == ([b"GET /1 \n"], True)


def test_an_absolute_target_is_served(served):
    """A target with a host is served, as the RFC asks (9112, 3.2.2)."""
    data, _ = exchange(served[0], message(b"GET http://elsewhere/x?y HTTP/1.1", HOST, b"Connection: close"))
    assert [response.body for response in parse_responses(data)] == [b"GET http://elsewhere/x?y \n"]


@pytest.mark.parametrize("options", [b"close", b"Close", b"x, close", b"close,x", b"x , CLOSE , y"])
def test_connection_close_in_a_list(served, options):
    """Close ends the connection wherever it stands in Connection (RFC 9112, 9.6)."""
    data, closed = exchange(served[0], message(b"GET /1 HTTP/1.1", HOST, b"Connection: " + options) + NEXT)
    (response,) = parse_responses(data)
    assert (response.headers["connection"], closed) == ("close", True)


@pytest.mark.parametrize("options", [b"keep-alive", b"closed", b"not-close"])
def test_connection_that_stays(served, options):
    """Anything else leaves it open."""
    data, _ = exchange(served[0], message(b"GET /1 HTTP/1.1", HOST, b"Connection: " + options) + NEXT)
    assert [response.status for response in parse_responses(data)] == [200, 200]


def test_every_split_of_a_request(served):
    """Wherever the network cuts a request in two, it is the same request."""
    whole = message(b"POST /1 HTTP/1.1", HOST, b"Transfer-Encoding: chunked", body=b"1\r\na\r\n0\r\n\r\n") + NEXT
    for position in itertools.chain(range(1, len(whole), 7), range(len(whole) - 4, len(whole))):
        data, _ = exchange(served[0], whole[:position], whole[position:])
        assert [response.body for response in parse_responses(data)] == [b"POST /1 a\n", b"GET /next \n"]
