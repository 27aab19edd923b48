"""What counts as the same: for each rule a pair that is, and a pair that is not; and nothing else is left out."""

import copy
import dataclasses
import json
import random
import re

import pytest
from meaning import _LEFT_OUT, differences, meaning
from records import load, policies

from meshdemo.lab import quick
from meshdemo.lab.engine import Configuration, Resources
from meshdemo.lab.manifests import ManifestError

CLUSTER = load(None)
WEB = "outbound|80||webserver.default.svc.cluster.local"
V1 = "outbound|80|v1|webserver.default.svc.cluster.local"
TYPE = "type.googleapis.com/"
MANAGER = f"{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
FAULT = f"{TYPE}envoy.extensions.filters.http.fault.v3.HTTPFault"
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
MUTUAL_TLS = [{"name": "tlsMode-istio", "match": {}}, {"name": "tlsMode-disabled", "match": {}}]


def merged(base, changes):
    """Return nested dicts with changes put over them."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return copy.deepcopy(changes)
    return {**base, **{key: merged(base.get(key), value) for key, value in changes.items()}}


def configuration(route=None, host=None, routes=None, cluster=None, manager=None, members=None, listeners=(), **more):
    """Return a sidecar's configuration of one host, one route and one cluster, with changes."""
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "10.244.1.1", "port_value": 3030}}}}
    first = merged({"match": {"prefix": "/"}, "route": {"cluster": WEB, "timeout": "0s"}}, route or {})
    if "redirect" in first or "direct_response" in first:
        first.pop("route")
    elif "weighted_clusters" in first["route"]:
        first["route"].pop("cluster")
    http = {"@type": MANAGER, "rds": {"route_config_name": "80"}, "http_filters": []}
    chain = {"filters": [{"name": "http", "typed_config": merged(http, manager or {})}]}
    listener = {"name": "a", "address": {"socket_address": {"port_value": 80}}, "filter_chains": [merged(chain, more)]}
    base_host = {"name": "webserver", "domains": ["webserver", "webserver.default"], "routes": [first]}
    resources = Resources(
        listeners=[listener, *listeners],
        routes=[merged({"name": "80", "virtual_hosts": [merged(base_host, host or {})]}, routes or {})],
        clusters=[merged({"name": WEB, "type": "EDS"}, cluster or {}), {"name": V1}],
        endpoints=[{"cluster_name": WEB, "endpoints": [{"lb_endpoints": members or [endpoint]}]}],
    )
    return Configuration({"proxy-1": resources})


def header(name, value, **more):
    return {"header": {"key": name, "value": value}, **more}


def weighted(*pairs, **more):
    return action(weighted_clusters={"clusters": [{"name": name, "weight": weight} | more for name, weight in pairs]})


def match(**conditions):
    return {"route": {"match": conditions}}


def action(**fields):
    return {"route": {"route": fields}}


def fault(**fields):
    return {"route": {"typed_per_filter_config": {"envoy.filters.http.fault": {"@type": FAULT, **fields}}}}


def member(address, **more):
    return {"endpoint": {"address": {"socket_address": {"address": address, "port_value": 3030}}}, **more}


def mirror(numerator, denominator="HUNDRED", cluster=V1):
    share = {"default_value": {"numerator": numerator, "denominator": denominator}}
    return {"cluster": cluster, "runtime_fraction": share}


def options(**fields):
    return {"cluster": {"typed_extension_protocol_options": {OPTIONS: {"@type": f"{TYPE}{OPTIONS}", **fields}}}}


def retry(retry_on, **fields):
    return action(retry_policy={"retry_on": retry_on, **fields})


PREDICATES = {"retry_host_predicate": [{"name": "a", "typed_config": {"@type": f"{TYPE}previous"}}]}
OTHER_PREDICATES = {"retry_host_predicate": [{"name": "a", "typed_config": {"@type": f"{TYPE}other"}}]}
A, B = {"name": "a", "string_match": {"exact": "1"}}, {"name": "b", "present_match": True}
UNLIMITED = 2**32 - 1
ONE_ENDPOINT = {"endpoints": [{"lb_endpoints": [member("10.244.1.1")]}]}

# One form, another that is the same, and one that is not.
RULES = {
    "the name of a route": ({"route": {"name": "a"}}, {"route": {"name": "b"}}, match(prefix="/a")),
    "the name of a virtual host": ({"host": {"name": "a"}}, {"host": {"name": "b"}}, {"host": {"domains": ["a"]}}),
    "the order of domains": (
        {"host": {"domains": ["a", "b"]}},
        {"host": {"domains": ["b", "a"]}},
        {"host": {"domains": ["a", "b", "c"]}},
    ),
    "what is said of origin": ({"route": {"metadata": {"a": 1}}}, {}, {"route": {"per_request_buffer_limit_bytes": 1}}),
    "what is traced": ({"route": {"decorator": {"operation": "a"}}}, {}, {"route": {"stat_prefix": "a", "x": 1}}),
    "the timeout of gRPC": (action(max_grpc_timeout="0s"), {}, action(timeout="1s")),
    "durations": (action(timeout="1.500s"), action(timeout="1.5s"), action(timeout="1.501s")),
    "case by default": (
        match(prefix="/a", case_sensitive=True),
        match(prefix="/a"),
        match(prefix="/a", case_sensitive=False),
    ),
    "case of a regular expression": (
        {"route": {"match": {"safe_regex": {"regex": "/a"}, "case_sensitive": False}}},
        {"route": {"match": {"safe_regex": {"regex": "/a", "google_re2": {}}}}},
        {"route": {"match": {"safe_regex": {"regex": "/A"}}}},
    ),
    "case of a path without letters": (match(prefix="/1", case_sensitive=False), match(prefix="/1"), match(path="/1")),
    "the order of header matches": (match(headers=[A, B]), match(headers=[B, A]), match(headers=[A])),
    "the case of a header's name": (
        match(headers=[{**A, "name": "X"}]),
        match(headers=[{**A, "name": "x"}]),
        match(headers=[{**A, "name": "x", "string_match": {"exact": "X"}}]),
    ),
    "the order of query matches": (
        match(query_parameters=[A, B]),
        match(query_parameters=[B, A]),
        match(query_parameters=[B]),
    ),
    "the case of a query parameter": (
        match(query_parameters=[A]),
        match(query_parameters=[{**A}]),
        match(query_parameters=[{**A, "name": "A"}]),
    ),
    "a condition's defaults": (
        match(headers=[{**A, "invert_match": False, "treat_missing_header_as_empty": False}]),
        match(headers=[A]),
        match(headers=[{**A, "invert_match": True}]),
    ),
    "case of a value": (
        match(headers=[{"name": "a", "string_match": {"exact": "x", "ignore_case": False}}]),
        match(headers=[{"name": "a", "string_match": {"exact": "x"}}]),
        match(headers=[{"name": "a", "string_match": {"exact": "x", "ignore_case": True}}]),
    ),
    "weights by proportion": (weighted((WEB, 75), (V1, 25)), weighted((WEB, 3), (V1, 1)), weighted((WEB, 3), (V1, 2))),
    "weight 0": (weighted((WEB, 1), (V1, 0)), weighted((WEB, 1)), weighted((WEB, 1), (V1, 1))),
    "one cluster alone": (weighted((WEB, 7)), {}, weighted((V1, 7))),
    "one cluster alone with headers": (
        weighted((WEB, 7), request_headers_to_remove=["a"]),
        weighted((WEB, 1), request_headers_to_remove=["a"]),
        weighted((WEB, 1)),
    ),
    "the order of clusters": (weighted((WEB, 3), (V1, 1)), weighted((V1, 1), (WEB, 3)), weighted((V1, 3), (WEB, 1))),
    "the order of retry conditions": (retry("5xx,reset"), retry("reset, 5xx"), retry("5xx")),
    "the order of retry codes": (
        retry("retriable-status-codes", retriable_status_codes=[503, 429]),
        retry("retriable-status-codes", retriable_status_codes=[429, 503]),
        retry("retriable-status-codes", retriable_status_codes=[503]),
    ),
    "retries without a condition": (retry("", num_retries=3), {}, retry("5xx", num_retries=3)),
    "one retry": (retry("5xx", num_retries=1), retry("5xx"), retry("5xx", num_retries=2)),
    "attempts at choosing without a predicate": (
        retry("5xx", host_selection_retry_max_attempts="5"),
        retry("5xx"),
        retry("5xx", host_selection_retry_max_attempts="5", **PREDICATES),
    ),
    "attempts at choosing as text": (
        retry("5xx", host_selection_retry_max_attempts="5", **PREDICATES),
        retry("5xx", host_selection_retry_max_attempts=5, **PREDICATES),
        retry("5xx", host_selection_retry_max_attempts=5, **OTHER_PREDICATES),
    ),
    "a hash twice": (
        action(hash_policy=[{"header": {"header_name": "a"}}] * 2),
        action(hash_policy=[{"header": {"header_name": "a"}, "terminal": False}]),
        action(hash_policy=[{"header": {"header_name": "b"}}]),
    ),
    "the order of hashes": (
        action(hash_policy=[{"header": {"header_name": "a"}}, {"header": {"header_name": "b"}}]),
        action(hash_policy=[{"header": {"header_name": "a"}}, {"header": {"header_name": "b"}}]),
        action(hash_policy=[{"header": {"header_name": "b"}}, {"header": {"header_name": "a"}}]),
    ),
    "a mirror of 0 %": (action(request_mirror_policies=[mirror(0)]), {}, action(request_mirror_policies=[mirror(1)])),
    "a mirror of everything": (
        action(request_mirror_policies=[{"cluster": V1}]),
        action(request_mirror_policies=[mirror(1_000_000, "MILLION")]),
        action(request_mirror_policies=[mirror(999_999, "MILLION")]),
    ),
    "the order of mirrors": (
        action(request_mirror_policies=[mirror(5), mirror(50_000, "MILLION", WEB)]),
        action(request_mirror_policies=[mirror(5, cluster=WEB), mirror(5)]),
        action(request_mirror_policies=[mirror(5)]),
    ),
    "an action's defaults": (
        action(auto_host_rewrite=False, prefix_rewrite="", append_x_forwarded_host=False),
        {},
        action(prefix_rewrite="/"),
    ),
    "what stands behind a catch-all": (
        {"host": {"routes": [{"match": {"prefix": "/"}, "route": {"cluster": WEB}}]}},
        {"host": {"routes": [{"match": {"prefix": "/"}, "route": {"cluster": WEB}}, {"match": {"path": "/a"}}]}},
        {"host": {"routes": [{"match": {"path": "/a"}}, {"match": {"prefix": "/"}, "route": {"cluster": WEB}}]}},
    ),
    "https by two words": (
        {"route": {"redirect": {"https_redirect": True}}},
        {"route": {"redirect": {"scheme_redirect": "https"}}},
        {"route": {"redirect": {"scheme_redirect": "http"}}},
    ),
    "a redirect's defaults": (
        {"route": {"redirect": {"host_redirect": "a", "response_code": "MOVED_PERMANENTLY", "path_redirect": ""}}},
        {"route": {"redirect": {"host_redirect": "a"}}},
        {"route": {"redirect": {"host_redirect": "a", "response_code": "FOUND"}}},
    ),
    "a body as text or in base64": (
        {"route": {"direct_response": {"status": 200, "body": {"inline_bytes": "aGVsbG8="}}}},
        {"route": {"direct_response": {"status": 200, "body": {"inline_string": "hello"}}}},
        {"route": {"direct_response": {"status": 200, "body": {"inline_string": "Hello"}}}},
    ),
    "an empty body": (
        {"route": {"direct_response": {"status": 200, "body": {"inline_string": ""}}}},
        {"route": {"direct_response": {"status": 200}}},
        {"route": {"direct_response": {"status": 201}}},
    ),
    "the order of header operations": (
        {"route": {"request_headers_to_add": [header("a", "1"), header("B", "2")]}},
        {"route": {"request_headers_to_add": [header("b", "2"), header("A", "1")]}},
        {"route": {"request_headers_to_add": [header("a", "2"), header("b", "1")]}},
    ),
    "the order of operations on one header": (
        {"route": {"request_headers_to_add": [header("a", "1"), header("a", "2")]}},
        {"route": {"request_headers_to_add": [header("a", "1"), header("a", "2")]}},
        {"route": {"request_headers_to_add": [header("a", "2"), header("a", "1")]}},
    ),
    "the order of computed headers": (
        {"route": {"request_headers_to_add": [header("a", "1"), header("b", "%REQ(a)%")]}},
        {"route": {"request_headers_to_add": [header("A", "1"), header("b", "%REQ(a)%")]}},
        {"route": {"request_headers_to_add": [header("b", "%REQ(a)%"), header("a", "1")]}},
    ),
    "appending by default": (
        {"route": {"response_headers_to_add": [header("a", "1", append_action="APPEND_IF_EXISTS_OR_ADD")]}},
        {"route": {"response_headers_to_add": [header("a", "1", keep_empty_value=False)]}},
        {"route": {"response_headers_to_add": [header("a", "1", append_action="OVERWRITE_IF_EXISTS_OR_ADD")]}},
    ),
    "the order of removals": (
        {"route": {"response_headers_to_remove": ["a", "B"]}},
        {"route": {"response_headers_to_remove": ["b", "A"]}},
        {"route": {"response_headers_to_remove": ["b"]}},
    ),
    "a fault for 0 %": (
        fault(abort={"http_status": 500}),
        {},
        fault(abort={"http_status": 500, "percentage": {"numerator": 1}}),
    ),
    "percentages": (
        fault(delay={"fixed_delay": "1s", "percentage": {"numerator": 5}}),
        fault(delay={"fixed_delay": "1.000s", "percentage": {"numerator": 50_000, "denominator": "MILLION"}}),
        fault(delay={"fixed_delay": "1s", "percentage": {"numerator": 50_001, "denominator": "MILLION"}}),
    ),
    "a virtual host's defaults": (
        {"host": {"include_request_attempt_count": False}},
        {},
        {"host": {"include_request_attempt_count": True}},
    ),
    "hosts of the same routes": (
        {"routes": {"virtual_hosts": [{"domains": ["a", "b"], "routes": []}]}},
        {"routes": {"virtual_hosts": [{"domains": ["b"], "routes": []}, {"domains": ["a"], "routes": []}]}},
        {"routes": {"virtual_hosts": [{"domains": ["b"], "routes": []}]}},
    ),
    "nothing for everybody": (
        {"routes": {"virtual_hosts": [{"domains": ["a"], "routes": []}, {"domains": ["*"], "routes": []}]}},
        {"routes": {"virtual_hosts": [{"domains": ["a"], "routes": []}]}},
        {"routes": {"virtual_hosts": [{"domains": ["a"], "routes": []}, {"domains": ["*.b"], "routes": []}]}},
    ),
    "whether clusters are checked": (
        {"routes": {"validate_clusters": False}},
        {},
        {"routes": {"ignore_port_in_host_matching": True}},
    ),
    "what comes into a pod": (
        {"listeners": [{"name": "virtualInbound"}, {"name": "virtualOutbound"}]},
        {},
        {"listeners": [{"address": {"socket_address": {"port_value": 81}}, "filter_chains": [{"filters": []}]}]},
    ),
    "a listener's defaults": (
        {"manager": {"use_remote_address": False, "server_name": "envoy", "http_protocol_options": {}}},
        {"manager": {"path_with_escaped_slashes_action": "KEEP_UNCHANGED"}},
        {"manager": {"use_remote_address": True}},
    ),
    "filters of Istio's own": (
        {"manager": {"http_filters": [{"name": "istio.alpn"}, {"name": "envoy.filters.http.grpc_stats"}]}},
        {},
        {"manager": {"http_filters": [{"name": "a", "typed_config": {"@type": FAULT}}]}},
    ),
    "callers' certificates where there are none": (
        {"manager": {"forward_client_cert_details": "SANITIZE_SET"}},
        {},
        {"manager": {"forward_client_cert_details": "SANITIZE_SET"}, "transport_socket": {"name": "tls"}},
    ),
    "how HTTP is recognised": (
        {"filter_chain_match": {"transport_protocol": "raw_buffer", "application_protocols": ["h2c"]}},
        {},
        {"filter_chain_match": {"server_names": ["a"]}},
    ),
    "mutual TLS where pods take it": (
        {"cluster": {"transport_socket_matches": MUTUAL_TLS}},
        {},
        {"cluster": {"transport_socket": {"name": "tls"}}},
    ),
    "a cluster nothing leads to": ({"cluster": {"name": "b"}}, {"cluster": {"name": "c"}}, {"cluster": {"name": WEB}}),
    "the default balancing": ({"cluster": {"lb_policy": "ROUND_ROBIN"}}, {}, {"cluster": {"lb_policy": "RANDOM"}}),
    "the default connect timeout": ({"cluster": {"connect_timeout": "5s"}}, {}, {"cluster": {"connect_timeout": "6s"}}),
    "where endpoints come from": (
        {"cluster": {"eds_cluster_config": {"eds_config": {"ads": {}}, "service_name": WEB}}},
        {"cluster": {"type": "STATIC", "load_assignment": ONE_ENDPOINT}},
        {"cluster": {"type": "STRICT_DNS", "load_assignment": ONE_ENDPOINT}},
    ),
    "the order of endpoints": (
        {"members": [member("10.0.0.1"), member("10.0.0.2")]},
        {"members": [member("10.0.0.2", health_status="HEALTHY"), member("10.0.0.1", load_balancing_weight=1)]},
        {"members": [member("10.0.0.2", health_status="DRAINING"), member("10.0.0.1")]},
    ),
    "the weights of endpoints": (
        {"members": [member("10.0.0.1", load_balancing_weight=4), member("10.0.0.2", load_balancing_weight=2)]},
        {"members": [member("10.0.0.1", load_balancing_weight=2), member("10.0.0.2")]},
        {"members": [member("10.0.0.1", load_balancing_weight=3), member("10.0.0.2", load_balancing_weight=2)]},
    ),
    "limits that are Envoy's": (
        {"cluster": {"circuit_breakers": {"thresholds": [{"max_connections": 1024, "track_remaining": True}]}}},
        {"cluster": {"circuit_breakers": {"thresholds": []}}},
        {"cluster": {"circuit_breakers": {"thresholds": [{"max_connections": UNLIMITED}]}}},
    ),
    "outlier detection's defaults": (
        {"cluster": {"outlier_detection": {"consecutive_5xx": 5, "interval": "10s", "max_ejection_percent": 10}}},
        {"cluster": {"outlier_detection": {}}},
        {"cluster": {"outlier_detection": {"consecutive_5xx": 0}}},
    ),
    "no outlier detection": ({}, {"cluster": {}}, {"cluster": {"outlier_detection": {}}}),
    "the panic threshold": (
        {"cluster": {"common_lb_config": {"healthy_panic_threshold": {}}}},
        {"cluster": {"common_lb_config": {"healthy_panic_threshold": {"value": 0}}}},
        {"cluster": {"common_lb_config": {"healthy_panic_threshold": {"value": 50}}}},
    ),
    "the default ring": (
        {"cluster": {"ring_hash_lb_config": {"minimum_ring_size": "1024"}}},
        {},
        {"cluster": {"ring_hash_lb_config": {"minimum_ring_size": "1"}}},
    ),
    "the default table": (
        {"cluster": {"maglev_lb_config": {"table_size": "65537"}}},
        {},
        {"cluster": {"maglev_lb_config": {"table_size": "11"}}},
    ),
    "HTTP/1.1 by default": (
        options(explicit_http_config={"http_protocol_options": {}}),
        {},
        options(explicit_http_config={"http2_protocol_options": {}}),
    ),
}  # fmt: skip


def meaning_of(changes):
    return meaning(configuration(**changes), CLUSTER)


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule):
    """Two forms of one thing count as the same, and a third that is something else does not."""
    one, other, different = (meaning_of(changes) for changes in RULES[rule])
    assert differences(one, other) == []
    assert differences(one, different)


def test_addresses_are_those_of_somebody():
    """Other addresses of the same pods and Services make no difference; an address of somebody else does."""
    service, pod = CLUSTER.services[0], CLUSTER.pods[0]
    renumbered = dataclasses.replace(
        CLUSTER,
        services=(dataclasses.replace(service, address="10.0.0.7"), *CLUSTER.services[1:]),
        pods=(dataclasses.replace(pod, address="10.0.0.8"), *CLUSTER.pods[1:]),
    )

    def of(cluster, *addresses):
        return meaning(configuration(host={"domains": [addresses[0]]}, members=[member(addresses[1])]), cluster)

    assert of(CLUSTER, service.address, pod.address) == of(renumbered, "10.0.0.7", "10.0.0.8")
    assert of(CLUSTER, service.address, pod.address) != of(CLUSTER, CLUSTER.services[1].address, pod.address)
    assert of(CLUSTER, service.address, pod.address) != of(CLUSTER, service.address, CLUSTER.pods[1].address)


def test_differences_name_the_place():
    """A difference is told by its place, with what is expected and what stands there."""
    one, other = {"a": [{"b": 1}, 2], "c": 3}, {"a": [{"b": 2}, 2], "d": 4}
    assert differences(one, other) == [
        "a[0] / b: 1 in Istio, 2 here",
        "c: 3 in Istio, nothing here",
        "d: nothing in Istio, 4 here",
    ]


# -- Nothing is left out but what the rules say: what the quick engine makes is broken field by field. -----------------

# What may be changed ("~") or taken away ("-") without a difference, and why.
NO_DIFFERENCE = [
    rf".*/({'|'.join(sorted(_LEFT_OUT))})(=\w+|/.*)? [-~]",
    # Order, where it does not matter; names; what is Envoy's default and written all the same.
    r"/(listeners|routes|clusters|endpoints|routes\[\]/virtual_hosts|.*/(domains|lb_endpoints)) ~",
    r".*/match/(headers|query_parameters) ~",
    r".*/(request|response)_headers_to_(add|remove) ~",
    r".*/(request_mirror_policies|retriable_status_codes|weighted_clusters/clusters) ~",
    r"/listeners\[\]/name [-~]",
    r"/listeners\[\]/filter_chains\[\]/filters\[\]/name [-~]",
    r".*/virtual_hosts\[\]/name [-~]",
    r".*/virtual_hosts\[\]/routes\[\]/name [-~]",
    r".*/retry_host_predicate\[\]/name [-~]",
    r".*/explicit_http_config -",
    r".*/case_sensitive=True -",
    r".*/outlier_detection/enforcing_consecutive_local_origin_failure -",
    r".*/path_with_escaped_slashes_action -",
    r".*/(use_remote_address=False|server_name|http_protocol_options) -",
    # What a share of 101 % would be.
    r".*/filter_enabled/default_value/numerator ~",
    # Where a listener binds is the lab's part; how its routes come there as well.
    r"/listeners\[\]/address/socket_address/address [-~]",
    r".*/rds/config_source(/.*)? [-~]",
    # Without TLS no caller has a certificate.
    r".*/(forward_client_cert_details|set_current_client_cert_details)(/.*)? [-~]",
    # A weight of 1 is the default, and a group that is alone has all the weight; places that are not said.
    r".*/lb_endpoints\[\]/load_balancing_weight -",
    r".*/endpoints\[\]/(load_balancing_weight|locality) [-~]",
    r".*/load_assignment/cluster_name [-~]",
]

# The share of what is alone: it has all.
SHARE = r".*/(load_balancing_)?weight ~"


def steps(value, path=(), kind=""):
    """Return every place below a value, with its kind: the path without numbers and names."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        if isinstance(key, int):
            name = "[]"
        else:
            name = f"/{key}" if re.fullmatch(r"@?[a-z0-9_]+", key) else f"/{key.rpartition('.')[2]}"
        yield (*path, key), kind + name + (f"={inner}" if isinstance(inner, bool) else ""), inner
        yield from steps(inner, (*path, key), kind + name)


def broken(value):
    """Return another value of the same type, or None where there is none."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        number = re.fullmatch(r"(\d+(?:\.\d+)?)(s?)", value)
        return f"{float(number[1]) + 1}{number[2]}" if number else f"{value}x"
    return value[::-1] if isinstance(value, list) and value != value[::-1] else None


def mutations(parts):
    """Return everything that can be broken: its place, what to put there (None takes it away), and its kind."""
    for path, kind, value in steps(parts):
        yield path, None, f"{kind} -"
        if broken(value) is not None:
            yield path, broken(value), f"{kind} ~"


def is_seen(parts, path, value, name, cluster):
    """Tell whether a broken part makes a difference, or cannot even be understood any more."""
    changed = copy.deepcopy(parts)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    if value is None:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    try:
        found = meaning(Configuration({name: Resources(**changed)}), cluster)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return True
    return found[name] != meaning(Configuration({name: Resources(**parts)}), cluster)[name]


@pytest.fixture(scope="module")
def made():
    """Return what the quick engine makes of each policy, without clusters that nothing leads to."""
    found = []
    for policy, path in policies().items():
        try:
            cluster = load(path)
            configuration = quick.configure(cluster)
        except ManifestError:
            continue
        for name, value in meaning(configuration, cluster).items():
            resources = configuration.resources[name]
            parts = {
                "listeners": list(resources.listeners),
                "routes": list(resources.routes),
                "clusters": [each for each in resources.clusters if each["name"] in value["clusters"]],
                "endpoints": [each for each in resources.endpoints if each["cluster_name"] in value["clusters"]],
            }
            found.append((policy, name, json.loads(json.dumps(parts)), cluster))
    return found


def test_every_kind_of_field_decides(made):
    """Each kind of field that the engine writes, changed or taken away, makes a difference, or a rule says why not."""
    tries, seen = {}, set()
    for _, name, parts, cluster in made:
        for path, value, kind in mutations(parts):
            if kind in seen or tries.get(kind, 0) >= 40:
                continue
            tries[kind] = tries.get(kind, 0) + 1
            if is_seen(parts, path, value, name, cluster):
                seen.add(kind)
    unseen = set(tries) - seen
    assert len(seen) > 250
    assert {kind for kind in unseen if not any(re.fullmatch(rule, kind) for rule in NO_DIFFERENCE)} == set()


def test_random_breaks_are_seen(made):
    """Anything broken at random makes a difference, but for what the rules leave out."""
    chance = random.Random(12)
    unseen = []
    for policy, name, parts, cluster in chance.choices(made, k=150):
        for path, value, kind in chance.choices(list(mutations(parts)), k=4):
            if any(re.fullmatch(rule, kind) for rule in [*NO_DIFFERENCE, SHARE]):
                continue
            if not is_seen(parts, path, value, name, cluster):
                unseen.append((policy, name, path, value))
    assert unseen == []
