"""What the live page shows of one answer: who gave it, whether it failed and why, and what a mesh said on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshdemo.answers import read_proxied, shorten

_TEXT_LENGTH = 200


def make_sample(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of the proxy's answer (its JSON form), each text on one line and cut.

    `version` and `pod` are None where no application signed, and then `text` is what was answered. `reason` and
    `explanation` say why a call failed that no application answered. `attempt` is which try it was, and `caller` the
    identity by which mutual TLS knew the proxy, where a mesh told the application.
    """
    outcome = read_proxied(document)
    sample = {
        "version": outcome.version,
        "pod": outcome.pod,
        "path": outcome.path,
        "status": outcome.status,
        "failed": outcome.is_failed,
        "milliseconds": document["milliseconds"],
        "attempt": outcome.attempt,
        "caller": outcome.identity,
        "text": outcome.text if outcome.version is None else None,
        "reason": None,
        "explanation": None,
    }
    if outcome.status is None:
        sample |= {"reason": outcome.error_code or outcome.error, "text": outcome.error}
    elif outcome.version is None and outcome.is_failed:
        reason = outcome.reason
        sample["reason"] = reason.label if reason else f"{outcome.status} {outcome.text}".strip()
        sample["explanation"] = reason and reason.explanation
    return {name: _one_line(value) if isinstance(value, str) else value for name, value in sample.items()}


def _one_line(text: str) -> str:
    return shorten(" ".join(text.split()), _TEXT_LENGTH, "…")
