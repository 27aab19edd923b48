"""What of a rule that matched comes to nothing: faults without a percentage, copies to nowhere."""

import pytest
from xray_support import an_object, record, scene_of, workload

from meshdemo.lab.xray.defaults import notes_of
from meshdemo.lab.xray.facts.calls import Hop
from meshdemo.lab.xray.facts.naming import Rule

CALLER = "frontend-v1-1.shop"
CART = "outbound|80||cart.shop.svc.cluster.local"


def notes(folder, rule, route):
    """Return what is said of a call that met a rule, with the route that an Envoy has of it."""
    virtual_service = an_object("VirtualService", "cart", {"hosts": ["cart"], "http": [rule]})
    scene = scene_of(folder, *workload("frontend"), *workload("cart"), virtual_service, clusters=[CART], envoy=CALLER)
    hop = Hop("sidecar", "outbound", CALLER, "shop", 200, 1.0, rule=Rule("VirtualService", "shop", "cart", 0))
    return list(notes_of(hop, record(CALLER), scene, route))


@pytest.mark.parametrize(
    ("fault", "percentage", "note"),
    [
        ({"abort": {"httpStatus": 503}}, {}, ["fault.abort is for no call: it says no percentage"]),
        ({"delay": {"fixedDelay": "1s"}}, {"percentage": {}}, ["fault.delay is for no call: it says no percentage"]),
        ({"abort": {"percentage": {}}}, {"percentage": {}}, ["fault.abort is for no call: its percentage is 0"]),
        ({"abort": {"percentage": {"value": 1}}}, {"percentage": {"numerator": 10000}}, []),
    ],
)
def test_faults_for_no_call(tmp_path, fault, percentage, note):
    """A fault that no call gets is told with why."""
    (kind,) = fault
    route = {"typed_per_filter_config": {"envoy.filters.http.fault": {kind: percentage}}}
    assert notes(tmp_path, {"fault": fault, "route": []}, route) == note


def test_copies_to_nowhere(tmp_path):
    """A mirror without a cluster is told with what is missing."""
    mirrors = [CART, CART.replace("||", "|v9|"), CART.replace("cart", "nobody")]
    route = {"route": {"request_mirror_policies": [{"cluster": each} for each in mirrors]}}
    assert notes(tmp_path, {"route": []}, route) == [
        "no copy is made, since there is no cluster for it: no DestinationRule defines the subset v9 of cart.shop",
        "no copy is made, since there is no cluster for it: there is no host nobody.shop",
    ]
