"""Objects of kinds that are not known here: which make no difference to calls, and which only a cluster knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshdemo.lab.files.kinds import GATEWAY_API, KINDS
from meshdemo.lab.files.manifest import Manifest

# What makes a pod one that Helm or Argo run at an event, such as a test.
_HOOKS = ("helm.sh/hook", "argocd.argoproj.io/hook")
# No more of a kind are named, but counted.
_MOST_OF_KIND = 2
# Objects that make no difference to calls on this machine, by group; of others only a cluster knows what they do.
_SILENT = {
    "": {"ServiceAccount", "Namespace", "ConfigMap", "Secret", "Event", "LimitRange", "Node", "PersistentVolume"}
    | {"PersistentVolumeClaim", "ResourceQuota"},
    "apps": {"ControllerRevision"},
    GATEWAY_API: {"GatewayClass", "ReferenceGrant"},
    "autoscaling": {"HorizontalPodAutoscaler"},
    "kustomize.config.k8s.io": {"Kustomization", "Component"},
    "policy": {"PodDisruptionBudget"},
    "rbac.authorization.k8s.io": {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"},
    "apiextensions.k8s.io": {"CustomResourceDefinition"},
    "scheduling.k8s.io": {"PriorityClass"},
    "storage.k8s.io": {"StorageClass"},
}

# Held policies and telemetry until Istio 1.6 and 1.8 (istio.io, "Migrate pre-Istio 1.4 Alpha security policy to the
# current APIs"; "Mixer").
_GONE = {"authentication.istio.io", "rbac.istio.io", "config.istio.io"}


def is_silent(manifest: Manifest) -> bool:
    """Return whether an object makes no difference to calls on this machine, so that there is nothing to say of it."""
    return manifest.kind in _SILENT.get(manifest.group, ())


def is_hook(manifest: Manifest) -> bool:
    """Return whether an object is a pod that is run at an event, and then ends."""
    return manifest.kind == "Pod" and any(name in manifest.annotations for name in _HOOKS)


def notes_of(unknown: Sequence[Manifest]) -> list[str]:
    """Return what there is to say of objects of kinds that are not known here."""
    gone = [manifest for manifest in unknown if manifest.group in _GONE]
    told = [manifest for manifest in unknown if manifest.group not in _GONE and not is_silent(manifest)]
    notes = [f"not applied, since Istio has these kinds no more: {names_of(gone)}"] if gone else []
    return notes + ([f"not applied here, since only a cluster knows them: {names_of(told)}"] if told else [])


def names_of(manifests: Iterable[Manifest]) -> str:
    """Return objects by their names, and of kinds with many objects how many these are."""
    labels: dict[str, list[str]] = {}
    for manifest in manifests:
        # A kind that Kubernetes or Istio have, too, is told with its group, as kubectl names it.
        is_also_known = any(manifest.kind == kind and manifest.group != group for group, kind in KINDS)
        group = f".{manifest.group}" if is_also_known else ""
        label = manifest.label.replace("/", f"{group}/", 1)
        labels.setdefault(f"{manifest.kind}{group}", []).append(label)
    return ", ".join(
        label
        for kind, found in labels.items()
        for label in (found if len(found) <= _MOST_OF_KIND else [f"{len(found)} of kind {kind}"])
    )
