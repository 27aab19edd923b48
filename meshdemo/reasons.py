"""What an answer that the mesh itself gave means: a flag, a name and an explanation, from its status and text.

A sidecar or gateway answers itself when it does not, or cannot, call a pod. It says why in its access log only, as a
response flag (Envoy, "Substitution formatter", %RESPONSE_FLAGS%); what reaches the caller is a status and a text, which
Envoy's source fixes: router.cc (`onUpstreamReset`, `onUpstreamTimeoutAbort`), utility.cc (`resetReasonToString`), and
the filters fault, rbac, jwt_authn (status.cc) and local_ratelimit. Envoy 1.40 holds each of these texts.

The proxy names the reasons for the live page, which has no table of its own.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_RESET = r"^upstream connect error or disconnect/reset before headers\. (retried and the latest )?reset reason: "


class Reason(NamedTuple):
    """One line of REASONS.

    `status` is the HTTP status, or None for any. `pattern` is searched in the text, its white space folded; it is a
    regular expression. `flag` is Envoy's response flag, or RBAC or JWT,
    for which Envoy has none. `explanation` begins in lower case and ends without a full stop.
    """

    status: int | None
    pattern: str
    flag: str
    name: str
    explanation: str


#: The first line that fits is the reason. An empty text is what Envoy sends with 404 and 503 where it has no route or
#: no cluster: another server may do so, too, but then it has no application's answer either.
REASONS = (
    Reason(503, _RESET + r"overflow\b", "UO", "overflow", "a limit of the connection pool"),
    Reason(
        503,
        _RESET + r"(local |remote )?connection failure, transport failure reason: .*(TLS|SSL|CERTIFICATE)",
        "UF",
        "TLS failed",
        "no agreement on mutual TLS or on trust",
    ),
    Reason(
        503,
        _RESET + r"((local |remote )?connection failure|connection timeout)\b",
        "UF",
        "connection failed",
        "the pod could not be reached",
    ),
    Reason(
        503,
        _RESET + r"connection termination\b",
        "UC",
        "connection closed",
        "by the pod, without an answer",
    ),
    Reason(503, _RESET + r"remote (refused stream )?reset\b", "UR", "reset", "the pod ended the call"),
    Reason(503, _RESET + r"local (refused stream )?reset\b", "LR", "reset here", "the caller's side ended the call"),
    Reason(502, _RESET + r"protocol error\b", "UPE", "protocol error", "the answer is broken HTTP"),
    Reason(503, r"^no healthy upstream$", "UH", "no healthy pod", "no pod of the service takes traffic"),
    Reason(504, r"^upstream request timeout$", "UT", "timeout", "the route's time ran out"),
    Reason(None, r"^stream timeout$", "SI", "idle timeout", "nothing moved for too long"),
    Reason(None, r"^fault filter abort$", "FI", "fault injected", "the mesh failed the call on purpose"),
    Reason(403, r"^RBAC: access denied$", "RBAC", "denied", "authorization does not allow the call"),
    Reason(401, r"^Jwt is missing$", "JWT", "no token", "the call needs a token and has none"),
    Reason(
        None,
        r"^(Jwt|Jwks|Audiences in Jwt|Found multiple Jwt tokens|Failed JWT authentication:)( |$)",
        "JWT",
        "token refused",
        "expired, forged, or meant for others",
    ),
    Reason(None, r"^local_rate_limited$", "RL", "rate limited", "more calls than the limit lets through"),
    Reason(503, r"^envoy overloaded$", "OM", "sidecar overloaded", "Envoy is short of memory"),
    Reason(404, r"^$", "NR", "no route", "no rule of the mesh fits the call"),
    Reason(503, r"^$", "NC", "no cluster", "the route's subset or service is unknown"),
)


def find_reason(status: int, text: str) -> Reason | None:
    """Return the line of REASONS that explains an answer, or None when its text is unknown."""
    text = " ".join(text.split())
    for reason in REASONS:
        if reason.status in (None, status) and re.search(reason.pattern, text):
            return reason
    return None


def format_answer(status: int, text: str) -> str:
    """Return an answer that no application gave in words, an unknown one with its text as it is.

    Such as `503 overflow (UO): a limit of the connection pool`.
    """
    reason = find_reason(status, text)
    return f"{status} {reason.name} ({reason.flag}): {reason.explanation}" if reason else f"{status} {text}".rstrip()
