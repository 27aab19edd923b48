"""Reading DestinationRules (Istio, "Destination Rule" reference; validateTrafficPolicy of pkg/config/validation)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from meshdemo.lab.manifests import NAMESPACE, Manifest, shown
from meshdemo.lab.quick import fields as of
from meshdemo.lab.quick.fields import MilliDuration, Unsupported
from meshdemo.lab.quick.model import (
    Balancing,
    Hashing,
    HostPolicy,
    OutlierDetection,
    Pool,
    RetryBudget,
    Subset,
    TrafficPolicy,
)
from meshdemo.lab.schema import Boolean, Duration, Fields, Integer, List, Number, Object, Text, Type, read

_COUNT = Integer(0)
_UNSIGNED = Integer(0, 2**32 - 1)
_MOST_MAGLEV = 5_000_010
_TCP = Object(
    {
        "maxConnections": _COUNT,
        "connectTimeout": MilliDuration(),
        "idleTimeout": Duration(),
        "maxConnectionDuration": MilliDuration(),
        "tcpKeepalive": Object({"probes": _UNSIGNED, "time": MilliDuration(), "interval": MilliDuration()}),
    }
)
_HTTP = Object(
    {
        "http1MaxPendingRequests": _COUNT,
        "http2MaxRequests": _COUNT,
        "maxRequestsPerConnection": _COUNT,
        "maxRetries": _COUNT,
        "idleTimeout": MilliDuration(),
        "h2UpgradePolicy": Text(("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE")),
        "useClientProtocol": Unsupported((False,)),
        # For HTTP/2 alone, which no destination speaks here.
        "maxConcurrentStreams": Unsupported((0,)),
        "http2KeepAlive": Unsupported(),
    }
)
_HASHING = Object(
    {
        "httpHeaderName": Text(),
        "httpQueryParameterName": Text(),
        "useSourceIp": Boolean(),
        "httpCookie": Object(
            {
                "name": Text(),
                "path": Text(),
                "ttl": Duration(),
                "attributes": List(Object({"name": Text(), "value": Text()}, ("name",))),
            },
            ("name",),
        ),
        "ringHash": Object({"minimumRingSize": Integer(0, 8 * 2**20)}),
        "maglev": Object({"tableSize": Integer(0, _MOST_MAGLEV)}),
        "minimumRingSize": Integer(0, 8 * 2**20),
    }
)
_POLICY: dict[str, Type] = {
    "connectionPool": Object({"tcp": _TCP, "http": _HTTP}),
    "loadBalancer": Object(
        {
            "simple": Text(("UNSPECIFIED", "LEAST_CONN", "LEAST_REQUEST", "RANDOM", "ROUND_ROBIN", "PASSTHROUGH")),
            "consistentHash": _HASHING,
            "warmup": Object(
                {"duration": MilliDuration(), "minimumPercent": Number(0, 100), "aggression": Number(0)}, ("duration",)
            ),
            "warmupDurationSecs": Duration(),
            "localityLbSetting": Unsupported(),
            "zoneAwareLbSetting": Unsupported(),
            "backendUtilization": Unsupported(),
        }
    ),
    "outlierDetection": Object(
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
        }
    ),
    "tls": Unsupported(),
}
_TRAFFIC_POLICY = Object(
    {
        **_POLICY,
        "portLevelSettings": List(Object({**_POLICY, "port": Object({"number": of.PORT}, ("number",))}, ("port",))),
        "tunnel": Unsupported(),
        "proxyProtocol": Unsupported(),
        "retryBudget": Object(
            {"percent": Number(0, 100), "minRetryConcurrency": _UNSIGNED, "budgetInterval": MilliDuration()}
        ),
    }
)
_SCHEMA = Object(
    {
        "host": of.Host(wildcard=True),
        "trafficPolicy": _TRAFFIC_POLICY,
        "subsets": List(
            Object({"name": of.NAME, "labels": of.LABELS, "trafficPolicy": _TRAFFIC_POLICY}, ("name",)),
        ),
        "exportTo": List(Text(("*", ".", NAMESPACE)), most=1),
        "workloadSelector": Unsupported(),
    },
    ("host",),
)


def read_destination_rule(manifest: Manifest) -> HostPolicy:
    """Return what a DestinationRule says about its host."""
    spec = read(manifest, _SCHEMA)
    names = [subset["name"] for subset in spec["subsets"]]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise spec.error(f"subsets[{index}].name", f"{shown(name)} is the name of another subset as well")
    return HostPolicy(
        name=manifest.name,
        place=f"{manifest.place}: spec",
        host=spec["host"],
        policy=_policy(spec, "trafficPolicy"),
        subsets=tuple(
            Subset(subset["name"], subset["labels"], _policy(subset, "trafficPolicy")) for subset in spec["subsets"]
        ),
        is_private=bool(spec["exportTo"]) and spec["exportTo"] != ["*"],
    )


def _policy(parent: Fields, name: str) -> TrafficPolicy | None:
    policy: Fields | None = parent[name]
    if policy is None:
        return None
    if not policy.given:
        raise parent.error(name, "is empty")
    ports: dict[int, TrafficPolicy] = {}
    for settings in policy["portLevelSettings"]:
        if settings.given == {"port"}:
            raise settings.error("port", "has nothing beside it")
        ports.setdefault(settings["port"]["number"], _parts(settings, None, {}))
    return _parts(policy, _budget(policy["retryBudget"]), ports)


def _parts(policy: Fields, budget: RetryBudget | None, ports: Mapping[int, TrafficPolicy]) -> TrafficPolicy:
    return TrafficPolicy(
        pool=_pool(policy, policy["connectionPool"]),
        outliers=_outliers(policy["outlierDetection"]),
        balancing=_balancing(policy["loadBalancer"]),
        retry_budget=budget,
        ports=ports,
    )


def _budget(budget: Fields | None) -> RetryBudget | None:
    if budget is None:
        return None
    return RetryBudget(budget["percent"], budget["minRetryConcurrency"] or 0, budget["budgetInterval"])


def _pool(policy: Fields, pool: Fields | None) -> Pool | None:
    """Return limits (cluster_traffic_policy.go, applyConnectionPool): what is 0 is as if it were not there."""
    if pool is None:
        return None
    if not pool.given:
        raise policy.error("connectionPool", "is empty")
    tcp: Mapping[str, object] | Fields = pool["tcp"] or dict.fromkeys(_TCP.fields)
    http: Mapping[str, object] | Fields = pool["http"] or dict.fromkeys(_HTTP.fields)
    if http["h2UpgradePolicy"] == "UPGRADE":
        raise pool.error("http.h2UpgradePolicy", of.NOT_HERE)
    keepalive: Fields | None = tcp["tcpKeepalive"]  # type: ignore[assignment]
    idle = http["idleTimeout"] if http["idleTimeout"] is not None else tcp["idleTimeout"]
    return Pool(
        max_connections=tcp["maxConnections"] or 0,  # type: ignore[arg-type]
        max_pending=http["http1MaxPendingRequests"] or 0,  # type: ignore[arg-type]
        max_requests=http["http2MaxRequests"] or 0,  # type: ignore[arg-type]
        max_retries=http["maxRetries"] or 0,  # type: ignore[arg-type]
        max_requests_per_connection=http["maxRequestsPerConnection"] or 0,  # type: ignore[arg-type]
        connect_seconds=tcp["connectTimeout"],  # type: ignore[arg-type]
        idle_seconds=idle,  # type: ignore[arg-type]
        connection_seconds=tcp["maxConnectionDuration"],  # type: ignore[arg-type]
        keepalive=None if keepalive is None else _keepalive(keepalive),
    )


def _keepalive(keepalive: Fields) -> dict[str, int]:
    """Return the whole seconds of a keep-alive, and its probes where there are any."""
    probes = {"probes": keepalive["probes"]} if keepalive["probes"] else {}
    return probes | {name: int(keepalive[name]) for name in ("time", "interval") if name in keepalive.given}


def _outliers(outliers: Fields | None) -> OutlierDetection | None:
    if outliers is None:
        return None
    local, split = outliers["consecutiveLocalOriginFailures"], bool(outliers["splitExternalLocalOriginErrors"])
    if local and not split:
        raise outliers.error("consecutiveLocalOriginFailures", "needs splitExternalLocalOriginErrors: true")
    return OutlierDetection(
        errors_5xx=outliers["consecutive5xxErrors"],
        gateway_errors=outliers["consecutiveGatewayErrors"],
        local_failures=local,
        split_local=split,
        interval_seconds=outliers["interval"],
        ejection_seconds=outliers["baseEjectionTime"],
        max_percent=outliers["maxEjectionPercent"] or 0,
        min_health_percent=outliers["minHealthPercent"] or 0,
    )


def _balancing(balancer: Fields | None) -> Balancing | None:
    if balancer is None:
        return None
    simple, hashing, warmup = balancer["simple"] or "", balancer["consistentHash"], balancer["warmup"]
    if "simple" in balancer.given and hashing is not None:
        raise balancer.error("consistentHash", "excludes simple")
    if simple == "PASSTHROUGH":
        raise balancer.error("simple", f"PASSTHROUGH {of.NOT_HERE}")
    if warmup is not None and warmup["aggression"] == 0:
        raise warmup.error("aggression", "must be more than 0")
    if warmup is not None:
        seconds = warmup["duration"]
        return Balancing(simple, _hashing(hashing), seconds, warmup["minimumPercent"], warmup["aggression"])
    if balancer["warmupDurationSecs"] is not None:
        raise balancer.error("warmupDurationSecs", of.NOT_HERE)
    return Balancing(simple, _hashing(hashing))


def _hashing(hashing: Fields | None) -> Hashing | None:
    if hashing is None:
        return None
    keys = sorted(hashing.given & {"httpHeaderName", "httpQueryParameterName", "useSourceIp", "httpCookie"})
    if len(keys) > 1:
        raise hashing.error(keys[1], f"excludes {keys[0]}")
    ring, maglev, deprecated = hashing["ringHash"], hashing["maglev"], hashing["minimumRingSize"]
    if ring is not None and maglev is not None:
        raise hashing.error("maglev", "excludes ringHash")
    if deprecated and (ring or maglev) is not None:
        raise hashing.error("minimumRingSize", "excludes ringHash and maglev")
    cookie = hashing["httpCookie"]
    attributes = tuple((each["name"], each["value"] or "") for each in cookie["attributes"]) if cookie else ()
    if len({name for name, _ in attributes}) < len(attributes):
        raise hashing.error("httpCookie.attributes", "has the same name twice")
    table = maglev["tableSize"] or 0 if maglev is not None else None
    if table is not None and not _is_prime(table):
        raise hashing.error("maglev.tableSize", f"{table} is not a prime number")
    return Hashing(
        header=hashing["httpHeaderName"],
        parameter=hashing["httpQueryParameterName"],
        source_address=hashing["useSourceIp"],
        cookie=cookie["name"] if cookie else None,
        cookie_path=(cookie["path"] or "") if cookie else "",
        cookie_seconds=cookie["ttl"] if cookie else None,
        cookie_attributes=attributes,
        table_size=table,
        ring_size=(ring["minimumRingSize"] or 0) if ring is not None else deprecated or 1024,
    )


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, math.isqrt(number) + 1))
