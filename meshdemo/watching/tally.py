"""Counts what came back: who answered, with what status, how fast, and what the mesh did on the way."""

from __future__ import annotations

import re
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from meshdemo.answers import Outcome, read_answer, shorten
from meshdemo.calling.upstream import UpstreamError
from meshdemo.reasons import Reason, confirm, format_answer
from meshdemo.watching.pace import Sample

#: Of how many calls a lab is asked what they were.
MOST_GUESSES = 500
# Texts may be without end.
_MOST_KINDS = 20
_MILLISECONDS = re.compile(r"\d+(\.\d+)?( ?ms\b| milliseconds)")


@dataclass
class Count:
    """How many answers there were, and how many of the calls failed."""

    answers: int = 0
    failed: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count one answer."""
        self.answers += 1
        self.failed += outcome.is_failed

    def __add__(self, other: Count) -> Count:
        return Count(self.answers + other.answers, self.failed + other.failed)


class Text(NamedTuple):
    """What no application signed: its status, its text without numbers of milliseconds, and its reason."""

    status: int
    text: str
    reason: Reason | None


@dataclass
class Kind:
    """Calls with one outcome: how many, and the x-request-id of the last."""

    calls: int = 0
    request_id: str = ""


@dataclass
class Tally:
    """What came back so far.

    `pods` counts by version and pod, `texts` what no application signed, `statuses` what the application or the mesh
    answered, `errors` why a proxy got no answer, `unanswered` why this program got none.
    `caller_milliseconds` and `proxy_milliseconds` hold a time for each answer, the former none for calls during which
    the process was stopped. As the web server saw the call: `tries` counts by the number of the try, `identities` by
    whom mutual TLS proved the caller to be, `paths` by path.
    `not_passed_on` names headers that did not get past a proxy. `kinds` counts calls with an id by outcome, in words;
    `guesses` has by id those texts whose reason is a guess.
    """

    requests: int = 0
    late: int = 0
    pods: dict[str, dict[str, Count]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Count)))
    texts: dict[Text, Count] = field(default_factory=lambda: defaultdict(Count))
    statuses: dict[int, Count] = field(default_factory=lambda: defaultdict(Count))
    errors: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    tries: Counter[int] = field(default_factory=Counter)
    identities: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    not_passed_on: set[str] = field(default_factory=set)
    kinds: dict[str, Kind] = field(default_factory=dict)
    guesses: dict[str, Text] = field(default_factory=dict)
    caller_milliseconds: array[float] = field(default_factory=lambda: array("d"))
    proxy_milliseconds: array[float] = field(default_factory=lambda: array("d"))

    @property
    def failed(self) -> int:
        """Return how many calls failed: they got no answer, a 5xx, or a 4xx from the mesh."""
        answers = sum(count.failed for count in self.statuses.values())
        return answers + self.errors.total() + self.unanswered.total()

    def add(self, sample: Sample) -> None:
        """Count one sample."""
        self.requests += 1
        self.late += sample.late
        if isinstance(sample.outcome, UpstreamError):
            reason = shorten(str(sample.outcome))
            self.unanswered[reason] += 1
            self._add_kind(f"no answer: {reason}", sample)
            return
        if sample.seconds is not None:
            self.caller_milliseconds.append(sample.seconds * 1000)
        outcome = read_answer(sample.outcome)
        self.not_passed_on |= outcome.not_passed_on
        if outcome.proxy_milliseconds is not None:
            self.proxy_milliseconds.append(outcome.proxy_milliseconds)
        if outcome.status is None:
            self.errors[outcome.error or ""] += 1
            self._add_kind(f"the proxy got no answer: {outcome.error}", sample)
            return
        self.statuses[outcome.status].add(outcome)
        if outcome.version is None or outcome.pod is None:
            text = Text(outcome.status, shorten(_MILLISECONDS.sub(r"N\2", outcome.text)), outcome.reason)
            self.texts[text].add(outcome)
            self._add_kind(format_answer(*text), sample)
            if sample.request_id and text.reason and text.reason.is_guess and len(self.guesses) < MOST_GUESSES:
                self.guesses[sample.request_id] = text
            return
        # A gateway has given it another id.
        arrived = replace(sample, request_id=outcome.request_id or sample.request_id) if sample.request_id else sample
        self._add_kind(f"{outcome.status} {outcome.version}", arrived)
        self.pods[outcome.version][outcome.pod].add(outcome)
        for counter, fact in ((self.paths, outcome.path), (self.identities, outcome.identity)):
            if fact is not None:
                counter[fact] += 1
        if outcome.attempt is not None:
            self.tries[outcome.attempt] += 1

    def decide(self, request_id: str, flag: str | None) -> None:
        """Put in the place of a guess what an Envoy has logged: its flag, empty for none; None: an application's."""
        guess = self.guesses.pop(request_id)
        known = guess._replace(reason=confirm(guess.reason, flag, guess.status) if guess.reason and flag else None)
        was_failed, is_failed = guess.status >= 400, guess.status >= 500 or (guess.status >= 400 and flag is not None)
        for text, change in ((guess, -1), (known, 1)):
            self.texts[text].answers += change
            self.texts[text].failed += change * (was_failed if text is guess else is_failed)
            kind = self.kinds.setdefault(format_answer(*text), Kind())
            kind.calls += change
            kind.request_id = request_id if text is known else kind.request_id
            if not kind.calls:
                del self.kinds[format_answer(*text)]
            if not self.texts[text].answers:
                del self.texts[text]
        self.statuses[guess.status].failed += is_failed - was_failed

    def _add_kind(self, words: str, sample: Sample) -> None:
        if sample.request_id and (words in self.kinds or len(self.kinds) < _MOST_KINDS):
            kind = self.kinds.setdefault(words, Kind())
            kind.calls += 1
            kind.request_id = sample.request_id
