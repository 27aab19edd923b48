"""Names for rules without one, so that the name of a route says which rule of which object it comes from.

Istio makes the name of a route of the names of the rule and the match (pilot/pkg/networking/core/route, RouteName), and
for a rule of an HTTPRoute of the object's name and the rule's number. Envoy shows it to nobody but the lab.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshdemo.lab.files import documents
from meshdemo.lab.files.kinds import GATEWAY_API, ISTIO
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.files.sources import shown_path
from meshdemo.lab.xray.matching.gateway_matches import find_match

_ROUTES = ("HTTPRoute", "GRPCRoute")
# What joins the names of a rule and of the one that delegates to it (Istio, mergeHTTPRoute).
_DELEGATION = "-"


@dataclass(frozen=True)
class Rule:
    """A rule of an object, or the object as a whole: numbers from 0 in the order of the file, None where there is none.

    `label` is the name that the file gives the rule. `line` is from 1, None where it cannot be found.
    """

    kind: str
    namespace: str
    name: str
    rule: int | None = None
    match: int | None = None
    file: str = ""
    line: int | None = None
    label: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as docs/reference.md describes it."""
        fields = dataclasses.asdict(self)
        return {name: fields[name] for name in ("kind", "namespace", "name", "rule", "match", "file", "line")}


def name_rules(policies: Sequence[Manifest]) -> tuple[Manifest, ...]:
    """Return policies whose rules and matches all have names; those that have one keep it.

    An EnvoyFilter may ask for a route by its name: then nothing is named.
    """
    if any(each.kind == "EnvoyFilter" and _asks_for_a_name(each.document) for each in policies):
        return tuple(policies)
    return tuple(_named(each) if _is_virtual_service(each) else each for each in policies)


def _asks_for_a_name(value: Any, *, of_route: bool = False) -> bool:
    """Return whether a part of an EnvoyFilter asks for a route by its name: `match...route: {name: ...}`."""
    if isinstance(value, dict):
        return (of_route and "name" in value) or any(
            _asks_for_a_name(inner, of_route=key == "route") for key, inner in value.items()
        )
    return isinstance(value, list) and any(map(_asks_for_a_name, value))


class RuleBook:
    """Finds rules by the names of their routes. `texts` are the files as they stand, by their names."""

    def __init__(self, policies: Iterable[Manifest], texts: Mapping[str, str]) -> None:
        self._policies = tuple(policies)
        self._texts = texts
        self._rules: dict[str, list[tuple[Manifest, int, int | None]]] = {}
        for manifest in self._policies:
            for name, rule, match in _route_names(manifest):
                self._rules.setdefault(name, []).append((manifest, rule, match))
        self._lines: dict[tuple[Any, ...], int | None] = {}

    def find(
        self,
        route: str,
        object_path: str = "",
        hosts: Iterable[str] = (),
        match: Mapping[str, Any] | None = None,
    ) -> Rule | None:
        """Return the rule that a route comes from; None for a route that no object made.

        `object_path` is what Istio says of the object, `hosts` are those of the route: they tell rules of the same name
        apart. `match` is the route's RouteMatch, by which it is known which match of a rule of the Gateway API it is.
        """
        found = self._rules.get(route) or self._delegated(route)
        if len(found) > 1:
            of_object = [each for each in found if object_path.endswith(f"/{each[0].namespace}/{_of_path(each[0])}")]
            wanted = set(hosts)
            of_host = [each for each in found if wanted & set(_hosts(each[0]))]
            found = of_object or of_host or found
        if not found:
            whole = (each for each in self._policies if object_path.endswith(f"/{each.namespace}/{_of_path(each)}"))
            return next((self.rule_of(each) for each in whole), None)
        manifest = found[0][0]
        numbers = [(rule, number) for each, rule, number in found if each is manifest]
        rules = {rule for rule, _ in numbers}
        if len(rules) > 1:  # a VirtualService may give several the same name
            return self.rule_of(manifest)
        rule, number = numbers[0]
        if len(numbers) > 1:
            number = None
            if match is not None and not _is_virtual_service(manifest):
                number = find_match(manifest.kind, manifest.spec["rules"][rule]["matches"], match)
        return self.rule_of(manifest, rule, number)

    def rule_of(self, manifest: Manifest, rule: int | None = None, match: int | None = None, *, path: str = "") -> Rule:
        """Return a rule of an object with its place, or the object as a whole with that of a field of it."""
        rules = manifest.spec.get(_list_of(manifest))
        own = rules[rule] if isinstance(rules, list) and rule is not None and rule < len(rules) else {}
        path = path if rule is None else f"spec.{_list_of(manifest)}[{rule}]"
        label = own.get("name") if isinstance(own, dict) else None
        return Rule(
            kind=manifest.kind,
            namespace=manifest.namespace,
            name=manifest.name,
            rule=rule,
            match=match,
            file=shown_path(manifest.path),
            line=self._line(manifest, path),
            label=label if isinstance(label, str) else "",
        )

    def _delegated(self, route: str) -> list[tuple[Manifest, int, int | None]]:
        """Return the rule of an object to which another one delegates."""
        for name, found in self._rules.items():
            manifest, number, match = found[0]
            rule = _rule_name(manifest, number, manifest.spec[_list_of(manifest)][number])
            ends = match is None or route.endswith(name.removeprefix(f"{rule}."))
            if _is_virtual_service(manifest) and f"{_DELEGATION}{rule}" in route and ends:
                return found
        return []

    def _line(self, manifest: Manifest, path: str) -> int | None:
        key = (*manifest.id, path)
        if key not in self._lines:
            text = self._texts.get(shown_path(manifest.path))
            place = (
                documents.locate(text, manifest.line, manifest.kind, manifest.name, path) if text is not None else None
            )
            self._lines[key] = place[0] if place else None
        return self._lines[key]


def _is_virtual_service(manifest: Manifest) -> bool:
    return (manifest.group, manifest.kind) == (ISTIO, "VirtualService")


def _list_of(manifest: Manifest) -> str:
    """Return the field that holds the rules of an object."""
    return "http" if _is_virtual_service(manifest) else "rules"


def _named(manifest: Manifest) -> Manifest:
    rules = manifest.spec.get("http")
    if not isinstance(rules, list):
        return manifest
    named = [_with_names(manifest, number, rule) for number, rule in enumerate(rules)]
    return dataclasses.replace(manifest, document={**manifest.document, "spec": {**manifest.spec, "http": named}})


def _with_names(manifest: Manifest, number: int, rule: Any) -> Any:
    """Return a rule with names; what is no rule is left for the engine to refuse."""
    if not isinstance(rule, dict):
        return rule
    rule = {**rule, "name": _rule_name(manifest, number, rule)} if not rule.get("name") else rule
    matches = rule.get("match")
    if isinstance(matches, list):
        rule = {
            **rule,
            "match": [
                {**match, "name": f"#{index}"} if isinstance(match, dict) and not match.get("name") else match
                for index, match in enumerate(matches)
            ],
        }
    return rule


def _rule_name(manifest: Manifest, number: int, rule: Any) -> str:
    own = rule.get("name") if isinstance(rule, dict) else None
    return own if isinstance(own, str) and own else f"{manifest.namespace}.{manifest.name}#{number}"


def _route_names(manifest: Manifest) -> Iterable[tuple[str, int, int | None]]:
    """Yield the name of each route of an object, with the numbers of its rule and its match."""
    rules = manifest.spec.get(_list_of(manifest))
    for number, rule in enumerate(rules if isinstance(rules, list) else ()):
        if _is_virtual_service(manifest):
            name = _rule_name(manifest, number, rule)
            matches = rule.get("match") if isinstance(rule, dict) else None
            for index, match in enumerate(matches if isinstance(matches, list) else ()):
                own = match.get("name") if isinstance(match, dict) else None
                yield f"{name}.{own or f'#{index}'}", number, index
            if not matches:
                yield name, number, None
        elif manifest.group == GATEWAY_API and manifest.kind in _ROUTES:
            own = rule.get("name") if isinstance(rule, dict) else None
            matches = rule.get("matches") if isinstance(rule, dict) else None
            count = len(matches) if isinstance(matches, list) else 0
            for place in range(count) if count else (None,):
                yield own or f"{manifest.namespace}.{manifest.name}.{number}", number, place


def _hosts(manifest: Manifest) -> Iterable[str]:
    hosts = manifest.spec.get("hosts")
    return [each for each in hosts if isinstance(each, str)] if isinstance(hosts, list) else []


def _of_path(manifest: Manifest) -> str:
    """Return the end of Istio's path of an object."""
    return f"{'virtual-service' if _is_virtual_service(manifest) else manifest.kind}/{manifest.name}"
