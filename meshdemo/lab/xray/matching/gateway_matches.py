"""Which match of a rule of an HTTPRoute or GRPCRoute a route of an Envoy is: Istio names a rule's routes alike.

It sorts them, too, by what they ask for (pilot/pkg/config/kube/gateway/conversion.go, sortHTTPRoutes), so that a match
is known by its conditions alone: createURIMatch, createGRPCURIMatch, createHeadersMatch and createQueryParamsMatch say
what becomes of them, and TranslateRouteMatch (networking/core/route).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Where a condition looks, the name there, how it compares, and with what.
Condition = tuple[str, str, str, Any]

_PATHS = {"path": "exact", "prefix": "prefix", "path_separated_prefix": "below"}
_ROUTE = {*_PATHS, "safe_regex", "headers", "query_parameters", "case_sensitive"}
_EVERYTHING = ("path", "", "prefix", "/")


def find_match(kind: str, matches: Sequence[Any], route: Mapping[str, Any]) -> int | None:
    """Return the number of the match that became an Envoy's RouteMatch; None where no match did, or one of several."""
    wanted = _conditions_of_route(route)
    read = _conditions_of_http if kind == "HTTPRoute" else _conditions_of_grpc
    found = [number for number, match in enumerate(matches) if isinstance(match, dict) and read(match) == wanted]
    return found[0] if len(found) == 1 else None


def _conditions_of_route(match: Mapping[str, Any]) -> frozenset[Condition] | None:
    """Return the conditions of a RouteMatch; None where it has some that the Gateway API does not know."""
    if match.keys() - _ROUTE:
        return None
    path = [("path", "", how, match[name]) for name, how in _PATHS.items() if name in match]
    if "safe_regex" in match:
        path.append(("path", "", "regex", match["safe_regex"]["regex"]))
    named = [
        (place, each)
        for place, field in (("header", "headers"), ("parameter", "query_parameters"))
        for each in match.get(field, [])
    ]
    found = [_condition_of_route(place, each) for place, each in named]
    return None if None in found else frozenset([*path, *(each for each in found if each)])


def _condition_of_route(place: str, condition: Mapping[str, Any]) -> Condition | None:
    name, matcher = _name(place, condition["name"]), condition.get("string_match") or {}
    match [key for key in condition if key != "name"]:
        case ["present_match"]:
            return place, name, "present", True
        case ["string_match"] if matcher.keys() == {"exact"}:
            return place, name, "exact", matcher["exact"]
        case ["string_match"] if matcher.keys() == {"safe_regex"}:
            return place, name, "regex", matcher["safe_regex"]["regex"]
    return None


def _conditions_of_http(match: Mapping[str, Any]) -> frozenset[Condition]:
    path = match.get("path") or {}
    method = [("header", ":method", "exact", match["method"])] if match.get("method") else []
    kind, value = path.get("type") or "PathPrefix", path.get("value") or "/"
    return frozenset(
        [
            _path(kind, value),
            *_named("header", match.get("headers")),
            *_named("parameter", match.get("queryParams")),
            *method,
        ]
    )


def _conditions_of_grpc(match: Mapping[str, Any]) -> frozenset[Condition]:
    asked = match.get("method") or {}
    service, method = asked.get("service"), asked.get("method")
    is_regex = asked.get("type") == "RegularExpression"
    if not asked:
        path = _EVERYTHING
    elif not method:
        path = _path("RegularExpression", f"/{service}/.+") if is_regex else _path("PathPrefix", f"/{service}/")
    elif not service:
        path = _path("RegularExpression", f"/[^/]+/{method}")
    else:
        path = _path("RegularExpression" if is_regex else "Exact", f"/{service}/{method}")
    return frozenset([path, *_named("header", match.get("headers"))])


def _path(kind: str, value: str) -> Condition:
    if kind == "Exact":
        return "path", "", "exact", value
    if kind == "RegularExpression":
        return "path", "", "regex", value
    return _EVERYTHING if value == "/" else ("path", "", "below", value.removesuffix("/"))


def _named(place: str, conditions: Iterable[Mapping[str, Any]] | None) -> Iterable[Condition]:
    for each in conditions or ():
        name, value = _name(place, str(each.get("name"))), each.get("value")
        if each.get("type") != "RegularExpression":
            yield place, name, "exact", value
        elif value == "*":  # which is none, and asks whether there is one (canBeConvertedToPresentMatch)
            yield place, name, "present", True
        else:
            yield place, name, "regex", value


def _name(place: str, name: str) -> str:
    """Return a name as it is compared: that of a header in any case (RFC 9110, 5.1)."""
    return name.lower() if place == "header" else name
