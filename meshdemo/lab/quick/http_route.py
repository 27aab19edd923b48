"""Reading HTTPRoutes (Gateway API, HTTPRoute specification v1) as Istio does (kube/gateway/conversion.go).

Each match becomes a rule of its own, and the rules of all routes for one host and parent are put in one order.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshdemo.lab.manifests import GATEWAY_API, NAMESPACE, Manifest, shown
from meshdemo.lab.quick import fields as of
from meshdemo.lab.quick.fields import NOT_HERE, MilliDuration, Regex, Unsupported
from meshdemo.lab.quick.gateways import Listener
from meshdemo.lab.quick.hosts import matches, subset_of
from meshdemo.lab.quick.model import (
    MESH,
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
    RuleSet,
    StringMatch,
    Target,
)
from meshdemo.lab.schema import Boolean, Fields, Integer, List, Object, Text, Type, read

_TOKEN = Text(pattern=r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,256}", rule="the name of a header or parameter")
_VALUE = Text(pattern=r"[!-~]+([\t ]?[!-~]+)*", rule="a value in printable ASCII")
_HOSTNAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_PATH = Text(pattern=r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+", rule="a path")
_DURATION = Text(pattern=r"([0-9]{1,5}(h|m|s|ms)){1,4}", rule="a duration such as 500ms or 1m30s")
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_CONDITION = Object({"name": _TOKEN, "value": Text(), "type": Text(("Exact", "RegularExpression"))}, ("name", "value"))
_PAIRS = List(Object({"name": _TOKEN, "value": _VALUE}, ("name", "value")), most=16)
_CHANGES = Object({"set": _PAIRS, "add": _PAIRS, "remove": List(Text(), most=16)})
_NEW_PATH = Object(
    {
        "type": Text(("ReplaceFullPath", "ReplacePrefixMatch")),
        "replaceFullPath": Text(),
        "replacePrefixMatch": Text(),
    },
    ("type",),
)
_BACKEND: dict[str, Type] = {
    "group": Text(("",)),
    "kind": Text(("Service",)),
    "name": of.NAME,
    "namespace": Text((NAMESPACE,)),
    "port": of.PORT,
}
_HEADER_FILTERS = {"requestHeaderModifier": _CHANGES, "responseHeaderModifier": _CHANGES}
_FILTERS = {
    **_HEADER_FILTERS,
    "requestMirror": Object(
        {
            "backendRef": Object(_BACKEND, ("name", "port")),
            "percent": Integer(0, 100),
            "fraction": Object({"numerator": Integer(0), "denominator": Integer(1)}, ("numerator",)),
        },
        ("backendRef",),
    ),
    "requestRedirect": Object(
        {
            "scheme": Text(("http", "https")),
            "hostname": Text(pattern=_HOSTNAME, rule="a host name"),
            "path": _NEW_PATH,
            "port": of.PORT,
            "statusCode": Integer(300, 399),
        }
    ),
    "urlRewrite": Object({"hostname": Text(pattern=_HOSTNAME, rule="a host name"), "path": _NEW_PATH}),
    "cors": Object(
        {
            "allowOrigins": List(Text(), most=64),
            "allowMethods": List(Text((*_METHODS, "*")), most=9),
            "allowHeaders": List(_TOKEN, most=64),
            "exposeHeaders": List(_TOKEN, most=64),
            "allowCredentials": Boolean(),
            "maxAge": Integer(1),
        }
    ),
}


_KINDS = ("RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite")
_KINDS_OF_OTHERS = ("CORS", "ExtensionRef", "ExternalAuth")


class _Filter(Object):
    """A filter: the field that its type names, and no other."""

    def parse(self, value: object, place: str) -> Fields:
        fields = super().parse(value, place)
        kind = fields["type"]
        name = {"URLRewrite": "urlRewrite", "CORS": "cors"}.get(kind, kind[0].lower() + kind[1:])
        if self.fields.get(name) == Unsupported():
            raise fields.error("type", f"{kind} {NOT_HERE}")
        if name not in fields.given:
            raise fields.error(name, "is missing")
        if len(fields.given) > 2:
            raise fields.error(sorted(fields.given - {"type", name})[0], f"does not go with type {kind}")
        return fields


def _filters(known: dict[str, Object]) -> List:
    others: dict[str, Type] = dict.fromkeys((*_FILTERS, "extensionRef", "externalAuth"), Unsupported())
    return List(_Filter({"type": Text(_KINDS + _KINDS_OF_OTHERS), **others, **known}, ("type",)), most=16)


_RULE = Object(
    {
        "name": Text(),
        "matches": List(
            Object(
                {
                    "path": Object({"type": Text(("Exact", "PathPrefix", "RegularExpression")), "value": Text()}),
                    "headers": List(_CONDITION, most=16),
                    "queryParams": List(_CONDITION, most=16),
                    "method": Text(_METHODS),
                }
            ),
            most=64,
        ),
        "filters": _filters(_FILTERS),
        "backendRefs": List(
            Object(
                {**_BACKEND, "weight": Integer(0, 1_000_000), "filters": _filters(_HEADER_FILTERS)}, ("name", "port")
            ),
            most=16,
        ),
        "timeouts": Object({"request": _DURATION, "backendRequest": _DURATION}),
        "retry": Object({"attempts": Integer(1), "codes": List(Integer(400, 599)), "backoff": _DURATION}),
        "sessionPersistence": Unsupported(),
    }
)
_SCHEMA = Object(
    {
        "parentRefs": List(
            Object(
                {
                    "group": Text(),
                    "kind": Text(),
                    "name": Text(),
                    "namespace": Text((NAMESPACE,)),
                    "sectionName": Text(),
                    "port": of.PORT,
                },
                ("name",),
            ),
            least=1,
            most=32,
        ),
        "hostnames": List(Text(pattern=rf"(\*\.)?{_HOSTNAME}", rule="a host name"), most=16),
        "rules": List(_RULE, least=1, most=16),
        "useDefaultGateways": Unsupported(("None",)),
    },
    ("parentRefs",),
)
# Exact before prefix before regular expression, the longer first (sortHTTPRoutes, getURIRank).
_RANKS = {"exact": 3, "prefix": 2, "segments": 2, "regex": 1}
_RETRY_CONDITIONS = ("connect-failure", "refused-stream", "unavailable", "cancelled")
_ORIGIN = re.compile(r"\*|https?://((\*\.)?([a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+|\*)(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Attachment:
    """The rules of one HTTPRoute for one host of one parent; those of the same `key` are merged."""

    key: str
    route: str
    rules: RuleSet


def read_http_route(
    manifest: Manifest, listeners: Sequence[Listener], services: Iterable[str]
) -> tuple[list[Attachment], list[str]]:
    """Return what a route does at each of its parents, and advice on parents that do not take it."""
    spec = read(manifest, _SCHEMA)
    rules = tuple(rule for number, fields in enumerate(spec["rules"]) for rule in _rules(manifest, number, fields))
    if not spec["rules"]:
        rules = (Rule(f"{NAMESPACE}.{manifest.name}.0", (_EVERYTHING,), response=DirectResponse(500)),)
    found: dict[str, Attachment] = {}
    advice: list[str] = []
    for parent in spec["parentRefs"]:
        group, kind = parent["group"] if parent["group"] is not None else GATEWAY_API, parent["kind"] or "Gateway"
        if (group, kind) in (("", "Service"), ("core", "Service")):
            attached = [_at_service(manifest, parent, rules, services, has_hosts=bool(spec["hostnames"]))]
        elif (group, kind) == (GATEWAY_API, "Gateway"):
            attached = list(_at_gateway(manifest, parent, rules, listeners, spec["hostnames"] or ["*"]))
            if not attached:
                advice.append(f"{parent.place}: not in force: no listener of this Gateway takes it")
        else:
            raise parent.error("kind", f"{kind} {NOT_HERE}")
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


def _at_service(
    manifest: Manifest, parent: Fields, rules: tuple[Rule, ...], services: Iterable[str], *, has_hosts: bool
) -> Attachment:
    """Return the rules for calls of a Service, at one of its ports or at all."""
    if has_hosts:
        raise parent.error("kind", "Service does not go with hostnames, which then have no meaning")
    if parent["sectionName"] is not None:
        raise parent.error("sectionName", NOT_HERE)
    host, port = of.full_name(parent["name"]), parent["port"]
    if host not in services:
        raise parent.error("name", f"there is no Service {shown(parent['name'])}")
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
        raise parent.error("name", f"there is no Gateway {shown(parent['name'])} of the Gateway API")
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


def _rules(manifest: Manifest, number: int, fields: Fields) -> Iterable[Rule]:
    """Yield a rule for each match (convertHTTPRoute)."""
    filters = {each["type"]: each for each in fields["filters"]}
    for index, each in enumerate(fields["filters"]):
        if each["type"] != "RequestMirror" and filters[each["type"]] is not each:
            raise fields.error(f"filters[{index}].type", f"{each['type']} stands there twice")
    redirect, rewrite = filters.get("RequestRedirect"), filters.get("URLRewrite")
    if redirect and (rewrite or fields["backendRefs"]):
        raise fields.error("filters", f"RequestRedirect excludes {'URLRewrite' if rewrite else 'backendRefs'}")
    cors = filters.get("CORS")
    weight = sum(_weight(each) for each in fields["backendRefs"])
    matches = [_match(each) for each in fields["matches"]] or [_EVERYTHING]
    for match in matches:
        rule = Rule(
            name=fields["name"] or f"{NAMESPACE}.{manifest.name}.{number}",
            matches=(match,),
            targets=_targets(fields) if weight else (),
            redirect=_redirect(redirect["requestRedirect"], matches) if redirect else None,
            response=None if weight or redirect else DirectResponse(500),
            headers=_headers(fields["filters"]),
            rewrite=_rewrite(rewrite["urlRewrite"], matches) if rewrite else None,
            mirrors=tuple(_mirrors(fields)),
            cors=_cors(cors["cors"]) if cors else None,
        )
        yield _with_times(rule, fields["timeouts"], fields["retry"])


_EVERYTHING = Match(path=StringMatch("prefix", "/"))


def _match(match: Fields) -> Match:
    def conditions(name: str) -> tuple[tuple[str, StringMatch], ...]:
        found: dict[str, StringMatch] = {}
        for each in match[name]:
            kind = "regex" if each["type"] == "RegularExpression" else "exact"
            if kind == "regex":
                Regex().parse(each["value"], f"{each.place}.value")
            if each["name"] in found:
                raise match.error(name, f"{shown(each['name'])} stands there twice")
            found[each["name"]] = StringMatch(kind, each["value"])
        return tuple(sorted(found.items()))

    method = StringMatch("exact", match["method"]) if match["method"] else None
    return Match(
        _path(match["path"]), headers=conditions("headers"), parameters=conditions("queryParams"), method=method
    )


def _path(path: Fields | None) -> StringMatch:
    """Return what the path has to be; a prefix is one of whole segments, whether or not it ends with a slash."""
    kind = (path["type"] if path else None) or "PathPrefix"
    value = (path["value"] if path else None) or "/"
    if path and kind == "RegularExpression":
        return StringMatch("regex", Regex().parse(value, f"{path.place}.value"))
    if path:
        _PATH.parse(value, f"{path.place}.value")
        wrong = re.search(r"//|/\.\.?(?=/|$)|%2[fF]", value)
        if not value.startswith("/") or wrong:
            raise path.error(
                "value", f"{shown(value)} is not a path that begins with a slash and has no {'//, /./ or %2f'}"
            )
    if kind == "Exact":
        return StringMatch("exact", value)
    return StringMatch("prefix", "/") if value == "/" else StringMatch("segments", value.removesuffix("/"))


def _weight(backend: Fields) -> int:
    return 1 if backend["weight"] is None else backend["weight"]


def _destination(backend: Fields) -> Destination:
    return Destination(of.full_name(backend["name"]), port=backend["port"], place=f"{backend.place}.name")


def _targets(rule: Fields) -> tuple[Target, ...]:
    """Return the backends that get calls; a lone one needs no weight (buildHTTPDestination)."""
    backends = [each for each in rule["backendRefs"] if _weight(each)]
    return tuple(
        Target(_destination(each), _weight(each) if len(backends) > 1 else 0, _headers(each["filters"]))
        for each in backends
    )


def _headers(filters: list[Fields]) -> Headers:
    changes = {}
    for direction in ("request", "response"):
        modifiers = [each[f"{direction}HeaderModifier"] for each in filters if each[f"{direction}HeaderModifier"]]
        changes[direction] = _changes(modifiers[-1]) if modifiers else HeaderChanges()
    return Headers(changes["request"], changes["response"])


def _changes(modifier: Fields) -> HeaderChanges:
    """Return changes, the first of a name where there are several (headerListToMap); Host becomes the authority."""
    found = []
    for name in ("set", "add"):
        pairs: dict[str, str] = {}
        for each in modifier[name]:
            pairs.setdefault(each["name"].lower(), each["value"])
            if "%" in each["value"]:
                raise each.error("value", f"{shown(each['value'])} holds a %: {of.ISTIOD}")
        found.append(pairs)
    authority = found[0].pop("host", "") or found[1].get("host", "")
    found[1].pop("host", None)
    removed = tuple(name for name in modifier["remove"] if name.lower() != "host")
    return HeaderChanges(dict(sorted(found[0].items())), dict(sorted(found[1].items())), removed, authority)


def _kind(match: Match) -> str:
    return match.path.kind if match.path else "prefix"


def _new_path(fields: Fields, matches: list[Match]) -> tuple[str, str | None]:
    """Return the kind and the value of a path that replaces another."""
    path = fields["path"]
    if path is None:
        return "", None
    kind: str = path["type"]
    name = kind[0].lower() + kind[1:]
    if path.given != {"type", name}:
        raise path.error(name, "is missing" if name not in path.given else f"is all that goes with {kind}")
    if kind == "ReplacePrefixMatch" and (len(matches) != 1 or _kind(matches[0]) not in ("prefix", "segments")):
        raise path.error("type", "ReplacePrefixMatch goes with exactly one match, of a PathPrefix")
    return kind, path[name]


def _redirect(redirect: Fields, matches: list[Match]) -> Redirect:
    kind, path = _new_path(redirect, matches)
    code = redirect["statusCode"] or 302
    if code not in (301, 302, 303, 307, 308):
        raise redirect.error("statusCode", f"{code} is none of 301, 302, 303, 307, 308")
    return Redirect(
        code=code,
        path=(path or "") if kind == "ReplaceFullPath" else "",
        prefix=(path or "") if kind == "ReplacePrefixMatch" else "",
        authority=redirect["hostname"] or "",
        scheme=redirect["scheme"] or "",
        port=redirect["port"],
        same_port=redirect["port"] is None and redirect["scheme"] is None,
    )


def _rewrite(rewrite: Fields, matches: list[Match]) -> Rewrite | None:
    """Return what is rewritten (createRewriteFilter): the prefix `/` is removed by a pattern."""
    kind, path = _new_path(rewrite, matches)
    authority = rewrite["hostname"] or ""
    if kind == "ReplaceFullPath":
        if "\\" in (path or ""):
            raise rewrite.error("path.replaceFullPath", f"{shown(path)} holds a backslash")
        return Rewrite(pattern="/.*", substitution=path or "", authority=authority)
    if kind == "ReplacePrefixMatch":
        prefix = (path or "").removesuffix("/")
        if prefix:
            return Rewrite(prefix, authority=authority)
        old = matches[0].path
        removed = re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", old.value if old and old.kind == "segments" else "")
        return Rewrite(pattern=f"^{removed}(/?)(.*)", substitution=r"/\2", authority=authority)
    return Rewrite(authority=authority) if authority else None


def _mirrors(rule: Fields) -> Iterable[Mirror]:
    for each in rule["filters"]:
        mirror = each["requestMirror"]
        if mirror is None:
            continue
        percent, fraction = mirror["percent"], mirror["fraction"]
        if percent is not None and fraction is not None:
            raise mirror.error("fraction", "excludes percent")
        destination = _destination(mirror["backendRef"])
        if percent is None and fraction is None:
            yield Mirror(destination, 100, whole_percent=True)
            continue
        share: float = percent or 0
        if fraction is not None:
            whole = fraction["denominator"] or 100
            if fraction["numerator"] > whole:
                raise fraction.error("numerator", f"is more than {whole}")
            share = 100 * fraction["numerator"] / whole
        if share > 0:
            yield Mirror(destination, share)


def _with_times(rule: Rule, timeouts: Fields | None, retry: Fields | None) -> Rule:
    """Return a rule with timeout and retries: without these `backendRequest` bounds the whole (convertHTTPRoute)."""
    request, backend = (_seconds(timeouts, name) for name in ("request", "backendRequest"))
    if timeouts and request and backend > request:
        raise timeouts.error("backendRequest", "is longer than request")
    if retry is None:
        return dataclasses.replace(rule, timeout_seconds=(backend or request) or None)
    codes = tuple(retry["codes"])
    conditions = _RETRY_CONDITIONS
    backoff = _seconds(retry, "backoff") if retry["backoff"] is not None else None
    retries = Retry(retry["attempts"] or 2, conditions, codes, backend or None, backoff)
    return dataclasses.replace(rule, timeout_seconds=request or None, retry=retries)


def _seconds(fields: Fields | None, name: str) -> float:
    if fields is None or fields[name] is None:
        return 0
    return MilliDuration(0).parse(fields[name], f"{fields.place}.{name}")


def _cors(policy: Fields) -> Cors:
    """Return which origins may call (createCorsFilter)."""
    origins = []
    for index, origin in enumerate(policy["allowOrigins"]):
        if not _ORIGIN.fullmatch(origin):
            raise policy.error(
                f"allowOrigins[{index}]", f"{shown(origin)} is not an origin such as https://example.com"
            )
        if origin == "*":
            origins.append(StringMatch("regex", r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$"))
        elif "*" not in origin:
            origins.append(StringMatch("exact", origin))
        elif origin.count("*") == 1 and origin.endswith("*"):
            origins.append(StringMatch("prefix", origin.removesuffix("*")))
        else:
            quoted = re.sub(r"([\\.+?()|\[\]{}^$])", r"\\\1", origin).replace("*", ".*")
            origins.append(StringMatch("regex", f"^{quoted}$"))
    return Cors(
        origins=tuple(origins),
        methods=tuple(policy["allowMethods"]),
        headers=tuple(policy["allowHeaders"]),
        exposed=tuple(policy["exposeHeaders"]),
        max_age_seconds=5 if policy["maxAge"] is None else policy["maxAge"],
        credentials=True if policy["allowCredentials"] else None,
        forward_unmatched=False,
    )
