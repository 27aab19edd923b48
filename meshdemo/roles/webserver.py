"""The web server role: says which version and which pod answered, on which path and with what status."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshdemo.serving import wsgi

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

#: Answers 500 with the probability `Faults.fail_ratio`.
FAIL_PATH = "/failsometimes"
#: Waits with the probability `Faults.slow_ratio`.
SLOW_PATH = "/slowsometimes"

DEFAULT_CONTENT = "Hello world"
DEFAULT_RATIO = 1 / 3
DEFAULT_DELAY_SECONDS = 2.0


@dataclass(frozen=True)
class Faults:
    """What goes wrong at random: probabilities from 0 to 1, and how long a slow answer waits."""

    fail_ratio: float = DEFAULT_RATIO
    slow_ratio: float = DEFAULT_RATIO
    delay_seconds: float = DEFAULT_DELAY_SECONDS


DEFAULT_FAULTS = Faults()


def create_app(
    *,
    content: str = DEFAULT_CONTENT,
    hostname: str | None = None,
    faults: Faults = DEFAULT_FAULTS,
    draw: Callable[[], float] = random.random,
    sleep: Callable[[float], object] = time.sleep,
) -> WSGIApplication:
    """Return the web server as a WSGI application.

    `draw` gives a number in [0, 1) and is asked afresh for each request, so that one outcome says nothing about the
    next. `hostname` defaults to the machine's name, in a pod the pod's.
    """
    hostname = hostname or socket.gethostname()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        raw_path = wsgi.raw_path(environ)
        if raw_path == SLOW_PATH and draw() < faults.slow_ratio:
            sleep(faults.delay_seconds)
        status = 500 if raw_path == FAIL_PATH and draw() < faults.fail_ratio else 200
        path = raw_path.encode("latin-1", "replace").decode("utf-8", "replace")
        if wsgi.wants_json(environ):
            facts = {"content": content, "path": path, "hostname": hostname, "status": status}
            return wsgi.answer(environ, start_response, status, {**facts, "headers": wsgi.request_headers(environ)})
        text = f"{content} requested from {path} on {hostname} with code {status}"
        return wsgi.answer(environ, start_response, status, text)

    return app
