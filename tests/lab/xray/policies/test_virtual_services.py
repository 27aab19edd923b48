"""Which rules of VirtualServices are for others, and why one that names a host does not count for a caller."""

import pytest
from xray_support import an_object, record, scene_of, workload

from meshdemo.lab.xray.facts.naming import Rule
from meshdemo.lab.xray.policies.virtual_services import Caller, caller_of, callers_of, left_out, why_not_for

HOST = "cart.shop.svc.cluster.local"
SHOP = [*workload("frontend"), *workload("cart"), *workload("pay", "payments")]
TO = {"route": [{"destination": {"host": "cart"}}]}
CALLER = Caller("frontend-v1-1.shop", 80)


def virtual_service(*rules, name="cart", namespace="shop", hosts=("cart",), **more):
    return an_object("VirtualService", name, {"hosts": list(hosts), "http": list(rules), **more}, namespace)


def why(folder, *objects, host=HOST, caller=CALLER):
    """Return what is said of each VirtualService."""
    scene = scene_of(folder, *SHOP, *objects)
    return [why_not_for(each, host, caller, scene) for each in scene.policies("VirtualService")]


@pytest.mark.parametrize(
    ("match", "because"),
    [
        ({"sourceNamespace": "payments"}, "for callers in namespace payments alone, and frontend-v1-1.shop is in shop"),
        ({"sourceLabels": {"app": "pay"}}, "for callers with app=pay alone, and frontend-v1-1.shop has app=frontend"),
        ({"sourceLabels": {"a": "b"}}, "for callers with a=b alone, and frontend-v1-1.shop has no label a"),
        ({"port": 81}, "for calls to port 81 alone, and this one is to 80"),
        ({"gateways": ["edge/public"]}, "for the gateway edge/public alone"),
        ({"sourceNamespace": "shop", "sourceLabels": {"app": "frontend"}, "port": 80}, None),
        ({"gateways": ["mesh"], "sourceNamespace": "payments"}, None),
        ({"uri": {"prefix": "/a"}}, None),
    ],
)
def test_rules_for_others(tmp_path, match, because):
    """A rule that is for other callers alone is told with the reason, where it stands before the one that was met."""
    scene = scene_of(tmp_path, *SHOP, virtual_service(TO, {**TO, "match": [match]}, TO))
    rule = Rule("VirtualService", "shop", "cart", 2)
    found = left_out(rule, CALLER, scene, is_met=True)
    assert [(each.rule.rule, each.rule.match, each.because) for each in found] == (
        [(1, 0, f"it is {because}")] if because else []
    )
    first = Rule("VirtualService", "shop", "cart", 0)
    assert left_out(first, CALLER, scene, is_met=True) == []
    assert left_out(first, CALLER, scene, is_met=False) == found


def test_rules_of_delegates(tmp_path):
    """Of what others delegate to nothing is said: their conditions count as well."""
    child = an_object("VirtualService", "cart", {"http": [{**TO, "match": [{"sourceNamespace": "x"}]}, TO]})
    scene = scene_of(tmp_path, *SHOP, child)
    assert left_out(Rule("VirtualService", "shop", "cart", 1), CALLER, scene, is_met=True) == []
    assert callers_of(Rule("VirtualService", "shop", "cart", 0, 0), scene) == ["the caller is in namespace x"]


@pytest.mark.parametrize(
    ("matches", "words"),
    [
        ([], []),
        ([{"sourceNamespace": "shop"}], ["the caller is in namespace shop"]),
        ([{"sourceNamespace": "shop"}] * 2, ["the caller is in namespace shop"]),
        ([{"sourceNamespace": "shop"}, {"port": 80}], None),
        ([{"gateways": ["mesh"]}], []),
        ([{"gateways": ["mesh"], "port": 80}], None),
    ],
)
def test_who_delegates(tmp_path, matches, words):
    """A rule to which another object delegates is for the callers of that one, where these are the same for all."""
    child = an_object("VirtualService", "child", {"http": [TO]})
    root = virtual_service({"delegate": {"name": "child"}, "match": matches}, {"delegate": {"name": "other"}})
    scene = scene_of(tmp_path, *SHOP, root, child)
    assert callers_of(Rule("VirtualService", "shop", "child", 0), scene) == words


def test_who_a_rule_is_for(tmp_path):
    """What a rule asks of its caller is told."""
    matches = [
        {"port": 80, "sourceLabels": {"app": "frontend"}, "sourceNamespace": "shop"},
        {"gateways": ["mesh"], "sourceNamespace": "shop"},
    ]
    scene = scene_of(tmp_path, *SHOP, virtual_service({**TO, "match": matches}, TO))
    words = [
        callers_of(Rule("VirtualService", "shop", "cart", number, match), scene)
        for number, match in ((0, 0), (0, 1), (0, None), (1, None))
    ]
    assert words == [["the port is 80", "the caller has app=frontend", "the caller is in namespace shop"], [], [], []]


@pytest.mark.parametrize(
    ("routes", "port"), [("80", 80), ("cart.shop.svc.cluster.local:8082", 8082), ("http_proxy", None), ("a80", None)]
)
def test_the_caller(tmp_path, routes, port):
    """The port that was called is that of the routes; who came in, or by a gateway, is no caller."""
    scene = scene_of(tmp_path, *SHOP)
    assert caller_of(record("frontend-v1-1.shop", routes=routes), scene) == Caller("frontend-v1-1.shop", port)
    assert caller_of(record("frontend-v1-1.shop", routes="inbound|80||"), scene) is None


@pytest.mark.parametrize(
    ("virtual_service", "reason"),
    [
        (
            virtual_service(TO, namespace="payments", hosts=[HOST], exportTo=["."]),
            "VirtualService/cart.payments is not exported to namespace shop: its exportTo is .",
        ),
        (
            virtual_service(TO, namespace="payments", hosts=["cart.shop"]),
            f"VirtualService/cart.payments is for cart.shop, and Istio completes no name that has a dot: write {HOST}",
        ),
        (
            virtual_service(TO, namespace="payments"),
            "VirtualService/cart.payments is not for cart.shop: its host cart is one of its own namespace, payments",
        ),
        (
            virtual_service(TO, gateways=["edge/public"]),
            "VirtualService/cart.shop is for gateways alone: its gateways do not name mesh",
        ),
        (
            virtual_service({**TO, "match": [{"sourceNamespace": "payments"}]}),
            "VirtualService/cart.shop has no rule for this call: http[0] is for callers in namespace payments alone, "
            "and frontend-v1-1.shop is in shop",
        ),
        (virtual_service(), "VirtualService/cart.shop has no rules for HTTP"),
        (
            virtual_service(TO, hosts=["www.example.com"]),
            "VirtualService/cart.shop is for calls to www.example.com, not to cart.shop",
        ),
        (virtual_service(TO, hosts=["www.example.com"], gateways=["edge/public"]), None),
        (virtual_service(TO, hosts=["*"], gateways=["edge/public"]), None),
        (virtual_service({"directResponse": {"status": 404}}, hosts=["www.example.com"]), None),
        (virtual_service(TO, hosts=["*.shop.svc.cluster.local"], exportTo=["shop"]), None),
    ],
)
def test_why_one_does_not_count(tmp_path, virtual_service, reason):
    """A VirtualService that names the host, or nearly so, is told with the reason; one of other hosts is not."""
    assert why(tmp_path, virtual_service) == [reason]


@pytest.mark.parametrize(
    ("hosts", "is_known"),
    [(["./*"], False), (["./*", "payments/*"], True), (["*/*"], True), (["~/*"], False), (None, True)],
)
def test_what_a_sidecar_hides(tmp_path, hosts, is_known):
    """A Sidecar that takes nothing of a VirtualService's namespace is named with what it takes."""
    egress = {"egress": [{"hosts": hosts}]} if hosts else {}
    sidecar = an_object("Sidecar", "near", egress)
    (reason,) = why(tmp_path, virtual_service(TO, namespace="payments", hosts=[HOST]), sidecar)
    expected = f"of namespace payments: its egress hosts are {', '.join(hosts or [])}"
    prefix = "Sidecar/near.shop does not let the sidecar know VirtualService/cart.payments"
    assert reason == (None if is_known else f"{prefix} {expected}")
