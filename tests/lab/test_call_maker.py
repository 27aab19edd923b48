"""Calls that the lab makes: which pods a name means."""

from types import SimpleNamespace

import pytest

from meshdemo.lab.call_maker import CallMaker, pods_of_name
from meshdemo.lab.cluster.pods import unique_name


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


def test_a_service_comes_before_a_pod_of_its_name():
    """A pod is called at its address and by its name, unless a Service has that name."""

    def pod(name, address):
        return SimpleNamespace(
            pod=SimpleNamespace(name=name, workload=name, namespace="default", address=address),
            ports=SimpleNamespace(apps={8080: 1}),
            wanted=SimpleNamespace(rules=[("*:80", 7)]),
            is_ready=True,
            port_of=lambda number: 4711,
        )

    service = SimpleNamespace(names_from=lambda namespace: ["web"])
    lab = SimpleNamespace(
        state=SimpleNamespace(cluster=SimpleNamespace(services=[service])),
        pods=SimpleNamespace(present=[pod("web", "10.0.0.1"), pod("other", "10.0.0.2")]),
    )
    ways = CallMaker(lab).ways("web")["connect_to"]
    assert [way[0] for way in ways] == ["10.0.0.1", "10.0.0.2", "other", "*"]
