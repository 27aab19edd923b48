"""What a cluster holds: names, endpoints and hosts; and nothing about Envoy."""

import re

import pytest
from lab_support import EXAMPLE, manifest
from support import ROOT, documents

from meshdemo.lab.cluster.pods import Pod, matches
from meshdemo.lab.cluster.workloads import read_cluster


@pytest.fixture
def cluster():
    return read_cluster([manifest(each) for each in documents(EXAMPLE)])


@pytest.mark.parametrize(
    "name",
    ["cluster/model", "cluster/workloads", "cluster/template", "files/manifests", "files/documents", "files/schema"],
)
def test_no_word_of_envoy(name):
    """What reads the files knows no Envoy: neither its name nor that of a part of its configuration."""
    text = (ROOT / f"meshdemo/lab/{name}.py").read_text()
    assert not re.search(r"(?i)xds|virtual_hosts|filter_chain|lb_endpoints|socket_address|import .*sidecar", text)
    code = re.sub(r'"""[\s\S]*?"""|#.*', "", text).replace('"EnvoyFilter"', "")
    assert "envoy" not in code.lower()


@pytest.mark.parametrize("name", ["webserver", "webserver.default", "webserver.default.svc"])
def test_hosts(cluster, name):
    """A Service is found by each of its names."""
    assert cluster.service(name).host == "webserver.default.svc.cluster.local"


def test_other_hosts(cluster):
    """What is no Service is not found."""
    assert cluster.service("example.com") is None


def test_endpoints(cluster):
    """The endpoints of a port are the pods that its selector and further labels select, at the port that it means."""
    service = cluster.service("webserver")
    found = cluster.endpoints(service, service.ports[0], {"version": "v2"})
    assert [(pod.name, number) for pod, number in found] == [(f"webserverv2-{n}", 3030) for n in (1, 2, 3)]


def test_pods(cluster):
    """A pod is told from those of Deployments with a similar name."""
    assert [pod.name for pod in cluster.pods_of("webserverv1")] == [f"webserverv1-{n}" for n in (1, 2, 3)]
    assert cluster.pods_of("webserver") == []
    assert cluster.pods[0].calls
    assert not cluster.pods[1].calls
    assert Pod("a-1.shop", "10.244.0.1", {}, "default", (), namespace="shop").hostname == "a-1"
    assert cluster.pods[0].in_mesh
    assert cluster.pods[0].port("http") == 3030
    assert cluster.pods[0].port("none") is None


def test_matches():
    """A selector matches labels that include it."""
    assert matches({"a": "1", "b": "2"}, {"a": "1"})
    assert not matches({"a": "1"}, {"a": "1", "b": "2"})
    assert matches({}, {})
