"""What a cluster makes itself, or has of its own, is left out of what was read out of one."""

import pytest
from lab_support import manifest

from meshdemo.lab.cluster.managed import without_managed

CORE = {"Pod": "v1", "Service": "v1", "Endpoints": "v1", "EndpointSlice": "discovery.k8s.io/v1"}


def found(kind, name="web", owner=None, labels=None, **metadata):
    """Return an object of a dump; `owner` is what made it, as Kind/name."""
    metadata = {"name": name, **metadata, **({"labels": labels} if labels else {})}
    if owner:
        metadata["ownerReferences"] = [dict(zip(("kind", "name"), owner.split("/"), strict=True))]
    return manifest({"apiVersion": CORE.get(kind, "apps/v1"), "kind": kind, "metadata": metadata})


@pytest.mark.parametrize(
    ("maker", "made"),
    [
        (found("Deployment"), found("ReplicaSet", "web-5d4f", "Deployment/web")),
        (found("Deployment"), found("Pod", "web-5d4f-x2z", "ReplicaSet/web-5d4f")),
        (found("ReplicaSet", "web-5d4f"), found("Pod", "web-5d4f-x2z", "ReplicaSet/web-5d4f")),
        (found("StatefulSet"), found("Pod", "web-0", "StatefulSet/web")),
        (found("DaemonSet"), found("Pod", "web-x2z", "DaemonSet/web")),
        (found("Service"), found("EndpointSlice", "web-x2z", "Service/web")),
    ],
)
def test_what_others_make(maker, made):
    """What another object of the files makes is left out, in its namespace alone."""
    assert without_managed([maker, made]) == [maker]
    elsewhere = manifest({**maker.document, "metadata": {**maker.document["metadata"], "namespace": "shop"}})
    if made.kind != "EndpointSlice":
        assert without_managed([elsewhere, made]) == [elsewhere, made]


@pytest.mark.parametrize(
    "own",
    [
        found("Service", "kubernetes"),
        found("Endpoints", "kubernetes"),
        found("Deployment", "coredns", namespace="kube-system"),
        found("Deployment", "istiod", namespace="istio-system", labels={"app": "istiod"}),
        found("Pod", "job-x2z", "Job/job"),
    ],
)
def test_what_a_cluster_has(own):
    """What is Kubernetes' or Istio's own, and the pods of Jobs, are left out."""
    assert without_managed([own]) == []


@pytest.mark.parametrize(
    "mine",
    [
        found("Deployment", "kubernetes", namespace="shop"),
        found("Pod", "web-1", "ReplicaSet/other-5d4f"),
        found("Pod", "web-1", "ReplicaSet/"),
        found("Deployment", "istiod", labels={"app": "istiod"}),
        manifest({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "ownerReferences": [3]}}),
        manifest({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "ownerReferences": 3}}),
    ],
)
def test_what_stays(mine):
    """All else stays, whatever it says."""
    assert without_managed([mine]) == [mine]
