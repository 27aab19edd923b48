"""Answers to count: of a web server, of a proxy in front of it, and of anything else."""

import json

from meshdemo.calling.failures import Code
from meshdemo.calling.upstream import Answer, UpstreamError
from meshdemo.watching.pace import Sample
from meshdemo.watching.tally import Tally


def web(content="V1", hostname="pod-1", status=200, path="/", **headers):
    """Return what a web server answers; `headers` arrived there, with underscores for hyphens."""
    arrived = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"content": content, "path": path, "hostname": hostname, "status": status, "headers": arrived}


def proxied(value, status=200, error=None, milliseconds=2.5):
    """Return what a proxy answers that got `value`."""
    return {"value": value, "status": status, "error": error, "milliseconds": milliseconds}


def sample(document, status=200, seconds=0.01, late=False):
    """Return a Sample of a JSON answer, or of a text."""
    if isinstance(document, str):
        return Sample(seconds, late, Answer(status, document, "text/plain"))
    return Sample(seconds, late, Answer(status, json.dumps(document), "application/json"))


def unanswered(reason="connection refused", seconds=0.01):
    """Return a Sample of a call that nobody answered."""
    return Sample(seconds, False, UpstreamError(reason, "http://a/", Code.REFUSED))


def tally_of(*samples):
    """Return a Tally that has counted the samples."""
    tally = Tally()
    for each in samples:
        tally.add(each)
    return tally
