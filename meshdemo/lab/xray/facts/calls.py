"""One call explained: its hops, and on each of them the rule, the destination, the tries, and who decided.

These are the objects of `meshdemo call --json`; docs/reference.md describes each field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from meshdemo.lab.xray.facts.naming import Rule

GATEWAY: Literal["gateway"] = "gateway"
SIDECAR: Literal["sidecar"] = "sidecar"
APPLICATION: Literal["application"] = "application"


@dataclass(frozen=True)
class PassedOver:
    """A rule before the one that matched, and the first condition of it that failed."""

    rule: Rule
    because: str


@dataclass(frozen=True)
class Destination:
    """Where a hop sent the call: `weight` of `of`, None where there is one destination alone.

    `policy` is the DestinationRule that says how calls reach it.
    """

    host: str
    port: int
    subset: str | None = None
    weight: int | None = None
    of: int | None = None
    policy: Rule | None = None


@dataclass(frozen=True)
class Retries:
    """How often a call is tried again, and for what; `is_default` where no object says so."""

    attempts: int
    on: tuple[str, ...]
    is_default: bool
    per_try_timeout_seconds: float | None = None


@dataclass(frozen=True)
class Try:
    """One try: `pod` is a pod's name or an address outside, None where none was reached."""

    pod: str | None
    status: int | None
    flags: tuple[str, ...]
    milliseconds: float
    reason: str | None


@dataclass(frozen=True)
class Mirror:
    """A copy of the request, and what it was answered; the answer is dropped."""

    host: str
    port: int
    subset: str | None
    pod: str | None
    status: int | None
    milliseconds: float


@dataclass(frozen=True)
class Hop:
    """A gateway, sidecar or application that the call came through.

    `reason` says why it answered itself, None where the answer came from behind. `matched` says what of the request the
    rule asked for. `decided_by` is who let the call in or did not, an AuthorizationPolicy, a RequestAuthentication, an
    EnvoyFilter or a Gateway, or whose fault or timeout ended it. `notes` are what no object says, so that Istio's
    default holds, and what of the policies was of no effect here. `version` is that of an application that signed.
    """

    kind: Literal["gateway", "sidecar", "application"]
    direction: Literal["outbound", "inbound"] | None
    pod: str
    namespace: str
    status: int | None
    milliseconds: float
    flags: tuple[str, ...] = ()
    reason: str | None = None
    rule: Rule | None = None
    matched: str | None = None
    passed_over: tuple[PassedOver, ...] = ()
    destination: Destination | None = None
    retries: Retries | None = None
    timeout_seconds: float | None = None
    tries: tuple[Try, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    identity: str | None = None
    decided_by: Rule | None = None
    notes: tuple[str, ...] = ()
    version: str | None = None


@dataclass(frozen=True)
class Call:
    """A call and its hops in the order of time.

    `origin` is the pod that it was made from, None for outside. `status` is None where there was no answer, and `error`
    says why. `result` is the status of the application or of the mesh, through however many proxies, `version` the one
    that the application in the end signed with.
    """

    id: str
    method: str
    url: str
    origin: str | None
    status: int | None
    milliseconds: float
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    error: str | None = None
    result: int | None = None
    version: str | None = None
    hops: tuple[Hop, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the object of `meshdemo call --json`."""
        return {
            "request": {"id": self.id, "method": self.method, "url": self.url, "from": self.origin},
            "answer": {
                "status": self.status,
                "result": self.result,
                "milliseconds": round(self.milliseconds, 3),
                "version": self.version,
                "error": self.error,
                "headers": dict(self.headers),
                "body": self.body,
            },
            "hops": [_hop(hop) for hop in self.hops],
        }


def _rule(rule: Rule | None) -> dict[str, Any] | None:
    return rule.as_json() if rule else None


def _hop(hop: Hop) -> dict[str, Any]:
    to, retries = hop.destination, hop.retries
    return {
        "kind": hop.kind,
        "direction": hop.direction,
        "pod": hop.pod,
        "namespace": hop.namespace,
        "status": hop.status,
        "milliseconds": round(hop.milliseconds, 3),
        "flags": list(hop.flags),
        "reason": hop.reason,
        "rule": _rule(hop.rule),
        "matched": hop.matched,
        "passed_over": [{"rule": each.rule.as_json(), "because": each.because} for each in hop.passed_over],
        "destination": {
            "host": to.host,
            "port": to.port,
            "subset": to.subset,
            "weight": to.weight,
            "of": to.of,
            "policy": _rule(to.policy),
        }
        if to
        else None,
        "retries": {
            "attempts": retries.attempts,
            "on": list(retries.on),
            "is_default": retries.is_default,
            "per_try_timeout_seconds": retries.per_try_timeout_seconds,
        }
        if retries
        else None,
        "timeout_seconds": hop.timeout_seconds,
        "tries": [
            {
                "pod": each.pod,
                "status": each.status,
                "flags": list(each.flags),
                "milliseconds": round(each.milliseconds, 3),
                "reason": each.reason,
            }
            for each in hop.tries
        ],
        "mirrors": [
            {
                "host": each.host,
                "port": each.port,
                "subset": each.subset,
                "pod": each.pod,
                "status": each.status,
                "milliseconds": round(each.milliseconds, 3),
            }
            for each in hop.mirrors
        ],
        "identity": hop.identity,
        "decided_by": _rule(hop.decided_by),
        "notes": list(hop.notes),
        "version": hop.version,
    }
