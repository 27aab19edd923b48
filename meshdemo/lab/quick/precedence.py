"""Which of several policies counts: what stands in the files and is never in force, whichever engine applies them.

Only what is certain for every caller is found; Istio's analysis knows the first two as IST0109 and IST0131. Policies
are read as they stand in the files: whatever is odd in them was refused before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.engine import NotInForce
from meshdemo.lab.files.kinds import GATEWAY_API, ISTIO, NAMESPACE
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.quick.reading.fields import full_name
from meshdemo.lab.quick.rules.model import MESH

# Conditions of a match that hold for every call, as far as they say anything.
_NO_CONDITIONS = frozenset({"name", "statPrefix", "ignoreUriCase"})
_EVERY_PATH: tuple[dict[str, str], ...] = ({}, {"prefix": "/"}, {"regex": ".*"})


def find_not_in_force(cluster: Cluster) -> list[NotInForce]:
    """Return the policies, and the parts of policies, that others or their own rules keep from being in force."""
    virtual_services = _in_order(cluster.policies, "VirtualService")
    return [
        *_second_virtual_services(virtual_services, cluster),
        *(each for manifest in virtual_services for each in _rules_behind(manifest)),
        *_second_destination_rules(_in_order(cluster.policies, "DestinationRule")),
    ]


def _in_order(policies: Iterable[Manifest], kind: str) -> list[Manifest]:
    """Return the objects of a kind in the order in which they count: what is not exported first, then by name."""
    found = [manifest for manifest in policies if (manifest.group, manifest.kind) == (ISTIO, kind)]
    return sorted(found, key=lambda manifest: (not _is_private(manifest), manifest.name))


def _is_private(manifest: Manifest) -> bool:
    return _items(_spec(manifest), "exportTo") in (["."], [NAMESPACE])


def _second_virtual_services(virtual_services: Sequence[Manifest], cluster: Cluster) -> Iterator[NotInForce]:
    """Yield those for whose hosts sidecars have the rules of others already."""
    owners: dict[str, Manifest] = {}
    for manifest, host in _hosts_of_http_routes(cluster):
        owners.setdefault(host, manifest)
    private = [manifest for manifest in virtual_services if _is_private(manifest)]
    if private:
        owners.clear()  # these count before HTTPRoutes
    for manifest in virtual_services:
        spec = _spec(manifest)
        hosts = [full_name(host) for host in _items(spec, "hosts") if isinstance(host, str)]
        gateways = _items(spec, "gateways") or [MESH]
        if MESH not in gateways or not hosts:
            continue
        taken = [(host, owners[host]) for host in hosts if host in owners]
        if len(taken) == len(hosts) and gateways == [MESH]:
            host, owner = taken[0]
            short = host.removesuffix(f".{NAMESPACE}.svc.cluster.local")
            yield NotInForce(manifest.id, "", f"the rules of {owner.label} are for {short} already")
        elif any(_is_for_every_caller(rule, gateways) for rule in _items(spec, "http")):
            for host in hosts:
                owners.setdefault(host, manifest)


def _hosts_of_http_routes(cluster: Cluster) -> Iterator[tuple[Manifest, str]]:
    """Yield the Services all of whose ports HTTPRoutes are for."""
    for manifest in cluster.policies:
        if (manifest.group, manifest.kind) != (GATEWAY_API, "HTTPRoute"):
            continue
        for parent in _items(_spec(manifest), "parentRefs"):
            if isinstance(parent, dict) and parent.get("kind") == "Service":
                service = cluster.service(str(parent.get("name")))
                ports = {port.number for port in service.ports} if service else set()
                if service and (parent.get("port") is None or ports == {parent["port"]}):
                    yield manifest, service.host


def _is_for_every_caller(rule: Any, gateways: list[Any]) -> bool:
    """Return whether a rule is there for each sidecar, at each port."""
    matches = _items(rule, "match")
    return not matches or any(_is_unbound(match, gateways) for match in matches)


def _is_unbound(match: Any, gateways: list[Any]) -> bool:
    if not isinstance(match, dict):
        return False
    bound = match.get("sourceLabels") or match.get("sourceNamespace") or match.get("port")
    return not bound and (not match.get("gateways") or all(each in _items(match, "gateways") for each in gateways))


def _rules_behind(manifest: Manifest) -> Iterator[NotInForce]:
    """Yield the rules behind one that takes every call (route.go, IsCatchAllRoute)."""
    gateways = _items(_spec(manifest), "gateways") or [MESH]
    catch_all = None
    for index, rule in enumerate(_items(_spec(manifest), "http")):
        if catch_all is not None:
            yield NotInForce(manifest.id, f"spec.http[{index}]", f"http[{catch_all}] takes every call")
        elif isinstance(rule, dict):
            matches = _items(rule, "match")
            if not matches or any(_takes_every_call(match, gateways) for match in matches):
                catch_all = index


def _takes_every_call(match: Any, gateways: list[Any]) -> bool:
    if not _is_unbound(match, gateways) or match.get("uri", {}) not in _EVERY_PATH:
        return False
    conditions = {name for name, value in match.items() if value not in ({}, "", 0, [])}
    return conditions <= _NO_CONDITIONS | {"uri", "gateways"}


def _second_destination_rules(rules: Sequence[Manifest]) -> Iterator[NotInForce]:
    """Yield what earlier DestinationRules for the same host say already (PushContext.mergeDestinationRule)."""
    policies: dict[tuple[str, bool], Manifest] = {}
    subsets: dict[tuple[str, bool, str], Manifest] = {}
    for manifest in rules:
        spec = _spec(manifest)
        if not isinstance(spec.get("host"), str) or spec.get("workloadSelector"):
            continue
        host = (full_name(spec["host"]), _is_private(manifest))
        if spec.get("trafficPolicy"):
            owner = policies.setdefault(host, manifest)
            if owner is not manifest:
                yield NotInForce(manifest.id, "spec.trafficPolicy", f"that of {owner.label} is for the same host")
        for index, subset in enumerate(_items(spec, "subsets")):
            name = subset.get("name") if isinstance(subset, dict) else None
            owner = subsets.setdefault((*host, str(name)), manifest)
            if owner is not manifest:
                reason = f"{owner.label} has a subset {name} of the same host"
                yield NotInForce(manifest.id, f"spec.subsets[{index}]", reason)


def _spec(manifest: Manifest) -> dict[str, Any]:
    spec = manifest.document.get("spec")
    return spec if isinstance(spec, dict) else {}


def _items(holder: Any, name: str) -> list[Any]:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, list) else []
