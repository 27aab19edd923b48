"""The conditions of a RouteMatch: whether a request meets them, and what it has instead, in words.

(Envoy, config.route.v3: RouteMatch, HeaderMatcher, QueryParameterMatcher.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from meshdemo.lab.xray.matching.regular_expressions import full_match

_MATCH = {"path", "prefix", "path_separated_prefix", "safe_regex", "case_sensitive", "headers", "query_parameters"}
_PATHS = {"path": "exact", "prefix": "prefix", "path_separated_prefix": "below", "safe_regex": "safe_regex"}
_CONDITION = {"name", "string_match", "present_match", "invert_match", "treat_missing_header_as_empty"}
_PSEUDO = {":method": "method", ":authority": "host", ":path": "path with query", ":scheme": "scheme"}
# Headers that an Envoy sets or removes before it looks for a route: what they are then is logged nowhere.
_SET_BY_ENVOY = re.compile(
    "x-forwarded-.*|x-envoy-.*|connection|keep-alive|proxy-connection|transfer-encoding|upgrade|te"
)
_LONGEST = 80


class UnknownError(Exception):
    """Something that only Envoy itself can tell."""


class Facts:
    """What a request has, by what conditions ask for: `pseudo` are its :method, :authority, :path and :scheme.

    The values of the headers in `secret` are not told.
    """

    def __init__(self, pseudo: Mapping[str, str], headers: Iterable[tuple[str, str]], secret: frozenset[str]) -> None:
        self._path, _, self._query = pseudo[":path"].partition("?")
        self._secret = secret
        #: The names of the headers that conditions asked for so far; a virtual host is found by one.
        self.asked = {":authority"}
        self._headers: dict[str, list[str]] = {}
        for name, value in headers:
            self._headers.setdefault(name.lower(), []).append(value.strip(" \t"))
        self._headers |= {name: [value] for name, value in pseudo.items()}
        self._headers["host"] = [pseudo[":authority"]]

    def conditions(self, match: Mapping[str, Any]) -> Iterable[tuple[bool, str]]:
        """Yield for each condition of a RouteMatch whether it holds, and what the request has, in words."""
        if match.keys() - _MATCH:
            raise UnknownError
        yield self._path_condition(match)
        for condition in match.get("headers", []):
            yield self._header_condition(condition)
        for condition in match.get("query_parameters", []):
            yield self._parameter_condition(condition)

    def _path_condition(self, match: Mapping[str, Any]) -> tuple[bool, str]:
        kind = next((kind for kind in _PATHS if kind in match), None)
        if kind is None:
            raise UnknownError
        if match[kind] == "/" and kind == "prefix":
            return True, ""
        ignore_case = not match.get("case_sensitive", True) and kind != "safe_regex"
        return _compare("path", self._path, _PATHS[kind], match[kind], ignore_case=ignore_case)

    def _header_condition(self, condition: Mapping[str, Any]) -> tuple[bool, str]:
        if condition.keys() - _CONDITION:
            raise UnknownError
        name = condition["name"].lower()
        values = self._headers.get(name)
        self.asked.add(":authority" if name == "host" else name)
        if _SET_BY_ENVOY.fullmatch(name) or (name == "x-request-id" and values is None):
            raise UnknownError
        subject = _PSEUDO.get(name) or f"header {condition['name']}"
        is_inverted = condition.get("invert_match", False)
        if "present_match" in condition:
            if condition.get("treat_missing_header_as_empty"):
                raise UnknownError
            return _presence(subject, values is not None, bool(condition["present_match"]) != is_inverted)
        matcher = condition.get("string_match")
        if values is None and not condition.get("treat_missing_header_as_empty"):
            return False, f"{subject} is missing" if is_inverted else _match_string(subject, None, matcher)[1]
        # Of several values Envoy took one line once, and takes each alone now.
        results = [_match_string(subject, value, matcher) for value in (*(values or ()), ",".join(values or ()))]
        holds, words = results[-1]
        if any(each != holds for each, _ in results):
            raise UnknownError
        if values is None:
            words = f"{subject} is missing"
        elif name in self._secret:
            words = f"{subject} is there, and its value {'fits' if holds else 'does not fit'}"
        return holds != is_inverted, f"{words}, which this rule leaves out" if holds and is_inverted else words

    def _parameter_condition(self, condition: Mapping[str, Any]) -> tuple[bool, str]:
        if condition.keys() - {"name", "string_match", "present_match"}:
            raise UnknownError
        name, value = condition["name"], None
        for pair in self._query.split("&"):
            key, _, text = pair.partition("=")
            if key == name and self._query:
                value = text
                break
        subject = f"query parameter {name}"
        if "present_match" in condition:
            if not condition["present_match"]:
                raise UnknownError
            return _presence(subject, value is not None, True)
        return _match_string(subject, value, condition.get("string_match"))


def _presence(subject: str, is_there: bool, is_wanted: bool) -> tuple[bool, str]:
    return is_there == is_wanted, f"{subject} is {'there' if is_there else 'missing'}"


def _match_string(subject: str, value: str | None, matcher: Mapping[str, Any] | None) -> tuple[bool, str]:
    """Return whether a StringMatcher holds for a value, and what there is, in words; a missing value is no match."""
    kinds = [kind for kind in matcher or {} if kind != "ignore_case"]
    if not matcher or len(kinds) != 1 or kinds[0] not in _TESTS:
        raise UnknownError
    return _compare(subject, value, kinds[0], matcher[kinds[0]], ignore_case=matcher.get("ignore_case", False))


def _compare(subject: str, value: str | None, kind: str, expected: Any, *, ignore_case: bool) -> tuple[bool, str]:
    if kind == "safe_regex":
        if ignore_case:
            raise UnknownError
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
        raise UnknownError
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
