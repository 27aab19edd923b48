"""Which DestinationRule a call came under, by what Envoy's clusters say, and why a destination has no cluster."""

import dataclasses

import pytest
from lab_support import EXAMPLE, manifest

from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.engine import Configuration, Resources
from meshdemo.lab.files.manifests import Loader
from meshdemo.lab.xray.facts.scene import Scene, Target
from meshdemo.lab.xray.policies.destination_rules import policy_for, why_missing, why_nobody

HOST = "webserver.default.svc.cluster.local"
V1, V2 = ({"name": name, "labels": {"version": name}} for name in ("v1", "v2"))


def destination_rule(name, namespace="default", host=HOST, **spec):
    document = {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule"}
    metadata = {"name": name, "namespace": namespace}
    return manifest({**document, "metadata": metadata, "spec": {"host": host, **spec}})


def scene(*rules, owner=None, subset="", kinds=()):
    """Return the example with DestinationRules, one of which its proxy's cluster for the web server is from."""
    cluster = {"name": f"outbound|80|{subset}|{HOST}"}
    if owner:
        config = f"/apis/networking.istio.io/v1/namespaces/{owner.namespace}/destination-rule/{owner.name}"
        cluster["metadata"] = {"filter_metadata": {"istio": {"config": config}}}
    example = dataclasses.replace(read_cluster(Loader([EXAMPLE]).load()[0]), policies=(*rules, *kinds))
    return Scene(example, Configuration({"proxy-1": Resources(clusters=[cluster])}), {})


def target(subset=None, port=80):
    return Target(HOST, port, subset)


def test_the_rule_that_counts():
    """Of several DestinationRules that of Envoy's own cluster is named: a wildcard's, or none at all."""
    near, far = destination_rule("far", "a", subsets=[V1]), destination_rule("near", "b", host="*.cluster.local")
    found = policy_for(scene(near, far, owner=far), "proxy-1", target("v1"))
    assert (found.owner, found.parts, found.subsets()) == (far, (far,), {})
    assert policy_for(scene(near, far), "proxy-1", target()) is None
    assert policy_for(scene(near, far, owner=far), "elsewhere", target()) is None


def test_rules_that_are_merged():
    """What several objects of a namespace say of a host counts together, the first of each; other callers' does not."""
    one = destination_rule("one", host="webserver", subsets=[V1])
    policy = {"loadBalancer": {"simple": "RANDOM"}}
    two = destination_rule("two", subsets=[{**V1, "labels": {}}, V2], trafficPolicy=policy)
    found = policy_for(scene(two, one, owner=one), "proxy-1", target("v2"))
    assert (found.parts, found.subsets(), found.traffic(target())) == ((one, two), {"v1": V1, "v2": V2}, policy)
    assert [found.source_of(subset) for subset in ("v1", "v2", None)] == [one, two, two]
    three = destination_rule("three", exportTo=["."], subsets=[V2])
    found = policy_for(scene(one, three, owner=one), "proxy-1", target())
    assert (found.owner, found.parts, found.source_of("v2")) == (one, (), one)


@pytest.mark.parametrize(
    ("port", "subset", "expected"),
    [
        (80, None, {"loadBalancer": {"simple": "RANDOM"}, "tls": {"mode": "SIMPLE"}}),
        (80, "v1", {"loadBalancer": {"simple": "RANDOM"}, "tls": {"mode": "DISABLE"}}),
        (81, None, {"port": {"number": 81}, "outlierDetection": {}}),
        (81, "v1", {"port": {"number": 81}, "outlierDetection": {}, "tls": {"mode": "DISABLE"}}),
        (82, "v1", {"port": {"number": 82}}),
    ],
)
def test_what_holds_at_a_port(port, subset, expected):
    """The settings of a port take the place of all others, a subset's that of its host's, one by one."""
    at = [{"port": {"number": number}, **more} for number, more in ((81, {"outlierDetection": {}}),)]
    host = {"loadBalancer": {"simple": "RANDOM"}, "tls": {"mode": "SIMPLE"}, "portLevelSettings": at}
    own = {"tls": {"mode": "DISABLE"}, "portLevelSettings": [{"port": {"number": 82}}]}
    rule = destination_rule("one", trafficPolicy=host, subsets=[{**V1, "trafficPolicy": own}])
    seen = scene(rule, owner=rule)
    found = policy_for(seen, "proxy-1", target()).traffic(target(subset, port))
    assert {name: value for name, value in found.items() if name != "portLevelSettings"} == expected


def test_a_subset_that_is_missing():
    """The DestinationRule that counts is named with what it has, and the one that has the subset and does not count."""
    own, far = destination_rule("own"), destination_rule("far", "shop", subsets=[V2])
    both = destination_rule("both", subsets=[V2, V1])
    reasons = [
        why_missing(target(subset), "proxy-1", seen)
        for subset, seen in (
            ("v3", scene()),
            ("v3", scene(both, owner=both)),
            ("v2", scene(own, far, owner=own)),
            ("v2", scene(far)),
        )
    ]
    assert reasons == [
        "no DestinationRule defines the subset v3 of webserver",
        "DestinationRule/both has no subset v3 of webserver, only v1, v2",
        "DestinationRule/own has no subset v2 of webserver: it has none; DestinationRule/far.shop has it, but one in "
        "the caller's namespace, default, comes first",
        "no DestinationRule that counts for callers in default defines the subset v2 of webserver; "
        "DestinationRule/far.shop has it, and does not count here",
    ]


def test_a_host_that_is_missing():
    """A port that a Service lacks, a Service that a Sidecar hides, and a host that nobody has are told apart."""
    sidecar = manifest(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Sidecar",
            "metadata": {"name": "near"},
            "spec": {"egress": [{"hosts": ["~/*"]}]},
        }
    )
    empty = dataclasses.replace(scene(), configuration=Configuration({}))
    hidden = dataclasses.replace(scene(kinds=[sidecar]), configuration=Configuration({}))
    assert why_missing(None, "proxy-1", empty) == "the destination does not exist"
    assert why_missing(target(port=81), "proxy-1", empty) == "the Service webserver has no port 81, only 80"
    assert why_missing(target("v1"), "proxy-1", hidden) == "Sidecar/near does not let the sidecar know webserver"
    assert why_missing(target(), "proxy-1", empty) == "proxy-1 does not know webserver"
    assert why_missing(Target("x.org", 80, None), "proxy-1", empty) == "there is no host x.org"


def test_nobody_behind():
    """Labels of a subset that no pod has are named."""
    rule = destination_rule("one", subsets=[{"name": "v3", "labels": {"version": "v3"}}, V1])
    seen = scene(rule, owner=rule)
    policy = policy_for(seen, "proxy-1", target())
    assert why_nobody(target("v3"), policy, seen) == "no pod of webserver has the labels of subset v3, version=v3"
    assert why_nobody(target("v1"), policy, seen).startswith("no pod of webserver in subset v1 takes calls: none is")
    assert why_nobody(Target("x.org", 80, None), None, seen) == "nothing takes calls for x.org"
    assert why_nobody(None, None, seen) == "nobody takes calls there"


@pytest.mark.parametrize(
    ("port", "subset", "host", "mode"),
    [
        (80, None, "SIMPLE", "SIMPLE"),
        (80, "v1", "SIMPLE", "MUTUAL"),
        (81, None, "SIMPLE", None),
        (81, None, "DISABLE", "DISABLE"),
        (81, "v2", "DISABLE", "DISABLE"),
        (82, None, "DISABLE", "ISTIO_MUTUAL"),
    ],
)
def test_the_mode_of_tls(port, subset, host, mode):
    """The settings of a port say how it is called; without a word of TLS in them, DISABLE still holds."""
    ports = [{"port": {"number": 81}}, {"port": {"number": 82}, "tls": {"mode": "ISTIO_MUTUAL"}}]
    subsets = [{**V1, "trafficPolicy": {"tls": {"mode": "MUTUAL"}}}, V2]
    policy = {"tls": {"mode": host}, "portLevelSettings": ports}
    rule = destination_rule("one", trafficPolicy=policy, subsets=subsets)
    seen = scene(rule, owner=rule)
    assert policy_for(seen, "proxy-1", target()).tls_mode(target(subset, port)) == mode
