"""What is said of calls that no Envoy has logged, or that a sidecar passed on as they were."""

import dataclasses

import pytest
from lab_support import EXAMPLE, manifest
from xray_support import an_object, scene_of, workload

from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.engine import Configuration
from meshdemo.lab.files.manifests import Loader
from meshdemo.lab.xray.facts.scene import Scene
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


STRICT = an_object("PeerAuthentication", "all", {"mtls": {"mode": "STRICT"}})
OPEN = an_object(
    "PeerAuthentication", "open", {"selector": {"matchLabels": {"app": "cart"}}, "mtls": {"mode": "DISABLE"}}
)
APPLICATIONS = [*workload("cart"), *workload("soap", in_mesh=False), *workload("search", port=9200, headless=True)]
CALLER = workload("batch", "legacy", in_mesh=False)


@pytest.mark.parametrize(
    ("url", "policies", "name"),
    [
        ("http://cart.shop/", [STRICT], "cart"),
        ("http://search.shop/", [STRICT], "search"),
        ("http://cart-v1-1.shop:8080/", [STRICT], "cart-v1-1.shop"),
        ("http://search-v1-1.search.shop:9200/", [STRICT], "search-v1-1.shop"),
        # What has another mode, or no sidecar, or no such port, has another reason.
        ("http://cart.shop/", [STRICT, OPEN], None),
        ("http://soap.shop/", [STRICT], None),
        ("http://cart.shop:81/", [STRICT], None),
        ("http://cart-v1-1.shop:81/", [STRICT], None),
        ("http://cart.shop/", [], None),
    ],
)
def test_mutual_tls_alone(tmp_path, url, policies, name):
    """A call in plain text that failed is told with the policy by which the pods behind take mutual TLS alone."""
    seen = scene_of(tmp_path, *APPLICATIONS, *CALLER, *policies)
    hop = silent_hop(seen.pod("batch-v1-1.legacy"), url, None, seen, is_failed=True)
    reason = f"{name} takes mutual TLS alone: PeerAuthentication/all is STRICT" if name else None
    assert (hop.reason if hop else None) == reason
    assert bool(hop and hop.decided_by) is bool(name)
    answered = silent_hop(seen.pod("batch-v1-1.legacy"), url, None, seen, is_failed=False)
    assert answered is None or answered.reason is None


def test_mutual_tls_where_a_sidecar_passes_calls_on(tmp_path):
    """A sidecar passes on a call to a pod's own name as it is, which one that takes mutual TLS alone refuses."""
    seen = scene_of(tmp_path, *APPLICATIONS, *workload("pay", "payments"), STRICT)
    hop = silent_hop(seen.pod("pay-v1-1.payments"), "http://cart-v1-1.shop:8080/", None, seen, is_failed=True)
    assert (hop.kind, hop.decided_by.name) == ("sidecar", "all")
    assert hop.notes[0] == "cart-v1-1.shop is a pod's own name or address"
