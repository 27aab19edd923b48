"""Reading files of Kubernetes objects as kubectl does: YAML or JSON, several documents, lists, folders."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from meshdemo.lab.files.errors import ManifestError, raise_all
from meshdemo.lab.files.kinds import KINDS, NAMESPACE
from meshdemo.lab.files.manifest import Manifest, locate
from meshdemo.lab.files.objects import parse_objects
from meshdemo.lab.files.repositories import MOST_NAMED, Others
from meshdemo.lab.files.sources import SILENT_SECONDS, SourceError, Sources, files_of, shown_path

#: Takes a line for the person at the terminal.
Say = Callable[[str], object]

# Of kinds without a namespace only those that are read; others make no difference.
_CLUSTER_SCOPED = {"Namespace", "GatewayClass"}


def unheard(_line: str) -> None:
    """Take a line for those who do not listen."""


def say_no_answer(path: Path, say: Say) -> None:
    """Say that a file is waited for."""
    say(f"{shown_path(path)} gives no answer for {SILENT_SECONDS:g} s; it is waited for, and edits with it")


def note_of(error: ManifestError) -> str:
    """Return the note on an object that is left out for an error."""
    return f"left out: {error}"


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
        #: Notes on what was passed over then.
        self.passed_over: tuple[str, ...] = ()
        #: What was wrong with what was left out then.
        self.left_out: list[ManifestError] = []
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
        notes = []
        errors: list[ManifestError] = []
        read = {path: self._read(path) for path in files_of(self.paths)}
        others = Others({path: text for path, text in read.items() if path not in self.paths and isinstance(text, str)})
        texts = {}
        for path, text in read.items():
            if isinstance(text, ManifestError):
                errors.append(text)
                continue
            if path not in self.paths and others.has(path, text):
                continue
            found, problems = parse_objects(path, text)
            if found or not problems:
                texts[shown_path(path)] = text
            errors += problems
            for manifest in (_in_namespace(each, self._namespace) for each in found):
                earlier = manifests.pop(manifest.id, None)
                is_known = (manifest.group, manifest.kind) in KINDS
                if earlier is not None and earlier.document != manifest.document and is_known:
                    notes.append(f"{earlier.place}: replaced by the one in {shown_path(manifest.path)}")
                manifests[manifest.id] = manifest
        self.texts, self._manifests = texts, list(manifests.values())
        if not self._skip_invalid:
            raise_all(errors)
        if len(notes) > MOST_NAMED:
            notes[MOST_NAMED:] = [f"{len(notes) - MOST_NAMED} more objects are replaced by those of later files"]
        self.left_out = errors
        notes += map(note_of, errors)
        self.passed_over = tuple(others.notes())
        return list(manifests.values()), [*notes, *self.passed_over]

    def _read(self, path: Path) -> str | ManifestError:
        """Return the text of a file, or why it cannot be read."""

        def tell() -> None:
            self.silent = path
            say_no_answer(path, self._say)

        timer = threading.Timer(SILENT_SECONDS, tell)
        timer.daemon = True
        timer.start()
        try:
            return self._sources.read(path)
        except SourceError as error:
            return ManifestError(shown_path(path), str(error))
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
