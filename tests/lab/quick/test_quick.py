"""The quick engine as a whole: what each sidecar and gateway gets, what is noted, and what is refused."""

import pytest
import yaml
from quick_support import EXAMPLE, SUBSETS, cluster_of, http_route, manifest, to, virtual_service

from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.quick import configure
from meshdemo.lab.quick.rules.refusing import MissingError, UnsupportedError

FULL = "webserver.default.svc.cluster.local"
V1, V2 = f"outbound|80|v1|{FULL}", f"outbound|80|v2|{FULL}"
RULE = manifest("DestinationRule", SUBSETS)
GATEWAY = {"gatewayClassName": "istio", "listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}]}
SERVER = {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
ISTIO_GATEWAY = manifest(
    "Gateway", {"selector": {"istio": "ingressgateway"}, "servers": [SERVER]}, "g", "networking.istio.io"
)


@pytest.fixture
def sidecar(tmp_path):
    """Return a function that gives the resources of the one caller, with policies beside the example."""
    return lambda *manifests: configure(cluster_of(tmp_path, *manifests)).resources["proxy-1"]


def hosts(resources, name="80"):
    """Return the virtual hosts of a RouteConfiguration by their names without the port."""
    (routes,) = (each for each in resources.routes if each["name"] == name)
    return {each["name"].partition(":")[0]: each for each in routes["virtual_hosts"]}


def action(resources, host=FULL, name="80", number=0):
    return hosts(resources, name)[host]["routes"][number]["route"]


def cluster(resources, name):
    (found,) = (each for each in resources.clusters if each["name"] == name)
    return found


def test_without_policies(sidecar):
    """Every Service is known by all its names, with Istio's retries and without a timeout; others pass through."""
    resources = sidecar()
    assert [each["name"] for each in resources.listeners] == ["0.0.0.0_80"]
    assert hosts(resources)[FULL]["domains"] == [
        FULL,
        f"{FULL}.",
        "webserver",
        "webserver.default.svc",
        "webserver.default",
        "10.96.0.3",
    ]
    retries = action(resources)["retry_policy"]
    assert (retries["num_retries"], retries["retry_on"].partition(",")[0]) == (2, "connect-failure")
    assert action(resources)["timeout"] == "0s"
    assert hosts(resources)["allow_any"]["routes"][0]["route"]["cluster"] == "PassthroughCluster"
    assert list(hosts(resources))[-1] == "allow_any"


def test_only_callers_are_configured(tmp_path):
    """Web servers call nobody, and need nothing."""
    assert list(configure(cluster_of(tmp_path)).resources) == ["proxy-1"]


def test_clusters_and_endpoints(sidecar):
    """Each port and each subset is a cluster, with the pods behind it by their own ports."""
    resources = sidecar(RULE)
    assert cluster(resources, V1)["lb_policy"] == "LEAST_REQUEST"
    assert cluster(resources, V1)["common_lb_config"] == {"healthy_panic_threshold": {}}
    (assignment,) = (each for each in resources.endpoints if each["cluster_name"] == V1)
    found = [each["endpoint"]["address"]["socket_address"] for each in assignment["endpoints"][0]["lb_endpoints"]]
    assert found == [{"address": f"10.244.1.{number}", "port_value": 3030} for number in (1, 2, 3)]


def test_split(sidecar):
    """Weights need not add up to 100, and a destination of weight 0 is left out."""
    targets = [
        {"destination": {"host": "webserver", "subset": name}, "weight": weight}
        for name, weight in (("v1", 3), ("v2", 0))
    ]
    targets.append({"destination": {"host": "webserver"}, "weight": 5})
    shares = action(sidecar(RULE, virtual_service({"route": targets})))["weighted_clusters"]["clusters"]
    assert [(each["name"], each["weight"]) for each in shares] == [(V1, 3), (f"outbound|80||{FULL}", 5)]


def test_rules_behind_a_catch_all_are_left_out(sidecar):
    """The first rule that takes every call is the last one."""
    resources = sidecar(virtual_service(to(match=[{"uri": {"prefix": "/x"}}, {}]), to(timeout="1s")))
    assert [route["match"]["prefix"] for route in hosts(resources)[FULL]["routes"]] == ["/x", "/"]


def test_rules_for_other_callers_are_left_out(sidecar):
    """A match for other labels, gateways or namespaces is not for this sidecar; without any, the host's default is."""
    matches = [{"sourceLabels": {"app": "nobody"}}, {"gateways": ["g"]}, {"sourceNamespace": "x"}, {"port": 81}]
    assert hosts(sidecar(virtual_service(to(match=matches, timeout="1s"))))[FULL]["routes"][0]["name"] == "default"
    matches.append({"sourceLabels": {"app": "proxy"}})
    assert action(sidecar(virtual_service(to(match=matches, timeout="1s"))))["timeout"] == "1s"


def test_two_policies_for_one_host(sidecar):
    """The first by name counts, HTTPRoutes before VirtualServices, and before all what is not exported."""
    first, second = virtual_service(to(timeout="1s"), name="a"), virtual_service(to(timeout="2s"), name="b")
    assert action(sidecar(second, first))["timeout"] == "1s"
    route = http_route({"backendRefs": [{"name": "webserver", "port": 80}], "timeouts": {"request": "3s"}}, name="z")
    assert action(sidecar(first, route))["timeout"] == "3s"
    second.document["spec"]["exportTo"] = ["."]
    assert action(sidecar(first, second, route))["timeout"] == "2s"


def test_hosts_that_are_no_service(sidecar):
    """Rules for other hosts are known at port 80, by that name alone."""
    resources = sidecar(virtual_service(to(), hosts=["Shop.example.com"]))
    assert hosts(resources)["shop.example.com"]["domains"] == ["shop.example.com"]


def test_wildcards(sidecar):
    """Rules for a wildcard are for the Services that no closer name has, or for a host of that name."""
    every = virtual_service(to("proxy", timeout="9s"), hosts=["*.default.svc.cluster.local", "*.example.com"], name="a")
    own = virtual_service(to(timeout="1s"), name="b")
    resources = sidecar(every, own)
    assert action(resources)["timeout"] == "1s"
    assert action(resources, "webserverv1.default.svc.cluster.local")["timeout"] == "9s"
    assert hosts(resources)["*.example.com"]["domains"] == ["*.example.com"]


def test_hashing(sidecar):
    """What is hashed stands on the route, and calls that are kept together are retried where they belong."""
    policy = {"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}}
    rule = manifest("DestinationRule", {"host": "webserver", "trafficPolicy": policy})
    for resources, moves in ((sidecar(rule), True), (sidecar(rule, virtual_service(to())), False)):
        assert action(resources)["hash_policy"] == [{"header": {"header_name": "x"}}]
        assert ("retry_host_predicate" in action(resources)["retry_policy"]) is moves
        assert cluster(resources, f"outbound|80||{FULL}")["lb_policy"] == "RING_HASH"


def test_a_service_of_several_ports(sidecar):
    """Each port has a listener and routes of its own, and rules without a port go to the one that was called."""
    ports = [{"name": "http", "port": 80}, {"name": "http-b", "port": 81, "targetPort": "http"}]
    service = manifest("Service", {"selector": {"app": "webserver"}, "ports": ports}, "multi")
    ports[0]["targetPort"] = "http"
    resources = sidecar(service, virtual_service(to("multi"), hosts=["multi"]))
    assert [each["name"] for each in resources.listeners] == ["0.0.0.0_80", "0.0.0.0_81"]
    for name in ("80", "81"):
        host = "multi.default.svc.cluster.local"
        assert action(resources, host, name)["cluster"] == f"outbound|{name}||{host}"
    assert list(hosts(resources, "81")) == ["multi.default.svc.cluster.local", "allow_any"]


def test_service_entries(sidecar):
    """A host outside is a cluster that is looked up by DNS."""
    spec = {
        "hosts": ["a.example.com"],
        "resolution": "DNS",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
    }
    resources = sidecar(manifest("ServiceEntry", spec))
    found = cluster(resources, "outbound|80||a.example.com")
    assert (found["type"], found["dns_lookup_family"]) == ("STRICT_DNS", "V4_ONLY")
    assert hosts(resources)["a.example.com"]["domains"] == ["a.example.com", "a.example.com."]


def test_an_address_of_several_hosts(sidecar):
    """Of several hosts with one address the first by name is called by it."""
    spec = {"addresses": ["192.0.2.1"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}
    entries = [
        manifest("ServiceEntry", {"hosts": [f"{host}.example.com"], **spec}, name)
        for host, name in (("b", "first"), ("a", "second"))
    ]
    found = hosts(sidecar(*entries))
    assert [name for name, host in found.items() if "192.0.2.1" in host["domains"]] == ["a.example.com"]


def test_istios_gateway(tmp_path):
    """Hosts of a gateway that share rules are one, catch-alls come last, and others are not found."""
    services = [
        virtual_service(to(), hosts=["a.com", "b.com"], gateways=["g"], name="a"),
        virtual_service(to(match=[{"uri": {"prefix": "/x"}}]), hosts=["c.com"], gateways=["g"], name="b"),
        virtual_service(to(match=[{"uri": {"prefix": "/y"}}]), hosts=["c.com"], gateways=["g"], name="c"),
    ]
    resources = configure(cluster_of(tmp_path, ISTIO_GATEWAY, *services)).resources["istio-ingressgateway"]
    assert [each["name"] for each in resources.listeners] == ["0.0.0.0_8080"]
    found = hosts(resources, "http.8080")
    assert {name: each["domains"] for name, each in found.items()} == {"a.com": ["a.com", "b.com"], "c.com": ["c.com"]}
    assert [route["match"]["prefix"] for route in found["c.com"]["routes"]] == ["/x", "/y"]
    assert "outbound|80||webserver.default.svc.cluster.local" in found["a.com"]["routes"][0]["route"]["cluster"]


@pytest.mark.parametrize(("tls", "port"), [({"tls": {"httpsRedirect": True}}, None), ({"tls": {}}, None), ({}, 443)])
def test_a_redirect_at_a_gateway(tmp_path, tls, port):
    """Where a server says anything of TLS, the port of https is the usual one of a redirect without a scheme."""
    spec = {"selector": {"istio": "ingressgateway"}, "servers": [{**SERVER, **tls}]}
    gateway = manifest("Gateway", spec, "g", "networking.istio.io")
    redirect = virtual_service({"redirect": {"authority": "a.com", "port": 443}}, hosts=["a.com"], gateways=["g"])
    resources = configure(cluster_of(tmp_path, gateway, redirect)).resources["istio-ingressgateway"]
    assert hosts(resources, "http.8080")["a.com"]["routes"][0]["redirect"].get("port_redirect") == port


def test_hosts_that_are_only_for_https(tmp_path):
    """A server's redirect to https for a wildcard is for the narrower hosts of its rules as well, and for itself."""
    server = {**SERVER, "hosts": ["*.example.com"], "tls": {"httpsRedirect": True}}
    gateway = manifest(
        "Gateway", {"selector": {"istio": "ingressgateway"}, "servers": [server]}, "g", "networking.istio.io"
    )
    own = virtual_service(to(), hosts=["a.example.com"], gateways=["g"])
    resources = configure(cluster_of(tmp_path, gateway, own)).resources["istio-ingressgateway"]
    found = hosts(resources, "http.8080")
    assert {name: each["require_tls"] for name, each in found.items()} == {
        "a.example.com": "ALL",
        "*.example.com": "ALL",
    }


def test_a_gateway_without_rules(tmp_path):
    """A gateway that has nothing to do answers every call with 404."""
    resources = configure(cluster_of(tmp_path, ISTIO_GATEWAY)).resources["istio-ingressgateway"]
    assert hosts(resources, "http.8080") == {"blackhole": {"name": "blackhole:8080", "domains": ["*"]}}


def test_the_gateway_apis_gateway(tmp_path):
    """A route of a Gateway is for its listeners, and a backend that is not there is answered with 500."""
    route = http_route({"backendRefs": [{"name": "webserver", "port": 80}]}, parents=[{"name": "gw"}])
    gateway = manifest("Gateway", GATEWAY, "gw", "gateway.networking.k8s.io")
    configuration = configure(cluster_of(tmp_path, gateway, route))
    found = action(configuration.resources["gw-istio"], "*", "http.80")
    assert found["cluster_not_found_response_code"] == "INTERNAL_SERVER_ERROR"
    assert hosts(configuration.resources["proxy-1"])[FULL]["routes"][0]["name"] == "default"


def test_kinds_that_leave_routing_alone_are_noted(tmp_path):
    """Who may call whom, and what is told of it, is not applied, and said so."""
    policies = [
        manifest("PeerAuthentication", {"mtls": {"mode": "STRICT"}}),
        manifest("AuthorizationPolicy", {}),
        manifest("Telemetry", {}),
    ]
    notes = configure(cluster_of(tmp_path, *policies)).notes
    assert [note.partition("policy.yaml: ")[2] for note in notes] == [
        f"{each.kind}/webserver: not applied by the quick engine: --istiod applies it, or says why Istio does not"
        for each in policies
    ]


@pytest.mark.parametrize(
    "kind", ["Sidecar", "EnvoyFilter", "WorkloadEntry", "ProxyConfig", "GRPCRoute", "TCPRoute", "WasmPlugin"]
)
def test_kinds_that_would_change_routing_are_refused(tmp_path, kind):
    """What would change what a sidecar does is refused by its name."""
    with pytest.raises(
        ManifestError,
        match=rf"{kind}/x: is not supported by the quick engine: --istiod applies it, or says why Istio does not$",
    ):
        configure(cluster_of(tmp_path, manifest(kind, {}, "x")))


def test_pods_near_and_far_are_refused(tmp_path):
    """Pods that say where they are would be preferred by callers near them."""
    near = next(each for each in yaml.safe_load_all(EXAMPLE.read_text()) if each["kind"] == "Deployment")
    near["spec"]["template"]["metadata"]["labels"]["istio-locality"] = "here.a"
    deployment = manifest("Deployment", near["spec"], near["metadata"]["name"])
    with pytest.raises(ManifestError, match=r"labels.istio-locality: is not supported by the quick engine"):
        configure(cluster_of(tmp_path, deployment))


def test_nothing_but_policies(tmp_path):
    """Where there is no Service at all, the file that has them is named."""
    cluster_without = cluster_of(tmp_path, virtual_service(to()), example=False)
    with pytest.raises(ManifestError, match=r"spec.hosts\[0\]: no Service .* 'webserver'; .*: add -f k8s/example.yaml"):
        configure(cluster_without)


EMPTY_SUBSET = manifest(
    "DestinationRule", {"host": "webserver", "subsets": [{"name": "a", "labels": {"version": "v9"}}]}
)
REFUSED = {
    "a host that is not there": (
        [virtual_service(to(), hosts=["nowhere"])],
        r"VirtualService/webserver: spec.hosts\[0\]: no Service or ServiceEntry has the host 'nowhere', only proxy, ",
    ),
    "a host with its namespace": (
        [virtual_service(to(), hosts=["webserver.default"])],
        r"spec.hosts\[0\]: 'webserver.default' is no Service, since Istio completes no name that has a dot: "
        "write webserver, or webserver.default.svc.cluster.local",
    ),
    "a destination that is not there": (
        [virtual_service(to("webservr"))],
        r"spec.http\[0\].route\[0\].destination.host: no .* 'webservr', only proxy.*, did you mean webserver\?",
    ),
    "a mirror that is not there": (
        [virtual_service(to(mirror={"host": "webserver", "subset": "v9"}))],
        r"spec.http\[0\].mirror.subset: no DestinationRule for webserver defines the subset 'v9', there is none",
    ),
    "a backend that is not there": (
        [http_route({"backendRefs": [{"name": "nowhere", "port": 80}]})],
        r"HTTPRoute/r: spec.rules\[0\].backendRefs\[0\].name: no Service",
    ),
    "a gateway that is not there": (
        [virtual_service(to(), gateways=["g"])],
        r"spec.gateways\[0\]: no Gateway of Istio has the name 'g', there is none",
    ),
    "a rule for a host that is not there": (
        [manifest("DestinationRule", {"host": "nowhere"})],
        "DestinationRule/webserver: spec.host: no Service",
    ),
    "labels that no pod has": (
        [EMPTY_SUBSET, virtual_service({"route": [{"destination": {"host": "webserver", "subset": "a"}}]})],
        r"spec.subsets\[0\].labels: nothing .* the labels 'version=v9', only .*, did you mean version=v",
    ),
}


@pytest.mark.parametrize(("manifests", "problem"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, manifests, problem):
    """What is not there is refused with its place and the names that there are, and is no reason for another engine."""
    with pytest.raises(MissingError, match=problem) as error:
        configure(cluster_of(tmp_path, *manifests))
    assert "--istiod" not in str(error.value)


def test_all_that_is_wrong_at_once(tmp_path):
    """What objects say is refused in one go, too, and then all names that lead nowhere, each once."""

    def problems(*manifests):
        with pytest.raises(ManifestError) as error:
            configure(cluster_of(tmp_path, *manifests))
        return [
            line.rpartition("policy.yaml: ")[2].partition(": is not supported")[0]
            for line in str(error.value).splitlines()
        ]

    tls = [
        manifest("DestinationRule", {"host": "webserver", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}, x)
        for x in "ab"
    ]
    assert problems(*tls, virtual_service({**to(), "corsPolicy": {"nonsense": 1}}))[:2] == [
        "DestinationRule/a: spec.trafficPolicy.tls",
        "DestinationRule/b: spec.trafficPolicy.tls",
    ]
    assert problems(*tls)[2:] == ["for each of these: --istiod applies it, or says why Istio does not"]
    subset = {"route": [{"destination": {"host": "webserver", "subset": "a"}}]}
    assert [
        line.partition(": no ")[0] for line in problems(virtual_service(subset, {**subset, "mirror": {"host": "m"}}))
    ] == [
        "VirtualService/webserver: spec.http[0].route[0].destination.subset",
        "VirtualService/webserver: spec.http[1].route[0].destination.subset",
        "VirtualService/webserver: spec.http[1].mirror.host",
    ]
    assert len(problems(EMPTY_SUBSET, virtual_service(subset, {**subset, "name": "b"}))) == 1


def test_an_empty_subset_that_nothing_is_sent_to(tmp_path):
    """An application's files define the subsets of all its versions, also of those that do not run."""
    found = configure(cluster_of(tmp_path, EMPTY_SUBSET))
    assert found.notes == ()
    empty = [each for each in found.resources["proxy-1"].endpoints if "|a|" in each["cluster_name"]]
    assert [each.get("endpoints", []) for each in empty] == [[]]


def test_ports_for_something_else(tmp_path):
    """A port of a Service that is not for HTTP is refused, since another engine has it."""
    service = manifest("Service", {"selector": {"app": "proxy"}, "ports": [{"name": "tcp", "port": 3030}]}, "s")
    with pytest.raises(
        UnsupportedError,
        match=r"s: spec.ports\[0\]: is not for http.*: --istiod applies it, or says why Istio does not$",
    ):
        configure(cluster_of(tmp_path, service))


def test_all_that_is_unsupported_at_once(tmp_path):
    """What another engine has is refused in one go, each with its place, and what to do once."""
    tcp = manifest("Service", {"selector": {"app": "proxy"}, "ports": [{"port": 3030}]}, "s")
    headless = manifest(
        "Service", {"clusterIP": "None", "selector": {"app": "proxy"}, "ports": [{"name": "http", "port": 3030}]}, "h"
    )
    sidecar = manifest("Sidecar", {}, "c")
    with pytest.raises(UnsupportedError) as error:
        configure(cluster_of(tmp_path, tcp, headless, sidecar))
    lines = [line.rpartition("policy.yaml: ")[2] for line in str(error.value).splitlines()]
    assert lines == [
        "Service/s: spec.ports[0]: is not for http, which its name or appProtocol has to say, and this says nothing",
        "Service/h: spec.clusterIP: a headless Service is not supported by the quick engine",
        "Sidecar/c: is not supported by the quick engine",
        "for each of these: --istiod applies it, or says why Istio does not",
    ]
