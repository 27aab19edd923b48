"""The observer: calls a URL at a steady pace, and tallies who answered, with what status and how fast.

The pace is an open loop: when a request is due does not depend on how long others take, and its time counts from when
it was due. A closed loop would send less while the server is slow, and so hide what it is there to show.
"""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshdemo.upstream import Answer, Upstream, UpstreamError

# A request that begins this much after it was due, in seconds, found all places taken.
_LATE_SECONDS = 0.02
_TEXT_LENGTH = 100
_MILLISECONDS = re.compile(r"\d+(\.\d+)?( ?ms\b| milliseconds)")


@dataclass(frozen=True)
class Sample:
    """One request: seconds from when it was due to its end, whether it began late, and what came back."""

    seconds: float
    late: bool
    outcome: Answer | UpstreamError


@dataclass
class Count:
    """How many answers there were, and how many of them had a status of 500 or more."""

    answers: int = 0
    failed: int = 0

    def add(self, status: int) -> None:
        """Count one answer."""
        self.answers += 1
        self.failed += status >= 500


@dataclass
class Tally:
    """What came back so far.

    `pods` counts by version and pod, `texts` by status and text what no application signed, `statuses` what the
    application or the mesh answered, `errors` why a proxy got no answer, `unanswered` why this program got none.
    `caller_milliseconds` and `proxy_milliseconds` hold one time per answer.
    """

    requests: int = 0
    late: int = 0
    pods: dict[str, dict[str, Count]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Count)))
    texts: Counter[tuple[int, str]] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    caller_milliseconds: array[float] = field(default_factory=lambda: array("d"))
    proxy_milliseconds: array[float] = field(default_factory=lambda: array("d"))

    def add(self, sample: Sample) -> None:
        """Count one sample."""
        self.requests += 1
        self.late += sample.late
        if isinstance(sample.outcome, UpstreamError):
            self.unanswered[str(sample.outcome)] += 1
            return
        self.caller_milliseconds.append(sample.seconds * 1000)
        status, seen = sample.outcome.status, _parsed(sample.outcome)
        match seen:  # a proxy's answer, which holds another
            case {"value": _, "status": None, "error": str(reason), "milliseconds": int() | float() as milliseconds}:
                self.proxy_milliseconds.append(milliseconds)
                self.errors[reason] += 1
                return
            case {"value": value, "status": int(inner), "error": None, "milliseconds": int() | float() as milliseconds}:
                self.proxy_milliseconds.append(milliseconds)
                status, seen = inner, value
        self.statuses[status] += 1
        if isinstance(seen, dict) and seen.keys() >= {"content", "hostname", "status"}:
            self.pods[str(seen["content"])][str(seen["hostname"])].add(status)
        else:
            self.texts[status, _label(seen)] += 1


def _parsed(answer: Answer) -> Any:
    """Return the JSON of an answer, or its text."""
    if answer.media_type == "application/json":
        try:
            return json.loads(answer.text)
        except (ValueError, RecursionError):
            pass
    return answer.text


def _label(seen: Any) -> str:
    """Return one line to group by: the text without its numbers of milliseconds."""
    text = seen if isinstance(seen, str) else json.dumps(seen)
    text = " ".join(_MILLISECONDS.sub(r"N\2", text).split())
    return text if len(text) <= _TEXT_LENGTH else text[:_TEXT_LENGTH] + "..."


class Watch:
    """Requests under way; iterate to get a Sample for each as it ends, and stop iterating to stop them.

    `requests` of 0 goes on for ever; `rate` is in requests a second, 0 as fast as `concurrency` allows.
    """

    def __init__(
        self, upstream: Upstream, *, headers: Mapping[str, str], requests: int, rate: float, concurrency: int
    ) -> None:
        self._upstream = upstream
        self._url = upstream.url_for("/")
        self._headers = {"accept": "application/json", **headers}
        self._requests = requests
        self._rate = rate
        self._taken = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._samples: queue.SimpleQueue[Sample | None] = queue.SimpleQueue()
        self._places = min(concurrency, requests) if requests else concurrency

    def __iter__(self) -> Iterator[Sample]:
        self._started = time.perf_counter()
        for _ in range(self._places):
            threading.Thread(target=self._send, daemon=True).start()
        working = self._places
        try:
            while working:
                sample = self._samples.get()
                if sample is None:
                    working -= 1
                else:
                    yield sample
        finally:
            self._stopped.set()

    def _take(self) -> int | None:
        """Return the number of the next request to send, counted from 0, or None when there is none left."""
        with self._lock:
            if self._stopped.is_set() or (self._requests and self._taken == self._requests):
                return None
            self._taken += 1
            return self._taken - 1

    def _send(self) -> None:
        """Send one request after the other, each when it is due."""
        try:
            while (number := self._take()) is not None:
                due = self._started + number / self._rate if self._rate else time.perf_counter()
                wait = due - time.perf_counter()
                if wait > 0 and self._stopped.wait(wait):
                    return
                outcome: Answer | UpstreamError
                try:
                    outcome = self._upstream.call("GET", self._url, self._headers)
                except UpstreamError as error:
                    outcome = error
                self._samples.put(Sample(time.perf_counter() - due, -wait > _LATE_SECONDS, outcome))
        finally:
            self._samples.put(None)
