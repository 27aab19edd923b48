"""Reading what runs: Deployments and all else that makes pods, and the cluster that they are with their Services."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import TypeVar

from meshdemo.lab.cluster.gateways import Installed, read_gateways
from meshdemo.lab.cluster.injected import Injection, read_injection
from meshdemo.lab.cluster.managed import without_managed
from meshdemo.lab.cluster.model import ENDPOINTS, NETWORKS, POD_NETWORK, Cluster, Service
from meshdemo.lab.cluster.options import DEFAULT_OPTIONS, ReadOptions
from meshdemo.lab.cluster.pod_fields import LABELS, METADATA, ONLY_HERE, POD_SPEC, TEMPLATE
from meshdemo.lab.cluster.pods import Pod, Workload, matches, unique_name, within_namespace
from meshdemo.lab.cluster.services import check_endpoints, check_targets, keeps_callers, read_service
from meshdemo.lab.cluster.stand_ins import Behaviour, with_ports
from meshdemo.lab.cluster.template import read_template
from meshdemo.lab.cluster.unknown import is_hook, is_silent, names_of, notes_of
from meshdemo.lab.files.errors import ManifestError, only_these, raise_all
from meshdemo.lab.files.kinds import ARGO, KINDS
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.files.schema import Anything, Fields, Integer, Object, Text, Type, read

Result = TypeVar("Result")

# More processes than this are more than a machine is for.
_MOST_PODS = 100
# What a workload has at most where not all have what they want.
_MOST_OF_EACH = 10

_ROLLOUT = (ARGO, "Rollout")
_RUN_PODS = {
    ("", "Pod"),
    _ROLLOUT,
    *(("apps", kind) for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")),
}
_RUN = {("", "Service"), *ENDPOINTS, *_RUN_PODS}

_SELECTOR = Object({"matchLabels": LABELS, "matchExpressions": Anything()})
_COMMON: dict[str, Type] = {
    "selector": _SELECTOR,
    "template": TEMPLATE,
    "minReadySeconds": Anything(),
    "revisionHistoryLimit": Anything(),
}
_REPLICAS = Integer(0, 1_000_000)
_SPECS: dict[str, dict[str, Type]] = {
    "Deployment": {
        **_COMMON,
        "replicas": _REPLICAS,
        "strategy": Object({"type": Text(("RollingUpdate", "Recreate")), "rollingUpdate": Anything()}),
        "progressDeadlineSeconds": Anything(),
        "paused": Anything(),
    },
    "StatefulSet": {
        **_COMMON,
        "replicas": _REPLICAS,
        "ordinals": Object({"start": Integer(0)}),
        **dict.fromkeys(["serviceName", "podManagementPolicy", "updateStrategy", "volumeClaimTemplates"], Anything()),
        "persistentVolumeClaimRetentionPolicy": Anything(),
    },
    "DaemonSet": {**_COMMON, "updateStrategy": Anything()},
    "ReplicaSet": {**_COMMON, "replicas": _REPLICAS},
    "Rollout": {
        **_COMMON,
        "replicas": _REPLICAS,
        **dict.fromkeys(["strategy", "analysis", "progressDeadlineSeconds", "progressDeadlineAbort"], Anything()),
        **dict.fromkeys(["paused", "restartAt", "rollbackWindow"], Anything()),
    },
}


def read_cluster(
    manifests: Sequence[Manifest],
    networks: dict[str, int] | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Cluster:
    """Return the cluster that the manifests describe, or raise ManifestError with the places of all problems.

    `networks` remembers the number that a workload's pods have in their addresses, from one reading to the next.
    """
    networks = {} if networks is None else networks
    manifests = without_managed(manifests)
    hooks = [each for each in manifests if is_hook(each)]
    manifests = [each for each in manifests if not is_hook(each)]
    errors: list[ManifestError] = []
    number = itertools.count(1)
    services = _read_each(manifests, {("", "Service")}, lambda each: read_service(each, next(number)), errors)
    read_ones = _read_each(manifests, _RUN_PODS, lambda each: _workload(each, options.stand_ins), errors)
    _read_each(manifests, {("", "Endpoints")}, check_endpoints, errors)
    raise_all(errors)
    # Gateways have their pods and Services from their own objects.
    gateways = [workload for workload in read_ones if not workload.template.containers]
    installed = [_installed(workload, services) for workload in gateways]
    services = [service for service in services if not any(_selects(service, each) for each in gateways)]
    workloads = [with_ports(workload, services) for workload in read_ones if workload.template.containers]
    _check_stand_ins(workloads, options.stand_ins)
    workloads, bounded = _bounded(workloads, options.replicas)
    policies = [each for each in manifests if _kind(each) in KINDS and _kind(each) not in _RUN and not is_silent(each)]
    notes = notes_of([each for each in manifests if _kind(each) not in KINDS])
    rollouts = [each for each in manifests if _kind(each) == _ROLLOUT]
    notes += [f"run like Deployments, without their steps: {names_of(rollouts)}"] if rollouts else []
    notes += [f"not run here, since they are hooks of a tool: {names_of(hooks)}"] if hooks else []
    sticky = [each for each in manifests if _kind(each) == ("", "Service") and keeps_callers(each)]
    notes += [f"without effect, as between sidecars: sessionAffinity of {names_of(sticky)}"] if sticky else []
    notes += bounded
    injection = read_injection(manifests)
    silent = {workload.namespace for workload in workloads if workload.template.in_mesh is None}
    if outside := sorted(injection.unlabelled & silent):
        notes.append(f"outside the mesh, since nothing asks for sidecars there: namespace {', '.join(outside)}")
    of_gateways = read_gateways(policies, installed)
    theirs = {(each.namespace, each.service) for each in of_gateways}
    cluster = Cluster(
        workloads=tuple(workloads),
        pods=tuple(_pods(workloads, networks, injection)),
        services=tuple(each for each in services if (each.namespace, each.name) not in theirs),
        gateways=tuple(of_gateways),
        policies=tuple(policies),
        notes=tuple(notes),
        others=tuple(manifest for manifest in manifests if manifest not in policies),
    )
    check_targets(cluster)
    names = {pod.name for pod in cluster.pods}
    for gateway in cluster.gateways:
        if gateway.name in names:
            raise ManifestError(
                f"{gateway.manifests[0].place}: spec.selector", f"{gateway.name!r} is the name of a pod"
            )
    return cluster


def _kind(manifest: Manifest) -> tuple[str, str]:
    return manifest.group, manifest.kind


def _installed(workload: Workload, services: Iterable[Service]) -> Installed:
    """Return the workload of a gateway with the name of its Service: where there is none, with its own."""
    in_front = (service.name for service in services if _selects(service, workload))
    return Installed(next(in_front, within_namespace(workload.name, workload.namespace)), workload)


def _selects(service: Service, workload: Workload) -> bool:
    """Return whether a Service selects the pods of a workload."""
    is_near = service.namespace == workload.namespace
    return is_near and bool(service.selector) and matches(dict(workload.template.labels), service.selector)


def _read_each(
    manifests: Iterable[Manifest],
    kinds: Set[tuple[str, str]],
    reader: Callable[[Manifest], Result],
    errors: list[ManifestError],
) -> list[Result]:
    """Return what the objects of some kinds are read as; what is wrong with others is added to `errors`."""
    found = []
    for manifest in manifests:
        if _kind(manifest) in kinds:
            try:
                found.append(reader(manifest))
            except ManifestError as error:
                errors.append(error)
    return found


def _workload(manifest: Manifest, stand_ins: Mapping[str, Behaviour]) -> Workload:
    name = unique_name(manifest.name, manifest.namespace)
    if manifest.kind == "Pod":
        parts = {"metadata": read(manifest, METADATA, "metadata"), "spec": read(manifest, POD_SPEC)}
        fields = Fields(parts, manifest.place, frozenset(parts))
        template = read_template(fields, manifest.name, stand_ins.get(name))
        return Workload(name, manifest.place, 1, template, "Pod", namespace=manifest.namespace)
    if _kind(manifest) == _ROLLOUT and "workloadRef" in manifest.spec:
        problem = "is not supported here: give the Rollout the selector and the template of that workload"
        raise ManifestError(f"{manifest.place}: spec.workloadRef", problem)
    spec = read(manifest, Object(_SPECS[manifest.kind], ("selector", "template")))
    labels = spec["template"]["metadata"]["labels"]
    selector = spec["selector"]
    wanted = selector["matchLabels"]
    if not matches(labels, wanted) or not (wanted or selector["matchExpressions"]):
        raise spec.error("selector", "does not match the labels of template.metadata")
    replicas = 1 if spec.get("replicas") is None else spec["replicas"]
    template = read_template(spec["template"], manifest.name, stand_ins.get(name))
    first = 1
    if manifest.kind == "StatefulSet":
        first = (spec["ordinals"]["start"] or 0) if spec["ordinals"] else 0
    workload = Workload(name, manifest.place, replicas, template, manifest.kind, first, manifest.namespace)
    if manifest.kind == "Deployment" and not workload.stands_in:
        _check_rollout(spec)
    return workload


def _check_stand_ins(workloads: Sequence[Workload], stand_ins: Mapping[str, Behaviour]) -> None:
    """Raise ManifestError for the behaviour of what is no stand-in."""
    names = [workload.name for workload in workloads if workload.stands_in]
    for name in stand_ins:
        if name not in names:
            raise ManifestError(f"--stand-in {name}", f"no stand-in has this name, {only_these(name, names)}")


def _bounded(workloads: Sequence[Workload], most: int | None) -> tuple[list[Workload], list[str]]:
    """Return the workloads with at most so many pods each, and a note where these are not all.

    Without a number these are as many as the files say, if all together have room, else as many as have.
    """
    if most is None:
        numbers = (_MOST_PODS, *range(_MOST_OF_EACH, 1, -1))
        most = next((each for each in numbers if _count(workloads, each) <= _MOST_PODS), 1)
    count = _count(workloads, most)
    if count > _MOST_PODS:
        problem = f"makes {count} pods with those of all others, and this machine is for {_MOST_PODS}"
        raise ManifestError(f"{workloads[-1].place}: spec.replicas", problem)
    wanted = sum(workload.replicas for workload in workloads)
    found = [dataclasses.replace(each, replicas=min(each.replicas, most)) for each in workloads]
    note = f"{count} pods instead of {wanted}, at most {most} of each workload, are run here: --replicas sets how many"
    return found, [note] if count < wanted else []


def _count(workloads: Iterable[Workload], most: int) -> int:
    return sum(min(workload.replicas, most) for workload in workloads)


def _check_rollout(spec: Fields) -> None:
    """Raise ManifestError for what the lab does otherwise, where that could be seen."""
    if spec["strategy"] and spec["strategy"]["type"] == "Recreate":
        raise spec["strategy"].error("type", "'Recreate' is not supported here: RollingUpdate is")
    if spec["paused"]:
        raise spec.error("paused", f"is not supported here: {ONLY_HERE}")


def addresses(pod: Pod) -> list[str]:
    """Return the addresses that a pod can have: while another one replaces it, that one has the second."""
    network, _, number = pod.address.rpartition(".")
    return [pod.address, f"{network}.{int(number) + _MOST_PODS}"]


def _pods(workloads: Sequence[Workload], networks: dict[str, int], injection: Injection) -> list[Pod]:
    """Return the pods of workloads."""
    pods: dict[str, Pod] = {}
    names = {workload.name for workload in workloads}
    for workload in workloads:
        network = _network(workload.name, names, networks) if workload.replicas else 0
        template = workload.template
        for index, name in enumerate(workload.pod_names, 1):
            if name in pods:
                raise ManifestError(workload.place, f"another workload has a pod of the name {name!r}, too")
            pods[name] = Pod(
                name=name,
                address=f"{POD_NETWORK}{network}.{index}",
                labels=dict(template.labels),
                service_account=template.service_account,
                containers=template.containers,
                namespace=workload.namespace,
                workload=workload.name,
                in_mesh=injection.has_sidecar(workload.namespace, wanted=template.in_mesh),
            )
    return list(pods.values())


def _network(name: str, names: set[str], networks: dict[str, int]) -> int:
    """Return the number of a workload's network: its own from before, or one that nobody has."""
    if name not in networks:
        if len(networks) == NETWORKS:
            for gone in networks.keys() - names:
                del networks[gone]
        networks[name] = next(number for number in range(NETWORKS) if number not in networks.values())
    return networks[name]
