"""The words for what a call met: rules, reasons, destinations, retries, decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshdemo import bundled

#: A JSON object.
Object = Mapping[str, Any]
# What somebody does who lets a call in.
_LETS_IN = {"AuthorizationPolicy": "allows it", "RequestAuthentication": "accepts the token"}


def is_tcp(call: Object) -> bool:
    """Return whether it is a call to tcp://, where HTTP is not spoken."""
    return str(call["request"]["url"]).startswith("tcp:")


def name_rule(rule: Object) -> str:
    """Return a rule as `--expect` takes it: VirtualService/webserver[1]."""
    number = "" if rule.get("rule") is None else f"[{rule['rule']}]"
    return f"{rule['kind']}/{rule['name']}{number}"


def format_place(rule: Object) -> str:
    """Return file and line of a rule, as far as they are known."""
    file, line = bundled.shown(rule.get("file") or ""), rule.get("line")
    return f"{file}:{line}" if file and line else file


def format_milliseconds(value: float) -> str:
    """Return a time in its unit."""
    return f"{value:.1f} ms" if value < 1000 else f"{value / 1000:.2f} s"


def format_answer(status: int | None) -> str:
    """Return a status, or that there was no answer."""
    return "no answer" if status is None else str(status)


def format_destination(to: Object) -> str:
    """Return host, port, subset with its weight, and the DestinationRule."""
    host = to["host"].removesuffix(".svc.cluster.local").removesuffix(".default")
    parts = [f"{host}:{to['port']}"]
    if to.get("subset"):
        parts.append(f"subset {to['subset']}")
    if to.get("weight") is not None and to.get("of"):
        parts[-1] += f" ({to['weight']} of {to['of']})"
    if to.get("policy"):
        parts.append(name_rule(to["policy"]))
    return ", ".join(parts)


def format_retries(retries: Object) -> str:
    """Return how often a call is tried again, and on what."""
    what = ", ".join(retries["on"]) or "nothing"
    limit = retries.get("per_try_timeout_seconds")
    per_try = f", each try {limit:g} s at most" if limit else ""
    return f"retries: up to {retries['attempts']} on {what}{per_try}" + (
        ", Istio's default" if retries["is_default"] else ""
    )


def format_try(number: int, attempt: Object) -> str:
    """Return which pod a try reached, and what came of it."""
    came = f"{format_answer(attempt['status'])} in {format_milliseconds(attempt['milliseconds'])}"
    flags = f" ({', '.join(attempt['flags'])})" if attempt["flags"] else ""
    why = f": {attempt['reason']}" if attempt["reason"] else ""
    return f"try {number}  {attempt['pod'] or 'no pod'}  {came}{why}{flags}"


def explain_decision(hop: Object) -> str:
    """Return why a hop answered itself, or who let the call in; empty where neither is known."""
    decider = hop["decided_by"]
    place = f" ({format_place(decider)})" if decider and format_place(decider) else ""
    if hop["reason"]:
        flags = f" ({', '.join(hop['flags'])})" if hop["flags"] else ""
        return f"{hop['reason']}{flags}{place}"
    return f"{name_rule(decider)} {_LETS_IN.get(decider['kind'], 'lets it pass')}{place}" if decider else ""
