"""What is said of calls that no Envoy has logged, or that a sidecar passed on as they were."""

import dataclasses

import pytest
from lab_support import EXAMPLE, manifest

from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.engine import Configuration
from meshdemo.lab.files.manifests import Loader
from meshdemo.lab.xray.scene import Scene
from meshdemo.lab.xray.silence import passing_hop, silent_hop


def scene(kind, name, **spec):
    """Return the example with one policy."""
    metadata = {"name": name}
    policy = {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}
    cluster = read_cluster(Loader([EXAMPLE]).load()[0])
    return Scene(dataclasses.replace(cluster, policies=(manifest(policy),)), Configuration({}), {})


@pytest.mark.parametrize(
    ("hosts", "is_named"),
    [(["www.example.com"], True), (["*.example.com"], True), (["*.com"], True), (["example.com"], False)],
)
def test_hosts_outside(hosts, is_named):
    """A host outside is one of the mesh where a ServiceEntry names it, be it by a wildcard."""
    seen = scene("ServiceEntry", "outside", hosts=hosts)
    hop = silent_hop(seen.pod("proxy-1"), "https://www.example.com/", None, seen, is_failed=True)
    assert (hop.notes[1] == "ServiceEntry/outside makes www.example.com a host of the mesh") == is_named


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("webserver", "Sidecar/near does not let the sidecar know webserver"),
        ("webserverv1-1", "webserverv1-1 is a pod's own name or address"),
    ],
)
def test_passing_through(host, why):
    """A call that a sidecar passes on is told with the reason."""
    seen = scene("Sidecar", "near", egress=[{"hosts": ["./none"]}])
    hop = passing_hop("proxy-1", f"http://{host}/", seen)
    assert hop.notes == (why, "the call passes through as it is: in plain text, and by no rule")
    assert passing_hop("nobody", f"http://{host}/", seen) is None
