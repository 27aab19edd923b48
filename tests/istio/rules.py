"""What counts as the same, by example: for each rule two forms of one thing, and a third that is something else."""

import copy

from meshdemo.lab.engine import Configuration, Resources

WEB = "outbound|80||webserver.default.svc.cluster.local"
V1 = "outbound|80|v1|webserver.default.svc.cluster.local"
TYPE = "type.googleapis.com/"
MANAGER = f"{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
FAULT = f"{TYPE}envoy.extensions.filters.http.fault.v3.HTTPFault"
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
MUTUAL_TLS = [{"name": "tlsMode-istio", "match": {}}, {"name": "tlsMode-disabled", "match": {}}]
ORIGINAL = {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}


def tls(*protocols):
    """Return a transport socket with these in its ALPN."""
    return {"name": "tls", "typed_config": {"common_tls_context": {"alpn_protocols": list(protocols)}}}


def merged(base, changes):
    """Return nested dicts with changes put over them."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return copy.deepcopy(changes)
    return {**base, **{key: merged(base.get(key), value) for key, value in changes.items()}}


def configuration(route=None, host=None, routes=None, cluster=None, manager=None, members=None, listeners=(), **more):
    """Return a sidecar's configuration of one host, one route and one cluster, with changes."""
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "10.244.1.1", "port_value": 3030}}}}
    first = merged({"match": {"prefix": "/"}, "route": {"cluster": WEB, "timeout": "0s"}}, route or {})
    if {"path", "safe_regex"} & set(first["match"]):
        first["match"].pop("prefix")
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


def host(*domains, routes=()):
    return {"name": domains[0], "domains": list(domains), "routes": list(routes)}


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
ALL = {"match": {"prefix": "/"}, "route": {"cluster": WEB}}
ONLY_A = {"match": {"path": "/a"}, "route": {"cluster": V1}}
OVERWRITE = {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
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
        {"host": {"routes": [ALL]}},
        {"host": {"routes": [ALL, ONLY_A]}},
        {"host": {"routes": [ONLY_A, ALL]}},
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
        {"route": {"request_headers_to_add": [header("a", "z", **OVERWRITE), header("b", "%REQ(a)%", **OVERWRITE)]}},
        {"route": {"request_headers_to_add": [header("b", "%REQ(a)%", **OVERWRITE), header("a", "z", **OVERWRITE)]}},
        {"route": {"request_headers_to_add": [header("b", "%REQ(x)%", **OVERWRITE), header("a", "z", **OVERWRITE)]}},
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
        {"routes": {"virtual_hosts": [host("a", "b", routes=[ONLY_A])]}},
        {"routes": {"virtual_hosts": [host("b", routes=[ONLY_A]), host("a", routes=[ONLY_A])]}},
        {"routes": {"virtual_hosts": [host("b", routes=[ONLY_A])]}},
    ),
    "nothing for everybody": (
        {"routes": {"virtual_hosts": [host("a", routes=[ALL]), host("*")]}},
        {"routes": {"virtual_hosts": [host("a", routes=[ALL])]}},
        {"routes": {"virtual_hosts": [host("a", routes=[ALL]), host("*", routes=[ALL])]}},
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
    "mutual TLS to the address that the caller chose": (
        {"cluster": {**ORIGINAL, "transport_socket": tls("istio-peer-exchange", "istio")}},
        {"cluster": ORIGINAL},
        {"cluster": {**ORIGINAL, "transport_socket": tls("h2")}},
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
