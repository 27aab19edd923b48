"""What rules ask of a request, and values with which a request meets that or does not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from meshdemo.lab.cluster.pods import Pod
from meshdemo.lessons.proposing.examples import example_of
from meshdemo.lessons.proposing.places import Place, Port

Part = Literal["path", "method", "authority", "header", "query", "caller", "port", "gateway", "other"]

# The trust domain of an installation that says none (Istio, MeshConfig).
_TRUST_DOMAIN = "cluster.local"
# The usual value, and what is tried beside what the conditions themselves name.
_OTHERS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "path": ("/", ("/neither-this",)),
    "method": ("GET", ("POST", "PUT", "DELETE")),
    "authority": (None, ("elsewhere.example",)),
    "header": (None, ("x",)),
    "query": (None, ("x",)),
}
AnyValue = TypeVar("AnyValue", bound=Pod | Port | str | None)


@dataclass(frozen=True)
class Pattern:
    """What a value is to be: `exact`, `prefix`, `suffix`, `regex`, or `present`, whatever it is."""

    kind: str
    value: str = ""

    def fits(self, value: str | None) -> bool:
        """Return whether a value, None where there is none, is so."""
        if value is None:
            return False
        if self.kind == "regex":
            try:
                return re.fullmatch(self.value, value) is not None
            except re.error:
                return False
        if self.kind == "exact":
            return value == self.value
        is_prefix = self.kind == "prefix" and value.startswith(self.value)
        return is_prefix or self.kind == "present" or (self.kind == "suffix" and value.endswith(self.value))

    @property
    def example(self) -> str | None:
        """Return a value that is so, None where none is known."""
        if self.kind == "regex":
            return example_of(self.value)
        return self.value or "x"


@dataclass(frozen=True)
class Condition:
    """One part of a request is to fit one of the patterns, or none of them where it `is_negated`.

    `name` is that of a header or query parameter, or says what of the caller or the port is meant. `words` are the
    condition as the file has it. What no call can choose is of the part `other`.
    """

    part: Part
    patterns: tuple[Pattern, ...]
    words: str
    name: str = ""
    is_negated: bool = False

    @property
    def slot(self) -> tuple[str, str]:
        """Return what of a request has one value, however many conditions it meets."""
        return self.part, self.name if self.part in ("header", "query") else ""

    def holds(self, value: Pod | Port | str | None, place: Place) -> bool:
        """Return whether a value of its part is as wanted."""
        text = self._text(value, place)
        return any(pattern.fits(text) for pattern in self.patterns) != self.is_negated

    def _text(self, value: Pod | Port | str | None, place: Place) -> str | None:
        if self.part == "caller" or isinstance(value, Pod):
            pod = value if isinstance(value, Pod) else place.through
            return _text_of_caller(pod, self.name) if pod else None
        if isinstance(value, Port):
            return str(value.target if self.name == "target" else value.number)
        return place.authority if self.part == "authority" and value is None else value


@dataclass(frozen=True)
class Wish:
    """A call that is to be made: None for a caller is outside, for the authority that of the URL."""

    place: Place
    port: Port
    caller: Pod | None
    path: str = "/"
    method: str = "GET"
    authority: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()


class NoValueError(Exception):
    """A condition that no call can meet, or can miss: the message says which, and why."""


def choose(conditions: Sequence[Condition], place: Place, missed: Condition | None = None) -> Iterator[Wish]:
    """Yield calls that meet all conditions but the one that is to be missed, one for each caller that can make it.

    What no call can choose is left to the call. Raise NoValueError where nothing is found for a condition.
    """
    slots: dict[tuple[str, str], list[Condition]] = {}
    for each in (*place.asked, *conditions):
        if each.part != "other":
            slots.setdefault(each.slot, []).append(each)
    port = _fitting(place.ports, slots.pop(("port", ""), ()), place, missed)[0]
    callers = _fitting(place.callers or (None,), slots.pop(("caller", ""), ()), place, missed)
    texts = {slot: _fitting(_texts(slot[0], asked, place), asked, place, missed)[0] for slot, asked in slots.items()}
    for caller in callers:
        yield Wish(
            place,
            port,
            caller,
            texts.get(("path", "")) or "/",
            texts.get(("method", "")) or "GET",
            texts.get(("authority", "")),
            tuple((name, value) for (part, name), value in texts.items() if part == "header" and value is not None),
            tuple((name, value) for (part, name), value in texts.items() if part == "query" and value is not None),
        )


def _texts(part: str, asked: Sequence[Condition], place: Place) -> list[str | None]:
    """Return values of a part to choose from: the usual one, those that conditions name, and others."""
    if part == "gateway":
        return [place.gateway]
    usual, others = _OTHERS[part]
    examples = [example for each in asked for pattern in each.patterns if (example := pattern.example) is not None]
    if part == "path":
        examples = [each if each.startswith("/") else f"/{each}" for each in examples]
    return [usual, *examples, *others]


def _fitting(
    candidates: Sequence[AnyValue], asked: Sequence[Condition], place: Place, missed: Condition | None
) -> list[AnyValue]:
    """Return the values that are as wanted; raise NoValueError where there is none."""
    found = [value for value in candidates if all(each.holds(value, place) != (each is missed) for each in asked)]
    if not found:
        raise NoValueError(_why_none(asked, place, missed))
    return found


def _why_none(asked: Sequence[Condition], place: Place, missed: Condition | None) -> str:
    words, part = " and ".join(each.words for each in asked), asked[0].part
    if missed is not None and any(each is missed for each in asked):
        return f"every call to {place.name} here meets {words}"
    if part == "port":
        return f"{place.name} has no port for HTTP that meets {words}"
    if part == "caller":
        return f"no workload here that can call {place.name} meets {words}"
    if part == "gateway":
        return f"{words} is not where {place.name} is called"
    expressions = [pattern.value for each in asked for pattern in each.patterns if pattern.kind == "regex"]
    if expressions:
        return f"no value is known for the regular expression {expressions[0]}"
    return f"no value meets {words}"


def _text_of_caller(pod: Pod, what: str) -> str | None:
    """Return the namespace, service account or principal of a pod, or one of its labels; None where it has none."""
    if what.startswith("label "):
        return pod.labels.get(what.removeprefix("label "))
    if what == "namespace":
        return pod.namespace if pod.in_mesh else None
    if not pod.in_mesh:  # its calls have no identity
        return None
    account = pod.service_account or "default"
    if what == "service account":
        return f"{pod.namespace}/{account}"
    return f"{_TRUST_DOMAIN}/ns/{pod.namespace}/sa/{account}"
