"""Calls from pods whose programs call nobody: somebody names the pod, and a sidecar that calls as it would is there.

It has the pod's configuration and identity, and stands beside the pod's own, so that the pod stays as it is.
"""

from __future__ import annotations

import itertools

from meshdemo.lab.cluster.pods import Pod
from meshdemo.lab.edits.state import Reader, State, limits_sidecars
from meshdemo.lab.engine import Resources
from meshdemo.lab.envoy.endpoints import Where
from meshdemo.lab.envoy.loopback import Local, Ports
from meshdemo.lab.envoy.original import needs_services, service_names
from meshdemo.lab.envoy.outbound import connect_rules, outbound_names
from meshdemo.lab.envoy.sidecar import Sidecar
from meshdemo.lab.envoy.xds.control_plane import ControlPlane
from meshdemo.lab.pods.guard import Guard
from meshdemo.lab.pods.ports import PortBook
from meshdemo.lab.pods.replica import Say

#: How many pods may call so; the one that was named first goes.
MOST = 8


class Callers:
    """The Envoys of the pods in `Cluster.callers` whose programs call nobody."""

    def __init__(self, guard: Guard, plane: ControlPlane, ports: PortBook, reader: Reader, say: Say) -> None:
        self._guard = guard
        self._plane = plane
        self._ports = ports
        self._reader = reader
        self._say = say
        self._numbers = itertools.count()
        self._envoys: dict[str, Sidecar] = {}
        self._in_force: frozenset[str] = frozenset()

    @property
    def envoys(self) -> list[Sidecar]:
        """Return all of them."""
        return list(self._envoys.values())

    def prepare(self, state: State, where: Where) -> dict[Sidecar, Local]:
        """Start what a state needs, and return what each Envoy is to have; raise EnvoyError for what does not start."""
        wanted = {}
        for pod, resources in _wanted(state):
            local = self._local(pod, resources, state)
            if pod.name not in self._envoys:
                folder = self._guard.folder / f"caller-{next(self._numbers)}"
                envoy = Sidecar(pod.name, folder, self._guard.group, self._say, self._plane)
                self._envoys[pod.name] = envoy
                envoy.start(local, where, listening=False)
            wanted[self._envoys[pod.name]] = local
        for envoy in wanted:
            envoy.wait_until_ready()
        return wanted

    def keep(self, state: State) -> None:
        """End those that a state, which is in force now, does not have."""
        self._in_force = names = frozenset(pod.name for pod, _ in _wanted(state))
        for name in [name for name in self._envoys if name not in names]:
            self._envoys.pop(name).stop()

    def look_after(self) -> None:
        """Start again what has ended."""
        for envoy in self.envoys:
            envoy.look_after()

    def rules(self, pod: Pod, state: State) -> tuple[tuple[str, int], ...] | None:
        """Return where a pod's calls go instead: a pattern of host and port, and a port; None before it can call."""
        envoy = self._envoys.get(pod.name)
        resources = state.resources(pod.name)
        if envoy is None or resources is None or pod.name not in self._in_force or not envoy.is_ready:
            return None
        ports = self._outbound(pod.name, resources)
        rules = connect_rules(resources, state.cluster, pod.namespace)
        return tuple((pattern, ports[listener]) for pattern, listener in rules)

    def _outbound(self, name: str, resources: Resources) -> dict[str, int]:
        return {listener: self._ports.get(("caller", name, listener)) for listener in outbound_names(resources)}

    def _local(self, pod: Pod, resources: Resources, state: State) -> Local:
        secrets = self._reader.secrets(pod, resources, state.cluster)
        is_needed = needs_services(resources) or limits_sidecars(state.cluster)
        names = service_names(state.cluster, pod.namespace) if is_needed else {}
        return Local(resources, Ports(outbound=self._outbound(pod.name, resources)), secrets, service_names=names)


def _wanted(state: State) -> list[tuple[Pod, Resources]]:
    """Return the pods that only call because somebody named them, with their resources."""
    found = [(pod, state.resources(pod.name)) for pod in state.cluster.pods if pod.name in state.cluster.callers]
    return [(pod, resources) for pod, resources in found if resources is not None and not pod.calls]
