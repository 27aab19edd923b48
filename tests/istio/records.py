"""What Istio makes of each policy, as it was recorded, and asking both engines for what they make of it now.

A file in recorded/ holds JSON lines: the policies that begin with one kind of object. A policy is a line with its
name, its objects (or the lesson that has them), and what of it the quick engine refuses; in invalid.jsonl, why Istio
refuses it. The lines after it say what Istio makes of it: a place in the meaning and what stands there, or null, where
something else stands without a policy.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meaning import meaning

from meshdemo.lab import quick
from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.manifests import Loader

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
EXAMPLE = ROOT / "k8s" / "example.yaml"
RECORDED = HERE / "recorded"
VERSION_FILE = RECORDED / "version.txt"
#: The file of the lessons, and of the record that all others are changes of: the example without any policy.
LESSONS = "lessons"
NO_POLICY = "no-policy"
#: The file of what Istio refuses.
INVALID = "invalid"

#: A place in a meaning, and what stands there.
Change = tuple[list[str], Any]
# As far as a meaning is divided for people: the pod, the kind of resource, its name.
_DIVIDED = 3


@dataclass(frozen=True)
class Record:
    """A policy, and what Istio makes of it: changes of the meaning without a policy, or the reason for a refusal."""

    name: str
    objects: list[dict[str, Any]]
    #: The lesson that has the objects, as a path below k8s/.
    lesson: str | None = None
    #: What the quick engine refuses though Istio takes it.
    refused: str | None = None
    #: Why Istio refuses the policy.
    reason: str | None = None
    changes: tuple[Change, ...] = ()


@functools.cache
def read_records() -> dict[str, list[Record]]:
    """Return all records by the names of their files, the one without a policy first."""
    files = {path.stem: list(parse_records(path.read_text())) for path in sorted(RECORDED.glob("*.jsonl"))}
    return {LESSONS: files.pop(LESSONS), **files}


def write_records(files: dict[str, list[Record]]) -> None:
    """Write what `read_records` reads."""
    for stem, records in files.items():
        (RECORDED / f"{stem}.jsonl").write_text(
            "".join(f"{line}\n" for record in records for line in format_record(record))
        )


def policies() -> dict[str, Record]:
    """Return the records of what Istio takes by their names."""
    return {each.name: each for stem, records in read_records().items() if stem != INVALID for each in records}


def invalid() -> dict[str, Record]:
    """Return the records of what Istio refuses by their names."""
    return {each.name: each for each in read_records()[INVALID]}


def load(record: Record) -> Cluster:
    """Return the example with a policy beside it, or raise ManifestError."""
    return _load(ROOT / "k8s" / record.lesson) if record.lesson else load_objects(record.objects)


def load_objects(objects: list[dict[str, Any]]) -> Cluster:
    """Return the example with objects beside it, or raise ManifestError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.yaml"
        path.write_text("".join(f"---\n{json.dumps(each)}\n" for each in objects))
        return _load(path)


def _load(path: Path) -> Cluster:
    manifests, _ = Loader([EXAMPLE, path]).load()
    return read_cluster(manifests)


def recorded_meaning(name: str) -> dict[str, Any]:
    """Return the meaning that was recorded of a policy."""
    records = policies()
    without = apply_changes({}, records[NO_POLICY].changes)
    return without if name == NO_POLICY else apply_changes(without, records[name].changes)


def quick_meaning(record: Record) -> dict[str, Any]:
    """Return the meaning of what the quick engine makes of a policy, or raise ManifestError."""
    cluster = load(record)
    return meaning(quick.configure(cluster), cluster)


def refused_field(error: ManifestError) -> str:
    """Return which field of which object is refused, without the file."""
    return error.place.partition(": ")[2]


def find_changes(base: Any, value: Any, place: tuple[str, ...] = ()) -> Iterator[Change]:
    """Yield what has to be put where to make of one object the other; neither holds null."""
    for key in dict.fromkeys([*base, *value]):
        here, new = (*place, key), value.get(key)
        is_divided = isinstance(base.get(key), dict) or (new and key not in base and len(here) < _DIVIDED)
        if isinstance(new, dict) and is_divided:
            yield from find_changes(base.get(key, {}), new, here)
        elif new != base.get(key):
            yield [*here], new


def apply_changes(base: Any, changes: Iterable[Change]) -> Any:
    """Return an object with changes made."""
    value = json.loads(json.dumps(base))
    for (*place, key), new in changes:
        holder = value
        for each in place:
            holder = holder.setdefault(each, {})
        if new is None:
            del holder[key]
        else:
            holder[key] = new
    return value


def parse_records(text: str) -> Iterator[Record]:
    """Yield the records of a file."""
    heads: dict[str, dict[str, Any]] = {}
    changes: dict[str, list[Change]] = {}
    for line in text.splitlines():
        fields = json.loads(line)
        name = fields.pop("name")
        if "at" in fields:
            changes[name].append((fields["at"], fields["istio"]))
        else:
            heads[name], changes[name] = fields, []
    for name, fields in heads.items():
        yield Record(name, fields.pop("objects", []), changes=tuple(changes[name]), **fields)


def format_record(record: Record) -> Iterator[str]:
    """Yield the lines of a record."""
    head = {
        "name": record.name, "lesson": record.lesson, "refused": record.refused, "reason": record.reason,
        "objects": record.objects,
    }  # fmt: skip
    yield _line({key: value for key, value in head.items() if value})
    for place, value in record.changes:
        yield _line({"name": record.name, "at": place, "istio": value})


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False)
