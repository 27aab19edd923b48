"""Raw requests to both roles: each is one request or refused; nothing is smuggled, injected or met with silence."""

import itertools

import pytest
from support import http_response, replying
from wire import exchange, parse_responses

from meshdemo.calling.upstream import Upstream
from meshdemo.roles import proxy, webserver
from meshdemo.serving import server
from meshdemo.serving.waitress_server import Server

HOST = "Host: a"
CHUNKED = "Transfer-Encoding: chunked"


def request(line="GET / HTTP/1.1", *fields, body="", host=HOST):
    return "\r\n".join([line, *([host] if host else []), *fields]) + "\r\n\r\n" + body


# By kind: vectors that are refused with one of these statuses, and end their connection.
REFUSED = {
    "request line": (
        (400,),
        [
            request(line)
            for line in [
                "GET",
                "GET /",
                "GET  / HTTP/1.1",
                "GET / HTTP/1.1 x",
                " GET / HTTP/1.1 x",
                "GET\t/ HTTP/1.1",
                "GET /\tHTTP/1.1",
                "GET / HTTP/11",
                "GET / HTTP/1.",
                "GET / HTTP/.1",
                "GET / HTTP1.1",
                "GET / http/1.1",
                "GET / HTTP/1.1a",
                "GET / HTTP/1,1",
                "GET / HTTP/ 1.1",
                "GET / HTTPS/1.1",
                "/ GET HTTP/1.1",
                "get / HTTP/1.1",
                "GE(T / HTTP/1.1",
                "G\xc9T / HTTP/1.1",
                "G:T / HTTP/1.1",
                "GET / FTP/1.1",
                "x",
                "GET http://[/ HTTP/1.1",
                "GET http://[::1/ HTTP/1.1",
                "GET /\xff\xfe HTTP/1.1",
                "GET * HTTP/1.1",
                "GET /a\x00b HTTP/1.1",
                "GET /a\x0bb HTTP/1.1",
                "GET /a\x1b[2J HTTP/1.1",
            ]
        ],
    ),
    "version": (
        (505,),
        [request(f"GET / HTTP/{version}") for version in ("0.9", "2.0", "3.0", "9.9", "0.0")]
        + ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ),
    "method without a meaning here": (
        (501,),
        [request("CONNECT a:443 HTTP/1.1"), request("CONNECT / HTTP/1.1"), request("CONNECT a:443 HTTP/1.0")],
    ),
    "host": (
        (400,),
        [request(host=None), request("GET http://a/ HTTP/1.1", host=None), request("GET / HTTP/1.1", "Host: b")]
        + [request("GET / HTTP/1.1", "hOsT:"), request("GET / HTTP/1.0", "Host: b")]
        + [
            request(host=f"Host: {host}")
            for host in [
                "a b",
                "a/b",
                "a?b",
                "a#b",
                "me@a",
                "http://a",
                "a:b",
                "a:1:2",
                "a,b c",
                "[",
                "]",
                "[a",
                "a]",
                "a\\b",
                '"a"',
                "<a>",
                "a\x80",
                "::1",
                "a{",
                "a|b",
                "a^",
                "a`",
            ]
        ],
    ),
    "header": (
        (400,),
        [
            request("GET / HTTP/1.1", field)
            for field in [
                "nonsense",
                ": empty name",
                "a b: c",
                "a : b",
                "a\t: b",
                "a(b: c",
                "a: b\x00c",
                "a: b\x07",
                "a: b\x7f",
                "a: b\rc",
                "a: b\nc",
                "a\n: b",
                "a@: b",
                "\xe9: b",
                "a: b\r\n\rc: d",
            ]
        ]
        + ["GET / HTTP/1.1\r\n Host: a\r\n\r\n", "GET / HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n"],
    ),
    "length": (
        (400,),
        [
            request("POST / HTTP/1.1", f"Content-Length: {length}", body="hello")
            for length in [
                "",
                "-1",
                "+5",
                "5.0",
                "0x5",
                "5 5",
                "5,5",
                "5, 5",
                "five",
                "5;",
                "\xb2",
                "9" * 5000,
                "1e1",
                "_5",
            ]
        ]
        + [
            request("POST / HTTP/1.1", "Content-Length: 5", f"Content-Length: {length}", body="hello!")
            for length in (5, 6, "")
        ],
    ),
    "coding": (
        (400, 501),
        [
            request("POST / HTTP/1.1", f"Transfer-Encoding: {coding}", body="0\r\n\r\n")
            for coding in [
                "",
                "identity",
                "gzip",
                "gzip, chunked",
                "chunked, gzip",
                "chunked, chunked",
                "xchunked",
                "chunkedx",
                "chunked;q=1",
                "\x0bchunked",
                "chunked\x0b",
                '"chunked"',
                "chunked chunked",
            ]
        ]
        + [
            request("POST / HTTP/1.1", *pair, body="0\r\n\r\n")
            for pair in itertools.permutations([CHUNKED, "Content-Length: 5"])
        ]
        + [
            request("POST / HTTP/1.0", CHUNKED, body="0\r\n\r\n"),
            request("POST / HTTP/1.1", CHUNKED, CHUNKED, body="0\r\n\r\n"),
        ],
    ),
    "chunks": (
        (400,),
        [
            request("POST / HTTP/1.1", CHUNKED, body=body)
            for body in [
                "zz\r\nhello\r\n0\r\n\r\n",
                "-5\r\nhello\r\n0\r\n\r\n",
                "0x5\r\nhello\r\n0\r\n\r\n",
                "5\r\nhelloo\r\n0\r\n\r\n",
                " 5\r\nhello\r\n0\r\n\r\n",
                "5 \r\nhello\r\n0\r\n\r\n",
                "\r\nhello\r\n0\r\n\r\n",
                "+5\r\nhello\r\n0\r\n\r\n",
                "5;\x00\r\nhello\r\n0\r\n\r\n",
                "2\r\nhello\r\n0\r\n\r\n",
                "5_0\r\nhello\r\n0\r\n\r\n",
                "5;" + "x" * 70_000,
            ]
        ],
    ),
    "line feed": (
        (400,),
        [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
        ],
    ),
    "expectation": (
        (417,),
        [request("POST / HTTP/1.1", f"Expect: {text}") for text in ("tea", "100-continue, x", "100")],
    ),
    "size": (
        (431,),
        [
            request("GET / HTTP/1.1", *[f"X-{n}: {'x' * 1000}" for n in range(300)]),
            request(f"GET /{'x' * 300_000} HTTP/1.1"),
        ],
    ),
}
# Vectors that are one request each, whatever they look like.
SERVED = {
    "target": [
        request(f"GET {target} HTTP/1.1")
        for target in [
            "x",
            "@elsewhere/",
            "//elsewhere/x",
            "///x",
            "http://elsewhere/x",
            "https://me@elsewhere:99",
            "/%0d%0aX:y",
            "/../../etc/passwd",
            "/\\elsewhere",
            "\\\\elsewhere",
            "?q",
            "#f",
            ":99/x",
            "/%",
            "/%zz",
            "/;x=y",
            "/" + "x" * 60_000,
        ]
    ],
    "method": [
        request(f"{method} / HTTP/1.1")
        for method in ("FOO", "TRACE", "OPTIONS", "X!#$%&'*+-.^_`|~9", "PROPFIND", "QUERY")
    ],
    "host": [
        request(host=f"Host: {host}")
        for host in ("", "a:", "a:99999999", "[::1]:80", "A.B", "192.0.2.1", "%41", "my_host")
    ],
    "header": [
        request("GET / HTTP/1.1", field)
        for field in [
            "a:",
            "a:b",
            "a:\t b \t",
            "a: b\r\n c",
            "a: \xe9\xff",
            "A_b: c",
            "X-Forwarded-Host: elsewhere",
            "Via: " + "1.1 a, " * 100,
            "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c",
            "Accept: application/json;q=9",
            "X: " + "y" * 60_000,
            "Proxy-Connection: keep-alive",
            "TE: trailers",
            "Connection: host",
        ]
    ],
    "body": [
        request("POST / HTTP/1.1", "Content-Length: 0"),
        request("POST / HTTP/1.1", "Content-Length: 00005", body="hello"),
        request("GET / HTTP/1.1", "Content-Length: 5", body="hello"),
        request("POST / HTTP/1.1", CHUNKED, body="5;a=b\r\nhello\r\n00\r\nX: y\r\n\r\n"),
        request("POST / HTTP/1.1", "transfer-ENCODING: ,Chunked", body="0\r\n\r\n"),
        request("POST / HTTP/1.1", "Content-Length: 34", body="GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"[:34]),
    ],
    "version": [request("GET / HTTP/1.0"), request("GET / HTTP/1.0", host=None), request("GET / HTTP/1.9")],
    "blank lines first": ["\r\n" + request(), "\r\n\r\n\r\n" + request()],
}
SMUGGLED = request("GET /smuggled HTTP/1.1", "Connection: close")


def quick_then_thorough(table):
    """Return a parameter for each vector; the first of each kind is quick, the others are `thorough`."""
    return [
        pytest.param(
            *(values[:-1] if isinstance(values, tuple) else ()),
            vector.encode("latin-1"),
            marks=[pytest.mark.thorough] if number else [],
            id=f"{kind} {number}",
        )
        for kind, values in table.items()
        for number, vector in enumerate(values[-1] if isinstance(values, tuple) else values)
    ]


@pytest.fixture
def roles(tcp_server):
    """Serve both roles; return the port of each, and the requests that reached the proxy's upstream."""
    received = []
    upstream = Upstream(tcp_server(replying(http_response(b"upstream"), received)).url)
    apps = {"webserver": webserver.create_app(hostname="pod"), "proxy": proxy.create_app(upstream)}
    running = {name: Server(app, server.bind("127.0.0.1", 0), 4) for name, app in apps.items()}
    yield {name: each.port for name, each in running.items()}, received
    for each in running.values():
        each.close()


@pytest.mark.parametrize("role", ["webserver", "proxy"])
@pytest.mark.parametrize(("statuses", "vector"), quick_then_thorough(REFUSED))
def test_refused(roles, role, statuses, vector):
    """It gets one answer that refuses it, and neither it nor what follows reaches anybody."""
    ports, received = roles
    data, closed = exchange(ports[role], vector + SMUGGLED.encode(), silence=5)
    assert closed
    assert received == []
    if data or len(vector) < 8192:  # where much is still being sent, the answer may be lost with the connection
        (response,) = parse_responses(data)
        assert response.status in statuses
        assert response.body.startswith(b"Error: ")


@pytest.mark.parametrize("role", ["webserver", "proxy"])
@pytest.mark.parametrize("vector", quick_then_thorough(SERVED))
def test_served(roles, role, vector):
    """It is one request, and what follows the next one, unless its version ends the connection."""
    ports, received = roles
    data, closed = exchange(ports[role], vector + SMUGGLED.encode(), silence=5)
    responses = parse_responses(data)
    assert closed
    assert [response.status for response in responses] in ([200, 200], [200])
    if role == "proxy":
        assert len(received) == len(responses)
        assert all(one.count(b"\r\nHost: 127.0.0.1:") == 1 for one in received)
        assert received[-1].startswith(b"GET /smuggled HTTP/1.1\r\n") or len(responses) == 1


def test_the_table_has_more_than_a_hundred_vectors():
    """Every kind has vectors of its own, none twice."""
    vectors = [vector for _, values in REFUSED.values() for vector in values] + [*itertools.chain(*SERVED.values())]
    assert len(vectors) == len(set(vectors)) >= 117
