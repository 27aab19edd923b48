"""Reading the rules of HTTPRoutes (Gateway API, HTTPRoute specification v1; kube/gateway/conversion.go of Istio)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from meshdemo.lab.files.documents import shown
from meshdemo.lab.files.kinds import NAMESPACE
from meshdemo.lab.files.schema import Fields, Integer, List, Object, Record, Text
from meshdemo.lab.quick.reading.fields import MilliDuration, Regex, Unsupported
from meshdemo.lab.quick.reading.http_filters import (
    BACKEND,
    BACKEND_FILTERS,
    FILTERS,
    METHODS,
    NAME,
    backend,
    headers,
    removing,
)
from meshdemo.lab.quick.rules.model import (
    DEFAULT_RETRIES,
    DirectResponse,
    Match,
    Retry,
    Rule,
    StringMatch,
    Target,
)
from meshdemo.lab.quick.rules.refusing import refused

#: A match that every call is like.
EVERYTHING = Match(path=StringMatch("prefix", "/"))
_PATH = Text(pattern=r"/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*", rule="a path, which begins with a slash")
_RETRY_CONDITIONS = ("connect-failure", "refused-stream", "unavailable", "cancelled")


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
    value, place = "/" if fields["value"] is None else fields["value"], f"{fields.place}.value"
    if fields["type"] == "RegularExpression":
        if not value:
            raise refused(place, "is empty, and Envoy takes no empty expression")
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
        {"name": NAME, "value": Text(), "type": Text(("Exact", "RegularExpression"))}, ("name", "value"), _condition
    ),
    most=16,
)
_MATCH = Record(
    {
        "path": Record({"type": Text(("Exact", "PathPrefix", "RegularExpression")), "value": Text()}, make=_path),
        "headers": _CONDITIONS,
        "queryParams": _CONDITIONS,
        "method": Text(METHODS),
    },
    make=_match,
)


def _target(fields: Fields) -> Target:
    weight = 1 if fields["weight"] is None else fields["weight"]
    return Target(backend(fields), weight, headers(fields["filters"]))


def _rules(fields: Fields) -> list[Rule]:
    """Return a rule for each match (convertHTTPRoute), without backends an answer of 500."""
    filters = dict(fields["filters"])
    names = [name for name, _ in fields["filters"] if name != "requestMirror"]
    if len(set(names)) < len(names):
        raise fields.error("filters", "has the same type twice")
    redirect, rewrite = filters.get("requestRedirect"), filters.get("urlRewrite")
    if redirect and (rewrite or fields["backendRefs"]):
        other = "URLRewrite" if rewrite else "backendRefs"
        raise fields.error("filters", f"RequestRedirect cannot be combined with {other}")
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
            headers=headers(fields["filters"]),
            rewrite=removing(rewrite, match),
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
    codes, attempts = tuple(retry["codes"]), retry["attempts"] or DEFAULT_RETRIES
    if retry["backoff"] == 0:
        raise retry.error("backoff", "is 0, which Envoy refuses")
    return request or None, Retry(attempts, _RETRY_CONDITIONS, codes, backend or None, retry["backoff"])


#: A rule, read as the list of those that it becomes.
RULE = Record(
    {
        "name": Text(),
        "matches": List(_MATCH, most=64),
        "filters": FILTERS,
        "backendRefs": List(
            Record(
                {**BACKEND, "weight": Integer(0, 1_000_000), "filters": BACKEND_FILTERS},
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
