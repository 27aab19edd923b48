"""AuthorizationPolicies that judge by addresses: on one machine all pods have the same, which is no cluster's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.manifest import locate

# Of a source, and of a condition (istio.io, "Authorization Policy": Source; "Authorization Policy Conditions").
_BLOCKS = ("ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks")
_KEYS = ("source.ip", "remote.ip", "destination.ip")
_WHY = "judges otherwise than in a cluster: every pod and caller here has the address 127.0.0.1"


def judged_by_address(cluster: Cluster) -> list[str]:
    """Return a note, with file and line, for each field that asks for an address."""
    notes, texts = [], dict(cluster.texts)
    for policy in cluster.policies:
        if policy.kind == "AuthorizationPolicy":
            for field in _fields(policy.spec):
                note = ManifestError(f"{policy.place}: {field}", _WHY)
                locate(note, [policy], texts)
                notes.append(str(note))
    return notes


def _fields(spec: dict[str, Any]) -> Iterator[str]:
    for number, rule in enumerate(spec.get("rules") or []):
        for index, origin in enumerate((rule or {}).get("from") or []):
            source = origin.get("source") or {}
            yield from (f"spec.rules[{number}].from[{index}].source.{name}" for name in _BLOCKS if source.get(name))
        for index, condition in enumerate((rule or {}).get("when") or []):
            if condition.get("key") in _KEYS:
                yield f"spec.rules[{number}].when[{index}].key"
