"""All manifests together: what runs, where calls can go, and by which routes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshdemo.lab import http_route, virtual_service
from meshdemo.lab import manifests as files
from meshdemo.lab.destinations import Destinations, read_destinations
from meshdemo.lab.manifests import NAMESPACE, Fields, Manifest, ManifestError
from meshdemo.lab.topology import Service, Workload, read_services, read_workloads, short_name

ISTIO = "networking.istio.io"
GATEWAY_API = "gateway.networking.k8s.io"
_READ = {
    ("apps", "Deployment"),
    ("", "Service"),
    (ISTIO, "VirtualService"),
    (ISTIO, "DestinationRule"),
    (ISTIO, "ServiceEntry"),
    (ISTIO, "Gateway"),
    (GATEWAY_API, "Gateway"),
    (GATEWAY_API, "HTTPRoute"),
}
# What a VirtualService calls all sidecars among its gateways.
_MESH = "mesh"

VirtualHost = dict[str, Any]


@dataclass(frozen=True)
class Listener:
    """A port of a gateway: its name here, its number in the manifest, its routes by virtual host."""

    name: str
    port: int
    virtual_hosts: tuple[VirtualHost, ...]


@dataclass
class Mesh:
    """The manifests, understood. `outbound` are the virtual hosts of the sidecar."""

    workloads: list[Workload]
    services: dict[str, Service]
    destinations: Destinations
    outbound: list[VirtualHost] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def build(manifests: Sequence[Manifest]) -> Mesh:
    """Return the mesh that the manifests describe, or raise ManifestError with the place of the first problem."""
    workloads, notes = read_workloads(manifests)
    services = read_services(manifests, workloads)
    destinations, more_notes = read_destinations(manifests, services)
    mesh = Mesh(workloads, services, destinations, notes=notes + more_notes)
    ports = _gateway_ports(manifests)
    routes: dict[str, list[dict[str, Any]]] = {}
    hosts_at: dict[str, list[VirtualHost]] = {name: [] for name in ports}
    for manifest in manifests:
        if (manifest.group, manifest.kind) == (ISTIO, "VirtualService"):
            _read_virtual_service(manifest, mesh.destinations, routes, hosts_at, ports)
        elif (manifest.group, manifest.kind) == (GATEWAY_API, "HTTPRoute"):
            _read_http_route(manifest, mesh.destinations, routes, hosts_at, ports)
        elif (manifest.group, manifest.kind) not in _READ:
            mesh.notes.append(f"{manifest.place}: not applied here")
    mesh.outbound = list(_outbound(destinations, services, routes))
    mesh.listeners = [
        Listener(name, port.number, tuple(hosts_at[name])) for name, port in ports.items() if hosts_at[name]
    ]
    return mesh


@dataclass(frozen=True)
class _Port:
    """A port of a gateway: which object and section it belongs to, its number, and the hosts that it takes."""

    group: str
    gateway: str
    section: str
    number: int
    hosts: tuple[str, ...]


def _gateway_ports(manifests: Iterable[Manifest]) -> dict[str, _Port]:
    """Return the ports of all gateways by a name of their own; only plain HTTP can be listened for here."""
    ports: dict[str, _Port] = {}
    for manifest in manifests:
        if manifest.kind != "Gateway" or manifest.group not in (ISTIO, GATEWAY_API):
            continue
        spec = manifest.fields()
        spec.ignore("selector", "gatewayClassName")
        istio = manifest.group == ISTIO
        for item in spec.items("servers" if istio else "listeners"):
            item.ignore("allowedRoutes")
            port = item.required("port") if istio else item
            number, protocol = port.integer("number" if istio else "port"), port.required_text("protocol")
            name = port.text("name") or ""
            if protocol not in ("HTTP", "HTTP2"):
                raise port.error("protocol", f"{protocol} is not supported here, only HTTP")
            hosts = item.texts("hosts") if istio else [item.text("hostname") or "*"]
            hosts = [host.rpartition("/")[2] for host in hosts]
            key = f"gateway-{manifest.name}-{number}-{name}"
            ports[key] = _Port(manifest.group, manifest.name, name, number or 0, tuple(hosts))
        spec.finish()
    return ports


def _read_virtual_service(
    manifest: Manifest,
    destinations: Destinations,
    routes: dict[str, list[dict[str, Any]]],
    hosts_at: dict[str, list[VirtualHost]],
    ports: dict[str, _Port],
) -> None:
    spec = manifest.fields()
    spec.ignore("exportTo")
    hosts, gateways = spec.texts("hosts"), spec.texts("gateways") or [_MESH]
    if not hosts:
        raise spec.error("hosts", "is missing")
    translated = virtual_service.routes_of(spec, destinations)
    spec.finish()
    for index, gateway in enumerate(gateways):
        if gateway == _MESH:
            _add_routes(spec, "hosts", hosts, translated, destinations, routes)
            continue
        name = gateway.removeprefix(f"{NAMESPACE}/")
        found = [key for key, port in ports.items() if (port.group, port.gateway) == (ISTIO, name)]
        if not found:
            raise spec.error(f"gateways[{index}]", f"there is no Gateway {gateway!r}")
        for key in found:
            domains = [host for host in hosts if any(_covers(taken, host) for taken in ports[key].hosts)]
            if not domains:
                raise spec.error("hosts", f"none of them is among the hosts of the Gateway {gateway!r}")
            hosts_at[key].append({"name": manifest.name, "domains": domains, "routes": translated})


def _read_http_route(
    manifest: Manifest,
    destinations: Destinations,
    routes: dict[str, list[dict[str, Any]]],
    hosts_at: dict[str, list[VirtualHost]],
    ports: dict[str, _Port],
) -> None:
    spec = manifest.fields()
    hostnames = spec.texts("hostnames")
    translated = http_route.routes_of(spec, destinations)
    parents = spec.items("parentRefs")
    if not parents:
        raise spec.error("parentRefs", "is missing")
    for parent in parents:
        kind, name = parent.text("kind") or "Gateway", parent.required_text("name")
        port, section = parent.integer("port"), parent.text("sectionName")
        group = parent.text("group")
        if kind == "Service" and group in ("", "core"):
            if hostnames:
                raise spec.error("hostnames", "has no meaning where the parent is a Service")
            destinations.get(parent, "name", name, port)
            _add_routes(parent, "name", [name], translated, destinations, routes, port)
        elif kind == "Gateway" and group in (None, GATEWAY_API):
            found = [
                key
                for key, each in ports.items()
                if (each.group, each.gateway) == (GATEWAY_API, name)
                and section in (None, each.section)
                and port in (None, each.number)
            ]
            if not found:
                raise parent.error("name", f"there is no Gateway {name!r} with such a listener")
            for key in found:
                hosts_at[key].append({"name": manifest.name, "domains": hostnames or ["*"], "routes": translated})
        else:
            raise parent.error("kind", f"{kind} is not supported here, only Service and Gateway")
    spec.finish()


def _add_routes(
    fields: Fields,
    name: str,
    hosts: list[str],
    translated: list[dict[str, Any]],
    destinations: Destinations,
    routes: dict[str, list[dict[str, Any]]],
    port: int | None = None,
) -> None:
    """Give hosts inside the mesh their routes, on one port or on all."""
    for host in map(short_name, hosts):
        known = destinations.ports(host)
        if not known:
            raise fields.error(name, f"no Service or ServiceEntry has the host {host!r}")
        for each in [port] if port else known:
            if f"{host}:{each}" in routes:
                raise fields.error(name, f"another VirtualService or HTTPRoute is for {host!r} as well")
            routes[f"{host}:{each}"] = translated


def _covers(taken: str, host: str) -> bool:
    """Tell whether a host of a Gateway's server, maybe with a wildcard, takes a VirtualService's host."""
    return taken in ("*", host) or (taken.startswith("*.") and host.endswith(taken[1:]))


def _outbound(
    destinations: Destinations, services: dict[str, Service], routes: dict[str, list[dict[str, Any]]]
) -> Iterable[VirtualHost]:
    """Yield a virtual host for each host and port, by all the names that a cluster's DNS would know it by."""
    for host in destinations.hosts():
        names = [host]
        if host in services:
            names += [f"{host}.{NAMESPACE}{suffix}" for suffix in ("", ".svc", ".svc.cluster.local")]
        for port in destinations.ports(host):
            domains = [f"{name}:{port}" for name in names] + (names if port == 80 else [])
            own = routes.get(f"{host}:{port}")
            if own is None:
                action: dict[str, Any] = {
                    "cluster": destinations.found[host, port, ""].name,
                    "timeout": "0s",
                    "retry_policy": virtual_service.default_retries(),
                }
                virtual_service.add_hashing(action, [destinations.found[host, port, ""]])
                own = [{"match": {"prefix": "/"}, "route": action}]
            yield {
                "name": f"{host}:{port}",
                "domains": domains,
                "routes": own,
                "include_request_attempt_count": True,
            }


def load(paths: Sequence[Path]) -> Mesh:
    """Return the mesh that files and folders describe, or raise ManifestError."""
    mesh = build(files.load(paths))
    if not mesh.workloads:
        names = ", ".join(map(str, paths))
        raise ManifestError(names, "no Deployment of this program: add -f k8s/example.yaml")
    return mesh
