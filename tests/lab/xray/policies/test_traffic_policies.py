"""What a DestinationRule's trafficPolicy does, by what Envoy has of it."""

import dataclasses

import pytest
from xray_support import an_object, record, scene_of, workload

from meshdemo.lab.engine import Configuration, Resources
from meshdemo.lab.xray.facts.calls import Destination, Hop, Try
from meshdemo.lab.xray.policies.traffic_policies import notes_of_traffic

HOST = "cart.shop.svc.cluster.local"
NAME = f"outbound|80||{HOST}"
CALLER = "frontend-v1-1.shop"
STRICT = an_object("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}})
ORIGIN = {"istio": {"config": "/apis/networking.istio.io/v1/namespaces/shop/destination-rule/cart"}}


def notes(folder, policy, *objects, cluster=(), route=None, pods=2, last=None):
    """Return what is said of a call to a host with a policy, of which an Envoy has a cluster with so many pods."""
    rule = an_object("DestinationRule", "cart", {"host": "cart", "trafficPolicy": policy})
    scene = scene_of(folder, *workload("frontend"), *workload("cart"), rule, *objects)
    written = {"name": NAME, "metadata": {"filter_metadata": ORIGIN}, **dict(cluster)}
    assignment = {"cluster_name": NAME, "endpoints": [{"lb_endpoints": [{}] * pods}]}
    resources = Resources(clusters=[written], endpoints=[assignment])
    scene = dataclasses.replace(scene, configuration=Configuration({CALLER: resources}))
    tries = (Try("cart-v1-1.shop", last, (), 1.0, None),)
    hop = Hop("sidecar", "outbound", CALLER, "shop", last, 1.0, destination=Destination(HOST, 80), tries=tries)
    return list(notes_of_traffic(hop, record(CALLER, cluster=NAME), route, scene))


@pytest.mark.parametrize(
    ("by", "which", "field"),
    [
        ({"header": {"header_name": "x-user"}}, "with the same x-user", "httpHeaderName"),
        ({"cookie": {"name": "user"}}, "with the same user", "httpCookie"),
        ({"query_parameter": {"name": "u"}}, "with the same u", "httpQueryParameterName"),
        ({"connection_properties": {"source_ip": True}}, "from the same address", "useSourceIp"),
    ],
)
def test_hashing(tmp_path, by, which, field):
    """What keeps callers at a pod is what the route hashes by, where the cluster is one that hashes."""
    policy = {"loadBalancer": {"consistentHash": {"minimumRingSize": 1024, "httpHeaderName": "x-user"}}}
    route = {"route": {"hash_policy": [by]}}
    note = f"calls {which} go to the same pod (consistentHash.{field})"
    assert notes(tmp_path, policy, cluster={"lb_policy": "RING_HASH"}, route=route) == [note]
    assert notes(tmp_path, policy, cluster={"lb_policy": "LEAST_REQUEST"}, route=route) == []
    assert notes(tmp_path, policy, cluster={"lb_policy": "RING_HASH"}, route={"route": {}}) == []


@pytest.mark.parametrize(
    ("outliers", "pods", "note"),
    [
        ({"consecutive_5xx": 3, "max_ejection_percent": 50}, 2, "a pod that fails 3 times in a row gets no calls"),
        ({"max_ejection_percent": 49}, 2, "ejects no pod: maxEjectionPercent is 49, and one of 2 pods is more"),
        ({}, 9, "ejects no pod: maxEjectionPercent is 10, and one of 9 pods is more"),
        ({}, 10, "a pod that fails 5 times in a row gets no calls for a while (outlierDetection)"),
        ({}, 1, "ejects no pod: maxEjectionPercent is 10, and the one pod is more"),
        ({"max_ejection_percent": 100}, 1, "a pod that fails 5 times in a row gets no calls"),
        ({"always_eject_one_host": True}, 2, "a pod that fails 5 times in a row gets no calls"),
        (
            {"consecutive_5xx": 0, "enforcing_consecutive_5xx": 0},
            2,
            "ejects no pod for what it answers: consecutive5xx",
        ),
        (
            {"consecutive_gateway_failure": 2, "enforcing_consecutive_gateway_failure": 100},
            10,
            "a pod that fails 5 times in a row or fails with 502, 503 or 504 2 times in a row gets no calls",
        ),
    ],
)
def test_outliers(tmp_path, outliers, pods, note):
    """Which failures eject a pod is told, and that none is where it would be more of them than may be ejected."""
    (said,) = notes(tmp_path, {"outlierDetection": {}}, cluster={"outlier_detection": outliers}, pods=pods)
    assert note in said


def test_balancing(tmp_path):
    """The balancing that is asked for by name is told."""
    assert notes(tmp_path, {"loadBalancer": {"simple": "RANDOM"}}) == ["load balancing is RANDOM"]


@pytest.mark.parametrize(
    ("mode", "objects", "last", "note"),
    [
        ("SIMPLE", [STRICT], None, "the sidecar speaks TLS with it, SIMPLE"),
        ("DISABLE", [], None, "the sidecar calls it in plain text (tls DISABLE)"),
        ("DISABLE", [STRICT], 200, "the sidecar calls it in plain text (tls DISABLE)"),
        (
            "DISABLE",
            [STRICT],
            None,
            "the sidecar calls it in plain text (tls DISABLE), and cart-v1-1.shop takes mutual TLS alone: "
            "PeerAuthentication/default is STRICT",
        ),
    ],
)
def test_tls(tmp_path, mode, objects, last, note):
    """How a destination is called is told, and which object has the pod refuse plain text."""
    assert notes(tmp_path, {"tls": {"mode": mode}}, *objects, last=last) == [note]
