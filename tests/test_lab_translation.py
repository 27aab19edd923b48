"""The translation of manifests into Envoy's configuration, field by field, and what is said of mistakes."""

import textwrap

import pytest
import yaml
from support import ROOT

from meshdemo.lab import envoy_config, mesh
from meshdemo.lab.envoy import EnvoyError, validate
from meshdemo.lab.manifests import ManifestError

EXAMPLE = ROOT / "k8s" / "example.yaml"
DEFAULT_RETRIES = {
    "retry_on": "connect-failure,refused-stream,unavailable,cancelled",
    "num_retries": 2,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    "host_selection_retry_max_attempts": 5,
}
WEB = "outbound|80||webserver"
V1, V2 = "outbound|80|v1|webserver", "outbound|80|v2|webserver"
SUBSETS = {
    "host": "webserver",
    "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}],
}
GROUPS = {
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "ServiceEntry": "networking.istio.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "Deployment": "apps/v1",
    "Service": "v1",
}


@pytest.fixture
def understand(tmp_path):
    """Return a function that reads the example with objects given by kind and spec, which Envoy accepts as well."""

    def read(*objects, check=True):
        documents = []
        for kind, spec in objects:
            kind, _, name = kind.partition("/")
            api_version = GROUPS.get(kind, "networking.istio.io/v1")
            documents.append(
                {"apiVersion": api_version, "kind": kind, "metadata": {"name": name or "webserver"}, "spec": spec}
            )
        path = tmp_path / "policy.yaml"
        path.write_text(yaml.safe_dump_all(documents))
        understood = mesh.load([EXAMPLE, path])
        if check:
            ports = dict.fromkeys(envoy_config.route_configurations(understood), 0)
            validate(envoy_config.whole(understood, ports, lambda workload: {"pod": 80}), tmp_path)
        return understood

    return read


def routes(understood, host="webserver:80"):
    (found,) = [each["routes"] for each in understood.outbound if each["name"] == host]
    return found


def spec_of(text):
    """Return YAML as an object."""
    return yaml.safe_load(textwrap.dedent(text))


def to(**more):
    return {"route": [{"destination": {"host": "webserver"}}], **more}


def test_a_service_without_policy(understand):
    """Istio's defaults: LEAST_REQUEST, no limits, no timeout, two retries on another host."""
    understood = understand()
    (route,) = routes(understood)
    assert route == {
        "match": {"prefix": "/"},
        "route": {"cluster": WEB, "timeout": "0s", "retry_policy": DEFAULT_RETRIES},
    }
    unlimited = 2**32 - 1
    assert understood.destinations.found["webserver", 80, ""].cluster == {
        "name": WEB,
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": unlimited,
                    "max_pending_requests": unlimited,
                    "max_requests": unlimited,
                    "max_retries": unlimited,
                }
            ]
        },
    }


def test_names_of_a_host(understand):
    """A Service is known by every name that a cluster's DNS has for it, with and without the port."""
    (found,) = [each for each in understand().outbound if each["name"] == "webserver:80"]
    names = ["webserver", "webserver.default", "webserver.default.svc", "webserver.default.svc.cluster.local"]
    assert sorted(found["domains"]) == sorted(names + [f"{name}:80" for name in names])


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"uri": {"exact": "/a"}}, {"path": "/a"}),
        ({"uri": {"prefix": "/a"}}, {"prefix": "/a"}),
        ({"uri": {"regex": "/a.*"}}, {"safe_regex": {"regex": "/a.*"}}),
        ({"uri": {"exact": "/a"}, "ignoreUriCase": True}, {"path": "/a", "case_sensitive": False}),
        ({"uri": {"prefix": "/a"}, "ignoreUriCase": True}, {"prefix": "/a", "case_sensitive": False}),
        (
            {"headers": {"End-User": {"exact": "x"}}},
            {"prefix": "/", "headers": [{"name": "end-user", "string_match": {"exact": "x"}}]},
        ),
        (
            {"headers": {"a": {"prefix": "x"}, "b": {"regex": "y+"}}},
            {
                "prefix": "/",
                "headers": [
                    {"name": "a", "string_match": {"prefix": "x"}},
                    {"name": "b", "string_match": {"safe_regex": {"regex": "y+"}}},
                ],
            },
        ),
        ({"headers": {"a": {}}}, {"prefix": "/", "headers": [{"name": "a", "present_match": True}]}),
        (
            {"withoutHeaders": {"a": {}}},
            {"prefix": "/", "headers": [{"name": "a", "present_match": True, "invert_match": True}]},
        ),
        (
            {"withoutHeaders": {"a": {"exact": "x"}}},
            {
                "prefix": "/",
                "headers": [
                    {
                        "name": "a",
                        "string_match": {"exact": "x"},
                        "treat_missing_header_as_empty": True,
                        "invert_match": True,
                    }
                ],
            },
        ),
        (
            {"method": {"exact": "GET"}},
            {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
        ),
        (
            {"queryParams": {"q": {"exact": "1"}, "r": {}}},
            {
                "prefix": "/",
                "query_parameters": [
                    {"name": "q", "string_match": {"exact": "1"}},
                    {"name": "r", "present_match": True},
                ],
            },
        ),
    ],
)
def test_match(understand, match, expected):
    """Each kind of condition has its form in Envoy."""
    understood = understand(("VirtualService", {"hosts": ["webserver"], "http": [to(match=[match])]}))
    assert routes(understood)[0]["match"] == expected


def test_matches_are_alternatives_and_rules_are_in_order(understand):
    """Each match is a route of its own; a rule without one takes the rest."""
    rules = [to(match=[{"uri": {"exact": "/a"}}, {"uri": {"exact": "/b"}}]), to()]
    found = routes(understand(("VirtualService", {"hosts": ["webserver"], "http": rules})))
    assert [each["match"] for each in found] == [{"path": "/a"}, {"path": "/b"}, {"prefix": "/"}]


ACTIONS = {
    "subsets by weight": (
        """
        route:
          - {destination: {host: webserver, subset: v1}, weight: 90}
          - {destination: {host: webserver.default.svc.cluster.local, subset: v2, port: {number: 80}}, weight: 10}
        """,
        {"route": {"weighted_clusters": {"clusters": [{"name": V1, "weight": 90}, {"name": V2, "weight": 10}]}}},
    ),
    "headers of a destination": (
        """
        route:
          - {destination: {host: webserver, subset: v1}, weight: 90, headers: {response: {set: {a: b}}}}
          - {destination: {host: webserver, subset: v2}, weight: 10}
        """,
        {
            "route": {
                "weighted_clusters": {
                    "clusters": [
                        {
                            "name": V1,
                            "weight": 90,
                            "response_headers_to_add": [
                                {"header": {"key": "a", "value": "b"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
                            ],
                        },
                        {"name": V2, "weight": 10},
                    ]
                }
            }
        },
    ),
    "header operations": (
        """
        route: [{destination: {host: webserver}}]
        headers:
          request: {set: {a: "1"}, add: {b: "2"}, remove: [c]}
          response: {remove: [d]}
        """,
        {
            "request_headers_to_add": [
                {"header": {"key": "a", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
                {"header": {"key": "b", "value": "2"}, "append_action": "APPEND_IF_EXISTS_OR_ADD"},
            ],
            "request_headers_to_remove": ["c"],
            "response_headers_to_remove": ["d"],
        },
    ),
    "rewrite": (
        """
        match: [{uri: {prefix: /a}}]
        rewrite: {uri: /b, authority: other}
        route: [{destination: {host: webserver}}]
        """,
        {"route": {"prefix_rewrite": "/b", "host_rewrite_literal": "other"}},
    ),
    "rewrite by regular expression": (
        r"""
        rewrite: {uriRegexRewrite: {match: "^/a/(.*)", rewrite: '/\1'}}
        route: [{destination: {host: webserver}}]
        """,
        {"route": {"regex_rewrite": {"pattern": {"regex": "^/a/(.*)"}, "substitution": "/\\1"}}},
    ),
    "redirect": (
        "redirect: {uri: /b, authority: other, scheme: https, port: 8443, redirectCode: 308}",
        {
            "redirect": {
                "path_redirect": "/b",
                "host_redirect": "other",
                "scheme_redirect": "https",
                "port_redirect": 8443,
                "response_code": "PERMANENT_REDIRECT",
            }
        },
    ),
    "redirect of a prefix, by default with 301": (
        """
        match: [{uri: {prefix: /a}}]
        redirect: {prefixRewrite: /b}
        """,
        {"redirect": {"prefix_rewrite": "/b", "response_code": "MOVED_PERMANENTLY"}},
    ),
    "direct response": (
        "directResponse: {status: 418, body: {string: short}}",
        {"direct_response": {"status": 418, "body": {"inline_string": "short"}}},
    ),
    "timeout": ("{route: [{destination: {host: webserver}}], timeout: 1m0.5s}", {"route": {"timeout": "60.5s"}}),
    "retries": (
        """
        route: [{destination: {host: webserver}}]
        retries: {attempts: 4, perTryTimeout: 250ms, retryOn: "5xx, reset,418,503", backoff: 10ms}
        """,
        {
            "route": {
                "retry_policy": {
                    **DEFAULT_RETRIES,
                    "retry_on": "5xx,reset,retriable-status-codes",
                    "retriable_status_codes": [418, 503],
                    "num_retries": 4,
                    "per_try_timeout": "0.25s",
                    "retry_back_off": {"base_interval": "0.01s"},
                }
            }
        },
    ),
    "retries without conditions": (
        "{route: [{destination: {host: webserver}}], retries: {attempts: 5}}",
        {"route": {"retry_policy": {**DEFAULT_RETRIES, "num_retries": 5}}},
    ),
    "retries on the same host": (
        "{route: [{destination: {host: webserver}}], retries: {attempts: 1, retryIgnorePreviousHosts: false}}",
        {"route": {"retry_policy": {"retry_on": DEFAULT_RETRIES["retry_on"], "num_retries": 1}}},
    ),
    "mirror": (
        """
        route: [{destination: {host: webserver}}]
        mirror: {host: webserver, subset: v2}
        mirrorPercentage: {value: 12.5}
        """,
        {
            "route": {
                "request_mirror_policies": [
                    {
                        "cluster": V2,
                        "runtime_fraction": {"default_value": {"numerator": 125000, "denominator": "MILLION"}},
                    }
                ]
            }
        },
    ),
    "mirrors": (
        """
        route: [{destination: {host: webserver}}]
        mirrors: [{destination: {host: webserverv2}}]
        """,
        {
            "route": {
                "request_mirror_policies": [
                    {
                        "cluster": "outbound|80||webserverv2",
                        "runtime_fraction": {"default_value": {"numerator": 1000000, "denominator": "MILLION"}},
                    }
                ]
            }
        },
    ),
    "faults": (
        """
        route: [{destination: {host: webserver}}]
        fault:
          delay: {fixedDelay: 3s, percentage: {value: 0.1}}
          abort: {httpStatus: 503}
        """,
        {
            "typed_per_filter_config": {
                "envoy.filters.http.fault": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
                    "delay": {"fixed_delay": "3s", "percentage": {"numerator": 1000, "denominator": "MILLION"}},
                    "abort": {"http_status": 503, "percentage": {"numerator": 1000000, "denominator": "MILLION"}},
                }
            }
        },
    ),
}


@pytest.mark.parametrize(("rule", "expected"), ACTIONS.values(), ids=ACTIONS)
def test_action(understand, rule, expected):
    """Each field of a rule has its form in Envoy, which accepts it."""
    spec = {"hosts": ["webserver"], "http": [spec_of(rule)]}
    (route,) = routes(understand(("VirtualService", spec), ("DestinationRule", SUBSETS)))
    for name, value in expected.items():
        if isinstance(value, dict):
            assert {key: route[name].get(key) for key in value} == value
        else:
            assert route[name] == value


def test_no_retries(understand):
    """Zero attempts turn the default retries off."""
    rule = to(retries={"attempts": 0})
    (route,) = routes(understand(("VirtualService", {"hosts": ["webserver"], "http": [rule]})))
    assert "retry_policy" not in route["route"]


POLICIES = {
    "simple balancer": ("{loadBalancer: {simple: ROUND_ROBIN}}", {"lb_policy": "ROUND_ROBIN"}),
    "deprecated name": ("{loadBalancer: {simple: LEAST_CONN}}", {"lb_policy": "LEAST_REQUEST"}),
    "random": ("{loadBalancer: {simple: RANDOM}}", {"lb_policy": "RANDOM"}),
    "consistent hash": (
        "{loadBalancer: {consistentHash: {httpHeaderName: end-user}}}",
        {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 1024}},
    ),
    "consistent hash by maglev": (
        "{loadBalancer: {consistentHash: {httpHeaderName: end-user, maglev: {tableSize: 101}}}}",
        {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 101}},
    ),
    "connection timeout": ("{connectionPool: {tcp: {connectTimeout: 30ms}}}", {"connect_timeout": "0.03s"}),
    "outlier detection": (
        """
        outlierDetection:
          consecutive5xxErrors: 7
          consecutiveGatewayErrors: 3
          interval: 5s
          baseEjectionTime: 1m
          maxEjectionPercent: 50
          minHealthPercent: 20
        """,
        {
            "outlier_detection": {
                "enforcing_success_rate": 0,
                "consecutive_5xx": 7,
                "enforcing_consecutive_5xx": 100,
                "consecutive_gateway_failure": 3,
                "enforcing_consecutive_gateway_failure": 100,
                "interval": "5s",
                "base_ejection_time": "60s",
                "max_ejection_percent": 50,
            },
            "common_lb_config": {"healthy_panic_threshold": {"value": 20}},
        },
    ),
    "outlier detection with defaults": (
        "{outlierDetection: {consecutive5xxErrors: 0}}",
        {
            "outlier_detection": {"enforcing_success_rate": 0, "enforcing_consecutive_5xx": 0},
            "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        },
    ),
}


@pytest.mark.parametrize(("policy", "expected"), POLICIES.values(), ids=POLICIES)
def test_traffic_policy(understand, policy, expected):
    """Each field of a policy has its form in an Envoy cluster."""
    rule = {"host": "webserver", "trafficPolicy": spec_of(policy)}
    cluster = understand(("DestinationRule", rule)).destinations.found["webserver", 80, ""].cluster
    assert {name: cluster[name] for name in expected} == expected


def test_connection_pool(understand):
    """The limits of a connection pool are thresholds, the rest options of the protocol."""
    pool = {
        "tcp": {"maxConnections": 1},
        "http": {
            "http1MaxPendingRequests": 2,
            "http2MaxRequests": 3,
            "maxRetries": 4,
            "maxRequestsPerConnection": 5,
            "idleTimeout": "6s",
        },
    }
    rule = {"host": "webserver", "trafficPolicy": {"connectionPool": pool}}
    cluster = understand(("DestinationRule", rule)).destinations.found["webserver", 80, ""].cluster
    assert cluster["circuit_breakers"]["thresholds"] == [
        {"max_connections": 1, "max_pending_requests": 2, "max_requests": 3, "max_retries": 4}
    ]
    (options,) = cluster["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"] == {"max_requests_per_connection": 5, "idle_timeout": "6s"}


def test_hashing_is_on_the_route(understand):
    """The header to hash by is read by every route to a host, also by one that nobody wrote."""
    rule = {"host": "webserver", "trafficPolicy": spec_of(POLICIES["consistent hash"][0])}
    (route,) = routes(understand(("DestinationRule", rule)))
    assert route["route"]["hash_policy"] == [{"header": {"header_name": "end-user"}}]
    understood = understand(("DestinationRule", rule), ("VirtualService", {"hosts": ["webserver"], "http": [to()]}))
    assert routes(understood)[0]["route"]["hash_policy"] == [{"header": {"header_name": "end-user"}}]


def test_levels_of_a_policy(understand):
    """A subset's policy replaces the host's part by part; a port's replaces all of it."""
    rule = {
        "host": "webserver",
        "trafficPolicy": {
            "loadBalancer": {"simple": "RANDOM"},
            "connectionPool": {"http": {"http2MaxRequests": 9}},
            "portLevelSettings": [{"port": {"number": 81}, "loadBalancer": {"simple": "ROUND_ROBIN"}}],
        },
        "subsets": [
            {
                "name": "v1",
                "labels": {"version": "v1"},
                "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}},
            }
        ],
    }
    ports = [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "more", "port": 81, "targetPort": "http"}]
    service = {"selector": {"app": "webserver"}, "ports": ports}
    found = understand(("Service", service), ("DestinationRule", rule)).destinations.found

    def policy(port, subset):
        cluster = found["webserver", port, subset].cluster
        return cluster["lb_policy"], cluster["circuit_breakers"]["thresholds"][0]["max_requests"]

    assert policy(80, "") == ("RANDOM", 9)
    assert policy(80, "v1") == ("ROUND_ROBIN", 9)
    assert policy(81, "") == ("ROUND_ROBIN", 2**32 - 1)
    assert policy(81, "v1") == ("ROUND_ROBIN", 2**32 - 1)


def test_subsets_select_by_labels(understand):
    """A subset's endpoints are the replicas with its labels."""
    found = understand(("DestinationRule", SUBSETS)).destinations.found
    assert [each.deployment for each in found["webserver", 80, "v1"].workloads] == ["webserverv1"]
    assert [each.deployment for each in found["webserver", 80, ""].workloads] == ["webserverv1", "webserverv2"]


def test_service_entry(understand):
    """A host outside is a destination like any other, by name or by address."""
    entry = {
        "hosts": ["outside.example"],
        "location": "MESH_EXTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "endpoints": [{"address": "127.0.0.1", "ports": {"http": 9080}}],
    }
    understood = understand(("ServiceEntry", entry))
    assert understood.destinations.found["outside.example", 80, ""].addresses == (("127.0.0.1", 9080),)
    assert routes(understood, "outside.example:80")[0]["route"]["cluster"] == "outbound|80||outside.example"
    del entry["endpoints"]
    entry["resolution"] = "DNS"
    found = understand(("ServiceEntry", entry)).destinations.found
    assert found["outside.example", 80, ""].addresses == (("outside.example", 80),)


# HTTPRoutes

SERVICE = {"group": "", "kind": "Service", "name": "webserver", "port": 80}
BACKEND = {"name": "webserverv1", "port": 80}


def http_route(*rules):
    return "HTTPRoute", {"parentRefs": [SERVICE], "rules": [{"backendRefs": [BACKEND], **rule} for rule in rules]}


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, {"prefix": "/"}),
        ({"path": {"value": "/"}}, {"prefix": "/"}),
        ({"path": {"type": "Exact", "value": "/a"}}, {"path": "/a"}),
        ({"path": {"type": "PathPrefix", "value": "/a/"}}, {"path_separated_prefix": "/a"}),
        ({"path": {"type": "RegularExpression", "value": "/a+"}}, {"safe_regex": {"regex": "/a+"}}),
        (
            {"headers": [{"name": "End-User", "value": "x"}]},
            {"prefix": "/", "headers": [{"name": "end-user", "string_match": {"exact": "x"}}]},
        ),
        (
            {"headers": [{"type": "RegularExpression", "name": "a", "value": "x+"}], "method": "POST"},
            {
                "prefix": "/",
                "headers": [
                    {"name": "a", "string_match": {"safe_regex": {"regex": "x+"}}},
                    {"name": ":method", "string_match": {"exact": "POST"}},
                ],
            },
        ),
        (
            {"queryParams": [{"name": "q", "value": "1"}]},
            {"prefix": "/", "query_parameters": [{"name": "q", "string_match": {"exact": "1"}}]},
        ),
    ],
)
def test_match_of_a_route(understand, match, expected):
    """Each kind of condition of an HTTPRoute has its form in Envoy."""
    assert routes(understand(http_route({"matches": [match]})))[0]["match"] == expected


def test_precedence_of_routes(understand):
    """The more specific match is first: exact, then longer prefixes, then method, headers and parameters."""
    matches = [
        {},
        {"queryParams": [{"name": "q", "value": "1"}]},
        {"headers": [{"name": "a", "value": "1"}]},
        {"method": "GET"},
        {"path": {"value": "/a"}},
        {"path": {"value": "/a/b"}},
        {"path": {"type": "Exact", "value": "/"}},
    ]
    found = routes(understand(http_route({"matches": matches})))
    described = [next(iter(each["match"].values())) if len(each["match"]) == 1 else "more" for each in found]
    assert described == ["/", "/a/b", "/a", "more", "more", "more", "/"]
    assert [list(each["match"]) for each in found[3:6]] == [["prefix", "headers"]] * 2 + [
        ["prefix", "query_parameters"]
    ]
    assert found[3]["match"]["headers"][0]["name"] == ":method"


FILTERS = {
    "request headers": (
        {
            "type": "RequestHeaderModifier",
            "requestHeaderModifier": {"set": [{"name": "a", "value": "1"}], "remove": ["b"]},
        },
        {
            "request_headers_to_add": [
                {"header": {"key": "a", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ],
            "request_headers_to_remove": ["b"],
        },
    ),
    "response headers": (
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "a", "value": "1"}]}},
        {
            "response_headers_to_add": [
                {"header": {"key": "a", "value": "1"}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}
            ]
        },
    ),
    "full path": (
        {
            "type": "URLRewrite",
            "urlRewrite": {"hostname": "h", "path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}},
        },
        {"route": {"host_rewrite_literal": "h", "regex_rewrite": {"pattern": {"regex": "/.*"}, "substitution": "/x"}}},
    ),
    "prefix": (
        {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x/"}}},
        {"route": {"prefix_rewrite": "/x"}},
    ),
    "prefix removed": (
        {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}},
        {"route": {"regex_rewrite": {"pattern": {"regex": "^/a(/?)(.*)"}, "substitution": "/\\2"}}},
    ),
    "mirror": (
        {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "webserverv2", "port": 80}, "percent": 5}},
        {
            "route": {
                "request_mirror_policies": [
                    {
                        "cluster": "outbound|80||webserverv2",
                        "runtime_fraction": {"default_value": {"numerator": 50000, "denominator": "MILLION"}},
                    }
                ]
            }
        },
    ),
}


@pytest.mark.parametrize(("item", "expected"), FILTERS.values(), ids=FILTERS)
def test_filter(understand, item, expected):
    """Each filter has its form in Envoy, which accepts it."""
    (route,) = routes(understand(http_route({"matches": [{"path": {"value": "/a"}}], "filters": [item]})))
    for name, value in expected.items():
        if isinstance(value, dict):
            assert {key: route[name].get(key) for key in value} == value
        else:
            assert route[name] == value


def test_redirect_of_a_route(understand):
    """A redirect's scheme brings its port, and 302 is the default."""
    redirect = {"scheme": "https", "hostname": "h", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}}
    rule = {
        "matches": [{"path": {"value": "/a"}}],
        "filters": [{"type": "RequestRedirect", "requestRedirect": redirect}],
        "backendRefs": [],
    }
    (route,) = routes(understand(http_route(rule)))
    assert route["redirect"] == {
        "scheme_redirect": "https",
        "host_redirect": "h",
        "port_redirect": 443,
        "prefix_rewrite": "/b",
        "response_code": "FOUND",
    }


def test_weights_timeouts_and_missing_backends(understand):
    """Weights are shares of their sum and default to 1; timeouts bound the call and each try; nobody behind is 500."""
    rule = {
        "backendRefs": [{**BACKEND, "weight": 3}, {"name": "webserverv2", "port": 80}],
        "timeouts": {"request": "10s", "backendRequest": "2s"},
    }
    (route,) = routes(understand(http_route(rule)))
    assert route["route"]["weighted_clusters"]["clusters"] == [
        {"name": "outbound|80||webserverv1", "weight": 3},
        {"name": "outbound|80||webserverv2", "weight": 1},
    ]
    assert route["route"]["timeout"] == "10s"
    assert route["route"]["retry_policy"]["per_try_timeout"] == "2s"
    for backends in ([], [{**BACKEND, "weight": 0}]):
        (route,) = routes(understand(http_route({"backendRefs": backends})))
        assert route["direct_response"] == {"status": 500}


# Mistakes

RULE = to()
MISTAKES = {
    "unknown host": (
        ("VirtualService", {"hosts": ["nobody"], "http": [RULE]}),
        "spec.hosts: no Service or ServiceEntry has the host 'nobody'",
    ),
    "unknown destination": (
        ("VirtualService", {"hosts": ["webserver"], "http": [{"route": [{"destination": {"host": "nobody"}}]}]}),
        "spec.http[0].route[0].destination.host: no Service or ServiceEntry has the host 'nobody'",
    ),
    "unknown subset": (
        (
            "VirtualService",
            {"hosts": ["webserver"], "http": [{"route": [{"destination": {"host": "webserver", "subset": "v9"}}]}]},
        ),
        "spec.http[0].route[0].destination.subset: no DestinationRule for webserver defines the subset 'v9'",
    ),
    "unknown port": (
        (
            "VirtualService",
            spec_of("{hosts: [webserver], http: [{route: [{destination: {host: webserver, port: {number: 8}}}]}]}"),
        ),
        "spec.http[0].route[0].destination.port: webserver has no port 8, only 80",
    ),
    "weights": (
        (
            "VirtualService",
            {
                "hosts": ["webserver"],
                "http": [
                    {
                        "route": [
                            {"destination": {"host": "webserverv1"}, "weight": 50},
                            {"destination": {"host": "webserverv2"}, "weight": 60},
                        ]
                    }
                ],
            },
        ),
        "spec.http[0].route: weights add up to 110, not to 100",
    ),
    "unknown field": (
        ("VirtualService", {"hosts": ["webserver"], "http": [{**RULE, "retires": {"attempts": 3}}]}),
        "spec.http[0].retires: is unknown, or not supported here",
    ),
    "unsupported field": (
        ("VirtualService", {"hosts": ["webserver"], "http": [{**RULE, "corsPolicy": {"maxAge": "1s"}}]}),
        "spec.http[0].corsPolicy: is unknown, or not supported here",
    ),
    "unsupported kind of route": (
        ("VirtualService", {"hosts": ["webserver"], "tcp": []}),
        "spec.http: is missing: only HTTP routes are supported here",
    ),
    "unknown gateway": (
        ("VirtualService", {"hosts": ["webserver"], "gateways": ["front"], "http": [RULE]}),
        "spec.gateways[0]: there is no Gateway 'front'",
    ),
    "duration": (
        ("VirtualService", {"hosts": ["webserver"], "http": [{**RULE, "timeout": "soon"}]}),
        "spec.http[0].timeout: 'soon' is not a duration such as 1.5s",
    ),
    "type": (
        ("VirtualService", {"hosts": "webserver", "http": [RULE]}),
        "spec.hosts: 'webserver' is not a list",
    ),
    "number as text": (
        ("VirtualService", {"hosts": ["webserver"], "http": [{**RULE, "retries": {"attempts": "3"}}]}),
        "spec.http[0].retries.attempts: '3' is not an integer",
    ),
    "retry condition": (
        ("VirtualService", {"hosts": ["webserver"], "http": [{**RULE, "retries": {"retryOn": "5xx;x"}}]}),
        "spec.http[0].retries.retryOn: '5xx;x' is neither a condition nor a status",
    ),
    "nothing to do": (
        ("VirtualService", {"hosts": ["webserver"], "http": [{"match": [{"uri": {"exact": "/"}}]}]}),
        "spec.http[0].route: is missing",
    ),
    "policy for nobody": (
        ("DestinationRule", {"host": "nobody"}),
        "spec.host: no Service or ServiceEntry has the host 'nobody'",
    ),
    "subset of nobody": (
        ("DestinationRule", {"host": "webserver", "subsets": [{"name": "v9", "labels": {"version": "v9"}}]}),
        "spec.subsets[0].labels: no pod behind webserver has these labels",
    ),
    "unsupported policy": (
        ("DestinationRule", {"host": "webserver", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}),
        "spec.trafficPolicy.tls: is unknown, or not supported here",
    ),
    "unsupported field deep in a policy": (
        (
            "DestinationRule",
            spec_of("{host: webserver, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}}"),
        ),
        "spec.trafficPolicy.connectionPool.http.h2UpgradePolicy: is unknown, or not supported here",
    ),
    "balancer": (
        ("DestinationRule", {"host": "webserver", "trafficPolicy": {"loadBalancer": {"simple": "PASSTHROUGH"}}}),
        "spec.trafficPolicy.loadBalancer.simple: PASSTHROUGH is not supported here",
    ),
    "backend": (
        ("HTTPRoute", {"parentRefs": [SERVICE], "rules": [{"backendRefs": [{"name": "nobody", "port": 80}]}]}),
        "spec.rules[0].backendRefs[0].name: no Service or ServiceEntry has the host 'nobody'",
    ),
    "parent": (
        ("HTTPRoute", {"parentRefs": [{**SERVICE, "name": "nobody"}], "rules": [{"backendRefs": [BACKEND]}]}),
        "spec.parentRefs[0].name: no Service or ServiceEntry has the host 'nobody'",
    ),
    "filter": (
        ("HTTPRoute", {"parentRefs": [SERVICE], "rules": [{"filters": [{"type": "CORS", "cors": {}}]}]}),
        "spec.rules[0].filters[0].type: CORS is not supported here",
    ),
    "unknown field of a route": (
        ("HTTPRoute", {"parentRefs": [SERVICE], "rules": [{"backendRefs": [BACKEND], "retry": {"attempts": 1}}]}),
        "spec.rules[0].retry: is unknown, or not supported here",
    ),
    "target port": (
        ("Service", {"selector": {"app": "webserver"}, "ports": [{"port": 80, "targetPort": "web"}]}),
        "spec.ports[0].targetPort: no container behind this Service has a port 'web'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("mistake", "problem"), MISTAKES.values(), ids=MISTAKES)
def test_mistake(understand, mistake, problem):
    """A mistake, or what is not supported, is an error with file, object and field."""
    with pytest.raises(ManifestError) as caught:
        understand(mistake, check=False)
    kind = mistake[0]
    assert f"policy.yaml: {kind}/webserver: {problem}" in str(caught.value)


def test_two_policies_for_one_host(understand):
    """What Istio would decide by age is an error here."""
    spec = {"hosts": ["webserver"], "http": [to()]}
    with pytest.raises(ManifestError, match="another VirtualService or HTTPRoute is for 'webserver' as well"):
        understand(("VirtualService", spec), ("VirtualService/other", spec), check=False)
    with pytest.raises(ManifestError, match="another VirtualService or HTTPRoute is for 'webserver' as well"):
        understand(("VirtualService", spec), http_route({}), check=False)
    with pytest.raises(ManifestError, match="another DestinationRule is for 'webserver' as well"):
        understand(("DestinationRule", SUBSETS), ("DestinationRule/other", SUBSETS), check=False)


def test_later_objects_replace_earlier_ones(understand):
    """As with kubectl, the last object of a name counts."""
    first = {"hosts": ["webserver"], "http": [to(timeout="1s")]}
    second = {"hosts": ["webserver"], "http": [to(timeout="2s")]}
    (route,) = routes(understand(("VirtualService", first), ("VirtualService", second)))
    assert route["route"]["timeout"] == "2s"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a:\n  - [", "line 2: not YAML"),
        ("- a\n", "document 1: ['a'] is not an object"),
        ("kind: Service\n", "apiVersion: is missing"),
        ("apiVersion: v1\nkind: Service\nmetadata: {}\n", "metadata.name: is missing"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\n", "there is only the namespace default"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a}\n", "Service/a: spec: is missing"),
    ],
)
def test_files_that_are_no_manifests(tmp_path, text, problem):
    """A file that cannot be read as manifests is named with its place."""
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ManifestError) as caught:
        mesh.load([EXAMPLE, path])
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)


def test_folders_and_lists(tmp_path):
    """A folder means its YAML and JSON files; a List means its items."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "more"}, "spec": {"ports": [{"port": 80}]}}
    (tmp_path / "a.yaml").write_text(EXAMPLE.read_text())
    (tmp_path / "b.json").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [service]}))
    (tmp_path / "notes.txt").write_text("not: [a manifest")
    assert "more" in mesh.load([tmp_path]).services


def test_what_envoy_refuses(understand, tmp_path):
    """What only Envoy can judge is reported in its words."""
    rule = to(match=[{"uri": {"regex": "("}}])
    with pytest.raises(EnvoyError, match=r"Envoy does not accept this: .*missing \)"):
        understand(("VirtualService", {"hosts": ["webserver"], "http": [rule]}))
