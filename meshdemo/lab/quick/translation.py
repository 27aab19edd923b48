"""From a cluster to what each of its Envoys gets: the parts of the quick engine put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from meshdemo.lab.cluster.model import Cluster, Gateway
from meshdemo.lab.cluster.pods import Pod, matches
from meshdemo.lab.engine import Configuration, NotInForce, Resources
from meshdemo.lab.files.errors import ManifestError, collecting
from meshdemo.lab.files.kinds import GATEWAY_API, ISTIO, NAMESPACE, SECURITY, TELEMETRY
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.files.schema import refuse_empty
from meshdemo.lab.quick.envoy.clusters import BLACK_HOLE, PASSTHROUGH, clusters
from meshdemo.lab.quick.envoy.listeners import listener
from meshdemo.lab.quick.envoy.routes import route_configuration
from meshdemo.lab.quick.precedence import find_not_in_force
from meshdemo.lab.quick.reading.destination_rule import read_destination_rule
from meshdemo.lab.quick.reading.gateways import Listener, read_listeners, read_servers
from meshdemo.lab.quick.reading.http_route import merge, read_http_route
from meshdemo.lab.quick.reading.service_entry import read_service_entry
from meshdemo.lab.quick.reading.virtual_service import read_virtual_service
from meshdemo.lab.quick.rules import routing
from meshdemo.lab.quick.rules.destinations import Host, HostPolicy
from meshdemo.lab.quick.rules.model import RuleSet, Server
from meshdemo.lab.quick.rules.refusing import ISTIOD, raise_all, refused
from meshdemo.lab.quick.rules.registry import (
    Registry,
    check_policy,
    gateway_services,
    service_hosts,
    unsupported_parts,
)
from meshdemo.lab.quick.rules.routing import Caller

Result = TypeVar("Result")

# Kinds that say who may call whom, what is encrypted and what is told of it: where calls go is the same without them.
_NOTED = {
    (SECURITY, "PeerAuthentication"),
    (SECURITY, "AuthorizationPolicy"),
    (SECURITY, "RequestAuthentication"),
    (TELEMETRY, "Telemetry"),
}
# Labels by which Istio prefers pods near the caller, or takes them for those of another network.
_LABELS_REFUSED = {
    "istio-locality",
    "topology.istio.io/locality",
    "topology.istio.io/network",
    "topology.istio.io/cluster",
    "topology.istio.io/subzone",
}
_READ = {(ISTIO, kind) for kind in ("VirtualService", "DestinationRule", "ServiceEntry", "Gateway")} | {
    (GATEWAY_API, kind) for kind in ("HTTPRoute", "Gateway")
}


#: What this engine is called.
name = "quick"


def configure(cluster: Cluster) -> Configuration:
    """Return the configuration of every pod that calls others, and of every gateway.

    Raise ManifestError for what Istio refuses, and for what is not applied exactly here.
    """
    errors: list[ManifestError] = list(unsupported_parts(cluster))
    notes: list[str] = []
    advice: list[str] = []
    not_in_force: list[NotInForce] = []
    places = {manifest.id: manifest.place for manifest in cluster.policies}
    for each in find_not_in_force(cluster):
        advice.append(f"{places[each.policy]}: {f'{each.part}: ' if each.part else ''}not in force: {each.reason}")
    for manifest in cluster.policies:
        kind = (manifest.group, manifest.kind)
        if kind in _NOTED:
            with collecting(errors):
                refuse_empty(manifest.document.get("spec"), f"{manifest.place}: spec", manifest.kind)
            notes.append(f"{manifest.place}: not applied by the quick engine: {ISTIOD}")
            not_in_force.append(NotInForce(manifest.id, "", "only --istiod applies it", needs_istiod=True))
        elif kind not in _READ:
            errors.append(refused(manifest.place))
    for workload in cluster.workloads:
        for name, _ in workload.template.labels:
            if name in _LABELS_REFUSED:
                errors.append(refused(f"{workload.place}: spec.template.metadata.labels.{name}"))
    entries = _read_each(cluster, ISTIO, "ServiceEntry", lambda each: list(read_service_entry(each)), errors)
    policies = _read_each(cluster, ISTIO, "DestinationRule", read_destination_rule, errors)
    istio = _read_each(cluster, ISTIO, "Gateway", read_servers, errors)
    read_listeners_of = _read_each(cluster, GATEWAY_API, "Gateway", lambda each: list(read_listeners(each)), errors)
    virtual_services = _read_each(cluster, ISTIO, "VirtualService", read_virtual_service, errors)
    raise_all(errors)
    listeners = [listener for each in read_listeners_of for listener in each]
    registry = _registry(cluster, entries, policies)
    rule_sets = _rule_sets(cluster, registry, virtual_services, listeners, advice, not_in_force)
    callers = [pod for pod in cluster.pods if pod.in_mesh and cluster.calls(pod)]
    resources = {pod.name: _sidecar(pod, registry, rule_sets) for pod in callers}
    for gateway in cluster.gateways:
        # Any pod with the right labels takes what Istio's Gateways say, only its own what the Gateway API's do.
        chosen = [servers for labels, servers in istio if matches(gateway.labels, labels)]
        own = {manifest.name for manifest in gateway.manifests if manifest.group == GATEWAY_API}
        chosen += [[listener.server for listener in listeners if listener.gateway in own]]
        resources[gateway.name] = _gateway(gateway, [each for part in chosen for each in part], registry, rule_sets)
    return Configuration(resources, tuple(notes), tuple(advice), tuple(not_in_force))


def _of_kind(cluster: Cluster, group: str, kind: str) -> list[Manifest]:
    """Return the objects of a kind in the order in which they count, that of their names."""
    found = (manifest for manifest in cluster.policies if (manifest.group, manifest.kind) == (group, kind))
    return sorted(found, key=lambda manifest: manifest.name)


def _read_each(
    cluster: Cluster, group: str, kind: str, reader: Callable[[Manifest], Result], errors: list[ManifestError]
) -> list[Result]:
    """Return what the objects of a kind say, in the order in which they count; what is wrong is added to `errors`."""
    found = []
    for manifest in _of_kind(cluster, group, kind):
        with collecting(errors):
            found.append(reader(manifest))
    return found


def _registry(cluster: Cluster, entries: Sequence[Sequence[Host]], policies: Sequence[HostPolicy]) -> Registry:
    """Return all hosts and the policies for them; `entries` are the hosts of each ServiceEntry."""
    hosts = {host.name: host for host in (*service_hosts(cluster), *gateway_services(cluster))}
    manifests = _of_kind(cluster, ISTIO, "ServiceEntry")
    more = [(host, manifest) for manifest, of_it in zip(manifests, entries, strict=True) for host in of_it]
    errors: list[ManifestError] = []
    # The first by name has an address that several name (push_context.go, SortServicesByCreationTime).
    for host, manifest in sorted(more, key=lambda entry: entry[0].name):
        if host.name in hosts:
            problem = f"{host.name} is a host of another object as well"
            errors.append(refused(f"{manifest.place}: spec.hosts", problem))
        hosts.setdefault(host.name, host)
    registry = Registry(hosts, tuple(policies), bool(cluster.services))
    for policy in policies:
        with collecting(errors):
            check_policy(policy, registry)
    raise_all(errors)
    return registry


def _rule_sets(
    cluster: Cluster,
    registry: Registry,
    virtual_services: Sequence[RuleSet],
    listeners: Sequence[Listener],
    advice: list[str],
    not_in_force: list[NotInForce],
) -> list[RuleSet]:
    """Return all rules, in the order in which they count, after a look at every host and destination."""
    errors: list[ManifestError] = []
    istio_gateways = {f"{NAMESPACE}/{manifest.name}" for manifest in _of_kind(cluster, ISTIO, "Gateway")}
    for rule_set in virtual_services:
        with collecting(errors):
            routing.check_hosts(rule_set, registry, istio_gateways)
    services = {service.host: [port.number for port in service.ports] for service in cluster.services}
    attachments = []
    for manifest in _of_kind(cluster, GATEWAY_API, "HTTPRoute"):
        with collecting(errors):
            attached, of_route = read_http_route(manifest, listeners, services)
            attachments += attached
            advice += of_route
            if not attached:
                not_in_force.append(NotInForce(manifest.id, "", "no Service or Gateway takes it"))
    rule_sets = routing.ordered([*virtual_services, *merge(attachments)])
    for destination in routing.destinations_of(rule_sets):
        with collecting(errors):
            registry.check(destination)
    raise_all(errors)
    return rule_sets


def _sidecar(pod: Pod, registry: Registry, rule_sets: Sequence[RuleSet]) -> Resources:
    registry = registry.seen_from(pod.namespace)
    caller = Caller(pod.namespace, pod.labels)
    found, assignments = clusters(registry, at_gateway=False)
    ports = registry.ports()
    return Resources(
        listeners=[listener(port, str(port), is_gateway=False) for port in ports],
        routes=[
            route_configuration(
                str(port), routing.sidecar_hosts(registry, rule_sets, caller, port), registry, allow_any=True
            )
            for port in ports
        ],
        clusters=[*found, BLACK_HOLE, PASSTHROUGH],
        endpoints=assignments,
    )


def _gateway(
    gateway: Gateway, servers: Sequence[Server], registry: Registry, rule_sets: Sequence[RuleSet]
) -> Resources:
    registry = registry.seen_from(gateway.namespace)
    caller = Caller(gateway.namespace, gateway.labels)
    visible = [rule_set for rule_set in rule_sets if gateway.namespace == NAMESPACE or not rule_set.is_private]
    found, assignments = clusters(registry, at_gateway=True)
    ports = sorted({server.port for server in servers})
    return Resources(
        listeners=[listener(port, f"http.{port}", is_gateway=True) for port in ports],
        routes=[
            route_configuration(
                f"http.{port}",
                routing.gateway_hosts([each for each in servers if each.port == port], visible, caller, port),
                registry,
                allow_any=False,
            )
            for port in ports
        ],
        clusters=[*found, BLACK_HOLE],
        endpoints=assignments,
    )
