"""What a lab says in words."""

import pytest
from lab_support import EXAMPLE, K8S, manifest
from support import documents

from meshdemo.lab import summary
from meshdemo.lab.cluster.workloads import read_cluster


def cluster(*lessons, others=()):
    objects = documents(EXAMPLE) + [each for lesson in lessons for each in documents(K8S / lesson)]
    return read_cluster([manifest(each) for each in [*objects, *others]])


def test_the_start():
    """The first line says how many pods of what are started, and of gateways."""
    assert summary.starting(cluster()) == "starting 7 pods (1 proxy, 3 webserverv1, 3 webserverv2) ..."
    assert summary.starting(cluster("istio/ingress.yaml")).endswith(") and 1 of gateways ...")


@pytest.mark.parametrize(
    ("lesson", "line"),
    [
        ("istio/split.yaml", "VirtualService/webserver: 75 % v1, 25 % v2"),
        ("gateway-api/split.yaml", "HTTPRoute/webserver: 75 % webserverv1, 25 % webserverv2"),
        ("istio/split.yaml", "DestinationRule/webserver: subsets v1, v2"),
        ("istio/abort.yaml", "VirtualService/webserver: webserver, abort 50 %"),
        ("istio/delay.yaml", "VirtualService/webserver: webserver, delay 25 %"),
        ("istio/retries.yaml", "VirtualService/webserver: webserver, up to 3 retries"),
        ("istio/timeout.yaml", "VirtualService/webserver: webserver, timeout 1s"),
        ("istio/header.yaml", "VirtualService/webserver: if headers end-user: v2; v1"),
        ("istio/mutual-tls.yaml", "PeerAuthentication/webserver: STRICT"),
        ("istio/ingress.yaml", "Gateway/webserver: port 80"),
    ],
)
def test_policies(lesson, line):
    """A policy is one line, in words."""
    assert line in summary.policies(cluster(lesson))


def test_every_lesson_has_words():
    """Each policy of each lesson is put into words."""
    for folder in ("istio", "gateway-api"):
        for path in (K8S / folder).glob("*.yaml"):
            found = cluster(f"{folder}/{path.name}")
            assert len(summary.policies(found)) == len(found.policies)


def test_words_that_a_terminal_would_obey():
    """Nothing in a policy reaches the terminal as a control character, and none is long."""
    rule = {"match": [{"uri": {"exact": "/\x1b[2J"}}], "route": [{"destination": {"host": "webserver"}}]}
    odd = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "odd"},
        "spec": {"hosts": ["webserver"], "http": [rule] * 50},
    }
    (line,) = summary.policies(cluster(others=[odd]))
    assert line.isprintable()
    assert len(line) < 150


def test_changes():
    """What is different is told object by object, with its file."""

    def service(name, port):
        return manifest({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"port": port}})

    found = summary.changes(
        [service("a", 1), service("b", 1), service("c", 1)], [service("a", 1), service("b", 2), service("d", 1)]
    )
    assert [change.text for change in found] == [
        "file.yaml: Service/b changed",
        "file.yaml: Service/c removed",
        "file.yaml: Service/d added",
    ]
    assert [change.label for change in found] == ["Service/b changed", "Service/c removed", "Service/d added"]
    assert all(change.moves_pods for change in found)
