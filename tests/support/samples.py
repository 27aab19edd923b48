"""Answers to count: of a web server, of a proxy in front of it, and of anything else."""

import json

from meshdemo.calling.failures import Code
from meshdemo.calling.upstream import Answer, UpstreamError
from meshdemo.watching.expectations import judge, parse_expectation
from meshdemo.watching.pace import Sample
from meshdemo.watching.report import make_report
from meshdemo.watching.tally import Tally


def web(content="V1", hostname="pod-1", status=200, path="/", **headers):
    """Return what a web server answers; `headers` arrived there, with underscores for hyphens."""
    arrived = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"content": content, "path": path, "hostname": hostname, "status": status, "headers": arrived}


#: What Envoy puts into an answer that it makes itself, and into one that came from behind it.
ENVOY = {"Server": "envoy"}
BEHIND_ENVOY = {"Server": "envoy", "X-Envoy-Upstream-Service-Time": "3"}


def proxied(value, status=200, error=None, milliseconds=2.5, headers=None, not_passed_on=()):
    """Return what a proxy answers that got `value`, with `headers`."""
    shown = {"value": value, "status": status, "error": error, "milliseconds": milliseconds}
    return {**shown, "headers": headers or {}, "not passed on": list(not_passed_on)}


def sample(document, status=200, seconds=0.01, late=False, headers=None):
    """Return a Sample of a JSON answer, or of a text."""
    text, kind = (document, "text/plain") if isinstance(document, str) else (json.dumps(document), "application/json")
    return Sample(seconds, late, Answer(status, text, kind, headers or {}))


def unanswered(reason="connection refused", seconds=0.01):
    """Return a Sample of a call that nobody answered."""
    return Sample(seconds, False, UpstreamError(reason, "http://a/", Code.REFUSED))


def tally_of(*samples):
    """Return a Tally that has counted the samples."""
    tally = Tally()
    for each in samples:
        tally.add(each)
    return tally


def report_of(*samples, seconds=2.0, expect=(), **changes):
    """Return the Report of a watch that has ended."""
    tally = tally_of(*samples)
    verdicts = judge([parse_expectation(text) for text in expect], tally)
    return make_report(
        tally, verdicts, **{"url": "http://a/", "planned": tally.requests, "seconds": seconds, **changes}
    )
