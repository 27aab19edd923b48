"""What Istio makes of each policy, as it was recorded, and asking both engines for what they make of it now."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from meaning import meaning

from meshdemo.lab import quick
from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.files.manifests import Loader, ManifestError

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
EXAMPLE = ROOT / "k8s" / "example.yaml"
RECORDS = HERE / "records"
REFUSED = HERE / "refused.txt"
REASONS = HERE / "invalid.txt"
#: The record that the others are changes of: what Istio makes of the example without any policy.
NO_POLICY = "no-policy"
#: What the quick engine says of a policy that Istio takes.
HINT = "--istiod applies it"
_WIDTH = 118


def policies() -> dict[str, Path | None]:
    """Return the files of all policies by the names of their records, the lessons among them."""
    lessons = sorted((ROOT / "k8s").glob("*/*.yaml"))
    return {
        NO_POLICY: None,
        **{f"lesson-{path.parent.name}-{path.stem}": path for path in lessons},
        **{path.stem: path for path in sorted((HERE / "policies").glob("*.yaml"))},
    }


def invalid() -> dict[str, Path]:
    """Return the files of what Istio refuses by their names."""
    return {path.stem: path for path in sorted((HERE / "invalid").glob("*.yaml"))}


def load(path: Path | None) -> Cluster:
    """Return the example with a policy beside it, or raise ManifestError."""
    manifests, _ = Loader([EXAMPLE, *([path] if path else [])]).load()
    return read_cluster(manifests)


def quick_meaning(path: Path | None) -> dict[str, Any]:
    """Return the meaning of what the quick engine makes of a policy, or raise ManifestError."""
    cluster = load(path)
    return meaning(quick.configure(cluster), cluster)


def refused_field(error: ManifestError) -> str:
    """Return which field of which object is refused, without the file."""
    return error.place.partition(": ")[2]


def read_record(name: str) -> dict[str, Any]:
    """Return the meaning that was recorded."""
    value = json.loads((RECORDS / f"{NO_POLICY}.json").read_text())
    return value if name == NO_POLICY else apply_patch(value, json.loads((RECORDS / f"{name}.json").read_text()))


def read_lines(path: Path) -> dict[str, str]:
    """Return a file of lines `name: text` as a dict."""
    return dict(line.split(": ", 1) for line in path.read_text().splitlines() if line and not line.startswith("#"))


def format_lines(comment: str, lines: Iterable[tuple[str, str]]) -> str:
    """Return what `read_lines` reads."""
    return "".join([f"# {comment}\n", *(f"{name}: {text}\n" for name, text in lines)])


def make_patch(base: Any, value: Any) -> Any:
    """Return the JSON merge patch (RFC 7396) from one object to another; neither holds null."""
    patch: dict[str, Any] = {key: None for key in base if key not in value}
    for key, inner in value.items():
        if key in base and base[key] == inner:
            continue
        both = isinstance(inner, dict) and isinstance(base.get(key), dict)
        patch[key] = make_patch(base[key], inner) if both else inner
    return patch


def apply_patch(base: Any, patch: Any) -> Any:
    """Return an object with a JSON merge patch applied."""
    if not isinstance(patch, dict):
        return patch
    value = dict(base) if isinstance(base, dict) else {}
    for key, inner in patch.items():
        if inner is None:
            value.pop(key, None)
        else:
            value[key] = apply_patch(value.get(key), inner)
    return value


def format_json(value: Any, indent: str = "") -> str:
    """Return JSON with a line for whatever fits on one, so that a change of one field changes one line."""
    text = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(text) <= _WIDTH or not isinstance(value, (dict, list)) or not value:
        return text
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {format_json(each, inner)}" for key, each in value.items()]
    else:
        parts = [format_json(each, inner) for each in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    return f"{start}\n" + ",\n".join(inner + part for part in parts) + f"\n{indent}{end}"
