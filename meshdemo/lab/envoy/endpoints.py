"""Addresses on loopback, and endpoints that are led there from the addresses of a cluster."""

from __future__ import annotations

from collections.abc import Callable

from meshdemo.lab.cluster.model import POD_NETWORK, SERVICE_NETWORK
from meshdemo.lab.engine import Resource

HOST = "127.0.0.1"
OUTBOUND = "outbound|"
#: Tells the port on loopback where an address of the cluster takes calls now; None where nothing does.
Where = Callable[[str, int], "int | None"]


def address(port: int) -> Resource:
    """Return an address on loopback."""
    return {"socket_address": {"address": HOST, "port_value": port}}


def endpoints_in(locality: Resource) -> list[Resource]:
    """Return the endpoints of a locality."""
    return list(locality.get("lb_endpoints", []))


def port_of(part: Resource) -> int:
    """Return the port of a listener or an endpoint; 0 for one without an address and port."""
    return int(part["address"].get("socket_address", {}).get("port_value", 0))


def endpoint_name(cluster: Resource) -> str:
    """Return the name of the endpoints that a cluster asks for."""
    return str(cluster["eds_cluster_config"].get("service_name") or cluster["name"])


def is_of_service(cluster: Resource) -> bool:
    """Return whether a cluster leads to the pods of a Service."""
    return cluster.get("type") == "EDS" and str(cluster["name"]).startswith(OUTBOUND)


def numbered(cluster: Resource, generation: int) -> Resource:
    """Return a cluster of a Service with a number; with another one Envoy replaces it and its connections."""
    if not generation or not is_of_service(cluster):
        return cluster
    metadata = cluster.get("metadata", {})
    filters = {**metadata.get("filter_metadata", {}), "meshdemo": {"generation": generation}}
    return {**cluster, "metadata": {**metadata, "filter_metadata": filters}}


def moved(endpoint: Resource, where: Where) -> Resource | None:
    """Return an endpoint with its port on loopback; None while it takes no calls; outside addresses stay.

    It is hashed by its address in the cluster, as there.
    """
    at = endpoint["endpoint"]["address"].get("socket_address")
    if at is None or not at["address"].startswith((POD_NETWORK, SERVICE_NETWORK)):
        return endpoint
    port = where(at["address"], at["port_value"])
    if port is None:
        return None
    metadata = endpoint.get("metadata", {}).get("filter_metadata", {})
    key = {**metadata.get("envoy.lb", {}), "hash_key": f"{at['address']}:{at['port_value']}"}
    inner = {**endpoint["endpoint"], "address": address(port)}
    return {**endpoint, "endpoint": inner, "metadata": {"filter_metadata": {**metadata, "envoy.lb": key}}}
