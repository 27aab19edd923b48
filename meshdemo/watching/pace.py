"""Calls a URL at a steady pace.

The pace is an open loop: when a call is due does not depend on how long others take, and its time counts from when it
was due. A closed loop would send less while the server is slow, and so hide what it is there to show.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from meshdemo.calling.upstream import Answer, Upstream, UpstreamError

# A call that begins this much after it was due, in seconds, found all places taken.
_LATE_SECONDS = 0.02


@dataclass(frozen=True)
class Sample:
    """One call: seconds from when it was due to its end, whether it began late, and what came back."""

    seconds: float
    late: bool
    outcome: Answer | UpstreamError


class Watch:
    """Calls under way; iterate to get a Sample for each as it ends, and stop iterating to stop them.

    The first call is made alone, and the others begin when it has ended, so that the reader can stop where it shows
    that nothing answers. `requests` of 0 goes on for ever; `rate` is in calls a second, 0 as fast as `concurrency`
    allows. With `duration_seconds` no call begins, or is due, when so much time has passed.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        headers: Mapping[str, str],
        requests: int,
        rate: float,
        concurrency: int,
        duration_seconds: float | None = None,
    ) -> None:
        self._upstream = upstream
        self._url = upstream.url_for("/")
        self._headers = {"accept": "application/json", **headers}
        self._requests = requests
        self._rate = rate
        self._places = min(concurrency, requests) if requests else concurrency
        self._duration_seconds = duration_seconds
        self._numbered = 0
        self._begun = 0
        self._reported = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._samples: queue.SimpleQueue[Sample | None] = queue.SimpleQueue()

    @property
    def under_way(self) -> int:
        """How many calls have begun whose samples were not handed out."""
        return self._begun - self._reported

    def __iter__(self) -> Iterator[Sample]:
        return (sample for sample in self.poll(None) if sample)

    def poll(self, seconds: float | None) -> Iterator[Sample | None]:
        """Yield a Sample for each call as it ends, and None whenever none has ended for `seconds`."""
        self._started = self._origin = time.perf_counter()
        self._start_worker(calls=1)
        working = 1
        others = self._places
        try:
            while working:
                try:
                    sample = self._samples.get(timeout=seconds)
                except queue.Empty:
                    yield None
                    continue
                if sample:
                    self._reported += 1
                    yield sample
                else:  # a worker has ended, the first of them after the first call
                    working += others - 1
                    self._origin = self._origin_of_others() if others else self._origin
                    for _ in range(others):
                        self._start_worker()
                    others = 0
        finally:
            self._stopped.set()

    def stop(self) -> list[Sample]:
        """Let no further call begin, and return the samples of those that have ended meanwhile."""
        with self._lock:
            self._stopped.set()
        samples = []
        while not self._samples.empty():
            if sample := self._samples.get():
                samples.append(sample)
        self._reported += len(samples)
        return samples

    def _origin_of_others(self) -> float:
        """Return when call 0 would have been due for call 1 to be due now, or when it is due by the pace, if later."""
        now = time.perf_counter()
        return max(self._started, now - 1 / self._rate) if self._rate else now

    def _start_worker(self, calls: int | None = None) -> None:
        threading.Thread(target=self._work, args=(calls,), daemon=True).start()

    def _work(self, calls: int | None) -> None:
        """Make one call after the other, each when it is due, and `calls` of them at most."""
        try:
            while calls != 0 and (due := self._next_due()) is not None:
                wait = due - time.perf_counter()
                if wait > 0:
                    self._stopped.wait(min(wait, threading.TIMEOUT_MAX))
                if not self._begin():
                    return
                outcome: Answer | UpstreamError
                try:
                    outcome = self._upstream.call("GET", self._url, self._headers)
                except UpstreamError as error:
                    outcome = error
                self._samples.put(Sample(time.perf_counter() - due, -wait > _LATE_SECONDS, outcome))
                calls = calls - 1 if calls else None
        finally:
            self._samples.put(None)

    def _next_due(self) -> float | None:
        """Return when the next call is due, or None when there is none left."""
        with self._lock:
            if self._requests and self._numbered == self._requests:
                return None
            due = self._origin + self._numbered / self._rate if self._rate else time.perf_counter()
            if self._numbered and self._is_over(due):
                return None
            self._numbered += 1
            return due

    def _begin(self) -> bool:
        """Tell whether a call may begin now, as the first one always may, and count it."""
        with self._lock:
            if self._stopped.is_set() or (self._begun and self._is_over(time.perf_counter())):
                return False
            self._begun += 1
            return True

    def _is_over(self, moment: float) -> bool:
        return self._duration_seconds is not None and moment >= self._started + self._duration_seconds
