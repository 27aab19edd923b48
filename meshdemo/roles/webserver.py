"""The web server role: says which version and which pod answered, on which path and with what status."""

from __future__ import annotations

import random
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshdemo.serving import wsgi

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

FAIL_PATH = "/failsometimes"  # answers `Faults.fail_status` with the probability `Faults.fail_ratio`
SLOW_PATH = "/slowsometimes"  # waits `Faults.delay_seconds` with the probability `Faults.slow_ratio`
DEFAULT_CONTENT = "Hello world"


@dataclass(frozen=True)
class Faults:
    """What goes wrong at random: probabilities from 0 to 1, how it fails, how long it waits, and if on any path."""

    fail_ratio: float = 1 / 3
    slow_ratio: float = 1 / 3
    delay_seconds: float = 2.0
    fail_status: int = 500
    everywhere: bool = False


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
        status, seconds = _asked_for(raw_path)
        if (faults.everywhere or raw_path == SLOW_PATH) and draw() < faults.slow_ratio:
            seconds = faults.delay_seconds
        if (faults.everywhere or raw_path == FAIL_PATH) and draw() < faults.fail_ratio:
            status = faults.fail_status
        if seconds:
            sleep(seconds)
        path = raw_path.encode("latin-1", "replace").decode("utf-8", "replace")
        if wsgi.wants_json(environ):
            facts = {"content": content, "path": path, "hostname": hostname, "status": status}
            return wsgi.answer(environ, start_response, status, {**facts, "headers": wsgi.request_headers(environ)})
        text = f"{content} requested from {path} on {hostname} with code {status}"
        return wsgi.answer(environ, start_response, status, text)

    return app


def _asked_for(path: str) -> tuple[int, float]:
    """Return the status of `/status/503` and the seconds of `/delay/1.5`, with 400 where they name none."""
    match path.split("/"):
        case ["", "status", text]:
            return int(text) if re.fullmatch("[2-5][0-9]{2}", text) else 400, 0
        case ["", "delay", text]:
            return (200, float(text)) if re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,3})?", text) else (400, 0)
    return 200, 0
