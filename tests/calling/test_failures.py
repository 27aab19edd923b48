"""What the libraries raise, as a code and in words."""

import http.client
import socket
import ssl

import pytest
import urllib3

from meshdemo.calling.failures import Code, explain, is_timeout
from meshdemo.calling.response import TooLargeError


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (TooLargeError(), Code.TOO_LARGE, "answer larger than 1 MiB"),
        (socket.gaierror(-2, "Name or service not known"), Code.NAME, "name not found"),
        (ConnectionRefusedError(111, "Connection refused"), Code.REFUSED, "connection refused"),
        (ssl.SSLCertVerificationError("bad"), Code.CERTIFICATE, "TLS problem (handshake failed)"),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), Code.TLS, "TLS problem (handshake failed)"),
        (http.client.RemoteDisconnected("x"), Code.CLOSED, "connection closed without an answer"),
        (BrokenPipeError(), Code.RESET, "connection reset"),
        (OSError(113, "No route to host"), Code.OTHER, "no route to host"),
        (http.client.BadStatusLine("x"), Code.ANSWER, "not an HTTP answer"),
        (RuntimeError("anything"), Code.OTHER, "the call failed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_code_and_words(error, code, words):
    """Each kind of failure has its code, which a program may tell apart, and its words for a person."""
    assert explain(error) == (code, words)


def test_the_reason_is_some_levels_down():
    """Libraries wrap the real error; it counts, not the wrapper."""
    wrapper = urllib3.exceptions.ProtocolError("Connection aborted.", ConnectionResetError(104, "reset"))
    assert explain(wrapper) == (Code.RESET, "connection reset")
    assert is_timeout(urllib3.exceptions.MaxRetryError(None, "/", urllib3.exceptions.ReadTimeoutError(None, "/", "x")))
