"""Which pods have a sidecar, and taking out of pods what Istio's injection has put into those of a cluster.

See Istio, "Installing the Sidecar", and pkg/kube/inject, which also turns probes into calls of the sidecar's agent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from meshdemo.lab.cluster.model import INJECT_LABEL
from meshdemo.lab.files.manifest import Manifest

#: The name of the sidecar's container; that of a gateway has the same, and is alone in its pod.
PROXY_CONTAINER = "istio-proxy"
_ADDED = {PROXY_CONTAINER, "istio-init", "istio-validation", "enable-core-dump"}
# What the injection writes down of itself.
_STATUS = "sidecar.istio.io/status"
# What the agent is told of the probes that it makes, by their paths, `/app-health/web/readyz`.
_PROBES = "ISTIO_KUBE_APP_PROBERS"
_PATHS = {"readinessProbe": "readyz", "livenessProbe": "livez", "startupProbe": "startupz"}
_INJECTION = "istio-injection"
# The labels of a namespace by which its pods are in the mesh.
_ASKS = {_INJECTION: "enabled", "istio.io/dataplane-mode": "ambient"}
_REVISION = "istio.io/rev"


@dataclass(frozen=True)
class Injection:
    """Where pods get sidecars: in no namespace of `disabled`, and in those of `unlabelled` only if they ask for one."""

    disabled: frozenset[str]
    unlabelled: frozenset[str]

    def has_sidecar(self, namespace: str, *, wanted: bool | None) -> bool:
        """Return whether a pod has one, by what it says of itself, None for nothing."""
        return namespace not in self.disabled and (namespace not in self.unlabelled if wanted is None else wanted)


def read_injection(manifests: Iterable[Manifest]) -> Injection:
    """Return where pods get sidecars by the labels of namespaces.

    Without one a namespace of a cluster gets none if others of it have one: a cluster where none has is no mesh yet.
    To a Namespace that is no cluster's somebody may still give one.
    """
    namespaces = [each for each in manifests if (each.group, each.kind) == ("", "Namespace")]
    asking = {each.name for each in namespaces if _asks(each.labels)}
    disabled = {each.name for each in namespaces if each.labels.get(_INJECTION) == "disabled"}
    known = {each.name for each in namespaces if _is_from_cluster(each.document)}
    return Injection(frozenset(disabled), frozenset(known - asking - disabled if known & asking else ()))


def _asks(labels: dict[str, str]) -> bool:
    return _REVISION in labels or any(labels.get(name) == value for name, value in _ASKS.items())


def _is_from_cluster(document: dict[str, Any]) -> bool:
    return bool(_object(document, "metadata").get("creationTimestamp"))


def without_sidecar(manifest: Manifest) -> dict[str, Any]:
    """Return an object with its pod, or the template of its pods, as that was before the injection.

    Whether a pod that was read out of a cluster has a sidecar is an annotation then. What is no pod, and what has
    other fields than it should, stays as it is.
    """
    document = manifest.document
    if manifest.kind == "Pod":
        return _plain(document, is_running=_is_from_cluster(document))
    spec = _object(document, "spec")
    template = _object(spec, "template")
    plain = _plain(template, is_running=False)
    return document if plain is template else {**document, "spec": {**spec, "template": plain}}


def _plain(pod: dict[str, Any], *, is_running: bool) -> dict[str, Any]:
    """Return a pod, or a template, without a sidecar."""
    spec = _object(pod, "spec")
    added = {name: each for key in ("initContainers", "containers") for name, each in _named(spec, key)}
    own = [each for name, each in _named(spec, "containers") if name not in _ADDED]
    if not own:
        return pod
    if _STATUS not in _object(_object(pod, "metadata"), "annotations"):
        return _marked(pod, "false") if is_running else pod
    probes = _probes(added.get(PROXY_CONTAINER, {}))
    first = [each for name, each in _named(spec, "initContainers") if name not in _ADDED]
    plain = {name: value for name, value in spec.items() if name != "initContainers"}
    if first:
        plain["initContainers"] = first
    plain["containers"] = [_with_probes(each, probes) for each in own]
    return _marked({**pod, "spec": plain}, "true")


def _marked(pod: dict[str, Any], inject: str) -> dict[str, Any]:
    metadata = _object(pod, "metadata")
    annotations = {**_object(metadata, "annotations"), INJECT_LABEL: inject}
    return {**pod, "metadata": {**metadata, "annotations": annotations}}


def _named(spec: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    """Return containers with their names, as far as they are any."""
    containers = spec.get(key)
    found = [each for each in containers if isinstance(each, dict)] if isinstance(containers, list) else []
    return [(str(each.get("name")), each) for each in found]


def _probes(sidecar: dict[str, Any]) -> dict[str, Any]:
    """Return the probes that a sidecar's agent makes, by their paths."""
    environment = sidecar.get("env")
    for each in environment if isinstance(environment, list) else ():
        if isinstance(each, dict) and each.get("name") == _PROBES:
            try:
                probes = json.loads(str(each.get("value")))
            except ValueError:
                return {}
            return probes if isinstance(probes, dict) else {}
    return {}


def _with_probes(container: dict[str, Any], probes: dict[str, Any]) -> dict[str, Any]:
    """Return a container with probes of itself instead of the sidecar's agent."""
    own = dict(container)
    for field, path in _PATHS.items():
        probe = probes.get(f"/app-health/{container.get('name')}/{path}")
        if isinstance(probe, dict) and isinstance(container.get(field), dict):
            how = {name: value for name, value in probe.items() if name in ("httpGet", "tcpSocket", "grpc")}
            rest = {name: value for name, value in container[field].items() if name != "httpGet"}
            own[field] = {**rest, **how}
    return own


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
