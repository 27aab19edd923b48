"""Reading VirtualServices (Istio, "Virtual Service" reference; pkg/config/validation/virtualservice.go)."""

from __future__ import annotations

import re

from meshdemo.lab.files.documents import shown
from meshdemo.lab.files.kinds import NAMESPACE
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.files.schema import Boolean, Fields, Integer, List, Map, Object, Record, Text, read
from meshdemo.lab.quick.reading import fields as kinds
from meshdemo.lab.quick.reading.actions import ACTIONS, DESTINATION, MIRROR_PERCENTAGE, MIRRORS, mirrors
from meshdemo.lab.quick.reading.fields import MilliDuration, Unsupported
from meshdemo.lab.quick.rules.hosts import matches
from meshdemo.lab.quick.rules.model import MESH, Headers, Match, Rule, RuleSet, StringMatch, Target
from meshdemo.lab.quick.rules.refusing import refused

_GATEWAY = Text(pattern=r"[a-z0-9][-a-z0-9]*(/[a-z0-9][-a-z0-9]*)?", rule="a Gateway's name, or namespace/name")


def _gateways(names: list[str]) -> tuple[str, ...]:
    """Return the names of Gateways with their namespaces (model/gateway.go, resolveGatewayName)."""
    return tuple(name if name == MESH or "/" in name else f"{NAMESPACE}/{name}" for name in names)


def _match(fields: Fields) -> Match:
    for name in ("headers", "withoutHeaders"):
        for key in fields[name]:
            if key.startswith("@request.auth.claims"):
                raise refused(f"{fields.place}.{name}.{key}")
            if not re.fullmatch(kinds.MATCHED_HEADER, key):
                raise fields.error(name, f"{shown(key)} is not the name of a header")
    if "" in fields["queryParams"]:
        raise fields.error("queryParams", "has an empty name")
    return Match(
        path=None if fields["uri"] == StringMatch("present") else fields["uri"],
        ignore_case=bool(fields["ignoreUriCase"]),
        headers=tuple(sorted(fields["headers"].items())),
        without_headers=tuple(sorted(fields["withoutHeaders"].items())),
        parameters=tuple(sorted(fields["queryParams"].items())),
        method=fields["method"],
        authority=fields["authority"],
        scheme=fields["scheme"],
        port=fields["port"] or 0,
        gateways=_gateways(fields["gateways"]),
        source_labels=fields["sourceLabels"],
        source_namespace=fields["sourceNamespace"] or "",
        name=fields["name"] or "",
    )


_MATCH = Record(
    {
        "name": Text(),
        "uri": kinds.PATH_MATCH,
        "scheme": kinds.STRING_MATCH,
        "method": kinds.STRING_MATCH,
        "authority": kinds.STRING_MATCH,
        "headers": Map(kinds.STRING_MATCH),
        "withoutHeaders": Map(kinds.STRING_MATCH_OR_PRESENT),
        "queryParams": Map(kinds.STRING_MATCH),
        "ignoreUriCase": Boolean(),
        "port": Integer(0, 65535),
        "sourceLabels": kinds.LABELS,
        "sourceNamespace": kinds.NAME,
        "gateways": List(_GATEWAY),
        "statPrefix": Text(),
    },
    make=_match,
)


def _target(fields: Fields) -> Target:
    return Target(fields["destination"], fields["weight"] or 0, fields["headers"] or Headers())


def _rule(fields: Fields) -> Rule:
    kinds = [name for name in ("route", "redirect", "directResponse") if fields[name]]
    if len(kinds) != 1:
        if not kinds:
            raise fields.error("route", "is missing, as are redirect and directResponse")
        raise fields.error(kinds[-1], f"cannot be combined with {kinds[0]}")
    for name in ("fault", "rewrite"):
        if fields[name] and kinds != ["route"]:
            raise fields.error(name, f"cannot be combined with {kinds[0]}")
    if fields["redirect"] and fields["redirect"].prefix:
        for index, match in enumerate(fields["match"]):
            if match.path and match.path.kind != "prefix":
                raise fields.error(f"match[{index}].uri", "is not a prefix, which prefixRewrite of a redirect needs")
    headers: Headers = fields["headers"] or Headers()
    if headers.request.authority and fields["rewrite"] and fields["rewrite"].authority:
        raise fields.error("headers.request", "sets the Host header, which rewrite sets as well")
    targets: list[Target] = fields["route"]
    if len(targets) > 1 and not 0 < sum(target.weight for target in targets) < 2**31:
        raise fields.error("route", "has several destinations, with weights that are all 0 or missing, or too large")
    return Rule(
        name=fields["name"] or "",
        matches=tuple(fields["match"]),
        targets=tuple(targets),
        redirect=fields["redirect"],
        response=fields["directResponse"],
        headers=headers,
        rewrite=fields["rewrite"],
        mirrors=mirrors(fields),
        retry=fields["retries"],
        timeout_seconds=fields["timeout"],
        fault=fields["fault"],
        cors=fields["corsPolicy"],
    )


_RULE = Record(
    {
        "name": Text(),
        "match": List(_MATCH),
        "route": List(
            Record(
                {"destination": DESTINATION, "weight": Integer(0), "headers": kinds.DESTINATION_HEADERS},
                ("destination",),
                _target,
            )
        ),
        **ACTIONS,
        "delegate": Unsupported(),
        "timeout": MilliDuration(),
        "mirror": DESTINATION,
        "mirrorPercentage": MIRROR_PERCENTAGE,
        "mirrorPercent": Integer(0, 100),
        "mirror_percent": Unsupported(),
        "mirrors": MIRRORS,
        "headers": kinds.ROUTE_HEADERS,
    },
    make=_rule,
)
_SCHEMA = Object(
    {
        "hosts": List(kinds.HostName(wildcard=True), most=1000),
        "gateways": List(_GATEWAY),
        "http": List(_RULE),
        "tls": Unsupported(([],)),
        "tcp": Unsupported(([],)),
        "exportTo": kinds.EXPORT_TO,
    }
)


def read_virtual_service(manifest: Manifest) -> RuleSet:
    """Return the rules of a VirtualService."""
    spec = read(manifest, _SCHEMA)
    hosts, gateways = spec["hosts"], _gateways(spec["gateways"]) or (MESH,)
    if not hosts:
        raise refused(f"{spec.place}.hosts", "is missing, so that others have to delegate to it")
    if not spec["http"]:
        raise spec.error("http", "is missing")
    written: list[str] = manifest.spec["hosts"]
    for index, host in enumerate(written):
        if host == "*" and MESH in gateways:
            raise spec.error(f"hosts[{index}]", "'*' is not allowed where sidecars apply it, only for gateways")
        if any(matches(host, other) for other in written[:index]):
            raise spec.error(f"hosts[{index}]", f"{shown(host)} is covered by another of the hosts")
    return RuleSet(
        name=manifest.name,
        place=spec.place,
        hosts=tuple(dict.fromkeys(hosts)),
        gateways=gateways,
        rules=tuple(spec["http"]),
        is_private=kinds.is_private(spec),
    )
