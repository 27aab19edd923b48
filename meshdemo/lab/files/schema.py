"""What the fields of an object may be, and reading them by it: all names first, then all values.

A reader says in one table which fields there are: `Object({"host": Text(), "port": Integer(1, 65535)})`. What is not in
the table is unknown, and looked for before any value is judged, since a misspelt field makes others look wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from meshdemo.lab.files.documents import not_a_string, shown
from meshdemo.lab.files.errors import ManifestError, suggestion
from meshdemo.lab.files.manifest import Manifest

_DURATION_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 0.000001, "ns": 0.000000001}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+|0")
# To Kubernetes' own kinds a field without a value is one that is not there.
_CORE_GROUPS = ("", "apps")
_EMPTY = "is empty: give it a value, or remove it"
# The fields that Istio's definitions let be null, and those for which the Gateway API's have a default.
_NULLABLE = frozenset(
    {"consecutive5xxErrors", "consecutiveGatewayErrors", "consecutiveLocalOriginFailures", "insecureSkipVerify"}
    | {"localityLbSetting.enabled", "zoneAwareLbSetting.enabled", "zoneAwareLbSetting.minClusterSize"}
    | {"warmup.aggression", "warmup.minimumPercent", "retryBudget.percent", "corsPolicy.allowCredentials"}
    | {"mirrorPercent", "mirror_percent", "retryIgnorePreviousHosts", "retryRemoteLocalities", "disabled"}
    | {"disableContextPropagation", "disableSpanReporting", "enableIstioTags", "randomSamplingPercentage"}
    | {"useRequestIdForTraceSampling", "priority", "concurrency"}
    | {"parentRefs.group", "parentRefs.kind", "backendRefs.group", "backendRefs.kind", "backendRefs.weight"}
    | {"HTTPRoute.rules", "rules.matches", "matches.path", "path.type", "path.value", "headers.type"}
    | {"queryParams.type", "backendRef.group", "backendRef.kind", "fraction.denominator", "cors.maxAge"}
    | {"requestRedirect.statusCode", "listeners.allowedRoutes", "allowedRoutes.namespaces", "namespaces.from"}
    | {"kinds.group"}
)


class Type(Protocol):
    """What a field may hold."""

    def check_names(self, value: Any, place: str) -> None:
        """Raise ManifestError for a field below that is not known."""

    def parse(self, value: Any, place: str) -> Any:
        """Return the value as its reader wants it, or raise ManifestError."""


class _Leaf:
    def check_names(self, value: Any, place: str) -> None:
        """Do nothing: there are no fields below a value."""


@dataclass(frozen=True)
class Text(_Leaf):
    """A string, one of `choices` or matching `pattern` where there are any; `rule` says so for a person."""

    choices: tuple[str, ...] = ()
    pattern: str = ""
    rule: str = ""

    def parse(self, value: Any, place: str) -> str:
        if not isinstance(value, str):
            raise ManifestError(place, not_a_string(value))
        if "\0" in value:
            raise ManifestError(place, "holds a NUL character, which no string may")
        if self.choices and value not in self.choices:
            near = suggestion(value, self.choices)
            raise ManifestError(place, f"{shown(value)} is not one of {', '.join(self.choices)}{near}")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise ManifestError(place, f"{shown(value)} is not {self.rule}")
        return value


@dataclass(frozen=True)
class Integer(_Leaf):
    """A whole number in a range."""

    least: int = -(2**31)
    most: int = 2**31 - 1

    def parse(self, value: Any, place: str) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ManifestError(place, f"{shown(value)} is not a whole number")
        if not self.least <= value <= self.most:
            raise ManifestError(place, f"{shown(value)} is not from {self.least} to {self.most}")
        return value


@dataclass(frozen=True)
class Number(_Leaf):
    """A number in a range."""

    least: float = -math.inf
    most: float = math.inf

    def parse(self, value: Any, place: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ManifestError(place, f"{shown(value)} is not a number")
        if not self.least <= value <= self.most:
            raise ManifestError(place, f"{shown(value)} is not from {self.least:g} to {self.most:g}")
        return float(value)


@dataclass(frozen=True)
class Boolean(_Leaf):
    """A truth value."""

    def parse(self, value: Any, place: str) -> bool:
        if not isinstance(value, bool):
            raise ManifestError(place, f"{shown(value)} is not true or false")
        return value


@dataclass(frozen=True)
class Duration(_Leaf):
    """A duration as Go writes it, such as 1.5s or 1m30s, of at least `least` seconds; read as seconds."""

    least: float = 0.0

    def parse(self, value: Any, place: str) -> float:
        if not isinstance(value, str) or not _DURATION.fullmatch(value) or len(value) > 40:
            raise ManifestError(place, f"{shown(value)} is not a duration such as 1.5s")
        units = _DURATION_UNITS | {"µs": 0.000001}
        seconds = sum(float(number) * units[unit] for number, unit in _DURATION_PART.findall(value))
        if seconds < self.least or seconds > 315_576_000_000:
            raise ManifestError(place, f"{shown(value)} is not a duration of at least {self.least:g}s")
        return seconds


@dataclass(frozen=True)
class Anything(_Leaf):
    """Whatever it is, it makes no difference here; or a reader looks at it by itself."""

    def parse(self, value: Any, place: str) -> Any:  # noqa: ARG002
        return value


@dataclass(frozen=True)
class Refused(_Leaf):
    """A field that exists and would make a difference, but not here; `hint` says what does apply it."""

    hint: str

    def parse(self, value: Any, place: str) -> Any:  # noqa: ARG002
        raise ManifestError(place, f"is not supported here: {self.hint}")


@dataclass(frozen=True)
class List:
    """A list of at least `least` and at most `most` items, read as a list."""

    item: Type
    least: int = 0
    most: int = 10_000

    def check_names(self, value: Any, place: str) -> None:
        for index, inner in enumerate(value if isinstance(value, list) else []):
            self.item.check_names(inner, f"{place}[{index}]")

    def parse(self, value: Any, place: str) -> list[Any]:
        if not isinstance(value, list):
            raise ManifestError(place, f"{shown(value)} is not a list")
        if not self.least <= len(value) <= self.most:
            raise ManifestError(place, f"has {len(value)} items, not {self.least} to {self.most}")
        return [self.item.parse(inner, f"{place}[{index}]") for index, inner in enumerate(value)]


@dataclass(frozen=True)
class Map:
    """An object whose keys are free, read as a dict; a value of null counts as an empty object where `item` is one."""

    item: Type

    def check_names(self, value: Any, place: str) -> None:
        for key, inner in value.items() if isinstance(value, dict) else ():
            self.item.check_names(inner, f"{place}.{key}")

    def parse(self, value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ManifestError(place, f"{shown(value)} is not an object")
        return {key: self.item.parse(inner, f"{place}.{key}") for key, inner in value.items()}


class Fields(Mapping[str, Any]):
    """An object that has been read: `fields["host"]` is None where the field is missing, lists and maps are empty.

    `place` names the file, the object and the path, as `split.yaml: VirtualService/webserver: spec.http[0]`.
    """

    def __init__(self, values: dict[str, Any], place: str, given: frozenset[str]) -> None:
        self._values = values
        self.place = place
        #: The names of the fields that are there.
        self.given = given

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def error(self, name: str, problem: str) -> ManifestError:
        """Return an error at a field."""
        return ManifestError(f"{self.place}.{name}", problem)


@dataclass(frozen=True)
class Object:
    """An object with these fields, those of `required` among them; read as Fields."""

    fields: Mapping[str, Type]
    required: tuple[str, ...] = field(default=())

    def check_names(self, value: Any, place: str) -> None:
        if not isinstance(value, dict):
            return
        for name in value:
            if name not in self.fields:
                raise ManifestError(
                    f"{place}.{shown(name).strip(chr(39))}", f"unknown field{suggestion(name, self.fields)}"
                )
        for name, inner in value.items():
            self.fields[name].check_names(inner, f"{place}.{name}")

    def parse(self, value: Any, place: str) -> Fields:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise ManifestError(place, f"{shown(value)} is not an object")
        given = frozenset(name for name in value if value[name] is not None)
        for name in self.required:
            if name not in given or value[name] in ("", [], {}):
                raise ManifestError(f"{place}.{name}", "is missing")
        parsed = {name: _empty(kind) for name, kind in self.fields.items()}
        for name in (each for each in value if each in given):  # in the order of the file
            parsed[name] = self.fields[name].parse(value[name], f"{place}.{name}")
        return Fields(parsed, place, given)


@dataclass(frozen=True)
class Record(Object):
    """An object that is read as what `make` makes of its fields."""

    make: Callable[[Fields], Any] = lambda fields: fields

    def parse(self, value: Any, place: str) -> Any:
        return self.make(super().parse(value, place))


def into(kind: Callable[..., Any], **names: str) -> Callable[[Fields], Any]:
    """Return what makes a `kind` of fields: its arguments by the names of fields, left out where a field is missing."""
    return lambda fields: kind(**{name: fields[each] for name, each in names.items() if fields[each] is not None})


def _empty(kind: Type) -> Any:
    """Return what a field is read as that is missing."""
    return [] if isinstance(kind, List) else {} if isinstance(kind, Map) else None


def read(manifest: Manifest, schema: Type, name: str = "spec") -> Fields:
    """Return a part of an object, by default its spec: unknown fields are refused first, then what values cannot be."""
    place = f"{manifest.place}: {name}"
    value = manifest.document.get(name)
    if not isinstance(value, dict):
        raise ManifestError(place, "is missing" if value is None else f"{shown(value)} is not an object")
    schema.check_names(value, place)
    if manifest.group not in _CORE_GROUPS:
        refuse_empty(value, place, manifest.kind)
    fields: Fields = schema.parse(value, place)
    return fields


def refuse_empty(value: Any, place: str, parent: str) -> None:
    """Raise ManifestError for a field without a value, as the definitions of Istio and of the Gateway API do it.

    `parent` is the name of the field that holds `value`, of a spec the kind.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            if inner is None and not _NULLABLE & {name, f"{parent}.{name}"}:
                raise ManifestError(f"{place}.{name}", _EMPTY)
            refuse_empty(inner, f"{place}.{name}", name)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if inner is None:
                raise ManifestError(f"{place}[{index}]", _EMPTY)
            refuse_empty(inner, f"{place}[{index}]", parent)
