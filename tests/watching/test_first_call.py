"""What the first call of a watch shows, and what to do about it."""

import socket
import ssl

import pytest
from support import ROOT, free_port, http_response, read_request, replying

from meshdemo.calling.failures import Code
from meshdemo.calling.upstream import Answer, Upstream, UpstreamError
from meshdemo.watching.first_call import find_problem, find_problem_of_wait

CERTIFICATE = ROOT / "tests/support/localhost.pem"


def call(url, timeout_seconds=5.0):
    """Return what became of a real call."""
    upstream = Upstream(url, timeout_seconds=timeout_seconds)
    try:
        return upstream.call("GET", upstream.url_for("/"), {})
    except UpstreamError as error:
        return error


def problem_at(url):
    return find_problem(url, call(url))


def over_tls(connection):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with context.wrap_socket(connection, server_side=True) as wrapped:
        read_request(wrapped)


def test_answers_are_no_problem(tcp_server):
    """Whatever its status, an answer is worth going on for."""
    assert problem_at(tcp_server(replying(http_response(b"no", status="503 Sorry"))).url) is None


def test_refused():
    """On this machine nothing runs there, elsewhere the server may be down."""
    url = f"http://127.0.0.1:{free_port()}/"
    assert problem_at(url) == f"connection refused calling {url}. Is meshdemo up running?"
    elsewhere = find_problem("http://web/", UpstreamError("refused", "http://web/", Code.REFUSED))
    assert elsewhere == "refused calling http://web/. Is the server running?"
    without_port = find_problem("http://localhost/", UpstreamError("refused", "http://localhost/", Code.REFUSED))
    assert without_port.endswith(". Is meshdemo up running? Its port is 3030 by default.")


def test_unknown_name():
    """A Service's name means nothing outside its cluster."""
    problem = problem_at("http://webserver.invalid/")
    assert problem.startswith("name not found calling http://webserver.invalid/. The name of a Service is known only")


def test_a_public_name(tcp_server):
    """It is no Service's; what redirects there is named."""
    problem = problem_at("http://shop.example.invalid/")
    assert problem == (
        "name not found calling http://shop.example.invalid/. In a lab, --from outside finds gateways by their hosts."
    )
    moved = http_response(b"", "Location: https://shop.example.invalid/", status="301 Moved")
    url = tcp_server(replying(moved)).url
    assert problem_at(url) == (
        f"name not found calling https://shop.example.invalid/. {url} redirects there. "
        "In a lab, --from outside finds gateways by their hosts."
    )


@pytest.mark.parametrize("code", [Code.RESET, Code.CLOSED])
def test_a_gateway_without_its_host(code):
    """A gateway at an address closes what does not ask for a host of it by TLS, and there is a way to ask for it."""
    found = find_problem("https://127.0.0.1:8443/", UpstreamError("reset", "https://127.0.0.1:8443/", code))
    assert found.endswith(" A gateway may want TLS to ask for its host: in a lab, call it by that with --from outside.")
    elsewhere = find_problem("https://example.com/", UpstreamError("reset", "https://example.com/", code))
    assert elsewhere == "reset calling https://example.com/."


def test_a_redirect_to_where_nobody_is(tcp_server):
    """That meshdemo runs is seen by the redirect."""
    target = f"http://127.0.0.1:{free_port()}/"
    url = tcp_server(replying(http_response(b"", f"Location: {target}", status="302 Found"))).url
    assert problem_at(url) == f"connection refused calling {target}. {url} redirects there."


def test_https_on_a_port_for_http(tcp_server):
    """A server that answers TLS with HTTP is told by a plain request."""
    url = tcp_server(replying(http_response(b"ok"))).url.replace("http", "https")
    reply = tcp_server(lambda connection: (connection.recv(1), connection.sendall(http_response(status="400 Bad"))))
    bad = reply.url.replace("http", "https")
    assert problem_at(bad).endswith(f"This port speaks HTTP, not HTTPS: use {reply.url}")
    assert find_problem_of_wait(url) == f"This port speaks HTTP, not HTTPS: use {url.replace('https', 'http')}"


def test_http_on_a_port_for_https(tcp_server):
    """A server that closes on plain HTTP, and takes a handshake, speaks HTTPS."""
    url = tcp_server(over_tls).url
    assert problem_at(url).endswith(f"This port speaks HTTPS, not HTTP: use {url.replace('http', 'https')}")


def test_a_certificate_that_is_not_accepted_is_no_other_scheme(tcp_server):
    """Where the port speaks HTTPS, though as somebody else, nobody is sent to HTTP, even if that is answered, too."""

    def both(connection):
        if connection.recv(1, socket.MSG_PEEK) == b"\x16":  # a TLS handshake
            over_tls(connection)
        else:
            replying(http_response(b"This is an HTTPS server.", status="400 Bad Request"))(connection)

    problem = problem_at(tcp_server(both).url.replace("http", "https"))
    assert problem.startswith("TLS problem (")
    assert "HTTP," not in problem


@pytest.mark.parametrize(
    "closing", [lambda connection: connection.recv(1), lambda connection: connection.sendall(b"x\n")]
)
def test_neither(tcp_server, closing):
    """Where the port speaks neither, only the reason is told."""
    url = tcp_server(closing).url
    assert problem_at(url) == f"{call(url)}."
    assert find_problem_of_wait(url.replace("http", "https")) is None


def test_the_other_scheme_is_not_waited_for(monkeypatch):
    """Whether a port speaks the other scheme is asked with a time limit of one second, so that the hint comes soon."""
    limits = []

    class Silent(Upstream):
        def __init__(self, url, *, timeout_seconds):
            super().__init__(url, timeout_seconds=timeout_seconds)
            limits.append(timeout_seconds)

        def call(self, method, url, headers):
            raise UpstreamError("timed out", url, Code.TIMEOUT)

    monkeypatch.setattr("meshdemo.watching.first_call.Upstream", Silent)
    assert find_problem_of_wait("https://web/") is None
    assert limits == [1]


def test_slow_answers_over_http_are_no_problem(tcp_server):
    """A call that takes long over plain HTTP is just slow."""
    assert find_problem_of_wait(tcp_server(replying(http_response(b"ok"))).url) is None


def test_live_page_is_not_an_answer(program):
    """The proxy's page is told from an answer, and where the answers are."""
    front = program("proxy", "--port", "0", "--proxy-url", f"http://127.0.0.1:{free_port()}")
    url = f"{front.url}/ui"
    assert problem_at(url) == f"{url} is the live page, not an answer. Use {front.url}/ instead."
    assert find_problem(url, Answer(200, "meshdemo", "text/plain")) is None
    assert find_problem("http://a/ui", Answer(200, "<p>another page</p>", "text/html")) is None
