"""Leaving out what a cluster makes itself, or has of its own: objects that were read out of one hold both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from meshdemo.lab.cluster.injected import without_sidecar
from meshdemo.lab.files.kinds import NAMESPACE, SYSTEM
from meshdemo.lab.files.manifest import Manifest

# The namespaces of Kubernetes' own programs begin so.
_OWN_NAMESPACES = ("kube-", "local-path-storage")
# Those whose objects are read for pods and Services.
_MAKERS = {"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Rollout"}
_WITH_PODS = _MAKERS | {"Pod"}
_KINDS = _WITH_PODS | {"Service", "Endpoints", "EndpointSlice"}
# What installs Istio itself.
_ISTIOD_LABELS = {("app", "istiod"), ("istio", "pilot"), ("k8s-app", "istio-cni-node")}


def without_managed(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Return the objects that others of them do not make and that are no part of Kubernetes or Istio.

    Their pods are without sidecars.
    """
    makers = {(each.namespace, each.kind, each.name) for each in manifests if each.kind in _MAKERS}
    kept = [each for each in manifests if each.kind not in _KINDS or not (_is_own(each) or _is_made(each, makers))]
    return [_plain(each) if each.kind in _WITH_PODS else each for each in kept]


def _plain(manifest: Manifest) -> Manifest:
    document = without_sidecar(manifest)
    return manifest if document is manifest.document else dataclasses.replace(manifest, document=document)


def _is_own(manifest: Manifest) -> bool:
    """Return whether an object is one of Kubernetes' own, or of Istio's control plane."""
    if manifest.namespace.startswith(_OWN_NAMESPACES):
        return True
    if manifest.kind != "Pod" and (manifest.namespace, manifest.name) == (NAMESPACE, "kubernetes"):
        return True
    labels = manifest.document["metadata"].get("labels") or {}
    return manifest.namespace == SYSTEM and not _ISTIOD_LABELS.isdisjoint(labels.items())


def _is_made(manifest: Manifest, makers: set[tuple[str, str, str]]) -> bool:
    """Return whether another object made this one; that of a Job is made in any case, since none is run."""
    owners = manifest.document["metadata"].get("ownerReferences")
    for owner in owners if isinstance(owners, list) else ():
        kind, name = _text(owner, "kind"), _text(owner, "name")
        # A ReplicaSet that a Deployment or a Rollout made has its name with a hash behind it.
        above = {(manifest.namespace, maker, name.rpartition("-")[0]) for maker in ("Deployment", "Rollout")}
        is_there = (manifest.namespace, kind, name) in makers or (kind == "ReplicaSet" and bool(above & makers))
        if kind == "Job" or is_there or (kind == "Service" and manifest.kind == "EndpointSlice"):
            return True
    return False


def _text(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""
