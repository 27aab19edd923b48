"""Which records belong together: a request, its tries and copies, and what came of these elsewhere."""

from __future__ import annotations

from meshdemo.lab.xray.facts.records import Record

# How much earlier or later than its request a try may be said to be.
_SLACK_SECONDS = 0.002


def is_of(one: Record, request: Record) -> bool:
    """Return whether a try is one of a request."""
    ends = (one.envoy, one.downstream, one.local) == (request.envoy, request.downstream, request.local)
    return ends and bool(one.downstream) and _is_within(one, request)


def is_mirror(one: Record, request: Record) -> bool:
    """Return whether a try is that of a copy of a request: it came by no connection."""
    return one.envoy == request.envoy and not one.downstream and _is_within(one, request)


def _is_within(one: Record, request: Record) -> bool:
    """Return whether a try was begun while a request was served."""
    end = request.started + request.milliseconds / 1000
    return request.started - _SLACK_SECONDS <= one.started <= end + _SLACK_SECONDS


def lasted(one: Record, door: Record) -> bool:
    """Return whether a sidecar took a request while a try went on: connections are used again."""
    end = one.started + one.milliseconds / 1000
    return one.started - _SLACK_SECONDS <= door.started <= end + _SLACK_SECONDS
