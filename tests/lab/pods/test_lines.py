"""A line for each who connects."""

import socket

import pytest
from support import free_port

from meshdemo.lab.pods.lines import LineServer


@pytest.fixture
def port():
    found = free_port()
    server = LineServer(found, "mongo on mongo-0")
    server.start()
    yield found
    server.stop()
    server.stop()


@pytest.mark.parametrize("data", [b"\n", b"hello\n", b"\x16\x03\x01\xff"])
def test_a_line(port, data):
    """Who connects is told who answers, whatever they say, and then that this is all."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert connection.makefile("rb").read() == b"mongo on mongo-0\n"


def test_the_first_word(port):
    """The caller has the first word, and one that stays silent gets the line all the same."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        connection.settimeout(10)
        assert connection.recv(100) == b"mongo on mongo-0\n"


def test_who_goes_at_once(port, capsys):
    """A caller that has gone is nobody's problem."""
    for _ in range(3):
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    test_a_line(port, b"\n")
    assert capsys.readouterr() == ("", "")
