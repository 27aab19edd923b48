"""What all words about policies have in common: values, durations, shares, conditions on strings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|m|s|ms)")
_STRING_MATCHES = {"exact": "{name}={value}", "prefix": "{name}={value}*", "regex": "{name}~{value}"}


@dataclass(frozen=True)
class Words:
    """One rule of a policy, or all of a policy without rules: its condition, empty for none, and what it does."""

    condition: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        actions = ", ".join(self.parts)
        return f"if {self.condition}: {actions}" if self.condition else actions


def leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield each field that holds no others, with its value."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path, as_text(value)


def as_text(value: Any) -> str:
    """Return a value as YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value in (None, {}, []) else str(value)


def as_object(value: Any) -> dict[str, Any]:
    """Return an object, an empty one for what is none."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list, an empty one for what is none."""
    return value if isinstance(value, list) else []


def as_number(value: Any, missing: float) -> float:
    """Return a number, `missing` for what is none."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else missing


def seconds(value: Any) -> str:
    """Return a duration with its unit apart, as `0.3 s`."""
    simple = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return f"{simple[1]} {simple[2]}" if simple else str(value)


def alternatives(matches: list[str]) -> str:
    """Return a condition; a match without one holds for every call, and so for the others, too."""
    return " or ".join(matches) if all(matches) else ""


def shares(weights: list[float], names: list[str]) -> list[str]:
    """Return names with their shares, one name alone without."""
    total = sum(weights)
    if len(names) < 2 or total <= 0:
        return names[:1]
    return [f"{weight * 100 / total:.3g} % {name}" for weight, name in zip(weights, names, strict=True)]


def target_name(destination: dict[str, Any]) -> str:
    """Return what a destination is called."""
    return str(destination.get("subset") or destination.get("host") or destination.get("name") or "")


def string_match(name: str, match: Any, formats: dict[str, str] = _STRING_MATCHES) -> str:
    """Return a condition on a string: `end-user=tester`, `end-user=test*`, `end-user~te.*`, or just its name."""
    for kind, value in as_object(match).items():
        if kind in formats:
            return formats[kind].format(name=name, value=value)
    return name
