"""What no object says of a hop, so that Istio's default holds, and what of the policies had no effect there."""

from __future__ import annotations

from collections.abc import Iterator

from meshdemo.lab.engine import Resource
from meshdemo.lab.xray.causes import BLOCK_ALL
from meshdemo.lab.xray.facts.calls import GATEWAY, Hop
from meshdemo.lab.xray.facts.naming import Rule
from meshdemo.lab.xray.facts.records import Record
from meshdemo.lab.xray.facts.scene import Scene, covers, short_host, target_of
from meshdemo.lab.xray.policies.admission import decides, without_effect
from meshdemo.lab.xray.policies.destination_rules import why_missing
from meshdemo.lab.xray.policies.known_hosts import called_by, service_of, why_unknown
from meshdemo.lab.xray.policies.traffic_policies import notes_of_traffic
from meshdemo.lab.xray.policies.virtual_services import caller_of, is_for_host, why_not_for

# The routes for hosts that nobody knows (Istio, pilot/pkg/networking/util, BuildPassthroughRoute).
_ALLOW_ANY = "allow_any"
# The route to a host that no rule is for (Istio, pilot/pkg/networking/core/route, BuildDefaultHTTPOutboundRoute).
_DEFAULT = "default"
_FAULT = "envoy.filters.http.fault"
_ANY = ("InboundPassthroughCluster", "PassthroughCluster")


def notes_of(hop: Hop, record: Record, scene: Scene, route: Resource | None = None) -> Iterator[str]:
    """Yield in words what holds by default on a hop, and what of the policies is of no effect."""
    if hop.direction != "outbound":
        yield from without_effect(hop.pod, scene)
    if hop.direction == "inbound":
        yield from _of_inbound(hop, record, scene)
        return
    if hop.rule is None:
        yield from _without_rule(hop, record, scene)
    else:
        yield from _behind(hop, scene)
        yield from _of_faults(hop.rule, route or {}, scene)
        yield from _of_mirrors(record.envoy, route or {}, scene)
    yield from notes_of_traffic(hop, record, route, scene)
    yield from _of_retries(hop)


def _of_inbound(hop: Hop, record: Record, scene: Scene) -> Iterator[str]:
    if not record.is_tls:
        yield "plain text: the caller has no identity"
    policies = scene.policies_for(hop.pod, "AuthorizationPolicy")
    if hop.decided_by is None and hop.reason is None and not any(map(decides, policies)):
        yield f"no AuthorizationPolicy{' decides' if policies else ''}: every caller may"


def _without_rule(hop: Hop, record: Record, scene: Scene) -> Iterator[str]:
    if hop.kind == GATEWAY:
        if record.details == "route_not_found":
            yield f"no rule at this gateway is for {record.authority}{record.path}"
            yield from _lost(record.authority, scene)
        return
    if record.route == BLOCK_ALL:
        return
    if record.route == _ALLOW_ANY or record.cluster.startswith(_ANY):
        called, port = called_by(record)
        why = why_unknown(record.envoy, called, port, scene).reason
        is_known = service_of(called, scene.namespace(record.envoy), scene) is not None
        said = why if why and is_known else f"{record.authority} is no host of the mesh"
        yield f"{'' if said == hop.reason else f'{said}: '}calls pass through (outboundTrafficPolicy ALLOW_ANY)"
        return
    caller = caller_of(record, scene)
    if caller is None or hop.destination is None or record.route != _DEFAULT:
        return
    host, virtual_services = hop.destination.host, scene.policies("VirtualService")
    known = " that counts here" if any(is_for_host(each, host) for each in virtual_services) else ""
    yield f"no VirtualService or HTTPRoute{known} is for {short_host(host)}: any ready pod of it, by Istio's default"
    yield from filter(None, (why_not_for(each, host, caller, scene) for each in virtual_services))


def _lost(authority: str, scene: Scene) -> Iterator[str]:
    """Yield the VirtualServices for a host that are not in force, with why."""
    host = authority.partition(":")[0]
    reasons = {each.policy: each.reason for each in scene.not_in_force if not each.part}
    for each in scene.policies("VirtualService"):
        hosts = each.spec.get("hosts") or []
        if each.id in reasons and any(covers(str(name), host) for name in hosts):
            yield f"VirtualService/{each.name} is not in force: {reasons[each.id]}"


def _behind(hop: Hop, scene: Scene) -> Iterator[str]:
    """Yield the rules behind the one that matched that no call can reach."""
    if hop.rule is None or hop.rule.rule is None:
        return
    for each in scene.not_in_force:
        _, kind, namespace, name = each.policy
        if (kind, namespace, name) == (hop.rule.kind, hop.rule.namespace, hop.rule.name) and each.part:
            yield f"{each.part} is never reached: {each.reason}"


def _of_faults(rule: Rule, route: Resource, scene: Scene) -> Iterator[str]:
    """Yield the faults that no call gets: without a percentage Istio takes 0 (TranslateFault)."""
    fault = (route.get("typed_per_filter_config") or {}).get(_FAULT) or {}
    written = scene.document(rule).get("fault") or {}
    for kind in ("delay", "abort"):
        if kind in fault and not (fault[kind].get("percentage") or {}).get("numerator"):
            said = written.get(kind) or {}
            why = "its percentage is 0" if {"percentage", "percent"} & said.keys() else "it says no percentage"
            yield f"fault.{kind} is for no call: {why}"


def _of_mirrors(envoy: str, route: Resource, scene: Scene) -> Iterator[str]:
    """Yield the copies that are not made, since there is no cluster to send them to."""
    for each in (route.get("route") or {}).get("request_mirror_policies") or []:
        target = target_of(each.get("cluster", ""))
        if target and scene.cluster_of(envoy, each["cluster"]) is None:
            yield f"no copy is made, since there is no cluster for it: {why_missing(target, envoy, scene)}"


def _of_retries(hop: Hop) -> Iterator[str]:
    status = hop.tries[-1].status if hop.tries else None
    if status is None or status < 500 or hop.reason:
        return
    if hop.retries is None:
        yield f"{status} is not tried again: the rule has no retries"
    elif len(hop.tries) <= hop.retries.attempts:
        yield f"{status} is not tried again: it is not in what is tried again, {', '.join(hop.retries.on)}"
