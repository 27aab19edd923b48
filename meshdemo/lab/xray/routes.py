"""The route that an Envoy took for a request, and what stands in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshdemo.lab.engine import Resource
from meshdemo.lab.xray.causes import clusters_of
from meshdemo.lab.xray.facts.calls import Destination, PassedOver, Retries
from meshdemo.lab.xray.facts.naming import Rule
from meshdemo.lab.xray.facts.records import Record
from meshdemo.lab.xray.facts.scene import Scene, target_of
from meshdemo.lab.xray.matching.evaluation import EVERY_REQUEST, Request, evaluate
from meshdemo.lab.xray.policies.destination_rules import policy_for
from meshdemo.lab.xray.policies.virtual_services import caller_of, callers_of, left_out


class Route:
    """The route that an Envoy took, and what stands in it."""

    def __init__(self, record: Record, scene: Scene) -> None:
        self.rule: Rule | None = None
        self.matched: str | None = None
        self.passed_over: tuple[PassedOver, ...] = ()
        self.route: Resource | None = None
        self._scene = scene
        hosts: Resource | None = None
        configuration = None if record.is_inbound else scene.routes(record.envoy, record.routes)
        if configuration is None:
            self._action: Mapping[str, Any] = {}
            self.destination = None
            return
        headers = tuple(record.headers.items())
        request = Request(record.method, record.authority, record.path, headers, is_logged=True)
        manager = scene.manager(record.envoy, record.routes)
        evaluation = evaluate(configuration, request, manager, scene.secret_headers)
        hosts, routes = None, []
        if evaluation and evaluation.virtual_host is not None:
            hosts = next(each for each in configuration["virtual_hosts"] if each["name"] == evaluation.virtual_host)
            routes = hosts.get("routes", [])
        is_agreed = (
            evaluation is not None
            and evaluation.route is not None
            and routes[evaluation.route].get("name", "") == record.route
        )
        if is_agreed and evaluation and evaluation.route is not None:
            self.route = routes[evaluation.route]
        else:
            hosts, self.route = find_by_name(configuration, record)
        domains = tuple((hosts or {}).get("domains", ()))
        match = self.route["match"] if is_agreed and self.route else None
        self.rule = scene.book.find(record.route, record.object, domains, match)
        self._action = (self.route or {}).get("route") or {}
        self.destination = _destination(record, self._action, scene)
        if evaluation and (is_agreed or (evaluation.route is None and record.details == "route_not_found")):
            caller = caller_of(record, scene)
            self.matched = _matched(evaluation.met, callers_of(self.rule, scene) if self.rule else [])
            passed = zip(routes, evaluation.passed_over, strict=False)
            book = scene.book
            found = ((book.find(each.get("name", ""), "", domains, each["match"]), why) for each, why in passed)
            seen = [PassedOver(rule, why) for rule, why in found if rule]
            rule = self.rule or (seen[-1].rule if seen else None)
            others = left_out(rule, caller, scene, is_met=self.rule is not None) if rule and caller else []
            self.passed_over = tuple(_in_order(seen, others))

    @property
    def retries(self) -> Retries | None:
        """Return how calls are tried again; None for not at all."""
        policy = self._action.get("retry_policy")
        if not policy or not policy.get("num_retries", 1):
            return None
        codes = [str(code) for code in policy.get("retriable_status_codes", [])]
        on = [each for each in policy.get("retry_on", "").split(",") if each not in ("", "retriable-status-codes")]
        said = self._scene.document(self.rule) if self.rule else {}
        is_default = not (said.get("retries") or said.get("retry"))
        per_try = _seconds(policy.get("per_try_timeout"))
        return Retries(int(policy.get("num_retries", 1)), (*on, *codes), is_default, per_try)

    @property
    def timeout_seconds(self) -> float | None:
        """Return how long all tries together may take; None for as long as they want."""
        return _seconds(self._action.get("timeout")) or None


def _matched(met: str, callers: list[str] | None) -> str | None:
    """Return what a route asked for, of the request and of the caller, whom Envoy does not ask about."""
    if met == EVERY_REQUEST and callers != []:
        return ", ".join(callers) if callers else None
    return ", ".join(filter(None, [met, *(callers or [])])) or None


def _in_order(seen: list[PassedOver], others: list[PassedOver]) -> list[PassedOver]:
    """Return the rules before one in the order of their object; where they are of several, in that of Envoy."""
    both = [*seen, *others]
    if len({(each.rule.kind, each.rule.namespace, each.rule.name) for each in both}) > 1:
        return both
    return sorted(both, key=lambda each: (each.rule.rule or 0, each.rule.match or 0)) if others else both


def find_by_name(configuration: Resource, record: Record) -> tuple[Resource | None, Resource | None]:
    """Return the route by its name and destination, with its virtual host."""
    best: tuple[Resource | None, Resource | None] = (None, None)
    for host in configuration.get("virtual_hosts", []):
        for route in host.get("routes", []):
            if route.get("name", "") == record.route:
                if record.cluster in clusters_of(route.get("route") or {}):
                    return host, route
                if not record.cluster and best[1] is None:
                    best = host, route
    return best


def _destination(record: Record, action: Mapping[str, Any], scene: Scene) -> Destination | None:
    alone = action.get("cluster", "")
    target = target_of(record.cluster or alone)
    if target is None:
        return None
    weighted = (action.get("weighted_clusters") or {}).get("clusters", [])
    weight = next((int(each.get("weight", 0)) for each in weighted if each["name"] == record.cluster), None)
    total = sum(int(each.get("weight", 0)) for each in weighted) if weight is not None else None
    policy = policy_for(scene, record.envoy, target)
    rule = scene.book.rule_of(policy.source_of(target.subset)) if policy else None
    return Destination(target.host, target.port, target.subset, weight, total, rule)


def _seconds(value: Any) -> float | None:
    return float(str(value).removesuffix("s")) if value else None
