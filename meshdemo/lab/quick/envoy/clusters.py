"""Writing hosts as Envoy's clusters (cluster_builder.go and cluster_traffic_policy.go of Istio)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from meshdemo.lab.quick.envoy.words import ADS, TYPE, address, cluster_name, duration, without_empty
from meshdemo.lab.quick.rules.destinations import (
    CALLER,
    Balancing,
    Endpoint,
    Host,
    HostPolicy,
    OutlierDetection,
    Pool,
    RetryBudget,
    TrafficPolicy,
    Warmup,
)
from meshdemo.lab.quick.rules.registry import Registry, effective, merged

_UNLIMITED = 2**32 - 1
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# SimpleLB of LoadBalancerSettings; what is not said is LEAST_REQUEST, and LEAST_CONN its former name.
_BALANCERS = {"RANDOM": "RANDOM", "ROUND_ROBIN": "ROUND_ROBIN"}
_LOOKUPS = {"all": "STRICT_DNS", "one": "LOGICAL_DNS"}
_DNS = {
    "dns_refresh_rate": "60s",
    "dns_jitter": "0.100s",
    "respect_dns_ttl": True,
    "dns_lookup_family": "V4_ONLY",
    "typed_dns_resolver_config": {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": f"{TYPE}envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "udp_max_queries": 100,
        },
    },
}
#: Where calls to unknown hosts go, by the address they had, and where nothing goes.
PASSTHROUGH = {
    "name": "PassthroughCluster",
    "type": "ORIGINAL_DST",
    "connect_timeout": "10s",
    "lb_policy": "CLUSTER_PROVIDED",
    "circuit_breakers": {
        "thresholds": [
            dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), _UNLIMITED)
        ]
    },
    "typed_extension_protocol_options": {
        _HTTP_OPTIONS: {
            "@type": TYPE + _HTTP_OPTIONS,
            "common_http_protocol_options": {"idle_timeout": "300s"},
            "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}},
        }
    },
}
BLACK_HOLE = {"name": "BlackHoleCluster", "type": "STATIC", "connect_timeout": "10s"}


def clusters(registry: Registry, *, at_gateway: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a Cluster for each port of each host and each subset, and ClusterLoadAssignments for those of EDS.

    A gateway takes hosts whose address the caller looks up for such as have no endpoint (cluster.go,
    convertResolution), since its callers connect to itself.
    """
    found, assignments = [], []
    for host in registry.hosts.values():
        origin = _origin(registry.policy_for(host.name))
        for name, policy, endpoints in _parts(host, registry):
            assignment = _assignment(name, endpoints)
            lookup = "" if at_gateway and host.lookup == CALLER else host.lookup
            if policy and policy.passes_through:
                lookup = CALLER
            written = {**_cluster(name, host, policy, lookup), **origin}
            if lookup == CALLER:
                pass
            elif lookup:
                if not endpoints:
                    continue  # a subset without endpoints has no cluster
                written["load_assignment"] = assignment
            else:
                assignments.append(assignment)
            found.append(written)
    return found, assignments


def _origin(policy: HostPolicy | None) -> dict[str, Any]:
    """Return where Istio notes which DestinationRule a cluster is from (AddConfigInfoMetadata)."""
    return {"metadata": {"filter_metadata": {"istio": {"config": policy.path}}}} if policy else {}


def _parts(host: Host, registry: Registry) -> Iterator[tuple[str, TrafficPolicy | None, Sequence[Endpoint]]]:
    policy = registry.policy_for(host.name)
    top = policy.policy if policy else None
    for port in host.ports:
        yield cluster_name(host.name, port.number, ""), effective(top, port.number), port.endpoints
        for subset in policy.subsets if policy else ():
            chosen = [each for each in port.endpoints if subset.labels.items() <= each.labels.items()]
            name = cluster_name(host.name, port.number, subset.name)
            yield name, merged(top, subset.policy, port.number), chosen


def _cluster(name: str, host: Host, policy: TrafficPolicy | None, lookup: str) -> dict[str, Any]:
    policy = policy or TrafficPolicy()
    pool = policy.pool or Pool()
    cluster: dict[str, Any] = {"name": name}
    if lookup == CALLER:
        cluster["type"] = "ORIGINAL_DST"
    elif lookup:
        cluster |= {"type": _LOOKUPS[lookup], **_DNS}
    else:
        cluster |= {"type": "EDS", "eds_cluster_config": {"eds_config": ADS, "service_name": name}}
    cluster["connect_timeout"] = "10s" if pool.connect_seconds is None else duration(pool.connect_seconds)
    is_provided = lookup == CALLER
    cluster |= {"lb_policy": "CLUSTER_PROVIDED"} if is_provided else _balancing(policy.balancing or Balancing())
    cluster["circuit_breakers"] = {"thresholds": [_limits(pool, policy.retry_budget)]}
    # The panic threshold is off unless minHealthPercent is said.
    cluster["common_lb_config"] = {"healthy_panic_threshold": {}}
    if policy.outliers:
        cluster["outlier_detection"] = _outliers(policy.outliers)
        threshold = without_empty({"value": policy.outliers.min_health_percent})
        cluster["common_lb_config"] = {"healthy_panic_threshold": threshold}
    if host.prefers_near:
        cluster["common_lb_config"]["locality_weighted_lb_config"] = {}
    if options := _http_options(pool):
        cluster["typed_extension_protocol_options"] = {_HTTP_OPTIONS: options}
    if pool.keepalive is not None:
        keepalive = {f"keepalive_{name}": value for name, value in pool.keepalive.items()}
        cluster["upstream_connection_options"] = {"tcp_keepalive": keepalive}
    return cluster


def _limits(pool: Pool, budget: RetryBudget | None) -> dict[str, Any]:
    """Return circuit breakers (applyConnectionPool, applyRetryBudget)."""
    limits: dict[str, Any] = {
        "max_connections": pool.max_connections or _UNLIMITED,
        "max_pending_requests": pool.max_pending or _UNLIMITED,
        "max_requests": pool.max_requests or _UNLIMITED,
        "max_retries": pool.max_retries or _UNLIMITED,
    }
    if budget:
        limits["retry_budget"] = {
            "budget_percent": without_empty({"value": 20.0 if budget.percent is None else budget.percent}),
            "min_retry_concurrency": budget.min_concurrency or 3,
        }
        if budget.interval_seconds is not None:
            limits["retry_budget"]["budget_interval"] = duration(budget.interval_seconds)
    return limits


def _http_options(pool: Pool) -> dict[str, Any] | None:
    common: dict[str, Any] = {"max_requests_per_connection": pool.max_requests_per_connection}
    for name, seconds in (("idle_timeout", pool.idle_seconds), ("max_connection_duration", pool.connection_seconds)):
        common[name] = None if seconds is None else duration(seconds)
    common = without_empty(common)
    if not common and not pool.names_http2:
        return None
    return {
        "@type": TYPE + _HTTP_OPTIONS,
        "common_http_protocol_options": common,
        "explicit_http_config": {"http_protocol_options": {}},
    }


def _outliers(outliers: OutlierDetection) -> dict[str, Any]:
    """Return outlier detection (applyOutlierDetection): by success rate it is off."""
    written: dict[str, Any] = {"enforcing_success_rate": 0}
    for name, count in (
        ("consecutive_5xx", outliers.errors_5xx),
        ("consecutive_gateway_failure", outliers.gateway_errors),
    ):
        if count is not None:
            written[name] = count
            written[f"enforcing_{name}"] = 100 if count else 0
    for name, seconds in (
        ("interval", outliers.interval_seconds),
        ("base_ejection_time", outliers.ejection_seconds),
    ):
        if seconds is not None:
            written[name] = duration(seconds)
    if outliers.max_percent:
        written["max_ejection_percent"] = outliers.max_percent
    if outliers.split_local:
        written["split_external_local_origin_errors"] = True
        written["enforcing_local_origin_success_rate"] = 0
        if outliers.local_failures:
            written["consecutive_local_origin_failure"] = outliers.local_failures
            written["enforcing_consecutive_local_origin_failure"] = 100
    return written


def _balancing(balancing: Balancing) -> dict[str, Any]:
    """Return how calls are spread (applyLoadBalancer, ApplyRingHashLoadBalancer).

    Of the settings of several balancers Envoy takes one: a size, else what a warm-up has left there.
    """
    policy = _BALANCERS.get(balancing.policy, "LEAST_REQUEST")
    settings: dict[str, Any] = {}
    if balancing.warmup and policy != "RANDOM":
        settings = {f"{policy.lower()}_lb_config": {"slow_start_config": _slow_start(balancing.warmup)}}
    if balancing.hashing:
        policy = "RING_HASH" if balancing.hashing.table_size is None else "MAGLEV"
        if balancing.hashing.table_size is not None:
            settings = {"maglev_lb_config": {"table_size": str(balancing.hashing.table_size)}}
        elif balancing.hashing.ring_size:
            settings = {"ring_hash_lb_config": {"minimum_ring_size": str(balancing.hashing.ring_size)}}
    # Envoy's own default is not written.
    return settings if policy == "ROUND_ROBIN" else {"lb_policy": policy, **settings}


def _slow_start(warmup: Warmup) -> dict[str, Any]:
    window = {"slow_start_window": duration(warmup.seconds)}
    if warmup.aggression is None:
        return window
    return {
        **window,
        "aggression": {"default_value": warmup.aggression, "runtime_key": "("},
        "min_weight_percent": without_empty({"value": warmup.percent}),
    }


def _assignment(name: str, endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the endpoints of a cluster, all in one place."""
    written: dict[str, Any] = {"cluster_name": name}
    if endpoints:
        written["endpoints"] = [
            {
                "locality": {},
                "lb_endpoints": [
                    {
                        "endpoint": {"address": address(endpoint.address, endpoint.port)},
                        "load_balancing_weight": endpoint.weight,
                    }
                    for endpoint in endpoints
                ],
                "load_balancing_weight": sum(endpoint.weight for endpoint in endpoints),
            }
        ]
    return written
