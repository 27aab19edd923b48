"""What Istio would write into the status of the Gateway API's objects: what of them is not in force, and why."""

import dataclasses

import pytest
from quick_support import EXAMPLE, http_route, manifest

from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.edits.state import Reader
from meshdemo.lab.files.manifests import Loader
from meshdemo.lab.istiod import Istiod
from meshdemo.lab.istiod.statuses import read_statuses
from meshdemo.lab.words import summary

SERVICE = {"group": "", "kind": "Service", "name": "webserver", "port": 80}
GATEWAY = manifest("Gateway", {"listeners": [{"name": "a"}, {"name": "b"}]}, "web", "gateway.networking.k8s.io")
RULES = (
    {"backendRefs": [{"name": "webserver", "port": 80}]},
    {"backendRefs": [{"name": "webserverv1", "port": 80}, {"name": "nowhere", "port": 80}]},
)


def condition(kind, status):
    return {"type": kind, "status": status, "reason": "Why", "message": f"about\n {kind}"}


def read(policy, **status):
    """Return the notes without their place, and which parts of a policy are not in force."""
    cluster = read_cluster(Loader([EXAMPLE]).load()[0])
    cluster = dataclasses.replace(cluster, policies=tuple({each.id: each for each in (GATEWAY, policy)}.values()))
    statuses = [{"kind": policy.kind, "namespace": "default", "name": policy.name, "status": status}]
    notes, not_in_force = read_statuses(statuses, cluster)
    assert all(each.policy == policy.id for each in not_in_force)
    return [note.partition(f"{policy.label}: ")[2] for note in notes], [each.part for each in not_in_force]


def test_all_is_well():
    """Conditions that are as they should be, and those that are not known, say nothing; no status says nothing."""
    good = [condition("Accepted", "True"), condition("Conflicted", "False"), condition("Other", "False")]
    parent = {"parentRef": SERVICE, "conditions": [condition("ResolvedRefs", "True")]}
    assert read(GATEWAY, conditions=good, listeners=[{"name": "a", "conditions": good}]) == ([], [])
    assert read(http_route(RULES[0]), parents=[parent]) == ([], [])
    assert read(http_route(RULES[0])) == ([], [])


def test_a_gateway():
    """What is wrong with a Gateway is said of all of it, of a listener at that one."""
    listener = {"name": "b", "conditions": [condition("Programmed", "False"), condition("Conflicted", "True")]}
    assert read(GATEWAY, conditions=[condition("Accepted", "False")], listeners=[listener]) == (
        [
            "Accepted: about Accepted (Why)",
            "spec.listeners[1]: Programmed: about Programmed (Why)",
            "spec.listeners[1]: Conflicted: about Conflicted (Why)",
        ],
        ["", "spec.listeners[1]"],
    )


def test_parents():
    """A route that its only parent refuses is not in force at all; of several the one that refuses it is named."""
    refused = [condition("Accepted", "False")]
    parents = [{"name": "web", "sectionName": "a"}, SERVICE]
    statuses = [{"parentRef": SERVICE, "conditions": refused}, {"parentRef": parents[0], "conditions": []}]
    where = "Accepted: about Accepted (Why)"
    assert read(http_route(RULES[0]), parents=statuses[:1]) == ([f"spec.parentRefs[0]: {where}"], [""])
    route = http_route(RULES[0], parents=parents)
    assert read(route, parents=statuses) == ([f"spec.parentRefs[1]: {where}"], ["spec.parentRefs[1]"])


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("backend(nowhere.default.svc.cluster.local) not found", "spec.rules[1].backendRefs[1]"),
        ("backendRef webserverv1/b not accessible to a HTTPRoute", "spec.rules[1].backendRefs[0]"),
        ("port is required in backendRef", "spec.rules"),
    ],
)
def test_backends(message, field):
    """What a reason says of a backend is told where that stands in the route, as far as it names one."""
    unresolved = {**condition("ResolvedRefs", "False"), "message": message}
    notes = [f"{field}: ResolvedRefs: {message} (Why)"]
    assert read(http_route(*RULES), parents=[{"parentRef": SERVICE, "conditions": [unresolved]}]) == (notes, [field])


def test_what_istio_does_not_say():
    """A Gateway that is not there has no status to write, and a port that a Service lacks no condition."""
    parents = [{"name": "webb"}, SERVICE, {**SERVICE, "port": 81}]
    route = http_route({"backendRefs": [{"name": "webserver", "port": 8080}]}, parents=parents)
    assert read(route) == (
        [
            "spec.parentRefs[0]: there is no Gateway webb, did you mean web?",
            "spec.parentRefs[2]: Service webserver has no port 81, but 80",
            "spec.rules[0].backendRefs[0]: Service webserver has no port 8080, but 80",
        ],
        ["spec.parentRefs[0]", "spec.parentRefs[2]", "spec.rules[0].backendRefs[0]"],
    )


def test_a_gateway_of_the_other_family():
    """A route whose parent is a Gateway of Istio's own kind is told so."""
    istio = manifest("Gateway", {}, "web")
    route = http_route(RULES[0], parents=[{"name": "web"}])
    cluster = dataclasses.replace(read_cluster(Loader([EXAMPLE]).load()[0]), policies=(istio, route))
    ((note,), _) = read_statuses([], cluster)
    assert note.endswith("the Gateway web is one of Istio's, and a route's is of gateway.networking.k8s.io")


KINDS = {"HTTPRoute": "v1beta1", "GRPCRoute": "v1", "TCPRoute": "v1alpha2", "TLSRoute": "v1alpha3"}
ROUTE = """
apiVersion: gateway.networking.k8s.io/{version}
kind: {kind}
metadata: {{name: {name}}}
spec:
  {hostnames}
  parentRefs: [{{group: "", kind: Service, name: {name}, port: 80}}]
  rules: [{{backendRefs: [{{name: nowhere, port: 80}}]}}]
---
"""


def test_all_kinds_of_routes(built_istiod, tmp_path):
    """Istio's own reason is told of each kind of route, in each of its versions, with file and line, and a summary."""
    path = tmp_path / "routes.yaml"
    hostnames = {"TLSRoute": "hostnames: [a.example.com]"}
    services = ("webserver", "webserverv1", "webserverv2", "proxy")
    names = dict(zip(KINDS, services, strict=True))
    texts = [
        ROUTE.format(kind=kind, version=version, name=names[kind], hostnames=hostnames.get(kind, ""))
        for kind, version in KINDS.items()
    ]
    path.write_text("".join(texts))
    engine = Istiod()
    try:
        reader = Reader([EXAMPLE, path], engine)
        state = reader.configure(reader.read())
        lines = summary.policies(state.cluster, state.configuration)
        again = reader.configure(reader.read())
    finally:
        engine.close()
    reason = "backend(nowhere.default.svc.cluster.local) not found (BackendNotFound)"
    place = "spec.rules[0].backendRefs[0]"
    for number, (kind, name) in enumerate(names.items()):
        where = f"{path}, line {8 + 9 * number}, column 26: {kind}/{name}: {place}"
        assert f"{where}: ResolvedRefs: {reason}" in state.notes
        assert any(line.startswith(f"{kind}/{name}: {place} is not in force, since {reason}") for line in lines)
    for name, resources in state.configuration.resources.items():
        assert resources is again.configuration.resources[name]
