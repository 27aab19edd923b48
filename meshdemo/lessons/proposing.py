"""`meshdemo check --write`: for each rule of a policy a call that meets it and one that does not, to read and keep.

The calls come from the conditions of VirtualServices, HTTPRoutes and AuthorizationPolicies; what each of them meets is
seen in the lab (Istio, HTTPMatchRequest and Rule; Gateway API, HTTPRouteMatch).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from meshdemo.explaining.words import name_rule
from meshdemo.lab.cluster.model import Cluster, Service
from meshdemo.lab.cluster.pods import matches
from meshdemo.lab.files.kinds import GATEWAY_API, ISTIO, SECURITY
from meshdemo.lab.files.manifest import Manifest

_WIDTH = 100
_ELSEWHERE = "/neither-this"
_GATEWAY_MATCHES = {"Exact": "exact", "PathPrefix": "prefix", "RegularExpression": "regex"}


@dataclass(frozen=True)
class Condition:
    """What a rule asks of one part of a request: `path`, `method`, or the header or query parameter of a name.

    `kind` is `exact`, `prefix`, `regex`, `present` or `absent`.
    """

    part: str
    kind: str
    value: str = ""
    name: str = ""


@dataclass(frozen=True)
class Proposal:
    """A call: from a workload to a host, and its request; `title` says which rule it is about."""

    title: str
    origin: str
    url: str
    method: str
    headers: tuple[tuple[str, str], ...]

    @property
    def command(self) -> list[str]:
        """Return it as a command, without expectations."""
        method = [] if self.method == "GET" else ["-X", self.method]
        headers = [part for name, value in self.headers for part in ("-H", f"{name}: {value}")]
        return ["meshdemo", "call", self.url, "--from", self.origin, *method, *headers]


def propose(manifests: Sequence[Manifest], cluster: Cluster) -> Iterator[Proposal | str]:
    """Yield calls for the rules of policies, and a sentence for each rule that no call was found for."""
    for manifest in manifests:
        spec = manifest.document.get("spec") or {}
        label = f"{manifest.kind}/{manifest.name}"
        for host, rules in _rules(manifest, spec, cluster):
            service = cluster.service(host)
            origin = service and _caller(cluster, service)
            if service is None or not origin or not service.ports:
                yield f"{label}: nothing here calls {host}."
                continue
            for number, alternatives in enumerate(rules):
                title = f"{label}[{number}]"
                yield from _calls(title, origin, service, alternatives)


def expectations(call: dict[str, Any]) -> list[str]:
    """Return what was seen of a call, as far as the next call is the same: what is drawn at random is left out."""
    status = call["answer"]["result"]
    seen = [f"status={'none' if status is None else status}"]
    for hop in call["hops"]:
        if hop["direction"] == "outbound" and hop["rule"]:
            seen.append(f"rule={name_rule(hop['rule'])}")
            to = hop["destination"]
            if to and to["subset"] and to["weight"] in (None, to["of"]):
                seen.append(f"subset={to['subset']}")
        if hop["decided_by"]:
            seen.append(f"decided-by={name_rule(hop['decided_by'])}")
    return list(dict.fromkeys(seen))


def format_command(proposal: Proposal, expected: Sequence[str]) -> str:
    """Return a call with what it expects, as the comment of a file has it, an expectation a line where it is long."""
    parts = [shlex.join(proposal.command), *(shlex.join(("--expect", each)) for each in expected)]
    line = f"#   {' '.join(parts)}"
    return line if len(line) <= _WIDTH else "#   " + " \\\n#     ".join(parts)


def _rules(manifest: Manifest, spec: Any, cluster: Cluster) -> Iterator[tuple[str, list[list[list[Condition]]]]]:
    """Yield each host that a policy is for, with its rules: for each the alternatives, each a list of conditions."""
    if (manifest.group, manifest.kind) == (ISTIO, "VirtualService"):
        rules = [
            [_virtual_service_conditions(match) for match in rule.get("match") or [{}]]
            for rule in spec.get("http") or []
        ]
        for host in spec.get("hosts") or []:
            yield _of_namespace(host, manifest), rules
    elif (manifest.group, manifest.kind) == (GATEWAY_API, "HTTPRoute"):
        rules = [
            [_route_conditions(match) for match in rule.get("matches") or [{}]] for rule in spec.get("rules") or []
        ]
        for parent in spec.get("parentRefs") or []:
            if parent.get("kind") == "Service":
                yield f"{parent['name']}.{parent.get('namespace') or manifest.namespace}", rules
    elif (manifest.group, manifest.kind) == (SECURITY, "AuthorizationPolicy"):
        selector = (spec.get("selector") or {}).get("matchLabels") or {}
        rules = [
            [_operation_conditions(each.get("operation") or {}) for each in rule.get("to") or [{}]]
            for rule in spec.get("rules") or []
        ]
        for service in cluster.services:
            selected = [pod for pod in cluster.pods if matches(pod.labels, service.selector)]
            if service.namespace == manifest.namespace and any(matches(pod.labels, selector) for pod in selected):
                yield f"{service.name}.{service.namespace}", rules
                break


def _of_namespace(host: str, manifest: Manifest) -> str:
    return host if "." in host else f"{host}.{manifest.namespace}"


def _caller(cluster: Cluster, service: Service) -> str:
    """Return a workload that is not behind the Service: one whose program calls, else any."""
    others = [pod for pod in cluster.pods if pod.in_mesh and not matches(pod.labels, service.selector)]
    return next((pod.workload for pod in sorted(others, key=lambda pod: not pod.calls)), "")


def _calls(
    title: str, origin: str, service: Service, alternatives: Sequence[Sequence[Condition]]
) -> Iterator[Proposal | str]:
    """Yield a call that meets each alternative of a rule, and one that meets none of them."""
    for conditions in alternatives:
        values = [_meeting(condition) for condition in conditions]
        if None in values:
            missing = conditions[values.index(None)]
            yield f"{title}: no call is proposed for the regular expression {missing.value}."
        else:
            request = [(condition, value) for condition, value in zip(conditions, values, strict=True) if value]
            yield _proposal(f"{title}: met", origin, service, request)
    if all(alternatives):
        first = alternatives[0]
        request = [(each, value) for each in first[1:] if (value := _meeting(each))]
        yield _proposal(f"{title}: not met", origin, service, [*request, *_missing(first[0])])


def _meeting(condition: Condition) -> str | None:
    """Return a value that meets a condition, empty where none is to be there, None where none is known."""
    if condition.kind == "absent":
        return ""
    if condition.kind == "present":
        return "x"
    if condition.kind == "regex":
        plain = re.sub(r"\.[*+]|\\([./-])", lambda match: match[1] or "x", condition.value.strip("^$"))
        try:
            return plain if plain and re.fullmatch(condition.value, plain) else None
        except re.error:
            return None
    return condition.value


def _missing(condition: Condition) -> list[tuple[Condition, str]]:
    """Return what a request has that does not meet a condition."""
    if condition.kind == "absent":
        return [(condition, "x")]
    others = {"path": _ELSEWHERE, "method": "GET" if condition.value != "GET" else "POST"}
    return [(condition, others[condition.part])] if condition.part in others else []


def _proposal(title: str, origin: str, service: Service, request: Sequence[tuple[Condition, str]]) -> Proposal:
    found = {condition.part: value for condition, value in request}
    headers = tuple((condition.name, value) for condition, value in request if condition.part == "header")
    query = "&".join(f"{condition.name}={value}" for condition, value in request if condition.part == "query")
    port = next((each for each in service.ports if not each.is_for_tcp), service.ports[0]).number
    name = service.name if service.namespace == "default" else f"{service.name}.{service.namespace}"
    place = name if port == 80 else f"{name}:{port}"
    url = f"http://{place}{found.get('path', '/')}{'?' if query else ''}{query}"
    return Proposal(title, origin, url, found.get("method", "GET"), headers)


def _virtual_service_conditions(match: Any) -> list[Condition]:
    conditions = [
        _string(part, match[field]) for part, field in (("path", "uri"), ("method", "method")) if match.get(field)
    ]
    conditions += [_string("header", value, name) for name, value in (match.get("headers") or {}).items()]
    conditions += [Condition("header", "absent", name=name) for name in match.get("withoutHeaders") or {}]
    return conditions + [_string("query", value, name) for name, value in (match.get("queryParams") or {}).items()]


def _string(part: str, value: Any, name: str = "") -> Condition:
    kind, text = next(iter(value.items()), ("present", "")) if isinstance(value, dict) else ("present", "")
    return Condition(part, kind, str(text), name)


def _route_conditions(match: Any) -> list[Condition]:
    conditions = []
    if path := match.get("path"):
        conditions.append(Condition("path", _GATEWAY_MATCHES[path.get("type", "PathPrefix")], path.get("value", "/")))
    if match.get("method"):
        conditions.append(Condition("method", "exact", match["method"]))
    for part, field in (("header", "headers"), ("query", "queryParams")):
        for each in match.get(field) or []:
            conditions.append(Condition(part, _GATEWAY_MATCHES[each.get("type", "Exact")], each["value"], each["name"]))
    return conditions


def _operation_conditions(operation: Any) -> list[Condition]:
    conditions = []
    for part, field in (("path", "paths"), ("method", "methods")):
        if operation.get(field):
            value = operation[field][0]
            kind = "exact" if "*" not in value else "prefix"
            conditions.append(Condition(part, kind, value.replace("*", "x")))
    return conditions
