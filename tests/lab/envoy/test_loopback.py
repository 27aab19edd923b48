"""A cluster's configuration on loopback: other ports, and nothing else."""

import json

import pytest
from lab_support import EXAMPLE, K8S, manifest
from support import documents

from meshdemo.lab import quick
from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.engine import Resources
from meshdemo.lab.envoy.loopback import Local, Ports
from meshdemo.lab.envoy.outbound import connect_rules, is_inbound, outbound_names
from meshdemo.lab.envoy.xds.control_plane import ADS
from meshdemo.lab.envoy.xds.messages import pack

CHAIN = {"filters": [{"name": "envoy.filters.network.tcp_proxy"}]}


def listener(name, port, address="0.0.0.0", chains=(CHAIN,)):
    at = {"socket_address": {"address": address, "port_value": port}}
    return {"name": name, "address": at, "filter_chains": list(chains)}


def endpoints(name, *pods):
    found = [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
        for address, port in pods
    ]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": found}]}


def eds(name):
    return {"name": name, "type": "EDS", "eds_cluster_config": {"service_name": name}}


@pytest.fixture
def cluster():
    lesson = documents(K8S / "istio/split.yaml")
    return read_cluster([manifest(each) for each in [*documents(EXAMPLE), *lesson]])


def test_where_calls_leave(cluster):
    """A call leaves by its Service's own listener, else its port's, else the one for all where others are refused."""
    address = cluster.service("webserver").address
    passing = {"filters": [{"typed_config": {"cluster": "PassthroughCluster"}}]}
    found = [listener("0.0.0.0_80", 80), listener(f"{address}_9", 9, address), listener("virtualInbound", 15006)]
    names = ["webserver", "webserver.default", "webserver.default.svc", "webserver.default.svc.cluster.local"]
    own = {(f"{name}:9", f"{address}_9") for name in names}
    rules = connect_rules(Resources([*found, listener("virtualOutbound", 15001, chains=[passing])]), cluster, "default")
    assert set(rules) == own | {(":80", "0.0.0.0_80")}
    assert rules[-1] == (":80", "0.0.0.0_80")
    rules = connect_rules(Resources([*found, listener("virtualOutbound", 15001)]), cluster, "default")
    assert rules[-1] == (":", "virtualOutbound")
    rules = connect_rules(Resources(found), cluster, "elsewhere")
    assert {pattern for pattern, _ in rules} == {f"{name}:9" for name in names[1:]} | {":80"}


def test_outbound_listeners():
    """Each outbound listener gets its port on loopback, which nobody else may share."""
    resources = Resources([{**listener("0.0.0.0_80", 80), "bind_to_port": False}])
    assert outbound_names(resources) == ["0.0.0.0_80"]
    (found,) = Local(resources, Ports(outbound={"0.0.0.0_80": 21000}), None).listeners
    assert found["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 21000}}
    assert found["enable_reuse_port"] is False
    assert "bind_to_port" not in found


def test_inbound_listeners():
    """Of the inbound listener each port of the pod gets one, with the chains that are for it."""

    def chain(name, **match):
        return {"name": name, "filter_chain_match": match, "filters": []}

    chains = [
        chain("loop", destination_port=15006),
        chain("mine", destination_port=3030, transport_protocol="tls"),
        chain("any"),
    ]
    filters = [{"name": "envoy.filters.listener.original_dst"}, {"name": "envoy.filters.listener.tls_inspector"}]
    inbound = {**listener("virtualInbound", 15006, chains=chains), "listener_filters": filters}
    assert is_inbound(inbound)
    ports = Ports(apps={3030: 21000, 9: 21001}, inbound={3030: 21002, 9: 21003})
    found = {each["name"]: each for each in Local(Resources([inbound]), ports, None).listeners}
    mine, others = found["virtualInbound_3030"], found["virtualInbound_9"]
    assert mine["address"]["socket_address"]["port_value"] == 21002
    assert [each["name"] for each in mine["filter_chains"]] == ["mine"]
    assert mine["filter_chains"][0]["filter_chain_match"] == {"transport_protocol": "tls"}
    assert [each["name"] for each in others["filter_chains"]] == ["any"]
    assert [each["name"] for each in mine["listener_filters"]] == ["envoy.filters.listener.tls_inspector"]


def test_rules_for_a_port():
    """What asks for a port of a connection is decided for each listener by the number in the pod."""
    rbac = {"name": "rbac", "typed_config": {"rules": {"permissions": [{"destination_port": 3030}]}}}
    inbound = listener("virtualInbound", 15006, chains=[{"name": "any", "filter_chain_match": {}, "filters": [rbac]}])
    ports = Ports(apps={3030: 21000, 9: 21001}, inbound={3030: 21002, 9: 21003})
    found = {each["name"]: each for each in Local(Resources([inbound]), ports, None).listeners}
    for name, permission in (("virtualInbound_3030", {"any": True}), ("virtualInbound_9", {"not_rule": {"any": True}})):
        (chain,) = found[name]["filter_chains"]
        assert chain["filters"][0]["typed_config"]["rules"]["permissions"] == [permission]


def test_what_a_stand_in_speaks():
    """A stand-in is called by HTTP/1.1 at a port for HTTP/2; other settings, and what is none, stay as they are."""
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {
        "@type": f"type.googleapis.com/{options}",
        "common_http_protocol_options": {"idle_timeout": "1s"},
        "use_downstream_protocol_config": {"http2_protocol_options": {}},
    }
    clusters = [
        {"name": f"inbound|{port}||", "type": "ORIGINAL_DST", "typed_extension_protocol_options": {options: http2}}
        for port in (3030, 9)
    ]
    ports = Ports(apps={3030: 21000, 9: 21001}, inbound={3030: 21002, 9: 21003}, http1=frozenset({3030}))
    stand_in, own = Local(Resources(clusters=clusters), ports, None).clusters
    assert own["typed_extension_protocol_options"] == {options: http2}
    del http2["use_downstream_protocol_config"]
    http1 = {**http2, "explicit_http_config": {"http_protocol_options": {}}}
    assert stand_in["typed_extension_protocol_options"] == {options: http1}


def test_own_clusters():
    """What leads to the pod's own program leads to its port on loopback."""
    clusters = [
        {"name": "inbound|3030||", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"},
        {"name": "inbound|9||", "type": "ORIGINAL_DST"},
        {"name": "InboundPassthroughCluster", "type": "ORIGINAL_DST"},
    ]
    local = Local(Resources(clusters=clusters), Ports(apps={3030: 21000}), None)
    found = {each["name"]: each for each in local.clusters}
    assert set(found) == {"inbound|3030||", "InboundPassthroughCluster|3030"}
    at = found["inbound|3030||"]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    assert at == {"socket_address": {"address": "127.0.0.1", "port_value": 21000}}


def test_endpoints():
    """Only pods that take calls are endpoints, hashed by the address of the cluster; outside addresses stay."""
    name = "outbound|80||a"
    resources = Resources(
        [listener("0.0.0.0_80", 80)],
        clusters=[eds(name), eds("outbound|80||b")],
        endpoints=[endpoints(name, ("10.244.0.1", 3030), ("10.244.0.2", 3030), ("192.0.2.1", 80)), endpoints("c")],
    )
    local = Local(resources, Ports(outbound={"0.0.0.0_80": 21000}), None)
    found = local.endpoints(lambda address, port: 22000 if (address, port) == ("10.244.0.1", 3030) else None)
    assert set(found) == {name, "outbound|80||b"}
    assert found["outbound|80||b"] == {"cluster_name": "outbound|80||b"}
    first, outside = found[name]["endpoints"][0]["lb_endpoints"]
    assert first["endpoint"]["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 22000}}
    assert first["metadata"]["filter_metadata"]["envoy.lb"] == {"hash_key": "10.244.0.1:3030"}
    assert outside["endpoint"]["address"]["socket_address"]["address"] == "192.0.2.1"


def test_a_listener_without_a_port():
    """A listener that has no port here is not there, and neither are its routes."""
    found = []
    for number in (80, 81):
        manager = {"rds": {"route_config_name": str(number)}}
        chain = {"filters": [{"name": "http", "typed_config": manager}]}
        found.append(listener(f"0.0.0.0_{number}", number, chains=[chain]))
    resources = Resources(found, routes=[{"name": "80"}, {"name": "81"}])
    local = Local(resources, Ports(outbound={"0.0.0.0_80": 21000}), None)
    assert [each["name"] for each in local.listeners] == ["0.0.0.0_80"]
    assert local.routes == [{"name": "80"}]


def test_a_pod_that_calls_nobody():
    """What nobody uses is not there."""
    resources = Resources(
        [listener("0.0.0.0_80", 80), listener("virtualInbound", 15006)],
        routes=[{"name": "80"}],
        clusters=[eds("outbound|80||a"), {"name": "BlackHoleCluster", "type": "STATIC"}],
        endpoints=[endpoints("outbound|80||a", ("10.244.0.1", 3030))],
    )
    local = Local(resources, Ports(apps={3030: 21000}, inbound={3030: 21001}), None)
    assert [each["name"] for each in local.clusters] == ["BlackHoleCluster"]
    assert (local.routes, local.endpoints(lambda *_: 1)) == ([], {})


def rds(value):
    """Return where listeners take their routes from."""
    if isinstance(value, list):
        return [found for each in value for found in rds(each)]
    if not isinstance(value, dict):
        return []
    return [value["rds"]] if "rds" in value else rds(list(value.values()))


def test_a_snapshot():
    """All of it is messages by name; without listening there are neither listeners nor routes."""
    resources = Resources([listener("0.0.0.0_80", 80)], clusters=[eds("a")], endpoints=[endpoints("a")])
    local = Local(resources, Ports(outbound={"0.0.0.0_80": 21000}), None)
    found = local.snapshot(lambda *_: None)
    assert {kind: list(each) for kind, each in found.items()} == {
        "clusters": ["a"],
        "endpoints": ["a"],
        "secrets": [],
        "listeners": ["0.0.0.0_80"],
        "routes": [],
    }
    assert local.ports() == [21000]
    assert not local.snapshot(lambda *_: None, listening=False)["listeners"]


def test_clusters_of_another_generation():
    """A Service's cluster has the number of its generation beside what Istio says of it; no other cluster has one."""
    istio = {"filter_metadata": {"istio": {"a": 1}}}
    clusters = [{**eds("outbound|80||a"), "metadata": istio}, eds("a"), {"name": "outbound|80||b", "type": "STATIC"}]
    local = Local(Resources([listener("a", 80)], clusters=clusters), Ports(outbound={"a": 21000}), None)

    def packed(generation):
        numbers = {each["name"]: generation for each in clusters}
        return local.snapshot(lambda *_: None, generations=numbers)["clusters"]

    plain, second, third = packed(0), packed(2), packed(3)
    assert set(plain) == {"outbound|80||a", "a", "outbound|80||b"}
    assert plain == pack("clusters", local.clusters)
    assert {name for name in plain if second[name] != plain[name]} == {"outbound|80||a"}
    assert second != third
    assert b"istio" in second["outbound|80||a"].SerializeToString()


def test_who_calls_a_pod_whose_inbound_changes():
    """The ports whose inbound listeners differ are known, and which Services' clusters lead to them."""
    chains = [{"filters": [{"name": name}]} for name in ("a", "b")]

    def inbound(chain):
        found = Resources([{**listener("virtualInbound", 15006), "filter_chains": [chain]}])
        return Local(found, Ports(inbound={80: 21000, 90: 21001}), None)

    assert inbound(chains[0]).inbound_ports_unlike(inbound(chains[0])) == set()
    assert inbound(chains[0]).inbound_ports_unlike(inbound(chains[1])) == {21000, 21001}
    assert inbound(chains[0]).inbound_ports_unlike(Local(Resources(), Ports(), None)) == {21000, 21001}
    addresses = {"outbound|80||a": "10.244.0.1", "outbound|80|v2|b": "10.244.0.2", "c": "10.244.0.1"}
    endpoints = [
        {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": at, "port_value": 80}}}}]}
            ],
        }
        for name, at in addresses.items()
    ]
    resources = Resources([listener("a", 80)], clusters=[eds(name) for name in addresses], endpoints=endpoints)
    caller = Local(resources, Ports(outbound={"a": 22000}), None)
    ports = {"10.244.0.1": 21000, "10.244.0.2": 23000}
    assert caller.clusters_at({21000, 21001}, lambda address, _: ports.get(address)) == {"outbound|80||a"}
    assert caller.clusters_at({23000}, lambda address, _: ports.get(address)) == {"outbound|80|v2|b"}
    assert caller.clusters_at({21000}, lambda *_: None) == set()


def test_the_split_lesson(cluster):
    """The lesson's weights come through as they are, and the listener takes its routes from the control plane."""
    resources = quick.configure(cluster).resources["proxy-1"]
    ports = {name: 21000 + index for index, name in enumerate(outbound_names(resources))}
    local = Local(resources, Ports(apps={3030: 22000}, outbound=ports), None)
    text = json.dumps(local.routes)
    assert '"weight": 75' in text
    assert '"weight": 25' in text
    assert {"route_config_name": "80", "config_source": ADS} in rds(local.listeners)
