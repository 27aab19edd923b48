"""Reading HTTPRoutes (Gateway API, HTTPRoute specification v1) as Istio does (kube/gateway/route_collections.go).

The rules of all routes for one host and parent are put in one order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshdemo.lab.files.documents import shown
from meshdemo.lab.files.kinds import GATEWAY_API, NAMESPACE
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.files.schema import Fields, List, Object, Text, read
from meshdemo.lab.quick.reading import fields as kinds
from meshdemo.lab.quick.reading.fields import Some, Unsupported
from meshdemo.lab.quick.reading.gateways import Listener
from meshdemo.lab.quick.reading.http_filters import HOSTNAME
from meshdemo.lab.quick.reading.http_rules import EVERYTHING, RULE, named
from meshdemo.lab.quick.rules.hosts import matches, subset_of
from meshdemo.lab.quick.rules.model import MESH, DirectResponse, Rule, RuleSet, StringMatch
from meshdemo.lab.quick.rules.refusing import missing, refused

_SCHEMA = Object(
    {
        "parentRefs": List(
            Object(
                {
                    "group": Text(),
                    "kind": Text(),
                    "name": Text(),
                    "namespace": Some(known=(NAMESPACE,)),
                    "sectionName": Text(),
                    "port": kinds.PORT,
                },
                ("name",),
            ),
            most=32,
        ),
        "hostnames": List(Text(pattern=rf"(\*\.)?{HOSTNAME}", rule="a host name"), most=16),
        "rules": List(RULE, least=1, most=16),
        "useDefaultGateways": Unsupported(("None",)),
    }
)
# Exact before prefix before regular expression, the longer first (sortHTTPRoutes, getURIRank).
_RANKS = {"exact": 3, "prefix": 2, "segments": 2, "regex": 1}


@dataclass(frozen=True)
class Attachment:
    """The rules of one HTTPRoute for one host of one parent; those of the same `key` are merged."""

    key: str
    route: str
    rules: RuleSet


def read_http_route(
    manifest: Manifest, listeners: Sequence[Listener], services: Mapping[str, Sequence[int]]
) -> tuple[list[Attachment], list[str]]:
    """Return what a route does at each of its parents, and advice on parents that do not take it.

    `services` are the ports of each Service, by its full name.
    """
    spec = read(manifest, _SCHEMA)
    names = [rule.name for group in spec["rules"] for rule in group[:1] if rule.name]
    if len(set(names)) < len(names):
        raise spec.error("rules", "has the same name twice")
    rules = named(spec["rules"] or [[Rule(matches=(EVERYTHING,), response=DirectResponse(500))]], manifest.name)
    found: dict[str, Attachment] = {}
    advice: list[str] = []
    if not spec["parentRefs"]:
        advice.append(f"{spec.place}.parentRefs: not in force: it names neither a Service nor a Gateway")
    for parent in spec["parentRefs"]:
        group, kind = parent["group"] if parent["group"] is not None else GATEWAY_API, parent["kind"] or "Gateway"
        if (group, kind) in (("", "Service"), ("core", "Service")):
            attached = [_at_service(manifest, parent, rules, services)]
            ports = services[kinds.full_name(parent["name"])]
            if parent["port"] not in (None, *ports):
                attached = []
                known = ", ".join(map(str, ports))
                advice.append(
                    f"{parent.place}.port: not in force: {parent['name']} has no port {parent['port']}, only {known}"
                )
            for name in ("hostnames",) if spec["hostnames"] else ():
                advice.append(f"{spec.place}.{name}: has no meaning where the parent is a Service")
        elif (group, kind) == (GATEWAY_API, "Gateway"):
            attached = list(_at_gateway(manifest, parent, rules, listeners, spec["hostnames"] or ["*"]))
            if not attached:
                advice.append(f"{parent.place}: not in force: no listener of this Gateway takes it")
        else:
            problem = f"{shown(kind)} of {shown(group)} is not supported by the quick engine"
            raise refused(f"{parent.place}.kind", problem)
        for each in attached:
            if each.key in found and kind == "Service":
                raise parent.error("name", "is the parent of this route already")
            found.setdefault(each.key, each)
    return list(found.values()), advice


def merge(attachments: Iterable[Attachment]) -> list[RuleSet]:
    """Return the rules of all routes in the order of the Gateway API (route_collections.go, mergeHTTPRoutes)."""
    by_key: dict[str, list[Attachment]] = {}
    for each in sorted(attachments, key=lambda attachment: attachment.route):
        by_key.setdefault(each.key, []).append(each)
    merged = []
    for key, parts in by_key.items():
        rules = sorted((rule for part in parts for rule in part.rules.rules), key=_rank, reverse=True)
        merged.append(dataclasses.replace(parts[0].rules, name=key.replace("/", "~"), rules=tuple(rules)))
    return merged


def _rank(rule: Rule) -> tuple[int, ...]:
    match = rule.matches[0]
    path = match.path or StringMatch("prefix", "/")
    length = len(path.value.encode())
    return _RANKS[path.kind], length, match.method is not None, len(match.headers), len(match.parameters)


def _at_service(manifest: Manifest, parent: Fields, rules: tuple[Rule, ...], services: Iterable[str]) -> Attachment:
    """Return the rules for calls of a Service, at one of its ports or at all."""
    host, port = kinds.full_name(parent["name"]), parent["port"]
    if host not in services:
        names = [service.partition(".")[0] for service in services]
        raise missing(f"{parent.place}.name", "no Service has the name", parent["name"], names)
    if port is not None:
        rules = tuple(
            dataclasses.replace(rule, matches=(dataclasses.replace(rule.matches[0], port=port),)) for rule in rules
        )
    key = f"{NAMESPACE}/{port}/{host}" if port is not None else f"{NAMESPACE}/{host}"
    return Attachment(key, manifest.name, _rule_set(manifest, host, MESH, rules))


def _at_gateway(
    manifest: Manifest, parent: Fields, rules: tuple[Rule, ...], listeners: Sequence[Listener], hostnames: list[str]
) -> Iterable[Attachment]:
    """Yield the rules for each hostname at each listener that takes them (referenceAllowed)."""
    of_parent = [listener for listener in listeners if listener.gateway == parent["name"]]
    if not of_parent:
        names = [listener.gateway for listener in listeners]
        raise missing(f"{parent.place}.name", "no Gateway of the Gateway API has the name", parent["name"], names)
    for listener in of_parent:
        taken = (
            parent["port"] in (None, listener.port)
            and parent["sectionName"] in (None, listener.name)
            and any(matches(listener.hostname, hostname) for hostname in hostnames)
            and listener.takes_http_routes
        )
        others = {other.hostname for other in of_parent if other.port == listener.port} - {listener.hostname}
        for hostname in hostnames if taken else ():
            if _is_isolated(hostname, listener.hostname, others):
                key = f"{listener.internal_name}/{hostname}"
                yield Attachment(key, manifest.name, _rule_set(manifest, hostname, listener.internal_name, rules))


def _is_isolated(hostname: str, own: str, others: Iterable[str]) -> bool:
    """Return whether no other listener of the port is closer to a hostname (hostnameAllowedByIsolation)."""
    if own != "*" and not own.startswith("*"):
        return True
    if own != "*" and not matches(hostname, own):
        return False
    length = 0 if own == "*" else len(own)
    return not any(other != "*" and length <= len(other) and subset_of(hostname, other) for other in others)


def _rule_set(manifest: Manifest, host: str, gateway: str, rules: tuple[Rule, ...]) -> RuleSet:
    place = f"{manifest.place}: spec"
    return RuleSet(manifest.name, place, (host,), (gateway,), rules, of_gateway_api=True)
