"""Why an Envoy answered a request itself, in words, and which object had it do so.

Envoy says it in the details of its answer (Envoy, "Response code details") and in its flags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from meshdemo.lab.engine import Resource
from meshdemo.lab.xray.facts.naming import Rule
from meshdemo.lab.xray.facts.records import Record
from meshdemo.lab.xray.facts.scene import Scene, target_of
from meshdemo.lab.xray.policies.admission import DENIED, TOKEN, Cause, admission_of, https_redirect
from meshdemo.lab.xray.policies.destination_rules import DestinationPolicy, policy_for, why_missing, why_nobody
from meshdemo.lab.xray.policies.known_hosts import called_by, refusal, service_of

_RESET = re.compile(r"upstream_reset_(?:before|after)_response_started\{([^}]*)\}")
#: The route that refuses calls to hosts that nobody knows (Istio, outboundTrafficPolicy REGISTRY_ONLY).
BLOCK_ALL = "block_all"
_CALLER_GONE = "downstream_"
_NOT_LIMITED = 4294967295
# The limits of a connection pool by Envoy's names, as Istio calls them.
_LIMITS = {
    "max_connections": "maxConnections",
    "max_pending_requests": "http1MaxPendingRequests",
    "max_requests": "http2MaxRequests",
    "max_retries": "maxRetries",
}


def cause_of(record: Record, scene: Scene, rule: Rule | None, route: Resource | None) -> Cause:
    """Return why an Envoy answered a request itself; neither where the answer came from behind, but for who let it."""
    found = admission_of(record, scene)
    if found.reason:
        return found
    redirect = https_redirect(record, scene)
    if redirect.reason:
        return redirect
    if "FI" in record.flags or record.details == "fault_filter_abort":
        return Cause("fault: the rule aborts it", rule)
    if record.details == "via_upstream" and "DI" in record.flags:
        return Cause("fault: the rule delays it", rule)
    if record.details in ("", "via_upstream"):
        return found
    if record.route == BLOCK_ALL:
        return _refused_host(record, scene)
    return Cause(_reason(record, scene, route), rule if _is_timeout(record) else None)


def _refused_host(record: Record, scene: Scene) -> Cause:
    """Return why a sidecar refused a call to a host."""
    found = refusal(record.envoy, *called_by(record), scene)
    reason = f"no route of the sidecar is for {record.authority}, and calls to others are refused (REGISTRY_ONLY)"
    return found if found.reason else Cause(reason)


def _is_timeout(record: Record) -> bool:
    return record.details in ("response_timeout", "upstream_per_try_timeout")


def _reason(record: Record, scene: Scene, route: Resource | None) -> str:
    """Return in words why an Envoy answered itself."""
    action: Mapping[str, Any] = (route or {}).get("route") or {}
    if record.details == "response_timeout":
        return f"timeout: the rule gives {_seconds(action.get('timeout'))} for all tries together"
    if record.details == "upstream_per_try_timeout":
        per_try = (action.get("retry_policy") or {}).get("per_try_timeout")
        return f"timeout: the rule gives each try {_seconds(per_try)} (perTryTimeout), and the last one took longer"
    if record.details.startswith("dns_resolution_failure"):
        host, port = called_by(record)
        service = service_of(host, scene.namespace(record.envoy), scene)
        return (service.lack_of(port) if service else "") or f"no name server knows {record.authority}"
    if record.details == "direct_response":
        return _own_answer(route or {})
    if record.details == "route_not_found":
        return "no route: no rule of the policies fits the call"
    cluster = record.cluster or next(iter(clusters_of(action)), "")
    target = target_of(cluster)
    policy = policy_for(scene, record.envoy, target) if target else None
    if record.details == "cluster_not_found" or "NC" in record.flags:
        return f"no cluster: {why_missing(target, record.envoy, scene)}"
    if record.details == "no_healthy_upstream" or "UH" in record.flags:
        return f"no healthy pod: {why_nobody(target, policy, scene)}"
    if "UO" in record.flags or "overflow" in record.details:
        return f"overflow: {_limits(scene.cluster_of(record.envoy, cluster) or {}, policy)}"
    if record.tls_failure:
        return f"TLS failed: {record.tls_failure}"
    reset = _RESET.match(record.details)
    if reset:
        words = reset[1].replace("|", ": ").replace("_", " ")
        return f"the connection to the pod failed: {words}"
    if record.details.startswith(_CALLER_GONE):
        return "the caller has gone before there was an answer"
    return record.details.replace("_", " ")


def _own_answer(route: Resource) -> str:
    redirect = route.get("redirect")
    if redirect is None:
        return "the rule answers it itself"
    parts = [
        f"{redirect['scheme_redirect']}://" if redirect.get("scheme_redirect") else "",
        redirect.get("host_redirect", ""),
        f":{redirect['port_redirect']}" if redirect.get("port_redirect") else "",
        redirect.get("path_redirect") or redirect.get("prefix_rewrite") or "",
    ]
    return f"the rule redirects it to {''.join(parts)}"


def clusters_of(action: Mapping[str, Any]) -> Iterable[str]:
    """Yield the names of the clusters that a route leads to."""
    if "cluster" in action:
        yield action["cluster"]
    for each in (action.get("weighted_clusters") or {}).get("clusters", []):
        yield each["name"]


def _limits(cluster: Resource, policy: DestinationPolicy | None) -> str:
    """Return the limits of the connection pool that a request was too much for."""
    thresholds = (cluster.get("circuit_breakers") or {}).get("thresholds") or [{}]
    limits = [
        f"{name} {thresholds[0][key]}"
        for key, name in _LIMITS.items()
        if thresholds[0].get(key) not in (None, _NOT_LIMITED)
    ]
    whose = f" of {policy.owner.label}" if policy else ""
    return f"the connection pool{whose} is full ({', '.join(limits)})" if limits else "the connection pool is full"


def try_reason(record: Record, door: Record | None) -> str | None:
    """Return why a try got no answer from an application; `door` is what the sidecar that it reached logged of it."""
    if door is not None and not door.details.startswith(("via_upstream", _CALLER_GONE)):
        if DENIED.match(door.details):
            return "denied by the pod's sidecar"
        return "token refused by the pod's sidecar" if TOKEN.match(door.details) else door.details.replace("_", " ")
    if record.tls_failure:
        return f"TLS failed: {record.tls_failure}"
    if record.status is not None:
        return None
    for flag, words in (
        ("UT", "timeout: it took longer than a try may"),
        ("UO", "overflow: the connection pool is full"),
        ("UF", "the pod was not reached"),
        ("UC", "the pod closed the connection"),
        ("UR", "the pod reset the call"),
        ("LR", "ended by the caller's side"),
        ("DC", "the caller has gone"),
    ):
        if flag in record.flags:
            return words
    return "ended before an answer, when its time had run out"


def _seconds(value: Any) -> str:
    return f"{float(str(value).removesuffix('s')):g} s" if value else "no time"
