"""Envoy configuration with the addresses of a cluster, changed so that it works on one machine's loopback.

In a cluster a pod has an address of its own, and the kernel leads its connections through the sidecar. Here every
listener has a port of its own on 127.0.0.1, and a caller is told where to connect instead (`--connect-to`). Nothing
else about a configuration is changed; it comes from an engine, and this does not know which.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshdemo.lab.engine import Resource, Resources
from meshdemo.lab.envoy.endpoints import (
    Where,
    address,
    endpoint_name,
    endpoints_in,
    is_of_service,
    moved,
    numbered,
    port_of,
)
from meshdemo.lab.envoy.original import Names, OriginalDestinations, leads_on
from meshdemo.lab.envoy.outbound import CATCH_ALL, INBOUND, inbound_only, is_inbound
from meshdemo.lab.envoy.permissions import with_port
from meshdemo.lab.envoy.standalone import Secrets, adapt, secret, secret_names, with_protocols
from meshdemo.lab.envoy.xds.access_log import matched_headers, with_access_log, with_text_log
from meshdemo.lab.envoy.xds.control_plane import ADS
from meshdemo.lab.envoy.xds.messages import Snapshot, pack

# The port at which the kernel hands inbound connections to a sidecar: chains for it refuse loops.
_INBOUND_PORT = 15006

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_HTTP_PROTOCOL = f"type.googleapis.com/{_HTTP_OPTIONS}"
_HTTP1: Resource = {"explicit_http_config": {"http_protocol_options": {}}}


@dataclass(frozen=True)
class Ports:
    """The ports on loopback of one pod or gateway.

    `apps` and `inbound` are by container port: where the program itself listens, and its sidecar for it. `outbound`
    are by the name of the listener. At ports of `http1` a stand-in speaks HTTP/1.1, whatever they are for.
    """

    apps: Mapping[int, int] = field(default_factory=dict)
    inbound: Mapping[int, int] = field(default_factory=dict)
    outbound: Mapping[str, int] = field(default_factory=dict)
    http1: frozenset[int] = frozenset()


def _bound_to(port: int) -> Resource:
    """Return the parts of a listener at a port that nobody else may have; Envoy would share it with its own kind."""
    return {"address": address(port), "enable_reuse_port": False}


class Local:
    """The resources of one pod or gateway as its Envoy here gets them.

    `service_names` are those of Services, where calls may go to their addresses. With `text_log` each request and
    connection becomes a line of its output.
    """

    def __init__(
        self,
        resources: Resources,
        ports: Ports,
        secrets: Secrets | None,
        *,
        service_names: Names | None = None,
        text_log: bool = False,
    ) -> None:
        self._ports = ports
        self._resources = resources = resources if ports.outbound else inbound_only(resources)
        self._originals = OriginalDestinations(resources, service_names or {})
        headers = sorted(set(matched_headers(resources.routes)))
        listeners = [adapt(local) for each in resources.listeners for local in self._listeners(each)]
        listeners = with_text_log(listeners) if text_log else listeners
        # What comes to a pod goes to its program: the log of the request tells all that one of its try would.
        self.listeners = [
            with_access_log(each, tries=False) if is_inbound(each) else with_access_log(each, headers, tries=True)
            for each in listeners
        ]
        # A pod that is being replaced has no port for a listener that is new: nobody asks for that one's routes.
        names = set(_route_names(self.listeners))
        self.routes = [adapt(self._originals.routes(each)) for each in resources.routes if each["name"] in names]
        clusters = [*resources.clusters, *self._originals.clusters.values()]
        self.clusters = [adapt(with_protocols(local)) for each in clusters for local in self._clusters(each)]
        asked = set(secret_names([*self.listeners, *self.clusters]))
        self.secrets = [secret(*each, secrets) for each in sorted(asked)] if secrets else []

    def snapshot(
        self, where: Where, *, listening: bool = True, generations: Mapping[str, int] | None = None
    ) -> Snapshot:
        """Return all of it; without `listening` it takes no calls. Raise MessageError for what Envoy does not know.

        `generations` are numbers of clusters: with another one Envoy calls over new connections, and lets those that
        exist end with their calls.
        """
        numbers = generations or {}
        of_clusters = {name for _, name in secret_names(self.clusters)}
        return {
            "clusters": pack("clusters", [numbered(each, numbers.get(each["name"], 0)) for each in self.clusters]),
            "endpoints": self.endpoints_snapshot(where),
            "secrets": pack("secrets", [each for each in self.secrets if listening or each["name"] in of_clusters]),
            "listeners": pack("listeners", self.listeners if listening else []),
            "routes": pack("routes", self.routes if listening else []),
        }

    def endpoints_snapshot(self, where: Where) -> Mapping[str, Any]:
        """Return who takes calls now."""
        return pack("endpoints", self.endpoints(where).values())

    def endpoints(self, where: Where) -> dict[str, Resource]:
        """Return the endpoints by the name of their cluster: those that take calls now."""
        assignments: dict[str, Resource] = {name: {"cluster_name": name} for name in self.endpoint_names()}
        for each in (*self._resources.endpoints, *self._originals.endpoints.values()):
            if each["cluster_name"] not in assignments:
                continue
            localities = [
                {**locality, "lb_endpoints": [e for e in (moved(e, where) for e in endpoints_in(locality)) if e]}
                for locality in each.get("endpoints", [])
            ]
            assignments[each["cluster_name"]] = {**each, "endpoints": localities}
        return assignments

    @property
    def inbound(self) -> list[Resource]:
        """Return the listeners for what comes to the pod."""
        return [listener for listener in self.listeners if is_inbound(listener)]

    def inbound_ports_unlike(self, other: Local) -> set[int]:
        """Return the ports on loopback at which another configuration takes in what comes to the pod otherwise."""
        mine, others = ({port_of(listener): listener for listener in each.inbound} for each in (self, other))
        return {port for port in mine | others if mine.get(port) != others.get(port)}

    def clusters_at(self, ports: Collection[int], where: Where) -> set[str]:
        """Return the names of the Services' clusters that lead to any of some ports on loopback."""
        found = self.endpoints(where)
        return {
            cluster["name"]
            for cluster in self.clusters
            if is_of_service(cluster)
            for locality in found[endpoint_name(cluster)].get("endpoints", ())
            if any(port_of(each["endpoint"]) in ports for each in endpoints_in(locality))
        }

    def ports(self) -> list[int]:
        """Return where its listeners are on loopback."""
        return sorted(map(port_of, self.listeners))

    def endpoint_names(self) -> list[str]:
        """Return the names of the endpoints that the clusters ask for."""
        return [endpoint_name(cluster) for cluster in self.clusters if cluster.get("type") == "EDS"]

    def _listeners(self, listener: Resource) -> list[Resource]:
        if is_inbound(listener):
            return [self._inbound(listener, port) for port in sorted(self._ports.inbound)]
        port = self._ports.outbound.get(listener["name"])
        if port is None:
            return []
        bound = {key: value for key, value in listener.items() if key not in ("bind_to_port", "use_original_dst")}
        if listener["name"] == CATCH_ALL:
            bound["filter_chains"] = [each for each in bound["filter_chains"] if "filter_chain_match" not in each]
        return [{**self._originals.listener(bound), **_bound_to(port)}]

    def _inbound(self, listener: Resource, port: int) -> Resource:
        """Return a listener for one container port: the chains that are for it, else those that are for any."""
        chains = [
            chain
            for chain in listener["filter_chains"]
            if (chain.get("filter_chain_match") or {}).get("destination_port") != _INBOUND_PORT
        ]
        own = [each for each in chains if (each.get("filter_chain_match") or {}).get("destination_port") == port]
        others = [each for each in chains if "destination_port" not in (each.get("filter_chain_match") or {})]
        kept = []
        for chain in own or others:
            match = {k: v for k, v in (chain.get("filter_chain_match") or {}).items() if k != "destination_port"}
            kept.append({**with_port(chain, port), "filter_chain_match": match})
        bound = {key: value for key, value in listener.items() if key != "use_original_dst"}
        text = json.dumps(kept).replace('"InboundPassthroughCluster"', f'"InboundPassthroughCluster|{port}"')
        return {
            **bound,
            "name": f"{INBOUND}_{port}",
            **_bound_to(self._ports.inbound[port]),
            "filter_chains": json.loads(text),
            "listener_filters": [
                {key: value for key, value in each.items() if key != "filter_disabled"}
                for each in listener.get("listener_filters", [])
                if not each["name"].endswith(".original_dst") and not _holds(each.get("filter_disabled"), port)
            ],
        }

    def _clusters(self, cluster: Resource) -> list[Resource]:
        kind = cluster.get("type")
        if kind == "EDS":
            config = {**cluster["eds_cluster_config"], "eds_config": ADS}
            return [{**cluster, "eds_cluster_config": config}]
        if kind == "ORIGINAL_DST" and not leads_on(cluster):
            return self._own(cluster)
        return [self._originals.cluster(cluster)]

    def _own(self, cluster: Resource) -> list[Resource]:
        """Return the clusters of a sidecar's own pod: in a cluster they lead where the connection was going."""
        name = cluster["name"]
        parts = name.split("|")
        http1 = {self._ports.apps[port] for port in self._ports.http1}
        if name == "InboundPassthroughCluster":
            targets = {f"{name}|{port}": app for port, app in self._ports.apps.items()}
        elif parts[0] == "inbound" and int(parts[1]) in self._ports.apps:
            targets = {name: self._ports.apps[int(parts[1])]}
        else:
            targets = {}
        dropped = ("type", "lb_policy", "cleanup_interval", "upstream_bind_config", "original_dst_lb_config")
        rest = {key: value for key, value in cluster.items() if key not in dropped}
        return [
            {
                **(_with_http1(rest) if app in http1 else rest),
                "name": target,
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": target,
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(app)}}]}],
                },
            }
            for target, app in targets.items()
        ]


def _with_http1(cluster: Resource) -> Resource:
    """Return a cluster that is called by HTTP/1.1."""
    options = cluster.get("typed_extension_protocol_options", {})
    protocol = {"@type": _HTTP_PROTOCOL, **options.get(_HTTP_OPTIONS, {}), **_HTTP1}
    others = ("auto_config", "use_downstream_protocol_config")
    protocol = {key: value for key, value in protocol.items() if key not in others}
    return {**cluster, "typed_extension_protocol_options": {**options, _HTTP_OPTIONS: protocol}}


def _route_names(value: Any) -> Iterator[str]:
    """Return the names of the routes that listeners take from elsewhere."""
    if isinstance(value, list):
        for inner in value:
            yield from _route_names(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key == "rds":
                yield inner["route_config_name"]
            else:
                yield from _route_names(inner)


def _holds(predicate: Resource | None, port: int) -> bool:
    """Return whether a listener filter's predicate holds for a port (ListenerFilterChainMatchPredicate)."""
    if not predicate:
        return False
    if "destination_port_range" in predicate:
        bounds = predicate["destination_port_range"]
        return bool(bounds["start"] <= port < bounds["end"])
    if "not_match" in predicate:
        return not _holds(predicate["not_match"], port)
    if "or_match" in predicate:
        return any(_holds(each, port) for each in predicate["or_match"]["rules"])
    if "and_match" in predicate:
        return all(_holds(each, port) for each in predicate["and_match"]["rules"])
    return bool(predicate.get("any_match"))
