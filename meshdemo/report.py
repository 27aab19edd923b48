"""The result of a watch, as an object for scripts and as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from meshdemo.watch import Count, Tally

_BAR_WIDTH = 40
PERCENTILES = {"median": 50, "p95": 95, "p99": 99, "maximum": 100}


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of `values` that `percent` of them do not exceed (nearest rank); there must be one."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def as_object(tally: Tally, url: str, seconds: float) -> dict[str, Any]:
    """Return everything counted as one object; the README describes it field by field.

    Shares are of all requests, from 0 to 1; times are in milliseconds.
    """

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
    others = [
        {"status": status, "text": text, "count": count, "share": _share(count, tally.requests)}
        for (status, text), count in tally.texts.most_common()
    ]
    return {
        "url": url,
        "requests": tally.requests,
        "answered": tally.requests - tally.unanswered.total(),
        "late": tally.late,
        "seconds": round(seconds, 3),
        "rate": round(tally.requests / seconds, 1) if seconds else 0.0,
        "versions": versions,
        "others": others,
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
        "errors": dict(tally.errors.most_common()),
        "unanswered": dict(tally.unanswered.most_common()),
        "times": {"caller": _times(tally.caller_milliseconds), "proxy": _times(tally.proxy_milliseconds)},
    }


def _share(count: int, total: int) -> float:
    return round(count / total, 4) if total else 0.0


def _sum(counts: Iterable[Count]) -> Count:
    counts = list(counts)
    return Count(sum(each.answers for each in counts), sum(each.failed for each in counts))


def _times(milliseconds: Sequence[float]) -> dict[str, float] | None:
    if not milliseconds:
        return None
    return {name: round(percentile(milliseconds, percent), 3) for name, percent in PERCENTILES.items()}


def as_text(report: dict[str, Any], concurrency: int) -> str:
    """Return the object of `as_object` as tables. A bar is 40 characters for all requests, its failures as x."""
    blocks = [_versions(report), _others(report), _statuses(report)]
    blocks += [_reasons("the proxy got no answer", report["errors"], report["requests"])]
    blocks += [_reasons("no answer at all", report["unanswered"], report["requests"])]
    blocks += [_time_table(report["times"]), _pace(report, concurrency)]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def in_short(tally: Tally) -> str:
    """Return the counts so far on one line, for the progress bar."""
    counts = {content: _sum(pods.values()).answers for content, pods in sorted(tally.pods.items())}
    counts |= {str(status): count for status, count in sorted(tally.statuses.items()) if status >= 400}
    counts |= {"errors": tally.errors.total(), "unanswered": tally.unanswered.total()}
    return "  ".join(f"{name} {count}" for name, count in counts.items() if count)


def _row(name: str, count: int, share: float, failed: int | None = None, bar: str = "") -> str:
    failures = "" if failed is None else f"{failed:>9}" if failed else f"{'-':>9}"
    if failed:
        failures = click.style(failures, fg="red", bold=True)
    return f"{name:<34}{count:>8}{share * 100:>8.1f} %{failures}  {bar}".rstrip()


def _bar(share: float, failed: int, count: int) -> str:
    width = round(share * _BAR_WIDTH)
    failures = min(width, -(-width * failed // count)) if count else 0
    return "█" * (width - failures) + click.style("x" * failures, fg="red")


def _versions(report: dict[str, Any]) -> list[str]:
    if not report["versions"]:
        return []
    lines = [f"{'version and pod':<34}{'answers':>8}{'share':>10}{'failed':>9}"]
    for version in report["versions"]:
        for indent, each in [("", version), *(("  ", pod) for pod in version["pods"])]:
            name = indent + each.get("content", each.get("hostname"))
            bar = _bar(each["share"], each["failed"], each["count"])
            lines.append(_row(name, each["count"], each["share"], each["failed"], bar))
    return lines


def _others(report: dict[str, Any]) -> list[str]:
    if not report["others"]:
        return []
    heading = "without an application behind it" if report["versions"] or report["times"]["proxy"] else "answer"
    lines = [f"{heading:<34}{'answers':>8}{'share':>10}"]
    for each in report["others"]:
        name, bar = f"{each['status']} {each['text']}", _bar(each["share"], each["status"] >= 500, 1)
        if len(name) > 33:
            lines.append(name)
            name = ""
        lines.append(_row(name, each["count"], each["share"], None, bar))
    return lines


def _statuses(report: dict[str, Any]) -> list[str]:
    if not report["statuses"]:
        return []
    lines = [f"{'status':<34}{'answers':>8}{'share':>10}"]
    return lines + [
        _row(status, count, _share(count, report["requests"])) for status, count in report["statuses"].items()
    ]


def _reasons(heading: str, reasons: dict[str, int], requests: int) -> list[str]:
    if not reasons:
        return []
    lines = [f"{heading:<34}{'calls':>8}{'share':>10}"]
    for reason, count in reasons.items():
        lines += [click.style(reason, fg="red"), _row("", count, _share(count, requests))]
    return lines


def _time_table(times: dict[str, Any]) -> list[str]:
    if not times["caller"]:
        return []
    lines = [f"{'time in milliseconds':<24}" + "".join(f"{name:>10}" for name in ("median", "95 %", "99 %", "maximum"))]
    for source, label in (("caller", "as the caller saw it"), ("proxy", "as the proxy said")):
        if times[source]:
            lines.append(f"{label:<24}" + "".join(f"{value:>10.1f}" for value in times[source].values()))
    return lines


def _pace(report: dict[str, Any], concurrency: int) -> list[str]:
    lines = [f"{report['requests']} requests in {report['seconds']:.1f} s, {report['rate']:.1f} a second"]
    if report["late"]:
        lines.append(
            f"{report['late']} of them began late, since all {concurrency} places were taken; their times count from "
            "when they were due. More --concurrency or less --rate avoids that."
        )
    return lines
