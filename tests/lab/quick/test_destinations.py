"""DestinationRules, ServiceEntries and Gateways, read into what can be called and how."""

import dataclasses

import pytest
from quick_support import SUBSETS, cluster_of, manifest

from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.quick.reading.destination_rule import read_destination_rule
from meshdemo.lab.quick.reading.gateways import read_listeners, read_servers
from meshdemo.lab.quick.reading.service_entry import read_service_entry
from meshdemo.lab.quick.rules.destinations import (
    CALLER,
    Balancing,
    Cookie,
    Endpoint,
    Hashing,
    OutlierDetection,
    Pool,
    RetryBudget,
    Warmup,
)
from meshdemo.lab.quick.rules.model import Destination, Server
from meshdemo.lab.quick.rules.refusing import UnsupportedError
from meshdemo.lab.quick.rules.registry import Registry, check_policy, merged, service_hosts


def rule(name="webserver", **spec):
    return read_destination_rule(manifest("DestinationRule", {"host": "webserver", **spec}, name))


def policy(**parts):
    return rule(trafficPolicy=parts).policy


PARTS = {
    "limits": (
        {"connectionPool": {"tcp": {"maxConnections": 3, "connectTimeout": "250ms"}, "http": {"maxRetries": 0}}},
        "pool",
        Pool(max_connections=3, connect_seconds=0.25),
    ),
    "the shorter word for idle": (
        {"connectionPool": {"tcp": {"idleTimeout": "4s"}, "http": {"idleTimeout": "9s"}}},
        "pool",
        Pool(idle_seconds=9),
    ),
    "keep-alive in whole seconds": (
        {"connectionPool": {"tcp": {"tcpKeepalive": {"time": "7.5s", "probes": 0}}}},
        "pool",
        Pool(keepalive={"time": 7}),
    ),
    "outlier detection": (
        {"outlierDetection": {"consecutive5xxErrors": 0, "interval": "1s", "minHealthPercent": 20}},
        "outliers",
        OutlierDetection(errors_5xx=0, interval_seconds=1, min_health_percent=20),
    ),
    "a balancer": ({"loadBalancer": {"simple": "RANDOM"}}, "balancing", Balancing("RANDOM")),
    "a warm-up": (
        {"loadBalancer": {"warmup": {"duration": "30s"}}},
        "balancing",
        Balancing(warmup=Warmup(30, 10.0, 1.0)),
    ),
    "a warm-up as it was written before": (
        {"loadBalancer": {"warmupDurationSecs": "30s"}},
        "balancing",
        Balancing(warmup=Warmup(30)),
    ),
    "a share of retries": (
        {"retryBudget": {"percent": 5, "budgetInterval": "1s"}},
        "retry_budget",
        RetryBudget(5, interval_seconds=1),
    ),
}


@pytest.mark.parametrize(("written", "name", "expected"), PARTS.values(), ids=PARTS)
def test_parts_of_a_policy(written, name, expected):
    """What a policy says is read, with what it does not say as None or 0."""
    assert getattr(policy(**written), name) == expected


HASHINGS = {
    "a header": ({"httpHeaderName": "x"}, Hashing(header="x")),
    "a parameter": ({"httpQueryParameterName": "q", "minimumRingSize": 5}, Hashing(parameter="q", ring_size=5)),
    "an address": ({"useSourceIp": True, "ringHash": {}}, Hashing(source_address=True, ring_size=0)),
    "a cookie": (
        {"httpCookie": {"name": "c", "ttl": "0s", "attributes": [{"name": "a", "value": "b"}]}},
        Hashing(cookie=Cookie("c", seconds=0, attributes=(("a", "b"),))),
    ),
    "Maglev's table": ({"httpHeaderName": "x", "maglev": {"tableSize": 65537}}, Hashing(header="x", table_size=65537)),
}


@pytest.mark.parametrize(("written", "expected"), HASHINGS.values(), ids=HASHINGS)
def test_hashing(written, expected):
    """Calls are kept together by one part of them, by a ring or a table."""
    assert policy(loadBalancer={"consistentHash": written}).balancing.hashing == expected


@pytest.mark.parametrize("written", [{"httpHeaderName": ""}, {"httpHeaderName": "a b"}, {"httpQueryParameterName": ""}])
def test_names_to_hash_by_that_istio_takes(written):
    """A name that Istio takes and no call can have is refused as what --istiod takes."""
    with pytest.raises(UnsupportedError, match="--istiod"):
        policy(loadBalancer={"consistentHash": written})


REFUSED = {
    "an empty policy": ({"trafficPolicy": {}}, "trafficPolicy.connectionPool: is missing, as are all others"),
    "an empty pool": ({"trafficPolicy": {"connectionPool": {}}}, "connectionPool.http: is missing"),
    "a subset twice": ({"subsets": [{"name": "a"}, {"name": "a"}]}, r"subsets\[1\].name: 'a' is the name of another"),
    "no name of a subset": ({"subsets": [{"name": "A_b"}]}, "'A_b' is not a name"),
    "no value of a label": ({"subsets": [{"name": "a", "labels": {"version": "a b"}}]}, "not the value of a label"),
    "a percentage of 101": ({"trafficPolicy": {"outlierDetection": {"maxEjectionPercent": 101}}}, "101 is not from 0"),
    "local failures that are not told apart": (
        {"trafficPolicy": {"outlierDetection": {"consecutiveLocalOriginFailures": 2}}},
        "needs splitExternalLocalOriginErrors",
    ),
    "two parts to hash by": (
        {"trafficPolicy": {"loadBalancer": {"consistentHash": {"useSourceIp": True, "httpHeaderName": "x"}}}},
        "useSourceIp: cannot be combined with httpHeaderName",
    ),
    "a balancer beside hashing": (
        {"trafficPolicy": {"loadBalancer": {"simple": "RANDOM", "consistentHash": {}}}},
        "consistentHash: cannot be combined with simple",
    ),
    "a table whose size is no prime": (
        {"trafficPolicy": {"loadBalancer": {"consistentHash": {"maglev": {"tableSize": 100}}}}},
        "100 is not a prime number",
    ),
    "mutual TLS": ({"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}, "trafficPolicy.tls: is not supported.*istiod"),
    "a port without settings": (
        {"trafficPolicy": {"portLevelSettings": [{"port": {"number": 80}}]}},
        "is missing, as are all others",
    ),
    "an export elsewhere": ({"exportTo": ["elsewhere"]}, "'elsewhere' is not supported by the quick engine"),
}


@pytest.mark.parametrize(("spec", "problem"), REFUSED.values(), ids=REFUSED)
def test_refused_rules(spec, problem):
    """What Istio refuses, and what is not exact here, is refused with its place."""
    with pytest.raises(ManifestError, match=problem) as error:
        rule(**spec)
    assert str(error.value).startswith("policy.yaml: DestinationRule/webserver: spec")


def registry(tmp_path, *policies):
    hosts = {host.name: host for host in service_hosts(cluster_of(tmp_path))}
    return Registry(hosts, policies, True)


def test_policies_of_one_host_are_one(tmp_path):
    """Of several rules for a host the first by name counts, and subsets of others are added to its own."""
    first = rule("a", trafficPolicy={"loadBalancer": {"simple": "RANDOM"}}, subsets=SUBSETS["subsets"][:1])
    second = rule("b", trafficPolicy={"loadBalancer": {"simple": "ROUND_ROBIN"}}, **{"subsets": SUBSETS["subsets"]})
    found = registry(tmp_path, second, first).policy_for("webserver.default.svc.cluster.local")
    assert found.policy.balancing.policy == "RANDOM"
    assert [subset.name for subset in found.subsets] == ["v1", "v2"]


def test_the_closest_name_counts(tmp_path):
    """A rule for a host's own name counts before one with a wildcard, and the longer wildcard before the shorter."""
    policies = [
        rule(str(number), host=host) for number, host in enumerate(("*", "*.local", "*.default.svc.cluster.local"))
    ]
    known = registry(tmp_path, *policies)
    assert known.policy_for("webserver.default.svc.cluster.local").name == "2"
    own = rule("own")
    assert registry(tmp_path, *policies, own).policy_for("webserver.default.svc.cluster.local") == own
    assert registry(tmp_path, *policies, own).policy_for("a.example.com").name == "0"


def test_levels_of_a_policy():
    """A port's settings replace all of a host's, a subset's parts replace single ones, its port's all of them."""
    found = rule(
        trafficPolicy={
            "loadBalancer": {"simple": "RANDOM"},
            "outlierDetection": {},
            "portLevelSettings": [{"port": {"number": 81}, "connectionPool": {"tcp": {"maxConnections": 1}}}],
        },
        subsets=[
            {
                "name": "a",
                "trafficPolicy": {
                    "loadBalancer": {"simple": "ROUND_ROBIN"},
                    "portLevelSettings": [{"port": {"number": 82}, "outlierDetection": {"maxEjectionPercent": 9}}],
                },
            }
        ],
    )
    top, subset = found.policy, found.subsets[0].policy
    at_80, at_81, at_82 = (merged(top, subset, port) for port in (80, 81, 82))
    assert (at_80.balancing.policy, at_80.outliers, at_80.pool) == ("ROUND_ROBIN", OutlierDetection(), None)
    assert (at_81.balancing.policy, at_81.outliers, at_81.pool.max_connections) == ("ROUND_ROBIN", None, 1)
    assert (at_82.balancing, at_82.outliers.max_percent, at_82.pool) == (None, 9, None)
    assert merged(top, None, 80) == top


def test_the_retry_budget_of_a_port_of_a_subset():
    """A subset's settings of a port take the retry budget from the host, whatever else they replace."""
    budget = {"retryBudget": {"percent": 5}}
    ports = {"portLevelSettings": [{"port": {"number": 80}, "loadBalancer": {"simple": "RANDOM"}}]}
    found = rule(trafficPolicy=budget, subsets=[{"name": "a", "trafficPolicy": ports}])
    at_80 = merged(found.policy, found.subsets[0].policy, 80)
    assert (at_80.retry_budget, at_80.balancing.policy) == (RetryBudget(5), "RANDOM")


def test_private_policies(tmp_path):
    """What is for its own namespace alone is not seen by a gateway of another."""
    known = registry(tmp_path, rule(exportTo=["."]))
    host = "webserver.default.svc.cluster.local"
    (outside,) = entry(resolution="DNS", exportTo=["."])
    both = dataclasses.replace(known, hosts={**known.hosts, outside.name: outside})
    assert outside.name in both.seen_from("default").hosts
    assert outside.name not in both.seen_from("istio-system").hosts
    assert known.seen_from("default").policy_for(host)
    assert not known.seen_from("istio-system").policy_for(host)


@pytest.mark.parametrize(
    ("destination", "problem"),
    [
        (Destination("nowhere.default.svc.cluster.local", place="x.host"), "x.host: no Service or .* 'nowhere'"),
        (
            Destination("webserver.default.svc.cluster.local", port=81, place="x.host"),
            "x.port: .* has no port 81, only 80",
        ),
        (Destination("webserver.default.svc.cluster.local", "v3", place="x.host"), "x.subset: .*'v3'"),
    ],
    ids=["no host", "no port", "no subset"],
)
def test_destinations_that_are_not_there(tmp_path, destination, problem):
    """Calls to what does not exist would fail, so that it is refused."""
    with pytest.raises(ManifestError, match=f"^{problem}"):
        registry(tmp_path, rule(**SUBSETS)).check(destination)


def entry(**spec):
    basis = {"hosts": ["a.example.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}
    return read_service_entry(manifest("ServiceEntry", {**basis, **spec}))


def test_entries_by_dns():
    """A host without endpoints is looked up itself, at the target port."""
    ports = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}]
    (host,) = entry(resolution="DNS", ports=ports, addresses=["240.0.0.1"])
    assert host.names == ("a.example.com", "a.example.com.", "240.0.0.1")
    assert (host.lookup, host.port(80).endpoints) == ("all", (Endpoint("a.example.com", 8080, {}),))


@pytest.mark.parametrize("resolution", [{}, {"resolution": "NONE"}], ids=["not said", "NONE"])
def test_entries_that_callers_look_up(resolution):
    """Without a resolution a host has no endpoints of its own, and may be a wildcard."""
    first, second = entry(hosts=["a.example.com", "*.example.org"], **resolution)
    assert first.names == ("a.example.com", "a.example.com.")
    assert {(host.lookup, host.port(80).endpoints) for host in (first, second)} == {(CALLER, ())}


@pytest.mark.parametrize(("written", "name"), [("240.0.0.1/32", "240.0.0.1"), ("10.0.0.0/8", "10.0.0.0/8")])
def test_addresses_of_an_entry(written, name):
    """An address may be that of a range; a range of one is an address."""
    (host,) = entry(addresses=[written])
    assert host.names == ("a.example.com", "a.example.com.", name)


def test_pods_outside_the_mesh(tmp_path):
    """What passes through would call all pods of a Service by TLS, so that none may be outside the mesh."""
    passing = rule(subsets=[{"name": "a", "trafficPolicy": {"loadBalancer": {"simple": "PASSTHROUGH"}}}])
    known = registry(tmp_path, passing)
    check_policy(passing, known)
    outside = {name: dataclasses.replace(host, has_outsiders=True) for name, host in known.hosts.items()}
    with pytest.raises(ManifestError, match=r"pods of webserver that are not in the mesh.*istiod"):
        check_policy(passing, dataclasses.replace(known, hosts=outside))


def test_entries_with_endpoints():
    """Endpoints have ports of their own by the name of the port, labels and weights."""
    endpoints = [
        {"address": "10.0.0.1", "ports": {"http": 9000}, "labels": {"version": "v1"}, "weight": 3},
        {"address": "10.0.0.2"},
    ]
    (host,) = entry(resolution="STATIC", endpoints=endpoints)
    assert host.lookup == ""
    assert host.port(80).endpoints == (Endpoint("10.0.0.1", 9000, {"version": "v1"}, 3), Endpoint("10.0.0.2", 80, {}))


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 81}]}, "targetPort.*NONE.*istiod"),
        ({"endpoints": [{"address": "10.0.0.1"}]}, "endpoints: is not allowed with resolution NONE"),
        ({"addresses": ["10.0.0.1", "10.0.0.2"]}, r"addresses: Istio gives only one.*istiod"),
        ({"addresses": ["10.0.0.1"], "hosts": ["a.com", "b.com"]}, r"addresses: Istio gives only one.*istiod"),
        ({"addresses": ["10.0.0.1/8"]}, "'10.0.0.1/8' is not an IPv4 address or range.*istiod"),
        ({"resolution": "STATIC", "endpoints": [{"address": "a.com"}]}, "'a.com' is not an IPv4 address"),
        (
            {"resolution": "DNS", "endpoints": [{"address": "a.com", "ports": {"x": 1}}]},
            "not the name of one of the ports",
        ),
        (
            {"resolution": "DNS", "endpoints": [{"address": "a.com", "ports": {"http": "abc"}}]},
            "'abc' is not a whole number",
        ),
        ({"resolution": "DNS", "endpoints": [{"address": "a.com", "ports": [1]}]}, "a list is not an object"),
        ({"resolution": "DNS", "hosts": ["*.a.com"]}, "is a wildcard.*istiod"),
        ({"resolution": "DNS", "hosts": ["short"]}, "is a name as Services have it"),
        ({"resolution": "DNS", "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}]}, "'TLS' is not supported"),
        ({"resolution": "DNS_ROUND_ROBIN", "endpoints": [{"address": "a.com"}, {"address": "b.com"}]}, "more than one"),
    ],
)
def test_refused_entries(spec, problem):
    """What Istio refuses, and what is not exact here, is refused with its place."""
    with pytest.raises(ManifestError, match=problem):
        entry(**spec)


def test_servers_of_istios_gateway():
    """A server takes calls of its hosts; those of other namespaces are nobody's here."""
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    servers = [{"port": port, "hosts": ["default/a.com", "*.b.com", "elsewhere/c.com"]}]
    spec = {"selector": {"istio": "ingressgateway"}, "servers": servers}
    found = read_servers(manifest("Gateway", spec, "g", "networking.istio.io"))
    assert found == ({"istio": "ingressgateway"}, [Server("default/g", 80, ("a.com", "*.b.com"))])
    servers[0] |= {"hosts": ["a.com"], "tls": {"httpsRedirect": True}}
    assert read_servers(manifest("Gateway", spec, "g", "networking.istio.io"))[1][0].https_only


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["default/*.a.com", "*/*"], ["*"]),
        (["*/*", "b.com", "default/c.com"], ["*"]),
        (["default/*.a.com", "*"], ["*.a.com", "*"]),
        (["./*", "default/a.com"], ["*", "a.com"]),
    ],
)
def test_all_hosts_of_all_namespaces(hosts, expected):
    """Istio drops the other hosts of a server beside */*, and keeps them beside each other way to take all."""
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    spec = {"selector": {"istio": "ingressgateway"}, "servers": [{"port": port, "hosts": hosts}]}
    _, (server,) = read_servers(manifest("Gateway", spec, "g", "networking.istio.io"))
    assert server.hosts == tuple(expected)


@pytest.mark.parametrize("host", ["./a.com", "*/a.com", "*/*.a.com"])
def test_hosts_that_end_istio(host):
    """A host whose namespace Istio would write anew, behind */*, is refused by its place: Istio panics."""
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    spec = {"selector": {"istio": "ingressgateway"}, "servers": [{"port": port, "hosts": ["*/*", "*/*", host]}]}
    with pytest.raises(UnsupportedError, match=r"spec\.servers\[0\]\.hosts\[2\].* panics"):
        read_servers(manifest("Gateway", spec, "g", "networking.istio.io"))


def test_listeners_of_the_gateway_api():
    """A listener takes calls of its hostname, or all, for kinds of routes that it allows."""
    listeners = [
        {"name": "a", "port": 80, "protocol": "HTTP"},
        {
            "name": "b",
            "port": 80,
            "protocol": "HTTP",
            "hostname": "*.a.com",
            "allowedRoutes": {"kinds": [{"kind": "GRPCRoute"}]},
        },
    ]
    spec = {"gatewayClassName": "istio", "listeners": listeners}
    found = read_listeners(manifest("Gateway", spec, "g", "gateway.networking.k8s.io"))
    assert [(each.hostname, each.takes_http_routes) for each in found] == [("*", True), ("*.a.com", False)]
    assert found[0].server == Server("default/g~istio-autogenerated-k8s-gateway~a", 80, ("*",))


@pytest.mark.parametrize(
    ("group", "spec", "problem"),
    [
        (
            "networking.istio.io",
            {"servers": [{"port": {"number": 443, "name": "s", "protocol": "HTTPS"}, "hosts": ["*"]}]},
            "'HTTPS' is not supp",
        ),
        (
            "networking.istio.io",
            {"servers": [{"port": {"number": 80, "name": "h", "protocol": "HTTP"}, "hosts": ["short"]}]},
            "is a short name",
        ),
        (
            "gateway.networking.k8s.io",
            {"gatewayClassName": "other", "listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}]},
            "is not Istio's",
        ),
        (
            "gateway.networking.k8s.io",
            {"gatewayClassName": "istio", "listeners": [{"name": "a", "port": 80, "protocol": "TLS"}]},
            "'TLS' is not supp",
        ),
        (
            "gateway.networking.k8s.io",
            {"gatewayClassName": "istio", "listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}] * 2},
            "of another",
        ),
    ],
    ids=["HTTPS", "a short name", "another class", "TLS", "the same listener twice"],
)
def test_refused_gateways(group, spec, problem):
    """What is not plain HTTP, and what Istio refuses, is refused with its place."""
    read = read_servers if group == "networking.istio.io" else read_listeners
    with pytest.raises(ManifestError, match=problem):
        read(manifest("Gateway", spec, "g", group))
