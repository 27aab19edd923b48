"""Writing rules as Envoy's routes (pilot/pkg/networking/core/route/route.go and .../retry/retry.go of Istio)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from meshdemo.lab.quick.destinations import Hashing
from meshdemo.lab.quick.envoy.words import (
    CORS,
    FAULT,
    FAULT_TYPE,
    TYPE,
    cluster_name,
    duration,
    share,
    without_empty,
)
from meshdemo.lab.quick.model import (
    Cors,
    DirectResponse,
    Fault,
    HeaderChanges,
    Headers,
    Match,
    Mirror,
    Redirect,
    Retry,
    Rewrite,
    Route,
    StringMatch,
    Target,
    VirtualHost,
)
from meshdemo.lab.quick.registry import Registry

#: Istio retries by default (retry.go, DefaultPolicy): neither 500 nor 503, and on another host each time.
DEFAULT_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
_REDIRECT_CODES = {302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT", 308: "PERMANENT_REDIRECT"}
_PATHS = {"exact": "path", "prefix": "prefix", "segments": "path_separated_prefix"}
_OTHER_HOSTS = [
    {
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": {"@type": f"{TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
    }
]
_OTHER_PRIORITIES = {
    "name": "envoy.retry_priorities.previous_priorities",
    "typed_config": {
        "@type": f"{TYPE}envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
        "update_frequency": 2,
    },
}
#: The largest answer that is made up without a call, 1 MiB.
_MOST_BODY_BYTES = 1024 * 1024
# Calls to hosts that nobody knows pass through (MeshConfig.outboundTrafficPolicy, ALLOW_ANY).
_ALLOW_ANY = {
    "name": "allow_any",
    "domains": ["*"],
    "routes": [
        {
            "name": "allow_any",
            "match": {"prefix": "/"},
            "route": {"cluster": "PassthroughCluster", "timeout": "0s", "max_grpc_timeout": "0s"},
        }
    ],
    "include_request_attempt_count": True,
}


def route_configuration(
    name: str, virtual_hosts: Iterable[VirtualHost], registry: Registry, *, allow_any: bool
) -> dict[str, Any]:
    """Return a RouteConfiguration; with `allow_any` other hosts pass through, else they are not found."""
    return {
        "name": name,
        "virtual_hosts": [
            *(_virtual_host(virtual_host, registry) for virtual_host in virtual_hosts),
            *([_ALLOW_ANY] if allow_any else []),
        ],
        "validate_clusters": False,
        "max_direct_response_body_size_bytes": _MOST_BODY_BYTES,
        "ignore_port_in_host_matching": True,
    }


def _virtual_host(host: VirtualHost, registry: Registry) -> dict[str, Any]:
    written: dict[str, Any] = {"name": host.name, "domains": list(host.domains)}
    if host.routes:
        written["routes"] = [_route(route, registry) for route in host.routes]
    if host.https_only:
        written["require_tls"] = "ALL"
    if host.routes or host.https_only:
        written["include_request_attempt_count"] = True
    return written


def _route(route: Route, registry: Registry) -> dict[str, Any]:
    rule, match = route.rule, route.match
    written: dict[str, Any] = {"name": ".".join(filter(None, (rule.name, match.name if match else "")))}
    written["match"] = _match(match)
    changes = _changes(rule.headers)
    if rule.redirect:
        written["redirect"] = _redirect(rule.redirect, route.port)
    elif rule.response:
        written["direct_response"] = _direct_response(rule.response)
    else:
        written["route"] = _action(route, registry)
        if len(rule.targets) == 1:
            for name, value in _changes(rule.targets[0].headers).items():
                changes[name] = changes.get(name, []) + value
    filters = {}
    if rule.fault:
        filters[FAULT] = _fault(rule.fault)
    if rule.cors:
        filters[CORS] = _cors(rule.cors)
    return without_empty({**written, **changes, "typed_per_filter_config": filters or None})


def _match(match: Match | None) -> dict[str, Any]:
    """Return a RouteMatch (TranslateRouteMatch)."""
    if match is None:
        return {"prefix": "/"}
    path = match.path or StringMatch("prefix", "/")
    written: dict[str, Any] = (
        {"safe_regex": {"regex": path.value}} if path.kind == "regex" else {_PATHS[path.kind]: path.value}
    )
    written["case_sensitive"] = not match.ignore_case
    headers = [_condition(name, value) for name, value in match.headers]
    for name, value in match.without_headers:
        empty = {} if value.kind == "present" else {"treat_missing_header_as_empty": True}
        headers.append({**_condition(name, value), "invert_match": True, **empty})
    headers.sort(key=lambda header: header["name"])
    for name, condition in ((":method", match.method), (":authority", match.authority), (":scheme", match.scheme)):
        if condition:
            headers.append(_condition(name, condition))
    written["headers"] = headers
    written["query_parameters"] = [_condition(name, value) for name, value in match.parameters]
    return {name: value for name, value in written.items() if value != []}


def _condition(name: str, match: StringMatch) -> dict[str, Any]:
    if match.kind == "present":
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": _string(match)}


def _string(match: StringMatch) -> dict[str, Any]:
    return {"safe_regex": {"regex": match.value}} if match.kind == "regex" else {match.kind: match.value}


def _action(route: Route, registry: Registry) -> dict[str, Any]:
    """Return a RouteAction (applyHTTPRouteDestination)."""
    rule = route.rule
    timeout = duration(rule.timeout_seconds or 0)
    action: dict[str, Any] = {"timeout": timeout, "max_grpc_timeout": timeout}
    if route.of_gateway_api:
        action["cluster_not_found_response_code"] = "INTERNAL_SERVER_ERROR"
    if rule.rewrite:
        action |= _rewrite(rule.rewrite)
    authority = (rule.rewrite.authority if rule.rewrite else "") or rule.headers.request.authority
    hashings = [registry.hashing_for(target.destination) for target in rule.targets]
    if len(rule.targets) == 1:
        target = rule.targets[0]
        if route.is_default:
            hashings = [registry.hashing_for_host(target.destination.host, route.port)]
        action["cluster"] = _cluster(route, registry, target)
        authority = authority or target.headers.request.authority
    else:
        pairs = [(target, hashing) for target, hashing in zip(rule.targets, hashings, strict=True) if target.weight]
        hashings = [hashing for _, hashing in pairs]
        action["weighted_clusters"] = {"clusters": [_weighted(route, registry, target) for target, _ in pairs]}
    if authority:
        action["host_rewrite_literal"] = authority
    action["request_mirror_policies"] = [_mirror(mirror, route, registry) for mirror in rule.mirrors]
    action["hash_policy"] = [written for hashing in hashings if hashing and (written := _hash_policy(hashing))]
    # Calls that are kept together are retried where they belong.
    is_hashed = len(rule.targets) == 1 and hashings[0] is not None and not route.is_default
    retry = _retry(rule.retry, is_hashed=is_hashed)
    return {name: value for name, value in {**action, "retry_policy": retry}.items() if value not in ([], None)}


def _cluster(route: Route, registry: Registry, target: Target) -> str:
    destination = target.destination
    port = registry.port_of(destination, route.port, at_gateway=route.at_gateway)
    return cluster_name(destination.host, port, destination.subset)


def _weighted(route: Route, registry: Registry, target: Target) -> dict[str, Any]:
    authority = target.headers.request.authority
    return {
        "name": _cluster(route, registry, target),
        "weight": target.weight,
        **_changes(target.headers),
        **({"host_rewrite_literal": authority} if authority else {}),
    }


def _mirror(mirror: Mirror, route: Route, registry: Registry) -> dict[str, Any]:
    return {
        "cluster": _cluster(route, registry, Target(mirror.destination)),
        "runtime_fraction": {"default_value": share(mirror.share)},
        "trace_sampled": False,
        "disable_shadow_host_suffix_append": True,
    }


def _rewrite(rewrite: Rewrite) -> dict[str, Any]:
    if rewrite.pattern:
        return {"regex_rewrite": {"pattern": {"regex": rewrite.pattern}, "substitution": rewrite.substitution}}
    return {"prefix_rewrite": rewrite.prefix} if rewrite.prefix else {}


def _retry(retry: Retry | None, *, is_hashed: bool) -> dict[str, Any] | None:
    """Return a RetryPolicy, None for no retries (retry.go, ConvertPolicy)."""
    if retry and not retry.attempts:
        return None
    policy: dict[str, Any] = {"retry_on": DEFAULT_RETRY_ON, "num_retries": retry.attempts if retry else 2}
    other_hosts = not is_hashed
    if retry:
        if retry.conditions or retry.codes:
            needed = retry.codes and not any("retriable-status-codes" in each for each in retry.conditions)
            # Without a condition beside the codes Istio writes a leading comma, which Envoy skips.
            policy["retry_on"] = ",".join(retry.conditions) + (",retriable-status-codes" if needed else "")
        other_hosts = other_hosts if retry.other_hosts is None else retry.other_hosts
        policy["retriable_status_codes"] = list(retry.codes)
        policy["per_try_timeout"] = _optional(retry.per_try_seconds)
        if retry.backoff_seconds is not None:
            policy["retry_back_off"] = {"base_interval": duration(retry.backoff_seconds)}
        if retry.other_localities:
            policy["retry_priority"] = _OTHER_PRIORITIES
    policy["retry_host_predicate"] = _OTHER_HOSTS if other_hosts else None
    policy["host_selection_retry_max_attempts"] = "5"
    return without_empty(policy)


def _optional(seconds: float | None) -> str | None:
    return None if seconds is None else duration(seconds)


def _redirect(redirect: Redirect, called: int) -> dict[str, Any]:
    """Return a RedirectAction (ApplyRedirect): the usual port of a scheme is not written."""
    port = called if redirect.same_port else redirect.port or 0
    usual = {"http": 80, "https": 443}[redirect.scheme or "http"]
    path = {"prefix_rewrite": redirect.prefix} if redirect.prefix else {"path_redirect": redirect.path}
    return (
        without_empty(
            {
                "host_redirect": redirect.authority,
                "port_redirect": 0 if port == usual else port,
                "scheme_redirect": redirect.scheme,
                "response_code": _REDIRECT_CODES.get(redirect.code),
            }
        )
        | path
    )


def _direct_response(response: DirectResponse) -> dict[str, Any]:
    body = {"inline_string": response.text} if response.text is not None else {"inline_bytes": response.base64}
    return {"status": response.status, **({"body": body} if None not in body.values() else {})}


def _fault(fault: Fault) -> dict[str, Any]:
    """Return an HTTPFault (TranslateFault): without a percentage it applies to no call."""
    written: dict[str, Any] = {"@type": FAULT_TYPE}
    if fault.delay:
        delay = duration(fault.delay.seconds)
        written["delay"] = {"fixed_delay": delay, "percentage": share(fault.delay.share)}
    if fault.abort:
        percentage = {"percentage": share(fault.abort.share)} if fault.abort.share else {}
        written["abort"] = {"http_status": fault.abort.status, **percentage}
    return written


def _cors(cors: Cors) -> dict[str, Any]:
    """Return a CorsPolicy (TranslateCORSPolicy)."""
    return without_empty(
        {
            "@type": f"{TYPE}envoy.extensions.filters.http.cors.v3.CorsPolicy",
            "allow_origin_string_match": [_string(origin) for origin in cors.origins],
            "allow_methods": ",".join(cors.methods),
            "allow_headers": ",".join(cors.headers),
            "expose_headers": ",".join(cors.exposed),
            "max_age": None if cors.max_age_seconds is None else str(cors.max_age_seconds),
            "filter_enabled": {"default_value": {"numerator": 100}},
        }
    ) | {
        **({} if cors.credentials is None else {"allow_credentials": cors.credentials}),
        "forward_not_matching_preflights": cors.forward_unmatched,
    }


def _changes(headers: Headers) -> dict[str, Any]:
    """Return operations on headers (TranslateHeadersOperations): set replaces, add appends, remove removes."""
    written: dict[str, Any] = {}
    for direction, changes in (("request", headers.request), ("response", headers.response)):
        added = [*_added(changes.replaced, "OVERWRITE_IF_EXISTS_OR_ADD"), *_added(changes.added, "")]
        written[f"{direction}_headers_to_add"] = added
        written[f"{direction}_headers_to_remove"] = _removed(changes)
    return {name: value for name, value in written.items() if value}


def _added(values: Mapping[str, str], action: str) -> list[dict[str, Any]]:
    return [
        {"header": without_empty({"key": key, "value": value}), **({"append_action": action} if action else {})}
        for key, value in values.items()
    ]


def _removed(changes: HeaderChanges) -> list[str]:
    return list(changes.removed)


def _hash_policy(hashing: Hashing) -> dict[str, Any] | None:
    """Return by what a call is hashed (ConsistentHashToHashPolicy)."""
    if hashing.header is not None:
        return {"header": {"header_name": hashing.header}}
    if hashing.parameter is not None:
        return {"query_parameter": {"name": hashing.parameter}}
    if hashing.source_address is not None:
        return {"connection_properties": without_empty({"source_ip": hashing.source_address})}
    if hashing.cookie is not None:
        cookie = hashing.cookie
        attributes = [without_empty({"name": name, "value": value}) for name, value in cookie.attributes]
        written = {"name": cookie.name, "ttl": _optional(cookie.seconds), "path": cookie.path}
        return {"cookie": without_empty({**written, "attributes": attributes})}
    return None
