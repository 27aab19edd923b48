"""`meshdemo up -f`: runs what the manifests describe, keeps it running, and follows their changes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from meshdemo.console import signals
from meshdemo.escaping import printable_message
from meshdemo.lab import summary
from meshdemo.lab.engine import Engine
from meshdemo.lab.envoy.loopback import Local
from meshdemo.lab.envoy.sidecar import EnvoyError
from meshdemo.lab.files.following import Aside, Files
from meshdemo.lab.files.manifests import ManifestError
from meshdemo.lab.marks import Marks
from meshdemo.lab.outside import Address, Outside
from meshdemo.lab.parallel import in_parallel
from meshdemo.lab.pods.deployment import Pods
from meshdemo.lab.pods.guard import Guard
from meshdemo.lab.pods.pod import RunningPod, Surroundings, Wanted, wanted_pod
from meshdemo.lab.pods.ports import Ports
from meshdemo.lab.pods.replica import Say
from meshdemo.lab.state import Reader, State, as_json

_POLL_SECONDS = 0.05
_START_SECONDS = 30
_SLOW_SECONDS = 10


@dataclass(frozen=True)
class LabOptions:
    """How a lab runs: the port of the Service in front, seconds to drain, and whether each call is logged."""

    port: int = 3030
    drain_seconds: float = 5.0
    access_log: bool = False


def dry_run(paths: Sequence[Path], engine: Engine) -> tuple[str, tuple[str, ...]]:
    """Return what each Envoy gets as JSON, with the addresses of a cluster, and notes on the files."""
    guard = Guard()
    try:
        reader = Reader(paths, engine, guard)
        state = reader.configure(reader.read())
        return as_json(state), state.notes
    finally:
        guard.close()


class Lab:
    """The manifests at `paths`, running. `say` takes lines for the person at the terminal."""

    def __init__(self, paths: Sequence[Path], engine: Engine, options: LabOptions, say: Say) -> None:
        self._options = options
        self._stopped = False
        self._out = say
        self._files = Files(paths)
        self._reading: Aside[State] = Aside()
        self._guard = Guard()
        try:
            self._reader = Reader(paths, engine, self._guard)
            ports = Ports()
            files = self._reader.read()
            ports.claim("front", options.port)
            self._say(summary.starting(files.cluster))
            self.state = self._reader.configure(files)
            self._marks = Marks(self._guard.folder / "changes.json")
            around = Surroundings(
                folder=self._guard.folder,
                process_group=self._guard.group,
                ports=ports,
                say=self._say,
                environment={"DRAIN_SECONDS": str(options.drain_seconds), "ACCESS_LOG": str(options.access_log)},
                proxy_environment={"CHANGES_FILE": str(self._marks.path)},
            )
            self._pods = Pods(around, self._local)
            self._outside = Outside(self._guard, ports, self._reader, self._say)
        except BaseException:
            self._guard.close()
            raise
        self._told: dict[str, RunningPod] = {}
        self._listening = False
        self._rolling: set[str] = set()
        self._slow_at: float | None = None
        self._problem: str | None = None
        self._tidied: State | None = None

    def start(self) -> None:
        """Start everything, and return when all pods take calls and everything that is to be called listens."""
        self._want(self.state)
        self._move_pods()
        self._outside.start(self.state, self._pods.where)
        deadline = time.monotonic() + _START_SECONDS
        while not (self._pods.settled and self._outside.is_ready):
            if time.monotonic() > deadline:
                names = ", ".join(self._pods.not_ready())
                self._say(f"not ready after {_START_SECONDS} s, so no traffic goes to them yet: {names}")
                break
            time.sleep(_POLL_SECONDS)
            for pod in self._pods.present:
                pod.check()
            self._outside.check()
            self._outside.look_after()
            self._move_pods()
        sidecars = [pod.sidecar for pod in self._pods.present if pod.sidecar and pod.sidecar.is_ready]
        in_parallel([sidecar.wait_for_endpoints for sidecar in sidecars])
        self._outside.listen(self._pods.where)
        self._listening = True

    def step(self) -> None:
        """Look after everything once: pods that come and go, what listens, files that changed."""
        for look in (self._outside.look_after, self._move_pods, self._say_what_rolls, self._follow):
            problem = None
            try:
                look()
            except (ManifestError, EnvoyError) as error:
                problem = f"not applied, the last good state stays: {error}"
            except Exception as error:  # such as a full disk; whatever it is, it must not end the lab
                problem = f"meshdemo itself failed and goes on, please report it: {error!r}"
            if problem and problem != self._problem:
                self._problem = problem
                self._say(f"{_now()} {problem}")

    def stop(self) -> None:
        """End everything at once, and leave nothing."""
        self._stopped = True
        for pod in self._pods.present:
            pod.retire()  # so that none starts again what the guard ends
        self._guard.close()
        for pod in self._pods.present:
            if pod.sidecar:
                pod.sidecar.stop()
        self._outside.stop()

    def drain(self) -> None:
        """Let the proxies finish what they have begun, as when their pods are deleted."""
        proxies = [pod for pod in self._pods.present if pod.pod.calls]
        for pod in proxies:
            pod.retire()
        deadline = time.monotonic() + self._options.drain_seconds + _START_SECONDS
        while not all(pod.has_ended for pod in proxies) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def addresses(self) -> list[Address]:
        """Return what can be called from outside."""
        return self._outside.addresses(self.state)

    def follow(self, paths: Sequence[Path]) -> None:
        """Follow other files from now on; `is_settled` says when they are in force."""
        self._reader.loader.paths = tuple(paths)
        self._files.paths = tuple(paths)
        if self._problem:
            self._problem = None
            self._files.read_again()

    @property
    def is_settled(self) -> bool:
        """Return whether what the files say is in force, and every pod as it is to be."""
        return not (self._reading.is_busy or self._files.are_ahead or self._rolling) and self._pods.settled

    @property
    def problem(self) -> str | None:
        """Return why the files as they are now are not in force."""
        return self._problem

    def _say(self, line: str) -> None:
        """Tell the person; not what ends because all does."""
        if not self._stopped:
            self._out(printable_message(line))

    def _want(self, state: State) -> bool:
        """Set what pods there are to be, as the files say; return whether that changes any."""
        cluster = state.files.cluster
        outside = self._outside.service_rules(state.cluster)
        wanted = {}
        for deployment in cluster.deployments:
            for pod in cluster.pods_of(deployment.name):
                if pod.calls and not pod.in_mesh:
                    wanted[pod.name] = Wanted(pod, deployment.template, rules=outside)
                else:
                    wanted[pod.name] = wanted_pod(pod, deployment.template, state.resources(pod.name), cluster)
        return self._pods.want([deployment.name for deployment in cluster.deployments], wanted)

    def _local(self, pod: RunningPod) -> Local | None:
        """Return the configuration of a pod's sidecar, None for one without."""
        resources = self.state.resources(pod.pod.name)
        if resources is None or pod.sidecar is None:
            return None
        return pod.local(resources, self._reader.secrets(pod.pod, resources, self.state.cluster))

    def _move_pods(self) -> None:
        """Start and replace pods; who leaves is taken out of traffic first, and then ended."""
        taken_out = self._pods.step()
        try:
            if self._pods.taking_calls != self._told:
                self._told = self._pods.taking_calls
                for pod in [*self._pods.present, *taken_out]:
                    if pod.sidecar:
                        pod.sidecar.change_endpoints(self._pods.where)
                if self._listening:
                    self._outside.change_endpoints(self._pods.where)
        finally:
            self._pods.retire(taken_out)

    def _say_what_rolls(self) -> None:
        """Say when a change of pods is complete, and when it is long in coming."""
        if not self._rolling:
            return
        labels = ", ".join(sorted(self._rolling))
        if self._pods.settled:
            self._say(f"{_now()} rolled out: {labels}")
            self._rolling.clear()
        elif self._slow_at is not None and time.monotonic() > self._slow_at:
            self._say(f"{_now()} still rolling out: {labels}; the old pods serve until new ones are ready")
            self._slow_at = None

    def _follow(self) -> None:
        """Apply files that have changed, and what changes when pods have gone; keep the last good state otherwise."""
        if self._reading.is_busy:
            try:
                state = self._reading.result()
            except ManifestError:
                if self._files.are_as_told():
                    raise
                return  # it was read while it was being written
            if state is not None and self._files.are_as_told():
                self._apply(state)
        elif self._files.have_changed():
            self._problem = None
            here = [pod.pod for pod in self._pods.present]
            self._reading.begin(lambda: self._reader.configure(self._reader.read(), here))
        elif self._tidied is not self.state and self._has_gone():
            self._tidied = self.state
            here, files = [pod.pod for pod in self._pods.present], self.state.files
            self._reading.begin(lambda: self._reader.configure(files, here))

    def _has_gone(self) -> bool:
        """Return whether the configuration holds pods that no file has, and that are not there any more."""
        names = {pod.pod.name for pod in self._pods.present} | {pod.name for pod in self.state.files.cluster.pods}
        return any(pod.name not in names for pod in self.state.cluster.pods)

    def _apply(self, state: State) -> None:
        """Put a state in force, say what is different; raise EnvoyError, with all as it was, where it is refused."""
        former, self.state = self.state, state
        addresses = self._outside.addresses(former)
        try:
            self._change_envoys()
        except EnvoyError:
            self.state = former
            self._change_envoys()
            raise
        rolls = self._want(state)
        self._move_pods()
        if state.files is former.files:
            return
        changes = summary.changes(former.files.manifests, state.files.manifests)
        for change in changes:
            outcome = "rolling out" if rolls and change.moves_pods else "in force"
            self._say(f"{_now()} {change.text}, {outcome}")
        if not changes:
            self._say(f"{_now()} no effective change")
        for address in self._outside.addresses(state):
            if address not in addresses:
                self._say(f"{_now()} to call: {address.url}  {address.name}")
        for note in state.notes:
            self._say(note)
        if rolls:
            self._rolling |= {change.label for change in changes if change.moves_pods}
            self._slow_at = time.monotonic() + _SLOW_SECONDS
        self._marks.add([change.label for change in changes])

    def _change_envoys(self) -> None:
        where = self._pods.where
        jobs = []
        for pod in self._pods.present:
            local = self._local(pod)
            if pod.sidecar and local:
                jobs.append(lambda sidecar=pod.sidecar, local=local: sidecar.change(local, where))
        in_parallel(jobs)
        self._outside.change(self.state, where)
        sidecars = [pod.sidecar for pod in self._pods.present if pod.sidecar]
        if any(sidecar.has_new_inbound for sidecar in sidecars):
            in_parallel([envoy.renew_connections for envoy in (*sidecars, *self._outside.gateways)])


def run(
    paths: Sequence[Path], engine: Engine, options: LabOptions, *, say: Say, started: Callable[[Lab], object]
) -> None:
    """Run a lab until a signal: Ctrl+C ends it at once, SIGTERM after the proxies have drained."""
    lab: Lab | None = None
    try:
        with signals.raising() as arrived:
            try:
                lab = Lab(paths, engine, options, say)
                lab.start()
                started(lab)
                while True:
                    arrived.check()
                    time.sleep(_POLL_SECONDS)
                    lab.step()
            except signals.Signalled as signalled:
                if signalled.number == signal.SIGTERM and lab is not None:
                    lab.drain()
    except signals.Signalled:
        pass  # a second one, while it drained
    finally:
        if lab is not None:
            lab.stop()


def _now() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")
