"""What a DestinationRule's trafficPolicy does to calls of a destination, and what of it comes to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meshdemo.lab.cluster.model import LOCALITY_LABELS
from meshdemo.lab.engine import Resource
from meshdemo.lab.xray.facts.calls import GATEWAY, Hop
from meshdemo.lab.xray.facts.records import Record
from meshdemo.lab.xray.facts.scene import Scene, Target, target_of
from meshdemo.lab.xray.policies.destination_rules import policy_for
from meshdemo.lab.xray.policies.mutual_tls import strict

_HASHING = ("RING_HASH", "MAGLEV")


def notes_of_traffic(hop: Hop, record: Record, route: Resource | None, scene: Scene) -> Iterator[str]:
    """Yield how a hop calls its destination where a DestinationRule says so; `route` is the one that it took."""
    if hop.destination is None:
        return
    target = target_of(record.cluster) or Target(hop.destination.host, hop.destination.port, hop.destination.subset)
    policy = policy_for(scene, record.envoy, target)
    cluster = scene.cluster_of(record.envoy, f"outbound|{target.port}|{target.subset or ''}|{target.host}")
    if policy is None or cluster is None:
        return
    traffic = policy.traffic(target)
    balancing = traffic.get("loadBalancer") or {}
    if cluster.get("lb_policy") in _HASHING:
        yield from _of_hashing(route or {})
    if balancing.get("simple"):
        yield f"load balancing is {balancing['simple']}"
    outliers, locality = cluster.get("outlier_detection"), balancing.get("localityLbSetting")
    pod = scene.pod(hop.pod)
    if traffic.get("outlierDetection") is not None and outliers is not None:
        if pod and LOCALITY_LABELS & pod.labels.keys() and (locality or {}).get("enabled") is not False:
            yield f"pods near {hop.pod} come first, {'by localityLbSetting' if locality else 'by default'}"
        yield from _of_outliers(outliers, _endpoint_count(record.envoy, cluster, scene))
    mode = policy.tls_mode(target)
    caller = "the gateway" if hop.kind == GATEWAY else "the sidecar"
    if mode == "DISABLE":
        yield f"{caller} calls it in plain text (tls DISABLE){_refused(hop, target, scene)}"
    elif mode:
        yield f"{caller} speaks TLS with it, {mode}"


def _of_hashing(route: Resource) -> Iterator[str]:
    """Yield which calls go to the same pod, by the hash policies of the route that was taken."""
    for each in (route.get("route") or {}).get("hash_policy") or []:
        if "header" in each:
            name = each["header"]["header_name"]
            yield f"calls with the same {name} go to the same pod (consistentHash.httpHeaderName)"
        elif "cookie" in each:
            yield f"calls with the same {each['cookie']['name']} go to the same pod (consistentHash.httpCookie)"
        elif "query_parameter" in each:
            name = each["query_parameter"]["name"]
            yield f"calls with the same {name} go to the same pod (consistentHash.httpQueryParameterName)"
        elif (each.get("connection_properties") or {}).get("source_ip"):
            yield "calls from the same address go to the same pod (consistentHash.useSourceIp)"


def _of_outliers(outliers: Resource, count: int) -> Iterator[str]:
    """Yield which pods outlier detection ejects, by Envoy's defaults where nothing is said.

    Envoy ejects no host when more than `max_ejection_percent` would then be out; `always_eject_one_host` is off.
    """
    failures = []
    if outliers.get("enforcing_consecutive_5xx", 100):
        failures.append(f"fails {outliers.get('consecutive_5xx', 5)} times in a row")
    if outliers.get("enforcing_consecutive_gateway_failure", 0):
        times = outliers.get("consecutive_gateway_failure", 5)
        failures.append(f"fails with 502, 503 or 504 {times} times in a row")
    percent = outliers.get("max_ejection_percent", 10)
    if not failures:
        yield "outlierDetection ejects no pod for what it answers: consecutive5xxErrors is 0"
    elif count and percent < 100 / count and not outliers.get("always_eject_one_host"):
        pods = f"one of {count} pods is more" if count > 1 else "the one pod is more"
        yield f"outlierDetection ejects no pod: maxEjectionPercent is {percent}, and {pods}"
    else:
        yield f"a pod that {' or '.join(failures)} gets no calls for a while (outlierDetection)"


def _endpoint_count(envoy: str, cluster: Resource, scene: Scene) -> int:
    """Return how many endpoints a cluster has, ready or not; 0 where that is not known."""
    name = (cluster.get("eds_cluster_config") or {}).get("service_name") or cluster["name"]
    resources = scene.configuration.resources[envoy]
    found = next((each for each in resources.endpoints if each.get("cluster_name") == name), {})
    localities: list[dict[str, Any]] = found.get("endpoints") or []
    return sum(len(each.get("lb_endpoints") or []) for each in localities)


def _refused(hop: Hop, target: Target, scene: Scene) -> str:
    """Return that the pod takes mutual TLS alone, where it did not answer a call in plain text."""
    service = next((each for each in scene.cluster.services if each.host == target.host), None)
    port = service.port(target.port) if service else None
    last = hop.tries[-1] if hop.tries else None
    if service is None or port is None or last is None or last.status is not None:
        return ""
    for pod, number in scene.cluster.endpoints(service, port):
        rule = strict(pod, number, scene) if pod.name == last.pod else None
        if rule:
            return f", and {pod.name} takes mutual TLS alone: {rule.kind}/{rule.name} is STRICT"
    return ""
