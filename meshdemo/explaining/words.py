"""The words for what a call met: rules, reasons, destinations, retries, decisions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

#: A JSON object.
Object = Mapping[str, Any]
# Envoy's response code details (Envoy, "Response code details"), the first that fits, and what they mean.
_REASONS = (
    (r"route_not_found", "no rule fits this call"),
    (r"direct_response", "the rule answers itself"),
    (r"cluster_not_found|no_cluster_found", "there is no such subset or Service"),
    (r"no_healthy_upstream", "no pod takes calls there"),
    (r"fault_filter_abort", "the rule injects a fault"),
    (r"upstream_per_try_timeout", "no answer in the time of one try (perTryTimeout)"),
    (r"upstream_response_timeout|response_timeout", "no answer in the time of the rule (timeout)"),
    (r"upstream_reset.*overflow", "a limit of the connection pool is reached: it may not queue any more"),
    (r"upstream_reset.*(TLS|SSL|CERTIFICATE)", "TLS with the pod failed"),
    (r"upstream_reset.*(connection_failure|connection_timeout)", "the pod could not be reached"),
    (r"upstream_reset.*connection_termination", "the pod closed the connection without an answer"),
    (r"upstream_reset.*protocol_error", "the pod answered with broken HTTP"),
    (r"upstream_reset", "the pod ended the call"),
    (r"upstream_retry_limit_exceeded", "all tries are used up"),
    (r"rbac_access_denied", "authorization does not allow it"),
    (r"jwt_authn_access_denied\{Jwt_is_missing\}", "the call has no token, and needs one"),
    (r"jwt_authn_access_denied", "the token is refused"),
    (r"local_rate_limited", "more calls than allowed"),
    (r"overload", "Envoy is short of memory"),
)
_DETAIL = re.compile(r"\{(.*)\}")
# The statuses that conditions of retries are for (Envoy, x-envoy-retry-on).
_RETRIED = {"5xx": range(500, 600), "gateway-error": range(502, 505)}
_DECIDERS = {
    "AuthorizationPolicy": ("allows it", "denies it"),
    "RequestAuthentication": ("accepts the token", "refuses the token"),
    "EnvoyFilter": ("lets it pass", "refuses it"),
}


def name_rule(rule: Object) -> str:
    """Return a rule as `--expect` takes it: VirtualService/webserver[1]."""
    number = "" if rule.get("rule") is None else f"[{rule['rule']}]"
    return f"{rule['kind']}/{rule['name']}{number}"


def explain_reason(reason: str | None, flags: Sequence[str] = ()) -> str:
    """Return Envoy's reason in words with its flag; what is unknown stays as it is, empty where there is none."""
    words = reason or ""
    for pattern, meaning in _REASONS:
        if re.search(pattern, words):
            detail = _DETAIL.search(words)
            is_told = detail and "|" in detail[1]  # such as connection_failure|TLS_error:...
            words = f"{meaning}: {detail[1].partition('|')[2].replace('_', ' ')}" if detail and is_told else meaning
            break
    shown = f" ({', '.join(flags)})" if flags else ""
    return f"{words}{shown}".strip()


def format_place(rule: Object) -> str:
    """Return file and line of a rule, as far as they are known."""
    file, line = rule.get("file") or "", rule.get("line")
    return f"{file}:{line}" if file and line else file


def format_milliseconds(value: float) -> str:
    """Return a time in its unit."""
    return f"{value:.1f} ms" if value < 1000 else f"{value / 1000:.2f} s"


def format_answer(status: int | None) -> str:
    """Return a status, or that there was no answer."""
    return "no answer" if status is None else str(status)


def format_destination(to: Object) -> str:
    """Return host, port, subset with its weight, and the DestinationRule."""
    parts = [f"{to['host']}:{to['port']}"]
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


def is_not_retried(hop: Object) -> bool:
    """Return whether the last try failed by its status, and no condition of the retries is for that."""
    tries, retries = hop["tries"], hop["retries"]
    status = tries[-1]["status"] if tries else None
    if status is None or status < 500 or len(tries) > retries["attempts"]:
        return False
    return not any(status in _RETRIED.get(condition, ()) or str(status) == condition for condition in retries["on"])


def explain_decision(hop: Object) -> tuple[bool, str]:
    """Return whether who decided let the call pass, and that in words."""
    decider = hop["decided_by"]
    refused = hop["reason"] is not None
    words = _DECIDERS.get(decider["kind"], ("lets it pass", "answers itself"))[refused]
    detail = explain_reason(hop["reason"]) if refused and decider["kind"] != "AuthorizationPolicy" else ""
    place = f" ({format_place(decider)})" if format_place(decider) else ""
    return not refused, f"{name_rule(decider)} {words}{place}" + (f": {detail}" if detail else "")
