"""Reading YAML files as kubectl does, and their fields so that none is overlooked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

#: The only namespace there is here.
NAMESPACE = "default"
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_DURATION_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 0.000001, "ns": 0.000000001}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|us|ns|m|s))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)")


class ManifestError(Exception):
    """Something in a manifest that cannot be, or is not supported here; `str()` begins with its place."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")


class Fields:
    """The fields of one object, each of which has to be read: `finish` refuses what nobody asked for.

    `place` names the file, the object and the path, as `split.yaml: VirtualService/webserver: spec.http[0]`.
    """

    def __init__(self, value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise ManifestError(place.removesuffix(": "), f"{_shown(value)} is not an object")
        self.place = place
        self._value = value
        self._read: set[str] = set()
        self._children: dict[str, Fields] = {}

    def __contains__(self, name: str) -> bool:
        return self._value.get(name) is not None

    def at(self, name: str) -> str:
        """Return the place of a field."""
        return f"{self.place}{'' if self.place.endswith(': ') else '.'}{name}"

    def error(self, name: str, problem: str) -> ManifestError:
        """Return an error at a field."""
        return ManifestError(self.at(name), problem)

    def any(self, name: str) -> Any:
        """Return whatever the field holds, None when it is missing."""
        self._read.add(name)
        return self._value.get(name)

    def _typed(self, name: str, kinds: type | tuple[type, ...], what: str) -> Any:
        value = self.any(name)
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool)):
            raise self.error(name, f"{_shown(value)} is not {what}")
        return value

    def text(self, name: str) -> str | None:
        """Return a string."""
        value: str | None = self._typed(name, str, "a text")
        return value

    def required_text(self, name: str) -> str:
        """Return a string that has to be there."""
        value = self.text(name)
        if not value:
            raise self.error(name, "is missing")
        return value

    def integer(self, name: str) -> int | None:
        """Return an integer."""
        value: int | None = self._typed(name, int, "an integer")
        return value

    def number(self, name: str) -> float | None:
        """Return a number."""
        value: float | None = self._typed(name, (int, float), "a number")
        return value

    def boolean(self, name: str) -> bool:
        """Return a truth value, False when it is missing."""
        return bool(self._typed(name, bool, "true or false"))

    def texts(self, name: str) -> list[str]:
        """Return a list of strings, empty when it is missing."""
        values = self._typed(name, list, "a list") or []
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise self.error(f"{name}[{index}]", f"{_shown(value)} is not a text")
        return list(values)

    def mapping(self, name: str) -> dict[str, str]:
        """Return an object whose values are strings, empty when it is missing."""
        values = self._typed(name, dict, "an object") or {}
        for key, value in values.items():
            if not isinstance(value, str):
                raise self.error(f"{name}.{key}", f"{_shown(value)} is not a text")
        return dict(values)

    def seconds(self, name: str) -> float | None:
        """Return a duration such as 1.5s or 1m30s in seconds."""
        text = self.text(name)
        if text is None:
            return None
        if not _DURATION.fullmatch(text):
            raise self.error(name, f"{text!r} is not a duration such as 1.5s")
        return sum(float(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(text))

    def fields(self, name: str) -> Fields | None:
        """Return an object."""
        value = self._typed(name, dict, "an object")
        return None if value is None else self._child(value, self.at(name))

    def required(self, name: str) -> Fields:
        """Return an object that has to be there."""
        value = self.fields(name)
        if value is None:
            raise self.error(name, "is missing")
        return value

    def items(self, name: str) -> list[Fields]:
        """Return a list of objects, empty when it is missing."""
        values = self._typed(name, list, "a list") or []
        return [self._child(value, f"{self.at(name)}[{index}]") for index, value in enumerate(values)]

    def _child(self, value: Any, place: str) -> Fields:
        if place not in self._children:
            self._children[place] = Fields(value, place)
        return self._children[place]

    def ignore(self, *names: str) -> None:
        """Pass over fields that make no difference here."""
        self._read.update(names)

    def finish(self) -> None:
        """Refuse every field, here and below, that was not read."""
        for name in self._value:
            if name not in self._read:
                raise self.error(name, "is unknown, or not supported here")
        for child in self._children.values():
            child.finish()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."


@dataclass(frozen=True)
class Manifest:
    """One object of a file."""

    path: Path
    api_version: str
    kind: str
    name: str
    document: dict[str, Any]

    @property
    def place(self) -> str:
        """Return where it is, for an error."""
        return f"{self.path}: {self.kind}/{self.name}"

    def fields(self) -> Fields:
        """Return its fields below `spec`; what Kubernetes adds elsewhere makes no difference here."""
        root = Fields({"spec": self.document.get("spec")}, f"{self.place}: ")
        return root.required("spec")

    @property
    def group(self) -> str:
        """Return the API group, empty for Kubernetes' core."""
        group, slash, _ = self.api_version.partition("/")
        return group if slash else ""


def files_of(paths: Iterable[Path]) -> list[Path]:
    """Return the files that `-f` means: a file itself, of a folder its YAML and JSON files in order."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(inner for inner in path.iterdir() if inner.suffix in _SUFFIXES and inner.is_file())
        else:
            found.append(path)
    return found


def load(paths: Sequence[Path]) -> list[Manifest]:
    """Return the objects of all files; as with kubectl, a later one of the same kind and name replaces an earlier."""
    found: dict[tuple[str, str, str], Manifest] = {}
    for path in files_of(paths):
        for manifest in _read(path):
            key = (manifest.group, manifest.kind, manifest.name)
            found.pop(key, None)
            found[key] = manifest
    return list(found.values())


def _read(path: Path) -> list[Manifest]:
    try:
        documents = list(yaml.safe_load_all(path.read_text("utf-8")))
    except OSError as error:
        raise ManifestError(str(path), f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (yaml.YAMLError, UnicodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise ManifestError(where, f"not YAML: {getattr(error, 'problem', None) or 'unreadable'}") from None
    found = []
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        fields = Fields(document, f"{path}: document {number}: ")
        kind, api_version = fields.required_text("kind"), fields.required_text("apiVersion")
        if kind == "List":
            documents += document.get("items") or []
            continue
        metadata = fields.fields("metadata")
        name = metadata.required_text("name") if metadata else kind.lower()
        namespace = metadata.text("namespace") if metadata else None
        if namespace not in (None, NAMESPACE):
            raise ManifestError(
                f"{path}: {kind}/{name}: metadata.namespace", f"{namespace!r}: there is only the namespace default here"
            )
        found.append(Manifest(path, api_version, kind, name, document))
    return found
