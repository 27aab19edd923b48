"""What a watch saw, in words: what the mesh did on the way, how far it has come, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from meshdemo.escaping import printable
from meshdemo.watching.report import Report


def format_progress(report: Report) -> str:
    """Return the counts so far on one line, of any length."""
    counts = {version.name: version.answers for version in report.versions}
    counts |= {status.name: status.answers for status in report.statuses if int(status.name) >= 400}
    counts |= {"errors": sum(report.errors.values()), "unanswered": sum(report.unanswered.values())}
    shown = [f"{name} {count}" for name, count in counts.items() if count]
    return printable("  ".join([_format_requests(report), *shown]))


def format_facts(report: Report, limit: int) -> list[str]:
    """Return what the web server saw of the calls, each fact on a line of any length, with `limit` names at most."""
    facts = []
    if report.tries:
        facts.append(f"answered at try {_format_counts(report.tries, limit)}")
    if identities := report.identities:
        names = next(iter(identities)) if len(identities) == 1 else _format_counts(identities, limit)
        facts.append(f"mutual TLS in {sum(identities.values())} of {report.requests} calls: {names}")
    if report.paths.keys() - {report.path}:
        facts.append(f"asked for {report.path}, the web server saw {_format_counts(report.paths, limit)}")
    if dropped := report.not_passed_on:
        more = f" and {len(dropped) - limit} more" if len(dropped) > limit else ""
        facts.append(f"not passed on by the proxy: {', '.join(dropped[:limit])}{more} (see its --forward-header)")
    return [printable(fact) for fact in facts]


def format_pace(report: Report, *, running: bool) -> list[str]:
    """Return how many requests there were, how fast, and what was amiss, each on a line of any length."""
    lines = [f"{_format_requests(report)} in {report.seconds:.1f} s, {report.rate:.1f} a second"]
    under_way = report.under_way
    if running:
        lines[0] += f", {under_way} under way; Ctrl+C ends it"
    elif report.is_interrupted:
        calls = f": {under_way} call{' was' if under_way == 1 else 's were'} under way and not counted"
        lines.append(f"Stopped early{calls if under_way else ''}.")
    if report.change:
        lines.append(printable(f"A new count since {_format_change(report.change)}."))
    if report.stopped_seconds:
        lines.append(
            f"This program was stopped for {report.stopped_seconds:.1f} s, which count in no time and no pace."
        )
    if report.late:
        lines.append(
            f"{report.late} of them started late, with all places taken or this machine busy: try more --concurrency "
            "or less --rate."
        )
    return lines


def _format_requests(report: Report) -> str:
    planned = report.planned
    of = f" of {planned}" if planned and planned != report.requests else ""
    return f"{report.requests}{of} requests"


def _format_counts(counts: Mapping[str, int] | Mapping[int, int], limit: int) -> str:
    shown = [f"{name}: {count}" for name, count in list(counts.items())[:limit]]
    more = len(counts) - len(shown)
    return ", ".join([*shown, f"and {more} more"] if more else shown)


def _format_change(change: str) -> str:
    """Return when a change was, on the clock of this place, and its text."""
    moment, _, text = change.partition(" ")
    try:
        clock = datetime.fromisoformat(moment).astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError):  # no proxy of this project says so
        return change
    return f"{clock}: {text}"
