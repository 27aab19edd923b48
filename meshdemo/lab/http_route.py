"""HTTPRoutes as Envoy routes.

The rules are those of the Gateway API (HTTPRoute, API specification v1); where it leaves a choice, Istio's
(pilot/pkg/config/kube/gateway/conversion.go).
"""

from __future__ import annotations

import re
from typing import Any

from meshdemo.lab.destinations import Destination, Destinations, duration
from meshdemo.lab.manifests import Fields
from meshdemo.lab.virtual_service import (
    add_hashing,
    default_retries,
    fraction,
    header_operations,
    mirror_policy,
    redirect_code,
)

# Exact before regular expression before prefix (conversion.go, getURIRank).
_PATH_RANK = {"Exact": 3, "RegularExpression": 2, "PathPrefix": 1}


def routes_of(spec: Fields, destinations: Destinations) -> list[dict[str, Any]]:
    """Return the Envoy routes of an HTTPRoute, the more specific match first whatever its place in the file."""
    ranked = []
    for rule in spec.items("rules"):
        rule.ignore("name")
        matches = rule.items("matches") or [Fields({}, rule.at("matches"))]
        for match in matches:
            rank, prefix, translated = _match(match)
            ranked.append((rank, {"match": translated, **_common(rule, prefix, destinations)}))
    if not ranked:
        raise spec.error("rules", "is missing")
    return [route for _, route in sorted(ranked, key=lambda each: each[0], reverse=True)]


def _match(match: Fields) -> tuple[tuple[int, ...], str, dict[str, Any]]:
    """Return the precedence of a match, its prefix (empty for other kinds), and Envoy's form of it."""
    path = match.fields("path")
    kind = (path.text("type") if path else None) or "PathPrefix"
    value = (path.text("value") if path else None) or "/"
    prefix = ""
    result: dict[str, Any]
    if kind == "Exact":
        result = {"path": value}
    elif kind == "RegularExpression":
        result = {"safe_regex": {"regex": value}}
    elif kind == "PathPrefix":
        prefix = value.rstrip("/")
        result = {"path_separated_prefix": prefix} if prefix else {"prefix": "/"}
    else:
        raise match.error("path.type", f"{kind!r} is not Exact, PathPrefix or RegularExpression")
    headers = [{"name": name.lower(), **condition} for name, condition in _conditions(match, "headers")]
    parameters = [{"name": name, **condition} for name, condition in _conditions(match, "queryParams")]
    method = match.text("method")
    # HTTPRouteRule.matches: method before headers before query parameters, by their number.
    rank = (_PATH_RANK[kind], len(value), method is not None, len(headers), len(parameters))
    if method:
        headers.append({"name": ":method", "string_match": {"exact": method}})
    if headers:
        result["headers"] = headers
    if parameters:
        result["query_parameters"] = parameters
    return rank, prefix, result


def _conditions(match: Fields, name: str) -> list[tuple[str, dict[str, Any]]]:
    result = []
    for each in match.items(name):
        kind, value = each.text("type") or "Exact", each.text("value") or ""
        if kind not in ("Exact", "RegularExpression"):
            raise each.error("type", f"{kind!r} is not Exact or RegularExpression")
        string = {"exact": value} if kind == "Exact" else {"safe_regex": {"regex": value}}
        result.append((each.required_text("name"), {"string_match": string}))
    return result


def _common(rule: Fields, prefix: str, destinations: Destinations) -> dict[str, Any]:
    """Return what an Envoy route has beside its match; `prefix` is what a prefix was matched by."""
    route: dict[str, Any] = {}
    rewrite: dict[str, Any] = {}
    mirrors: list[dict[str, Any]] = []
    for item in rule.items("filters"):
        kind = item.required_text("type")
        if kind == "RequestHeaderModifier":
            route |= _modifier("request", item.required("requestHeaderModifier"))
        elif kind == "ResponseHeaderModifier":
            route |= _modifier("response", item.required("responseHeaderModifier"))
        elif kind == "RequestRedirect":
            route["redirect"] = _redirect(item.required("requestRedirect"), prefix)
        elif kind == "URLRewrite":
            rewrite = _rewrite(item.required("urlRewrite"), prefix)
        elif kind == "RequestMirror":
            mirrors.append(_mirror(item.required("requestMirror"), destinations))
        else:
            raise item.error("type", f"{kind} is not supported here")
    backends = [(each, _backend(each, destinations)) for each in rule.items("backendRefs")]
    timeouts = rule.fields("timeouts")
    if "redirect" in route:
        if backends or timeouts:
            raise rule.error("backendRefs", "and timeouts do not go with a redirect")
        return route
    weights = [_weight(each) for each, _ in backends]
    if not sum(weights):
        # HTTPRouteRule.backendRefs: without a backend, or with weights of 0 alone, the answer is 500.
        return {**route, "direct_response": {"status": 500}}
    action = _action(backends, weights) | rewrite | _timeouts(timeouts)
    if mirrors:
        action["request_mirror_policies"] = mirrors
    return {**route, "route": action}


def _action(backends: list[tuple[Fields, Destination]], weights: list[int]) -> dict[str, Any]:
    clusters = []
    for (each, destination), weight in zip(backends, weights, strict=True):
        operations: dict[str, Any] = {}
        for item in each.items("filters"):
            kind = item.required_text("type")
            if kind not in ("RequestHeaderModifier", "ResponseHeaderModifier"):
                raise item.error("type", f"{kind} is not supported here")
            direction = "request" if kind.startswith("Request") else "response"
            operations |= _modifier(direction, item.required(kind[0].lower() + kind[1:]))
        clusters.append({"name": destination.name, "weight": weight, **operations})
    action: dict[str, Any] = {"weighted_clusters": {"clusters": clusters}}
    if len(clusters) == 1 and len(clusters[0]) == 2:
        action = {"cluster": clusters[0]["name"]}
    add_hashing(action, [destination for _, destination in backends])
    return action


def _weight(backend: Fields) -> int:
    weight = backend.integer("weight")
    return 1 if weight is None else weight


def _backend(reference: Fields, destinations: Destinations) -> Destination:
    kind, group = reference.text("kind") or "Service", reference.text("group") or ""
    if (group, kind) != ("", "Service"):
        raise reference.error("kind", f"{kind} is not supported here, only Service")
    port = reference.integer("port")
    return destinations.get(reference, "name", reference.required_text("name"), port)


def _modifier(direction: str, modifier: Fields) -> dict[str, Any]:
    def pairs(name: str) -> dict[str, str]:
        return {each.required_text("name"): each.text("value") or "" for each in modifier.items(name)}

    return header_operations(direction, pairs("set"), pairs("add"), modifier.texts("remove"))


def _redirect(redirect: Fields, prefix: str) -> dict[str, Any]:
    """Translate HTTPRequestRedirectFilter; a scheme without a port means the port of that scheme."""
    result: dict[str, Any] = {}
    scheme, hostname, port = redirect.text("scheme"), redirect.text("hostname"), redirect.integer("port")
    if hostname:
        result["host_redirect"] = hostname
    if scheme:
        result["scheme_redirect"] = scheme
        port = port or {"http": 80, "https": 443}.get(scheme)
    if port:
        result["port_redirect"] = port
    path = redirect.fields("path")
    if path:
        kind = path.required_text("type")
        if kind == "ReplaceFullPath":
            result["path_redirect"] = path.text("replaceFullPath") or "/"
        elif kind == "ReplacePrefixMatch":
            # Envoy replaces the matched prefix alone, so that a lone slash would be doubled.
            replacement = (path.text("replacePrefixMatch") or "").rstrip("/")
            if replacement:
                result["prefix_rewrite"] = replacement
            else:
                result["regex_rewrite"] = _without(prefix)
        else:
            raise path.error("type", f"{kind!r} is not ReplaceFullPath or ReplacePrefixMatch")
    code = redirect.integer("statusCode")
    result["response_code"] = redirect_code(redirect, "statusCode", 302 if code is None else code)
    return result


def _rewrite(rewrite: Fields, prefix: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    hostname, path = rewrite.text("hostname"), rewrite.fields("path")
    if hostname:
        result["host_rewrite_literal"] = hostname
    if path:
        kind = path.required_text("type")
        if kind == "ReplaceFullPath":
            full = path.text("replaceFullPath") or "/"
            result["regex_rewrite"] = {"pattern": {"regex": "/.*"}, "substitution": full.replace("\\", "\\\\")}
        elif kind == "ReplacePrefixMatch":
            replacement = (path.text("replacePrefixMatch") or "").rstrip("/")
            if not prefix:
                result["prefix_rewrite"] = replacement + "/"
            elif replacement:
                result["prefix_rewrite"] = replacement
            else:
                result["regex_rewrite"] = _without(prefix)
        else:
            raise path.error("type", f"{kind!r} is not ReplaceFullPath or ReplacePrefixMatch")
    return result


def _without(prefix: str) -> dict[str, Any]:
    """Return a rewrite that removes a prefix and leaves one leading slash."""
    return {"pattern": {"regex": f"^{re.escape(prefix)}(/?)(.*)"}, "substitution": "/\\2"}


def _mirror(mirror: Fields, destinations: Destinations) -> dict[str, Any]:
    percent, part = mirror.integer("percent"), mirror.fields("fraction")
    share = 100.0 if percent is None else float(percent)
    if part:
        share = 100 * (part.integer("numerator") or 0) / (part.integer("denominator") or 100)
    return mirror_policy(_backend(mirror.required("backendRef"), destinations), fraction(share))


def _timeouts(timeouts: Fields | None) -> dict[str, Any]:
    """Return timeout and retries: `request` bounds the whole call, `backendRequest` each try (GEP-1742)."""
    request = timeouts.seconds("request") if timeouts else None
    backend = timeouts.seconds("backendRequest") if timeouts else None
    retries = default_retries()
    if backend:
        retries["per_try_timeout"] = duration(backend)
    return {"timeout": duration(request or 0), "retry_policy": retries}
