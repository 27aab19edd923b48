"""What two configurations have to share to treat every call alike: the one place that says what counts as the same.

`meaning` cuts a configuration to what decides, in a form of plain dicts that can be compared by `==`. Everything that
is not named here is kept as it stands, so that a field nobody thought of counts as a difference. Each rule that leaves
something out or writes it in another form is a function or an entry of a table, with its reason; test_meaning.py has
for each a pair that is the same and a pair that is not.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.engine import Configuration, Resource, Resources

# -- What is left out, wherever it stands, and why it decides nothing. -------------------------------------------------

_LEFT_OUT = {
    # Names for people, logs, statistics and traces.
    "stat_prefix", "alt_stat_name", "decorator", "tracing", "trace_sampled", "access_log", "track_remaining",
    "request_id_extension", "traffic_direction",
    # Where Istio noted which object something is from; no filter of plain Envoy reads it.
    "metadata",
    # Only callers that speak gRPC send grpc-timeout, and no role of this program does.
    "max_grpc_timeout",
    # Whether a missing cluster is an error at loading; that a route leads nowhere is compared all the same.
    "validate_clusters",
    # How Envoy hears of a change: from a control plane there, from files here.
    "eds_cluster_config",
    # Which library asks DNS, and how regular expressions are compiled: Envoy has only one kind of each here.
    "typed_dns_resolver_config", "dns_jitter", "google_re2",
    # How a connection is accepted, and how long a TLS handshake may take.
    "max_connections_to_accept_per_socket_event", "transport_socket_connect_timeout",
}  # fmt: skip

# What Envoy does where nothing is said (its API reference), by the object that holds it: written or not is the same.
_UNLIMITED = 2**32 - 1
_DEFAULTS: dict[str, dict[str, Any]] = {
    "match": {"case_sensitive": True},
    "headers": {"invert_match": False, "treat_missing_header_as_empty": False},
    "string_match": {"ignore_case": False},
    "header_to_add": {"append_action": "APPEND_IF_EXISTS_OR_ADD", "keep_empty_value": False},
    "redirect": {"response_code": "MOVED_PERMANENTLY", "strip_query": False, "path_redirect": "", "port_redirect": 0},
    "retry_policy": {"num_retries": 1, "host_selection_retry_max_attempts": 1, "retry_on": ""},
    "hash_policy": {"terminal": False},
    "route": {
        "auto_host_rewrite": False,
        "append_x_forwarded_host": False,
        "prefix_rewrite": "",
        "priority": "DEFAULT",
    },
    "virtual_host": {"include_request_attempt_count": False, "require_tls": "NONE"},
    "cluster": {"type": "STATIC", "connect_timeout": 5, "lb_policy": "ROUND_ROBIN", "dns_lookup_family": "AUTO"},
    "threshold": {
        "priority": "DEFAULT",
        "max_connections": 1024,
        "max_pending_requests": 1024,
        "max_requests": 1024,
        "max_retries": 3,
    },
    "outlier_detection": {
        "consecutive_5xx": 5,
        "interval": 10,
        "base_ejection_time": 30,
        "max_ejection_percent": 10,
        "enforcing_consecutive_5xx": 100,
        "enforcing_success_rate": 100,
        "success_rate_minimum_hosts": 5,
        "success_rate_request_volume": 100,
        "success_rate_stdev_factor": 1900,
        "consecutive_gateway_failure": 5,
        "enforcing_consecutive_gateway_failure": 0,
        "split_external_local_origin_errors": False,
        "consecutive_local_origin_failure": 5,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 100,
        "enforcing_failure_percentage": 0,
        "always_eject_one_host": False,
    },
    "common_lb_config": {"healthy_panic_threshold": {"value": 50}},
    "ring_hash_lb_config": {"minimum_ring_size": 1024, "hash_function": "XX_HASH", "maximum_ring_size": 8388608},
    "maglev_lb_config": {"table_size": 65537},
    "listener": {
        "use_remote_address": False,
        "http_protocol_options": {},
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "server_name": "envoy",
        "normalize_path": False,
        "merge_slashes": False,
        "proxy_100_continue": False,
    },
    "protocol_options": {"explicit_http_config": {"http_protocol_options": {}}, "upstream_http_protocol_options": {}},
}

# Filters that only Istio's build of Envoy has, or that only count: the lab's Envoy cannot have them in either engine.
_FILTERS_LEFT_OUT = re.compile(r"istio\..*|envoy\.filters\.http\.grpc_stats")


def meaning(configuration: Configuration, cluster: Cluster) -> dict[str, Any]:
    """Return what decides, by pod or gateway: its listeners, the hosts that these know, and the clusters behind them.

    Of the pods only the first caller counts: the sidecars of all callers get the same, but for their labels, and what
    the sidecar of a web server does with what comes in is not the quick engine's part.
    """
    names = [pod.name for pod in cluster.pods if pod.calls and pod.in_mesh][:1]
    names += [gateway.name for gateway in cluster.gateways]
    # Which addresses a cluster gives out decides nothing; whose they are does.
    owners = {pod.address: pod.name for pod in (*cluster.pods, *cluster.gateways)}
    owners |= {service.address: f"address of {service.name}" for service in cluster.services}
    owners |= {gateway.service_address: f"address of {gateway.service}" for gateway in cluster.gateways}
    return {name: _workload(configuration.resources.get(name, Resources()), owners) for name in names}


def _workload(resources: Resources, owners: Mapping[str, str]) -> dict[str, Any]:
    listeners = dict(_listeners(resources.listeners))
    routes = {each["name"]: _routes(each, owners) for each in resources.routes}
    # Routes that no listener asks for are never used.
    used = {value.get("routes") for value in listeners.values()}
    routes = {name: value for name, value in routes.items() if name in used}
    # Nor are clusters that nothing leads to: Istio makes one of every Service and subset.
    reachable = set(_cluster_names([listeners, routes]))
    endpoints = {each["cluster_name"]: each for each in resources.endpoints}
    clusters = {
        each["name"]: _cluster(each, endpoints, owners) for each in resources.clusters if each["name"] in reachable
    }
    return {"listeners": listeners, "routes": routes, "clusters": clusters}


def _cluster_names(value: Any) -> Iterator[str]:
    """Return the names of all clusters that routes lead to, by share or by mirror."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "cluster" and isinstance(inner, str):
                yield inner
            elif key == "shares":
                yield from inner
            yield from _cluster_names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _cluster_names(inner)


# -- Listeners ---------------------------------------------------------------------------------------------------------


def _listeners(listeners: Iterable[Resource]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return by port what a listener does with HTTP, and what else it tells apart.

    What comes into a pod, and what is captured but is not HTTP, is left out: `virtualInbound`, `virtualOutbound`, and
    the chain that passes everything else through. So is how HTTP is recognised: callers here speak HTTP.
    """
    for listener in listeners:
        if listener.get("name") in ("virtualInbound", "virtualOutbound"):
            continue
        port = str(listener["address"]["socket_address"]["port_value"])
        for chain in listener["filter_chains"]:
            value: dict[str, Any] = {}
            for each in chain["filters"]:
                if _FILTERS_LEFT_OUT.fullmatch(each["name"]):
                    continue
                if _type(each).endswith(".HttpConnectionManager"):
                    value |= _http(each["typed_config"], "transport_socket" in chain)
                else:
                    value[each["name"]] = _clean(each.get("typed_config"))
            match = _clean(chain.get("filter_chain_match", {}))
            match = {
                key: each for key, each in match.items() if key not in ("transport_protocol", "application_protocols")
            }
            for key, inner in (("match", match), ("transport_socket", chain.get("transport_socket"))):
                if inner:
                    value[key] = inner
            yield port + (f" {json.dumps(match, sort_keys=True)}" if match else ""), value


def _http(manager: dict[str, Any], is_tls: bool) -> dict[str, Any]:
    value = _clean(manager)
    value.pop("@type", None)
    value["routes"] = value.pop("rds")["route_config_name"]
    filters = [each for each in value.pop("http_filters") if not _FILTERS_LEFT_OUT.fullmatch(each["name"])]
    # Routes refer to a filter by its name, and its type says what it does.
    value["filters"] = [{"name": each["name"], **each["typed_config"]} for each in filters]
    if not is_tls:
        # Without certificates of callers there is nothing to forward; what they claim is removed in either form.
        value.pop("forward_client_cert_details", None)
        value.pop("set_current_client_cert_details", None)
    return _without_defaults(value, "listener")


# -- Routes ------------------------------------------------------------------------------------------------------------


def _routes(configuration: Resource, owners: Mapping[str, str]) -> dict[str, Any]:
    """Return hosts by their domains: not the order or the names of virtual hosts decide, the longest domain does."""
    value = _clean(configuration)
    value.pop("name")
    grouped: dict[str, list[str]] = {}
    for host in value.pop("virtual_hosts", []):
        domains = [owners.get(domain, domain) for domain in host.pop("domains")]
        host.pop("name", None)
        host["routes"] = _reachable([_route(route) for route in host.get("routes", [])])
        host = _per_filter(_header_operations(_without_defaults(host, "virtual_host")))
        if domains == ["*"] and host == {"routes": []}:
            continue  # what has no route answers 404, as does what no host has
        text = json.dumps(host, sort_keys=True)
        grouped.setdefault(text, []).extend(domains)
    # Hosts with the same routes are one, however their domains are spread over virtual hosts.
    value["hosts"] = {", ".join(sorted(domains)): json.loads(text) for text, domains in grouped.items()}
    return _header_operations(value)


def _reachable(routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the routes up to the first that takes everything: those behind it are never asked."""
    for index, route in enumerate(routes):
        if route["match"] == {"prefix": "/"}:
            return routes[: index + 1]
    return routes


def _route(route: dict[str, Any]) -> dict[str, Any]:
    route.pop("name", None)  # a name for logs
    route["match"] = _match(route["match"])
    if "route" in route:
        route["route"] = _action(route["route"])
    if "redirect" in route:
        redirect = route["redirect"]
        if redirect.pop("https_redirect", False):
            redirect["scheme_redirect"] = "https"  # two words for one thing
        route["redirect"] = _without_defaults(redirect, "redirect")
    if "direct_response" in route:
        route["direct_response"] = _direct_response(route["direct_response"])
    return _per_filter(_header_operations(route))


def _match(match: dict[str, Any]) -> dict[str, Any]:
    """Return conditions in one order: all have to hold.

    Names of headers have no case, a regular expression has its own, and a path without letters has none.
    """
    match = _without_defaults(match, "match")
    path = match.get("path", match.get("prefix", match.get("path_separated_prefix", "")))
    if "safe_regex" in match or path.lower() == path.upper():
        match.pop("case_sensitive", None)
    for key in ("headers", "query_parameters"):
        conditions = []
        for condition in match.pop(key, []):
            if key == "headers":
                condition["name"] = condition["name"].lower()
            if "string_match" in condition:
                condition["string_match"] = _without_defaults(condition["string_match"], "string_match")
            conditions.append(_without_defaults(condition, "headers"))
        if conditions:
            match[key] = sorted(conditions, key=lambda each: json.dumps(each, sort_keys=True))
    return match


def _action(action: dict[str, Any]) -> dict[str, Any]:
    action = _without_defaults(action, "route")
    if "weighted_clusters" in action:
        action |= _shares(action.pop("weighted_clusters"))
    if "retry_policy" in action:
        action["retry_policy"] = _retry_policy(action["retry_policy"])
        if not action["retry_policy"].get("retry_on"):
            action.pop("retry_policy")  # nothing is ever tried again
    if "hash_policy" in action:
        policies = [_without_defaults(each, "hash_policy") for each in action["hash_policy"]]
        # The same part of a request hashed twice in a row tells callers apart no further.
        action["hash_policy"] = [each for index, each in enumerate(policies) if each not in policies[:index]]
    mirrors = []
    for mirror in action.pop("request_mirror_policies", []):
        share = _percent(mirror.pop("runtime_fraction", {"default_value": {"numerator": 100}}).get("default_value", {}))
        if share:  # 0 % is no mirror
            mirrors.append({**mirror, "percent": share})
    if mirrors:
        # Each mirror gets its own copy: their order does not matter.
        action["request_mirror_policies"] = sorted(mirrors, key=lambda each: json.dumps(each, sort_keys=True))
    return action


def _shares(weighted: dict[str, Any]) -> dict[str, Any]:
    """Return the shares of clusters: what has weight 0 gets no call, 75 to 25 is 3 to 1, one cluster alone gets all."""
    clusters = [_per_filter(_header_operations(each)) for each in weighted.pop("clusters") if each.get("weight", 0)]
    divisor = math.gcd(*(each["weight"] for each in clusters)) or 1
    if len(clusters) == 1 and set(clusters[0]) == {"name", "weight"} and not weighted:
        return {"cluster": clusters[0]["name"]}
    shares: dict[str, Any] = {}
    for each in clusters:
        weight = each.pop("weight") // divisor
        shares.setdefault(each.pop("name"), []).append({"weight": weight, **each})
    return {"shares": shares, **({"weighted_clusters": weighted} if weighted else {})}


def _retry_policy(policy: dict[str, Any]) -> dict[str, Any]:
    if "host_selection_retry_max_attempts" in policy:
        policy["host_selection_retry_max_attempts"] = int(policy["host_selection_retry_max_attempts"])
    policy["retry_host_predicate"] = [_type(each) for each in policy.get("retry_host_predicate", [])]
    if not policy["retry_host_predicate"]:
        # Without a condition the first host that is chosen will do: there is no second attempt at choosing.
        policy.pop("retry_host_predicate")
        policy.pop("host_selection_retry_max_attempts", None)
    # Conditions and codes are sets: one of them is enough.
    words = policy.get("retry_on", "").replace(" ", "").split(",")
    policy["retry_on"] = ",".join(sorted({word for word in words if word}))
    if "retriable_status_codes" in policy:
        policy["retriable_status_codes"] = sorted(set(policy["retriable_status_codes"]))
    return _without_defaults(policy, "retry_policy")


def _direct_response(response: dict[str, Any]) -> dict[str, Any]:
    """Return a body as its bytes, whether they are written as text or in base64; an empty one is none."""
    body = response.pop("body", {})
    content = (
        base64.b64decode(body["inline_bytes"], validate=True)
        if "inline_bytes" in body
        else body.get("inline_string", "").encode()
    )
    if content:
        response["body"] = content.decode("latin-1")
    return response


def _header_operations(holder: dict[str, Any]) -> dict[str, Any]:
    """Sort operations by header: Envoy computes all values before it changes any; on one header the order counts."""
    for name in ("request_headers_to_add", "response_headers_to_add"):
        operations = []
        for each in holder.pop(name, []):
            header = _without_defaults(each.get("header", {}), "header_to_add")
            header["key"] = header["key"].lower()
            operations.append({**_without_defaults(each, "header_to_add"), "header": header})
        operations.sort(key=lambda each: each["header"]["key"])
        if operations:
            holder[name] = operations
    for name in ("request_headers_to_remove", "response_headers_to_remove"):
        removed = sorted({each.lower() for each in holder.pop(name, [])})
        if removed:
            holder[name] = removed
    return holder


def _per_filter(holder: dict[str, Any]) -> dict[str, Any]:
    """Leave out faults for 0 % of the calls, as they are where no percentage is given."""
    filters = holder.pop("typed_per_filter_config", {})
    fault = filters.get("envoy.filters.http.fault")
    if fault:
        for name in ("delay", "abort"):
            if name in fault:
                percent = _percent(fault[name].pop("percentage", {}))
                fault[name]["percent"] = percent
                if not percent:
                    fault.pop(name)
        if set(fault) <= {"@type"}:
            filters.pop("envoy.filters.http.fault")
    cors = filters.get("envoy.filters.http.cors", {})
    if "filter_enabled" in cors:
        cors["filter_enabled"] = _percent(cors["filter_enabled"].get("default_value", {}))
    if filters:
        holder["typed_per_filter_config"] = filters
    return holder


# -- Clusters ----------------------------------------------------------------------------------------------------------


def _cluster(cluster: Resource, endpoints: Mapping[str, Resource], owners: Mapping[str, str]) -> dict[str, Any]:
    service_name = cluster.get("eds_cluster_config", {}).get("service_name") or cluster["name"]
    value = _clean(cluster)
    value.pop("name")
    _leave_out_mutual_tls(value)
    filters = [each for each in value.pop("filters", []) if not _FILTERS_LEFT_OUT.fullmatch(each["name"])]
    if filters:
        value["filters"] = filters
    assignment = value.pop("load_assignment", None)
    if value.get("type") == "EDS":
        # Endpoints that a control plane tells, and endpoints that stand there, are endpoints.
        value["type"] = "STATIC"
        assignment = _clean(endpoints.get(service_name, {}))
    value["endpoints"] = _endpoints(assignment or {}, owners)
    thresholds = value.pop("circuit_breakers", {}).get("thresholds", [])
    limits = {**_DEFAULTS["threshold"], **next((each for each in thresholds if "priority" not in each), {})}
    value["limits"] = {name: limit for name, limit in limits.items() if limit not in ("DEFAULT", _UNLIMITED)}
    common = value.get("common_lb_config", {})
    if common.get("healthy_panic_threshold") == {}:
        common["healthy_panic_threshold"] = {"value": 0}
    for name in ("outlier_detection", "common_lb_config", "ring_hash_lb_config", "maglev_lb_config"):
        if name in value:
            value[name] = _without_defaults({key: _number(each) for key, each in value[name].items()}, name)
    for name in ("ring_hash_lb_config", "maglev_lb_config", "common_lb_config"):
        if not value.get(name):
            value.pop(name, None)
    options = value.pop("typed_extension_protocol_options", {}).get(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions", {}
    )
    options = _without_defaults(options, "protocol_options")
    if set(options) - {"@type"}:
        value["protocol_options"] = options
    return _without_defaults(value, "cluster")


def _leave_out_mutual_tls(cluster: dict[str, Any]) -> None:
    """Leave out that pods of the mesh are called by mutual TLS where they take it: HTTP is the same inside.

    Only this automatic form goes. What a DestinationRule says about TLS stays.
    """
    matches = cluster.get("transport_socket_matches", [])
    if {each["name"] for each in matches} == {"tlsMode-istio", "tlsMode-disabled"}:
        cluster.pop("transport_socket_matches")
    # Where a connection goes on to its own address, there is no endpoint that could say whether it takes it.
    context = cluster.get("transport_socket", {}).get("typed_config", {}).get("common_tls_context", {})
    if cluster.get("type") == "ORIGINAL_DST" and "istio-peer-exchange" in context.get("alpn_protocols", []):
        cluster.pop("transport_socket")


def _endpoints(assignment: dict[str, Any], owners: Mapping[str, str]) -> Any:
    """Return addresses by group, one group without any property as a plain list. Their order does not matter.

    Weights count by proportion within a group; what a group weighs decides nothing while it is alone.
    """
    groups = []
    for group in assignment.pop("endpoints", []):
        members = []
        weights = [each.get("load_balancing_weight", 1) for each in group.get("lb_endpoints", [])]
        divisor = math.gcd(*weights) or 1
        for each, weight in zip(group.get("lb_endpoints", []), weights, strict=True):
            address = each["endpoint"]["address"]
            socket = address.get("socket_address")
            if socket:
                text = f"{owners.get(socket['address'], socket['address'])}:{socket['port_value']}"
            else:
                text = json.dumps(address, sort_keys=True)
            text += f" weight {weight // divisor}" if weight != divisor else ""
            health = each.get("health_status", "UNKNOWN")
            # An endpoint without a health check counts as healthy.
            members.append(text if health in ("UNKNOWN", "HEALTHY") else f"{text} {health}")
        if members:
            group.pop("lb_endpoints")
            groups.append({**{key: each for key, each in group.items() if each}, "members": sorted(members)})
    assignment.pop("cluster_name", None)
    if len(groups) == 1:
        groups[0].pop("load_balancing_weight", None)
        if set(groups[0]) == {"members"} and not assignment:
            return groups[0]["members"]
    return {**assignment, "groups": groups} if assignment else groups


# -- Helpers -----------------------------------------------------------------------------------------------------------

_DURATION = re.compile(r"-?\d+(\.\d+)?s")
_DURATION_FIELDS = re.compile(
    r".*timeout|.*_time|.*_delay|.*interval|ttl|.*_rate|max_connection_duration|max_stream_duration|.*_window|.*_duration"
)


def _clean(value: Any, key: str = "") -> Any:
    """Return a copy without what is left out everywhere, with durations as seconds."""
    if isinstance(value, dict):
        return {name: _clean(inner, name) for name, inner in value.items() if name not in _LEFT_OUT}
    if isinstance(value, list):
        return [_clean(inner, key) for inner in value]
    if isinstance(value, str) and _DURATION_FIELDS.fullmatch(key) and _DURATION.fullmatch(value):
        return _number(value[:-1])
    return value


def _type(extension: dict[str, Any]) -> str:
    """Return the type by which Envoy finds an extension; its name is only a name."""
    return str(extension.get("typed_config", {}).get("@type", "")).rpartition("/")[2]


def _number(value: Any) -> Any:
    """Return a number that JSON writes as a text, as it does with those of 64 bits."""
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value):
        value = float(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _without_defaults(value: dict[str, Any], kind: str) -> dict[str, Any]:
    defaults = _DEFAULTS[kind]
    return {key: each for key, each in value.items() if key not in defaults or defaults[key] != each}


_DENOMINATORS = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}


def _percent(fraction: dict[str, Any]) -> float:
    """Return a fraction as a percentage: 5 of a hundred is 50,000 of a million."""
    share = 100 * int(fraction.get("numerator", 0)) / _DENOMINATORS[fraction.get("denominator", "HUNDRED")]
    return _number(min(share, 100.0))


# -- Comparing ---------------------------------------------------------------------------------------------------------


def differences(expected: Any, actual: Any, place: str = "") -> list[str]:
    """Return a line for each place where two meanings differ: what is expected there, and what stands there."""
    if expected == actual:
        return []
    if isinstance(expected, dict) and isinstance(actual, dict):
        lines = []
        for key in [*expected, *(key for key in actual if key not in expected)]:
            lines += differences(expected.get(key), actual.get(key), f"{place} / {key}" if place else str(key))
        return lines
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        pairs = enumerate(zip(expected, actual, strict=True))
        return [line for index, (one, other) in pairs for line in differences(one, other, f"{place}[{index}]")]
    return [f"{place}: {_short(expected)} in Istio, {_short(actual)} here"]


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 600 else text[:600] + "..."
