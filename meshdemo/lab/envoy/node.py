"""What a cluster's network does without any mesh: Services lead to their pods, and some are reached from outside.

One Envoy forwards connections, not requests, each to one of the ready pods at random, as a node's packet filter does.
It belongs to the lab, so that its ports stay open whatever becomes of the pods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshdemo.lab.cluster.model import Cluster, Service, ServicePort
from meshdemo.lab.cluster.pods import Pod, unique_name
from meshdemo.lab.engine import Resource, Resources
from meshdemo.lab.envoy.endpoints import address

_TCP_PROXY = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


@dataclass(frozen=True)
class Entrance:
    """Something that can be called: its name, such as `service/proxy`, a port, and the pods that stand behind it.

    `scheme` is that of its URL, as far as the port says what it is for.
    """

    name: str
    port: int
    endpoints: tuple[tuple[Pod, int], ...]
    scheme: str = "http"

    @property
    def key(self) -> str:
        """Return what tells it from all others."""
        return f"{self.name}:{self.port}"


def public_entrances(cluster: Cluster) -> list[Entrance]:
    """Return what is reached from outside: first the Service `proxy`, or the first by name, then the others.

    These are the Services of type LoadBalancer, and the proxies behind none of them, which a cluster's user would
    reach by `kubectl port-forward`.
    """
    services = sorted(
        (each for each in cluster.services if each.is_public), key=lambda each: (each.name != "proxy", each.name)
    )
    entrances = [_of_service(cluster, service, port) for service in services for port in service.ports]
    reached = {(pod.name, number) for entrance in entrances for pod, number in entrance.endpoints}
    for workload in sorted(cluster.workloads, key=lambda each: each.name):
        pods = cluster.pods_of(workload.name)
        for container in workload.template.containers:
            if container.role == "proxy" and not any((pod.name, container.port) in reached for pod in pods):
                endpoints = tuple((pod, container.port) for pod in pods)
                entrances.append(Entrance(f"{workload.kind.lower()}/{workload.name}", container.port, endpoints))
    return entrances


def service_entrances(cluster: Cluster) -> list[tuple[Service, Entrance]]:
    """Return every port of every Service, for pods that call without a sidecar."""
    return [(service, _of_service(cluster, service, port)) for service in cluster.services for port in service.ports]


def _of_service(cluster: Cluster, service: Service, port: ServicePort) -> Entrance:
    scheme = "https" if port.is_for_tls else "tcp" if port.is_for_tcp else "http"
    name = f"service/{unique_name(service.name, service.namespace)}"
    return Entrance(name, port.number, tuple(cluster.endpoints(service, port)), scheme)


def resources_of(entrances: Sequence[Entrance]) -> Resources:
    """Return the configuration that forwards connections to each entrance."""
    unique = {entrance.key: entrance for entrance in entrances}
    return Resources(
        listeners=[_listener(key) for key in unique],
        clusters=[_cluster(key) for key in unique],
        endpoints=[_assignment(entrance) for entrance in unique.values()],
    )


def _listener(key: str) -> Resource:
    proxy = {"@type": _TCP_PROXY, "stat_prefix": key, "cluster": key, "idle_timeout": "0s"}
    chain = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}
    return {"name": key, "address": address(0), "filter_chains": [chain]}


def _cluster(key: str) -> Resource:
    # No limits of its own (Envoy's default is 1,024 connections).
    unlimited = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 4294967295)
    return {
        "name": key,
        "type": "EDS",
        "eds_cluster_config": {"service_name": key},
        "connect_timeout": "10s",
        "lb_policy": "RANDOM",
        "circuit_breakers": {"thresholds": [unlimited]},
    }


def _assignment(entrance: Entrance) -> Resource:
    return {
        "cluster_name": entrance.key,
        "endpoints": [
            {
                "lb_endpoints": [
                    {"endpoint": {"address": {"socket_address": {"address": pod.address, "port_value": number}}}}
                    for pod, number in entrance.endpoints
                ]
            }
        ],
    }
