"""How long calls took: percentiles, a histogram on a logarithmic scale, and the table that shows both."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from meshdemo.console import terminal

PERCENTILES = {"median": 50, "p95": 95, "p99": 99, "maximum": 100}
_LABELS = {"median": "median", "p95": "95 %", "p99": "99 %", "maximum": "maximum"}
# The rows of a histogram at most, and its bounds in one decade of milliseconds: where these are too many, the next.
_ROWS = 10
_STEPS = ((1, 2, 5), (1, 3), (1,))
_DECADES = range(-1, 9)
_BAR_WIDTH, _LEAST_BAR_WIDTH = 40, 6


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the first of sorted values that `percent` of them do not exceed (nearest rank); there must be one."""
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def percentiles(ordered: Sequence[float]) -> dict[str, float] | None:
    """Return the percentiles of sorted times in milliseconds, None where there are no times."""
    if not ordered:
        return None
    return {name: round(percentile(ordered, percent), 3) for name, percent in PERCENTILES.items()}


def histogram(ordered: Sequence[float], requests: int) -> list[dict[str, Any]]:
    """Return ten rows at most for sorted times, from the shortest to the longest, on a logarithmic scale without a gap.

    Each has `from` and `to` in milliseconds, `to` being the first that belongs to the next row, a `count`, and its
    `share` of all `requests`.
    """
    if not ordered:
        return []
    for steps in _STEPS:
        bounds = [0.0, *(float(f"{step}e{decade}") for decade in _DECADES for step in steps)]
        first, last = (min(bisect_right(bounds, value), len(bounds) - 1) - 1 for value in (ordered[0], ordered[-1]))
        if last - first < _ROWS:
            break
    rows, counted = [], 0
    for index in range(first, last + 1):
        below = bisect_left(ordered, bounds[index + 1]) if index < last else len(ordered)
        count, counted = below - counted, below
        rows.append({"from": bounds[index], "to": bounds[index + 1], "count": count, "share": count / requests})
    return [{**row, "share": round(row["share"], 4)} for row in rows]


def format_times(report: Mapping[str, Any], width: int, rows: int, bar: str) -> list[str]:
    """Return the percentiles, and beside them, or below where `width` is too small, a histogram of `rows` at most.

    Where its own are more, the empty ones go first, and then neighbours become one. A full bar, of the character `bar`,
    is all requests.
    """
    times = {name: values for name, values in report["times"].items() if values}
    if not times:
        return []
    left = [f"{'time in ms':<11}" + "".join(f"{name:>8}" for name in times)]
    for key, label in _LABELS.items():
        left.append(f"{label:<11}" + "".join(f"{_format_milliseconds(values[key]):>8}" for values in times.values()))
    if not rows:
        return left
    room = width - len(left[0]) - 3
    right = _format_histogram(report, rows, room, bar)
    if max(map(len, right)) > room:
        return [terminal.cut(line, width) for line in [*left, *_format_histogram(report, rows, width, bar)]]
    height = max(len(left), len(right))
    left, right = (lines + [""] * (height - len(lines)) for lines in (left, right))
    return [f"{one:<{len(left[0])}}   {other}".rstrip() for one, other in zip(left, right, strict=True)]


def _format_histogram(report: Mapping[str, Any], limit: int, width: int, bar: str) -> list[str]:
    rows = report["histogram"]
    if len(rows) > limit:
        rows = [row for row in rows if row["count"]]
    while len(rows) > limit:
        rows = [_merged(rows[index : index + 2]) for index in range(0, len(rows), 2)]
    ranges = [_format_range(row["from"], row["to"]) for row in rows]
    widest = max(map(len, ranges))
    lines = [f"{'caller':>{widest}}{'answers':>8}{'share':>8}"]
    bar_width = min(_BAR_WIDTH, width - len(lines[0]) - 2)
    for text, row in zip(ranges, rows, strict=True):
        drawn = bar * round(row["share"] * bar_width) if bar_width >= _LEAST_BAR_WIDTH else ""
        lines.append(f"{text:>{widest}}{row['count']:>8}{row['share'] * 100:>6.1f} %  {drawn}".rstrip())
    return lines


def _merged(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return neighbouring rows as one."""
    count, share = (sum(row[key] for row in rows) for key in ("count", "share"))
    return {"from": rows[0]["from"], "to": rows[-1]["to"], "count": count, "share": share}


def _format_milliseconds(milliseconds: float) -> str:
    """Return a time in 7 characters at most."""
    return f"{milliseconds:.1f}" if milliseconds < 99999.95 else f"{milliseconds / 1000:.0f} s"


def _format_range(start: float, end: float) -> str:
    """Return a range of milliseconds, from one second on in seconds: `200 to 500 ms`, `500 ms to 1 s`."""
    (first, first_unit), (last, unit) = ((ms / 1000, "s") if ms >= 1000 else (ms, "ms") for ms in (start, end))
    return f"{first:g} {'' if first_unit == unit or not first else first_unit + ' '}to {last:g} {unit}"
