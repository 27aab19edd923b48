"""A probe of one process: what it has said so far, by Kubernetes' thresholds."""

from __future__ import annotations

import http.client
import socket
import threading
import time

from meshdemo.lab.cluster.pods import Probe

# Until it first succeeds a probe comes as often as this, so that a start takes no longer than it must.
_EAGER_SECONDS = 0.1


class Probing:
    """Asks again and again in a thread of its own, from `start` until `stop`, so that no probe waits for another."""

    def __init__(self, probe: Probe, port: int, name: str) -> None:
        self.probe = probe
        self._port = port
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._successes = self._failures = 0
        #: Whether it has ever succeeded, whether it does now, and whether it has failed as often as is allowed.
        self.passed = self.passing = self.failed = False

    def start(self) -> None:
        """Begin, once."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """Ask no more; an answer that is still to come counts for nothing."""
        self._stopped.set()

    def _run(self) -> None:
        count_at = time.monotonic() + self.probe.initial_delay_seconds
        pause = self.probe.initial_delay_seconds
        while not self._stopped.wait(pause):
            success = self._answers()
            now = time.monotonic()
            # However eager it is before the first success, failures count at the probe's own pace.
            if success or self.passed or now >= count_at:
                self._count(success)
                count_at = now + self.probe.period_seconds
            pause = self.probe.period_seconds if self.passed else min(_EAGER_SECONDS, self.probe.period_seconds)

    def _count(self, success: bool) -> None:
        self._successes = self._successes + 1 if success else 0
        self._failures = 0 if success else self._failures + 1
        if self._successes >= self.probe.success_threshold:
            self.passed = self.passing = True
            self.failed = False
        elif self._failures >= self.probe.failure_threshold:
            self.passing = False
            self.failed = True

    def _answers(self) -> bool:
        if self.probe.path is None:
            try:
                socket.create_connection(("127.0.0.1", self._port), self.probe.timeout_seconds).close()
            except OSError:
                return False
            return True
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self.probe.timeout_seconds)
        try:
            connection.request("GET", self.probe.path)
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()
