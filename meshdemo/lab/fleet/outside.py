"""What listens for calls from outside: the node, with the ports of Services, and the gateways."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from meshdemo.lab.cluster.model import Cluster, Gateway
from meshdemo.lab.edits.state import Reader, State, entrances
from meshdemo.lab.engine import Resources
from meshdemo.lab.envoy import node
from meshdemo.lab.envoy.endpoints import HOST, Where
from meshdemo.lab.envoy.loopback import Local, Ports
from meshdemo.lab.envoy.outbound import outbound_names
from meshdemo.lab.envoy.server_names import hosts_of, takes
from meshdemo.lab.envoy.sidecar import Sidecar
from meshdemo.lab.envoy.xds.control_plane import ControlPlane
from meshdemo.lab.pods.guard import Guard
from meshdemo.lab.pods.pod import sidecar_name
from meshdemo.lab.pods.ports import PortBook
from meshdemo.lab.pods.replica import Log, Say
from meshdemo.serving import server

# What is added to a port that only root may listen on.
_PRIVILEGED = 1024
_SHIFT = 8000


@dataclass(frozen=True)
class Address:
    """Something that can be called from outside: what it is, its URL, and the port in it.

    `gateway_port` is the number that a gateway's port has in its object, None for all else.
    """

    name: str
    url: str
    port: int
    gateway_port: int | None = None


@dataclass(frozen=True)
class GatewayPort:
    """A port of a gateway: its number in the cluster, the port on this machine, and the hosts that it is for."""

    gateway: str
    number: int
    port: int
    scheme: str
    hosts: tuple[str, ...]


def find_gateway_port(ports: Sequence[GatewayPort], host: str, number: int) -> GatewayPort | None:
    """Return where a host is called from outside at a port, by its number in the cluster or on this machine.

    A gateway that has the host comes first; None where no gateway has the port.
    """
    found = [each for each in ports if number in (each.number, each.port)]
    fitting = [(each, takes(each.hosts, host)) for each in found]
    own = [(pattern.startswith("*"), -len(pattern), index) for index, (_, pattern) in enumerate(fitting) if pattern]
    return fitting[min(own)[-1]][0] if own else next(iter(found), None)


class Outside:
    """The Envoys of the node and of the gateways. They belong to the lab, whatever becomes of the pods.

    `request_log` takes what the gateways write of requests, of each one with `access_log`.
    """

    def __init__(
        self,
        guard: Guard,
        plane: ControlPlane,
        ports: PortBook,
        reader: Reader,
        say: Say,
        request_log: Log,
        *,
        access_log: bool,
    ) -> None:
        self._guard = guard
        self._plane = plane
        self._ports = ports
        self._reader = reader
        self._say = say
        self._request_log = request_log
        self._access_log = access_log
        self._numbers = itertools.count()
        self.node = self._envoy("node")
        self._gateways: dict[str, Sidecar] = {}
        self._service_ports: dict[tuple[str, int], int] = {}

    def start(self, state: State, where: Where) -> None:
        """Start everything, without waiting; nothing listens before the first change."""
        self.node.start(self._node_local(state), where, listening=False)
        self._start_gateways(state, where)

    def prepare(self, state: State, where: Where) -> dict[Sidecar, Local]:
        """Start what a state needs, and return what each Envoy is to have; raise EnvoyError for what does not start."""
        self._start_gateways(state, where)
        for sidecar in self._gateways.values():
            sidecar.wait_until_ready()
        wanted = {self._gateways[each.name]: self._gateway_local(each, state) for each in self._wanted(state)}
        return {self.node: self._node_local(state), **wanted}

    def keep(self, state: State) -> None:
        """End the gateways that a state does not have."""
        names = {gateway.name for gateway in self._wanted(state)}
        for name in [name for name in self._gateways if name not in names]:
            self._gateways.pop(name).stop()

    def check_ports(self, state: State) -> None:
        """Raise StartError for a port to be called at that somebody else has."""
        for address in self.addresses(state):
            for listening in server.bind(HOST, urlsplit(address.url).port or 0):
                listening.close()

    @property
    def envoys(self) -> list[Sidecar]:
        """Return all of them."""
        return [self.node, *self._gateways.values()]

    def look_after(self) -> None:
        """Start again what has ended."""
        for envoy in self.envoys:
            envoy.look_after()

    def check(self) -> None:
        """Raise EnvoyError when one of them has ended."""
        for envoy in self.envoys:
            envoy.check()

    def stop(self) -> None:
        """End all of them at once."""
        for envoy in self.envoys:
            envoy.stop()

    @property
    def is_ready(self) -> bool:
        """Return whether all of them run."""
        return all(envoy.is_ready for envoy in self.envoys)

    def where(self, address: str, port: int) -> int | None:
        """Return where the address of a Service takes calls, as far as anybody calls it so (see loopback.Where)."""
        return self._service_ports.get((address, port))

    def addresses(self, state: State) -> list[Address]:
        """Return what can be called from outside, what leads to the whole application first."""
        found = [
            Address(entrance.name, _url(entrance.scheme, port), port)
            for entrance, port in self.public_ports(state.cluster)
        ]
        for each in self.gateway_ports(state):
            label = f"gateway {each.gateway}, port {each.number}"
            found.append(Address(label, _url(each.scheme, each.port), each.port, each.number))
        return found

    def gateway_ports(self, state: State) -> list[GatewayPort]:
        """Return the ports of gateways."""
        found = []
        for gateway in self._wanted(state):
            resources = state.configuration.resources[gateway.name]
            for name in outbound_names(resources):
                listener = next(each for each in resources.listeners if each["name"] == name)
                port, scheme = self._gateway_port(gateway, name), _scheme(resources, name)
                hosts = hosts_of(listener, resources)
                found.append(GatewayPort(gateway.name, _number(name), port, scheme, hosts))
        return found

    def service_rules(self, cluster: Cluster, namespace: str) -> tuple[tuple[str, str | int], ...]:
        """Return where a pod of a namespace, without a sidecar, finds Services: `webserver:80`, a port on loopback."""
        public = self.public_ports(cluster)
        return tuple(
            (f"{name}:{entrance.port}", self._port_of(entrance, public))
            for service, entrance in node.service_entrances(cluster)
            for name in service.names_from(namespace)
        )

    def _envoy(self, name: str) -> Sidecar:
        folder = self._guard.folder / f"outside-{next(self._numbers)}"
        log = functools.partial(self._request_log, sidecar_name(name))
        return Sidecar(name, folder, self._guard.group, self._say, self._plane, log)

    def _wanted(self, state: State) -> list[Gateway]:
        return [gateway for gateway in state.cluster.gateways if state.resources(gateway.name)]

    def _start_gateways(self, state: State, where: Where) -> None:
        """Start those that do not run, without waiting; they do not listen yet."""
        for gateway in self._wanted(state):
            if gateway.name not in self._gateways:
                self._gateways[gateway.name] = self._envoy(gateway.name)
                self._gateways[gateway.name].start(self._gateway_local(gateway, state), where, listening=False)

    def public_ports(self, cluster: Cluster) -> list[tuple[node.Entrance, int]]:
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

    def _node_local(self, state: State) -> Local:
        public = self.public_ports(state.cluster)
        forwarded = entrances(state)
        outbound = {entrance.key: self._port_of(entrance, public) for entrance in forwarded}
        self._service_ports = {
            (service.address, entrance.port): outbound[entrance.key]
            for service, entrance in node.service_entrances(state.cluster)
            if entrance.key in outbound
        }
        return Local(node.resources_of(forwarded), Ports(outbound=outbound), None)

    def _gateway_local(self, gateway: Gateway, state: State) -> Local:
        resources = state.configuration.resources[gateway.name]
        outbound = {name: self._gateway_port(gateway, name) for name in outbound_names(resources)}
        secrets = self._reader.secrets(gateway, resources, state.cluster)
        return Local(resources, Ports(outbound=outbound), secrets, text_log=self._access_log)

    def _gateway_port(self, gateway: Gateway, listener: str) -> int:
        """Return the port of a gateway's listener: its own number, or 8080 for port 80 and so on."""
        number = _number(listener)
        wanted = number if number >= _PRIVILEGED else _SHIFT + number
        return self._ports.wish(("gateway", gateway.name, listener), wanted)


def _scheme(resources: Resources, listener: str) -> str:
    """Return how a listener is called: by https where it ends TLS or passes it on, else by what it forwards."""
    chains = next(each for each in resources.listeners if each["name"] == listener).get("filter_chains", [])
    if any("transport_socket" in chain or "server_names" in chain.get("filter_chain_match", {}) for chain in chains):
        return "https"
    kinds = {each.get("typed_config", {}).get("@type", "") for chain in chains for each in chain.get("filters", ())}
    return "tcp" if any(kind.endswith(".TcpProxy") for kind in kinds) else "http"


def _url(scheme: str, port: int) -> str:
    return f"{scheme}://{HOST}:{port}{'' if scheme == 'tcp' else '/'}"


def _number(listener: str) -> int:
    """Return the port in the name of a listener, such as 0.0.0.0_80."""
    return int(listener.rpartition("_")[2])
