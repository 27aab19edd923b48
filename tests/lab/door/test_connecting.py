"""What is said over a connection where nobody speaks HTTP."""

import socket
import threading

import pytest
from support import free_port

from meshdemo.lab.door import connecting
from meshdemo.lab.pods.lines import LineServer


def talk(at, data):
    """Return what was said, and why that is nothing."""
    said = connecting.talk(at, data)
    return said.text, said.error


def test_a_line():
    """What is said is returned when the connection ends."""
    port = free_port()
    server = LineServer(port, "mongo on mongo-0")
    server.start()
    try:
        assert talk(("127.0.0.1", port), b"hello") == ("mongo on mongo-0\n", None)
    finally:
        server.stop()


@pytest.mark.parametrize(("data", "said"), [(b"", b"\n" * 5), (b"hello", b"hello")])
def test_who_speaks_first(data, said):
    """The caller speaks first, empty lines where there is nothing to say: a sidecar judges by what it says."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with listening.accept()[0] as connection:
                connection.sendall(connection.recv(100))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert talk(listening.getsockname(), data) == (said.decode(), None)
        thread.join()


def test_nobody():
    """A port where nobody listens is told as that."""
    assert talk(("127.0.0.1", free_port()), b"") == ("", "connection refused")


@pytest.mark.parametrize(
    ("said", "expected"),
    [(b"", ("", "the connection was closed without a word")), (b"banner", ("banner", None))],
)
def test_who_says_little(said, expected):
    """A connection that is closed without a word is told as that, and one that stays open is not waited for."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()

        def serve():
            with listening.accept()[0] as connection:
                connection.recv(100)
                if said:
                    connection.sendall(said)
                    done.wait(10)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert talk(listening.getsockname(), b"") == expected
        done.set()
        thread.join()
