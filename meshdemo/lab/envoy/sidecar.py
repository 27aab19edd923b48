"""One Envoy, of a pod, a gateway or the node: its start, its configuration, its end."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from meshdemo.lab.envoy.endpoints import HOST, Where
from meshdemo.lab.envoy.loopback import Local
from meshdemo.lab.envoy.xds.control_plane import ControlPlane, EnvoyError
from meshdemo.lab.envoy.xds.messages import MessageError, Snapshot, program

_START_SECONDS = 20
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_LOG_LINES = 15
# How long one that answers nothing still counts as one that takes calls.
_SILENT_SECONDS = 2.0
_POLL_SECONDS = 0.01
# What Envoy warns of at every start, and addresses of its code.
_NOISE = (
    "Deprecated field",
    "no configured limit to the number of allowed active",
    "] #",
    "[backtrace]",
    "envoy bug",
    "[envoy_bug]",
)
# As Istio starts its sidecars (pkg/bootstrap/config.go): by default Envoy refuses long regular expressions, and
# paths with a fragment.
_FLAGS = {
    "re2.max_program_size.error_level": "32768",
    "envoy.reloadable_features.http_reject_path_with_fragment": False,
}
_RUNTIME = {"layers": [{"name": "static", "static_layer": _FLAGS}]}
# How long a connection outlives its listener's configuration (Istio, ProxyConfig, drainDuration).
_DRAIN_SECONDS = "45"
# How long lines about requests are kept back.
_FLUSH_MILLISECONDS = "50"


class Sidecar:
    """An Envoy in a folder of its own, which takes its configuration from the control plane.

    `log` takes the lines that a policy, or whoever runs it, has it write of requests.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        process_group: int,
        say: Callable[[str], object],
        plane: ControlPlane,
        log: Callable[[str], object] | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.subscriber = plane.add(folder.name, name)
        self._plane = plane
        self._group = process_group
        self._say = say
        self._log = log
        #: The program, for those who look at it; None before the first start.
        self.process: subprocess.Popen[bytes] | None = None
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._restart_at: float | None = None
        self._generations: Counter[str] = Counter()
        self._heard_at = 0.0
        self._was_slow = False
        #: Whether it takes calls, as `look_after` saw it.
        self.is_ready = False

    def start(self, local: Local, where: Where, *, listening: bool = True) -> None:
        """Start the program, without waiting; without `listening` it has no listener yet. Raise EnvoyError."""
        self._listening = listening
        self._local = local
        self.offer(self._snapshot(local, where))
        bootstrap = {**self._plane.bootstrap(self.subscriber), "layered_runtime": _RUNTIME}
        (self.folder / "bootstrap.json").write_text(json.dumps(bootstrap))
        self._run()

    def offer(self, snapshot: Snapshot) -> None:
        """Send it what it is to have, without waiting."""
        self._plane.offer({self.subscriber: snapshot})

    def change_endpoints(self, where: Where) -> None:
        """Send it who takes calls, without waiting, and nothing else: outlier detection keeps what it knows."""
        self.offer({**self.subscriber.offered, "endpoints": self._local.endpoints_snapshot(where)})

    def check(self) -> None:
        """Raise EnvoyError when it has ended, with the last lines of its log, or refuses what it was sent.

        One that was slow, and is to be started again, has not ended itself.
        """
        code = self.process.poll() if self.process else None
        if code is not None and not self._was_slow:
            raise EnvoyError(f"Envoy of {self.name} ended with status {code}:\n{self._last_lines()}")
        for reason in self.subscriber.refusals.values():
            raise EnvoyError(f"Envoy of {self.name} does not accept what it is to have: {reason}")

    def look_after(self) -> None:
        """Notice whether it takes calls, and start it again when it has ended or never does, with growing pauses."""
        now = time.monotonic()
        if self._restart_at is not None:
            if now >= self._restart_at:
                self._run()
            return
        try:
            self.check()
            self._was_slow = not self.is_ready and now > self._started_at + _START_SECONDS
            if self._was_slow:
                raise EnvoyError(f"Envoy of {self.name} takes no calls after {_START_SECONDS} s")
        except EnvoyError as error:
            if now > self._started_at + _LONGEST_PAUSE_SECONDS:
                self._pause_seconds = _FIRST_PAUSE_SECONDS
            self._say(f"{error}\nstarting it again in {self._pause_seconds:g} s")
            self.stop()
            self._restart_at = now + self._pause_seconds
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
            return
        if self.is_ready:
            self._notice_silence(now)
        else:
            self.is_ready = self.subscriber.is_current and self._accepts()

    def stop(self) -> None:
        """End it at once."""
        self.is_ready = False
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _snapshot(self, local: Local, where: Where) -> Snapshot:
        try:
            return local.snapshot(where, listening=self._listening, generations=self._generations)
        except MessageError as error:
            raise EnvoyError(f"Envoy does not accept this: {error}") from None

    def _notice_silence(self, now: float) -> None:
        """Take one that hangs for one that takes no calls, until it answers again."""
        if self.subscriber.is_connected and not self.subscriber.is_silent:
            self._heard_at = now
        elif now > self._heard_at + _SILENT_SECONDS:
            self.is_ready = False
            self._started_at = now
            self._say(f"Envoy of {self.name} does not answer, and gets no calls until it does")

    def wait_until_ready(self) -> None:
        """Return when it takes calls; raise EnvoyError when it has ended, or does not within some seconds."""
        deadline = time.monotonic() + _START_SECONDS
        while not self.is_ready and self._restart_at is None:
            self.check()
            if time.monotonic() > deadline:
                raise EnvoyError(f"Envoy of {self.name} takes no calls after {_START_SECONDS} s")
            self.is_ready = self.subscriber.is_current and self._accepts()
            time.sleep(0 if self.is_ready else _POLL_SECONDS)

    def wait_until_accepting(self) -> None:
        """Return when all its listeners accept connections, or some seconds have passed."""
        deadline = time.monotonic() + _SILENT_SECONDS
        while not self._accepts() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _accepts(self) -> bool:
        for port in self._local.ports() if self._listening else ():
            try:
                socket.create_connection((HOST, port), 1).close()
            except OSError:
                return False
        return True

    def _run(self) -> None:
        command = [program(), "-c", str(self.folder / "bootstrap.json"), "--disable-hot-restart", "-l", "warning"]
        # One thread, so that the limits of a connection pool and the turns of a load balancer are exact.
        command += ["--concurrency", "1"]
        # A connection that was accepted under a former policy ends with its next answer, as beside Istio's agent.
        command += ["--drain-strategy", "immediate", "--drain-time-s", _DRAIN_SECONDS]
        command += ["--file-flush-interval-msec", _FLUSH_MILLISECONDS]
        with (self.folder / "log").open("wb") as log:
            try:
                self.process = subprocess.Popen(
                    command,
                    env={},  # a policy can have Envoy say what stands there
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if self._log else subprocess.DEVNULL,
                    stderr=log,
                    cwd=self.folder,
                    process_group=self._group,
                )
            except OSError as error:
                raise EnvoyError(f"Envoy does not run on this system: {error}") from None
        if self._log and self.process.stdout:
            hear = threading.Thread(target=_hear, args=(self.process.stdout, self._log), daemon=True)
            hear.start()
        self._started_at = self._heard_at = time.monotonic()
        self._was_slow = False
        self._restart_at = None

    def _last_lines(self) -> str:
        lines = (self.folder / "log").read_text("utf-8", "replace").splitlines()
        words = [line for line in lines if not any(each in line for each in _NOISE)][-_LOG_LINES:]
        return "\n".join(f"  {line}" for line in words) or "  (its log is empty)"


def _hear(lines: IO[bytes], log: Callable[[str], object]) -> None:
    """Pass on what an Envoy writes until it ends."""
    with lines:
        for line in lines:
            log(line.decode("utf-8", "replace").rstrip("\n"))


def change(sidecars: Mapping[Sidecar, Local], where: Where, plane: ControlPlane) -> list[str]:
    """Put other configurations in force in all Envoys, or in none, and return the names of those that do not answer.

    All of them listen then. One that does not run yet, or not any more, finds the new one when it starts. Raise
    EnvoyError with the reason of one that refuses it.
    """
    listening = {sidecar: sidecar._listening for sidecar in sidecars}
    try:
        for sidecar in sidecars:
            sidecar._listening = True
        snapshots = {sidecar: sidecar._snapshot(local, where) for sidecar, local in sidecars.items()}
        ready = {each.subscriber: snapshot for each, snapshot in snapshots.items() if each.is_ready}
        silent = plane.change(ready)
    except EnvoyError:
        for sidecar in sidecars:
            sidecar._listening = listening[sidecar]
        raise
    changed = [each._local.inbound_ports_unlike(local) for each, local in sidecars.items() if each.is_ready]
    ports = {port for each in changed for port in each}
    renewed = {each: local.clusters_at(ports, where) for each, local in sidecars.items()} if ports else {}
    if any(renewed.values()):
        # Whoever accepted a connection answers one more call on it by the policy that was in force then.
        for sidecar, names in renewed.items():
            sidecar._generations.update(names)
        snapshots = {sidecar: sidecar._snapshot(local, where) for sidecar, local in sidecars.items()}
        silent = plane.change({each.subscriber: snapshot for each, snapshot in snapshots.items() if each.is_ready})
    plane.offer({each.subscriber: snapshot for each, snapshot in snapshots.items() if not each.is_ready})
    for sidecar, local in sidecars.items():
        has_more = not listening[sidecar] or sidecar._local.ports() != local.ports()
        sidecar._local = local
        if has_more and sidecar.is_ready:
            sidecar.wait_until_accepting()
    return [subscriber.name for subscriber in silent]
