"""The numbers of policies that one likes to turn: where each stands in its file, and the file with another one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from meshdemo.lab.files.documents import DocumentError, compose

_SHARE = (0, 100, 1)
_COUNT = (0, 10, 1)
_LIMIT = (1, 20, 1)
# Least, most and step of each, by the last names of its path.
_COUNTS = {
    "weight": _SHARE,
    "percentage.value": _SHARE,
    "percent": _SHARE,
    "maxEjectionPercent": _SHARE,
    "attempts": _COUNT,
    "maxConnections": _LIMIT,
    "http1MaxPendingRequests": _LIMIT,
    "http2MaxRequests": _LIMIT,
}
# In seconds. Zero has a meaning of its own, or none, in most of them.
_TIMES = ("fixedDelay", "timeout", "perTryTimeout", "timeouts.request", "timeouts.backendRequest")
_TIME_RANGE = (0.05, 10, 0.05)
_POLICIES = re.compile(r"[a-z.]*\.istio\.io/|gateway\.networking\.k8s\.io/")
_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_TIME = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Number:
    """A number of a policy: its object and path, its line from 1, and what it may be.

    `value` is in seconds where `is_time`. From `start` to `end` it stands in the text.
    """

    label: str
    path: str
    line: int
    value: float
    is_time: bool
    least: float
    most: float
    step: float
    start: int
    end: int


def find_numbers(text: str) -> list[Number]:
    """Return the numbers in the policies of a file, none where it is no YAML; what an alias repeats counts once."""
    numbers: dict[int, Number] = {}
    try:
        for root in compose(text):
            for number in _numbers(root, _label(root), ""):
                numbers.setdefault(number.start, number)
    except (yaml.YAMLError, RecursionError, AttributeError, DocumentError):
        return []
    return list(numbers.values())


def replace_number(text: str, label: str, path: str, value: float) -> str:
    """Return a file with another number at a path of an object; raise ValueError, in words, where that cannot be."""
    number = next((each for each in find_numbers(text) if (each.label, each.path) == (label, path)), None)
    if number is None:
        raise ValueError(f"{label} has no number at {path} any more")
    if not number.least <= value <= number.most:
        raise ValueError(f"{path} is from {number.least:g} to {number.most:g}, not {value:g}")
    written = format_time(value) if number.is_time else f"{value:g}"
    quote = text[number.start] if text[number.start] in "\"'" else ""
    return f"{text[: number.start]}{quote}{written}{quote}{text[number.end :]}"


def format_time(seconds: float) -> str:
    """Return a time without a fraction, which the Gateway API does not take (GEP-2257)."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _label(root: yaml.Node) -> str:
    """Return kind and name of a policy, else nothing."""
    fields = {key.value: value for key, value in root.value} if isinstance(root, yaml.MappingNode) else {}
    if not all(name in fields for name in ("apiVersion", "kind", "metadata")):
        return ""
    names = {key.value: value.value for key, value in fields["metadata"].value if isinstance(key, yaml.ScalarNode)}
    is_policy = isinstance(fields["apiVersion"].value, str) and _POLICIES.match(fields["apiVersion"].value)
    return f"{fields['kind'].value}/{names.get('name')}" if is_policy else ""


def _numbers(node: yaml.Node, label: str, path: str) -> Iterator[Number]:
    if not label:
        return
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _numbers(value, label, f"{path}.{key.value}".removeprefix("."))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _numbers(value, label, f"{path}[{index}]")
    elif isinstance(node.value, str) and path.startswith("spec."):
        yield from _number(node, label, path)


def _number(node: yaml.Node, label: str, path: str) -> Iterator[Number]:
    time = _TIME.fullmatch(node.value)
    if time and any(f".{path}".endswith(f".{name}") for name in _TIMES):
        value, (least, most, step) = float(time[1]) * _SECONDS[time[2]], _TIME_RANGE
    elif _NUMBER.fullmatch(node.value):
        value = float(node.value)
        for name, bounds in _COUNTS.items():
            if f".{path}".endswith(f".{name}"):
                least, most, step = bounds
                break
        else:
            return
    else:
        return
    yield Number(
        label,
        path,
        node.start_mark.line + 1,
        value,
        bool(time),
        min(least, value),
        max(most, value),
        step,
        node.start_mark.index,
        node.end_mark.index,
    )
