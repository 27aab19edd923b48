"""Pods that were read out of a cluster are read as they were before the injection, and have a sidecar if they had."""

import json

import pytest
from lab_support import manifest

from meshdemo.lab.cluster.injected import without_sidecar
from meshdemo.lab.cluster.workloads import read_cluster

SINCE = "2026-11-28T14:00:00Z"
PROBERS = {
    "/app-health/web/readyz": {"httpGet": {"path": "/readyz", "port": 3030, "scheme": "HTTP"}, "timeoutSeconds": 1},
    "/app-health/web/livez": {"tcpSocket": {"port": 3030}},
}


def agent_probe(path, **fields):
    return {"httpGet": {"path": f"/app-health/web/{path}", "port": 15020, "scheme": "HTTP"}, **fields}


def pod(*containers, metadata=(), **spec):
    metadata = {"name": "web-1", "labels": {"app": "web"}, "creationTimestamp": SINCE, **dict(metadata)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": list(containers), **spec}}


def injected(*, is_native, **others):
    """Return a pod with this program, a sidecar, and probes that the sidecar's agent makes."""
    web = {
        "name": "web",
        "image": "meshdemo:1.0.0",
        "args": ["webserver"],
        "readinessProbe": agent_probe("readyz", periodSeconds=2),
        "livenessProbe": agent_probe("livez"),
        "startupProbe": {"tcpSocket": {"port": 3030}},
    }
    environment = [
        {"name": "POD_NAME", "valueFrom": {}},
        {"name": "ISTIO_KUBE_APP_PROBERS", "value": json.dumps(PROBERS)},
    ]
    sidecar = {"name": "istio-proxy", "image": "proxyv2", "args": ["proxy"], "env": environment}
    first = [
        {"name": "istio-init", "image": "proxyv2"},
        *([{**sidecar, "restartPolicy": "Always"}] if is_native else []),
    ]
    containers = [web] if is_native else [sidecar, web]
    metadata = {"annotations": {"sidecar.istio.io/status": "{}"}}
    return pod(*containers, metadata=metadata, initContainers=[*first, *others.get("first", [])])


@pytest.mark.parametrize("is_native", [False, True])
def test_an_injected_pod(is_native):
    """Sidecar and what prepares it are taken out, and probes are those of the container itself."""
    cluster = read_cluster([manifest(injected(is_native=is_native))])
    (found,) = cluster.pods
    (web,) = found.containers
    assert (web.name, web.args, found.in_mesh) == ("web", ("webserver",), True)
    assert (web.readiness.path, web.readiness.port, web.readiness.period_seconds) == ("/readyz", 3030, 2)
    assert (web.liveness.path, web.liveness.port) == (None, 3030)
    assert web.startup.path is None


def test_other_containers_stay():
    """What else runs first stays, and a template is read as a pod is."""
    own = {"name": "own", "image": "other"}
    found = injected(is_native=True, first=[own])
    plain = without_sidecar(manifest(found))
    assert plain["spec"]["initContainers"] == [own]
    template = {"metadata": found["metadata"], "spec": found["spec"]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a"},
        "spec": {"template": template},
    }
    assert without_sidecar(manifest(deployment))["spec"]["template"]["spec"] == plain["spec"]


@pytest.mark.parametrize(
    "document",
    [
        pod({"name": "istio-proxy"}, metadata={"annotations": {"sidecar.istio.io/status": "{}"}}),
        {**pod({"name": "web"}), "metadata": {"name": "web-1"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"template": 3}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": 3}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": []},
    ],
    ids=["a gateway", "a pod of a file", "no template", "no containers", "no spec"],
)
def test_what_stays_as_it_is(document):
    """A gateway, a pod that nobody injected anything into, and what is none are left alone."""
    assert without_sidecar(manifest(document)) is document


@pytest.mark.parametrize("probers", ["", "[]", "{", '{"/app-health/web/readyz": 3}'])
def test_probes_that_nobody_can_tell(probers):
    """Where it is not known what the agent asks for, the probe stays, and is refused with its place."""
    document = injected(is_native=False)
    document["spec"]["containers"][0]["env"] = [{"name": "ISTIO_KUBE_APP_PROBERS", "value": probers}, 3]
    (web,) = without_sidecar(manifest(document))["spec"]["containers"]
    assert web["readinessProbe"]["httpGet"]["port"] == 15020


def namespace(name, metadata):
    return manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **metadata}})


OTHER = namespace("other", {"labels": {"istio-injection": "enabled"}, "creationTimestamp": SINCE})
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "other"}]}}


@pytest.mark.parametrize(
    ("metadata", "others", "labels", "in_mesh"),
    [
        ({"creationTimestamp": SINCE}, [OTHER], {}, False),
        ({"creationTimestamp": SINCE}, [OTHER], {"sidecar.istio.io/inject": "true"}, True),
        ({"creationTimestamp": SINCE}, [], {}, True),
        ({}, [OTHER], {}, True),
        ({"creationTimestamp": SINCE, "labels": {"istio.io/rev": "1-32"}}, [OTHER], {}, True),
        ({"creationTimestamp": SINCE, "labels": {"istio.io/dataplane-mode": "ambient"}}, [OTHER], {}, True),
        ({"creationTimestamp": SINCE, "labels": {"istio-injection": "disabled"}}, [OTHER], {}, False),
    ],
    ids=["no label", "but the pod has one", "a cluster without a mesh", "a file", "a revision", "ambient", "disabled"],
)
def test_namespaces_of_a_cluster(metadata, others, labels, in_mesh):
    """In a cluster with a mesh, a namespace without a label is outside of it, and the start names it."""
    template = {**TEMPLATE, "metadata": {"labels": {"app": "web", **labels}}}
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    web = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": spec,
    }
    cluster = read_cluster([namespace("shop", metadata), *others, manifest(web)])
    assert cluster.pods[0].in_mesh is in_mesh
    told = "outside the mesh, since nothing asks for sidecars there: namespace shop"
    assert cluster.notes == ((told,) if metadata == {"creationTimestamp": SINCE} and not in_mesh else ())


def test_a_running_pod_without_a_sidecar():
    """Of a pod that was read out of a cluster it is known that it has none."""
    assert not read_cluster([manifest(pod({"name": "web", "image": "other"}))]).pods[0].in_mesh
