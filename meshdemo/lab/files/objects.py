"""From the text of a file to objects: documents, lists, names, kinds."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from meshdemo.lab.files import documents
from meshdemo.lab.files.documents import not_a_string, shown
from meshdemo.lab.files.errors import ManifestError, NoObjectError, suggestion
from meshdemo.lab.files.kinds import KINDS, NAME_LENGTH, NAMESPACE_RULE, is_name, is_namespace
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.files.sources import shown_path

_ADDED = {"managedFields", "resourceVersion", "uid", "generation", "selfLink"}
_WORD = re.compile(r"[A-Za-z0-9][-A-Za-z0-9./]{0,300}")
# How many files are remembered.
_MOST_FILES = 1024


@functools.lru_cache(_MOST_FILES)
def parse_objects(path: Path, text: str) -> tuple[list[Manifest], list[ManifestError]]:
    """Return the objects of a text and what is wrong.

    They are the same ones as long as the file holds the same text: most files are as they were at the next edit.
    """
    place = shown_path(path)
    try:
        found = documents.parse(text)
    except documents.DocumentError as error:
        where = f"{place}, line {error.line}" if error.line else place
        return [], [ManifestError(where, str(error))]
    manifests: list[Manifest] = []
    errors: list[ManifestError] = []
    for line, document in found:
        try:
            manifests += _objects(path, line, document, errors)
        except ManifestError as error:
            errors.append(error)
    return manifests, errors


def _objects(path: Path, line: int, document: Any, errors: list[ManifestError]) -> list[Manifest]:
    """Return the object that a document is, or those of a List, of which what is wrong is added to `errors`."""
    place = f"{shown_path(path)}, line {line}"
    if not isinstance(document, dict):
        raise NoObjectError(place, f"{shown(document)} is not an object with apiVersion and kind")
    try:
        api_version, kind = (_text(document, field, place) for field in ("apiVersion", "kind"))
    except ManifestError as error:
        # Helm's Chart.yaml has an apiVersion, and what CI systems read may have a kind.
        is_meant = len(document.keys() & {"apiVersion", "kind", "metadata", "spec"}) > 1
        raise error if is_meant else NoObjectError(error.place, error.problem) from None
    for field, text in (("apiVersion", api_version), ("kind", kind)):
        if not _WORD.fullmatch(text):
            raise ManifestError(f"{place}: {field}", f"{shown(text)} is not a valid {field}")
    if kind.endswith("List") and (kind == "List" or "items" in document):
        items = document.get("items") or []
        if not isinstance(items, list):
            raise ManifestError(f"{place}: {kind}: items", f"{shown(items)} is not a list")
        # In a list of one kind the objects need not say which it is.
        own = {"apiVersion": api_version, "kind": kind.removesuffix("List")} if kind != "List" else {}
        whole = [{**own, **item} if isinstance(item, dict) else item for item in items]
        manifests = []
        for item in whole:
            try:
                manifests += _objects(path, line, item, errors)
            except ManifestError as error:
                errors.append(error)
        return manifests
    group, _, version = api_version.rpartition("/")
    try:
        name = _name(document, kind, f"{place}: {kind}", group)
    except ManifestError:
        if (group, kind) in KINDS:
            raise
        # What other tools read, such as a Kustomization, need not have names that an API server takes.
        name, document = kind.lower(), {**document, "metadata": {}}
    if kind == "Pod" and _has_ended(document):
        return []
    manifest = Manifest(path, line, group, version, kind, name, _as_applied(document))
    _check_kind(manifest, api_version)
    return [manifest]


def _has_ended(document: dict[str, Any]) -> bool:
    """Return whether a pod that was read out of a cluster will not run again."""
    status = document.get("status")
    return isinstance(status, dict) and status.get("phase") in ("Succeeded", "Failed")


def _as_applied(document: dict[str, Any]) -> dict[str, Any]:
    """Return an object without what only a cluster adds to it."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not ({"status"} & document.keys() or _ADDED & metadata.keys()):
        return document
    own = {name: value for name, value in metadata.items() if name not in _ADDED}
    return {**{name: value for name, value in document.items() if name != "status"}, "metadata": own}


def _text(document: dict[str, Any], field: str, place: str) -> str:
    value = document.get(field)
    if not isinstance(value, str) or not value:
        missing = {None: "is missing", "": "is empty"}
        problem = missing[value] if value in (None, "") else not_a_string(value)
        raise ManifestError(f"{place}: {field}", problem)
    return value


def _name(document: dict[str, Any], kind: str, place: str, group: str) -> str:
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        problem = "is missing" if metadata is None else f"{shown(metadata)} is not an object"
        raise ManifestError(f"{place}: metadata", problem)
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not is_name(name):
        rule = f"lower case letters, digits, '-' and '.', up to {NAME_LENGTH} of them"
        problem = "is missing" if name is None else f"{shown(name)} is not a name, which has {rule}"
        raise ManifestError(f"{place}: metadata.name", problem)
    if namespace is not None and not (isinstance(namespace, str) and (not namespace or is_namespace(namespace))):
        raise ManifestError(f"{place}/{name}: metadata.namespace", f"{shown(namespace)} is not {NAMESPACE_RULE}")
    if group == "" and kind == "Service" and ("." in name or len(name) > 63 or not name[0].isalpha()):
        rule = "lower case letters, digits and '-', beginning with a letter, up to 63 of them"
        raise ManifestError(f"{place}: metadata.name", f"{shown(name)} is not the name of a Service, which has {rule}")
    labels = metadata.get("labels")
    if labels is not None and (
        not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values())
    ):
        raise ManifestError(f"{place}/{name}: metadata.labels", "is not an object of strings: put the values in quotes")
    return name


def _check_kind(manifest: Manifest, api_version: str) -> None:
    """Refuse a kind or a version that its API does not have; what other APIs have is not known here.

    They may have kinds of the same names: a Service is also Knative's, a VirtualService also App Mesh's.
    """
    groups = {group for group, _ in KINDS}
    kinds = [kind for group, kind in KINDS if group == manifest.group]
    versions = KINDS.get((manifest.group, manifest.kind))
    if versions is None:
        near = suggestion(manifest.kind, kinds)
        elsewhere = [group for group, kind in KINDS if kind == manifest.kind]
        is_other = "." in manifest.group and manifest.group not in groups and not suggestion(manifest.group, elsewhere)
        if near:
            raise ManifestError(f"{manifest.place}: kind", f"{shown(manifest.kind)} is unknown{near}")
        if elsewhere and not is_other:
            right = f"{elsewhere[0]}/{KINDS[elsewhere[0], manifest.kind][0]}".removeprefix("/")
            raise ManifestError(
                f"{manifest.place}: apiVersion", f"{shown(api_version)} has no {manifest.kind}, which is of {right}"
            )
    elif manifest.version not in versions:
        names = ", ".join(f"{manifest.group}/{version}".removeprefix("/") for version in versions)
        raise ManifestError(f"{manifest.place}: apiVersion", f"{shown(api_version)} is not served, only {names}")
