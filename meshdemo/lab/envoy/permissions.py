"""Permissions that ask for the port of a connection, which is another one on loopback (Envoy, config.rbac.v3)."""

from __future__ import annotations

from typing import Any

_ALWAYS = {"any": True}
_NEVER = {"not_rule": _ALWAYS}


def with_port(value: Any, port: int) -> Any:
    """Return the filters of a pod's port with all that asks for a port decided: that one, by its own number, or not."""
    if isinstance(value, list):
        return [with_port(inner, port) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"destination_port"}:
        return _ALWAYS if value["destination_port"] == port else _NEVER
    return {key: with_port(inner, port) for key, inner in value.items()}
