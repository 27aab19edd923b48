"""Where calls meet a policy."""

import pytest
from proposing_support import policy, read_policies

from meshdemo.lessons.proposing.places import NoPlaceError, places_of

ANSWER = "http: [{directResponse: {status: 200}}]"
FRONT = "{matchLabels: {istio: ingressgateway}}"


@pytest.fixture
def places(tmp_path):
    """Return a function that gives the places of a policy, or why there are none."""

    def run(*words, others="", **options):
        (manifest, *_), cluster = read_policies(tmp_path, policy(*words, **options) + others)
        try:
            return places_of(manifest, cluster)
        except NoPlaceError as problem:
            return str(problem)

    return run


def test_a_service(places):
    """Workloads with a sidecar call it, those of its own namespace first, and those behind it last."""
    (place,) = places("VirtualService", f"hosts: [cart.shop.svc.cluster.local, other.example]\n{ANSWER}")
    assert (place.host, [(port.number, port.target) for port in place.ports]) == ("cart.shop", [(80, 8080)])
    assert [pod.workload for pod in place.callers] == [
        "front.shop",
        "pay.pay",
        "mongo.data",
        "cart-v1.shop",
        "cart-v2.shop",
    ]


def test_a_gateway(places):
    """It is called from outside, by the port that a check gives it, and by the host that both sides know."""
    (place,) = places("VirtualService", f"hosts: ['*']\ngateways: [edge]\n{ANSWER}")
    assert (place.host, place.authority, place.callers) == ("127.0.0.1", "www.example.com", ())
    assert [(port.number, port.scheme) for port in place.ports] == [(8080, "http")]
    (place,) = places("VirtualService", f"hosts: [a.example.com]\ngateways: [shop/edge]\n{ANSWER}", namespace="pay")
    assert place.authority == "a.example.com"


def test_a_port_that_stands_for_another(places):
    """Where a gateway has the number itself that a check gives to a lower one, that is called by its host."""
    servers = "servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]"
    other = policy("Gateway", f"selector: {{istio: ingressgateway}}\n{servers}", name="other")
    other = other.replace("security.istio.io", "networking.istio.io")
    for hosts, gateway, host, port in (
        ("'*'", "edge", "www.example.com", 80),
        ("a.example.com", "edge", "a.example.com", 80),
        ("'*'", "other", "127.0.0.1", 8080),
    ):
        spec = f"hosts: [{hosts}]\ngateways: [{gateway}]\n{ANSWER}"
        (place,) = places("VirtualService", spec, others=other)
        assert (place.host, place.ports[0].number) == (host, port)


def test_a_policy_for_pods(places):
    """A Service is called whose pods it selects all, also by workloads without a sidecar."""
    (place,) = places("AuthorizationPolicy", "selector: {matchLabels: {app: cart}}\nrules: [{}]")
    assert "batch.legacy" in [pod.workload for pod in place.callers]
    assert sorted(place.pods) == ["cart-v1-1.shop", "cart-v2-1.shop"]
    (place,) = places("AuthorizationPolicy", f"selector: {FRONT}\nrules: [{{}}]", namespace="istio-system")
    assert place.pods == ("istio-ingressgateway",)


def test_pods_without_a_sidecar(places):
    """Nothing judges what they are called with."""
    found = places("AuthorizationPolicy", "selector: {matchLabels: {app: batch}}\nrules: [{}]", namespace="legacy")
    assert found == "the pods that it selects have no sidecar"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("VirtualService", f"hosts: [other.example]\n{ANSWER}"), "nothing here calls other.example"),
        (
            ("VirtualService", f"hosts: [a.example.org]\ngateways: [edge]\n{ANSWER}"),
            "nothing here calls a.example.org at edge",
        ),
        (("VirtualService", ANSWER), "it has no hosts: another VirtualService delegates to it"),
        (
            ("VirtualService", f"hosts: [mongo.data.svc.cluster.local]\n{ANSWER}"),
            "the Service mongo.data has no port for HTTP",
        ),
        (
            ("AuthorizationPolicy", "selector: {matchLabels: {version: v2}}\nrules: [{}]"),
            "no Service leads to pods that it selects, and to no others",
        ),
        (
            ("AuthorizationPolicy", "selector: {matchLabels: {app: batch}}\nrules: [{}]"),
            "no pod here in namespace shop is what it selects",
        ),
        (
            ("AuthorizationPolicy", "targetRefs: [{kind: Service, group: '', name: cart}]\nrules: [{}]"),
            "no gateway here is what it names",
        ),
        (
            ("HTTPRoute", "parentRefs: [{name: none}]\nhostnames: [a.test]\nrules: [{}]"),
            "nothing here calls a.test at none",
        ),
    ],
)
def test_what_is_not_called(places, words, reason):
    """The reason is what is missing; pods of which some alone are selected answer by lot."""
    assert places(*words) == reason
