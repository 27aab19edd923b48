"""Reading files of Kubernetes objects as kubectl does: YAML or JSON, several documents, lists, folders."""

from __future__ import annotations

import dataclasses
import difflib
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshdemo.escaping import printable_message
from meshdemo.lab.files import documents
from meshdemo.lab.files.documents import not_a_string as not_a_string
from meshdemo.lab.files.documents import shown as shown
from meshdemo.lab.files.sources import SILENT_SECONDS, SourceError, Sources
from meshdemo.lab.files.sources import STDIN as STDIN
from meshdemo.lab.files.sources import files_of as files_of
from meshdemo.lab.files.sources import shown_path as shown_path

#: Takes a line for the person at the terminal.
Say = Callable[[str], object]

#: The namespace of objects that name none.
NAMESPACE = "default"
#: Where Istio's own gateways run, and look for the Secrets with their certificates.
SYSTEM = "istio-system"

ISTIO = "networking.istio.io"
SECURITY = "security.istio.io"
TELEMETRY = "telemetry.istio.io"
GATEWAY_API = "gateway.networking.k8s.io"

_ISTIO_VERSIONS = ("v1", "v1beta1", "v1alpha3")
#: The kinds that are known here, with the versions that Kubernetes, Istio and the Gateway API serve them in.
KINDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Service"): ("v1",),
    ("", "ServiceAccount"): ("v1",),
    ("", "Namespace"): ("v1",),
    ("", "ConfigMap"): ("v1",),
    ("", "Secret"): ("v1",),
    ("", "Pod"): ("v1",),
    ("", "Endpoints"): ("v1",),
    ("discovery.k8s.io", "EndpointSlice"): ("v1",),
    **{("apps", kind): ("v1",) for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")},
    **{(ISTIO, kind): _ISTIO_VERSIONS for kind in ("VirtualService", "DestinationRule", "ServiceEntry", "Gateway")},
    **{(ISTIO, kind): _ISTIO_VERSIONS for kind in ("Sidecar", "WorkloadEntry", "WorkloadGroup")},
    (ISTIO, "EnvoyFilter"): ("v1alpha3",),
    (ISTIO, "ProxyConfig"): ("v1beta1",),
    **{(SECURITY, kind): ("v1", "v1beta1") for kind in ("PeerAuthentication", "AuthorizationPolicy")},
    (SECURITY, "RequestAuthentication"): ("v1", "v1beta1"),
    (TELEMETRY, "Telemetry"): ("v1", "v1alpha1"),
    ("extensions.istio.io", "WasmPlugin"): ("v1alpha1",),
    **{(GATEWAY_API, kind): ("v1", "v1beta1") for kind in ("Gateway", "HTTPRoute", "GatewayClass")},
    (GATEWAY_API, "GRPCRoute"): ("v1",),
    (GATEWAY_API, "ReferenceGrant"): ("v1", "v1beta1"),
    (GATEWAY_API, "TLSRoute"): ("v1", "v1alpha3", "v1alpha2"),
    (GATEWAY_API, "TCPRoute"): ("v1", "v1alpha2"),
    (GATEWAY_API, "BackendTLSPolicy"): ("v1", "v1alpha3"),
}
# RFC 1123 as Kubernetes has it ("Object Names and IDs"): no such name leads anywhere as a part of a path.
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_LENGTH = 253
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
NAMESPACE_RULE = "the name of a namespace, which has lower case letters, digits and '-', up to 63 of them"
# Of kinds without a namespace only those that are read; others make no difference.
_CLUSTER_SCOPED = {"Namespace", "GatewayClass"}
_ADDED = {"managedFields", "resourceVersion", "uid", "generation", "selfLink"}
# How many files that are no manifests are named.
_MOST_NAMED = 5
_KIND = re.compile(r"""^(?:- |\s|[{,])*["']?kind["']?\s*:""", re.MULTILINE)
_TEMPLATE = re.compile(r"\{\{[-\s]*(?:[.$]|if |include |range |with |template |end |define |/\*)")
_FIELD = re.compile(r"\[?((?:spec|metadata)[^\s:]*): ")
_WORD = re.compile(r"[A-Za-z0-9][-A-Za-z0-9./]{0,300}")


class ManifestError(Exception):
    """Something in a manifest that cannot be, or is not supported here; `str()` begins with its place.

    `hint` says what to do about it. `line` and `column`, from 1, are those of the field, once `Loader.locate` has found
    it in the `file`.
    """

    def __init__(self, place: str, problem: str, hint: str = "") -> None:
        super().__init__(place, problem, hint)
        self.place = place
        self.problem = problem
        self.hint = hint
        self.file: str | None = None
        self.line: int | None = None
        self.column: int | None = None

    def __str__(self) -> str:
        place = self.place
        if self.file is not None and self.line is not None:
            place = f"{self.file}, line {self.line}, column {self.column}{place.removeprefix(self.file)}"
        return printable_message(": ".join(filter(None, (place, self.problem, self.hint))))

    @property
    def errors(self) -> tuple[ManifestError, ...]:
        """Return each error of several, of one itself."""
        return (self,)


class SeveralError(ManifestError):
    """Several errors, each a line of `str()`, and the hint that all of them have in a last one."""

    def __init__(self, errors: Sequence[ManifestError]) -> None:
        super().__init__(errors[0].place, errors[0].problem, errors[0].hint)
        self._errors = tuple(errors)

    def __str__(self) -> str:
        hints = {error.hint for error in self._errors}
        if len(hints) > 1 or not self.hint:
            return "\n".join(map(str, self._errors))
        lines = [str(error).removesuffix(f": {self.hint}") for error in self._errors]
        return "\n".join([*lines, f"for each of these: {self.hint}"])

    @property
    def errors(self) -> tuple[ManifestError, ...]:
        return self._errors


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
    def labels(self) -> dict[str, str]:
        """Return its labels."""
        return dict((self.document.get("metadata") or {}).get("labels") or {})

    @property
    def annotations(self) -> dict[str, str]:
        """Return its annotations."""
        annotations = (self.document.get("metadata") or {}).get("annotations")
        return dict(annotations) if isinstance(annotations, dict) else {}

    @property
    def place(self) -> str:
        """Return where it is, as `k8s/istio/split.yaml: VirtualService/webserver`."""
        return f"{shown_path(self.path)}: {self.label}"


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean X?` for a word that is nearly one of `known`, else nothing."""
    lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word.lower(), lower, 1, 0.7)
    return f", did you mean {lower[near[0]]}?" if near else ""


def unheard(_line: str) -> None:
    """Take a line for those who do not listen."""


def say_no_answer(path: Path, say: Say) -> None:
    """Say that a file is waited for."""
    say(f"{shown_path(path)} gives no answer for {SILENT_SECONDS:g} s; it is waited for, and edits with it")


def is_namespace(name: str) -> bool:
    """Return whether a namespace can have this name."""
    return _LABEL.fullmatch(name) is not None


def raise_all(errors: Sequence[ManifestError]) -> None:
    """Raise errors, several at once; do nothing where there are none."""
    if errors:
        raise errors[0] if len(errors) == 1 else SeveralError(errors)


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
            found, problems = _parse(path, text)
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


# What each file held when it was read last, and its objects: most files are as they were at the next edit or lesson.
_read: dict[Path, tuple[str, tuple[list[Manifest], list[ManifestError]]]] = {}


def _parse(path: Path, text: str) -> tuple[list[Manifest], list[ManifestError]]:
    """Return the objects of a text and what is wrong, the same ones as long as the file holds the same text."""
    known = _read.get(path)
    if known is None or known[0] != text:
        known = _read[path] = text, _parse_text(path, text)
    return known[1]


def _parse_text(path: Path, text: str) -> tuple[list[Manifest], list[ManifestError]]:
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


def _is_no_manifest(text: str) -> bool:
    """Return whether a file without any object is something else: a template of Helm's, or without any kind."""
    return bool(_TEMPLATE.search(text)) or not _KIND.search(text)


def _objects(path: Path, line: int, document: Any, errors: list[ManifestError]) -> list[Manifest]:
    """Return the object that a document is, or those of a List, of which what is wrong is added to `errors`."""
    place = f"{shown_path(path)}, line {line}"
    if not isinstance(document, dict):
        raise ManifestError(place, f"{shown(document)} is not an object with apiVersion and kind")
    api_version, kind = (_text(document, field, place) for field in ("apiVersion", "kind"))
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
    group, slash, version = api_version.rpartition("/")
    name = _name(document, kind, f"{place}: {kind}", group if slash else "")
    manifest = Manifest(path, line, group, version, kind, name, _as_applied(document))
    _check_kind(manifest, api_version)
    return [manifest]


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
    if metadata is None and (group, kind) not in KINDS:
        return kind.lower()  # of what other tools read, such as a Kustomization
    if not isinstance(metadata, dict):
        problem = "is missing" if metadata is None else f"{shown(metadata)} is not an object"
        raise ManifestError(f"{place}: metadata", problem)
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or len(name) > _NAME_LENGTH or not _SUBDOMAIN.fullmatch(name):
        rule = f"lower case letters, digits, '-' and '.', up to {_NAME_LENGTH} of them"
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
    """Refuse a kind or a version that its API does not have; what other APIs have is not known here."""
    kinds = [kind for group, kind in KINDS if group == manifest.group]
    versions = KINDS.get((manifest.group, manifest.kind))
    if versions is None:
        near = suggestion(manifest.kind, kinds)
        elsewhere = [group for group, kind in KINDS if kind == manifest.kind]
        if near:
            raise ManifestError(f"{manifest.place}: kind", f"{shown(manifest.kind)} is unknown{near}")
        if elsewhere:
            right = f"{elsewhere[0]}/{KINDS[elsewhere[0], manifest.kind][0]}".removeprefix("/")
            raise ManifestError(
                f"{manifest.place}: apiVersion", f"{shown(api_version)} has no {manifest.kind}, which is of {right}"
            )
    elif manifest.version not in versions:
        names = ", ".join(f"{manifest.group}/{version}".removeprefix("/") for version in versions)
        raise ManifestError(f"{manifest.place}: apiVersion", f"{shown(api_version)} is not served, only {names}")
