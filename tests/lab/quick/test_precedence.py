"""Which of several policies counts, by the files alone, for both engines."""

import pytest
from quick_support import cluster_of, http_route, manifest, to, virtual_service

from meshdemo.lab.quick import configure
from meshdemo.lab.quick.precedence import find_not_in_force

EVERYTHING = {"uri": {"prefix": "/"}}
SUBSET = {"name": "v1", "labels": {"version": "v1"}}
RANDOM = {"loadBalancer": {"simple": "RANDOM"}}


def rule(name, **spec):
    return manifest("DestinationRule", {"host": "webserver", **spec}, name)


CASES = {
    "a second VirtualService for a host": (
        [virtual_service(to(), name="b"), virtual_service(to(), name="a")],
        [("b", "", "the rules of VirtualService/a are for webserver already")],
    ),
    "one that is not exported, which is the first": (
        [virtual_service(to(), name="b", exportTo=["."]), virtual_service(to(), name="a")],
        [("a", "", "the rules of VirtualService/b are for webserver already")],
    ),
    "one of whose hosts another is for": (
        [virtual_service(to(), name="a"), virtual_service(to(), name="b", hosts=["webserver", "proxy"])],
        [],
    ),
    "a first one for some callers only": (
        [virtual_service(to(match=[{"sourceLabels": {"app": "x"}}]), name="a"), virtual_service(to(), name="b")],
        [],
    ),
    "one for a gateway": (
        [virtual_service(to(), name="a"), virtual_service(to(), name="b", gateways=["g"])],
        [],
    ),
    "an HTTPRoute of the same Service": (
        [http_route({"backendRefs": []}, name="r"), virtual_service(to(), name="b")],
        [("b", "", "the rules of HTTPRoute/r are for webserver already")],
    ),
    "a rule behind one without a match": (
        [virtual_service(to(), to())],
        [("webserver", "spec.http[1]", "http[0] takes every call")],
    ),
    "a rule behind one of whose matches takes every call": (
        [virtual_service(to(match=[{"uri": {"exact": "/x"}}, EVERYTHING]), to())],
        [("webserver", "spec.http[1]", "http[0] takes every call")],
    ),
    "a rule behind one at the same gateways": (
        [virtual_service(to(match=[{"gateways": ["mesh"], **EVERYTHING}]), to())],
        [("webserver", "spec.http[1]", "http[0] takes every call")],
    ),
    "a rule behind one at gateways that are no names": (
        [virtual_service(to(match=[{"gateways": [{"a": 1}], **EVERYTHING}]), to())],
        [],
    ),
    "a rule behind one with a condition": (
        [virtual_service(to(match=[{**EVERYTHING, "method": {"exact": "GET"}}]), to())],
        [],
    ),
    "a rule behind one for a port": ([virtual_service(to(match=[{"port": 80}]), to())], []),
    "a rule behind one for a caller": ([virtual_service(to(match=[{"sourceNamespace": "x"}]), to())], []),
    "a second DestinationRule": (
        [rule("a", trafficPolicy=RANDOM, subsets=[SUBSET]), rule("b", trafficPolicy=RANDOM, subsets=[SUBSET])],
        [
            ("b", "spec.trafficPolicy", "that of DestinationRule/a is for the same host"),
            ("b", "spec.subsets[0]", "DestinationRule/a has a subset v1 of the same host"),
        ],
    ),
    "a second DestinationRule for what the first does not say": (
        [rule("a", subsets=[SUBSET]), rule("b", trafficPolicy=RANDOM)],
        [],
    ),
}


@pytest.mark.parametrize(("policies", "expected"), CASES.values(), ids=CASES)
def test_what_is_never_in_force(tmp_path, policies, expected):
    """What others or a policy's own rules keep from being in force for every caller is found, and nothing else."""
    found = find_not_in_force(cluster_of(tmp_path, *policies))
    assert [(each.policy[3], each.part, each.reason) for each in found] == expected


def test_whatever_stands_there(tmp_path):
    """Policies that an engine will refuse are no reason to fail."""
    odd = [
        virtual_service(name="a", hosts=[5, None]),
        manifest("VirtualService", {"http": [None, 5, {"match": [None, 5]}, {"match": 5}]}, "b"),
        manifest("DestinationRule", {"host": 5}, "c"),
        manifest("DestinationRule", {"host": "webserver", "subsets": [None, {"name": None}]}, "d"),
        manifest("VirtualService", None, "e"),
        manifest(
            "HTTPRoute", {"parentRefs": [None, {"kind": "Service", "name": None}]}, "f", "gateway.networking.k8s.io"
        ),
    ]
    assert {each.policy[3] for each in find_not_in_force(cluster_of(tmp_path, *odd))} <= {"b", "d"}


def test_quick_says_it(tmp_path):
    """The quick engine says with its place what is not in force."""
    first, second = virtual_service(to(), to(), name="a"), virtual_service(to(), name="b")
    assert [each.partition(".yaml: ")[2] for each in configure(cluster_of(tmp_path, first, second)).advice] == [
        "VirtualService/b: not in force: the rules of VirtualService/a are for webserver already",
        "VirtualService/a: spec.http[1]: not in force: http[0] takes every call",
    ]


def test_a_route_that_nobody_takes(tmp_path):
    """An HTTPRoute without a parent is not in force."""
    (found,) = configure(cluster_of(tmp_path, http_route({"backendRefs": []}, parents=()))).not_in_force
    assert (found.policy[3], found.reason, found.needs_istiod) == ("r", "no Service or Gateway takes it", False)


def test_security(tmp_path):
    """What only Istio's own control plane applies is not in force, with a flag that says so."""
    (found,) = configure(cluster_of(tmp_path, manifest("PeerAuthentication", {}))).not_in_force
    assert found.needs_istiod
