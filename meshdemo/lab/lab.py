"""`meshdemo up -f`: runs what the manifests describe, keeps it running, and follows their changes."""

from __future__ import annotations

import json
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from meshdemo import server
from meshdemo.lab import envoy_config, mesh
from meshdemo.lab.envoy import Envoy, EnvoyError, validate
from meshdemo.lab.manifests import ManifestError, files_of
from meshdemo.lab.mesh import Mesh
from meshdemo.lab.replica import Replica
from meshdemo.lab.topology import Workload

_POLL_SECONDS = 0.1
_START_SECONDS = 30
# Kills its process group, in which everything here runs, as soon as the parent's end of the pipe is closed: also
# when the parent was killed and could not clean up.
_GUARD = "import os, signal, sys; sys.stdin.read(); os.killpg(0, signal.SIGKILL)"

Say = Callable[[str], object]


def dry_run(paths: Sequence[Path]) -> str:
    """Return the Envoy configuration for the manifests as JSON, each replica at its container's port."""
    understood = mesh.load(paths)
    ports = dict.fromkeys(envoy_config.route_configurations(understood), 0)
    return json.dumps(envoy_config.whole(understood, ports, _container_ports), indent=2)


def _container_ports(workload: Workload) -> dict[str, int]:
    port = min((port for _, port in workload.ports), default=3030)
    return {workload.hostname(number): port for number in range(1, workload.replicas + 1)}


class Lab:
    """The manifests at `paths`, running. `say` takes lines for the person at the terminal."""

    def __init__(self, paths: Sequence[Path], *, port: int, drain_seconds: float, access_log: bool, say: Say) -> None:
        self._paths = paths
        self._drain_seconds = drain_seconds
        self._access_log = access_log
        self._say = say
        self._mesh = mesh.load(paths)
        self._folder = Path(tempfile.mkdtemp(prefix="meshdemo-"))
        self._ports: dict[str, int] = {}
        try:
            self._check(self._mesh)
            self.port = _free_port(port)
        except Exception:
            shutil.rmtree(self._folder)
            raise
        self._first_proxy: str | None = None
        self._replicas: dict[str, Replica] = {}
        self._guard = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _GUARD], stdin=subprocess.PIPE, process_group=0
        )
        self._envoy = Envoy(self._folder, self._guard.pid)
        self._signature = self._seen = _signature(paths)
        self._endpoints: dict[str, int] = {}

    def start(self) -> None:
        """Start everything, and return when all replicas take traffic and Envoy takes calls."""
        self._reconcile()
        deadline = time.monotonic() + _START_SECONDS
        while any(replica.endpoint is None for replica in self._replicas.values()):
            if time.monotonic() > deadline:
                self._say("some replicas are not ready; they get no traffic until they are")
                break
            time.sleep(_POLL_SECONDS)
        self._endpoints = self._current_endpoints()
        self._envoy.start(self._mesh, self._ports, self._endpoints_of)

    def step(self) -> None:
        """Look after everything once: files that changed, replicas that came and went, Envoy itself."""
        self._envoy.check()
        self._follow_files()
        current = self._current_endpoints()
        if current != self._endpoints:
            self._endpoints = current
            self._envoy.change_endpoints(self._mesh, self._endpoints_of)

    def stop(self, *, drain: bool) -> None:
        """End everything; with `drain` the proxies first finish what they have begun."""
        if drain:
            proxies = [each for each in self._replicas.values() if each.workload.role == "proxy"]
            for replica in proxies:
                replica.retire()
            for replica in proxies:
                replica.wait(self._drain_seconds + _START_SECONDS)
        for replica in self._replicas.values():
            replica.retire()
        self._envoy.stop()
        if self._guard.stdin:
            self._guard.stdin.close()  # which ends everything that is left
        self._guard.wait()
        for replica in self._replicas.values():
            replica.wait(_START_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def notes(self) -> list[str]:
        """Return what the manifests hold that is not applied here."""
        return self._mesh.notes

    def addresses(self) -> list[tuple[str, str]]:
        """Return what can be called, with its URL: the proxies, then the gateways."""
        found = [
            (f"{replica.name}, a proxy", f"http://127.0.0.1:{replica.port}/")
            for replica in sorted(self._replicas.values(), key=lambda each: (each.name != self._first_proxy, each.name))
            if replica.workload.role == "proxy" and replica.port
        ]
        for listener in self._mesh.listeners:
            url = f"http://127.0.0.1:{self._ports[listener.name]}/"
            found.append((f"the gateway's port {listener.port}", url))
        return found

    def _check(self, candidate: Mesh) -> None:
        """Choose ports for new listeners, and let Envoy check the configuration; raise EnvoyError."""
        for name in envoy_config.route_configurations(candidate):
            if name not in self._ports:
                self._ports[name] = _free_port(0)
        validate(envoy_config.whole(candidate, self._ports, _container_ports), self._folder)

    def _reconcile(self) -> None:
        """Start the replicas that are wanted, and retire those that are not, or that run something else now."""
        wanted = {
            workload.hostname(number): (workload, number)
            for workload in self._mesh.workloads
            for number in range(1, workload.replicas + 1)
        }
        for name, replica in list(self._replicas.items()):
            if wanted.get(name) != (replica.workload, replica.number):
                replica.retire()
                del self._replicas[name]
        for name, (workload, number) in wanted.items():
            if name not in self._replicas:
                self._replicas[name] = self._new_replica(workload, number)
                self._replicas[name].start()

    def _new_replica(self, workload: Workload, number: int) -> Replica:
        name, port = workload.hostname(number), 0
        if workload.role == "proxy" and self._first_proxy in (None, name):
            self._first_proxy, port = name, self.port
        arguments = ["--host", "127.0.0.1", "--port", str(port), "--drain-seconds", str(self._drain_seconds)]
        arguments.append("--access-log" if self._access_log else "--no-access-log")
        if workload.role == "proxy":
            arguments += ["--http-proxy", f"http://127.0.0.1:{self._ports[envoy_config.OUTBOUND]}"]
        else:
            arguments += ["--hostname", name]
        environment = {"PYTHONUNBUFFERED": "1"}
        return Replica(
            workload,
            number,
            arguments=arguments,
            environment=environment,
            process_group=self._guard.pid,
            say=self._say,
        )

    def _current_endpoints(self) -> dict[str, int]:
        found = {name: replica.endpoint for name, replica in self._replicas.items()}
        return {name: port for name, port in found.items() if port}

    def _endpoints_of(self, workload: Workload) -> dict[str, int]:
        names = [workload.hostname(number) for number in range(1, workload.replicas + 1)]
        return {name: self._endpoints[name] for name in names if name in self._endpoints}

    def _follow_files(self) -> None:
        """Apply files that have changed and are not being written any more; keep the last good ones otherwise."""
        signature = _signature(self._paths)
        settled, self._seen = signature == self._seen, signature
        if signature == self._signature or not settled:
            return
        self._signature = signature
        try:
            candidate = mesh.load(self._paths)
            self._check(candidate)
        except (ManifestError, EnvoyError) as error:
            self._say(f"not applied, the last good configuration stays: {error}")
            return
        self._mesh = candidate
        self._reconcile()
        self._endpoints = self._current_endpoints()
        self._envoy.change(candidate, self._ports, self._endpoints_of)
        self._say("applied the change")


def _signature(paths: Sequence[Path]) -> list[tuple[str, int, int, int]]:
    """Return what tells one state of the files from another."""
    found = []
    for path in files_of(paths):
        try:
            status = path.stat()
        except OSError:
            found.append((str(path), 0, 0, 0))
        else:
            found.append((str(path), status.st_mtime_ns, status.st_size, status.st_ino))
    return found


def _free_port(port: int) -> int:
    """Return a port that can be listened on: `port`, or for 0 any; raise StartError when it is taken.

    Any is one below those that systems hand out by themselves (32768 on Linux), so that nobody is given it between
    this and its use.
    """
    candidates = [port] if port else random.sample(range(20000, 32000), 100)
    for candidate in candidates:
        try:
            (taken,) = server.bind("127.0.0.1", candidate)
        except server.StartError:
            if candidate == candidates[-1]:
                raise
        else:
            taken.close()
            return candidate
    raise server.StartError("no port is free")


def run(
    paths: Sequence[Path],
    *,
    port: int,
    drain_seconds: float,
    access_log: bool,
    say: Say,
    started: Callable[[Lab], object],
) -> None:
    """Run a lab until a signal: Ctrl+C ends it at once, SIGTERM after the proxies have drained."""
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: signals.put(number))
    lab = Lab(paths, port=port, drain_seconds=drain_seconds, access_log=access_log, say=say)
    number = signal.SIGINT
    try:
        lab.start()
        started(lab)
        while True:
            try:
                number = signal.Signals(signals.get(timeout=_POLL_SECONDS))
                break
            except queue.Empty:
                lab.step()
    finally:
        lab.stop(drain=number == signal.SIGTERM)
