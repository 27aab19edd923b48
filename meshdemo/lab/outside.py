"""What listens for calls from outside: the node, with the ports of Services, and the gateways."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from meshdemo.lab.cluster.model import Cluster, Gateway
from meshdemo.lab.engine import Resources
from meshdemo.lab.envoy import node
from meshdemo.lab.envoy.loopback import HOST, Local, Ports, Where, outbound_names
from meshdemo.lab.envoy.sidecar import Sidecar
from meshdemo.lab.parallel import in_parallel
from meshdemo.lab.pods.guard import Guard
from meshdemo.lab.pods.ports import Ports as PortBook
from meshdemo.lab.pods.replica import Say
from meshdemo.lab.state import Reader, State, entrances

# What is added to a port that only root may listen on.
_PRIVILEGED = 1024
_SHIFT = 8000


@dataclass(frozen=True)
class Address:
    """Something that can be called from outside: what it is, and its URL."""

    name: str
    url: str


class Outside:
    """The Envoys of the node and of the gateways. They belong to the lab, whatever becomes of the pods."""

    def __init__(self, guard: Guard, ports: PortBook, reader: Reader, say: Say) -> None:
        self._guard = guard
        self._ports = ports
        self._reader = reader
        self._say = say
        self._numbers = itertools.count()
        self._node = self._envoy("node")
        self._gateways: dict[str, Sidecar] = {}

    def start(self, state: State, where: Where) -> None:
        """Start everything, without waiting; nothing listens before `listen`."""
        self._node.start(self._node_local(state.cluster, self._node), where, listening=False)
        self._start_gateways(state, where)

    def listen(self, where: Where) -> None:
        """Open what there is to be called; raise EnvoyError when a port cannot be had."""
        for envoy in self._envoys():
            envoy.change_endpoints(where)
            envoy.listen()

    def change(self, state: State, where: Where) -> None:
        """Change to another state; raise EnvoyError when it is not taken."""
        wanted = {gateway.name: gateway for gateway in state.cluster.gateways if state.resources(gateway.name)}
        for name in list(self._gateways):
            if name not in wanted:
                self._gateways.pop(name).stop()
        jobs = []
        for name, sidecar in self._gateways.items():
            local = self._gateway_local(wanted[name], state, sidecar)
            jobs.append(lambda sidecar=sidecar, local=local: sidecar.change(local, where))
        node_local = self._node_local(state.cluster, self._node)
        in_parallel([*jobs, lambda: self._node.change(node_local, where)])
        for sidecar in self._start_gateways(state, where):
            sidecar.wait_until_ready()
            sidecar.listen()

    @property
    def gateways(self) -> list[Sidecar]:
        """Return the Envoys of the gateways."""
        return list(self._gateways.values())

    def change_endpoints(self, where: Where) -> None:
        """Change who takes calls."""
        for envoy in self._envoys():
            envoy.change_endpoints(where)

    def look_after(self) -> None:
        """Start again what has ended."""
        for envoy in self._envoys():
            envoy.look_after()

    def check(self) -> None:
        """Raise EnvoyError when one of them has ended."""
        for envoy in self._envoys():
            envoy.check()

    def stop(self) -> None:
        """End all of them at once."""
        for envoy in self._envoys():
            envoy.stop()

    @property
    def is_ready(self) -> bool:
        """Return whether all of them run."""
        return all(envoy.is_ready for envoy in self._envoys())

    def addresses(self, state: State) -> list[Address]:
        """Return what can be called from outside, what leads to the whole application first."""
        found = [
            Address(entrance.name, f"http://{HOST}:{port}/") for entrance, port in self._public_ports(state.cluster)
        ]
        for gateway in state.cluster.gateways:
            resources = state.resources(gateway.name)
            if resources is None:
                continue
            for name in outbound_names(resources):
                port = self._gateway_port(gateway, name)
                scheme = "https" if _speaks_tls(resources, name) else "http"
                found.append(Address(f"gateway {gateway.name}, port {_number(name)}", f"{scheme}://{HOST}:{port}/"))
        return found

    def service_rules(self, cluster: Cluster) -> tuple[tuple[str, str | int], ...]:
        """Return where a pod without a sidecar finds each Service: `webserver:80`, and a port on loopback."""
        public = self._public_ports(cluster)
        return tuple(
            (f"{name}:{entrance.port}", self._port_of(entrance, public))
            for service, entrance in node.service_entrances(cluster)
            for name in service.short_names
        )

    def _envoys(self) -> list[Sidecar]:
        return [self._node, *self._gateways.values()]

    def _envoy(self, name: str) -> Sidecar:
        folder = self._guard.folder / f"outside-{next(self._numbers)}"
        return Sidecar(name, folder, self._guard.group, self._say)

    def _start_gateways(self, state: State, where: Where) -> list[Sidecar]:
        """Start those that do not run, without waiting, and return them; they do not listen yet."""
        started = []
        for gateway in state.cluster.gateways:
            if gateway.name not in self._gateways and state.resources(gateway.name):
                sidecar = self._envoy(gateway.name)
                sidecar.start(self._gateway_local(gateway, state, sidecar), where, listening=False)
                self._gateways[gateway.name] = sidecar
                started.append(sidecar)
        return started

    def _public_ports(self, cluster: Cluster) -> list[tuple[node.Entrance, int]]:
        """Return the ports of what is called from outside: --port for the first, the others count on from there."""
        base = self._ports.get("front")
        found = node.public_entrances(cluster)
        return [
            (entrance, self._ports.wish(("front", entrance.key), base + offset) if offset else base)
            for offset, entrance in enumerate(found)
        ]

    def _port_of(self, entrance: node.Entrance, public: Sequence[tuple[node.Entrance, int]]) -> int:
        ports = {each.key: port for each, port in public}
        return ports[entrance.key] if entrance.key in ports else self._ports.get(("node", entrance.key))

    def _node_local(self, cluster: Cluster, sidecar: Sidecar) -> Local:
        public = self._public_ports(cluster)
        forwarded = entrances(cluster)
        outbound = {entrance.key: self._port_of(entrance, public) for entrance in forwarded}
        return Local(node.resources_of(forwarded), Ports(outbound=outbound), sidecar.folder, None)

    def _gateway_local(self, gateway: Gateway, state: State, sidecar: Sidecar) -> Local:
        resources = state.configuration.resources[gateway.name]
        outbound = {name: self._gateway_port(gateway, name) for name in outbound_names(resources)}
        secrets = self._reader.secrets(gateway, resources, state.cluster)
        return Local(resources, Ports(outbound=outbound), sidecar.folder, secrets)

    def _gateway_port(self, gateway: Gateway, listener: str) -> int:
        """Return the port of a gateway's listener: its own number, or 8080 for port 80 and so on."""
        number = _number(listener)
        wanted = number if number >= _PRIVILEGED else _SHIFT + number
        return self._ports.wish(("gateway", gateway.name, listener), wanted)


def _speaks_tls(resources: Resources, listener: str) -> bool:
    """Return whether a listener ends TLS, or passes it on by the server's name."""
    chains = next(each for each in resources.listeners if each["name"] == listener).get("filter_chains", [])
    return any("transport_socket" in chain or "server_names" in chain.get("filter_chain_match", {}) for chain in chains)


def _number(listener: str) -> int:
    """Return the port in the name of a listener, such as 0.0.0.0_80."""
    return int(listener.rpartition("_")[2])
