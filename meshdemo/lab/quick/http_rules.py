"""Reading the rules of HTTPRoutes (Gateway API, HTTPRoute specification v1; kube/gateway/conversion.go of Istio)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from meshdemo.lab.manifests import NAMESPACE, shown
from meshdemo.lab.quick import fields as of
from meshdemo.lab.quick.fields import MilliDuration, Regex, Some, Unsupported
from meshdemo.lab.quick.model import (
    Cors,
    Destination,
    DirectResponse,
    HeaderChanges,
    Headers,
    Match,
    Mirror,
    Redirect,
    Retry,
    Rewrite,
    Rule,
    Share,
    StringMatch,
    Target,
)
from meshdemo.lab.schema import Boolean, Fields, Integer, List, Object, Record, Text, Type

#: A match that every call is like.
EVERYTHING = Match(path=StringMatch("prefix", "/"))
HOSTNAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_HOST = Text(pattern=HOSTNAME, rule="a host name")
_NAME = Text(pattern=r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,256}", rule="the name of a header or parameter")
_VALUE = Text(pattern=r"[!-~]+([\t ]?[!-~]+)*", rule="a value in printable ASCII")
_PATH = Text(pattern=r"/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*", rule="a path, which begins with a slash")
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_RETRY_CONDITIONS = ("connect-failure", "refused-stream", "unavailable", "cancelled")
_ORIGIN = Text(
    pattern=r"\*|https?://((\*\.)?([a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+|\*)(:[0-9]{1,5})?",
    rule="an origin such as https://example.com",
)


class _Duration(MilliDuration):
    """A duration as the Gateway API writes it, 0 among them (GEP-2257)."""

    def parse(self, value: object, place: str) -> float:
        Text(pattern=r"([0-9]{1,5}(h|m|s|ms)){1,4}", rule="a duration such as 500ms or 1m30s").parse(value, place)
        return super().parse(value, place)


_DURATION = _Duration(0)


def _condition(fields: Fields) -> tuple[str, StringMatch]:
    if fields["type"] == "RegularExpression":
        return fields["name"], StringMatch("regex", Regex().parse(fields["value"], f"{fields.place}.value"))
    return fields["name"], StringMatch("exact", fields["value"])


def _path(fields: Fields) -> StringMatch:
    """Return what the path has to be; a prefix is one of whole segments, whether or not it ends with a slash."""
    value, place = fields["value"] or "/", f"{fields.place}.value"
    if fields["type"] == "RegularExpression":
        return StringMatch("regex", Regex().parse(value, place))
    _PATH.parse(value, place)
    if re.search(r"//|/\.\.?(?=/|$)|%2[fF]", value):
        raise fields.error("value", f"{shown(value)} has an empty part, a dot or an encoded slash between slashes")
    if fields["type"] == "Exact":
        return StringMatch("exact", value)
    return StringMatch("prefix", "/") if value == "/" else StringMatch("segments", value.removesuffix("/"))


def _match(fields: Fields) -> Match:
    for name in ("headers", "queryParams"):
        names = [condition[0] for condition in fields[name]]
        if len(set(names)) < len(names):
            raise fields.error(name, "has the same name twice")
    return Match(
        path=fields["path"] or EVERYTHING.path,
        headers=tuple(sorted(fields["headers"])),
        parameters=tuple(sorted(fields["queryParams"])),
        method=StringMatch("exact", fields["method"]) if fields["method"] else None,
    )


_CONDITIONS = List(
    Record(
        {"name": _NAME, "value": Text(), "type": Text(("Exact", "RegularExpression"))}, ("name", "value"), _condition
    ),
    most=16,
)
_MATCH = Record(
    {
        "path": Record({"type": Text(("Exact", "PathPrefix", "RegularExpression")), "value": Text()}, make=_path),
        "headers": _CONDITIONS,
        "queryParams": _CONDITIONS,
        "method": Text(_METHODS),
    },
    make=_match,
)


def _changes(fields: Fields) -> HeaderChanges:
    """Return changes, the first of a name where there are several (headerListToMap); Host becomes the authority."""
    replaced, added = (dict(reversed(fields[key])) for key in ("set", "add"))
    authority = replaced.pop("host", "") or added.get("host", "")
    added.pop("host", None)
    removed = tuple(name for name in fields["remove"] if name.lower() != "host")
    return HeaderChanges(dict(sorted(replaced.items())), dict(sorted(added.items())), removed, authority)


def _pair(fields: Fields) -> tuple[str, str]:
    if "%" in fields["value"]:
        raise of.refused(f"{fields.place}.value", f"{shown(fields['value'])} holds a %, which Envoy takes for more")
    return fields["name"].lower(), fields["value"]


_PAIRS = List(Record({"name": _NAME, "value": _VALUE}, ("name", "value"), _pair), most=16)
_CHANGES = Record({"set": _PAIRS, "add": _PAIRS, "remove": List(Text(), most=16)}, make=_changes)


def _new_path(fields: Fields) -> tuple[str, str]:
    """Return the kind and the value of a path that replaces another."""
    kind: str = fields["type"]
    name = kind[0].lower() + kind[1:]
    if fields.given != {"type", name}:
        raise fields.error(name, "is missing" if name not in fields.given else f"is all that goes with {kind}")
    if "\\" in fields[name]:
        raise fields.error(name, f"{shown(fields[name])} holds a backslash")
    return kind, fields[name]


def _redirect(fields: Fields) -> Redirect:
    kind, path = fields["path"] or ("", "")
    code = fields["statusCode"] or 302
    if code not in (301, 302, 303, 307, 308):
        raise fields.error("statusCode", f"{code} is none of 301, 302, 303, 307, 308")
    return Redirect(
        code=code,
        path=path if kind == "ReplaceFullPath" else "",
        prefix=path if kind == "ReplacePrefixMatch" else "",
        authority=fields["hostname"] or "",
        scheme=fields["scheme"] or "",
        port=fields["port"],
        same_port=fields["port"] is None and fields["scheme"] is None,
    )


def _rewrite(fields: Fields) -> Rewrite:
    """Return what is rewritten (createRewriteFilter); the prefix `/` means that the matched one is removed."""
    kind, path = fields["path"] or ("", "")
    authority = fields["hostname"] or ""
    if kind == "ReplaceFullPath":
        return Rewrite(pattern="/.*", substitution=path, authority=authority)
    return Rewrite((path.removesuffix("/") or "/") if kind else "", authority=authority)


def _removing(rewrite: Rewrite | None, match: Match) -> Rewrite | None:
    """Return a rewrite with the pattern that removes a match's prefix, and leaves one slash (route.go)."""
    if rewrite is None or rewrite.prefix != "/":
        return rewrite
    prefix = match.path.value if match.path and match.path.kind == "segments" else ""
    quoted = re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", prefix)
    return dataclasses.replace(rewrite, prefix="", pattern=f"^{quoted}(/?)(.*)", substitution=r"/\2")


def _backend(fields: Fields) -> Destination:
    return Destination(of.full_name(fields["name"]), port=fields["port"], place=f"{fields.place}.name")


def _mirror(fields: Fields) -> Mirror:
    percent, fraction = fields["percent"], fields["fraction"]
    if percent is not None and fraction is not None:
        raise fields.error("fraction", "excludes percent")
    if fraction is not None:
        whole = fraction["denominator"] or 100
        if fraction["numerator"] > whole:
            raise fields.error("fraction.numerator", f"is more than {whole}")
        return Mirror(fields["backendRef"], Share(100 * fraction["numerator"] / whole))
    return Mirror(fields["backendRef"]) if percent is None else Mirror(fields["backendRef"], Share(percent))


def _cors(fields: Fields) -> Cors:
    """Return which origins may call (createCorsFilter); the API server's default of maxAge is 5."""
    return Cors(
        origins=tuple(_origin(origin) for origin in fields["allowOrigins"]),
        methods=tuple(fields["allowMethods"]),
        headers=tuple(fields["allowHeaders"]),
        exposed=tuple(fields["exposeHeaders"]),
        max_age_seconds=5 if fields["maxAge"] is None else fields["maxAge"],
        credentials=True if fields["allowCredentials"] else None,
        forward_unmatched=False,
    )


def _origin(origin: str) -> StringMatch:
    if origin == "*":
        return StringMatch("regex", r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$")
    if "*" not in origin:
        return StringMatch("exact", origin)
    if origin.endswith("*"):
        return StringMatch("prefix", origin.removesuffix("*"))
    return StringMatch("regex", f"^{origin.replace('.', chr(92) + '.').replace('*', '.*')}$")


_BACKEND: dict[str, Type] = {
    "group": Some(known=("",)),
    "kind": Some(known=("Service",)),
    "name": of.HOST_NAME,
    "namespace": Some(known=(NAMESPACE,)),
    "port": of.PORT,
}
_NEW_PATH = Record(
    {
        "type": Text(("ReplaceFullPath", "ReplacePrefixMatch")),
        "replaceFullPath": Text(),
        "replacePrefixMatch": Text(),
    },
    ("type",),
    _new_path,
)
_HEADER_FILTERS: dict[str, Type] = {"requestHeaderModifier": _CHANGES, "responseHeaderModifier": _CHANGES}
_FILTERS: dict[str, Type] = {
    **_HEADER_FILTERS,
    "requestMirror": Record(
        {
            "backendRef": Record(_BACKEND, ("name", "port"), _backend),
            "percent": Integer(0, 100),
            "fraction": Object({"numerator": Integer(0), "denominator": Integer(1)}, ("numerator",)),
        },
        ("backendRef",),
        _mirror,
    ),
    "requestRedirect": Record(
        {
            "scheme": Text(("http", "https")),
            "hostname": _HOST,
            "path": _NEW_PATH,
            "port": of.PORT,
            "statusCode": Integer(300, 399),
        },
        make=_redirect,
    ),
    "urlRewrite": Record({"hostname": _HOST, "path": _NEW_PATH}, make=_rewrite),
    "cors": Record(
        {
            "allowOrigins": List(_ORIGIN, most=64),
            "allowMethods": List(Text((*_METHODS, "*")), most=9),
            "allowHeaders": List(_NAME, most=64),
            "exposeHeaders": List(_NAME, most=64),
            "allowCredentials": Boolean(),
            "maxAge": Integer(1),
        },
        make=_cors,
    ),
    "extensionRef": Unsupported(),
    "externalAuth": Unsupported(),
}
#: The fields of filters by their types.
_FILTER_TYPES = {
    {"urlRewrite": "URLRewrite", "cors": "CORS"}.get(name, name[0].upper() + name[1:]): name for name in _FILTERS
}


def _filters(known: Mapping[str, Type]) -> List:
    """Return the type of a list of filters, each the field that its type names and no other."""

    def make(fields: Fields) -> tuple[str, object]:
        name = _FILTER_TYPES[fields["type"]]
        if name not in known:
            raise of.refused(f"{fields.place}.type", f"{fields['type']} is not supported by the quick engine")
        if name not in fields.given:
            raise fields.error(name, "is missing")
        if len(fields.given) > 2:
            raise fields.error(sorted(fields.given - {"type", name})[0], f"does not go with type {fields['type']}")
        return name, fields[name]

    others = dict.fromkeys(_FILTERS, Unsupported())
    return List(Record({"type": Text(tuple(_FILTER_TYPES)), **others, **known}, ("type",), make), most=16)


def _headers(filters: list[tuple[str, HeaderChanges]]) -> Headers:
    changes = dict(filters)
    none = HeaderChanges()
    return Headers(changes.get("requestHeaderModifier", none), changes.get("responseHeaderModifier", none))


def _target(fields: Fields) -> Target:
    weight = 1 if fields["weight"] is None else fields["weight"]
    return Target(_backend(fields), weight, _headers(fields["filters"]))


def _rules(fields: Fields) -> list[Rule]:
    """Return a rule for each match (convertHTTPRoute), without backends an answer of 500."""
    filters = dict(fields["filters"])
    names = [name for name, _ in fields["filters"] if name != "requestMirror"]
    if len(set(names)) < len(names):
        raise fields.error("filters", "has the same type twice")
    redirect, rewrite = filters.get("requestRedirect"), filters.get("urlRewrite")
    if redirect and (rewrite or fields["backendRefs"]):
        raise fields.error("filters", f"RequestRedirect excludes {'URLRewrite' if rewrite else 'backendRefs'}")
    matches = fields["matches"] or [EVERYTHING]
    of_prefixes = len(matches) == 1 and matches[0].path.kind in ("prefix", "segments")
    if not of_prefixes and any(each and each.prefix for each in (redirect, rewrite)):
        raise fields.error("filters", "has ReplacePrefixMatch, which goes with exactly one match, of a PathPrefix")
    targets = [target for target in fields["backendRefs"] if target.weight]
    if len(targets) == 1:
        targets = [dataclasses.replace(targets[0], weight=0)]  # a lone one needs no weight
    mirrors = [each for name, each in fields["filters"] if name == "requestMirror" and each.share.percent]
    timeout, retry = _times(fields["timeouts"], fields["retry"])
    return [
        Rule(
            name=fields["name"] or "",
            matches=(match,),
            targets=tuple(targets),
            redirect=redirect,
            response=None if targets or redirect else DirectResponse(500),
            headers=_headers(fields["filters"]),
            rewrite=_removing(rewrite, match),
            mirrors=tuple(mirrors),
            retry=retry,
            timeout_seconds=timeout,
            cors=filters.get("cors"),
        )
        for match in matches
    ]


def _times(timeouts: Fields | None, retry: Fields | None) -> tuple[float | None, Retry | None]:
    """Return timeout and retries: without these `backendRequest` bounds the whole call (convertHTTPRoute)."""
    request, backend = (timeouts[name] or 0 if timeouts else 0 for name in ("request", "backendRequest"))
    if timeouts and request and backend > request:
        raise timeouts.error("backendRequest", "is longer than request")
    if retry is None:
        return (backend or request) or None, None
    codes, attempts = tuple(retry["codes"]), retry["attempts"] or 2
    return request or None, Retry(attempts, _RETRY_CONDITIONS, codes, backend or None, retry["backoff"])


#: A rule, read as the list of those that it becomes.
RULE = Record(
    {
        "name": Text(),
        "matches": List(_MATCH, most=64),
        "filters": _filters({name: kind for name, kind in _FILTERS.items() if kind != Unsupported()}),
        "backendRefs": List(
            Record(
                {**_BACKEND, "weight": Integer(0, 1_000_000), "filters": _filters(_HEADER_FILTERS)},
                ("name", "port"),
                _target,
            ),
            most=16,
        ),
        "timeouts": Object({"request": _DURATION, "backendRequest": _DURATION}),
        "retry": Object({"attempts": Integer(1), "codes": List(Integer(400, 599)), "backoff": _DURATION}),
        "sessionPersistence": Unsupported(),
    },
    make=_rules,
)


def named(rules: Iterable[list[Rule]], route: str) -> tuple[Rule, ...]:
    """Return the rules of a route in order, with the names that Istio gives to those without."""
    return tuple(
        rule if rule.name else dataclasses.replace(rule, name=f"{NAMESPACE}.{route}.{number}")
        for number, group in enumerate(rules)
        for rule in group
    )
