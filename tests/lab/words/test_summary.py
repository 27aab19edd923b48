"""What a lab says in words."""

import dataclasses

import pytest
from lab_support import EXAMPLE, K8S, manifest
from support import documents

from meshdemo.lab import quick
from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.engine import Configuration
from meshdemo.lab.words import summary

NONE = Configuration({})


def cluster(*lessons, others=()):
    objects = documents(EXAMPLE) + [each for lesson in lessons for each in documents(K8S / lesson)]
    return read_cluster([manifest(each) for each in [*objects, *others]])


def test_the_start():
    """The first line says how many pods of what are started, and of gateways."""
    assert summary.starting(cluster()) == "starting 7 pods (1 proxy, 3 webserverv1, 3 webserverv2) ..."
    assert summary.starting(cluster("istio/ingress.yaml")).endswith(") and 1 gateway ...")


def test_the_start_of_many():
    """Many workloads are counted; all are named once they run."""
    web = cluster().workloads[1]
    many = [dataclasses.replace(web, name=f"web{number}") for number in range(13)]
    assert summary.starting(dataclasses.replace(cluster(), workloads=many)) == "starting 7 pods (of 13 workloads) ..."


@pytest.mark.parametrize(
    ("lesson", "line"),
    [
        ("istio/split.yaml", "VirtualService/webserver: 75 % v1, 25 % v2"),
        ("gateway-api/split.yaml", "HTTPRoute/webserver: 75 % webserverv1, 25 % webserverv2"),
        ("istio/circuit-breaker.yaml", "DestinationRule/webserver: subsets v1, v2, http2MaxRequests 2"),
        ("istio/header.yaml", "VirtualService/webserver: if end-user=tester: v2; v1"),
        ("istio/mutual-tls.yaml", "PeerAuthentication/webserver: STRICT, for app=webserver"),
        ("istio/deny-by-default.yaml", "AuthorizationPolicy/webserver: ALLOW, nothing, for app=webserver"),
        ("istio/ingress.yaml", "Gateway/webserver: port 80 for *"),
    ],
)
def test_policies(lesson, line):
    """A policy is one line, in words."""
    assert line in summary.policies(cluster(lesson), NONE)


def test_every_lesson_has_words():
    """Each policy of each lesson is put into words."""
    for folder in ("istio", "gateway-api"):
        for path in (K8S / folder).glob("*.yaml"):
            found = cluster(f"{folder}/{path.name}")
            assert len(summary.policies(found, NONE)) == len(found.policies)


def test_words_that_a_terminal_would_obey():
    """Nothing in a policy reaches the terminal as a control character, and none is long."""
    rule = {"match": [{"uri": {"exact": "/\x1b[2J"}}], "route": [{"destination": {"host": "webserver"}}]}
    odd = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "odd"},
        "spec": {"hosts": ["webserver"], "http": [rule] * 50},
    }
    (line,) = summary.policies(cluster(others=[odd]), NONE)
    assert line.isprintable()
    assert len(line) < 350


def test_changes():
    """What is different is told object by object, with its file."""

    def service(name, port):
        return manifest({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"port": port}})

    found = summary.changes(
        [service("a", 1), service("b", 1), service("c", 1)], [service("a", 1), service("b", 2), service("d", 1)]
    )
    assert [change.text for change in found] == [
        "file.yaml: Service/b changed (spec.port 1 -> 2)",
        "file.yaml: Service/c removed",
        "file.yaml: Service/d added",
    ]
    assert [change.label for change in found] == ["Service/b changed", "Service/c removed", "Service/d added"]
    assert all(change.moves_pods for change in found)


def test_changes_of_policies():
    """The page is told what a policy has changed, from what to what."""

    def split(weight):
        targets = [{"destination": {"host": "a"}, "weight": weight}, {"destination": {"host": "b"}, "weight": 50}]
        spec = {"http": [{"route": targets}]}
        return manifest(
            {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "s"}, "spec": spec}
        )

    (change,) = summary.changes([split(50)], [split(150)])
    assert change.label == "VirtualService/s changed (50 % a -> 75 % a, 50 % b -> 25 % b)"
    assert change.text == f"file.yaml: {change.label}"
    assert not change.moves_pods


def istio(kind, name, spec, group="networking"):
    return {"apiVersion": f"{group}.istio.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def to(host, **match):
    return {"route": [{"destination": {"host": host}}], **({"match": [match]} if match else {})}


def test_what_is_not_in_force():
    """The summary tells in force from not in force: a second object for a host, rules behind others, other engines'."""
    policies = [
        istio("VirtualService", "b", {"hosts": ["webserver"], "http": [to("webserverv1")]}),
        istio(
            "VirtualService",
            "a",
            {"hosts": ["webserver"], "http": [to("webserverv2", uri={"prefix": "/"}), to("proxy")]},
        ),
        istio("DestinationRule", "c", {"host": "webserver", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}}),
        istio(
            "DestinationRule", "d", {"host": "webserver", "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}}
        ),
        istio("PeerAuthentication", "e", {"mtls": {"mode": "STRICT"}}, "security"),
    ]
    found = cluster(others=policies)
    assert summary.policies(found, quick.configure(found)) == [
        "VirtualService/b: not in force, since the rules of VirtualService/a are for webserver already: webserverv1",
        "VirtualService/a: if path /*: webserverv2; not in force, since http[0] takes every call: proxy",
        "DestinationRule/c: simple RANDOM",
        "DestinationRule/d: spec.trafficPolicy is not in force, since that of DestinationRule/c is for the same host: "
        "simple ROUND_ROBIN",
        "PeerAuthentication/e: not in force, since only --istiod applies it: STRICT",
    ]


def shop(*workloads, services=(), policies=()):
    """Return an application of other images: Deployments by name and namespace, Services by name, namespace, port."""
    made = [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "a", "image": f"{name}:1", "ports": [{"containerPort": 9080}]}]},
                },
            },
        }
        for name, namespace in workloads
    ]
    made += [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"app": name}, "ports": [port]},
        }
        for name, namespace, port in services
    ]
    return read_cluster([manifest(each) for each in [*made, *policies]])


HTTP = {"name": "http", "port": 80, "targetPort": 9080}
REVIEWS = {"name": "http", "port": 9080}
DESTINATION = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "DestinationRule",
    "metadata": {"name": "reviews"},
    "spec": {"host": "reviews"},
}


@pytest.mark.parametrize(
    ("cluster", "command"),
    [
        pytest.param(
            shop(
                ("reviews", "default"),
                ("ratings", "default"),
                services=[("ratings", "default", HTTP), ("reviews", "default", REVIEWS)],
            ),
            "meshdemo call --from reviews http://ratings/",
            id="the first Service, from another workload",
        ),
        pytest.param(
            shop(
                ("reviews", "default"),
                ("ratings", "default"),
                services=[("ratings", "default", HTTP), ("reviews", "default", REVIEWS)],
                policies=[DESTINATION],
            ),
            "meshdemo call --from ratings http://reviews:9080/",
            id="the Service that a policy names",
        ),
        pytest.param(
            shop(("alone", "shop"), services=[("alone", "shop", HTTP)]),
            "meshdemo call --from alone.shop http://alone/",
            id="a lone workload calls itself",
        ),
        pytest.param(
            shop(
                ("front", "web"),
                ("store", "data"),
                services=[("store", "data", {"name": "tcp", "port": 5432}), ("store", "data", HTTP)],
            ),
            "meshdemo call --from front.web http://store.data/",
            id="another namespace, and not what speaks TCP",
        ),
        pytest.param(shop(("a", "default")), None, id="no Service"),
        pytest.param(
            shop(("a", "default"), services=[("a", "default", {"name": "tcp", "port": 1})]), None, id="TCP alone"
        ),
    ],
)
def test_how_to_call(cluster, command):
    """Where nothing is called from outside, a command shows how to call from a pod, with names of the files."""
    assert summary.example_call(cluster) == command
