"""Reading DestinationRules (Istio, "Destination Rule" reference; validateTrafficPolicy of pkg/config/validation)."""

from __future__ import annotations

import math
from typing import Any

from meshdemo.lab.files.documents import shown
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.files.schema import (
    Boolean,
    Duration,
    Fields,
    Integer,
    List,
    Number,
    Object,
    Record,
    Text,
    Type,
    into,
    read,
)
from meshdemo.lab.quick.reading import fields as kinds
from meshdemo.lab.quick.reading.fields import MilliDuration, Some, Unsupported
from meshdemo.lab.quick.rules.destinations import (
    Balancing,
    Cookie,
    Hashing,
    HostPolicy,
    OutlierDetection,
    Pool,
    RetryBudget,
    Subset,
    TrafficPolicy,
    Warmup,
)
from meshdemo.lab.quick.rules.refusing import refused

_COUNT = Integer(0)
_UNSIGNED = Integer(0, 2**32 - 1)
_RING_SIZE = Integer(0, 8 * 2**20)
_BALANCERS = ("UNSPECIFIED", "LEAST_CONN", "LEAST_REQUEST", "PASSTHROUGH", "RANDOM", "ROUND_ROBIN")


def _keepalive(keepalive: Fields) -> dict[str, int]:
    """Return the whole seconds of a keep-alive, and its probes where there are any."""
    probes = {"probes": keepalive["probes"]} if keepalive["probes"] else {}
    return probes | {name: int(keepalive[name]) for name in ("time", "interval") if name in keepalive.given}


_TCP = Object(
    {
        "maxConnections": _COUNT,
        "connectTimeout": MilliDuration(),
        "idleTimeout": Duration(),
        "maxConnectionDuration": MilliDuration(),
        "tcpKeepalive": Record(
            {"probes": _UNSIGNED, "time": MilliDuration(), "interval": MilliDuration()}, make=_keepalive
        ),
    }
)
_HTTP = Object(
    {
        "http1MaxPendingRequests": _COUNT,
        "http2MaxRequests": _COUNT,
        "maxRequestsPerConnection": _COUNT,
        "maxRetries": _COUNT,
        "idleTimeout": MilliDuration(),
        "h2UpgradePolicy": Some(("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"), known=("DEFAULT", "DO_NOT_UPGRADE")),
        "useClientProtocol": Unsupported((False,)),
        # For HTTP/2 alone, which no destination speaks here.
        "maxConcurrentStreams": _COUNT,
        "http2KeepAlive": Object({"interval": MilliDuration(), "timeout": MilliDuration()}, ("interval", "timeout")),
    }
)


def _pool(pool: Fields) -> Pool:
    """Return limits (cluster_traffic_policy.go, applyConnectionPool): what is 0 is as if it were not there."""
    if not pool.given:
        raise pool.error("http", "is missing, as is tcp")
    tcp: Any = pool["tcp"] or dict.fromkeys(_TCP.fields)
    http: Any = pool["http"] or dict.fromkeys(_HTTP.fields)
    return Pool(
        max_connections=tcp["maxConnections"] or 0,
        max_pending=http["http1MaxPendingRequests"] or 0,
        max_requests=http["http2MaxRequests"] or 0,
        max_retries=http["maxRetries"] or 0,
        max_requests_per_connection=http["maxRequestsPerConnection"] or 0,
        connect_seconds=tcp["connectTimeout"],
        idle_seconds=http["idleTimeout"] if http["idleTimeout"] is not None else tcp["idleTimeout"],
        connection_seconds=tcp["maxConnectionDuration"],
        keepalive=tcp["tcpKeepalive"],
        names_http2=bool(http["maxConcurrentStreams"] or http["http2KeepAlive"]),
    )


def _outliers(fields: Fields) -> OutlierDetection:
    if fields["consecutiveLocalOriginFailures"] and not fields["splitExternalLocalOriginErrors"]:
        raise fields.error("consecutiveLocalOriginFailures", "needs splitExternalLocalOriginErrors: true")
    make = into(
        OutlierDetection,
        errors_5xx="consecutive5xxErrors",
        gateway_errors="consecutiveGatewayErrors",
        local_failures="consecutiveLocalOriginFailures",
        split_local="splitExternalLocalOriginErrors",
        interval_seconds="interval",
        ejection_seconds="baseEjectionTime",
        max_percent="maxEjectionPercent",
        min_health_percent="minHealthPercent",
    )
    return make(fields)  # type: ignore[no-any-return]


def _warmup(fields: Fields) -> Warmup:
    """Return a warm-up with its defaults (cluster_traffic_policy.go, setWarmup)."""
    if fields["aggression"] == 0:
        raise fields.error("aggression", "must be more than 0")
    percent = 10.0 if fields["minimumPercent"] is None else fields["minimumPercent"]
    return Warmup(fields["duration"], percent, fields["aggression"] or 1.0)


def _cookie(fields: Fields) -> Cookie:
    attributes = tuple((each["name"], each["value"] or "") for each in fields["attributes"])
    if len(dict(attributes)) < len(attributes):
        raise fields.error("attributes", "has the same name twice")
    return Cookie(fields["name"], fields["path"] or "", fields["ttl"], attributes)


def _maglev(fields: Fields) -> int:
    size = fields["tableSize"] or 0
    if size < 2 or any(size % factor == 0 for factor in range(2, math.isqrt(size) + 1)):
        raise fields.error("tableSize", f"{size} is not a prime number")
    return int(size)


def _hashing(fields: Fields) -> Hashing:
    """Return by what calls are hashed (ApplyRingHashLoadBalancer, ConsistentHashToHashPolicy)."""
    keys = {"httpHeaderName", "httpQueryParameterName", "useSourceIp", "httpCookie"}
    for group in (keys, {"ringHash", "maglev"}, {"minimumRingSize", "ringHash"}, {"minimumRingSize", "maglev"}):
        given = sorted(name for name in fields.given & group if fields[name] != 0 or name != "minimumRingSize")
        if len(given) > 1:
            raise fields.error(given[1], f"cannot be combined with {given[0]}")
    ring = fields["ringHash"]
    return Hashing(
        header=fields["httpHeaderName"],
        parameter=fields["httpQueryParameterName"],
        cookie=fields["httpCookie"],
        source_address=fields["useSourceIp"],
        ring_size=(ring["minimumRingSize"] or 0) if ring is not None else fields["minimumRingSize"] or 1024,
        table_size=fields["maglev"],
    )


def _balancing(fields: Fields) -> Balancing:
    if {"simple", "consistentHash"} <= fields.given:
        raise fields.error("consistentHash", "cannot be combined with simple")
    deprecated = fields["warmupDurationSecs"]
    warmup = fields["warmup"] or (None if deprecated is None else Warmup(deprecated))
    return Balancing(fields["simple"] or "", fields["consistentHash"], warmup)


_HASHING = Record(
    {
        "httpHeaderName": kinds.Sensible(pattern=kinds.HEADER_NAME.pattern, rule=kinds.HEADER_NAME.rule),
        "httpQueryParameterName": kinds.Sensible(pattern=kinds.SOME_LINE.pattern, rule=kinds.SOME_LINE.rule),
        "useSourceIp": Boolean(),
        "httpCookie": Record(
            {
                "name": kinds.SOME_LINE,
                "path": kinds.LINE,
                "ttl": Duration(),
                "attributes": List(Object({"name": kinds.SOME_LINE, "value": kinds.LINE}, ("name",))),
            },
            ("name",),
            _cookie,
        ),
        "ringHash": Object({"minimumRingSize": _RING_SIZE}),
        "maglev": Record({"tableSize": Integer(0, 5_000_010)}, make=_maglev),
        "minimumRingSize": _RING_SIZE,
    },
    make=_hashing,
)
_WARMUP: dict[str, Type] = {"duration": MilliDuration(), "minimumPercent": Number(0, 100), "aggression": Number(0)}
_POLICY: dict[str, Type] = {
    "connectionPool": Record({"tcp": _TCP, "http": _HTTP}, make=_pool),
    "loadBalancer": Record(
        {
            "simple": Text(_BALANCERS),
            "consistentHash": _HASHING,
            "warmup": Record(_WARMUP, ("duration",), _warmup),
            "warmupDurationSecs": Duration(),
            "localityLbSetting": Unsupported(),
            "zoneAwareLbSetting": Unsupported(),
            "backendUtilization": Unsupported(),
        },
        make=_balancing,
    ),
    "outlierDetection": Record(
        {
            "consecutive5xxErrors": _UNSIGNED,
            "consecutiveGatewayErrors": _UNSIGNED,
            "consecutiveLocalOriginFailures": _UNSIGNED,
            "consecutiveErrors": Integer(),  # deprecated, and without effect
            "splitExternalLocalOriginErrors": Boolean(),
            "interval": MilliDuration(),
            "baseEjectionTime": MilliDuration(),
            "maxEjectionPercent": Integer(0, 100),
            "minHealthPercent": Integer(0, 100),
            "outlierDetectionHttpErrorCodes": Unsupported(([],)),
        },
        make=_outliers,
    ),
    "tls": Unsupported(),
}
_BUDGET = Record(
    {"percent": Number(0, 100), "minRetryConcurrency": _UNSIGNED, "budgetInterval": MilliDuration()},
    make=into(RetryBudget, percent="percent", min_concurrency="minRetryConcurrency", interval_seconds="budgetInterval"),
)


def _policy(fields: Fields) -> TrafficPolicy:
    if not fields.given - {"port"}:
        raise fields.error(next(iter(_POLICY)), "is missing, as are all others")
    ports: dict[int, TrafficPolicy] = {}
    for number, policy in fields.get("portLevelSettings", ()):
        ports.setdefault(number, policy)
    return TrafficPolicy(
        pool=fields["connectionPool"],
        outliers=fields["outlierDetection"],
        balancing=fields["loadBalancer"],
        retry_budget=fields.get("retryBudget"),
        ports=ports,
    )


def _port_settings(fields: Fields) -> tuple[int, TrafficPolicy]:
    number = fields["port"]["number"] if fields["port"] else None
    if not number:
        raise refused(f"{fields.place}.port", "has no number, so that it is for no port")
    return number, _policy(fields)


_PORT_SETTINGS = Record({**_POLICY, "port": Object({"number": Integer(0, 65535)})}, make=_port_settings)
_TRAFFIC_POLICY = Record(
    {
        **_POLICY,
        "portLevelSettings": List(_PORT_SETTINGS),
        "tunnel": Unsupported(),
        "proxyProtocol": Unsupported(),
        "retryBudget": _BUDGET,
    },
    make=_policy,
)
_SCHEMA = Object(
    {
        "host": kinds.HostName(wildcard=True),
        "trafficPolicy": _TRAFFIC_POLICY,
        "subsets": List(
            Record(
                {"name": kinds.NAME, "labels": kinds.LABELS, "trafficPolicy": _TRAFFIC_POLICY},
                ("name",),
                lambda subset: Subset(subset["name"], subset["labels"], subset["trafficPolicy"]),
            )
        ),
        "exportTo": kinds.EXPORT_TO,
        "workloadSelector": Unsupported(),
    },
    ("host",),
)


def read_destination_rule(manifest: Manifest) -> HostPolicy:
    """Return what a DestinationRule says about its host."""
    spec = read(manifest, _SCHEMA)
    names = [subset.name for subset in spec["subsets"]]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise spec.error(f"subsets[{index}].name", f"{shown(name)} is the name of another subset as well")
    return HostPolicy(
        name=manifest.name,
        place=f"{manifest.place}: spec",
        host=spec["host"],
        policy=spec["trafficPolicy"],
        subsets=tuple(spec["subsets"]),
        is_private=kinds.is_private(spec),
    )
