"""Where callers connect, and which pods a name means."""

from types import SimpleNamespace

import pytest

from meshdemo.lab.call_maker import CallMaker
from meshdemo.lab.cluster.model import Cluster, Service, ServicePort
from meshdemo.lab.cluster.pods import unique_name
from meshdemo.lab.door.door import DoorError
from meshdemo.lab.fleet.outside import GatewayPort
from meshdemo.lab.ways import Ways, pods_of_name


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("web-1.shop", ["web-1.shop"]),
        ("web.shop", ["web-1.shop", "web-2.shop"]),
        ("web", ["web-1.shop", "web-2.shop"]),
        ("web-2", ["web-2.shop"]),
        ("both", ["both-1"]),
        ("only.elsewhere", []),
        ("many", []),
    ],
)
def test_pods_of_a_name(name, found):
    """A name means pods of another namespace, too, where only one has any of it; in full it is always clear."""
    known = [("web", "shop", (1, 2)), ("both", "default", (1,)), ("both", "shop", (1,)), ("many", "a", (1,))]
    known += [("many", "b", (1,)), ("only", "shop", (1,))]
    pods = [
        SimpleNamespace(
            pod=SimpleNamespace(
                name=unique_name(f"{workload}-{number}", namespace),
                workload=unique_name(workload, namespace),
                namespace=namespace,
            )
        )
        for workload, namespace, numbers in known
        for number in numbers
    ]
    assert [each.pod.name for each in pods_of_name(name, pods)] == found


@pytest.fixture
def lab():
    """Return a lab with two pods, one of which has the name of a Service."""

    def pod(name, address):
        return SimpleNamespace(
            pod=SimpleNamespace(name=name, workload=name, namespace="default", address=address),
            ports=SimpleNamespace(apps={8080: 1}),
            wanted=SimpleNamespace(rules=[("web:80", 7)]),
            is_ready=True,
            port_of=lambda number: 4711,
        )

    service = Service("web", "10.96.0.1", {}, {}, (ServicePort("http", 80, 80, ""), ServicePort("", 82, 82, "")))
    return SimpleNamespace(
        state=SimpleNamespace(cluster=Cluster((), (), (service,), (), ())),
        pods=SimpleNamespace(present=[pod("web", "10.0.0.1"), pod("other", "10.0.0.2")]),
    )


def test_a_service_comes_before_a_pod_of_its_name(lab):
    """A pod is called at its address and by its name, unless a Service has that name."""
    ways = Ways(lab).of({"from": "web", "url": "http://web/"})["connect_to"]
    assert [way[0] for way in ways] == ["10.0.0.1", "10.0.0.2", "other", "web"]


@pytest.mark.parametrize("url", ["http://web/", "http://elsewhere:81/", "http://10.0.0.2:8080/"])
def test_calls_that_lead_anywhere(lab, url):
    """Nothing is wrong with a port that a Service has, nor with what is none."""
    assert Ways(lab).of({"from": "web", "url": url})["pod"] == "web"


@pytest.mark.parametrize("url", ["http://web:81/", "http://web.default:81/", "tcp://web:81"])
def test_a_port_that_a_service_does_not_have(lab, url):
    """Nobody is called there, and the Service is named with the ports that it has."""
    missing = "the Service web has no port 81, only 80, 82"
    with pytest.raises(DoorError, match=missing):
        Ways(lab).of({"from": "web", "url": url})
    assert CallMaker(lab, Ways(lab)).make({"from": "web", "url": url}).call.error == missing
    with pytest.raises(DoorError, match="from and url are strings"):
        Ways(lab).of({"from": "web"})


EDGE = (
    GatewayPort("edge", 80, 8080, "http", ("shop.example.com",)),
    GatewayPort("edge", 443, 8443, "https", ("shop.example.com",)),
    GatewayPort("api", 443, 8444, "https", ("*.example.com", "other.example.com")),
)


def outside(*pods, ports=EDGE):
    """Return the ways of a lab with gateways."""
    found = SimpleNamespace(gateway_ports=lambda state: ports)
    return Ways(SimpleNamespace(state=None, outside=found, pods=SimpleNamespace(present=pods)))


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("shop.example.com", 80, ("127.0.0.1", 8080)),
        ("shop.example.com", 443, ("127.0.0.1", 8443)),
        ("shop.example.com", 8443, ("127.0.0.1", 8443)),
        ("a.example.com", 443, ("127.0.0.1", 8444)),
        ("nobody.example.org", 443, ("127.0.0.1", 8443)),
        ("shop.example.com", 9000, ("shop.example.com", 9000)),
        ("127.0.0.1", 443, ("127.0.0.1", 443)),
        ("localhost", 80, ("localhost", 80)),
    ],
)
def test_hosts_of_gateways(host, port, expected):
    """A name leads to the gateway that has it at the port, else to the first there; no address does."""
    assert outside().where(None, host, port) == expected


def test_calls_from_outside():
    """`outside` is who calls from no pod, with the ways to gateways, unless a pod is called so."""
    asked = {"from": "outside", "url": "https://a.example.com/"}
    assert outside().of(asked) == {
        "pod": None,
        "connect_to": [
            ["a.example.com", 80, "127.0.0.1", 8080],
            ["", 80, "127.0.0.1", 8080],
            ["a.example.com", 443, "127.0.0.1", 8444],
            ["", 443, "127.0.0.1", 8443],
        ],
    }
    pod = SimpleNamespace(pod=SimpleNamespace(name="outside", workload="outside", namespace="default"), is_ready=True)
    assert outside(pod).caller("outside") is pod
