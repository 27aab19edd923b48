"""Clusters that lead where a caller's connection was going (ORIGINAL_DST), for an Envoy that cannot see where that is.

A caller in a cluster looks a host up and connects to the address it finds; its sidecar goes on to that address. Here
callers connect to the sidecar, which looks up itself what they ask for: the host of a request, the server name of TLS,
or the one host that a TCP port is for. What Kubernetes would tell of a Service is known without looking it up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.engine import Resource, Resources

#: The cluster that leads to whatever address a caller chose; only sidecars have it.
PASSTHROUGH = "PassthroughCluster"
_BLACK_HOLE = "BlackHoleCluster"
_OWN = ("inbound|", "InboundPassthroughCluster")
_EXTENSIONS = "type.googleapis.com/envoy.extensions."
_LOOKUP_FAMILY = "V4_PREFERRED"
_DNS_CACHE: Resource = {"dns_cache_config": {"name": "outside", "dns_lookup_family": _LOOKUP_FAMILY}}
_TLS_INSPECTOR: Resource = {
    "name": "envoy.filters.listener.tls_inspector",
    "typed_config": {"@type": _EXTENSIONS + "filters.listener.tls_inspector.v3.TlsInspector"},
}
_LOOK_UP_HOST: Resource = {
    "name": "envoy.filters.http.dynamic_forward_proxy",
    "typed_config": {
        "@type": _EXTENSIONS + "filters.http.dynamic_forward_proxy.v3.FilterConfig",
        **_DNS_CACHE,
        "allow_dynamic_host_from_filter_state": True,
    },
}
_ANY_ADDRESS = "0.0.0.0"
# What stands between the name of such a cluster and where its copy leads.
_TO = " to "

#: Addresses with their ports.
Addresses = Sequence[tuple[str, int]]
#: What names of Services, each with a port, resolve to in a cluster.
Names = Mapping[tuple[str, int], Addresses]


def service_names(cluster: Cluster, namespace: str) -> Names:
    """Return what names and addresses of Services resolve to in a namespace.

    That is a Service's address. A headless one has its pods, which have names of their own, at the port that is called.
    """
    found: dict[tuple[str, int], Addresses] = {}
    for service in cluster.services:
        names = service.names_from(namespace)
        for port in (each.number for each in service.ports):
            pods = cluster.selected(service) if service.is_headless else []
            addresses = [(pod.address, port) for pod in pods] or [(service.address, port)] * bool(service.address)
            for name in (*names, service.address) if addresses else ():
                found[name, port] = addresses
            for pod in pods:
                for name in (pod.address, *(f"{pod.hostname}.{name}" for name in names)):
                    found[name, port] = [(pod.address, port)]
    return found


def name_of_original(cluster: str) -> str:
    """Return the engine's name of a cluster that calls left by."""
    return cluster.partition(_TO)[0]


def leads_on(cluster: Resource) -> bool:
    """Return whether a cluster leads from a sidecar to where a connection was going."""
    return cluster.get("type") == "ORIGINAL_DST" and not str(cluster["name"]).startswith(_OWN)


def needs_services(resources: Resources) -> bool:
    """Return whether calls may go to the address of a Service, which is nobody's endpoint."""
    return any(leads_on(each) and each["name"] != PASSTHROUGH for each in resources.clusters)


def tcp_host(listener: Resource, resources: Resources) -> str | None:
    """Return the one host that a TCP listener's connections can be for, empty if it can be any; else None.

    These are listeners where nothing of what is sent says which host is meant.
    """
    clusters = {each["name"] for each in resources.clusters if leads_on(each)} - {PASSTHROUGH}
    chains = listener.get("filter_chains", ())
    if len(chains) != 1 or chains[0].get("filter_chain_match") or _inspects_tls(listener):
        return None
    target = chains[0]["filters"][-1].get("typed_config", {}).get("cluster")
    if target not in clusters:
        return None
    address = str(listener["address"]["socket_address"]["address"])
    host = target.rpartition("|")[2] if address == _ANY_ADDRESS else address
    return "" if "*" in host else host


class OriginalDestinations:
    """The resources of one pod or gateway, with that replaced which needs to know where a connection was going.

    A gateway's clusters of this kind lead nowhere in a cluster either: its callers connect to the gateway itself.
    """

    def __init__(self, resources: Resources, names: Names) -> None:
        self._resources = resources
        self._names = names
        is_sidecar = any(each["name"] == PASSTHROUGH for each in resources.clusters)
        self._originals = {each["name"]: each for each in resources.clusters if is_sidecar and leads_on(each)}
        #: Clusters for what is known without looking it up, by name, and the endpoints of those that have addresses.
        self.clusters: dict[str, Resource] = {}
        self.endpoints: dict[str, Resource] = {}

    def cluster(self, cluster: Resource) -> Resource:
        """Return a cluster; one that leads on as one that looks hosts up."""
        return _looking_up(cluster) if cluster["name"] in self._originals else cluster

    def listener(self, listener: Resource) -> Resource:
        """Return an outbound listener that finds out where a connection is to go."""
        if not self._originals:
            return listener
        at = listener["address"]["socket_address"]
        port = at["port_value"]
        target = self._names.get((at["address"], port)) or tcp_host(listener, self._resources)
        forwards_by_name = False

        def adapt(value: Any) -> Any:
            nonlocal forwards_by_name
            if isinstance(value, list):
                return [new for each in value for new in self._with_lookup(adapt(each), port)]
            if not isinstance(value, dict):
                return value
            value = {key: adapt(inner) for key, inner in value.items()}
            if str(value.get("@type", "")).endswith(".TcpProxy"):
                value = self._retargeted(value, target, port) if target else value
                forwards_by_name |= any(name in self._originals for name in _clusters_of(value))
            return value

        adapted: Resource = adapt(listener)
        if forwards_by_name and not _inspects_tls(listener):
            adapted["listener_filters"] = [_TLS_INSPECTOR, *listener.get("listener_filters", ())]
        return adapted

    def routes(self, routes: Resource) -> Resource:
        """Return a RouteConfiguration in which calls of Services go to their addresses."""
        port = routes["name"].rpartition(":")[2]
        if not self._originals or not port.isdecimal():
            return routes
        given = routes.get("virtual_hosts", ())
        known = {domain for each in given for domain in each["domains"]}
        hosts = [host for each in given for host in self._virtual_hosts(each, int(port), known)]
        return {**routes, "virtual_hosts": hosts}

    def _virtual_hosts(self, host: Resource, port: int, known: Set[str]) -> Iterator[Resource]:
        """Yield a virtual host, after one for each Service or pod of a headless one that its wildcards stand for."""
        suffixes = tuple(domain[1:] for domain in host["domains"] if domain.startswith("*"))
        leads_on = any(name in self._originals for each in host.get("routes", ()) for name in _clusters_of_route(each))
        targets = {name: to for (name, number), to in self._names.items() if number == port and name.endswith(suffixes)}
        for target in dict.fromkeys(map(tuple, targets.values())) if suffixes and leads_on else ():
            own = (name for name, to in targets.items() if tuple(to) == target and name not in known)
            domains = [name for name in own if _wildcard_of(name, known) in host["domains"]]
            if domains:
                yield self._virtual_host({**host, "name": f"{host['name']} {domains[0]}", "domains": domains}, port)
        yield self._virtual_host(host, port)

    def _virtual_host(self, host: Resource, port: int) -> Resource:
        known = [self._names[domain, port] for domain in host["domains"] if (domain, port) in self._names]
        routes = []
        for route in host.get("routes", ()):
            action = route.get("route")
            if action and known:
                action = self._retargeted(action, known[0], port)
            if action and "request_mirror_policies" in action:
                # A copy of a call belongs to no connection, so that in a cluster it goes nowhere.
                mirrors = [
                    {**each, "cluster": _BLACK_HOLE} if each.get("cluster") in self._originals else each
                    for each in action["request_mirror_policies"]
                ]
                action = {**action, "request_mirror_policies": mirrors}
            routes.append({**route, "route": action} if action else route)
        return {**host, "routes": routes} if routes else host

    def _retargeted(self, action: Resource, target: Addresses | str, port: int) -> Resource:
        """Return the action of a route, or a TCP proxy, with clusters for a target in place of those that lead on."""

        def copy_of(name: str) -> str:
            return self._cluster_for(name, target, port) if name in self._originals else name

        action = dict(action)
        if "cluster" in action:
            action["cluster"] = copy_of(action["cluster"])
        if "weighted_clusters" in action:
            parts = [{**each, "name": copy_of(each["name"])} for each in action["weighted_clusters"]["clusters"]]
            action["weighted_clusters"] = {**action["weighted_clusters"], "clusters": parts}
        return action

    def _cluster_for(self, name: str, target: Addresses | str, port: int) -> str:
        """Return the name of a cluster that is like another one, and leads to a host or to one of some addresses."""
        addresses = [(target, port)] if isinstance(target, str) else target
        copy = f"{name}{_TO}{','.join(f'{address}:{number}' for address, number in addresses)}"
        assignment = {
            "cluster_name": copy,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": number}}}}
                        for address, number in addresses
                    ]
                }
            ],
        }
        cluster = {**self._originals[name], "name": copy, "lb_policy": "RANDOM"}
        if isinstance(target, str):
            cluster |= {"type": "LOGICAL_DNS", "dns_lookup_family": _LOOKUP_FAMILY, "load_assignment": assignment}
        else:
            cluster |= {"type": "EDS", "eds_cluster_config": {"service_name": copy}}
            self.endpoints[copy] = assignment
        self.clusters[copy] = cluster
        return copy

    def _with_lookup(self, part: Any, port: int) -> list[Any]:
        """Return a part of a listener, a filter maybe, with the filters before it that look up what it forwards to."""
        config = part.get("typed_config", {}) if isinstance(part, dict) else {}
        kind = config.get("@type", "") if isinstance(config, dict) else ""
        if kind.endswith(".http.router.v3.Router"):
            return [_remember_host(port), _LOOK_UP_HOST, part]
        if kind.endswith(".TcpProxy") and any(name in self._originals for name in _clusters_of(config)):
            lookup = {"@type": _EXTENSIONS + "filters.network.sni_dynamic_forward_proxy.v3.FilterConfig", **_DNS_CACHE}
            config = {**lookup, "port_value": port}
            return [{"name": "envoy.filters.network.sni_dynamic_forward_proxy", "typed_config": config}, part]
        return [part]


def _looking_up(cluster: Resource) -> Resource:
    config = {
        "@type": _EXTENSIONS + "clusters.dynamic_forward_proxy.v3.ClusterConfig",
        **_DNS_CACHE,
        # Plain text and TLS that the caller itself speaks go on as they are.
        "allow_insecure_cluster_options": True,
    }
    rest = {key: value for key, value in cluster.items() if key != "type"}
    kind = {"name": "envoy.clusters.dynamic_forward_proxy", "typed_config": config}
    return {**rest, "lb_policy": "CLUSTER_PROVIDED", "cluster_type": kind}


def _remember_host(port: int) -> Resource:
    """Return a filter that keeps the host a caller asks for, which a route may rewrite, and the listener's port."""
    values = {"envoy.upstream.dynamic_host": "%REQ(:AUTHORITY)%", "envoy.upstream.dynamic_port": str(port)}
    kept = [
        {"object_key": key, "format_string": {"text_format_source": {"inline_string": value}}}
        for key, value in values.items()
    ]
    kind = _EXTENSIONS + "filters.http.set_filter_state.v3.Config"
    return {"name": "envoy.filters.http.set_filter_state", "typed_config": {"@type": kind, "on_request_headers": kept}}


def _inspects_tls(listener: Resource) -> bool:
    return any(each["name"] == _TLS_INSPECTOR["name"] for each in listener.get("listener_filters", ()))


def _wildcard_of(name: str, domains: Set[str]) -> str:
    """Return the wildcard that stands for a name, of several the longest."""
    return max((each for each in domains if each[:1] == "*" and name.endswith(each[1:])), key=len, default="")


def _clusters_of_route(route: Resource) -> list[str]:
    return _clusters_of(route.get("route", {}))


def _clusters_of(action: Resource) -> list[str]:
    parts = action.get("weighted_clusters", {}).get("clusters", ())
    return [*([action["cluster"]] if "cluster" in action else []), *(each["name"] for each in parts)]
