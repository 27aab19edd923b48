"""One container of a pod: a process of this program that is started, probed, and started again when it ends."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from meshdemo.lab.cluster.pods import Container
from meshdemo.lab.pods.probing import Probing
from meshdemo.program import command_line

_TICK_SECONDS = 0.05
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
# A process that ran this long has earned a short pause again.
_STABLE_SECONDS = 30.0
# What a process needs from its surroundings; all else comes from the manifest, as in a cluster.
_INHERITED = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "PYTHONPATH", "SYSTEMROOT", "TMPDIR", "TZ")

#: The variables that this program reads. No other variable of a manifest reaches a process: SSLKEYLOGFILE, for one,
#: would have Python append to any file of this machine.
PROGRAM_VARIABLES = frozenset(
    {
        "ACCESS_LOG",
        "CHANGES_FILE",
        "CONNECT_TO",
        "CONTENT",
        "DELAY",
        "DRAIN_SECONDS",
        "EVERYWHERE",
        "FAIL_RATIO",
        "FAIL_STATUS",
        "FORWARD_HEADERS",
        "HOSTNAME",
        "KEEP_ALIVE",
        "LAB_SOCKET",
        "LISTEN_HOST",
        "PASS_STATUS",
        "PORT",
        "PROXYURL",
        "PROXY_URL",
        "SERVERCONTNET",
        "SLOW_RATIO",
        "THREADS",
        "TIMEOUT",
    }
)

Say = Callable[[str], object]
#: Takes a line that a pod has written to its standard error, by the pod's name.
Log = Callable[[str, str], object]


class Replica:
    """A container's process, from `start` until it has ended after `retire`.

    It listens on `port` of loopback. `arguments` are added to the container's own; of `environment` it gets what this
    program reads, beside what a process needs from its surroundings.
    `say` takes a line for the person at the terminal, `log` what the program writes to its standard error.
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
        log: Log,
    ) -> None:
        self.name = name
        self.port = port
        self._container = container
        #: What is run, and the variables that it gets.
        self.command = command_line(*container.args, "--host", "127.0.0.1", "--port", str(port), *arguments)
        inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        own = {name: value for name, value in environment.items() if name in PROGRAM_VARIABLES}
        self.environment = {**inherited, **own, "PYTHONUNBUFFERED": "1"}
        self._grace_seconds = grace_seconds
        self._process_group = process_group
        self._say = say
        self._log = log
        self._ready = False
        self._retired = threading.Event()
        self._starting = threading.Lock()
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
        """End it as Kubernetes does: SIGTERM now, so that it drains, and SIGKILL when the grace is over.

        No process is started once this has returned.
        """
        with self._starting:
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
        try:
            with self._starting:
                if self._retired.is_set():
                    return "none"
                process = subprocess.Popen(
                    self.command,
                    env=self.environment,
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
        listening = threading.Event()
        readers = [
            threading.Thread(target=self._hear, args=(process.stdout, listening), daemon=True),
            threading.Thread(target=self._relay, args=(process.stderr,), daemon=True),
        ]
        for reader in readers:
            reader.start()
        self._watch(process, listening)
        self._ready = False
        for reader in readers:
            reader.join(1)
        return process.returncode

    def _hear(self, lines: IO[str], listening: threading.Event) -> None:
        """Read what the program prints: its first line says that it listens."""
        with lines:
            for _ in lines:
                listening.set()

    def _relay(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                self._log(self.name, line.rstrip())

    def _watch(self, process: subprocess.Popen[str], listening: threading.Event) -> None:
        """Probe until the process has ended; end it when it is retired, or does not live any more."""
        container = self._container
        startup, readiness, liveness = (
            Probing(probe, self.port, self.name) if probe else None
            for probe in (container.startup, container.readiness, container.liveness)
        )
        probings = [probing for probing in (startup, readiness, liveness) if probing]
        end_at: float | None = None
        while process.poll() is None:
            if end_at is None:
                doomed = None
                if startup and not startup.passed:
                    startup.start()
                    doomed = startup if startup.failed else None
                else:
                    if startup:
                        startup.stop()  # it is for the start alone
                    for probing in (readiness, liveness):
                        if probing:
                            probing.start()
                    self._ready = listening.is_set() and (readiness is None or readiness.passing)
                    doomed = liveness if liveness and liveness.failed else None
                if doomed:
                    kind = "startup" if doomed is startup else "liveness"
                    self._say(f"{self.name} does not pass its {kind} probe: it is ended and started again")
                if doomed or self._retired.is_set():
                    self._ready = False
                    process.terminate()
                    grace = doomed.probe.grace_seconds if doomed else None
                    end_at = time.monotonic() + (self._grace_seconds if grace is None else grace)
            elif time.monotonic() >= end_at:
                process.kill()
            self._retired.wait(_TICK_SECONDS) if end_at is None else time.sleep(_TICK_SECONDS)
        for probing in probings:
            probing.stop()
