"""Why rules of a VirtualService were not among a caller's routes: Istio leaves out those that are for others.

Said is what is certain for the caller (pilot/pkg/networking/core/route, sourceMatchHTTP; pilot/pkg/model, exportTo and
the scope of Sidecars). Of VirtualServices that have nothing to do with the call nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.xray.facts.calls import PassedOver
from meshdemo.lab.xray.facts.naming import Rule
from meshdemo.lab.xray.facts.records import Record
from meshdemo.lab.xray.facts.scene import Scene, full_host, short_host

MESH = "mesh"
_SERVICE = ".svc.cluster.local"


@dataclass(frozen=True)
class Caller:
    """Whose sidecar a call leaves by, and to which port: None where that is not known."""

    pod: str
    port: int | None


def caller_of(record: Record, scene: Scene) -> Caller | None:
    """Return whose sidecar logged a request that left by it; None for a gateway and for what came in."""
    if record.is_inbound or scene.is_gateway(record.envoy):
        return None
    port = re.search(r"(?:^|:)(\d+)$", record.routes)  # "80", "pay.shop.svc.cluster.local:9000"
    return Caller(record.envoy, int(port[1]) if port else None)


def left_out(rule: Rule, caller: Caller, scene: Scene, *, is_met: bool) -> list[PassedOver]:
    """Return the matches of a rule's object that are for other callers, those before the rule where it was met."""
    manifest = _object_of(rule, scene)
    if manifest is None or rule.rule is None:
        return []
    return [
        PassedOver(scene.book.rule_of(manifest, number, index), f"it is {why}")
        for number, index, match in _matches(manifest)
        if ((number, index) < (rule.rule, rule.match or 0) or not is_met)
        and (why := _why_left_out(match, caller, scene))
    ]


def callers_of(rule: Rule, scene: Scene) -> list[str] | None:
    """Return in words for whom a match of a rule is alone; None where others delegate to it, for different callers."""
    manifest = _object_of(rule, scene, is_delegate=True)
    found = (match for number, index, match in _matches(manifest) if (number, index) == (rule.rule, rule.match))
    own = _callers(next(found, {}))
    if manifest is None or manifest.spec.get("hosts"):
        return own
    roots = [match for each in scene.policies("VirtualService") for match in _delegating(each, manifest)]
    said = {tuple(_callers(match)) for match in roots}
    if len(said) > 1 or any(match.get("gateways") for match in roots):
        return None if own or any(said) else []
    return list(dict.fromkeys([*(words for each in said for words in each), *own]))


def _callers(match: dict[str, Any]) -> list[str]:
    words = [f"the port is {match['port']}"] if match.get("port") else []
    if match.get("gateways"):
        return words
    words += [f"the caller has {name}={value}" for name, value in (match.get("sourceLabels") or {}).items()]
    return [*words, *(f"the caller is in namespace {name}" for name in [match.get("sourceNamespace")] if name)]


def _delegating(root: Manifest, manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Yield the matches of a VirtualService's rules that delegate to another one."""
    for rule in root.spec.get("http") or []:
        to = rule.get("delegate") or {}
        if (to.get("namespace") or root.namespace, to.get("name")) == (manifest.namespace, manifest.name):
            yield from rule.get("match") or [{}]


def why_not_for(manifest: Manifest, host: str, caller: Caller, scene: Scene) -> str | None:
    """Return why a VirtualService is not for a caller's calls to a host; None where that is unknown or no question."""
    if is_for_host(manifest, host):
        return _why_unseen(manifest, caller, scene)
    names = [str(name) for name in manifest.spec.get("hosts") or []]
    for name in names if host.endswith(_SERVICE) else ():
        if "." in name and host.startswith(f"{name}."):
            return f"{manifest.label} is for {name}, and Istio completes no name that has a dot: write {host}"
        if name == host.partition(".")[0]:
            where = f"its host {name} is one of its own namespace, {manifest.namespace}"
            return f"{manifest.label} is not for {short_host(host)}: {where}"
    if names and MESH in _gateways(manifest) and host in _destinations(manifest):
        return f"{manifest.label} is for calls to {', '.join(names)}, not to {short_host(host)}"
    return None


def is_for_host(manifest: Manifest, host: str) -> bool:
    """Return whether a VirtualService names a host, whoever may see it; one for gateways alone by no wildcard."""
    names = [full_host(str(name), manifest.namespace) for name in manifest.spec.get("hosts") or []]
    wildcards = [name[1:] for name in names if name.startswith("*")] if MESH in _gateways(manifest) else []
    return host in names or any(map(host.endswith, wildcards))


def _why_unseen(manifest: Manifest, caller: Caller, scene: Scene) -> str | None:
    """Return why a caller's sidecar knows no rule of a VirtualService."""
    spec, namespace = manifest.spec, scene.namespace(caller.pod)
    exported = [str(each) for each in spec.get("exportTo") or ["*"]]
    own = {"*", namespace, *(["."] if manifest.namespace == namespace else [])}
    if MESH not in _gateways(manifest):
        return f"{manifest.label} is for gateways alone: its gateways do not name mesh"
    if not own.intersection(exported):
        return f"{manifest.label} is not exported to namespace {namespace}: its exportTo is {', '.join(exported)}"
    sidecar = scene.sidecar_for(caller.pod)
    egresses = (sidecar.spec.get("egress") if sidecar else None) or []
    hosts = [str(host) for egress in egresses for host in egress.get("hosts") or []]
    if sidecar and hosts and not {"*", manifest.namespace} & {_namespace_of(host, sidecar) for host in hosts}:
        where = f"namespace {manifest.namespace}: its egress hosts are {', '.join(hosts)}"
        return f"{sidecar.label} does not let the sidecar know {manifest.label} of {where}"
    if not spec.get("http"):
        return f"{manifest.label} has no rules for HTTP"
    reasons = [(number, _why_left_out(match, caller, scene)) for number, _, match in _matches(manifest)]
    if all(why for _, why in reasons):
        number, why = reasons[0]
        return f"{manifest.label} has no rule for this call: http[{number}] is {why}"
    return None


def _why_left_out(match: dict[str, Any], caller: Caller, scene: Scene) -> str | None:
    """Return for whom a match is alone, where that is not the caller."""
    pod, namespace, gateways = scene.pod(caller.pod), match.get("sourceNamespace"), match.get("gateways")
    if match.get("port") and caller.port is not None and match["port"] != caller.port:
        return f"for calls to port {match['port']} alone, and this one is to {caller.port}"
    if gateways:  # then nothing else of the caller counts
        return None if MESH in gateways else f"for the gateway {', '.join(gateways)} alone"
    for name, value in (match.get("sourceLabels") or {}).items():
        if pod and pod.labels.get(name) != value:
            has = f"has {name}={pod.labels[name]}" if name in pod.labels else f"has no label {name}"
            return f"for callers with {name}={value} alone, and {pod.name} {has}"
    if pod and namespace and namespace != pod.namespace:
        return f"for callers in namespace {namespace} alone, and {pod.name} is in {pod.namespace}"
    return None


def _namespace_of(host: str, sidecar: Manifest) -> str:
    namespace = host.partition("/")[0]
    return sidecar.namespace if namespace == "." else namespace


def _object_of(rule: Rule, scene: Scene, *, is_delegate: bool = False) -> Manifest | None:
    """Return the VirtualService of a rule, one with hosts: others' conditions count for what they delegate to."""
    for each in scene.policies(rule.kind) if rule.kind == "VirtualService" else ():
        if (each.namespace, each.name) == (rule.namespace, rule.name):
            return each if is_delegate or each.spec.get("hosts") else None
    return None


def _matches(manifest: Manifest | None) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield each match with the numbers of its rule and its own; a rule without one has an empty one."""
    for number, rule in enumerate((manifest.spec.get("http") if manifest else None) or []):
        for index, match in enumerate(rule.get("match") or [{}]):
            yield number, index, match


def _destinations(manifest: Manifest) -> set[str]:
    routes = (route for rule in manifest.spec.get("http") or [] for route in rule.get("route") or [])
    return {full_host(str((each.get("destination") or {}).get("host")), manifest.namespace) for each in routes}


def _gateways(manifest: Manifest) -> list[str]:
    return manifest.spec.get("gateways") or [MESH]
