"""The conditions of VirtualServices, HTTPRoutes and AuthorizationPolicies.

(Istio, HTTPMatchRequest, Rule and Condition; Gateway API, HTTPRouteMatch.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from meshdemo.lab.files.kinds import GATEWAY_API, ISTIO, SECURITY
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lessons.proposing.conditions import Condition, Part, Pattern

#: The kinds whose rules calls are proposed for.
KINDS = {
    (ISTIO, "VirtualService"): "http",
    (GATEWAY_API, "HTTPRoute"): "rules",
    (SECURITY, "AuthorizationPolicy"): "rules",
}
_GATEWAY_MATCHES = {"Exact": "exact", "PathPrefix": "prefix", "RegularExpression": "regex"}
# Fields of a source and of an operation, and keys of `when`, by what of a call they ask for.
_SOURCE = {"namespaces": "namespace", "serviceAccounts": "service account", "principals": "principal"}
_OPERATION: dict[str, tuple[Part, str]] = {
    "paths": ("path", ""),
    "methods": ("method", ""),
    "hosts": ("authority", ""),
    "ports": ("port", "target"),
}
_WHEN: dict[str, tuple[Part, str]] = {
    "source.namespace": ("caller", "namespace"),
    "source.serviceAccount": ("caller", "service account"),
    "source.principal": ("caller", "principal"),
    "destination.port": ("port", "target"),
}
_HEADER = re.compile(r"request\.headers\[([^\]]+)\]")
# Of a match of a VirtualService what asks for nothing.
_NO_CONDITIONS = {"name", "ignoreUriCase", "statPrefix"}

Alternatives = list[list[Condition]]


def rules_of(manifest: Manifest) -> list[Alternatives]:
    """Return for each rule of a policy its alternatives, each a list of conditions."""
    spec = manifest.spec
    rules = spec.get(KINDS[manifest.group, manifest.kind]) or []
    if manifest.kind == "VirtualService":
        return [[_of_match(match) for match in rule.get("match") or [{}]] for rule in rules]
    if manifest.kind == "HTTPRoute":
        return [[_of_route(match) for match in rule.get("matches") or [{}]] for rule in rules]
    return [list(_of_authorization(rule or {}, manifest.namespace)) for rule in rules]


def delegate_of(manifest: Manifest, number: int) -> str | None:
    """Return the name of the VirtualService to which a rule delegates, None where it does not."""
    rules = manifest.spec.get("http") or []
    delegate = rules[number].get("delegate") if manifest.kind == "VirtualService" else None
    return delegate["name"] if delegate else None


def find_root(manifest: Manifest, policies: Iterable[Manifest]) -> tuple[Manifest | None, Alternatives]:
    """Return the VirtualService that delegates to one without hosts, and what it asks of calls before it does."""
    if manifest.kind == "VirtualService" and not manifest.spec.get("hosts"):
        for root in policies:
            rules = root.spec.get("http") if root.kind == "VirtualService" else None
            for number, rule in enumerate(rules or ()):
                delegate = rule.get("delegate") or {}
                namespace = delegate.get("namespace") or root.namespace
                if (namespace, delegate.get("name")) == (manifest.namespace, manifest.name):
                    return root, rules_of(root)[number]
    return None, [[]]


def _of_match(match: Any) -> list[Condition]:
    """Return the conditions of a match of a VirtualService."""
    found = []
    for name, value in (match.get("sourceLabels") or {}).items():
        found.append(_one("caller", f"sourceLabels {name}: {value}", "exact", value, f"label {name}"))
    if match.get("sourceNamespace"):
        words = f"sourceNamespace: {match['sourceNamespace']}"
        found.append(_one("caller", words, "exact", match["sourceNamespace"], "namespace"))
    parts: tuple[tuple[Part, str], ...] = (("path", "uri"), ("method", "method"), ("authority", "authority"))
    for part, field in parts:
        if match.get(field):
            found.append(_of_string(part, field, match[field]))
    for name, value in (match.get("headers") or {}).items():
        found.append(_of_string("header", "headers", value, name))
    for name, value in (match.get("withoutHeaders") or {}).items():
        found.append(_of_string("header", "withoutHeaders", value, name, is_negated=True))
    for name, value in (match.get("queryParams") or {}).items():
        found.append(_of_string("query", "queryParams", value, name))
    if match.get("port"):
        found.append(_one("port", f"port: {match['port']}", "exact", match["port"], "number"))
    if match.get("gateways"):
        patterns = tuple(Pattern("exact", str(each)) for each in match["gateways"])
        found.append(Condition("gateway", patterns, f"gateways: {', '.join(map(str, match['gateways']))}"))
    known = {
        "sourceLabels",
        "sourceNamespace",
        "uri",
        "method",
        "authority",
        "headers",
        "withoutHeaders",
        "queryParams",
    }
    return found + _others(match, known | {"port", "gateways"} | _NO_CONDITIONS)


def _of_string(part: Part, field: str, value: Any, name: str = "", *, is_negated: bool = False) -> Condition:
    """Return the condition that a StringMatch makes: an empty one asks for the header to be there."""
    kind, text = next(iter(value.items()), ("present", "")) if isinstance(value, dict) else ("present", "")
    words = f"{field} {name}: {kind} {text}".replace(" :", ":").strip()
    return Condition(part, (Pattern(kind, str(text)),), words, name.lower(), is_negated)


def _of_route(match: Any) -> list[Condition]:
    """Return the conditions of a match of an HTTPRoute."""
    found = []
    if path := match.get("path"):
        kind = _GATEWAY_MATCHES.get(path.get("type", "PathPrefix"), "other")
        found.append(_one("path", f"path: {path.get('value', '/')}", kind, path.get("value", "/")))
    if match.get("method"):
        found.append(_one("method", f"method: {match['method']}", "exact", match["method"]))
    parts: tuple[tuple[Part, str], ...] = (("header", "headers"), ("query", "queryParams"))
    for part, field in parts:
        for each in match.get(field) or []:
            kind = _GATEWAY_MATCHES.get(each.get("type", "Exact"), "other")
            name = each["name"].lower() if part == "header" else each["name"]
            found.append(_one(part, f"{field} {each['name']}: {each['value']}", kind, each["value"], name))
    return found


def _of_authorization(rule: Any, namespace: str) -> Iterator[list[Condition]]:
    """Yield the conditions of a rule of an AuthorizationPolicy, with each source and each operation once."""
    sources = [each.get("source") or {} for each in rule.get("from") or [{}]]
    operations = [each.get("operation") or {} for each in rule.get("to") or [{}]]
    always = [condition for each in rule.get("when") or [] for condition in _of_when(each, namespace)]
    for number in range(max(len(sources), len(operations))):
        source, operation = (each[min(number, len(each) - 1)] for each in (sources, operations))
        yield [*_of_source(source, namespace), *_of_operation(operation), *always]


def _of_source(source: Any, namespace: str) -> Iterator[Condition]:
    known = set()
    for field, what in _SOURCE.items():
        for name, is_negated in _both(field):
            known.add(name)
            if source.get(name):
                yield _of_values("caller", name, source[name], what, namespace, is_negated=is_negated)
    yield from _others(source, known)


def _of_operation(operation: Any) -> Iterator[Condition]:
    known = set()
    for field, (part, what) in _OPERATION.items():
        for name, is_negated in _both(field):
            known.add(name)
            if operation.get(name):
                yield _of_values(part, name, operation[name], what, is_negated=is_negated)
    yield from _others(operation, known)


def _of_when(when: Any, namespace: str) -> Iterator[Condition]:
    key = str(when.get("key"))
    header = _HEADER.fullmatch(key)
    part, what = _WHEN.get(key, ("other", ""))
    if header:
        part, what = "header", header[1].lower()
    for field, is_negated in (("values", False), ("notValues", True)):
        if when.get(field):
            yield _of_values(part, f"{key} {field}", when[field], what, namespace, is_negated=is_negated)


def _of_values(
    part: Part, field: str, values: Sequence[Any], name: str = "", namespace: str = "", *, is_negated: bool = False
) -> Condition:
    """Return the condition that values make, in which an asterisk at an end stands for any characters."""
    words = f"{field}: {', '.join(map(str, values))}"
    texts = [str(each) for each in values]
    if name == "service account":
        texts = [each if "/" in each else f"{namespace}/{each}" for each in texts]
    return Condition(part, tuple(_of_value(part, each) for each in texts), words, name, is_negated)


def _of_value(part: Part, text: str) -> Pattern:
    """Return the pattern of a value (Istio, pilot/pkg/security/authz/matcher; uri_template for paths with braces)."""
    if part == "path" and re.search(r"\{\*{1,2}\}", text):
        pieces = re.split(r"(\{?\*{1,2}\}?)", text)
        whole = {"{*}": "[^/]+", "*": "[^/]+", "{**}": ".+", "**": ".+"}
        return Pattern("regex", "".join(whole.get(each) or re.escape(each) for each in pieces))
    if text == "*":
        return Pattern("present")
    if text.startswith("*"):
        return Pattern("suffix", text[1:])
    return Pattern("prefix", text[:-1]) if text.endswith("*") else Pattern("exact", text)


def _one(part: Part, words: str, kind: str, value: Any, name: str = "") -> Condition:
    return Condition(part, (Pattern(kind, str(value)),), words, name)


def _both(field: str) -> tuple[tuple[str, bool], tuple[str, bool]]:
    """Return the name of a field and that of its opposite: paths and notPaths."""
    return (field, False), (f"not{field[0].upper()}{field[1:]}", True)


def _others(holder: Any, known: Iterable[str]) -> list[Condition]:
    """Return conditions of fields that no call here can choose."""
    return [Condition("other", (), str(name)) for name in holder if name not in known and holder[name]]
