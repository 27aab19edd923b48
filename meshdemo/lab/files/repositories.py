"""What the folders of a repository hold beside manifests: Helm charts, kustomize's files, and other programs' files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from meshdemo.lab.files import documents
from meshdemo.lab.files.errors import ManifestError, NoObjectError
from meshdemo.lab.files.objects import parse_objects
from meshdemo.lab.files.sources import shown_path

#: How many of a kind a note names.
MOST_NAMED = 5
# Without any of these a file holds no object, nor one that somebody has forgotten a line of; it may be long.
_SIGN = re.compile(r"""^["']?kind["']?\s*:|["']?apiVersion["']?\s*:""", re.MULTILINE)
# What Helm, Ansible and envsubst fill in.
_TEMPLATE = re.compile(r"\{\{|\$\{\w+\}")
_CHART, _TEMPLATES = "Chart.yaml", "templates"
_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml")
# Of a kustomization these change no object, which are all read anyway.
_HARMLESS = {"apiVersion", "kind", "metadata", "resources", "bases"}
# These name files that are no objects, but parts of some.
_PARTS = ("patches", "patchesStrategicMerge", "patchesJson6902", "replacements", "transformers", "configurations")


class Others:
    """The files of folders that are no manifests, among `texts`, and what there is to say of them."""

    def __init__(self, texts: Mapping[Path, str]) -> None:
        self._found: list[Path] = []
        self._kustomizations: list[Path] = []
        self._parts: set[str] = set()
        for path in (path for path in texts if path.name in _KUSTOMIZATIONS):
            document = _document(texts[path])
            parts = {os.path.normpath(path.parent / name) for name in _files_in(document)}
            self._parts |= parts
            if document.keys() - _HARMLESS:
                self._kustomizations.append(path.parent)

    def has(self, path: Path, text: str) -> bool:
        """Return whether a file is no manifest, and remember it."""
        if os.path.normpath(path) in self._parts or path.name in _KUSTOMIZATIONS:
            return True
        is_other = _is_in_chart(path) or not _SIGN.search(text) or _holds_none(text, *parse_objects(path, text))
        self._found += [path] * is_other
        return is_other

    def notes(self) -> Iterator[str]:
        """Yield what there is to say: charts and kustomizations by their folders, all else by its name."""
        charts = list(dict.fromkeys(chart for chart in map(_chart_of, self._found) if chart))
        if charts:
            command = f"helm template {charts[0]} | meshdemo up -f -"
            yield f"Helm charts are passed over, as {_names(charts)}: {command} runs one"
        folders = self._kustomizations
        if folders:
            command = f"kubectl kustomize {folders[0]} | meshdemo up -f -"
            yield f"what kustomize changes is not applied, as in {_names(folders)}: {command} runs it"
        files = [path for path in self._found if not _chart_of(path)]
        if files:
            yield f"passed over, since they are no manifests: {_names(files)}"


def _document(text: str) -> dict[str, Any]:
    """Return a kustomization, empty if it is none."""
    try:
        ((_, document),) = documents.parse(text)
    except (documents.DocumentError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _files_in(kustomization: Mapping[str, Any]) -> Iterator[str]:
    """Yield the files that it names which hold parts of objects."""
    for field in _PARTS:
        entries = kustomization.get(field)
        for entry in entries if isinstance(entries, list) else ():
            name = entry.get("path") if isinstance(entry, dict) else entry
            if isinstance(name, str) and "\n" not in name:  # a patch may stand there itself
                yield name


def _holds_none(text: str, found: Sequence[object], problems: Sequence[ManifestError]) -> bool:
    """Return whether a file without any object is something else: a template, or without what objects have."""
    if found:
        return False
    return bool(_TEMPLATE.search(text)) or all(isinstance(each, NoObjectError) for each in problems)


def _chart_of(path: Path) -> Path | None:
    """Return the folder of the Helm chart that a file belongs to, be it by one of its own charts; None for none."""
    return next((parent for parent in reversed(path.parents) if (parent / _CHART).is_file()), None)


def _is_in_chart(path: Path) -> bool:
    """Return whether a file is one of a Helm chart's templates, some of which may look like manifests."""
    return any(parent.name == _TEMPLATES and (parent.parent / _CHART).is_file() for parent in path.parents)


def _names(paths: Iterable[Path]) -> str:
    names = [shown_path(path) for path in paths]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"
