"""Scenes for the live page: upstreams that give a fixed sequence of answers, so that what the page shows is known."""

import itertools
import json
import time

from support import http_response, read_request

OVERFLOW = "upstream connect error or disconnect/reset before headers. reset reason: overflow"
CALLER = "spiffe://cluster.local/ns/default/sa/proxy"


def signed(version, pod, status=200, path="/", **headers):
    """Return an answer as the web server gives it."""
    content = {"content": version, "path": path, "hostname": pod, "status": status, "headers": headers}
    return status, "application/json", json.dumps(content)


def v(version, pod, status=200, **headers):
    """Return an answer of `Webserver V1` or `V2` from one of its pods."""
    return signed(f"Webserver V{version}", f"webserverv{version}-{pod}", status, **headers)


def by_mesh(status, text):
    """Return an answer as a sidecar gives it."""
    return status, "text/plain", text


def slow(answer, seconds=2.0):
    """Return an answer that takes its time."""
    return *answer, seconds


EVEN = [v(version, pod) for pod in (1, 2, 3) for version in (1, 2)]
#: Each is a list of answers that is played again and again.
SCENES = {
    "even": EVEN,
    "split": [v(1, 1), v(1, 2), v(2, 1), v(1, 3), v(1, 1), v(1, 2), v(1, 3), v(2, 2)],
    "third failing": [
        v(version, pod, status) for version, pod in itertools.product((1, 2), (1, 2, 3)) for status in (200, 200, 500)
    ],
    "overflow": [*EVEN, *[by_mesh(503, OVERFLOW)] * 4],
    "all dead": [by_mesh(503, "no healthy upstream")],
    "slow": [answer for one in EVEN for answer in (one, one, slow(one))],
    "sick pod": [v(1, 1), v(2, 1), v(1, 2, 500), v(2, 2), v(1, 3), v(2, 3)],
    "mirrored": [v(1, 1), v(1, 2), v(1, 3)],
}


def playing(answers):
    """Return a behaviour for `tcp_server` that gives each request the next of `answers`, and begins anew at the end."""
    turn = itertools.count()

    def behave(connection):
        while read_request(connection):
            status, media_type, text, *wait = answers[next(turn) % len(answers)]
            if wait:
                time.sleep(wait[0])
            headers = [f"Content-Type: {media_type}", *(["Server: envoy"] if media_type == "text/plain" else [])]
            connection.sendall(http_response(text.encode(), *headers, status=f"{status} X"))

    return behave
