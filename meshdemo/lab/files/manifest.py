"""One object of a file, and the place of a field in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshdemo.lab.files import documents
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.kinds import NAMESPACE
from meshdemo.lab.files.sources import shown_path

# What Istio reads as true in an annotation (Go, strconv.ParseBool).
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FIELD = re.compile(r"\[?((?:spec|metadata)[^\s:]*): ")


@dataclass(frozen=True)
class Manifest:
    """One object: the file it is from, the line where it begins, and the document as it stands there.

    As long as a file stays as it is, reading it again gives the same document: whoever changes one changes a copy.
    """

    path: Path
    line: int
    group: str
    version: str
    kind: str
    name: str
    document: dict[str, Any]

    @property
    def namespace(self) -> str:
        """Return the namespace that it stands in, or would stand in on a cluster."""
        return str((self.document.get("metadata") or {}).get("namespace") or NAMESPACE)

    @property
    def id(self) -> tuple[str, str, str, str]:
        """Return what tells it from all others: group, kind, namespace and name."""
        return self.group, self.kind, self.namespace, self.name

    @property
    def label(self) -> str:
        """Return kind and name, as `VirtualService/webserver`, with another namespace than default behind it."""
        return f"{self.kind}/{self.name}" + (f".{self.namespace}" if self.namespace != NAMESPACE else "")

    @property
    def spec(self) -> dict[str, Any]:
        """Return its spec, an empty one where there is none."""
        spec = self.document.get("spec")
        return spec if isinstance(spec, dict) else {}

    @property
    def labels(self) -> dict[str, str]:
        """Return its labels."""
        return dict((self.document.get("metadata") or {}).get("labels") or {})

    @property
    def annotations(self) -> dict[str, str]:
        """Return its annotations."""
        annotations = (self.document.get("metadata") or {}).get("annotations")
        return dict(annotations) if isinstance(annotations, dict) else {}

    @property
    def is_dry_run(self) -> bool:
        """Return whether it is an AuthorizationPolicy that is only tried (Istio, `istio.io/dry-run`)."""
        return self.kind == "AuthorizationPolicy" and str(self.annotations.get("istio.io/dry-run")) in _TRUE

    @property
    def place(self) -> str:
        """Return where it is, as `k8s/istio/split.yaml: VirtualService/webserver`."""
        return f"{shown_path(self.path)}: {self.label}"


def locate(error: ManifestError, manifests: Iterable[Manifest], texts: Mapping[str, str]) -> None:
    """Tell an error about a field of an object where in its file that stands, as far as it can be found.

    A reason of Istio's definitions begins with the field.
    """
    for manifest in manifests:
        if error.place == manifest.place or error.place.startswith(f"{manifest.place}: "):
            path = error.place[len(manifest.place) + 2 :]
            named = _FIELD.match(error.problem)
            if not path and named:
                path = named[1]
            file = shown_path(manifest.path)
            found = documents.locate(texts.get(file, ""), manifest.line, manifest.kind, manifest.name, path)
            if found:
                error.file, (error.line, error.column) = file, found
            return
