"""What stood there when a call came through: pods, policies, and what each Envoy had of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.cluster.pods import Labels, Pod, matches
from meshdemo.lab.engine import Configuration, NotInForce, Resource
from meshdemo.lab.files.kinds import GATEWAY_API, SYSTEM
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.xray.facts.naming import Rule, RuleBook

# The label by which a pod is that of a Gateway of the Gateway API.
_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"


@dataclass(frozen=True)
class Place:
    """What listens at an address on loopback: a pod's program at one of its ports, its sidecar for it, or a gateway.

    `hosts` are those that a gateway has there.
    """

    pod: str
    port: int
    is_program: bool
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """Where a cluster of Envoy leads, by Istio's name for it: `outbound|80|v1|webserver.default.svc.cluster.local`."""

    host: str
    port: int
    subset: str | None


@dataclass(frozen=True)
class Scene:
    """What an explanation looks at.

    `places` are by address on loopback, as `127.0.0.1:20000`, `entrances` the pods behind what is called from outside
    with the ports of theirs, by port. `secret_headers` are those whose values nobody is told.
    `not_in_force` is what of the policies others, or their own rules, keep from being in force.
    """

    cluster: Cluster
    configuration: Configuration
    places: Mapping[str, Place]
    entrances: Mapping[int, Sequence[tuple[str, int]]] = field(default_factory=dict)
    not_in_force: tuple[NotInForce, ...] = ()
    secret_headers: frozenset[str] = frozenset()

    @cached_property
    def book(self) -> RuleBook:
        """Return who finds rules."""
        return RuleBook(self.cluster.policies, dict(self.cluster.texts))

    def pod(self, name: str) -> Pod | None:
        """Return a pod by its name."""
        return next((pod for pod in self.cluster.pods if pod.name == name), None)

    def namespace(self, name: str) -> str:
        """Return the namespace of a pod or gateway."""
        pod = self.pod(name)
        gateways = (each.namespace for each in self.cluster.gateways if each.name == name)
        return pod.namespace if pod else next(gateways, "")

    def is_gateway(self, name: str) -> bool:
        """Return whether an Envoy is that of a gateway."""
        return any(gateway.name == name for gateway in self.cluster.gateways)

    def routes(self, envoy: str, name: str) -> Resource | None:
        """Return a RouteConfiguration of an Envoy."""
        resources = self.configuration.resources.get(envoy)
        return next((each for each in resources.routes if each["name"] == name), None) if resources else None

    def manager(self, envoy: str, routes: str) -> Resource | None:
        """Return the HttpConnectionManager whose requests a RouteConfiguration is for."""
        resources = self.configuration.resources.get(envoy)
        return next(_managers(list(resources.listeners), routes), None) if resources else None

    def cluster_of(self, envoy: str, name: str) -> Resource | None:
        """Return a cluster of an Envoy."""
        resources = self.configuration.resources.get(envoy)
        return next((each for each in resources.clusters if each["name"] == name), None) if resources else None

    def policies(self, *kinds: str) -> list[Manifest]:
        """Return the policies of some kinds."""
        return [each for each in self.cluster.policies if each.kind in kinds]

    def document(self, rule: Rule) -> dict[str, Any]:
        """Return a rule as it stands in its object."""
        for each in self.policies(rule.kind):
            if (each.namespace, each.name) == (rule.namespace, rule.name):
                spec = each.spec
                rules = spec.get("http" if rule.kind == "VirtualService" else "rules") or []
                return dict(rules[rule.rule]) if rule.rule is not None else spec
        return {}

    def policies_for(self, envoy: str, *kinds: str) -> list[Manifest]:
        """Return the policies of some kinds that are in force at a pod or gateway: in its namespace or for all.

        They name it by labels, or by `targetRefs`: those are for gateways of the Gateway API alone
        (Istio, pilot/pkg/model/policyattachment.go, ShouldAttachPolicy).
        """
        pod, namespace = self.pod(envoy), self.namespace(envoy)
        gateway = next((each for each in self.cluster.gateways if each.name == envoy), None)
        labels = pod.labels if pod else gateway.labels if gateway else {}
        refused = {each.policy for each in self.not_in_force if each.needs_istiod}
        chosen = []
        for each in self.policies(*kinds):
            spec = each.spec
            selector = spec.get("selector") or {}
            wanted = selector.get("matchLabels") or (spec.get("workloadSelector") or {}).get("labels") or {}
            targets = spec.get("targetRefs") or [*filter(None, [spec.get("targetRef")])]
            is_meant = each.namespace in (namespace, SYSTEM) and matches(labels, wanted)
            if targets:
                is_meant = each.namespace == namespace and any(_is_target(target, labels) for target in targets)
            if is_meant and each.id not in refused:
                chosen.append(each)
        return chosen

    def sidecar_for(self, pod: str) -> Manifest | None:
        """Return the Sidecar that says what the sidecar of a pod knows: one with a selector before its namespace's.

        That of the mesh comes last. Of several the oldest counts, here the first by name. A gateway knows everything
        (Istio, PushContext.initSidecarScopes, doGetSidecarScope).
        """
        if self.is_gateway(pod):
            return None
        ranks = {}
        for each in self.policies_for(pod, "Sidecar"):
            is_own = each.namespace == self.namespace(pod)
            selects = each.spec.get("workloadSelector") is not None
            if is_own or not selects:
                ranks[not is_own, not selects, each.name] = each
        return ranks[min(ranks)] if ranks else None


def _is_target(target: Mapping[str, Any], labels: Labels) -> bool:
    """Return whether a reference is to the gateway that has some labels."""
    of_kind = (target.get("group"), target.get("kind")) == (GATEWAY_API, "Gateway")
    return of_kind and bool(target.get("name")) and labels.get(_GATEWAY_NAME) == target.get("name")


def full_host(host: str, namespace: str) -> str:
    """Return the name of a host in full, as Istio completes one without a dot."""
    return host if "." in host or host == "*" else f"{host}.{namespace}.svc.cluster.local"


def covers(name: str, host: str) -> bool:
    """Return whether a name that an object is for, maybe a wildcard such as `*.example.com`, is that of a host."""
    name, host = name.lower(), host.lower()
    return name == host or (name.startswith("*") and host.endswith(name[1:]))


def short_host(host: str, namespace: str = "default") -> str:
    """Return a Service's name as pods of a namespace call it; other hosts stay."""
    return host.removesuffix(f".{namespace}.svc.cluster.local").removesuffix(".svc.cluster.local")


def target_of(cluster: str) -> Target | None:
    """Return where a cluster leads; None for one whose name is not Istio's for a host."""
    parts = cluster.split("|")
    if len(parts) != 4 or parts[0] != "outbound" or not parts[1].isdecimal():
        return None
    return Target(parts[3], int(parts[1]), parts[2] or None)


def _managers(value: Any, routes: str) -> Iterator[Resource]:
    if isinstance(value, list):
        for each in value:
            yield from _managers(each, routes)
    elif isinstance(value, dict):
        if str(value.get("@type", "")).endswith(".HttpConnectionManager"):
            own = value["rds"]["route_config_name"] if "rds" in value else value.get("route_config", {}).get("name")
            if own == routes:
                yield value
        else:
            for each in value.values():
                yield from _managers(each, routes)
