"""Reading VirtualServices (Istio, "Virtual Service" reference; pkg/config/validation/virtualservice.go)."""

from __future__ import annotations

import base64
import binascii
import http
import re
from typing import Any

from meshdemo.lab.manifests import NAMESPACE, Manifest, ManifestError, shown
from meshdemo.lab.quick import fields as of
from meshdemo.lab.quick.fields import NOT_HERE, MilliDuration, Percent, Regex, Unsupported
from meshdemo.lab.quick.model import (
    MESH,
    Cors,
    Destination,
    DirectResponse,
    Fault,
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
from meshdemo.lab.schema import Boolean, Fields, Integer, List, Map, Object, Text, read

_PERCENT = Object({"value": Percent()})
_MIRROR_PERCENT = Object({"value": Percent(smallest=0)})
_SELECTOR = Object({"number": of.PORT}, ("number",))
_DESTINATION = Object({"host": of.Host(), "subset": of.NAME, "port": _SELECTOR}, ("host",))
_GATEWAY = Text(pattern=r"[a-z0-9][-a-z0-9]*(/[a-z0-9][-a-z0-9]*)?", rule="a Gateway's name, or namespace/name")
_ORIGIN = Object({"exact": Text(), "prefix": Text(), "regex": Regex()})
_CORS_HEADER = Text(pattern=r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", rule="the name of a header")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*")
_STATUS = Integer(200, 599)
_EXPORT = List(Text(("*", ".", NAMESPACE)), most=1)
_MATCH = Object(
    {
        "name": Text(),
        "uri": of.STRING_MATCH,
        "scheme": of.STRING_MATCH,
        "method": of.STRING_MATCH,
        "authority": of.STRING_MATCH,
        "headers": Map(of.STRING_MATCH),
        "withoutHeaders": Map(of.STRING_MATCH_OR_PRESENT),
        "queryParams": Map(of.STRING_MATCH),
        "ignoreUriCase": Boolean(),
        "port": Integer(0, 65535),
        "sourceLabels": of.LABELS,
        "sourceNamespace": of.NAME,
        "gateways": List(_GATEWAY),
        "statPrefix": Text(),
    }
)
_RULE = Object(
    {
        "name": Text(),
        "match": List(_MATCH),
        "route": List(
            Object({"destination": _DESTINATION, "weight": Integer(0), "headers": of.HEADERS}, ("destination",))
        ),
        "redirect": Object(
            {
                "uri": Text(),
                "prefixRewrite": Text(),
                "authority": Text(),
                "scheme": Text(("http", "https")),
                "port": Integer(0, 65535),
                "derivePort": Text(("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT")),
                "redirectCode": Integer(0, 399),
            }
        ),
        "directResponse": Object({"status": _STATUS, "body": Object({"string": Text(), "bytes": Text()})}, ("status",)),
        "delegate": Unsupported(),
        "rewrite": Object(
            {
                "uri": Text(),
                "authority": Text(),
                "uriRegexRewrite": Object({"match": Regex(), "rewrite": Text()}, ("match", "rewrite")),
            }
        ),
        "timeout": MilliDuration(),
        "retries": Object(
            {
                "attempts": Integer(0),
                "perTryTimeout": MilliDuration(),
                "retryOn": Text(),
                "retryRemoteLocalities": Boolean(),
                "retryIgnorePreviousHosts": Boolean(),
                "backoff": MilliDuration(),
            }
        ),
        "fault": Object(
            {
                "delay": Object(
                    {
                        "fixedDelay": MilliDuration(),
                        "exponentialDelay": Unsupported(),
                        "percent": Integer(0, 100),
                        "percentage": _PERCENT,
                    },
                    ("fixedDelay",),
                ),
                "abort": Object(
                    {
                        "httpStatus": _STATUS,
                        "grpcStatus": Unsupported(),
                        "http2Error": Unsupported(),
                        "percentage": _PERCENT,
                    },
                    ("httpStatus",),
                ),
            }
        ),
        "mirror": _DESTINATION,
        "mirrorPercentage": _MIRROR_PERCENT,
        "mirrorPercent": Integer(0, 100),
        "mirror_percent": Unsupported(),
        "mirrors": List(Object({"destination": _DESTINATION, "percentage": _MIRROR_PERCENT}, ("destination",))),
        "corsPolicy": Object(
            {
                "allowOrigins": List(_ORIGIN),
                "allowOrigin": Unsupported(([],)),
                "allowMethods": List(Text(_METHODS)),
                "allowHeaders": List(_CORS_HEADER),
                "exposeHeaders": List(_CORS_HEADER),
                "maxAge": MilliDuration(),
                "allowCredentials": Boolean(),
                "unmatchedPreflights": Text(("UNSPECIFIED", "FORWARD", "IGNORE")),
            }
        ),
        "headers": of.HEADERS,
    }
)
_SCHEMA = Object(
    {
        "hosts": List(of.Host(wildcard=True), least=1),
        "gateways": List(_GATEWAY),
        "http": List(_RULE, least=1),
        "tls": Unsupported(([],)),
        "tcp": Unsupported(([],)),
        "exportTo": _EXPORT,
    },
    ("hosts", "http"),
)
# Go's names of status codes, which are Python's as well (net/http, StatusText).
_CODES = frozenset(int(status) for status in http.HTTPStatus)
#: Envoy's conditions for retries that Istio's validation knows (supportedRetryOnPolicies).
_CONDITIONS = frozenset(
    {"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream"}
    | {"retriable-status-codes", "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure"}
    | {"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}
)


def read_virtual_service(manifest: Manifest) -> RuleSet:
    """Return the rules of a VirtualService."""
    spec = read(manifest, _SCHEMA)
    gateways = tuple(gateway_name(name) for name in spec["gateways"]) or (MESH,)
    hosts = spec["hosts"]
    for index, host in enumerate(hosts):
        if host == "*" and MESH in gateways:
            raise spec.error(f"hosts[{index}]", "'*' is not allowed where sidecars apply it, only for gateways")
        if any(_overlap(host, other) for other in hosts[:index]):
            raise spec.error(f"hosts[{index}]", f"{shown(host)} is covered by another of the hosts")
    return RuleSet(
        name=manifest.name,
        place=f"{manifest.place}: spec",
        hosts=tuple(hosts),
        gateways=gateways,
        rules=tuple(_rule(rule) for rule in spec["http"]),
        is_private=bool(spec["exportTo"]) and spec["exportTo"] != ["*"],
    )


def gateway_name(name: str) -> str:
    """Return a Gateway's name with its namespace (model/gateway.go, resolveGatewayName)."""
    return name if name == MESH or "/" in name else f"{NAMESPACE}/{name}"


def _overlap(first: str, second: str) -> bool:
    """Return whether two hosts, maybe with wildcards, have one in common (host.Name.Matches)."""
    if first.startswith("*") and second.startswith("*"):
        return first[1:].endswith(second[1:]) or second[1:].endswith(first[1:])
    return first == second or any(
        wild.startswith("*") and plain.endswith(wild[1:]) for wild, plain in ((first, second), (second, first))
    )


def _rule(rule: Fields) -> Rule:
    kinds = [name for name in ("route", "redirect", "directResponse") if rule[name]]
    if len(kinds) != 1:
        problem = "is missing, as are redirect and directResponse" if not kinds else f"excludes {kinds[0]}"
        raise rule.error(kinds[-1] if kinds else "route", problem)
    for name in ("fault", "rewrite"):
        if rule[name] and kinds != ["route"]:
            raise rule.error(name, f"does not go with {kinds[0]}")
    rewrite = _rewrite(rule["rewrite"])
    return Rule(
        name=rule["name"] or "",
        matches=tuple(_match(match) for match in rule["match"]),
        targets=_targets(rule),
        redirect=_redirect(rule["redirect"], rule["match"]),
        response=_response(rule["directResponse"]),
        headers=of.headers(rule["headers"], authority=rewrite.authority if rewrite else ""),
        rewrite=rewrite,
        mirrors=_mirrors(rule),
        retry=_retry(rule["retries"]),
        timeout_seconds=rule["timeout"],
        fault=_fault(rule["fault"]),
        cors=_cors(rule["corsPolicy"]),
    )


def _match(match: Fields) -> Match:
    def conditions(name: str) -> tuple[tuple[str, StringMatch], ...]:
        pairs = []
        for key, value in sorted(match[name].items()):
            if key.startswith("@request.auth.claims"):
                raise match.error(f"{name}.{key}", NOT_HERE)
            if name != "queryParams" and not of.HEADER_NAME.fullmatch(key):
                raise match.error(name, f"{shown(key)} is not the name of a header")
            pairs.append((key, of.string_match(value) or StringMatch("present")))
        return tuple(pairs)

    path = of.string_match(match["uri"], may_be_empty=True)
    return Match(
        path=None if path == StringMatch("present") else path,
        ignore_case=bool(match["ignoreUriCase"]),
        headers=conditions("headers"),
        without_headers=conditions("withoutHeaders"),
        parameters=conditions("queryParams"),
        method=of.string_match(match["method"]),
        authority=of.string_match(match["authority"]),
        scheme=of.string_match(match["scheme"]),
        port=match["port"] or 0,
        gateways=tuple(gateway_name(name) for name in match["gateways"]),
        source_labels=match["sourceLabels"],
        source_namespace=match["sourceNamespace"] or "",
        name=match["name"] or "",
    )


def destination(fields: Fields) -> Destination:
    """Return what a `destination` means."""
    port = fields["port"]
    return Destination(fields["host"], fields["subset"] or "", port["number"] if port else None, f"{fields.place}.host")


def _targets(rule: Fields) -> tuple[Target, ...]:
    targets = [
        Target(destination(route["destination"]), route["weight"] or 0, of.headers(route["headers"]))
        for route in rule["route"]
    ]
    if len(targets) > 1 and not any(target.weight for target in targets):
        raise rule.error("route", "has several destinations, whose weights are all 0 or missing")
    if sum(target.weight for target in targets) > 2**31 - 1:
        raise rule.error("route", "has weights that add up to more than 2147483647")
    return tuple(targets)


def _redirect(redirect: Fields | None, matches: list[Fields]) -> Redirect | None:
    if redirect is None:
        return None
    if "port" in redirect.given and "derivePort" in redirect.given:
        raise redirect.error("derivePort", "excludes port")
    if redirect["uri"] and redirect["prefixRewrite"]:
        raise redirect.error("prefixRewrite", "excludes uri")
    if redirect["prefixRewrite"]:
        for match in matches:
            if match["uri"] is not None and "prefix" not in match["uri"].given:
                raise redirect.error("prefixRewrite", "goes with matches of a prefix only")
    if not any(redirect[name] for name in ("uri", "prefixRewrite", "authority", "scheme")) and not (
        redirect.given & {"port", "derivePort"}
    ):
        raise redirect.error("uri", "is missing, as are authority, scheme and port")
    code = redirect["redirectCode"] or 301
    if code not in (301, 302, 303, 307, 308):
        known = f"only 301, 302, 303, 307 and 308, {of.ISTIOD}" if code >= 300 else "must be 3xx"
        raise redirect.error("redirectCode", f"{code} is no redirect that Envoy has: {known}")
    return Redirect(
        code=code,
        path=redirect["uri"] or "",
        prefix=redirect["prefixRewrite"] or "",
        authority=redirect["authority"] or "",
        scheme=redirect["scheme"] or "",
        port=redirect["port"],
        same_port=redirect["derivePort"] == "FROM_REQUEST_PORT",
    )


def _response(response: Fields | None) -> DirectResponse | None:
    if response is None:
        return None
    body = response["body"]
    if body is None:
        return DirectResponse(response["status"])
    if len(body.given) > 1:
        raise body.error("bytes", "excludes string")
    encoded = body["bytes"]
    if encoded is not None:
        try:
            base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise body.error("bytes", f"{shown(encoded)} is not base64") from None
    if len(encoded or body["string"] or "") > 1024 * 1024:
        raise body.error("bytes" if encoded else "string", "holds more than 1 MiB")
    return DirectResponse(response["status"], body["string"], encoded)


def _rewrite(rewrite: Fields | None) -> Rewrite | None:
    if rewrite is None:
        return None
    regex = rewrite["uriRegexRewrite"]
    if rewrite["uri"] and regex:
        raise rewrite.error("uriRegexRewrite", "excludes uri")
    if not (rewrite["uri"] or regex or rewrite["authority"]):
        raise rewrite.error("uri", "is missing, as are uriRegexRewrite and authority")
    pattern, substitution = (regex["match"], regex["rewrite"]) if regex else ("", "")
    _check_substitution(rewrite, pattern, substitution)
    return Rewrite(rewrite["uri"] or "", pattern, substitution, rewrite["authority"] or "")


def _check_substitution(rewrite: Fields, pattern: str, substitution: str) -> None:
    """Refuse what Envoy would: a group that the pattern does not have, a lone backslash (RE2, CheckRewriteString)."""
    for escape in re.findall(r"\\(.?)", substitution):
        if escape != "\\" and not (escape.isdigit() and int(escape) <= re.compile(pattern).groups):
            raise rewrite.error("uriRegexRewrite.rewrite", f"\\{escape} is no group of {shown(pattern)}")


def _mirrors(rule: Fields) -> tuple[Mirror, ...]:
    """Return the copies that are sent (route.go, MirrorPercent): 0 % is none, nothing said is all."""
    if rule["mirror"] and rule["mirrors"]:
        raise rule.error("mirrors", "excludes mirror")
    found = []
    if rule["mirror"]:
        percentage, whole = rule["mirrorPercentage"], rule["mirrorPercent"]
        if percentage is not None:
            found.append(Mirror(destination(rule["mirror"]), percentage["value"] or 0))
        else:
            found.append(Mirror(destination(rule["mirror"]), 100 if whole is None else whole, whole_percent=True))
    for mirror in rule["mirrors"]:
        percentage = mirror["percentage"]
        if percentage is None:
            found.append(Mirror(destination(mirror["destination"]), 100, whole_percent=True))
        else:
            found.append(Mirror(destination(mirror["destination"]), percentage["value"] or 0))
    return tuple(mirror for mirror in found if mirror.percent > 0)


def _retry(retries: Fields | None) -> Retry | None:
    """Return how calls are repeated; without attempts they are not (retry.go, ConvertPolicy)."""
    if retries is None:
        return None
    attempts = retries["attempts"] or 0
    for name in ("perTryTimeout", "retryOn", "retryRemoteLocalities"):
        if not attempts and name in retries.given and retries[name] != "":
            raise retries.error("attempts", f"is missing or 0, which turns retries off: {name} says otherwise")
    conditions, codes = [], []
    for word in (retries["retryOn"] or "").split(",") if retries["retryOn"] else ():
        if re.fullmatch(r"\d{3}", word) and int(word) in _CODES:
            codes.append(int(word))
        elif word in _CONDITIONS:
            conditions.append(word)
        else:
            raise ManifestError(f"{retries.place}.retryOn", f"{shown(word)} is neither a condition nor a status")
    return Retry(
        attempts=attempts,
        conditions=tuple(conditions),
        codes=tuple(codes),
        per_try_seconds=retries["perTryTimeout"],
        backoff_seconds=retries["backoff"],
        other_hosts=retries["retryIgnorePreviousHosts"],
        other_localities=bool(retries["retryRemoteLocalities"]),
    )


def _fault(fault: Fields | None) -> Fault | None:
    if fault is None:
        return None
    delay, abort = fault["delay"], fault["abort"]
    if delay is None and abort is None:
        raise fault.error("delay", "is missing, as is abort")

    def percent(part: Fields | None) -> float | None:
        percentage: Fields | None = part["percentage"] if part else None
        return (percentage["value"] or 0.0) if percentage is not None else None

    return Fault(
        delay_seconds=delay["fixedDelay"] if delay else None,
        delay_percent=percent(delay),
        delay_whole_percent=(delay["percent"] or 0) if delay else 0,
        abort_status=abort["httpStatus"] if abort else None,
        abort_percent=percent(abort),
    )


def _cors(policy: Fields | None) -> Cors | None:
    if policy is None:
        return None
    origins: list[Any] = [of.string_match(origin) for origin in policy["allowOrigins"]]
    for index, origin in enumerate(origins):
        if not origin.value:
            raise policy.error(f"allowOrigins[{index}]", "says no origin: exact, prefix or regex")
    age = policy["maxAge"]
    if age is not None and age != int(age):
        raise policy.error("maxAge", "is not in whole seconds")
    return Cors(
        origins=tuple(origins),
        methods=tuple(policy["allowMethods"]),
        headers=tuple(policy["allowHeaders"]),
        exposed=tuple(policy["exposeHeaders"]),
        max_age_seconds=None if age is None else int(age),
        credentials=policy["allowCredentials"],
        forward_unmatched=policy["unmatchedPreflights"] != "IGNORE",
    )
