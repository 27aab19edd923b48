"""Why a request was passed over by routes: an evaluation of Envoy's own route matches, in Envoy's order.

It explains, and never decides: say what it finds only where it ends at the route that Envoy took. It knows the
conditions that both engines write; wherever another one could decide, it says nothing at all.
(Envoy, "HTTP routing", and config.route.v3: VirtualHost, RouteMatch, HeaderMatcher, QueryParameterMatcher.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from meshdemo.lab.engine import Resource
from meshdemo.lab.xray.paths import UnknownPathError, normalize
from meshdemo.lab.xray.regular_expressions import full_match

#: Headers whose values nobody is told.
SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})
# What decides about routes beside conditions, and is not evaluated.
_UNKNOWN_OF_ROUTES = {"vhds", "internal_only_headers", "ignore_path_parameters_in_path_matching"}
_UNKNOWN_OF_HOST = {"matcher", "require_tls"}
_UNKNOWN_OF_MANAGER = {"strip_any_host_port", "strip_matching_host_port", "strip_trailing_host_dot", "scoped_routes"}
_MATCH = {"path", "prefix", "path_separated_prefix", "safe_regex", "case_sensitive", "headers", "query_parameters"}
_PATHS = {"path": "exact", "prefix": "prefix", "path_separated_prefix": "below", "safe_regex": "safe_regex"}
_CONDITION = {"name", "string_match", "present_match", "invert_match", "treat_missing_header_as_empty"}
_PSEUDO = {":method": "method", ":authority": "host", ":path": "path with query", ":scheme": "scheme"}
# Headers that an Envoy sets or removes before it looks for a route: of these only what it logged is known.
_CHANGED = re.compile(r"x-forwarded-.*|x-envoy-.*|connection|keep-alive|proxy-connection|transfer-encoding|upgrade|te")
_LONGEST = 80


class _UnknownError(Exception):
    """Something that only Envoy itself can tell."""


@dataclass(frozen=True)
class Request:
    """A request as it came to an Envoy: `path` with its query, headers in their order, any case of their names."""

    method: str
    authority: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    scheme: str = "http"


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
    except (_UnknownError, UnknownPathError):
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
    facts = _Facts(request, path, secret)
    passed_over: list[str] = []
    for number, route in enumerate(host.get("routes", [])):
        met = []
        for holds, words in facts.conditions(route["match"]):
            if not holds:
                passed_over.append(words)
                break
            met.append(words)
        else:
            said = ", ".join(words for words in met if words) or "it takes every request"
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


class _Facts:
    """What a request has, by what conditions ask for."""

    def __init__(self, request: Request, path: str, secret: frozenset[str]) -> None:
        self._path, _, self._query = path.partition("?")
        self._secret = secret
        self._headers: dict[str, list[str]] = {}
        for name, value in request.headers:
            self._headers.setdefault(name.lower(), []).append(value.strip(" \t"))
        self._headers |= {
            ":method": [request.method],
            ":authority": [request.authority],
            "host": [request.authority],
            ":path": [path],
            ":scheme": [request.scheme],
        }

    def conditions(self, match: Mapping[str, Any]) -> Iterable[tuple[bool, str]]:
        """Yield for each condition of a RouteMatch whether it holds, and what the request has, in words."""
        if match.keys() - _MATCH:
            raise _UnknownError
        yield self._path_condition(match)
        for condition in match.get("headers", []):
            yield self._header_condition(condition)
        for condition in match.get("query_parameters", []):
            yield self._parameter_condition(condition)

    def _path_condition(self, match: Mapping[str, Any]) -> tuple[bool, str]:
        kind = next((kind for kind in _PATHS if kind in match), None)
        if kind is None:
            raise _UnknownError
        if match[kind] == "/" and kind == "prefix":
            return True, ""
        ignore_case = not match.get("case_sensitive", True) and kind != "safe_regex"
        return _compare("path", self._path, _PATHS[kind], match[kind], ignore_case=ignore_case)

    def _header_condition(self, condition: Mapping[str, Any]) -> tuple[bool, str]:
        if condition.keys() - _CONDITION:
            raise _UnknownError
        name = condition["name"].lower()
        values = self._headers.get(name)
        if _CHANGED.fullmatch(name) or (name == "x-request-id" and values is None):
            raise _UnknownError
        subject = _PSEUDO.get(name) or f"header {condition['name']}"
        is_inverted = condition.get("invert_match", False)
        if "present_match" in condition:
            if condition.get("treat_missing_header_as_empty"):
                raise _UnknownError
            return _presence(subject, values is not None, bool(condition["present_match"]) != is_inverted)
        matcher = condition.get("string_match")
        if values is None and not condition.get("treat_missing_header_as_empty"):
            return False, f"{subject} is missing" if is_inverted else _match_string(subject, None, matcher)[1]
        # Of several values Envoy took one line once, and takes each alone now.
        results = [_match_string(subject, value, matcher) for value in (*(values or ()), ",".join(values or ()))]
        holds, words = results[-1]
        if any(each != holds for each, _ in results):
            raise _UnknownError
        if values is None:
            words = f"{subject} is missing"
        elif name in self._secret:
            words = f"{subject} is there, and its value {'fits' if holds else 'does not fit'}"
        return holds != is_inverted, f"{words}, which this rule leaves out" if holds and is_inverted else words

    def _parameter_condition(self, condition: Mapping[str, Any]) -> tuple[bool, str]:
        if condition.keys() - {"name", "string_match", "present_match"}:
            raise _UnknownError
        name, value = condition["name"], None
        for pair in self._query.split("&"):
            key, _, text = pair.partition("=")
            if key == name and self._query:
                value = text
                break
        subject = f"query parameter {name}"
        if "present_match" in condition:
            if not condition["present_match"]:
                raise _UnknownError
            return _presence(subject, value is not None, True)
        return _match_string(subject, value, condition.get("string_match"))


def _presence(subject: str, is_there: bool, is_wanted: bool) -> tuple[bool, str]:
    return is_there == is_wanted, f"{subject} is {'there' if is_there else 'missing'}"


def _match_string(subject: str, value: str | None, matcher: Mapping[str, Any] | None) -> tuple[bool, str]:
    """Return whether a StringMatcher holds for a value, and what there is, in words; a missing value is no match."""
    kinds = [kind for kind in matcher or {} if kind != "ignore_case"]
    if not matcher or len(kinds) != 1 or kinds[0] not in _TESTS:
        raise _UnknownError
    return _compare(subject, value, kinds[0], matcher[kinds[0]], ignore_case=matcher.get("ignore_case", False))


def _compare(subject: str, value: str | None, kind: str, expected: Any, *, ignore_case: bool) -> tuple[bool, str]:
    if kind == "safe_regex":
        if ignore_case:
            raise _UnknownError
        expected = expected["regex"]
    test, verb = _TESTS[kind]
    shown = _quoted(expected) + (" in any case" if ignore_case else "")
    if value is None:
        return False, f"{subject} is missing{', not' if verb == 'be' else f': it has to {verb}'} {shown}"
    holds = test(_lower(value), _lower(expected)) if ignore_case else test(value, expected)
    if verb == "be":
        return holds, f"{subject} is {_quoted(value)}" + ("" if holds else f", not {shown}")
    if verb == "be below":
        return holds, f"{subject} {_quoted(value)} is {'' if holds else 'not '}{shown} or below it"
    first, _, rest = f"{verb} {shown}".partition(" ")
    third = f"{first}{'es' if first.endswith('ch') else 's'}"
    return holds, f"{subject} {_quoted(value)} {third if holds else f'does not {first}'} {rest}"


def _matches(text: str, pattern: str) -> bool:
    matches = full_match(pattern, text)
    if matches is None:
        raise _UnknownError
    return matches


_TESTS: dict[str, tuple[Callable[[str, str], bool], str]] = {
    "exact": (str.__eq__, "be"),
    "prefix": (str.startswith, "begin with"),
    "suffix": (str.endswith, "end with"),
    "contains": (str.__contains__, "contain"),
    "below": (lambda text, above: text == above or text.startswith(f"{above}/"), "be below"),
    "safe_regex": (_matches, "match"),
}


def _lower(text: str) -> str:
    """Return a text with the letters of ASCII in lower case, as Envoy compares."""
    return "".join(chr(ord(each) + 32) if "A" <= each <= "Z" else each for each in text)


def _quoted(text: str) -> str:
    """Return a text as it stands in a sentence: in quotes where one would not see it else."""
    return _short(text) if text and text == text.strip() and "," not in text else f"'{_short(text)}'"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
