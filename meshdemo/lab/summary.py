"""What a lab says: what starts, what runs, which policies are in force, and what an edit has changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from meshdemo.escaping import printable
from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.files.manifests import GATEWAY_API, Manifest, shown_path

_LONGEST_WORDS = 100
# A proxy is told at its start where Services are.
_OF_PODS = ("Deployment", "Service")


@dataclass(frozen=True)
class Change:
    """What an edit did to one object: `text` for the terminal, `label` for the page, and whether pods may change."""

    text: str
    label: str
    moves_pods: bool


def starting(cluster: Cluster) -> str:
    """Return the line that is said at once."""
    counts = ", ".join(f"{deployment.replicas} {deployment.name}" for deployment in cluster.deployments)
    gateways = f" and {len(cluster.gateways)} of gateways" if cluster.gateways else ""
    return f"starting {len(cluster.pods)} pods ({counts}){gateways} ..."


def policies(cluster: Cluster) -> list[str]:
    """Return the policies in force in words: `VirtualService/webserver: 75 % v1, 25 % v2`."""
    lines = []
    for manifest in cluster.policies:
        words = printable("; ".join(_words(manifest)))
        words = words if len(words) <= _LONGEST_WORDS else words[:_LONGEST_WORDS] + " ..."
        lines.append(f"{manifest.label}: {words}" if words else manifest.label)
    return lines


def changes(before: Sequence[Manifest], after: Sequence[Manifest]) -> list[Change]:
    """Return what is different, object by object."""
    old = {manifest.id: manifest for manifest in before}
    new = {manifest.id: manifest for manifest in after}
    found = []
    for key in dict.fromkeys((*old, *new)):
        manifest = new.get(key) or old[key]
        if key not in new:
            verb = "removed"
        elif key not in old:
            verb = "added"
        elif old[key].document != new[key].document:
            verb = "changed"
        else:
            continue
        label = f"{manifest.label} {verb}"
        found.append(Change(f"{shown_path(manifest.path)}: {label}", label, manifest.kind in _OF_PODS))
    return found


def _words(manifest: Manifest) -> Iterable[str]:
    """Return what a policy says, as far as a few words can; whatever is odd in it was refused before."""
    spec = manifest.document.get("spec") or {}
    if manifest.kind == "VirtualService":
        return [_rule(rule, rule.get("route"), "destination") for rule in spec.get("http") or []]
    if manifest.kind in ("HTTPRoute", "GRPCRoute"):
        return [_rule(rule, rule.get("backendRefs"), "") for rule in spec.get("rules") or []]
    if manifest.kind == "DestinationRule":
        subsets = [subset["name"] for subset in spec.get("subsets") or []]
        parts = sorted(part for part in spec.get("trafficPolicy") or {})
        return [text for text in (f"subsets {', '.join(subsets)}" * bool(subsets), ", ".join(parts)) if text]
    if manifest.kind == "Gateway":
        return [_listener(listener, manifest.group) for listener in spec.get("servers") or spec.get("listeners") or []]
    if manifest.kind == "ServiceEntry":
        return [", ".join(spec.get("hosts") or [])]
    if manifest.kind == "PeerAuthentication":
        return [(spec.get("mtls") or {}).get("mode", "")]
    if manifest.kind == "AuthorizationPolicy":
        return [spec.get("action") or "ALLOW"]
    return []


def _listener(listener: dict[str, Any], group: str) -> str:
    port = listener["port"] if group == GATEWAY_API else listener["port"]["number"]
    return f"port {port}"


def _rule(rule: dict[str, Any], targets: list[dict[str, Any]] | None, inner: str) -> str:
    """Return a rule of a route: its condition, what it does, and where it leads."""
    parts = []
    if targets:
        weights = [target.get("weight", 0 if inner and len(targets) > 1 else 1) for target in targets]
        total = sum(weights)
        names = [_target(target[inner] if inner else target) for target in targets]
        shares = [f"{weight * 100 / total:.3g} % {name}" for weight, name in zip(weights, names, strict=True) if total]
        parts.append(", ".join(shares) if len(targets) > 1 else names[0])
    for name in ("redirect", "directResponse", "rewrite", "fault", "timeout", "retries", "mirror", "mirrors"):
        if name in rule:
            parts.append(_action(name, rule[name]))
    parts += [each.get("type", "") for each in rule.get("filters") or []]
    matches = rule.get("match") or rule.get("matches")
    condition = "if " + " or ".join(_match(match) for match in matches) + ": " if matches and any(matches) else ""
    return condition + ", ".join(part for part in parts if part)


def _target(target: dict[str, Any]) -> str:
    return str(target.get("subset") or target.get("host") or target.get("name"))


def _action(name: str, value: Any) -> str:
    if name == "timeout":
        return f"timeout {value}"
    if name == "retries":
        return f"up to {value.get('attempts', 0)} retries"
    if name == "fault":
        return " and ".join(f"{kind} {(value[kind].get('percentage') or {}).get('value', 0)} %" for kind in value)
    if name == "mirror":
        return f"mirrored to {_target(value)}"
    if name == "mirrors":
        return "mirrored"
    return {"directResponse": "direct response"}.get(name, name)


def _match(match: dict[str, Any]) -> str:
    parts = []
    for name, value in match.items():
        if isinstance(value, dict) and name in ("uri", "path", "method"):
            parts.append(f"{name} {next((str(each) for key, each in value.items() if key != 'type'), '')}")
        elif isinstance(value, dict):
            parts.append(f"{name} {', '.join(value)}")
        elif isinstance(value, list):
            parts.append(f"{name} {', '.join(str(each.get('name')) for each in value)}")
    return " and ".join(parts)
