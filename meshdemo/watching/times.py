"""How long calls took: percentiles, a histogram on a logarithmic scale, and the table that shows both."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from meshdemo.console import terminal

if TYPE_CHECKING:
    from meshdemo.watching.report import Report

PERCENTILES = {"median": 50, "p95": 95, "p99": 99, "maximum": 100}
_LABELS = {"median": "median", "p95": "95 %", "p99": "99 %", "maximum": "maximum"}
# The rows of a histogram at most, and its bounds in one decade of milliseconds: where these are too many, the next.
_ROWS = 10
_STEPS = ((1, 2, 5), (1, 3), (1,))
_DECADES = range(-1, 9)
_BAR_WIDTH, _LEAST_BAR_WIDTH = 40, 6


class Percentiles(NamedTuple):
    """Times in milliseconds that so many calls did not exceed."""

    median: float
    p95: float
    p99: float
    maximum: float


class Bin(NamedTuple):
    """How many calls took a time that lies, in milliseconds, from `start` on and below `end`."""

    start: float
    end: float
    calls: int


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the first of sorted values that `percent` of them do not exceed (nearest rank); there must be one."""
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def percentiles(ordered: Sequence[float]) -> Percentiles | None:
    """Return the percentiles of sorted times, None where there are no times."""
    if not ordered:
        return None
    return Percentiles(*(round(percentile(ordered, percent), 3) for percent in PERCENTILES.values()))


def histogram(ordered: Sequence[float]) -> list[Bin]:
    """Return ten bins at most for sorted times, from the shortest to the longest, without a gap; logarithmic."""
    if not ordered:
        return []
    for steps in _STEPS:
        bounds = [0.0, *(float(f"{step}e{decade}") for decade in _DECADES for step in steps)]
        first, last = (min(bisect_right(bounds, value), len(bounds) - 1) - 1 for value in (ordered[0], ordered[-1]))
        if last - first < _ROWS:
            break
    bins, counted = [], 0
    for index in range(first, last + 1):
        below = bisect_left(ordered, bounds[index + 1]) if index < last else len(ordered)
        bins.append(Bin(bounds[index], bounds[index + 1], below - counted))
        counted = below
    return bins


def format_times(report: Report, width: int, rows: int, bar: str) -> list[str]:
    """Return the percentiles, and beside them, or below where `width` is too small, a histogram of `rows` at most.

    Where its own are more, the empty ones go first, and then neighbours become one. A full bar, of the character `bar`,
    is all requests.
    """
    times = {name: values for name, values in report.times.items() if values}
    if not times:
        return []
    left = [f"{'time in ms':<11}" + "".join(f"{name:>8}" for name in times)]
    for key, label in _LABELS.items():
        left.append(
            f"{label:<11}" + "".join(f"{_format_milliseconds(getattr(values, key)):>8}" for values in times.values())
        )
    if not rows:
        return left
    room = width - len(left[0]) - 3
    right = _format_histogram(report, rows, room, bar)
    if max(map(len, right)) > room:
        return [terminal.cut(line, width) for line in [*left, *_format_histogram(report, rows, width, bar)]]
    height = max(len(left), len(right))
    left, right = (lines + [""] * (height - len(lines)) for lines in (left, right))
    return [f"{one:<{len(left[0])}}   {other}".rstrip() for one, other in zip(left, right, strict=True)]


def _format_histogram(report: Report, limit: int, width: int, bar: str) -> list[str]:
    bins = list(report.histogram)
    if len(bins) > limit:
        bins = [each for each in bins if each.calls]
    while len(bins) > limit:
        bins = [_merged(bins[index : index + 2]) for index in range(0, len(bins), 2)]
    ranges = [_format_range(each.start, each.end) for each in bins]
    widest = max(map(len, ranges))
    lines = [f"{'caller':>{widest}}{'answers':>8}{'share':>8}"]
    bar_width = min(_BAR_WIDTH, width - len(lines[0]) - 2)
    for text, each in zip(ranges, bins, strict=True):
        share = report.share(each.calls)
        drawn = bar * round(share * bar_width) if bar_width >= _LEAST_BAR_WIDTH else ""
        lines.append(f"{text:>{widest}}{each.calls:>8}{share * 100:>6.1f} %  {drawn}".rstrip())
    return lines


def _merged(bins: Sequence[Bin]) -> Bin:
    """Return neighbouring bins as one."""
    return Bin(bins[0].start, bins[-1].end, sum(each.calls for each in bins))


def _format_milliseconds(milliseconds: float) -> str:
    """Return a time in 7 characters at most."""
    return f"{milliseconds:.1f}" if milliseconds < 99999.95 else f"{milliseconds / 1000:.0f} s"


def _format_range(start: float, end: float) -> str:
    """Return a range of milliseconds, from one second on in seconds: `200 to 500 ms`, `500 ms to 1 s`."""
    (first, first_unit), (last, unit) = ((ms / 1000, "s") if ms >= 1000 else (ms, "ms") for ms in (start, end))
    return f"{first:g} {'' if first_unit == unit or not first else first_unit + ' '}to {last:g} {unit}"
