"""Envoy's configuration for a mesh: in one piece to read and to validate, and in files that can change one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from meshdemo.lab.destinations import Destination
from meshdemo.lab.mesh import Mesh
from meshdemo.lab.topology import Workload
from meshdemo.lab.virtual_service import FAULT_FILTER

LOOPBACK = "127.0.0.1"
OUTBOUND = "outbound"
_TYPE = "type.googleapis.com/"
_HTTP_CONNECTION_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

#: Tells the replicas of a container that take traffic: their host names and ports.
Endpoints = Callable[[Workload], Mapping[str, int]]


def address(host: str, port: int) -> dict[str, Any]:
    """Return Envoy's form of an address."""
    return {"socket_address": {"address": host, "port_value": port}}


def whole(mesh: Mesh, ports: Mapping[str, int], endpoints: Endpoints) -> dict[str, Any]:
    """Return everything as one static configuration; `ports` are those to listen on, by the name of the listener."""
    listeners = [listener(name, port, {"route_config": routes}) for name, port, routes in _listeners(mesh, ports)]
    return {
        "static_resources": {
            "listeners": listeners,
            "clusters": [
                {**cluster(each), "load_assignment": load_assignment(each, endpoints)}
                for each in mesh.destinations.found.values()
            ],
        }
    }


def _listeners(mesh: Mesh, ports: Mapping[str, int]) -> list[tuple[str, int, dict[str, Any]]]:
    return [(name, ports[name], routes) for name, routes in route_configurations(mesh).items()]


def route_configurations(mesh: Mesh) -> dict[str, dict[str, Any]]:
    """Return the routes of the sidecar and of each gateway port, by the name of the listener."""
    unknown = {
        "name": "unknown",
        "domains": ["*"],
        "routes": [
            {
                "match": {"prefix": "/"},
                "direct_response": {
                    "status": 502,
                    "body": {"inline_string": "no Service or ServiceEntry has this host"},
                },
            }
        ],
    }
    found: dict[str, dict[str, Any]] = {}
    found[OUTBOUND] = {"name": OUTBOUND, "virtual_hosts": [*mesh.outbound, unknown]}
    for each in mesh.listeners:
        found[each.name] = {
            "name": each.name,
            "virtual_hosts": list(each.virtual_hosts),
            "ignore_port_in_host_matching": True,
        }
    return found


def listener(name: str, port: int, routes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a listener on loopback whose `routes` are given in place (`route_config`) or from a file (`rds`)."""
    return {
        "name": name,
        "address": address(LOOPBACK, port),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": {
                            "@type": _TYPE + _HTTP_CONNECTION_MANAGER,
                            "stat_prefix": name,
                            # Istio's default (MeshConfig, ProxyPathNormalization, BASE).
                            "normalize_path": True,
                            "server_header_transformation": "PASS_THROUGH",
                            **routes,
                            # Faults come before the router, and so before its retries and timeout.
                            "http_filters": [
                                _filter(FAULT_FILTER, "envoy.extensions.filters.http.fault.v3.HTTPFault"),
                                _filter("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"),
                            ],
                        },
                    }
                ]
            }
        ],
    }


def _filter(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": _TYPE + kind}}


def cluster(destination: Destination) -> dict[str, Any]:
    """Return a cluster without its endpoints."""
    kind = "STRICT_DNS" if destination.addresses else "STATIC"
    return {**destination.cluster, "type": kind}


def load_assignment(destination: Destination, endpoints: Endpoints) -> dict[str, Any]:
    """Return the endpoints of a cluster; each is hashed by its name, so that a restart does not move its callers."""
    found = [(f"{host}:{port}", host, port) for host, port in destination.addresses]
    for workload in destination.workloads:
        found += [(name, LOOPBACK, port) for name, port in sorted(endpoints(workload).items())]
    return {
        "cluster_name": destination.name,
        "endpoints": [
            {
                "lb_endpoints": [
                    {
                        "endpoint": {"address": address(host, port)},
                        "metadata": {"filter_metadata": {"envoy.lb": {"hash_key": name}}},
                    }
                    for name, host, port in found
                ]
            }
        ],
    }


def file_source(path: str, folder: str) -> dict[str, Any]:
    """Return a source that reads a file again when it is moved into its folder."""
    watched = {"path": path, "watched_directory": {"path": folder}}
    return {"path_config_source": watched, "resource_api_version": "V3"}


def resources(kind: str, found: list[dict[str, Any]], version: str) -> dict[str, Any]:
    """Return the contents of such a file: a discovery response with a version of its own."""
    return {"version_info": version, "resources": [{"@type": _TYPE + kind, **each} for each in found]}
