"""What an answer that the mesh itself gave means: a flag, a name and an explanation, from its status and text.

A sidecar or gateway answers itself when it does not, or cannot, call a pod. It says why in its access log only, as a
response flag (Envoy, "Substitution formatter", %RESPONSE_FLAGS%); what reaches the caller is a status and a text, which
Envoy's source fixes: router.cc (`onUpstreamReset`, `onUpstreamTimeoutAbort`), utility.cc (`resetReasonToString`), and
the filters fault, rbac, jwt_authn (status.cc) and local_ratelimit. Envoy 1.40 holds each of these texts.

The proxy names the reasons for the live page, which has no table of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

_SERVERS = frozenset({"envoy", "istio-envoy"})
_RESET = r"^upstream connect error or disconnect/reset before headers\. (retried and the latest )?reset reason: "


class Origin(Enum):
    """Where an answer comes from, by its headers."""

    ELSEWHERE = "no Envoy was there"
    ENVOY = "the nearest Envoy made it"
    BEHIND_ENVOY = "it came to the nearest Envoy from behind"


class Reason(NamedTuple):
    """One line of REASONS.

    `status` is the HTTP status, or None for any. `pattern` is searched in the text, its white space folded; it is a
    regular expression. `flag` is Envoy's response flag, or RBAC or JWT, for which Envoy has none. `explanation` begins
    in lower case and ends without a full stop. `is_guess` says that another server may have answered so, too.
    """

    status: int | None
    pattern: str
    flag: str
    name: str
    explanation: str
    is_guess: bool = False

    @property
    def label(self) -> str:
        """Return name and flag, such as `overflow (UO)`."""
        return f"{'probably ' if self.is_guess else ''}{self.name} ({self.flag})"


#: The first line that fits is the reason. An empty text is what Envoy sends with 404 and 503 where it has no route or
#: no cluster, and with what a policy has it answer directly.
REASONS = (
    Reason(503, _RESET + r"overflow\b", "UO", "overflow", "a limit of the connection pool"),
    Reason(
        503,
        _RESET + r"(local |remote )?connection failure, transport failure reason: .*(TLS|SSL|CERTIFICATE)",
        "UF",
        "TLS failed",
        "no agreement on TLS or trust",
    ),
    Reason(
        503,
        _RESET + r"((local |remote )?connection failure|connection timeout)\b",
        "UF",
        "connection failed",
        "not reached, or TLS failed",
    ),
    Reason(
        503,
        _RESET + r"connection termination\b",
        "UC",
        "connection closed",
        "by the pod, no answer",
    ),
    Reason(503, _RESET + r"remote (refused stream )?reset\b", "UR", "reset", "the pod ended the call"),
    Reason(503, _RESET + r"local (refused stream )?reset\b", "LR", "reset here", "the caller's side ended the call"),
    Reason(502, _RESET + r"protocol error\b", "UPE", "protocol error", "the answer is broken HTTP"),
    Reason(503, r"^no healthy upstream$", "UH", "no healthy pod", "no pod takes traffic"),
    Reason(503, r"^DNS resolution failure$", "DF", "host not found", "its name leads to no address"),
    Reason(504, r"^upstream request timeout$", "UT", "timeout", "the route's or a try's time ran out"),
    Reason(None, r"^stream timeout$", "SI", "idle timeout", "nothing moved for too long"),
    Reason(None, r"^fault filter abort$", "FI", "fault injected", "the mesh failed it on purpose"),
    Reason(403, r"^RBAC: access denied$", "RBAC", "denied", "authorization does not allow it"),
    Reason(401, r"^Jwt is missing$", "JWT", "no token", "the call needs one and has none"),
    Reason(
        None,
        r"^(Jwt|Jwks|Audiences in Jwt|Found multiple Jwt tokens|Failed JWT authentication:)( |$)",
        "JWT",
        "token refused",
        "expired, forged, for others",
    ),
    Reason(None, r"^local_rate_limited$", "RL", "rate limited", "more calls than allowed"),
    Reason(503, r"^envoy overloaded$", "OM", "sidecar overloaded", "Envoy is short of memory"),
    Reason(404, r"^$", "NR", "no route", "no rule of the mesh fits the call"),
    Reason(503, r"^$", "NC", "no cluster", "unknown subset or service"),
)


def find_origin(headers: Mapping[str, str]) -> Origin:
    """Return where an answer comes from, by its headers, whose names are in small letters.

    Envoy puts its name into each answer, its own as well, and x-envoy-upstream-service-time into those alone that came
    from behind it (Envoy, "HTTP header manipulation" and "Router"). Where a mesh is told to hide all that, no Envoy was
    there as far as one can know.
    """
    if "x-envoy-upstream-service-time" in headers:
        return Origin.BEHIND_ENVOY
    if headers.get("server") in _SERVERS or any(name.startswith("x-envoy-") for name in headers):
        return Origin.ENVOY
    return Origin.ELSEWHERE


def find_reason(status: int, text: str, origin: Origin) -> Reason | None:
    """Return the line of REASONS that explains an answer; None where no Envoy was there, or its text is unknown.

    It is a guess where the text is empty, and where the answer came from behind the nearest Envoy: there, another one
    may have made it, or any server.
    """
    if origin is Origin.ELSEWHERE:
        return None
    text = " ".join(text.split())
    if origin is Origin.BEHIND_ENVOY and not text:  # an application's, most of the time
        return None
    for reason in REASONS:
        if reason.status in (None, status) and re.search(reason.pattern, text):
            return reason._replace(is_guess=not text or origin is Origin.BEHIND_ENVOY)
    return None


def confirm(guess: Reason, flag: str, status: int) -> Reason | None:
    """Return the reason for the flag that an Envoy has logged, where the text alone made a guess; None without one."""
    if flag == guess.flag:
        return guess._replace(is_guess=False)
    found = [reason for reason in REASONS if reason.flag == flag and reason.status in (None, status)]
    return found[-1] if found else None


def format_answer(status: int, text: str, reason: Reason | None) -> str:
    """Return an answer that no application gave in words, one without a reason with its text as it is.

    Such as `503 overflow (UO): a limit of the connection pool`.
    """
    return f"{status} {reason.label}: {reason.explanation}" if reason else f"{status} {text}".rstrip()
