"""Where connections were going, found out by an Envoy that cannot see it."""

import pytest

from meshdemo.lab.cluster.model import Cluster, Service, ServicePort
from meshdemo.lab.cluster.pods import Pod
from meshdemo.lab.engine import Resources
from meshdemo.lab.envoy.loopback import Local, Ports
from meshdemo.lab.envoy.original import needs_services, service_names
from meshdemo.lab.envoy.outbound import connect_rules

TYPE = "type.googleapis.com/envoy.extensions."
MANAGER = f"{TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = {"name": "router", "typed_config": {"@type": f"{TYPE}filters.http.router.v3.Router"}}
WEB = "outbound|80||web.default.svc.cluster.local"


def original(name, **more):
    return {"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "10s", **more}


def tcp(cluster, **match):
    """Return a chain that passes TCP on."""
    proxy = {"@type": f"{TYPE}filters.network.tcp_proxy.v3.TcpProxy", "cluster": cluster, "stat_prefix": "x"}
    return {"filters": [{"name": "tcp", "typed_config": proxy}], **({"filter_chain_match": match} if match else {})}


def http(port):
    """Return a chain with the routes of a port."""
    manager = {"@type": MANAGER, "rds": {"route_config_name": str(port)}, "http_filters": [ROUTER]}
    return {"filters": [{"name": "http", "typed_config": manager}], "filter_chain_match": {"transport_protocol": "raw"}}


def listener(port, *chains, address="0.0.0.0", **more):
    at = {"socket_address": {"address": address, "port_value": port}}
    return {"name": f"{address}_{port}", "address": at, "filter_chains": list(chains), **more}


def local(resources, names=None):
    ports = Ports(outbound={each["name"]: 21000 + number for number, each in enumerate(resources.listeners)})
    return Local(resources, ports, None, service_names=names)


def sidecar(*clusters, **parts):
    return Resources(clusters=[original("PassthroughCluster"), *clusters], **parts)


def names_of(filters):
    return [each["name"].rpartition(".")[2] for each in filters]


def cluster_with(address):
    """Return a cluster with one pod behind a Service."""
    pod = Pod("web-1", "10.244.1.1", {"app": "web"}, "web", ())
    service = Service("web", address, {}, {"app": "web"}, (ServicePort("http", 80, 3030, ""),))
    return Cluster((), (pod,), (service,), (), ())


def test_hosts_of_requests_are_looked_up():
    """A request goes to the host that it asks for, rewritten or not, at the listener's port unless it names one."""
    found = local(sidecar(original("outbound|81||a.test"), listeners=[listener(81, http(81))]))
    manager = found.listeners[0]["filter_chains"][0]["filters"][0]["typed_config"]
    assert names_of(manager["http_filters"]) == ["set_filter_state", "dynamic_forward_proxy", "router"]
    kept = {
        each["object_key"]: each["format_string"]["text_format_source"]["inline_string"]
        for each in manager["http_filters"][0]["typed_config"]["on_request_headers"]
    }
    assert kept == {"envoy.upstream.dynamic_host": "%REQ(:AUTHORITY)%", "envoy.upstream.dynamic_port": "81"}
    clusters = {each["name"]: each for each in found.clusters}
    for name in ("outbound|81||a.test", "PassthroughCluster"):
        assert clusters[name]["cluster_type"]["name"] == "envoy.clusters.dynamic_forward_proxy"
        assert "type" not in clusters[name]


def test_server_names_are_looked_up():
    """TLS goes to the server that it names, also at a port where nothing else would look at the name."""
    passing = tcp("PassthroughCluster")
    chains = [http(443), tcp("outbound|443||a.test", server_names=["a.test"]), tcp("BlackHoleCluster")]
    resources = sidecar(original("outbound|443||a.test"), listeners=[listener(443, *chains)])
    resources.listeners[0]["default_filter_chain"] = passing
    (found,) = local(resources).listeners
    assert names_of(found["listener_filters"]) == ["tls_inspector"]
    _, named, other = (each["filters"] for each in found["filter_chains"])
    lookups = (named, found["default_filter_chain"]["filters"])
    assert [names_of(each) for each in lookups] == 2 * [["sni_dynamic_forward_proxy", "tcp"]]
    assert named[0]["typed_config"]["port_value"] == 443
    assert names_of(other) == ["tcp"]


def test_tcp_for_one_host():
    """A TCP port that is one host's is called by its name alone, and leads there; one for any host is not called."""
    one, several = "outbound|90||a.test", "outbound|91||*.test"
    resources = sidecar(
        original(one, circuit_breakers={}),
        original(several),
        listeners=[listener(90, tcp(one)), listener(91, tcp(several)), listener(80, http(80))],
    )
    assert connect_rules(resources, cluster_with("10.96.0.1"), "default") == (
        ("a.test:90", "0.0.0.0_90"),
        (":80", "0.0.0.0_80"),
    )
    found = local(resources)
    target = found.listeners[0]["filter_chains"][0]["filters"][-1]["typed_config"]["cluster"]
    (cluster,) = (each for each in found.clusters if each["name"] == target)
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert cluster["type"] == "LOGICAL_DNS"
    assert "circuit_breakers" in cluster
    assert endpoint["endpoint"]["address"]["socket_address"] == {"address": "a.test", "port_value": 90}


def test_tcp_of_an_address():
    """A TCP port of an address is called by that address."""
    resources = sidecar(original("outbound|90||a.test"), listeners=[listener(90, tcp("x"), address="10.1.2.3")])
    assert connect_rules(resources, cluster_with("10.96.0.1"), "default") == (("10.1.2.3:90", "10.1.2.3_90"),)


@pytest.mark.parametrize(
    ("address", "expected"), [("10.96.0.1", ("10.96.0.1", 80)), ("", ("10.244.1.1", 80))], ids=["one", "headless"]
)
def test_calls_of_services(address, expected):
    """A Service is called at its own address, or at its pods' where it has none, whatever the policy's host is."""
    routes = [
        {"match": {"prefix": "/a"}, "route": {"cluster": "outbound|80||a.test"}},
        {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"name": WEB, "weight": 1}]}}},
        {"match": {"prefix": "/r"}, "redirect": {}},
    ]
    hosts = [{"name": "web", "domains": ["web", "web.default"], "routes": routes}]
    resources = sidecar(
        original(WEB),
        original("outbound|80||a.test"),
        listeners=[listener(80, http(80))],
        routes=[{"name": "80", "virtual_hosts": hosts}],
    )
    asked = []
    found = local(resources, service_names(cluster_with(address), "default"))
    endpoints = found.endpoints(lambda *at: asked.append(at) or 22000)
    first, second, third = found.routes[0]["virtual_hosts"][0]["routes"]
    called = [first["route"]["cluster"], second["route"]["weighted_clusters"]["clusters"][0]["name"]]
    assert third == routes[2]
    assert asked == [expected, expected]
    assert set(called) == set(endpoints) <= {each["name"] for each in found.clusters if each.get("type") == "EDS"}
    assert needs_services(resources)
    assert not needs_services(sidecar())


def test_services_that_a_sidecar_does_not_know():
    """What goes anywhere goes to a Service's address where its name is a Service's that no route knows."""
    anywhere = [{"match": {"prefix": "/"}, "route": {"cluster": "PassthroughCluster"}}]
    nowhere = [{"match": {"prefix": "/"}, "direct_response": {"status": 502}}]
    known = {"name": "a", "domains": ["web.default"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "a"}}]}
    names = service_names(cluster_with("10.96.0.1"), "default")

    def domains(routes):
        hosts = [known, {"name": "rest", "domains": ["*"], "routes": routes}]
        resources = sidecar(listeners=[listener(80, http(80))], routes=[{"name": "80", "virtual_hosts": hosts}])
        found = local(resources, names)
        assert found.routes[0]["virtual_hosts"][0]["domains"] == ["web.default"]
        assert found.routes[0]["virtual_hosts"][-1]["domains"] == ["*"]
        assert found.routes[0]["virtual_hosts"][-1]["routes"] == routes
        return [
            (host["domains"], found.endpoints(lambda *at: at)[host["routes"][0]["route"]["cluster"]])
            for host in found.routes[0]["virtual_hosts"][1:-1]
        ]

    ((called, to),) = domains(anywhere)
    assert called == ["web", "web.default.svc", "web.default.svc.cluster.local", "10.96.0.1"]
    at = to["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert at["port_value"] == ("10.96.0.1", 80)
    assert domains(nowhere) == []


def test_the_longest_wildcard():
    """A name that several wildcards stand for is led on once, by the longest: Envoy takes no name twice."""
    anywhere = [{"match": {"prefix": "/"}, "route": {"cluster": "PassthroughCluster"}}]
    hosts = [
        {"name": "rest", "domains": ["*"], "routes": anywhere},
        {"name": "own", "domains": ["web", "*.web"], "routes": anywhere},
    ]
    resources = sidecar(listeners=[listener(80, http(80))], routes=[{"name": "80", "virtual_hosts": hosts}])
    found = local(resources, {("a.web", 80): [("10.0.0.1", 80)], ("b", 80): [("10.0.0.2", 80)]}).routes[0]
    assert [each["domains"] for each in found["virtual_hosts"]] == [["b"], ["*"], ["a.web"], ["web", "*.web"]]


def test_pods_of_a_headless_service():
    """A pod of a headless Service is called by its own name, for HTTP and for TCP."""
    pods = [Pod(f"web-{number}", f"10.244.1.{number}", {"app": "web"}, "web", ()) for number in (1, 2)]
    service = Service("web", "", {}, {"app": "web"}, (ServicePort("http", 80, 80, ""),))
    names = service_names(Cluster((), tuple(pods), (service,), (), ()), "default")
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": WEB}}]
    hosts = [{"name": "web", "domains": ["web", "*.web"], "routes": routes}]
    resources = sidecar(
        original(WEB),
        listeners=[listener(80, http(80)), listener(80, tcp(WEB), address="10.244.1.2")],
        routes=[{"name": "80", "virtual_hosts": hosts}],
    )
    found = local(resources, names)
    clusters = {
        domain: host["routes"][0]["route"]["cluster"]
        for host in found.routes[0]["virtual_hosts"]
        for domain in host["domains"]
    }
    members = {
        name: [at["endpoint"]["address"]["socket_address"]["port_value"] for at in each["endpoints"][0]["lb_endpoints"]]
        for name, each in found.endpoints(lambda address, port: int(address[-1])).items()
    }
    assert members[clusters["web"]] == members[clusters["*.web"]] == [1, 2]
    assert members[clusters["web-2.web"]] == [2]
    assert found.listeners[1]["filter_chains"][0]["filters"][-1]["typed_config"]["cluster"] == clusters["web-2.web"]


def test_copies_of_calls():
    """A copy of a call belongs to no connection, so that it leads nowhere, as in a cluster."""
    action = {"cluster": "b", "request_mirror_policies": [{"cluster": "outbound|80||a.test"}, {"cluster": "b"}]}
    hosts = [{"name": "b", "domains": ["b"], "routes": [{"match": {"prefix": "/"}, "route": action}]}]
    resources = sidecar(
        original("outbound|80||a.test"),
        listeners=[listener(80, http(80))],
        routes=[{"name": "80", "virtual_hosts": hosts}],
    )
    (route,) = local(resources).routes[0]["virtual_hosts"][0]["routes"]
    assert route["route"]["request_mirror_policies"] == [{"cluster": "BlackHoleCluster"}, {"cluster": "b"}]


def test_gateways():
    """At a gateway such a cluster stays what it is: without an address that anybody chose it has no endpoint."""
    resources = Resources(clusters=[original(WEB)], listeners=[listener(80, http(80))])
    found = local(resources)
    assert found.clusters == [original(WEB)]
    manager = found.listeners[0]["filter_chains"][0]["filters"][0]["typed_config"]
    assert names_of(manager["http_filters"]) == ["router"]
