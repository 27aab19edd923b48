"""One container of a pod: a process of this program that is started, probed, and started again when it ends."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from meshdemo.lab.cluster import Container, Probe

_TICK_SECONDS = 0.05
# Until it first succeeds a probe comes as often as this, so that a start takes no longer than it must.
_EAGER_SECONDS = 0.1
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
# A process that ran this long has earned a short pause again.
_STABLE_SECONDS = 30.0
# What a process needs from its surroundings; all else comes from the manifest, as in a cluster.
_INHERITED = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "SYSTEMROOT", "TMPDIR", "TZ")

Say = Callable[[str], object]


class Replica:
    """A container's process, from `start` until it has ended after `retire`.

    It listens on `port` of loopback. `arguments` are added to the container's own, `environment` to the manifest's.
    `say` takes a line for the person at the terminal.
    """

    def __init__(
        self,
        name: str,
        container: Container,
        *,
        port: int,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        grace_seconds: float,
        process_group: int,
        say: Say,
    ) -> None:
        self.name = name
        self.port = port
        self._container = container
        self._command = [sys.executable, "-m", "meshdemo", *container.args, "--host", "127.0.0.1"]
        self._command += ["--port", str(port), *arguments]
        inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        self._environment = {**inherited, **dict(container.environment), **environment, "PYTHONUNBUFFERED": "1"}
        self._grace_seconds = grace_seconds
        self._process_group = process_group
        self._say = say
        self._listening = threading.Event()
        self._ready = False
        self._retired = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        #: The process, for those who look at it; None before the first start.
        self.process: subprocess.Popen[str] | None = None

    @property
    def is_ready(self) -> bool:
        """Return whether it takes traffic."""
        return self._ready and not self._retired.is_set()

    @property
    def has_ended(self) -> bool:
        """Return whether it has ended after `retire`."""
        return self._retired.is_set() and not self._thread.is_alive()

    def start(self) -> None:
        """Start it, without waiting until it answers."""
        self._thread.start()

    def retire(self) -> None:
        """End it as Kubernetes does: SIGTERM now, so that it drains, and SIGKILL when the grace is over."""
        self._retired.set()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended."""
        self._thread.join(seconds)

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._retired.is_set():
            started = time.monotonic()
            code = self._run_once()
            if self._retired.is_set():
                break
            if time.monotonic() - started > _STABLE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            self._say(f"{self.name} ended with status {code}; starting it again in {pause:g} s")
            self._retired.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _run_once(self) -> int | str:
        """Run one process from its start to its end, and return its exit status, or why there was none."""
        self._listening.clear()
        try:
            process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                process_group=self._process_group,
            )
        except (OSError, ValueError) as error:
            return f"none: {error}"
        self.process = process
        readers = [
            threading.Thread(target=self._hear, args=(process.stdout,), daemon=True),
            threading.Thread(target=self._relay, args=(process.stderr,), daemon=True),
        ]
        for reader in readers:
            reader.start()
        self._watch(process)
        self._ready = False
        for reader in readers:
            reader.join(1)
        return process.returncode

    def _hear(self, lines: IO[str]) -> None:
        """Read what the program prints: its first line says that it listens."""
        with lines:
            for _ in lines:
                self._listening.set()

    def _relay(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                self._say(f"{self.name} | {line.rstrip()}")

    def _watch(self, process: subprocess.Popen[str]) -> None:
        """Probe until the process has ended; end it when it is retired, or does not live any more."""
        container = self._container
        startup, readiness, liveness = (
            _Probing(probe, self.port) if probe else None
            for probe in (container.startup, container.readiness, container.liveness)
        )
        end_at: float | None = None
        while process.poll() is None:
            now = time.monotonic()
            if self._retired.is_set() and end_at is None:
                self._ready = False
                process.terminate()
                end_at = now + self._grace_seconds
            if end_at is not None:
                if now >= end_at:
                    process.kill()
            else:
                if startup and not startup.passed:
                    startup.probe_if_due(now)
                    doomed = startup.failed
                else:
                    if readiness:
                        readiness.probe_if_due(now)
                    self._ready = self._listening.is_set() and (readiness is None or readiness.passing)
                    if liveness:
                        liveness.probe_if_due(now)
                    doomed = liveness is not None and liveness.failed
                if doomed:
                    kind = "startup" if startup and not startup.passed else "liveness"
                    self._say(f"{self.name} does not pass its {kind} probe: it is ended and started again")
                    self._ready = False
                    process.terminate()
                    end_at = now + self._grace_seconds
            self._retired.wait(_TICK_SECONDS) if end_at is None else time.sleep(_TICK_SECONDS)


class _Probing:
    """A probe of one process: what it has said so far, by Kubernetes' thresholds."""

    def __init__(self, probe: Probe, port: int) -> None:
        self._probe = probe
        self._port = port
        self._due = self._count_at = time.monotonic() + probe.initial_delay_seconds
        self._successes = self._failures = 0
        #: Whether it has ever succeeded, and whether it does now.
        self.passed = self.passing = False

    @property
    def failed(self) -> bool:
        """Return whether it has failed as often in a row as is allowed."""
        return self._failures >= self._probe.failure_threshold

    def probe_if_due(self, now: float) -> None:
        """Ask once, when it is time."""
        if now < self._due:
            return
        if self._answers():
            self._successes, self._failures = self._successes + 1, 0
            if self._successes >= self._probe.success_threshold:
                self.passed = self.passing = True
        else:
            self._successes = 0
            # However eager it is before the first success, failures count at the probe's own pace.
            if self.passed or now >= self._count_at:
                self._failures += 1
                self._count_at = now + self._probe.period_seconds
            self.passing = self.passing and not self.failed
        self._due = now + (self._probe.period_seconds if self.passed else _EAGER_SECONDS)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._probe.timeout_seconds)
        try:
            connection.request("GET", self._probe.path)
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()
