"""`meshdemo up -f`: runs what the manifests describe, keeps it running, and follows their changes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from meshdemo.lab import node, summary
from meshdemo.lab.cluster import Gateway
from meshdemo.lab.deployment import Pods
from meshdemo.lab.engine import Engine
from meshdemo.lab.guard import Guard
from meshdemo.lab.loopback import HOST, Local, Ports, outbound_names
from meshdemo.lab.manifests import ManifestError, files_of
from meshdemo.lab.pod import RunningPod, Surroundings, Wanted, wanted_pod
from meshdemo.lab.ports import Ports as PortBook
from meshdemo.lab.replica import Say
from meshdemo.lab.sidecar import EnvoyError, Sidecar
from meshdemo.lab.understanding import Reader, State, as_json, entrances

_POLL_SECONDS = 0.05
_START_SECONDS = 30
_MARKS = 100


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
        reader = Reader(paths, engine, guard.folder)
        state = reader.configure(reader.read())
        return as_json(state), state.notes
    finally:
        guard.close()


class Lab:
    """The manifests at `paths`, running. `say` takes lines for the person at the terminal."""

    def __init__(self, paths: Sequence[Path], engine: Engine, options: LabOptions, say: Say) -> None:
        self._paths = paths
        self._options = options
        self._stopped = False
        self._out = say
        self._signature = self._seen = _signature(paths)
        self._guard = Guard()
        try:
            self._reader = Reader(paths, engine, self._guard.folder)
            self._ports = PortBook()
            files = self._reader.read()
            self._ports.claim("front", options.port)
            self._say(summary.starting(files.cluster))
            self.state = self._reader.configure(files)
        except BaseException:
            self._guard.close()
            raise
        self._marks: list[dict[str, str]] = []
        self._marks_file = self._guard.folder / "changes.json"
        around = Surroundings(
            folder=self._guard.folder,
            process_group=self._guard.group,
            ports=self._ports,
            say=self._say,
            arguments=(
                "--drain-seconds",
                str(options.drain_seconds),
                "--access-log" if options.access_log else "--no-access-log",
            ),
            environment={"CHANGES_FILE": str(self._marks_file)},
        )
        self._pods = Pods(around, self._local)
        self._locals: dict[str, tuple[State, Local | None]] = {}
        self._node = Sidecar("node", self._guard.folder / "node", self._guard.group)
        self._gateways: dict[str, Sidecar] = {}
        self._listening = False
        self._rolling: set[str] = set()

    def start(self) -> None:
        """Start everything, and return when all pods take calls and everything that is to be called listens."""
        self._write_marks()
        self._pods.want(self._wanted())
        self._pods.step()
        self._node.start(self._node_local(), self._pods.where, listening=False)
        for gateway in self.state.cluster.gateways:
            self._start_gateway(gateway)
        deadline = time.monotonic() + _START_SECONDS
        envoys = [self._node, *self._gateways.values()]
        while not (self._pods.settled and all(envoy.is_ready() for envoy in envoys)):
            if time.monotonic() > deadline:
                names = ", ".join(self._pods.not_ready())
                self._say(f"not ready after {_START_SECONDS} s, and without traffic until they are: {names}")
                break
            time.sleep(_POLL_SECONDS)
            self._look_after_pods()
        for envoy in envoys:
            envoy.change_endpoints(self._pods.where)
            envoy.listen()
        self._listening = True

    def step(self) -> None:
        """Look after everything once: pods that come and go, what listens, files that changed."""
        for envoy in [self._node, *self._gateways.values()]:
            envoy.check()
        self._look_after_pods()
        self._follow_files()

    def stop(self) -> None:
        """End everything at once, and leave nothing."""
        self._stopped = True
        self._guard.close()

    def drain(self) -> None:
        """Let the proxies finish what they have begun, as when their pods are deleted."""
        proxies = [pod for pod in self._pods.running if pod.pod.calls]
        for pod in proxies:
            pod.retire()
        deadline = time.monotonic() + self._options.drain_seconds + _START_SECONDS
        while not all(pod.has_ended for pod in proxies) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _say(self, line: str) -> None:
        """Tell the person; not what ends because all does."""
        if not self._stopped:
            self._out(line)

    def addresses(self) -> list[tuple[str, str]]:
        """Return what can be called from outside, with its URL."""
        addresses = [
            (entrance.name, f"http://{HOST}:{self._front_port(entrance)}/")
            for entrance in node.public_entrances(self.state.cluster)
        ]
        for gateway in self.state.cluster.gateways:
            resources = self.state.resources(gateway.name)
            for name in outbound_names(resources) if resources else ():
                number = name.rpartition("_")[2]
                url = f"http://{HOST}:{self._ports.get(('gateway', gateway.name, name))}/"
                addresses.append((f"gateway {gateway.name}, port {number}", url))
        return addresses

    def _wanted(self) -> dict[str, Wanted]:
        """Return the pods that the files ask for, by name."""
        cluster = self.state.files.cluster
        outside = tuple(
            (f"{name}:{entrance.port}", self._ports.get(("node", entrance.key)))
            for service, entrance in node.service_entrances(cluster)
            for name in service.short_names
        )
        wanted = {}
        for deployment in cluster.deployments:
            for pod in cluster.pods_of(deployment.name):
                resources = self.state.resources(pod.name)
                if pod.calls and not pod.in_mesh:
                    wanted[pod.name] = Wanted(pod, deployment.template, rules=outside)
                else:
                    wanted[pod.name] = wanted_pod(pod, deployment.template, resources, cluster)
        return wanted

    def _local(self, pod: RunningPod) -> Local | None:
        """Return the configuration of a pod's sidecar; a pod that is leaving keeps what it has."""
        state, local = self._locals.get(pod.key, (None, None))
        if state is not self.state:
            resources = self.state.resources(pod.pod.name)
            if resources is None or not pod.wanted.has_sidecar:
                return local
            local = pod.local(resources, self._reader.secrets(pod.pod, resources))
            self._locals[pod.key] = (self.state, local)
        return local

    def _front_port(self, entrance: node.Entrance) -> int:
        """Return the port of what is called from outside: --port for the first, the others count on from there."""
        front = node.public_entrances(self.state.cluster)[0]
        base = self._ports.get("front")
        if entrance == front:
            return base
        offset = (
            entrance.port - front.endpoints[0][1] if entrance.name.startswith("deployment/") and front.endpoints else 1
        )
        return self._ports.wish(("front", entrance.key), base + max(offset, 1))

    def _node_local(self) -> Local:
        cluster = self.state.cluster
        public = {entrance.key: self._front_port(entrance) for entrance in node.public_entrances(cluster)}
        forwarded = entrances(cluster)
        outbound = {each.key: public.get(each.key) or self._ports.get(("node", each.key)) for each in forwarded}
        return Local(node.resources_of(forwarded), Ports(outbound=outbound), self._node.folder, None)

    def _gateway_local(self, gateway: Gateway) -> Local | None:
        resources = self.state.resources(gateway.name)
        if resources is None:
            return None
        outbound = {}
        for name in outbound_names(resources):
            number = int(name.rpartition("_")[2])
            wanted = number if number >= 1024 else 8000 + number
            outbound[name] = self._ports.wish(("gateway", gateway.name, name), wanted)
        folder = self._guard.folder / f"gateway-{gateway.name}"
        return Local(resources, Ports(outbound=outbound), folder, self._reader.secrets(gateway, resources))

    def _start_gateway(self, gateway: Gateway) -> None:
        local = self._gateway_local(gateway)
        if local is not None:
            sidecar = Sidecar(gateway.name, self._guard.folder / f"gateway-{gateway.name}", self._guard.group)
            sidecar.start(local, self._pods.where, listening=self._listening)
            self._gateways[gateway.name] = sidecar

    def _look_after_pods(self) -> None:
        self._move_pods()
        if len(self.state.cluster.pods) > len(self.state.files.cluster.pods) and not self._pods.lingering:
            self._apply(self._reader.configure(self.state.files))  # without the pods that have gone
        if self._rolling and self._pods.settled:
            self._say(f"{_now()} rolled out: {', '.join(sorted(self._rolling))}")
            self._rolling.clear()

    def _move_pods(self) -> None:
        """Start and replace pods; who leaves is taken out of traffic first, and then ended."""
        taken_out = self._pods.step()
        self._tell_endpoints()
        self._pods.retire(taken_out)

    def _tell_endpoints(self) -> None:
        for sidecar in [pod.sidecar for pod in self._pods.running if pod.sidecar]:
            sidecar.change_endpoints(self._pods.where)
        if self._listening:
            for envoy in [self._node, *self._gateways.values()]:
                envoy.change_endpoints(self._pods.where)

    def _follow_files(self) -> None:
        """Apply files that have changed and are not being written any more; keep the last good ones otherwise."""
        signature = _signature(self._paths)
        settled, self._seen = signature == self._seen, signature
        if signature == self._signature or not settled:
            return
        self._signature = signature
        former = self.state.files
        try:
            here = [pod.pod for pod in self._pods.running]
            state = self._reader.configure(self._reader.read(), here)
            self._apply(state)
        except (ManifestError, EnvoyError) as error:
            self._say(f"{_now()} not applied, the last good state stays: {error}")
            return
        except Exception as error:  # a defect of this program must not end the lab
            self._say(f"{_now()} not applied, the last good state stays; this program failed with {error!r}")
            return
        changes = summary.changes(former.manifests, state.files.manifests)
        for change in changes:
            self._say(f"{_now()} {change.text}, {'rolling out' if change.rolls else 'in force'}")
        for note in state.notes:
            self._say(note)
        self._rolling |= {change.label for change in changes if change.rolls}
        self._mark([change.label for change in changes])

    def _apply(self, state: State) -> None:
        """Put a state in force; raise EnvoyError, with the former one back in force, when it is not taken."""
        former, self.state = self.state, state
        try:
            self._change_envoys()
        except EnvoyError:
            self.state = former
            self._change_envoys()
            raise
        self._pods.want(self._wanted())
        self._move_pods()

    def _change_envoys(self) -> None:
        where = self._pods.where
        for pod in self._pods.running:
            local = self._local(pod)
            if pod.sidecar and local:
                pod.sidecar.change(local, where)
        gateways = {gateway.name: gateway for gateway in self.state.cluster.gateways}
        for name in list(self._gateways):
            if name not in gateways:
                self._gateways.pop(name).stop()
        for name, gateway in gateways.items():
            if name in self._gateways:
                local = self._gateway_local(gateway)
                if local:
                    self._gateways[name].change(local, where)
            else:
                self._start_gateway(gateway)
        self._node.change(self._node_local(), where)

    def _mark(self, texts: Sequence[str]) -> None:
        """Tell the page of each proxy what has changed."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._marks = [*self._marks, *({"time": now, "text": text} for text in texts)][-_MARKS:]
        self._write_marks()

    def _write_marks(self) -> None:
        temporary = self._marks_file.with_suffix(".new")
        temporary.write_text(json.dumps(self._marks))
        temporary.replace(self._marks_file)


def _now() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")


def _signature(paths: Sequence[Path]) -> list[tuple[str, int, int, int]]:
    """Return what tells one state of the files from another."""
    signature = []
    for path in files_of(paths):
        try:
            status = path.stat()
        except OSError:
            signature.append((str(path), 0, 0, 0))
        else:
            signature.append((str(path), status.st_mtime_ns, status.st_size, status.st_ino))
    return signature


class _Signalled(BaseException):
    """A signal arrived; wherever the program is, it goes on where this is caught."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def _signals() -> Iterator[None]:
    def arrived(number: int, _frame: FrameType | None) -> None:
        raise _Signalled(number)

    former = {number: signal.signal(number, arrived) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number in former:
            signal.signal(number, signal.SIG_IGN)  # what is left is the end, which takes no time


def run(
    paths: Sequence[Path], engine: Engine, options: LabOptions, *, say: Say, started: Callable[[Lab], object]
) -> None:
    """Run a lab until a signal: Ctrl+C ends it at once, SIGTERM after the proxies have drained."""
    lab: Lab | None = None
    try:
        with _signals():
            try:
                lab = Lab(paths, engine, options, say)
                lab.start()
                started(lab)
                while True:
                    time.sleep(_POLL_SECONDS)
                    lab.step()
            except _Signalled as signalled:
                if signalled.number == signal.SIGTERM and lab is not None:
                    lab.drain()
    except _Signalled:
        pass  # a second one, while it drained
    finally:
        if lab is not None:
            lab.stop()
