"""Why a request was passed over by routes: an evaluation of Envoy's own route matches, in Envoy's order.

It explains, and never decides: say what it finds only where it ends at the route that Envoy took. It knows the
conditions that both engines write; wherever another one could decide, it says nothing at all. (Envoy, "HTTP routing",
and config.route.v3, VirtualHost.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meshdemo.lab.engine import Resource
from meshdemo.lab.xray.matching.conditions import Facts, UnknownError
from meshdemo.lab.xray.matching.paths import UnknownPathError, normalize

#: What is said to be met where a route asks for nothing.
EVERY_REQUEST = "it takes every request"
#: Headers whose values nobody is told.
SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})
# What decides about routes beside conditions, and is not evaluated.
_UNKNOWN_OF_ROUTES = {"vhds", "internal_only_headers", "ignore_path_parameters_in_path_matching"}
_UNKNOWN_OF_HOST = {"matcher", "require_tls"}
_UNKNOWN_OF_MANAGER = {"strip_any_host_port", "strip_matching_host_port", "strip_trailing_host_dot", "scoped_routes"}


@dataclass(frozen=True)
class Request:
    """A request as it came to an Envoy: `path` with its query, headers in their order, any case of their names.

    `is_logged`: it is as the Envoy's access log has it, after the changes that the route itself makes.
    """

    method: str
    authority: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    scheme: str = "http"
    is_logged: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Where a request ends.

    `virtual_host` is its name, None where no host fits; `route` the number among its routes, None where none fits.
    `passed_over` has for each route before, in order, the first condition that failed, with what the request had;
    `met` says what of the request the route asked for.
    """

    virtual_host: str | None
    route: int | None
    passed_over: tuple[str, ...]
    met: str = ""


def evaluate(
    routes: Resource, request: Request, manager: Resource | None = None, secret: Iterable[str] = ()
) -> Evaluation | None:
    """Return where a request ends in a RouteConfiguration; None where something decides that is not known here.

    `manager` is the HttpConnectionManager that the request came to; it says how paths are normalized. The values of
    the headers in `secret`, and of SECRET, are not told.
    """
    try:
        return _evaluate(routes, request, manager or {}, SECRET.union(name.lower() for name in secret))
    except (UnknownError, UnknownPathError):
        return None


def _evaluate(routes: Resource, request: Request, manager: Resource, secret: frozenset[str]) -> Evaluation | None:
    if _UNKNOWN_OF_ROUTES & routes.keys() or any(manager.get(name) for name in _UNKNOWN_OF_MANAGER):
        return None
    path = normalize(request.path, manager)
    host = _virtual_host(routes, request.authority)
    if host is None:
        return Evaluation(None, None, ())
    if _UNKNOWN_OF_HOST & host.keys():
        return None
    pseudo = {":method": request.method, ":authority": request.authority, ":path": path, ":scheme": request.scheme}
    facts = Facts(pseudo, request.headers, secret)
    passed_over: list[str] = []
    for number, route in enumerate(host.get("routes", [])):
        met = []
        for holds, words in facts.conditions(route["match"]):
            if not holds:
                passed_over.append(words)
                break
            met.append(words)
        else:
            if request.is_logged and facts.asked & set(_changed([routes, host, route])):
                return None
            said = ", ".join(words for words in met if words) or EVERY_REQUEST
            return Evaluation(host["name"], number, tuple(passed_over), said)
    return Evaluation(host["name"], None, tuple(passed_over))


def _virtual_host(routes: Resource, authority: str) -> Resource | None:
    """Return the virtual host of a request: by its name, the longest end, the longest beginning, or the one for all."""
    name = authority.lower()
    if routes.get("ignore_port_in_host_matching"):
        name = re.sub(r":\d+$", "", name)
    best: tuple[tuple[int, int], Resource] | None = None
    for host in routes.get("virtual_hosts", []):
        for domain in host["domains"]:
            rank = _rank(domain.lower(), name)
            if rank and (best is None or rank > best[0]):
                best = rank, host
    return best[1] if best else None


def _rank(domain: str, name: str) -> tuple[int, int] | None:
    """Return how well a domain fits a name, None where it does not."""
    if domain == name:
        return 3, 0
    if domain == "*":
        return 0, 0
    if len(domain) <= len(name):
        if domain.startswith("*") and name.endswith(domain[1:]):
            return 2, len(domain)
        if domain.endswith("*") and name.startswith(domain[:-1]):
            return 1, len(domain)
    return None


def _changed(holders: Iterable[Resource]) -> Iterator[str]:
    """Yield the names of the headers that parts of a configuration change on the way to the pod."""
    for holder in holders:
        for added in holder.get("request_headers_to_add", []):
            yield added["header"]["key"].lower()
        yield from (name.lower() for name in holder.get("request_headers_to_remove", []))
        if any("host_rewrite" in name for name in holder):
            yield ":authority"
        action = holder.get("route", {})
        yield from _changed(
            [each for each in (action, *action.get("weighted_clusters", {}).get("clusters", [])) if each]
        )
