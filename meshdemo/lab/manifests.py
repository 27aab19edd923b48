"""Reading files of Kubernetes objects as kubectl does: YAML or JSON, several documents, lists, folders."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

#: The only namespace there is here.
NAMESPACE = "default"
#: What `-f -` reads.
STDIN = Path("-")

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
    ("apps", "Deployment"): ("v1",),
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
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
# An object that an API server stores may have some 1.5 MiB; a file of more than this is none of ours.
_FILE_LIMIT_BYTES = 2 * 1024 * 1024
# Aliases can make a small file a large document, even one without an end.
_VALUE_LIMIT = 100_000
_DEPTH_LIMIT = 100
_SHOWN_LENGTH = 40
# RFC 1123 as Kubernetes has it ("Object Names and IDs"): no such name leads anywhere as a part of a path.
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_LENGTH = 253


class ManifestError(Exception):
    """Something in a manifest that cannot be, or is not supported here; `str()` begins with its place."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")
        self.place = place


@dataclass(frozen=True)
class Manifest:
    """One object: the file it is from, the line where it begins, and the document as it stands there."""

    path: Path
    line: int
    group: str
    version: str
    kind: str
    name: str
    document: dict[str, Any]

    @property
    def id(self) -> tuple[str, str, str]:
        """Return what tells it from all others: group, kind and name."""
        return self.group, self.kind, self.name

    @property
    def label(self) -> str:
        """Return kind and name, as `VirtualService/webserver`."""
        return f"{self.kind}/{self.name}"

    @property
    def place(self) -> str:
        """Return where it is, as `k8s/istio/split.yaml: VirtualService/webserver`."""
        return f"{shown_path(self.path)}: {self.label}"


def shown_path(path: Path) -> str:
    """Return a path as a person gave it."""
    return "standard input" if path == STDIN else str(path)


def shown(value: Any) -> str:
    """Return a value of a file for an error, short whatever it holds."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "..."


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean X?` for a word that is nearly one of `known`, else nothing."""
    lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word.lower(), lower, 1, 0.7)
    return f", did you mean {lower[near[0]]}?" if near else ""


def files_of(paths: Iterable[Path]) -> list[Path]:
    """Return the files that `-f` means: a file itself, of a folder its YAML and JSON files in order."""
    files: list[Path] = []
    for path in paths:
        try:
            if path.is_dir():
                files += sorted(inner for inner in path.iterdir() if inner.suffix in _SUFFIXES and inner.is_file())
                continue
        except OSError:
            pass  # reading it will say why
        files.append(path)
    return files


class Loader:
    """Reads the files of `paths` again and again; standard input only once, since it cannot be read twice."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._stdin: str | None = None
        #: The files as they were read last, by the name that a person gave.
        self.texts: dict[str, str] = {}

    def load(self) -> tuple[list[Manifest], list[str]]:
        """Return the objects of all files, and a note for each that another of the same name replaces.

        As with kubectl the later one counts. Raise ManifestError with the place of the first problem.
        """
        manifests: dict[tuple[str, str, str], Manifest] = {}
        notes = []
        texts = {}
        for path in files_of(self.paths):
            texts[shown_path(path)] = text = self._read(path)
            for manifest in _parse(path, text):
                earlier = manifests.pop(manifest.id, None)
                if earlier is not None:
                    notes.append(f"{earlier.place}: replaced by the one in {shown_path(manifest.path)}")
                manifests[manifest.id] = manifest
        self.texts = texts
        return list(manifests.values()), notes

    def _read(self, path: Path) -> str:
        try:
            if path == STDIN:
                if self._stdin is None:
                    self._stdin = sys.stdin.read(_FILE_LIMIT_BYTES + 1)
                text = self._stdin
            else:
                if not path.is_file():
                    raise ManifestError(str(path), "is not a file" if path.exists() else "does not exist")
                with path.open("rb") as file:
                    text = file.read(_FILE_LIMIT_BYTES + 1).decode("utf-8-sig")
        except OSError as error:
            raise ManifestError(str(path), f"cannot be read: {(error.strerror or str(error)).lower()}") from None
        except UnicodeError:
            raise ManifestError(shown_path(path), "not YAML: not encoded in UTF-8") from None
        if len(text) > _FILE_LIMIT_BYTES:
            raise ManifestError(shown_path(path), f"holds more than {_FILE_LIMIT_BYTES // 1024**2} MiB")
        return text


class _Yaml(yaml.SafeLoader):
    """YAML without what JSON does not have, as kubectl reads it: no dates, no sets, no key twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > _VALUE_LIMIT:
            raise yaml.constructor.ConstructorError(None, None, "merges too much", node.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge":
                if not isinstance(key, yaml.ScalarNode):
                    raise yaml.constructor.ConstructorError(None, None, "a key is not a text", key.start_mark)
                if key.value in names:
                    problem = f"the key {shown(key.value)} stands there twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                names.add(key.value)
        return super().construct_mapping(node, deep)


for _tag in ("binary", "omap", "pairs", "set", "timestamp"):
    _Yaml.add_constructor(f"tag:yaml.org,2002:{_tag}", _Yaml.construct_undefined)  # type: ignore[type-var]


def _parse(path: Path, text: str) -> list[Manifest]:
    """Return the objects of a text."""
    place = shown_path(path)
    documents: list[tuple[int, Any]] = []
    loader = _Yaml(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                documents.append((node.start_mark.line + 1, loader.construct_document(node)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{place}, line {mark.line + 1}" if mark else place
        raise ManifestError(where, f"not YAML: {getattr(error, 'problem', None) or 'unreadable'}") from None
    except RecursionError:
        raise ManifestError(place, "not YAML that can be read: it is nested too deep") from None
    except (ValueError, OverflowError, ArithmeticError, TypeError, AttributeError):
        line = loader.line + 1  # what a tag promises is not what stands there
        raise ManifestError(
            f"{place}, up to line {line}", "not YAML: a value is not of the type it is said to be"
        ) from None
    finally:
        loader.dispose()
    manifests = []
    for line, document in documents:
        value = _plain(document, f"{place}, line {line}")
        if value is not None:
            manifests += _objects(path, line, value)
    return manifests


def _plain(document: Any, place: str) -> Any:
    """Return a document with texts as keys, and refuse what JSON cannot hold, or too much of it."""
    left = _VALUE_LIMIT

    def plain(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > _DEPTH_LIMIT:
            raise ManifestError(place, "holds too much: aliases may repeat a value without end")
        if isinstance(value, dict):
            return {_key(key, place): plain(inner, depth + 1) for key, inner in value.items()}
        if isinstance(value, list):
            return [plain(inner, depth + 1) for inner in value]
        if isinstance(value, float) and not math.isfinite(value):
            raise ManifestError(place, f"{value} is not a number that JSON can hold")
        return value

    return plain(document, 0)


def _key(key: Any, place: str) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    if isinstance(key, (str, int)):
        return str(key)
    raise ManifestError(place, f"the key {shown(key)} is not a text")


def _objects(path: Path, line: int, document: Any) -> list[Manifest]:
    """Return the object that a document is, or those of a List."""
    place = f"{shown_path(path)}, line {line}"
    if not isinstance(document, dict):
        raise ManifestError(place, f"{shown(document)} is not an object with apiVersion and kind")
    api_version, kind = (_text(document, field, place) for field in ("apiVersion", "kind"))
    if kind == "List" and api_version == "v1":
        items = document.get("items") or []
        if not isinstance(items, list):
            raise ManifestError(f"{place}: List: items", f"{shown(items)} is not a list")
        return [manifest for item in items for manifest in _objects(path, line, item)]
    group, slash, version = api_version.rpartition("/")
    name = _name(document, kind, f"{place}: {shown(kind)[1:-1]}", group if slash else "")
    manifest = Manifest(path, line, group, version, kind, name, document)
    _check_kind(manifest, api_version)
    return [manifest]


def _text(document: dict[str, Any], field: str, place: str) -> str:
    value = document.get(field)
    if not isinstance(value, str) or not value:
        raise ManifestError(f"{place}: {field}", "is missing" if value is None else f"{shown(value)} is not a text")
    return value


def _name(document: dict[str, Any], kind: str, place: str, group: str) -> str:
    metadata = document.get("metadata")
    if metadata is None and kind == "Kustomization":
        return "kustomization"
    if not isinstance(metadata, dict):
        problem = "is missing" if metadata is None else f"{shown(metadata)} is not an object"
        raise ManifestError(f"{place}: metadata", problem)
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not _SUBDOMAIN.fullmatch(name) or len(name) > _NAME_LENGTH:
        rule = f"lower case letters, digits, '-' and '.', up to {_NAME_LENGTH} of them"
        problem = "is missing" if name is None else f"{shown(name)} is not a name, which has {rule}"
        raise ManifestError(f"{place}: metadata.name", problem)
    if namespace not in (None, NAMESPACE):
        problem = f"{shown(namespace)}: there is only the namespace {NAMESPACE} here"
        raise ManifestError(f"{place}/{name}: metadata.namespace", problem)
    if group == "" and kind == "Service" and ("." in name or len(name) > 63 or not name[0].isalpha()):
        rule = "lower case letters, digits and '-', beginning with a letter, up to 63 of them"
        raise ManifestError(f"{place}: metadata.name", f"{shown(name)} is not the name of a Service, which has {rule}")
    labels = metadata.get("labels")
    if labels is not None and (
        not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values())
    ):
        raise ManifestError(f"{place}/{name}: metadata.labels", "is not an object of texts")
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
