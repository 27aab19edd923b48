"""Where calls can go: Services and ServiceEntries with the policies of DestinationRules, as Envoy clusters.

Defaults are Istio's (pilot/pkg/networking/core/cluster_builder.go and cluster_traffic_policy.go): LEAST_REQUEST, 10 s
to connect, no limits, no outlier detection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshdemo.lab.manifests import Fields, Manifest, ManifestError
from meshdemo.lab.topology import Service, Workload, short_name

_UNLIMITED = 2**32 - 1
_POLICY_PARTS = ("connectionPool", "loadBalancer", "outlierDetection")
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# DestinationRule, LoadBalancerSettings.SimpleLB: LEAST_CONN is the deprecated name of LEAST_REQUEST.
_BALANCERS = {
    "UNSPECIFIED": "LEAST_REQUEST",
    "LEAST_CONN": "LEAST_REQUEST",
    "LEAST_REQUEST": "LEAST_REQUEST",
    "RANDOM": "RANDOM",
    "ROUND_ROBIN": "ROUND_ROBIN",
}


def duration(seconds: float) -> str:
    """Return seconds as Envoy's JSON writes a duration."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


@dataclass(frozen=True)
class Destination:
    """An Envoy cluster: its configuration without endpoints, who is behind it, and the header that it hashes by."""

    name: str
    cluster: dict[str, Any]
    workloads: tuple[Workload, ...] = ()
    addresses: tuple[tuple[str, int], ...] = ()
    hash_header: str | None = None


@dataclass
class Destinations:
    """All destinations by host, port and subset; an empty subset is the whole host."""

    found: dict[tuple[str, int, str], Destination] = field(default_factory=dict)

    def ports(self, host: str) -> list[int]:
        """Return the ports of a host, none for one that is not known."""
        return sorted({port for name, port, _ in self.found if name == host})

    def hosts(self) -> list[str]:
        """Return all hosts."""
        return sorted({name for name, _, _ in self.found})

    def of(self, fields: Fields, host_field: str = "host") -> Destination:
        """Return what an Istio `destination` means, with fields host, subset and port.number."""
        host = short_name(fields.required_text(host_field))
        subset = fields.text("subset") or ""
        port_fields = fields.fields("port")
        port = port_fields.integer("number") if port_fields else None
        return self.get(fields, host_field, host, port, subset)

    def get(self, fields: Fields, host_field: str, host: str, port: int | None, subset: str = "") -> Destination:
        """Return a destination, or raise ManifestError at the field that names what does not exist."""
        ports = self.ports(host)
        if not ports:
            raise fields.error(host_field, f"no Service or ServiceEntry has the host {host!r}")
        if port is None:
            if len(ports) > 1:
                raise fields.error("port", f"is missing: {host} has the ports {', '.join(map(str, ports))}")
            port = ports[0]
        if port not in ports:
            raise fields.error("port", f"{host} has no port {port}, only {', '.join(map(str, ports))}")
        try:
            return self.found[host, port, subset]
        except KeyError:
            raise fields.error("subset", f"no DestinationRule for {host} defines the subset {subset!r}") from None


def read_destinations(manifests: Iterable[Manifest], services: Mapping[str, Service]) -> tuple[Destinations, list[str]]:
    """Return all destinations, and notes on what is not applied here."""
    manifests = list(manifests)
    rules = _read_rules(manifests)
    destinations, notes = Destinations(), []
    for service in services.values():
        for port in service.ports:
            _add(destinations, service.name, port, rules.get(service.name), service=service)
    for manifest in manifests:
        if manifest.kind == "ServiceEntry":
            notes += _add_entry(destinations, manifest, rules)
    for host, rule in rules.items():
        if not destinations.ports(host):
            raise ManifestError(rule.at("host"), f"no Service or ServiceEntry has the host {host!r}")
        rule.finish()
    return destinations, notes


def _read_rules(manifests: Iterable[Manifest]) -> dict[str, Fields]:
    rules: dict[str, Fields] = {}
    for manifest in manifests:
        if manifest.kind == "DestinationRule":
            spec = manifest.fields()
            spec.ignore("exportTo")
            host = short_name(spec.required_text("host"))
            if host in rules:
                raise spec.error("host", f"another DestinationRule is for {host!r} as well")
            rules[host] = spec
    return rules


def _add(
    destinations: Destinations,
    host: str,
    port: int,
    rule: Fields | None,
    *,
    service: Service | None = None,
    addresses: tuple[tuple[str, int], ...] = (),
) -> None:
    """Add a host's port, and each subset of it."""
    top = _policy(rule.fields("trafficPolicy"), port) if rule else {}
    subsets: list[tuple[str, dict[str, str], dict[str, Fields]]] = [("", {}, top)]
    for subset in rule.items("subsets") if rule else []:
        labels = subset.mapping("labels")
        if service and not service.endpoints(port, labels.items()):
            raise subset.error("labels", f"no pod behind {host} has these labels")
        policy = _policy(subset.fields("trafficPolicy"), port)
        subsets.append((subset.required_text("name"), labels, {**top, **policy}))
    for subset_name, labels, policy in subsets:
        name = f"outbound|{port}|{subset_name}|{host}"
        cluster, hash_header = _cluster(name, policy)
        workloads = tuple(service.endpoints(port, labels.items())) if service else ()
        destinations.found[host, port, subset_name] = Destination(name, cluster, workloads, addresses, hash_header)


def _add_entry(destinations: Destinations, manifest: Manifest, rules: Mapping[str, Fields]) -> list[str]:
    """Add the hosts of a ServiceEntry; ports other than plain HTTP are named, since nothing here speaks them."""
    spec, notes = manifest.fields(), []
    spec.ignore("exportTo", "location")
    hosts, resolution = spec.texts("hosts"), spec.text("resolution") or "NONE"
    endpoints = [(each.required_text("address"), each.any("ports") or {}) for each in spec.items("endpoints")]
    for port_fields in spec.items("ports"):
        number = port_fields.integer("number") or 0
        name, protocol = port_fields.required_text("name"), (port_fields.text("protocol") or "TCP").upper()
        target = port_fields.integer("targetPort") or number
        if protocol != "HTTP":
            notes.append(f"{port_fields.place}: not applied here: protocol {protocol}")
            continue
        if resolution not in ("DNS", "STATIC"):
            raise spec.error("resolution", f"{resolution} is not supported here, only DNS and STATIC")
        for host in hosts:
            if "*" in host:
                raise spec.error("hosts", f"{host!r}: a wildcard is not supported here")
            if resolution == "STATIC" and not endpoints:
                raise spec.error("endpoints", "is missing, for resolution STATIC")
            addresses = tuple((address, int(ports.get(name, target))) for address, ports in endpoints)
            _add(destinations, host, number, rules.get(host), addresses=addresses or ((host, target),))
    spec.finish()
    return notes


def _policy(policy: Fields | None, port: int) -> dict[str, Fields]:
    """Return the parts of a trafficPolicy for a port.

    Settings for a port replace the others as a whole (Istio, DestinationRule, TrafficPolicy.PortTrafficPolicy).
    """
    if policy is None:
        return {}
    parts = _parts(policy)
    for settings in policy.items("portLevelSettings"):
        own = _parts(settings)
        if settings.required("port").integer("number") == port:
            parts = own
    return parts


def _parts(policy: Fields) -> dict[str, Fields]:
    """Return the parts that there are, each of them checked, whether or not another replaces it."""
    parts = {name: part for name in _POLICY_PARTS if (part := policy.fields(name))}
    _cluster("", parts)
    return parts


def _cluster(name: str, policy: Mapping[str, Fields]) -> tuple[dict[str, Any], str | None]:
    """Return an Envoy cluster without endpoints, and the header that it hashes by."""
    limits = {
        "max_connections": _UNLIMITED,
        "max_pending_requests": _UNLIMITED,
        "max_requests": _UNLIMITED,
        "max_retries": _UNLIMITED,
    }
    cluster: dict[str, Any] = {"name": name, "connect_timeout": "10s", "lb_policy": "LEAST_REQUEST"}
    if pool := policy.get("connectionPool"):
        _add_pool(cluster, limits, pool)
    cluster["circuit_breakers"] = {"thresholds": [limits]}
    if outlier := policy.get("outlierDetection"):
        _add_outlier_detection(cluster, outlier)
    balancer = policy.get("loadBalancer")
    return cluster, _add_balancer(cluster, balancer) if balancer else None


def _add_pool(cluster: dict[str, Any], limits: dict[str, int], pool: Fields) -> None:
    """Translate ConnectionPoolSettings (cluster_traffic_policy.go, applyConnectionPool)."""
    tcp, http = pool.fields("tcp"), pool.fields("http")
    if tcp:
        _limit(limits, "max_connections", tcp.integer("maxConnections"))
        if seconds := tcp.seconds("connectTimeout"):
            cluster["connect_timeout"] = duration(seconds)
    if http:
        _limit(limits, "max_pending_requests", http.integer("http1MaxPendingRequests"))
        _limit(limits, "max_requests", http.integer("http2MaxRequests"))
        _limit(limits, "max_retries", http.integer("maxRetries"))
        common: dict[str, Any] = {}
        if count := http.integer("maxRequestsPerConnection"):
            common["max_requests_per_connection"] = count
        if seconds := http.seconds("idleTimeout"):
            common["idle_timeout"] = duration(seconds)
        if common:
            cluster["typed_extension_protocol_options"] = {
                _HTTP_OPTIONS: {
                    "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
                    "common_http_protocol_options": common,
                    "explicit_http_config": {"http_protocol_options": {}},
                }
            }


def _limit(limits: dict[str, int], name: str, value: int | None) -> None:
    if value:
        limits[name] = value


def _add_outlier_detection(cluster: dict[str, Any], outlier: Fields) -> None:
    """Translate OutlierDetection (cluster_traffic_policy.go, applyOutlierDetection).

    Istio leaves Envoy's detection by success rate out, and turns the panic threshold off unless minHealthPercent asks
    for it.
    """
    detection: dict[str, Any] = {"enforcing_success_rate": 0}
    for source, target in (
        ("consecutive5xxErrors", "consecutive_5xx"),
        ("consecutiveGatewayErrors", "consecutive_gateway_failure"),
        ("consecutiveLocalOriginFailures", "consecutive_local_origin_failure"),
    ):
        count = outlier.integer(source)
        if count is not None:
            detection[target] = count or None
            detection[f"enforcing_{target}"] = 100 if count else 0
    for source, target in (("interval", "interval"), ("baseEjectionTime", "base_ejection_time")):
        seconds = outlier.seconds(source)
        if seconds is not None:
            detection[target] = duration(seconds)
    percent = outlier.integer("maxEjectionPercent")
    if percent is not None:
        detection["max_ejection_percent"] = percent
    if outlier.boolean("splitExternalLocalOriginErrors"):
        detection["split_external_local_origin_errors"] = True
    cluster["outlier_detection"] = {name: value for name, value in detection.items() if value is not None}
    healthy = outlier.integer("minHealthPercent") or 0
    cluster["common_lb_config"] = {"healthy_panic_threshold": {"value": healthy}}


def _add_balancer(cluster: dict[str, Any], balancer: Fields) -> str | None:
    """Translate LoadBalancerSettings, and return the header to hash by (cluster_traffic_policy.go)."""
    simple = balancer.text("simple")
    if simple is not None:
        if simple not in _BALANCERS:
            raise balancer.error("simple", f"{simple} is not supported here, only {', '.join(_BALANCERS)}")
        cluster["lb_policy"] = _BALANCERS[simple]
    consistent = balancer.fields("consistentHash")
    if consistent is None:
        return None
    header = consistent.text("httpHeaderName")
    if not header:
        raise consistent.error("httpHeaderName", "is missing: hashing by a header is all that is supported here")
    ring, maglev = consistent.fields("ringHash"), consistent.fields("maglev")
    size = (ring.integer("minimumRingSize") if ring else None) or consistent.integer("minimumRingSize")
    if maglev:
        table = maglev.integer("tableSize")
        cluster["lb_policy"] = "MAGLEV"
        cluster["maglev_lb_config"] = {"table_size": table} if table else {}
    else:
        cluster["lb_policy"] = "RING_HASH"
        cluster["ring_hash_lb_config"] = {"minimum_ring_size": size or 1024}
    return header
