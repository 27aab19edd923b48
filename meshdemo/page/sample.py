"""What the live page shows of one answer: who gave it, whether it failed and why, and what a mesh told on the way."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from meshdemo.reasons import find_reason

_TEXT_LENGTH = 200
_NESTED_LIMIT = 10


def make_sample(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of the proxy's answer (its JSON form), each text on one line and cut.

    `version` and `pod` are None where no application signed. A call failed that got no answer, a status of 500 or more,
    or one of 400 or more that no application signed; `reason` and `explanation` say why. `attempt` is which try it was,
    and `caller` the identity by which mutual TLS knew the proxy, where a mesh told the application.
    """
    milliseconds = answer["milliseconds"]
    answer = _innermost(answer)
    value, status, error = answer["value"], answer["status"], answer["error"]
    sample = dict.fromkeys(("version", "pod", "path", "text", "reason", "explanation", "attempt", "caller"))
    sample |= {"status": status, "milliseconds": milliseconds}
    if isinstance(error, str):
        reason = _one_line(error.partition(" calling ")[0])
        return {**sample, "failed": True, "reason": reason, "text": _one_line(error)}
    if isinstance(value, dict) and value.keys() >= {"content", "hostname", "status"}:
        sample |= {"version": _one_line(value["content"]), "pod": _one_line(value["hostname"])}
        sample |= {"path": _one_line(value.get("path", "")), **_told_by_mesh(value.get("headers"))}
        return {**sample, "failed": status >= 500}
    text = _one_line(value if isinstance(value, str) else json.dumps(value))
    sample |= {"text": text, "failed": status >= 400}
    if sample["failed"]:
        known = find_reason(status, text)
        sample["reason"] = f"{known.name} ({known.flag})" if known else f"{status} {text}".strip()
        sample["explanation"] = known.explanation if known else None
    return sample


def _innermost(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the answer of the last of several proxies in a row."""
    for _ in range(_NESTED_LIMIT):
        match answer["value"]:
            case {"value": _, "status": int() | None, "error": str() | None, "milliseconds": _} as inner if (
                inner["status"] is not None or inner["error"] is not None
            ):
                answer = inner
    return answer


def _one_line(value: object) -> str:
    text = " ".join(str(value)[: 2 * _TEXT_LENGTH].split())
    return text if len(text) <= _TEXT_LENGTH else text[:_TEXT_LENGTH] + "…"


def _told_by_mesh(headers: object) -> dict[str, Any]:
    """Return what a mesh added to the request on its way (Envoy, "HTTP header manipulation")."""
    if not isinstance(headers, dict):
        return {}
    texts = {str(name).lower(): str(value) for name, value in headers.items()}
    attempt = re.fullmatch(r"[0-9]{1,3}", texts.get("x-envoy-attempt-count", ""))
    caller = re.search(r"\bURI=([^;,\"]+)", texts.get("x-forwarded-client-cert", ""))
    return {"attempt": int(attempt[0]) if attempt else None, "caller": _one_line(caller[1]) if caller else None}
