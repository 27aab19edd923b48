"""The result of a watch as one object, of what JSON has: for scripts, and for the table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshdemo.reasons import find_reason
from meshdemo.watching import times
from meshdemo.watching.tally import Count, Tally


def as_object(tally: Tally, url: str, seconds: float) -> dict[str, Any]:
    """Return everything counted as one object; docs/reference.md describes it field by field.

    Shares are of all requests, from 0 to 1; times are in milliseconds.
    """
    caller, proxy = sorted(tally.caller_milliseconds), sorted(tally.proxy_milliseconds)

    def counted(count: Count) -> dict[str, Any]:
        return {"count": count.answers, "share": _share(count.answers, tally.requests), "failed": count.failed}

    versions = [
        {
            "content": content,
            **counted(_sum(pods.values())),
            "pods": [{"hostname": hostname, **counted(pods[hostname])} for hostname in sorted(pods)],
        }
        for content, pods in sorted(tally.pods.items())
    ]
    return {
        "url": url,
        "requests": tally.requests,
        "answered": tally.requests - tally.unanswered.total(),
        "late": tally.late,
        "seconds": round(seconds, 3),
        "rate": round(tally.requests / seconds, 1) if seconds else 0.0,
        "versions": versions,
        "others": [_other(status, text, count, tally.requests) for (status, text), count in tally.texts.most_common()],
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
        "errors": dict(tally.errors.most_common()),
        "unanswered": dict(tally.unanswered.most_common()),
        "tries": {str(number): count for number, count in sorted(tally.tries.items())},
        "identities": dict(tally.identities.most_common()),
        "paths": dict(tally.paths.most_common()),
        "times": {"caller": times.percentiles(caller), "proxy": times.percentiles(proxy)},
        "histogram": times.histogram(caller, tally.requests),
    }


def _other(status: int, text: str, count: int, requests: int) -> dict[str, Any]:
    """Return an answer that no application signed, with what it means where that is known."""
    reason = find_reason(status, text)
    return {
        "status": status,
        "text": text,
        "flag": reason and reason.flag,
        "reason": reason and f"{reason.name}: {reason.explanation}",
        "count": count,
        "share": _share(count, requests),
    }


def _share(count: int, total: int) -> float:
    return round(count / total, 4) if total else 0.0


def _sum(counts: Iterable[Count]) -> Count:
    counts = list(counts)
    return Count(sum(count.answers for count in counts), sum(count.failed for count in counts))
