"""Where callers connect: the programs in pods, and who calls from outside."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from meshdemo.lab.cluster.pods import within_namespace
from meshdemo.lab.door.door import DoorError
from meshdemo.lab.envoy.endpoints import HOST
from meshdemo.lab.files.errors import only_these
from meshdemo.lab.fleet.outside import find_gateway_port
from meshdemo.lab.pods.pod import RunningPod

if TYPE_CHECKING:
    from meshdemo.lab.lab import Lab

#: The ports of schemes.
PORTS = {"http": 80, "https": 443}
#: Where calls come from that no pod makes.
OUTSIDE = "outside"


class Ways:
    """Knows where callers connect in one lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def caller(self, name: str) -> RunningPod | None:
        """Return the pod that calls; None for `outside`, unless a pod or workload is called so."""
        return None if name == OUTSIDE and not pods_of_name(name, self._lab.pods.present) else self._pod(name)

    def _pod(self, name: str) -> RunningPod:
        """Return the pod of a name, or the first that takes calls of the workload of a name."""
        present = self._lab.pods.present
        found = pods_of_name(name, present)
        for pod in found:
            if pod.is_ready:
                return pod
        if found:
            raise DoorError(409, f"no pod of {name} takes calls at the moment")
        workloads = sorted({pod.pod.workload for pod in present})
        raise DoorError(404, f"there is no pod or workload {name}, {only_these(name, workloads)}")

    def of(self, body: Any) -> dict[str, Any]:
        """Return where a caller connects for a call, `{"from", "url"}`: the first that fits counts.

        It is `{"pod", "connect_to"}`, each of these host and port, empty and 0 for any, and host and port to connect to
        instead. Raise DoorError, also for a port that a Service does not have.
        """
        match body:
            case {"from": str(name), "url": str(url)}:
                pod = self.caller(name)
                if pod is None:
                    return {"pod": None, "connect_to": list(self._ways_to_gateways(host_and_port(url)[0]))}
                if missing := self.missing_port(pod, *host_and_port(url)):
                    raise DoorError(409, missing)
                return {"pod": pod.pod.name, "connect_to": self._ways_of(pod)}
        raise DoorError(400, "from and url are strings")

    def _ways_of(self, pod: RunningPod) -> list[list[str | int]]:
        ways = list(self._ways_to_pods(pod.pod.namespace))
        for pattern, target in pod.wanted.rules or self._lab.rules_of_caller(pod.pod):
            host, _, port = pattern.rpartition(":")
            ways.append([host, int(port or 0), HOST, target if isinstance(target, int) else pod.ports.outbound[target]])
        return ways

    def _ways_to_pods(self, namespace: str) -> Iterator[list[str | int]]:
        """Yield the ways to each pod by its address or its name here, past Services and the sidecar of the caller.

        In a cluster that goes through the sidecar as it is (PassthroughCluster). A Service of the name comes first.
        """
        services = {name for service in self._lab.state.cluster.services for name in service.names_from(namespace)}
        for each in self._lab.pods.present:
            for number in each.ports.apps:
                to = each.port_of(number)
                for host in (each.pod.address, each.pod.name):
                    if each.is_ready and to and host not in services:
                        yield [host, number, HOST, to]

    def _ways_to_gateways(self, host: str) -> Iterator[list[str | int]]:
        """Yield the ways from outside to the gateways that have a host, and for others, to which calls may redirect."""
        found = self._lab.outside.gateway_ports(self._lab.state)
        for number in dict.fromkeys(each.number for each in found):
            for name in (host, ""):
                if to := None if is_here(name) else find_gateway_port(found, name, number):
                    yield [name, number, HOST, to.port]

    def where(self, pod: RunningPod | None, host: str, port: int) -> tuple[str, int]:
        """Return where the program of a pod connects for a host and port, or who calls from outside."""
        if pod is None:
            ports = [] if is_here(host) else self._lab.outside.gateway_ports(self._lab.state)
            found = find_gateway_port(ports, host, port)
            return (HOST, found.port) if found else (host, port)
        return self._way(pod, host, port) or (host, port)

    def _way(self, pod: RunningPod, host: str, port: int) -> tuple[str, int] | None:
        for wanted_host, wanted_port, to_host, to_port in self._ways_of(pod):
            if wanted_host in ("", host) and wanted_port in (0, port):
                return str(to_host), int(to_port)
        return None

    def missing_port(self, pod: RunningPod, host: str, port: int) -> str:
        """Return in words that the Service of a name has no such port, empty where a pod's call leads anywhere."""
        service = self._lab.state.cluster.service_from(pod.pod.namespace, host)
        return service.lack_of(port) if service and self._way(pod, host, port) is None else ""


def pods_of_name(name: str, pods: Sequence[RunningPod]) -> list[RunningPod]:
    """Return the pods that a name means, of a pod or a workload; without its namespace where only one has any."""
    if exact := [each for each in pods if name in (each.pod.name, each.pod.workload)]:
        return exact
    found = [
        each
        for each in pods
        if name in (within_namespace(full, each.pod.namespace) for full in (each.pod.name, each.pod.workload))
    ]
    return found if len({each.pod.namespace for each in found}) == 1 else []


def host_and_port(url: str) -> tuple[str, int]:
    """Return what a URL leads to, 0 for a port that neither it nor its scheme says."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)


def is_here(host: str) -> bool:
    """Return whether a host is this machine, or an address, which no name server is asked for."""
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return host == "localhost"
