"""Reading files of Kubernetes objects as kubectl does: YAML or JSON, several documents, lists, folders."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from meshdemo.lab.files.errors import ManifestError, raise_all
from meshdemo.lab.files.kinds import NAMESPACE
from meshdemo.lab.files.manifest import Manifest, locate
from meshdemo.lab.files.objects import parse_objects
from meshdemo.lab.files.sources import SILENT_SECONDS, SourceError, Sources, files_of, shown_path

#: Takes a line for the person at the terminal.
Say = Callable[[str], object]

# Of kinds without a namespace only those that are read; others make no difference.
_CLUSTER_SCOPED = {"Namespace", "GatewayClass"}
# How many files that are no manifests are named.
_MOST_NAMED = 5
_KIND = re.compile(r"""^(?:- |\s|[{,])*["']?kind["']?\s*:""", re.MULTILINE)
_TEMPLATE = re.compile(r"\{\{[-\s]*(?:[.$]|if |include |range |with |template |end |define |/\*)")


def unheard(_line: str) -> None:
    """Take a line for those who do not listen."""


def say_no_answer(path: Path, say: Say) -> None:
    """Say that a file is waited for."""
    say(f"{shown_path(path)} gives no answer for {SILENT_SECONDS:g} s; it is waited for, and edits with it")


class Loader:
    """Reads the files of `paths` again and again; what cannot be read twice is read once (see Sources).

    `say` is told of a file that takes long; `silent` is that file, for as long as it does. Objects that name no
    namespace are in `namespace`. With `skip_invalid` what cannot be read is told in a note.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        say: Say = unheard,
        sources: Sources | None = None,
        *,
        namespace: str = NAMESPACE,
        skip_invalid: bool = False,
    ) -> None:
        self.paths = tuple(paths)
        self.silent: Path | None = None
        self._say = say
        self._sources = sources or Sources()
        self._namespace = namespace
        self._skip_invalid = skip_invalid
        #: The files as they were read last, by the name that a person gave.
        self.texts: dict[str, str] = {}
        self._manifests: list[Manifest] = []

    def anew(self) -> Loader:
        """Return another one, for when this one does not end."""
        return Loader(self.paths, self._say, self._sources, namespace=self._namespace, skip_invalid=self._skip_invalid)

    def locate(self, error: ManifestError) -> None:
        """Tell an error about a field of what was read last where the field stands, as far as that can be found."""
        for each in error.errors:
            locate(each, self._manifests, self.texts)

    def load(self) -> tuple[list[Manifest], list[str]]:
        """Return the objects of all files, and a note for each that another of the same name replaces.

        As with kubectl the later one counts. What a folder holds that is no manifest is named in one note. Raise
        ManifestError with the places of all problems.
        """
        manifests: dict[tuple[str, str, str, str], Manifest] = {}
        notes, others = [], []
        errors: list[ManifestError] = []
        texts = {}
        for path in files_of(self.paths):
            try:
                text = self._read(path)
            except SourceError as error:
                errors.append(ManifestError(shown_path(path), str(error)))
                continue
            found, problems = parse_objects(path, text)
            if path not in self.paths and not found and _is_no_manifest(text):
                others.append(shown_path(path))
                continue
            if found or not problems:
                texts[shown_path(path)] = text
            errors += problems
            for manifest in (_in_namespace(each, self._namespace) for each in found):
                earlier = manifests.pop(manifest.id, None)
                if earlier is not None and earlier.document != manifest.document:
                    notes.append(f"{earlier.place}: replaced by the one in {shown_path(manifest.path)}")
                manifests[manifest.id] = manifest
        self.texts, self._manifests = texts, list(manifests.values())
        if not self._skip_invalid:
            raise_all(errors)
        notes += [f"left out: {error}" for error in errors]
        if others:
            more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
            notes.append(f"passed over, since they are no manifests: {', '.join(others[:_MOST_NAMED])}{more}")
        return list(manifests.values()), notes

    def _read(self, path: Path) -> str:
        def tell() -> None:
            self.silent = path
            say_no_answer(path, self._say)

        timer = threading.Timer(SILENT_SECONDS, tell)
        timer.daemon = True
        timer.start()
        try:
            return self._sources.read(path)
        finally:
            timer.cancel()
            self.silent = None


def _in_namespace(manifest: Manifest, namespace: str) -> Manifest:
    """Return an object that is in a namespace unless it names another one."""
    metadata = manifest.document.get("metadata")
    if namespace == NAMESPACE or manifest.kind in _CLUSTER_SCOPED or (metadata or {}).get("namespace"):
        return manifest
    document = {**manifest.document, "metadata": {**(metadata or {}), "namespace": namespace}}
    return dataclasses.replace(manifest, document=document)


def _is_no_manifest(text: str) -> bool:
    """Return whether a file without any object is something else: a template of Helm's, or without any kind."""
    return bool(_TEMPLATE.search(text)) or not _KIND.search(text)
