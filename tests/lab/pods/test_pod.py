"""What a pod is to be, and what its containers are told."""

from pathlib import Path

import pytest
from lab_support import EXAMPLE, manifest
from support import documents

from meshdemo.lab import quick
from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.engine import Resources
from meshdemo.lab.envoy.xds.control_plane import ControlPlane
from meshdemo.lab.pods.pod import PodContext, PodSpec, RunningPod, pod_spec
from meshdemo.lab.pods.ports import PortBook
from meshdemo.lab.pods.tls import make_context


@pytest.fixture
def cluster():
    return read_cluster([manifest(each) for each in documents(EXAMPLE)])


@pytest.fixture
def around(tmp_path):
    plane = ControlPlane(tmp_path)
    yield PodContext(
        tmp_path,
        0,
        plane,
        PortBook(),
        print,
        print,
        print,
        False,
        {"DRAIN_SECONDS": "3", "ACCESS_LOG": "False"},
        {"CHANGES_FILE": "c"},
        lambda: make_context(tmp_path),
    )
    plane.close()


def template_of(cluster, name):
    return next(each.template for each in cluster.workloads if each.name == name)


def test_a_proxy(cluster, around):
    """A proxy is told to connect to its sidecar where its URL names a Service, and gets the lab's variables."""
    resources = quick.configure(cluster).resources["proxy-1"]
    wanted = pod_spec(cluster.pods[0], template_of(cluster, "proxy"), resources, cluster)
    assert wanted.has_sidecar
    pod = RunningPod("pod-1", wanted, around)
    (replica,) = pod.replicas
    port = pod.ports.outbound["0.0.0.0_80"]
    command = " ".join(replica.command)
    assert f"--connect-to :80:127.0.0.1:{port}" in command
    assert command.index("--port 3030") < command.index(f"--port {pod.ports.apps[3030]}")
    assert replica.environment["HOSTNAME"] == "proxy-1"
    assert replica.environment["CHANGES_FILE"] == "c"
    assert replica.environment["DRAIN_SECONDS"] == "3"
    assert Path(pod.sidecar.folder).name == "pod-1"


def test_a_web_server(cluster, around):
    """A web server calls nobody: it has no port for calls, and none of what only a proxy is told."""
    resources = quick.configure(cluster).resources["proxy-1"]
    wanted = pod_spec(cluster.pods[1], template_of(cluster, "webserverv1"), resources, cluster)
    assert (wanted.rules, wanted.listens) == ((), ())
    pod = RunningPod("pod-1", wanted, around)
    assert pod.replicas[0].name == "webserverv1-1"
    assert "--connect-to" not in pod.replicas[0].command
    assert "CHANGES_FILE" not in pod.replicas[0].environment
    assert pod.port_of(3030) == pod.ports.apps[3030]
    assert pod.port_of(9) is None


def test_the_manifest_comes_first(cluster, around):
    """What a manifest says counts before what the lab would say."""
    pod = cluster.pods[1]
    container = pod.containers[0]
    changed = container.__class__(**{**vars(container), "environment": (("DRAIN_SECONDS", "9"), ("HOSTNAME", "mine"))})
    pod = pod.__class__(**{**vars(pod), "containers": (changed,)})
    (replica,) = RunningPod("pod-1", PodSpec(pod, template_of(cluster, "webserverv1")), around).replicas
    assert replica.environment["DRAIN_SECONDS"] == "9"
    assert replica.environment["HOSTNAME"] == "mine"


def test_without_resources(cluster):
    """A pod without configuration has no sidecar; another policy alone takes no other pod."""
    template = template_of(cluster, "proxy")
    assert not pod_spec(cluster.pods[0], template, None, cluster).has_sidecar
    at = {"socket_address": {"address": "0.0.0.0", "port_value": 80}}
    listeners = [{"name": "0.0.0.0_80", "address": at, "filter_chains": []}]
    first, second = (
        pod_spec(cluster.pods[0], template, Resources(listeners, routes=[{"name": name}]), cluster) for name in "ab"
    )
    assert first == second


def test_its_configuration(cluster, around):
    """It is made again when resources, names or what secrets depend on are different, and only then."""
    resources = quick.configure(cluster).resources["proxy-1"]
    pod = RunningPod("pod-1", pod_spec(cluster.pods[0], template_of(cluster, "proxy"), resources, cluster), around)
    asked = []

    def local(resources=resources, names=None, basis=0):
        return pod.local(resources, names or {}, basis, lambda: asked.append(1))

    first = local()
    assert local(quick.configure(cluster).resources["proxy-1"]) is first
    assert local(basis=1) is not first
    assert local(names={("a", 80): (("10.0.0.1", 80),)}, basis=1) is not local(basis=1)
    assert first.listeners and local(Resources()).listeners == []
    assert len(asked) == 5
