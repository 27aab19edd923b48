"""Services that a gateway leads to: calls from outside come to their pods with the gateway's identity."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from meshdemo.lab.cluster.model import Cluster, Service
from meshdemo.lab.cluster.pods import Pod
from meshdemo.lab.files.kinds import NAMESPACE
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lessons.proposing.places import MESH, NoPlaceError, Place, places_of
from meshdemo.lessons.proposing.reading import KINDS, find_root, rules_of


def behind_gateways(places: list[Place], cluster: Cluster) -> Iterator[Place]:
    """Yield how each Service among some places is called through gateways, with what their rules ask of calls."""
    names = [place.host if "." in place.host else f"{place.host}.{NAMESPACE}" for place in places]
    services = [service for name in names if (service := cluster.service(name))]
    for policy in cluster.policies:
        if policy.kind not in ("VirtualService", "HTTPRoute") or (policy.group, policy.kind) not in KINDS:
            continue
        for service in services:
            number = _leads_to(policy, service, cluster)
            if number is not None:
                yield from _through(policy, number, service, cluster)


def _through(policy: Manifest, number: int, service: Service, cluster: Cluster) -> Iterator[Place]:
    root, before = find_root(policy, cluster.policies)
    try:
        entrances = [place for place in places_of(root or policy, cluster) if place.gateway != MESH]
    except NoPlaceError:
        return
    for place in entrances:
        gateway = next(each for each in cluster.gateways if each.name in place.pods)
        caller = Pod(gateway.name, gateway.address, gateway.labels, gateway.account, (), gateway.namespace)
        pods = tuple(pod.name for pod in cluster.selected(service))
        for first, own in itertools.product(before, rules_of(policy)[number]):
            yield dataclasses.replace(place, through=caller, pods=pods, asked=(*first, *own))


def _leads_to(policy: Manifest, service: Service, cluster: Cluster) -> int | None:
    """Return the number of the first rule of a policy that leads to a Service alone, None where none does."""
    for number, rule in enumerate(policy.spec.get(KINDS[policy.group, policy.kind]) or ()):
        found = [cluster.service(host) for host in _hosts(rule, policy.namespace)]
        if found and all(each is service for each in found):
            return number
    return None


def _hosts(rule: Any, namespace: str) -> Iterator[str]:
    """Yield the hosts that a rule leads to, with their namespace."""
    for route in rule.get("route") or ():
        host = str((route.get("destination") or {}).get("host"))
        yield host if "." in host else f"{host}.{namespace}"
    for backend in rule.get("backendRefs") or ():
        yield f"{backend.get('name')}.{backend.get('namespace') or namespace}"
