"""What the explanation of a call says of one rule: that the call met it, that it did not, or neither."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from meshdemo.explaining.words import Object, name_rule
from meshdemo.lab.files.manifest import Manifest

MET, NOT_MET = "met", "not met"


@dataclass(frozen=True)
class Target:
    """A rule of a policy by its number, and what the policy does: `action` of an AuthorizationPolicy, else empty."""

    kind: str
    namespace: str
    name: str
    number: int
    action: str = ""

    @property
    def title(self) -> str:
        """Return it as `--expect` takes it."""
        return f"{self.kind}/{self.name}[{self.number}]"

    def is_in(self, rule: Object | None, *, numbered: bool = True) -> bool:
        """Return whether a rule of an explanation is this one, or one of the same policy."""
        whole = rule is not None and (rule["kind"], rule["namespace"], rule["name"]) == (
            self.kind,
            self.namespace,
            self.name,
        )
        return whole and rule is not None and (not numbered or rule["rule"] == self.number)


def target_of(manifest: Manifest, number: int) -> Target:
    """Return a rule of a policy."""
    spec = manifest.spec
    action = str(spec.get("action") or "ALLOW") if manifest.kind == "AuthorizationPolicy" else ""
    return Target(manifest.kind, manifest.namespace, manifest.name, number, action)


def judge(call: Object, target: Target, pods: Collection[str]) -> str | None:
    """Return MET or NOT_MET where a call was seen to have met a rule or not, None where neither was seen.

    `pods` are those whose sidecars judge the calls. A rule behind another one that took or denied the call was not
    looked at, nor was one that allows what another one allowed already.
    """
    return _judge_authorization(call, target, pods) if target.action else _judge_route(call, target)


def _judge_route(call: Object, target: Target) -> str | None:
    hops = [hop for hop in call["hops"] if hop["kind"] != "application" and hop["direction"] != "inbound"]
    if any(target.is_in(hop["rule"]) for hop in hops):
        return MET
    for hop in hops[:1]:
        rule, passed_over = hop["rule"], [each["rule"] for each in hop["passed_over"]]
        is_behind = target.is_in(rule, numbered=False) and rule["rule"] is not None and rule["rule"] > target.number
        if is_behind or any(map(target.is_in, passed_over)):
            return NOT_MET
    return None


def _judge_authorization(call: Object, target: Target, pods: Collection[str]) -> str | None:
    hops = [hop for hop in call["hops"] if hop["direction"] != "outbound" and hop["pod"] in pods]
    hops = [hop for hop in hops if hop["kind"] != "application"]
    if any(target.is_in(hop["decided_by"]) for hop in hops):
        return MET
    for hop in hops[:1]:
        decider = hop["decided_by"]
        is_of_policy = decider is not None and decider["kind"] == "AuthorizationPolicy"
        is_by_rule = is_of_policy and decider is not None and decider["rule"] is not None
        is_denied = hop["status"] == 403 and str(hop["reason"]).startswith("denied") and not is_by_rule
        if target.action == "ALLOW" and is_denied:
            return NOT_MET
        if target.action == "DENY" and (is_denied or hop["reason"] is None):
            return NOT_MET
    return None


def describe(call: Object) -> str:
    """Return in words what a call met instead of a rule."""
    answer = call["answer"]
    status = "no answer" if answer["result"] is None else str(answer["result"])
    found = [name_rule(rule) for hop in call["hops"] for rule in (hop["rule"], hop["decided_by"]) if rule]
    if found:
        return f"met {' and '.join(dict.fromkeys(found))} instead ({status})"
    error = f", {answer['error']}" if answer["error"] else ""
    return f"was answered by no rule that is named ({status}{error})"


def failure_of(call: Object) -> str:
    """Return in brackets why nobody answered a call as the policies say, empty where somebody did."""
    status = call["answer"]["result"]
    reasons = [hop["reason"] for hop in call["hops"] if hop["reason"] and hop["decided_by"] is None]
    if (status is not None and status < 500) or not reasons:
        return ""
    return f" ({'no answer' if status is None else status}: {reasons[0]})"


def expectations(call: Object, random: Collection[tuple[Any, ...]] = ()) -> list[str]:
    """Return what was seen of a call, as far as the next call is the same: what is drawn at random is left out.

    `random` are the rules by kind, namespace, name and number that decide by lot how they answer.
    """
    rules = [hop["rule"] for hop in call["hops"] if hop["rule"]]
    keys = {(rule["kind"], rule["namespace"], rule["name"], rule["rule"]) for rule in rules}
    destinations = [hop["destination"] for hop in call["hops"] if hop["destination"]]
    # Of destinations with weights another one may answer otherwise the next time.
    by_lot = bool(keys & set(random)) or any(to["weight"] not in (None, to["of"]) for to in destinations)
    status = call["answer"]["result"]
    seen = [] if by_lot else [f"status={'none' if status is None else status}"]
    for hop in call["hops"]:
        if hop["direction"] != "inbound" and hop["rule"]:
            seen.append(f"rule={name_rule(hop['rule'])}")
            to = hop["destination"]
            if to and to["subset"] and to["weight"] in (None, to["of"]):
                seen.append(f"subset={to['subset']}")
        if hop["decided_by"] and not by_lot:
            seen.append(f"decided-by={name_rule(hop['decided_by'])}")
    return list(dict.fromkeys(seen))
