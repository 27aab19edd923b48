"""One replica: a process of this program that is started, probed, and started again when it ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import IO

from meshdemo.lab.topology import Probe, Workload

_TICK_SECONDS = 0.05
# Until it is ready a replica is probed as often as this, so that a change is seen soon.
_EAGER_SECONDS = 0.1
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
# A process that ran this long has earned a short pause again.
_STABLE_SECONDS = 30.0


class Replica:
    """A replica of a container, running from `start` to `stop`.

    `arguments` are added to the container's own. `say` takes a line for the person at the terminal.
    """

    def __init__(
        self,
        workload: Workload,
        number: int,
        *,
        arguments: list[str],
        environment: Mapping[str, str],
        process_group: int,
        say: Callable[[str], object],
    ) -> None:
        self.workload = workload
        self.number = number
        self.name = workload.hostname(number)
        self._command = [sys.executable, "-m", "meshdemo", *workload.args, *arguments]
        self._environment = {**os.environ, **dict(workload.environment), **environment}
        self._process_group = process_group
        self._say = say
        self._process: subprocess.Popen[str] | None = None
        self._ready = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self.port: int | None = None

    @property
    def endpoint(self) -> int | None:
        """Return its port while it takes traffic."""
        return self.port if self._ready and not self._stopping.is_set() else None

    def start(self) -> None:
        """Start it, without waiting until it answers."""
        self._thread.start()

    def retire(self) -> None:
        """Take it out of traffic at once, and end it as Kubernetes does; it may go on draining."""
        self._stopping.set()
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended."""
        self._thread.join(seconds)

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            started = time.monotonic()
            code = self._run_once()
            if self._stopping.is_set():
                break
            if time.monotonic() - started > _STABLE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            self._say(f"{self.name} ended with status {code}; starting it again in {pause:g} s")
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _run_once(self) -> int:
        """Run one process from its start to its end, and return its exit status."""
        self._process = process = subprocess.Popen(
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
        if process.stdout is None or process.stderr is None:
            raise RuntimeError("a process without its pipes")
        relay = threading.Thread(target=self._relay, args=(process.stderr,), daemon=True)
        relay.start()
        found = re.search(r":(\d+)/", process.stdout.readline())
        self.port = int(found[1]) if found else None
        if self._stopping.is_set():
            process.terminate()
        self._watch(process)
        self._ready, self.port = False, None
        relay.join(1)
        process.stdout.close()
        process.stderr.close()
        return process.returncode

    def _relay(self, lines: IO[str]) -> None:
        for line in lines:
            self._say(f"{self.name} | {line.rstrip()}")

    def _watch(self, process: subprocess.Popen[str]) -> None:
        """Probe until the process ends: a replica that is not ready gets no traffic, one that is not alive is ended."""
        readiness, liveness = self.workload.readiness, self.workload.liveness
        self._ready = readiness is None and self.port is not None
        next_ready = next_alive = time.monotonic()
        unready = dead = 0
        if self.port is None:
            process.wait()  # it could not start, and has said why
        while process.poll() is None:
            now = time.monotonic()
            if readiness and now >= next_ready and not self._stopping.is_set():
                unready = 0 if self._passes(readiness) else unready + 1
                if unready == 0 or unready >= readiness.failure_threshold:
                    self._ready = unready == 0
                next_ready = now + (readiness.period_seconds if self._ready else _EAGER_SECONDS)
            if liveness and now >= next_alive and self._ready:
                dead = 0 if self._passes(liveness) else dead + 1
                next_alive = now + liveness.period_seconds
                if dead >= liveness.failure_threshold:
                    self._say(f"{self.name} does not pass its liveness probe")
                    process.terminate()
            time.sleep(_TICK_SECONDS)

    def _passes(self, probe: Probe) -> bool:
        url = f"http://127.0.0.1:{self.port}{probe.path}"
        try:
            with urllib.request.urlopen(url, timeout=probe.timeout_seconds) as answer:
                return bool(200 <= answer.status < 400)
        except (OSError, HTTPException, ValueError):
            return False
