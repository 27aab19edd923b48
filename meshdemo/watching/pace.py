"""Calls a URL at a steady pace.

The pace is an open loop: when a call is due does not depend on how long others take, and its time counts from when it
was due. A closed loop would send less while the server is slow, and so hide what it is there to show.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from meshdemo.calling.upstream import Answer, Upstream, UpstreamError

#: The header by which a call is known to all that it comes through.
REQUEST_ID = "x-request-id"
# A call that begins this much after it was due, in seconds, found all places taken or the machine busy.
_LATE_SECONDS = 0.02
# A stop of the process that is shorter than this, in seconds, cannot be told from a busy machine.
_STOP_SECONDS = 0.2
# How long a call that is suddenly overdue waits for word of a stop of the process.
_DOUBT_SECONDS = 0.05


@dataclass(frozen=True)
class Sample:
    """One call: seconds from when it was due to its end, whether it began late, and what came back.

    The seconds are None where the process was stopped meanwhile. `request_id` is its x-request-id, where it had one of
    its own.
    """

    seconds: float | None
    late: bool
    outcome: Answer | UpstreamError
    request_id: str | None = None


class _Call(NamedTuple):
    """A call that has ended: when it was due, began and ended by time.perf_counter, and what came back."""

    due: float
    begun: float
    ended: float
    outcome: Answer | UpstreamError
    request_id: str | None


class Watch:
    """Calls under way; iterate to get a Sample for each as it ends, and stop iterating to stop them.

    The first call is made alone, and the others begin when it has ended, so that the reader can stop where it shows
    that nothing answers. `requests` of 0 goes on for ever; `rate` is in calls a second, 0 as fast as `concurrency`
    allows. With `duration_seconds` no call begins, or is due, when so much time has passed. A stop of the process
    (SIGSTOP) counts as no time, once `leave_out_stop` was called. With `has_ids` each call gets an x-request-id.
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
        has_ids: bool = False,
    ) -> None:
        self._upstream = upstream
        self._url = upstream.url_for("/")
        self._headers = {"accept": "application/json", **headers}
        self._requests = requests
        self._rate = rate
        self._places = min(concurrency, requests) if requests else concurrency
        self._duration_seconds = duration_seconds
        self._has_ids = has_ids
        self._numbered = 0
        self._begun = 0
        self._reported = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._started = self._origin = self._seen_running = time.perf_counter()
        self._stops: list[tuple[float, float]] = []  # when the process was stopped, and when it went on
        self._stopped_seconds = 0.0

    @property
    def under_way(self) -> int:
        """How many calls have begun whose samples were not handed out."""
        return self._begun - self._reported

    @property
    def seconds(self) -> float:
        """How long it has gone on, without stops of the process."""
        return time.perf_counter() - self._started - self._stopped_seconds

    @property
    def stopped_seconds(self) -> float:
        """How long the process was stopped meanwhile."""
        return self._stopped_seconds

    def leave_out_stop(self) -> None:
        """Take note that the process goes on after a stop; for the handler of SIGCONT, in the thread that polls."""
        now = time.perf_counter()
        if now - self._seen_running >= _STOP_SECONDS:
            self._stops.append((self._seen_running, now))
            self._stopped_seconds += now - self._seen_running
        self._seen_running = now

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
                self._seen_running = time.perf_counter()
                try:
                    call = self._calls.get(timeout=seconds)
                except queue.Empty:
                    yield None
                    continue
                if call:
                    self._reported += 1
                    yield self._sample(call)
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
        while not self._calls.empty():
            if call := self._calls.get():
                samples.append(self._sample(call))
        self._reported += len(samples)
        return samples

    def _sample(self, call: _Call) -> Sample:
        was_stopped = any(start < call.ended and end > call.due for start, end in self._stops)
        late = not was_stopped and call.begun - call.due > _LATE_SECONDS
        return Sample(None if was_stopped else call.ended - call.due, late, call.outcome, call.request_id)

    def _origin_of_others(self) -> float:
        """Return when call 0 would have been due for call 1 to be due now, or when it is due by the pace, if later.

        Stops of the process come on top, see `_due`.
        """
        now = time.perf_counter() - self._stopped_seconds
        return max(self._started, now - 1 / self._rate) if self._rate else now

    def _start_worker(self, calls: int | None = None) -> None:
        threading.Thread(target=self._work, args=(calls,), daemon=True).start()

    def _work(self, calls: int | None) -> None:
        """Make one call after the other, each when it is due, and `calls` of them at most."""
        try:
            while calls != 0 and (number := self._next_number()) is not None:
                due = self._wait_until_due(number)
                if not self._begin():
                    return
                request_id = str(uuid.uuid4()) if self._has_ids else None
                headers = {**self._headers, REQUEST_ID: request_id} if request_id else self._headers
                begun = time.perf_counter()
                outcome: Answer | UpstreamError
                try:
                    outcome = self._upstream.call("GET", self._url, headers)
                except UpstreamError as error:
                    outcome = error
                self._calls.put(_Call(due, begun, time.perf_counter(), outcome, request_id))
                calls = calls - 1 if calls else None
        finally:
            self._calls.put(None)

    def _next_number(self) -> int | None:
        """Return the number of the next call, or None when there is none left."""
        with self._lock:
            if self._requests and self._numbered == self._requests:
                return None
            number = self._numbered
            if number and self._is_over(self._due(number)):
                return None
            self._numbered += 1
            return number

    def _due(self, number: int) -> float:
        """Return when a call is due; without a rate that is now."""
        if not self._rate:
            return time.perf_counter()
        return self._origin + self._stopped_seconds + number / self._rate

    def _wait_until_due(self, number: int) -> float:
        """Return when a call was due, as soon as it is, or the end has come."""
        while (wait := (due := self._due(number)) - time.perf_counter()) > 0:
            if self._stopped.wait(min(wait, threading.TIMEOUT_MAX)):
                break
            # It may be the end of a stop that wakes this thread, in which case the call is not due yet.
            if time.perf_counter() - due > _STOP_SECONDS:
                self._stopped.wait(_DOUBT_SECONDS)
        return due

    def _begin(self) -> bool:
        """Tell whether a call may begin now, as the first one always may, and count it."""
        with self._lock:
            if self._stopped.is_set() or (self._begun and self._is_over(time.perf_counter())):
                return False
            self._begun += 1
            return True

    def _is_over(self, moment: float) -> bool:
        end = self._started + self._stopped_seconds + (self._duration_seconds or 0)
        return self._duration_seconds is not None and moment >= end
