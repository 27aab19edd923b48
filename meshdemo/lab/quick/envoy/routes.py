"""Writing rules as Envoy's routes (pilot/pkg/networking/core/route/route.go and .../retry/retry.go of Istio)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshdemo.lab.quick.envoy.actions import (
    cors_policy,
    direct_response,
    fault,
    hash_policy,
    header_changes,
    redirect,
    retry_policy,
)
from meshdemo.lab.quick.envoy.words import (
    CORS,
    FAULT,
    cluster_name,
    duration,
    share,
    string_matcher,
    without_empty,
)
from meshdemo.lab.quick.rules.model import Match, Mirror, Rewrite, Route, StringMatch, Target, VirtualHost
from meshdemo.lab.quick.rules.registry import Registry

_PATHS = {"exact": "path", "prefix": "prefix", "segments": "path_separated_prefix"}
#: The largest answer that is made up without a call, 1 MiB.
_MOST_BODY_BYTES = 1024 * 1024
# Calls to hosts that nobody knows pass through (MeshConfig.outboundTrafficPolicy, ALLOW_ANY).
_ALLOW_ANY = {
    "name": "allow_any",
    "domains": ["*"],
    "routes": [
        {
            "name": "allow_any",
            "match": {"prefix": "/"},
            "route": {"cluster": "PassthroughCluster", "timeout": "0s", "max_grpc_timeout": "0s"},
        }
    ],
    "include_request_attempt_count": True,
}


def route_configuration(
    name: str, virtual_hosts: Iterable[VirtualHost], registry: Registry, *, allow_any: bool
) -> dict[str, Any]:
    """Return a RouteConfiguration; with `allow_any` other hosts pass through, else they are not found."""
    return {
        "name": name,
        "virtual_hosts": [
            *(_virtual_host(virtual_host, registry) for virtual_host in virtual_hosts),
            *([_ALLOW_ANY] if allow_any else []),
        ],
        "validate_clusters": False,
        "max_direct_response_body_size_bytes": _MOST_BODY_BYTES,
        "ignore_port_in_host_matching": True,
    }


def _virtual_host(host: VirtualHost, registry: Registry) -> dict[str, Any]:
    written: dict[str, Any] = {"name": host.name, "domains": list(host.domains)}
    if host.routes:
        written["routes"] = [_route(route, registry) for route in host.routes]
    if host.https_only:
        written["require_tls"] = "ALL"
    if host.routes or host.https_only:
        written["include_request_attempt_count"] = True
    return written


def _route(route: Route, registry: Registry) -> dict[str, Any]:
    rule, match = route.rule, route.match
    written: dict[str, Any] = {"name": ".".join(filter(None, (rule.name, match.name if match else "")))}
    written["match"] = _match(match)
    changes = header_changes(rule.headers)
    if rule.redirect:
        written["redirect"] = redirect(rule.redirect, route.port, "https" if route.over_tls else "http")
    elif rule.response:
        written["direct_response"] = direct_response(rule.response)
    else:
        written["route"] = _action(route, registry)
        if len(rule.targets) == 1:
            for name, value in header_changes(rule.targets[0].headers).items():
                changes[name] = changes.get(name, []) + value
    filters = {}
    if rule.fault:
        filters[FAULT] = fault(rule.fault)
    if rule.cors:
        filters[CORS] = cors_policy(rule.cors)
    return without_empty({**written, **changes, "typed_per_filter_config": filters or None})


def _match(match: Match | None) -> dict[str, Any]:
    """Return a RouteMatch (TranslateRouteMatch)."""
    if match is None:
        return {"prefix": "/"}
    path = match.path or StringMatch("prefix", "/")
    written: dict[str, Any] = (
        {"safe_regex": {"regex": path.value}} if path.kind == "regex" else {_PATHS[path.kind]: path.value}
    )
    written["case_sensitive"] = not match.ignore_case
    headers = [_condition(name, value) for name, value in match.headers]
    for name, value in match.without_headers:
        empty = {} if value.kind == "present" else {"treat_missing_header_as_empty": True}
        headers.append({**_condition(name, value), "invert_match": True, **empty})
    headers.sort(key=lambda header: header["name"])
    for name, condition in ((":method", match.method), (":authority", match.authority), (":scheme", match.scheme)):
        if condition:
            headers.append(_condition(name, condition))
    written["headers"] = headers
    written["query_parameters"] = [_condition(name, value) for name, value in match.parameters]
    return {name: value for name, value in written.items() if value != []}


def _condition(name: str, match: StringMatch) -> dict[str, Any]:
    if match.kind == "present":
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": string_matcher(match)}


def _action(route: Route, registry: Registry) -> dict[str, Any]:
    """Return a RouteAction (applyHTTPRouteDestination)."""
    rule = route.rule
    timeout = duration(rule.timeout_seconds or 0)
    action: dict[str, Any] = {"timeout": timeout, "max_grpc_timeout": timeout}
    if route.of_gateway_api:
        action["cluster_not_found_response_code"] = "INTERNAL_SERVER_ERROR"
    if rule.rewrite:
        action |= _rewrite(rule.rewrite)
    authority = (rule.rewrite.authority if rule.rewrite else "") or rule.headers.request.authority
    hashings = [registry.hashing_for(target.destination) for target in rule.targets]
    if len(rule.targets) == 1:
        target = rule.targets[0]
        if route.is_default:
            hashings = [registry.hashing_for_host(target.destination.host, route.port)]
        action["cluster"] = _cluster(route, registry, target)
        authority = authority or target.headers.request.authority
    else:
        pairs = [(target, hashing) for target, hashing in zip(rule.targets, hashings, strict=True) if target.weight]
        hashings = [hashing for _, hashing in pairs]
        action["weighted_clusters"] = {"clusters": [_weighted(route, registry, target) for target, _ in pairs]}
    if authority:
        action["host_rewrite_literal"] = authority
    action["request_mirror_policies"] = [_mirror(mirror, route, registry) for mirror in rule.mirrors]
    action["hash_policy"] = [written for hashing in hashings if hashing and (written := hash_policy(hashing))]
    # Calls that are kept together are retried where they belong.
    is_hashed = len(rule.targets) == 1 and hashings[0] is not None and not route.is_default
    retry = retry_policy(rule.retry, is_hashed=is_hashed)
    return {name: value for name, value in {**action, "retry_policy": retry}.items() if value not in ([], None)}


def _cluster(route: Route, registry: Registry, target: Target) -> str:
    destination = target.destination
    port = registry.port_of(destination, route.port, at_gateway=route.at_gateway)
    return cluster_name(destination.host, port, destination.subset)


def _weighted(route: Route, registry: Registry, target: Target) -> dict[str, Any]:
    authority = target.headers.request.authority
    return {
        "name": _cluster(route, registry, target),
        "weight": target.weight,
        **header_changes(target.headers),
        **({"host_rewrite_literal": authority} if authority else {}),
    }


def _mirror(mirror: Mirror, route: Route, registry: Registry) -> dict[str, Any]:
    return {
        "cluster": _cluster(route, registry, Target(mirror.destination)),
        "runtime_fraction": {"default_value": share(mirror.share)},
        "trace_sampled": False,
        "disable_shadow_host_suffix_append": True,
    }


def _rewrite(rewrite: Rewrite) -> dict[str, Any]:
    if rewrite.pattern:
        return {"regex_rewrite": {"pattern": {"regex": rewrite.pattern}, "substitution": rewrite.substitution}}
    return {"prefix_rewrite": rewrite.prefix} if rewrite.prefix else {}
