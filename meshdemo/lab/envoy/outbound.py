"""By which listener each of a pod's calls leaves it."""

from __future__ import annotations

import json

from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.engine import Resource, Resources
from meshdemo.lab.envoy.endpoints import OUTBOUND
from meshdemo.lab.envoy.original import PASSTHROUGH, tcp_host

INBOUND = "virtualInbound"
CATCH_ALL = "virtualOutbound"


def is_inbound(listener: Resource) -> bool:
    """Return whether a listener takes what comes to a pod."""
    return str(listener["name"]).startswith(INBOUND)


def outbound_names(resources: Resources) -> list[str]:
    """Return the names of the listeners that need a port: those that calls leave a pod by, or come to a gateway by."""
    names = [listener["name"] for listener in resources.listeners if listener["name"] not in (INBOUND, CATCH_ALL)]
    return names + ([CATCH_ALL] if _refuses_others(resources) else [])


def _refuses_others(resources: Resources) -> bool:
    """Return whether connections to ports that no listener has are refused (REGISTRY_ONLY)."""
    catch_all = next((each for each in resources.listeners if each["name"] == CATCH_ALL), None)
    return catch_all is not None and PASSTHROUGH not in json.dumps(catch_all)


def connect_rules(resources: Resources, cluster: Cluster, namespace: str) -> tuple[tuple[str, str], ...]:
    """Return by which listener each of a pod's calls leaves, the most exact first: ("webserver:80", "0.0.0.0_80").

    The pod is of a namespace, by which the names of Services are short or not. Host or port are empty for any. What
    could go anywhere, and does not say where, goes there without the sidecar.
    """
    rules = []
    names = cluster.names_from(namespace)
    for listener in outbound_names(resources):
        found = next(each for each in resources.listeners if each["name"] == listener)
        at = found["address"]["socket_address"]
        if listener == CATCH_ALL:
            rules.append((2, ":", listener))
            continue
        port, host = at["port_value"], tcp_host(found, resources)
        if at["address"] != "0.0.0.0":
            rules += [(0, f"{name}:{port}", listener) for name in names.get(at["address"], (at["address"],))]
        elif host is None:
            rules.append((1, f":{port}", listener))
        elif host:
            rules.append((0, f"{host}:{port}", listener))
    return tuple((pattern, listener) for _, pattern, listener in sorted(rules))


def inbound_only(resources: Resources) -> Resources:
    """Return what a pod that calls nobody needs: Istio gives every pod the routes and clusters of all Services."""
    listeners = [listener for listener in resources.listeners if is_inbound(listener)]
    text = json.dumps(listeners)

    def is_used(name: str) -> bool:
        return json.dumps(name) in text

    clusters = [each for each in resources.clusters if not each["name"].startswith(OUTBOUND) or is_used(each["name"])]
    names = {cluster["name"] for cluster in clusters}
    return Resources(
        listeners=listeners,
        routes=resources.routes,
        clusters=clusters,
        endpoints=[each for each in resources.endpoints if each["cluster_name"] in names],
    )
