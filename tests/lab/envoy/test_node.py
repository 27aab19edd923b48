"""What a cluster's network does without a mesh: which Services are reached from outside, and where they lead."""

import copy

from lab_support import EXAMPLE, manifest
from support import documents

from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.envoy import node


def cluster(*others, change=lambda objects: None):
    objects = copy.deepcopy(documents(EXAMPLE))
    change(objects)
    return read_cluster([manifest(each) for each in [*objects, *others]])


def service(name, **spec):
    spec = {
        "type": "LoadBalancer",
        "selector": {"app": "webserver"},
        "ports": [{"port": 80, "targetPort": "http"}],
        **spec,
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def test_the_example():
    """The Service `proxy` is reached from outside, and leads to its pod."""
    (entrance,) = node.public_entrances(cluster())
    assert entrance.key == "service/proxy:80"
    assert [(pod.name, number) for pod, number in entrance.endpoints] == [("proxy-1", 3030)]


def test_several():
    """The Service `proxy` comes first, the others by name, whatever the order of the files."""
    found = node.public_entrances(cluster(service("web"), service("another")))
    assert [each.name for each in found] == ["service/proxy", "service/another", "service/web"]


def test_a_proxy_behind_no_service():
    """A proxy that no Service leads to is reached as by `kubectl port-forward`."""

    def change(objects):
        for each in objects:
            if each["kind"] == "Service" and each["metadata"]["name"] == "proxy":
                each["spec"]["type"] = "ClusterIP"

    (entrance,) = node.public_entrances(cluster(change=change))
    assert entrance.key == "deployment/proxy:3030"


def test_configuration():
    """Each entrance is a listener that forwards connections to its pods, chosen at random, without limits."""
    entrances = node.public_entrances(cluster())
    resources = node.resources_of([*entrances, *entrances])
    assert [each["name"] for each in resources.listeners] == ["service/proxy:80"]
    (forwarding,) = resources.clusters
    assert (forwarding["lb_policy"], forwarding["type"]) == ("RANDOM", "EDS")
    assert len(resources.endpoints[0]["endpoints"][0]["lb_endpoints"]) == 1
