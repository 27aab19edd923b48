"""The rules of the Gateway API's routes in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshdemo.lab.words.terms import (
    Words,
    alternatives,
    as_list,
    as_number,
    as_object,
    as_text,
    seconds,
    shares,
    string_match,
    target_name,
)


def describe_rule(rule: dict[str, Any]) -> Words:
    """Return the words for one rule."""
    backends = [as_object(backend) for backend in as_list(rule.get("backendRefs"))]
    weights = [as_number(backend.get("weight"), 1) for backend in backends]
    parts = shares(weights, [target_name(backend) for backend in backends])
    parts += [words for each in as_list(rule.get("filters")) for words in _filter(as_object(each))]
    timeouts, retry = as_object(rule.get("timeouts")), as_object(rule.get("retry"))
    if timeouts.get("request"):
        parts.append(f"timeout {seconds(timeouts['request'])}")
    if retry:
        codes = ", ".join(map(str, as_list(retry.get("codes"))))
        parts.append(f"retries {retry.get('attempts', 2)}" + (f" on {codes}" if codes else ""))
    if timeouts.get("backendRequest"):
        parts.append(f"{seconds(timeouts['backendRequest'])} each")
    matches = [_match(as_object(match)) for match in as_list(rule.get("matches"))]
    return Words(alternatives(matches), tuple(part for part in parts if part))


def _filter(of: dict[str, Any]) -> list[str]:
    """Return what a filter does; its kind alone where there are no words for it."""
    kind = str(of.get("type") or "")
    describer = _FILTERS.get(kind)
    return describer(as_object(of.get(_field(kind)))) if describer else [kind]


def _field(kind: str) -> str:
    """Return the name of the field that a filter of a kind has."""
    return "urlRewrite" if kind == "URLRewrite" else kind[:1].lower() + kind[1:]


def _mirror(mirror: dict[str, Any]) -> list[str]:
    target = target_name(as_object(mirror.get("backendRef")))
    return [f"{as_number(mirror.get('percent'), 100):g} % mirrored to {target}"]


def _headers(direction: str, modifier: dict[str, Any]) -> list[str]:
    words = [
        f"{operation} {direction} header {header.get('name')}={header.get('value')}"
        for operation in ("set", "add")
        for header in map(as_object, as_list(modifier.get(operation)))
    ]
    return words + [f"remove {direction} header {name}" for name in as_list(modifier.get("remove"))]


def _redirect(redirect: dict[str, Any]) -> list[str]:
    scheme = f"{redirect['scheme']}://" if redirect.get("scheme") else ""
    port = f":{redirect['port']}" if redirect.get("port") else ""
    to = f"{scheme}{redirect.get('hostname') or ''}{port}"
    path = _path(as_object(redirect.get("path")))
    words = f"redirect {redirect.get('statusCode') or 302}{f' to {to}' if to else ''}"
    return [words, path] if path else [words]


def _rewrite(rewrite: dict[str, Any]) -> list[str]:
    host = f"host becomes {rewrite['hostname']}" if rewrite.get("hostname") else ""
    return [host, _path(as_object(rewrite.get("path")))]


def _path(path: dict[str, Any]) -> str:
    """Return how a path is written anew, empty if it is not."""
    if path.get("type") == "ReplacePrefixMatch":
        return f"the path's beginning becomes {path.get('replacePrefixMatch')}"
    return f"path becomes {path['replaceFullPath']}" if path.get("replaceFullPath") else ""


_FILTERS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "RequestMirror": _mirror,
    "RequestHeaderModifier": lambda modifier: _headers("request", modifier),
    "ResponseHeaderModifier": lambda modifier: _headers("response", modifier),
    "RequestRedirect": _redirect,
    "URLRewrite": _rewrite,
}


def _match(match: dict[str, Any]) -> str:
    parts = []
    path = as_object(match.get("path"))
    if path:
        value = path.get("value") or "/"
        formats = {"Exact": "path {}", "RegularExpression": "path ~{}"}
        parts.append(formats.get(str(path.get("type")), "path {} and below").format(value))
    method = match.get("method")
    if method:
        # That of gRPC is one of a service.
        names = [method.get("service"), method.get("method")] if isinstance(method, dict) else [as_text(method)]
        parts.append(f"method {'/'.join(str(name) for name in names if name)}")
    for name, sign in (("headers", ""), ("queryParams", "?")):
        for condition in (as_object(each) for each in as_list(match.get(name))):
            kind = "regex" if condition.get("type") == "RegularExpression" else "exact"
            parts.append(string_match(f"{sign}{condition.get('name')}", {kind: condition.get("value")}))
    return " and ".join(parts)
