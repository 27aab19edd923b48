"""What somebody expects of a watch: `Webserver V1=130..170`, read and judged.

An expectation is a subject, an equals sign and a range; docs/reference.md has the grammar in a table.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf

from meshdemo.reasons import REASONS
from meshdemo.watching.tally import Tally
from meshdemo.watching.times import PERCENTILES, percentile

COUNT, SHARE, TIME = "a count", "a share", "a time"
_MILLISECONDS = {"ms": 1.0, "s": 1000.0}
_PODS = "pods"
_FLAGS = frozenset(reason.flag for reason in REASONS)


@dataclass(frozen=True)
class Range:
    """A range of counts, of shares in percent or of times in milliseconds, `kind`; both ends belong to it."""

    text: str
    kind: str
    least: float
    most: float

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most


@dataclass(frozen=True)
class Expectation:
    """A range for what `seen` finds in a tally: a number of calls or pods, or milliseconds, None for no time.

    `is_name` tells that the subject is the name of a version or pod, and no word of the grammar.
    """

    subject: str
    range: Range
    seen: Callable[[Tally], float | None]
    is_name: bool = False

    @property
    def allows_unanswered(self) -> bool:
        """Whether calls may stay without an answer."""
        return self.subject == "unanswered" and self.range.most > 0


@dataclass(frozen=True)
class Verdict:
    """An expectation, and the number that was seen, in the unit of its range; None where nothing was.

    `did_you_mean` names what was seen where the subject was not, but for a letter or its case.
    """

    expectation: Expectation
    seen: float | None
    did_you_mean: str | None = None

    @property
    def met(self) -> bool:
        """Whether what was seen lies in the range."""
        return self.seen is not None and self.seen in self.expectation.range


def judge(expectations: Sequence[Expectation], tally: Tally) -> list[Verdict]:
    """Return what became of each expectation; a share is one of all requests, in percent."""
    verdicts = []
    expected = {each.subject.removeprefix("name ") for each in expectations}
    for expectation in expectations:
        count = seen = expectation.seen(tally)
        if expectation.range.kind == SHARE:
            seen = count * 100 / tally.requests if count is not None and tally.requests else None
        verdict = Verdict(expectation, seen)
        if expectation.is_name and not count and not verdict.met:
            verdict = replace(verdict, did_you_mean=_closest_name(expectation.subject, tally, expected))
        verdicts.append(verdict)
    return verdicts


def _closest_name(subject: str, tally: Tally, expected: Collection[str]) -> str | None:
    """Return the version or pod that was seen whose name is nearly `subject`; not one that is expected itself.

    One that differs in capitals alone is meant all the same.
    """
    wanted = subject.removeprefix("name ").lower()
    seen = {
        name.lower(): name
        for version, pods in tally.pods.items()
        for name in (version, *pods)
        if name not in expected or name.lower() == wanted
    }
    close = difflib.get_close_matches(wanted, seen, 1, 0.75)
    return seen[close[0]] if close else None


def parse_expectation(text: str) -> Expectation:
    """Return the expectation that `text` means, or raise ValueError, whose text names the part that is wrong."""
    subject, equals, range_text = (part.strip() for part in text.rpartition("="))
    if not equals or not subject:
        raise ValueError("is not SUBJECT=RANGE, such as 'Webserver V1=130..170'")
    parsed = _parse_range(range_text)
    if subject in PERCENTILES:
        if parsed.kind != TIME:
            raise ValueError(f"{subject} is a time: give {range_text!r} a unit, ms or s")
        return Expectation(subject, parsed, partial(_percentile, percent=PERCENTILES[subject]))
    if parsed.kind == TIME:
        raise ValueError(f"{range_text!r} is a time, which {_listed(PERCENTILES)} have, but {subject!r} is counted")
    if subject == _PODS and parsed.kind == SHARE:
        raise ValueError(f"{range_text!r} is a share of calls, but pods are counted")
    counter = _counter(subject)
    return Expectation(subject, parsed, counter, isinstance(counter, _Named))


def _parse_range(text: str) -> Range:
    start, dots, end = text.partition("..")
    ends = [_parse_end(part) for part in (start, end) if part]
    if not ends:
        raise ValueError(f"{text!r} is not a range: give 5, 5..10, 5.. or ..10")
    kinds = {kind for _, kind in ends}
    if len(kinds) > 1:
        raise ValueError(f"the ends of {text!r} have different units: give both the same one")
    least = ends[0][0] if start else 0.0
    most = ends[-1][0] if end or not dots else inf
    if least > most:
        raise ValueError(f"in {text!r} the first end is larger than the second")
    return Range(text, kinds.pop(), least, most)


def _parse_end(text: str) -> tuple[float, str]:
    """Return number and kind of one end of a range, a time in milliseconds."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?) ?(%|ms|s)?", text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a number, with %, ms or s where it is a share or a time")
    number, unit = float(match[1]), match[2]
    if unit in _MILLISECONDS:
        return number * _MILLISECONDS[unit], TIME
    if unit == "%":
        if number > 100:
            raise ValueError(f"{text!r} is more than 100 %")
        return number, SHARE
    if not number.is_integer():
        raise ValueError(f"{text!r} is not a whole number of calls")
    return number, COUNT


def _counter(subject: str) -> Callable[[Tally], int]:
    """Return what counts the calls, or pods, that a subject means."""
    if subject in _WORDS:
        return _WORDS[subject]
    if subject in _FLAGS:
        return partial(_with_flag, flag=subject)
    for pattern, make in _PATTERNS:
        if match := re.fullmatch(pattern, subject):
            return make(*match.groups())
    words = [*_WORDS, *PERCENTILES, "tries>1", "over 1s", "path /"]
    if close := difflib.get_close_matches(subject, words, 1, 0.75):
        raise ValueError(f"{subject!r} is not {close[0]!r}; a version or pod of that name is 'name {subject}'")
    return _Named(subject)


def _percentile(tally: Tally, percent: float) -> float | None:
    times = sorted(tally.caller_milliseconds)
    return percentile(times, percent) if times else None


@dataclass(frozen=True)
class _Named:
    """Counts the answers whose version or pod has the name, or whose text it is where no application signed it."""

    name: str

    def __call__(self, tally: Tally) -> int:
        pods = ((version, pod, count) for version, counts in tally.pods.items() for pod, count in counts.items())
        texts = sum(count.answers for text, count in tally.texts.items() if text.text == self.name)
        return texts + sum(count.answers for version, pod, count in pods if self.name in (version, pod))


def _with_flag(tally: Tally, flag: str) -> int:
    return sum(count.answers for text, count in tally.texts.items() if text.reason and text.reason.flag == flag)


def _with_status(status: str) -> Callable[[Tally], int]:
    return lambda tally: tally.statuses[int(status)].answers if int(status) in tally.statuses else 0


def _over(number: str, unit: str) -> Callable[[Tally], int]:
    limit = float(number) * _MILLISECONDS[unit]
    return lambda tally: sum(time > limit for time in tally.caller_milliseconds)


def _tries_above(number: str) -> Callable[[Tally], int]:
    return lambda tally: sum(count for tried, count in tally.tries.items() if tried > int(number))


_WORDS: Mapping[str, Callable[[Tally], int]] = {
    "answered": lambda tally: tally.requests - tally.unanswered.total(),
    "unanswered": lambda tally: tally.unanswered.total(),
    "errors": lambda tally: tally.errors.total(),
    "failed": lambda tally: tally.failed,
    "identity": lambda tally: tally.identities.total(),
    _PODS: lambda tally: sum(len(counts) for counts in tally.pods.values()),
}
_PATTERNS: tuple[tuple[str, Callable[..., Callable[[Tally], int]]], ...] = (
    (r"([1-9][0-9]{2})", _with_status),
    (r"tries ?> ?([0-9]{1,4})", _tries_above),
    (r"over ([0-9]{1,12}(?:\.[0-9]{1,12})?) ?(ms|s)", _over),
    (r"path (/.*)", lambda path: lambda tally: tally.paths[path]),
    (r"identity (.+)", lambda identity: lambda tally: tally.identities[identity]),
    (r"name (.+)", _Named),
)


def _listed(words: Iterable[str]) -> str:
    *some, last = words
    return f"{', '.join(some)} and {last}"
