"""TLS at a port of a stand-in, and a line for who does not speak it."""

import http.client
import socket
import ssl

import pytest
from support import free_port, http_response, replying

from meshdemo.lab.pods.tls import TlsServer, make_context

BODY = b"x" * 300_000


@pytest.fixture
def port(tmp_path, tcp_server):
    inner = tcp_server(replying(http_response(BODY)))
    found = free_port()
    server = TlsServer(found, "shop on shop-1", make_context(tmp_path), inner.port)
    assert list(tmp_path.iterdir()) == []
    server.start()
    yield found
    server.stop()


def test_what_is_said_inside(port):
    """Who begins TLS is answered by the web server behind it, whatever host it asks for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname="shop.example.com") as outer,
    ):
        assert outer.selected_alpn_protocol() == "http/1.1"
        outer.sendall(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
        response = http.client.HTTPResponse(outer)
        response.begin()
        assert response.read() == BODY


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\n\r\n"], ids=["nothing", "something else"])
def test_who_speaks_no_tls(port, data):
    """Others get the line that tells who answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        assert connection.recv(100) == b"shop on shop-1\n"


def test_who_breaks_the_handshake(port, capsys):
    """A handshake that is none, or a caller that has gone, is nobody's problem."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01nonsense")
    test_what_is_said_inside(port)
    assert capsys.readouterr() == ("", "")
