"""Services that a gateway leads to."""

import pytest
from proposing_support import policy, read_policies

from meshdemo.lessons.proposing.behind_gateways import behind_gateways
from meshdemo.lessons.proposing.conditions import NoValueError, choose
from meshdemo.lessons.proposing.places import places_of
from meshdemo.lessons.proposing.proposals import command_of
from meshdemo.lessons.proposing.reading import rules_of

TO_CART = "route: [{destination: {host: cart}}]"
AT_THE_EDGE = "hosts: [a.example.com]\ngateways: [edge]\nhttp: "


@pytest.fixture
def calls(tmp_path):
    """Return a function that gives the calls through gateways that meet an AuthorizationPolicy for cart."""

    def run(source, *others):
        rules = f"selector: {{matchLabels: {{app: cart}}}}\nrules: [{{from: [{{source: {source}}}]}}]"
        (own, *_), cluster = read_policies(tmp_path, policy("AuthorizationPolicy", rules) + "".join(others))
        found = []
        for place in behind_gateways(places_of(own, cluster), cluster):
            assert sorted(place.pods) == ["cart-v1-1.shop", "cart-v2-1.shop"]
            try:
                found += [command_of(wish)[2:] for wish in choose(rules_of(own)[0][0], place)]
            except NoValueError as problem:
                found.append(str(problem))
        return found

    return run


def test_who_calls_through_a_gateway(calls):
    """The gateway's identity is that of the caller, and its rule is met on the way."""
    rule = "[{match: [{uri: {prefix: /other}}], route: [{destination: {host: front}}]}, "
    rule += f"{{match: [{{uri: {{prefix: /cart}}}}, {{uri: {{prefix: /c}}}}], {TO_CART}}}]"
    edge = policy("VirtualService", AT_THE_EDGE + rule, name="edge")
    expected = [(f"http://127.0.0.1:8080/{path}", "-H", "Host: a.example.com") for path in ("cart", "c")]
    assert calls("{namespaces: [istio-system]}", edge) == expected
    account = "cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"
    assert calls(f"{{principals: ['{account}']}}", edge) == expected
    reason, _ = calls("{namespaces: [pay]}", edge)
    assert reason == "no workload here that can call the gateway istio-ingressgateway meets namespaces: pay"


def test_a_delegate(calls):
    """Where another VirtualService delegates, what that asks for is met, too."""
    root = policy("VirtualService", f"{AT_THE_EDGE}[{{match: [{{uri: {{prefix: /c}}}}], delegate: {{name: child}}}}]")
    child = policy("VirtualService", f"http: [{{{TO_CART}}}]", name="child")
    assert calls("{namespaces: [istio-system]}", root, child) == [
        ("http://127.0.0.1:8080/c", "-H", "Host: a.example.com")
    ]


def test_rules_that_lead_elsewhere(calls):
    """A rule for the mesh, one that leads to others, too, and one of which no gateway is here are no ways to it."""
    source = "{namespaces: [istio-system]}"
    others = "[{route: [{destination: {host: cart}, weight: 50}, {destination: {host: front}, weight: 50}]}]"
    assert calls(source, policy("VirtualService", f"hosts: [cart]\nhttp: [{{{TO_CART}}}]", name="a")) == []
    assert calls(source, policy("VirtualService", AT_THE_EDGE + others, name="a")) == []
    nowhere = AT_THE_EDGE.replace("[edge]", "[nowhere]")
    assert calls(source, policy("VirtualService", f"{nowhere}[{{{TO_CART}}}]", name="a")) == []
