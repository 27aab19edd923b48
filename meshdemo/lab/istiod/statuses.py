"""What Istio would write into the status of the Gateway API's objects: what of them is not in force, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from meshdemo.lab.cluster.model import DOMAIN, Cluster
from meshdemo.lab.engine import NotInForce
from meshdemo.lab.files.errors import ManifestError, suggestion
from meshdemo.lab.files.kinds import GATEWAY_API, ISTIO
from meshdemo.lab.files.manifest import Manifest, locate

# Conditions, and what they are where all is well (Gateway API, "GEP-1364: Status and Conditions").
_GOOD = {"Accepted": "True", "ResolvedRefs": "True", "Programmed": "True", "Conflicted": "False"}
# What tells one parent of a route from another, and what it is where it is not written.
_PARENT = {"kind": "Gateway", "name": "", "sectionName": "", "port": 0}

# How Istio names the backend of a route that it does not find, or may not use.
_BACKEND = re.compile(r"backend\(([^.)]+)|backendRef ([^/ ]+)/")

#: A field, the part of the object that is not in force by it (empty for all), the condition, and why.
_Found = tuple[str, str, str, str]


def read_statuses(statuses: Iterable[Mapping[str, Any]], cluster: Cluster) -> tuple[list[str], list[NotInForce]]:
    """Return a note for each condition that is not as it should be, with file and line, and what is not in force."""
    written = {(GATEWAY_API, each["kind"], each["namespace"], each["name"]): each["status"] for each in statuses}
    texts = dict(cluster.texts)
    notes = []
    not_in_force: dict[tuple[Any, str], NotInForce] = {}
    for policy in cluster.policies:
        if policy.group != GATEWAY_API:
            continue
        found = (*_conditions(policy, written.get(policy.id, {})), *_unsaid(policy, cluster))
        for field, part, condition, reason in found:
            place = ": ".join(each for each in (policy.place, field, condition) if each)
            note = ManifestError(place, reason)
            locate(note, [policy], texts)
            notes.append(str(note))
            not_in_force.setdefault((policy.id, part), NotInForce(policy.id, part, reason))
    return notes, list(not_in_force.values())


def _conditions(policy: Manifest, status: Mapping[str, Any]) -> Iterator[_Found]:
    """Yield what conditions say that are not as they should be, those of the whole object first."""
    spec = policy.spec
    for part in (status, *(status.get("ancestors") or ())):
        yield from (("", "", *each) for each in _bad(part))
    names = [each.get("name") for each in spec.get("listeners") or ()]
    for listener in status.get("listeners") or ():
        field = f"spec.listeners[{names.index(listener['name'])}]"
        yield from ((field, field, *each) for each in _bad(listener))
    parents = status.get("parents") or ()
    for parent in parents:
        for condition, reason in _bad(parent):
            if condition == "ResolvedRefs":
                field = _backend(spec, reason)
                yield field, field, condition, reason
            else:
                field = _parent(policy, parent["parentRef"])
                yield field, field if len(parents) > 1 else "", condition, reason


def _bad(part: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the conditions that are not as they should be, with what Istio says."""
    for each in part.get("conditions") or ():
        if each["status"] != _GOOD.get(each["type"], each["status"]):
            yield each["type"], f"{' '.join(each['message'].split())} ({each['reason']})"


def _unsaid(policy: Manifest, cluster: Cluster) -> Iterator[_Found]:
    """Yield what of a route leads nowhere though Istio says nothing of it."""
    spec = policy.spec
    gateways = {each.id: each.name for each in cluster.policies if each.kind == "Gateway"}
    parents = spec.get("parentRefs") or ()
    for index, parent in enumerate(parents):
        name, namespace = parent.get("name", ""), parent.get("namespace") or policy.namespace
        kind = parent.get("kind") or "Gateway"
        is_there = (GATEWAY_API, "Gateway", namespace, name) in gateways
        missing = _missing_port(policy, parent, cluster) if kind == "Service" else ""
        if kind == "Gateway" and not is_there:
            of_api = [own for (group, *_), own in gateways.items() if group == GATEWAY_API]
            missing = f"there is no Gateway {name}{suggestion(name, of_api)}"
            if (ISTIO, "Gateway", namespace, name) in gateways:
                missing = f"the Gateway {name} is one of Istio's, and a route's is of {GATEWAY_API}"
        if missing:
            field = f"spec.parentRefs[{index}]"
            yield field, field if len(parents) > 1 else "", "", missing
    for field, backend in _backends(spec):
        if missing := _missing_port(policy, backend, cluster):
            yield field, field, "", missing


def _missing_port(policy: Manifest, reference: Mapping[str, Any], cluster: Cluster) -> str:
    """Return what is wrong where a reference is to a port that a Service does not have, else an empty string."""
    host = f"{reference.get('name')}.{reference.get('namespace') or policy.namespace}.{DOMAIN}"
    service, port = cluster.service(host), reference.get("port")
    if not service or not port or service.port(port):
        return ""
    return f"Service {service.name} has no port {port}, but {', '.join(str(each.number) for each in service.ports)}"


def _parent(policy: Manifest, wanted: Mapping[str, Any]) -> str:
    """Return the field of a route that names a parent."""
    keys = {**_PARENT, "namespace": policy.namespace}
    for index, own in enumerate(policy.spec.get("parentRefs") or ()):
        if all((own.get(key) or usual) == (wanted.get(key) or usual) for key, usual in keys.items()):
            return f"spec.parentRefs[{index}]"
    return "spec.parentRefs"


def _backend(spec: Mapping[str, Any], reason: str) -> str:
    """Return the field of a route that refers to the backend in a reason; that of all rules where it names none."""
    named = _BACKEND.search(reason)
    names = named.groups() if named else ()
    return next((field for field, each in _backends(spec) if each.get("name") in names), "spec.rules")


def _backends(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, rule in enumerate(spec.get("rules") or ()):
        for index, backend in enumerate(rule.get("backendRefs") or ()):
            yield f"spec.rules[{number}].backendRefs[{index}]", backend
