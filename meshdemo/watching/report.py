"""The result of a watch as data, for the table, and as the JSON that scripts read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshdemo.reasons import Reason
from meshdemo.watching.expectations import COUNT, SHARE, TIME, Verdict
from meshdemo.watching.tally import Count, Tally
from meshdemo.watching.times import Bin, Percentiles, histogram, percentiles
from meshdemo.watching.why import Explained, explained_to_json


@dataclass(frozen=True)
class Row:
    """A name, how many answers it stands for, and how many of the calls failed."""

    name: str
    answers: int
    failed: int


@dataclass(frozen=True)
class Version(Row):
    """A version and its pods."""

    pods: Sequence[Row]


@dataclass(frozen=True)
class Text:
    """Answers that no application signed, and why the mesh gave them, where that is known."""

    status: int
    text: str
    reason: Reason | None
    answers: int


@dataclass(frozen=True)
class Report:
    """Everything that a watch has counted; docs/reference.md describes it field by field, as `to_json` writes it.

    `failed` counts calls, `statuses` has a row for each status. Of `times` None stands for no time. `planned` is None
    where the number of requests was open, `problem` where the first call was none. `not_passed_on` names headers that
    were sent and did not get past a proxy. `seconds` are without the `stopped_seconds` of the process itself. `change`
    is time and text of the change of the mesh since which all else is counted, None where that is the beginning.
    `explained` has one call of each kind, where that was asked for.
    """

    url: str
    path: str
    planned: int | None
    requests: int
    answered: int
    failed: int
    late: int
    under_way: int
    seconds: float
    versions: Sequence[Version]
    texts: Sequence[Text]
    statuses: Sequence[Row]
    errors: Mapping[str, int]
    unanswered: Mapping[str, int]
    tries: Mapping[int, int]
    identities: Mapping[str, int]
    paths: Mapping[str, int]
    not_passed_on: Sequence[str]
    times: Mapping[str, Percentiles | None]
    histogram: Sequence[Bin]
    verdicts: Sequence[Verdict]
    stopped_seconds: float = 0.0
    change: str | None = None
    is_interrupted: bool = False
    problem: str | None = None
    explained: Sequence[Explained] = ()

    @property
    def rate(self) -> float:
        """Return how many requests ended in a second."""
        return round(self.requests / self.seconds, 1) if self.seconds else 0.0

    def share(self, count: float) -> float:
        """Return a count as a share of all requests, from 0 to 1."""
        return round(count / self.requests, 4) if self.requests else 0.0


def make_report(
    tally: Tally,
    verdicts: Sequence[Verdict] = (),
    *,
    url: str,
    path: str = "/",
    planned: int | None = None,
    seconds: float,
    under_way: int = 0,
    stopped_seconds: float = 0.0,
    change: str | None = None,
    header_names: Collection[str] = (),
    is_interrupted: bool = False,
    problem: str | None = None,
    explained: Sequence[Explained] = (),
) -> Report:
    """Return what was counted; of the headers that a proxy did not pass on, those in `header_names`."""
    caller, proxy = sorted(tally.caller_milliseconds), sorted(tally.proxy_milliseconds)
    versions = [
        Version(content, *_numbers(sum(pods.values(), Count())), [_row(name, pods[name]) for name in sorted(pods)])
        for content, pods in sorted(tally.pods.items())
    ]
    texts = [Text(text.status, text.text, text.reason, count.answers) for text, count in tally.texts.items()]
    return Report(
        url=url,
        path=path,
        planned=planned,
        requests=tally.requests,
        answered=tally.requests - tally.unanswered.total(),
        failed=tally.failed,
        late=tally.late,
        under_way=under_way,
        seconds=seconds,
        versions=versions,
        texts=sorted(texts, key=lambda text: -text.answers),
        statuses=[_row(str(status), count) for status, count in sorted(tally.statuses.items())],
        errors=dict(tally.errors.most_common()),
        unanswered=dict(tally.unanswered.most_common()),
        tries=dict(sorted(tally.tries.items())),
        identities=dict(tally.identities.most_common()),
        paths=dict(tally.paths.most_common()),
        not_passed_on=sorted(tally.not_passed_on & set(header_names)),
        times={"caller": percentiles(caller), "proxy": percentiles(proxy)},
        histogram=histogram(caller),
        verdicts=verdicts,
        stopped_seconds=stopped_seconds,
        change=change,
        is_interrupted=is_interrupted,
        problem=problem,
        explained=explained,
    )


def to_json(report: Report) -> dict[str, Any]:
    """Return the object that `--json` writes: shares are of all requests, from 0 to 1, times in milliseconds."""

    def row(name: str, counted: Row) -> dict[str, Any]:
        share = report.share(counted.answers)
        return {name: counted.name, "count": counted.answers, "share": share, "failed": counted.failed}

    return {
        "url": report.url,
        "path": report.path,
        "planned": report.planned,
        "requests": report.requests,
        "answered": report.answered,
        "failed": report.failed,
        "late": report.late,
        "under_way": report.under_way,
        "interrupted": report.is_interrupted,
        "problem": report.problem,
        "seconds": round(report.seconds, 3),
        "stopped_seconds": round(report.stopped_seconds, 3),
        "rate": report.rate,
        "change": report.change,
        "versions": [
            {**row("content", version), "pods": [row("hostname", pod) for pod in version.pods]}
            for version in report.versions
        ],
        "others": [
            {
                "status": text.status,
                "text": text.text,
                "flag": text.reason and text.reason.flag,
                "reason": text.reason and f"{text.reason.name}: {text.reason.explanation}",
                "guessed": text.reason and text.reason.is_guess,
                "count": text.answers,
                "share": report.share(text.answers),
            }
            for text in report.texts
        ],
        "statuses": {status.name: status.answers for status in report.statuses},
        "errors": dict(report.errors),
        "unanswered": dict(report.unanswered),
        "tries": {str(number): count for number, count in report.tries.items()},
        "identities": dict(report.identities),
        "paths": dict(report.paths),
        "not_passed_on": list(report.not_passed_on),
        "times": {name: found and found._asdict() for name, found in report.times.items()},
        "histogram": [
            {"from": each.start, "to": each.end, "count": each.calls, "share": report.share(each.calls)}
            for each in report.histogram
        ],
        "why": [explained_to_json(each) for each in report.explained],
        "expectations": [_verdict_to_json(verdict) for verdict in report.verdicts],
    }


def _verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    expected, seen = verdict.expectation, verdict.seen
    if seen is not None:
        seen = round(seen / 100, 5) if expected.range.kind == SHARE else round(seen, 3)
    units = {COUNT: "pods" if expected.subject == "pods" else "calls", SHARE: "share", TIME: "ms"}
    return {
        "subject": expected.subject,
        "range": expected.range.text,
        "seen": seen,
        "unit": units[expected.range.kind],
        "met": verdict.met,
        "did_you_mean": verdict.did_you_mean,
    }


def _row(name: str, count: Count) -> Row:
    return Row(name, *_numbers(count))


def _numbers(count: Count) -> tuple[int, int]:
    return count.answers, count.failed
