"""Connections by which no HTTP goes: what each sidecar on their way did, and the stand-in that said its line.

Envoy lets everybody connect. Who may call is judged by the caller's first bytes, and who may not is cut off without a
word; so is a caller in plain text where mutual TLS alone is taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from urllib.parse import urlsplit

from meshdemo.lab.cluster.pods import Pod, line_of
from meshdemo.lab.files.errors import only_these
from meshdemo.lab.xray.causes import cause_of
from meshdemo.lab.xray.facts.calls import APPLICATION, GATEWAY, SIDECAR, Call, Destination, Hop
from meshdemo.lab.xray.facts.records import Record
from meshdemo.lab.xray.facts.scene import Place, Scene, covers, target_of
from meshdemo.lab.xray.policies.admission import Cause
from meshdemo.lab.xray.policies.destination_rules import policy_for
from meshdemo.lab.xray.policies.known_hosts import refusal
from meshdemo.lab.xray.policies.mutual_tls import strict
from meshdemo.lab.xray.silence import passing_hop, silent_hop

# What Envoy says of a request in its details, and of a connection by a flag alone.
_DETAILS = {"UH": "no_healthy_upstream", "UO": "overflow", "NC": "cluster_not_found"}
# No filter chain of a listener is for the connection.
_NO_CHAIN = "NR"
# Where connections go that are refused (Istio, outboundTrafficPolicy REGISTRY_ONLY).
_BLACK_HOLE = "BlackHoleCluster"


def is_followed(records: Sequence[Record], scene: Scene) -> bool:
    """Return whether the records of a connection lead as far as there are Envoys on its way."""
    place = scene.places.get(records[-1].upstream) if records else None
    return bool(records) and (place is None or place.is_program)


def explain_connection(call: Call, records: Sequence[Record], scene: Scene) -> Call:
    """Return a call without HTTP with its hops: those of the Envoys that logged it, and the program that answered."""
    hops = connection_hops(call, records, scene)
    origin = scene.pod(call.origin or "")
    if origin and not any(each.envoy == origin.name for each in records):
        is_explained = bool(call.body) or any(hop.reason for hop in hops)
        silent = silent_hop(origin, call.url, None, scene, is_failed=not is_explained)
        if silent is None and records and scene.sidecar_for(origin.name):
            silent = passing_hop(origin.name, call.url, scene)
        hops[:0] = [dataclasses.replace(silent, milliseconds=call.milliseconds)] if silent else []
    program = _program(call, records, scene)
    version = program[1] if program else None
    if program:
        pod = program[0]
        hops.append(Hop(APPLICATION, None, pod.name, pod.namespace, None, call.milliseconds, version=version))
    return dataclasses.replace(call, hops=tuple(hops), version=version)


def connection_hops(call: Call, records: Sequence[Record], scene: Scene, server_name: str | None = None) -> list[Hop]:
    """Return what the sidecars and gateways did that logged a connection, by which TLS asked for a name or none."""
    known = (each for each in records if scene.pod(each.envoy) or scene.is_gateway(each.envoy))
    return [_hop(call, each, scene, server_name) for each in known]


def _hop(call: Call, record: Record, scene: Scene, server_name: str | None) -> Hop:
    is_gateway = scene.is_gateway(record.envoy)
    place = scene.places.get(record.local)
    is_unknown = is_gateway and place is not None and _NO_CHAIN in record.flags and server_name is not None
    cause = _unknown(server_name or "", place, scene) if is_unknown and place else _cause(call, record, place, scene)
    target = target_of(record.cluster)
    policy = policy_for(scene, record.envoy, target) if target else None
    rule = scene.book.rule_of(policy.source_of(target.subset)) if policy and target else None
    return Hop(
        kind=GATEWAY if is_gateway else SIDECAR,
        direction=None if is_gateway else "inbound" if place else "outbound",
        pod=record.envoy,
        namespace=scene.namespace(record.envoy),
        status=None,
        milliseconds=record.milliseconds,
        flags=record.flags if cause.reason else (),
        reason=cause.reason,
        destination=Destination(target.host, target.port, target.subset, policy=rule) if target else None,
        identity=record.peer_identity or None,
        decided_by=cause.decided_by,
    )


def _cause(call: Call, record: Record, place: Place | None, scene: Scene) -> Cause:
    """Return why an Envoy closed a connection; nothing where it did not, or where that is not certain."""
    if record.cluster == _BLACK_HOLE:
        parts = urlsplit(call.url)
        return refusal(record.envoy, parts.hostname or "", parts.port or 0, scene)
    pod = scene.pod(record.envoy)
    if _NO_CHAIN in record.flags and place and pod:
        rule = strict(pod, place.port, scene)
        return Cause(f"it takes mutual TLS alone: {rule.kind}/{rule.name} is STRICT", rule) if rule else Cause()
    details = record.details
    if record.tls_failure:
        return Cause(f"TLS failed: {record.tls_failure}")
    if target_of(record.cluster):
        details = next((_DETAILS[flag] for flag in record.flags if flag in _DETAILS), details)
    return cause_of(dataclasses.replace(record, details=details), scene, None, None) if details else Cause()


def _unknown(server_name: str, place: Place, scene: Scene) -> Cause:
    """Return why a gateway took no connection by TLS."""
    gateway = next(each for each in scene.cluster.gateways if each.name == place.pod)
    for manifest in gateway.manifests:
        for number, server in enumerate(manifest.spec.get("servers") or []):
            hosts = [host.rpartition("/")[2] for host in server.get("hosts") or []]
            is_of_port = (server.get("port") or {}).get("number") == place.port
            if is_of_port and server_name and any(covers(host, server_name) for host in hosts):
                rule = scene.book.rule_of(manifest, path=f"spec.servers[{number}]")
                return Cause(
                    f"Gateway/{rule.name} has {server_name} at port {place.port}, but no tls rule is for it", rule
                )
    wanted = f"the server name {server_name}" if server_name else "a call without a server name"
    hint = "" if server_name else "; -H 'Host: NAME' gives one"
    known = only_these(server_name, place.hosts)
    return Cause(f"no server of the gateway is for {wanted} at port {place.port}, {known}{hint}")


def _program(call: Call, records: Sequence[Record], scene: Scene) -> tuple[Pod, str] | None:
    """Return the stand-in whose line was said, and who it says it is; None for another answer, or where two say so."""
    place = scene.places.get(records[-1].upstream) if records else None
    found = [
        (pod, container.content)
        for pod in scene.cluster.pods
        for container in pod.containers
        if container.lines_at and line_of(pod, container) == call.body.strip()
    ]
    reached = [each for each in found if place and each[0].name == place.pod] or found
    return reached[0] if len(reached) == 1 else None
