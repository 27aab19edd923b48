"""Answers TLS at a port that is for it: inside, the stand-in's web server does; who speaks no TLS gets a line."""

from __future__ import annotations

import selectors
import socket
import ssl
import tempfile
from pathlib import Path

from meshdemo.lab.envoy.certificates import Authority
from meshdemo.lab.pods.lines import IDLE_SECONDS, READ_BYTES, LineHandler, LineServer

# What a TLS handshake begins with (RFC 8446, 5.1: content type 22).
_HANDSHAKE = b"\x16"


def make_context(folder: Path) -> ssl.SSLContext:
    """Return how stand-ins speak TLS, with a certificate of their own; a file of `folder` holds it meanwhile."""
    own = Authority().secrets("default", "stand-in").own
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(own.certificate + (own.key or b""))
        file.flush()
        context.load_cert_chain(file.name)
    return context


class TlsServer(LineServer):
    """Speaks TLS at a port of loopback, and passes on what is said inside to the port `inner`."""

    def __init__(self, port: int, line: str, context: ssl.SSLContext, inner: int) -> None:
        super().__init__(port, line, _Handler, context=context, inner=inner)


class _Handler(LineHandler):
    context: ssl.SSLContext
    inner: int

    def handle(self) -> None:
        if self.first_byte() != _HANDSHAKE:
            self.say_line()
            return
        self.request.settimeout(IDLE_SECONDS)
        with (
            self.context.wrap_socket(self.request, server_side=True) as outer,
            socket.create_connection(("127.0.0.1", self.inner), IDLE_SECONDS) as inner,
            selectors.DefaultSelector() as selector,
        ):
            selector.register(outer, selectors.EVENT_READ, (outer, inner))
            selector.register(inner, selectors.EVENT_READ, (inner, outer))
            while ready := selector.select(IDLE_SECONDS):
                for key, _ in ready:
                    source, sink = key.data
                    # What TLS has decrypted already is seen by no selector.
                    while data := source.recv(READ_BYTES):
                        sink.sendall(data)
                        if not (source is outer and outer.pending()):
                            break
                    else:
                        return
