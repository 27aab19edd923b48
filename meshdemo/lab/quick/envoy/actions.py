"""Writing what is done with a call, part by part (route.go and retry/retry.go in pilot/pkg/networking/core/route)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshdemo.lab.quick.envoy.words import FAULT_TYPE, TYPE, duration, share, string_matcher, without_empty
from meshdemo.lab.quick.rules.destinations import Hashing
from meshdemo.lab.quick.rules.model import DEFAULT_RETRIES, Cors, DirectResponse, Fault, Headers, Redirect, Retry

#: What Istio retries by default (retry.go, DefaultPolicy): neither 500 nor 503, and on another host each time.
DEFAULT_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
_REDIRECT_CODES = {302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT", 308: "PERMANENT_REDIRECT"}
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


def retry_policy(retry: Retry | None, *, is_hashed: bool) -> dict[str, Any] | None:
    """Return a RetryPolicy, None for no retries (retry.go, ConvertPolicy)."""
    if retry and not retry.attempts:
        return None
    policy: dict[str, Any] = {"retry_on": DEFAULT_RETRY_ON, "num_retries": retry.attempts if retry else DEFAULT_RETRIES}
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


def hash_policy(hashing: Hashing) -> dict[str, Any] | None:
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


def redirect(redirect: Redirect, called: int, scheme: str) -> dict[str, Any]:
    """Return a RedirectAction for calls of a port and a scheme (ApplyRedirect): the usual port is not written."""
    port = called if redirect.same_port else redirect.port or 0
    usual = {"http": 80, "https": 443}[redirect.scheme or scheme]
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


def direct_response(response: DirectResponse) -> dict[str, Any]:
    """Return a DirectResponseAction (ApplyDirectResponse)."""
    body = {"inline_string": response.text} if response.text is not None else {"inline_bytes": response.base64}
    return {"status": response.status, **({"body": body} if None not in body.values() else {})}


def fault(fault: Fault) -> dict[str, Any]:
    """Return an HTTPFault (TranslateFault): without a percentage it applies to no call."""
    written: dict[str, Any] = {"@type": FAULT_TYPE}
    if fault.delay:
        delay = duration(fault.delay.seconds)
        written["delay"] = {"fixed_delay": delay, "percentage": share(fault.delay.share)}
    if fault.abort:
        percentage = {"percentage": share(fault.abort.share)} if fault.abort.share else {}
        written["abort"] = {"http_status": fault.abort.status, **percentage}
    return written


def cors_policy(cors: Cors) -> dict[str, Any]:
    """Return a CorsPolicy (TranslateCORSPolicy)."""
    return without_empty(
        {
            "@type": f"{TYPE}envoy.extensions.filters.http.cors.v3.CorsPolicy",
            "allow_origin_string_match": [string_matcher(origin) for origin in cors.origins],
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


def header_changes(headers: Headers) -> dict[str, Any]:
    """Return operations on headers (TranslateHeadersOperations): set replaces, add appends, remove removes."""
    written: dict[str, Any] = {}
    for direction, changes in (("request", headers.request), ("response", headers.response)):
        added = [*_added(changes.replaced, "OVERWRITE_IF_EXISTS_OR_ADD"), *_added(changes.added, "")]
        written[f"{direction}_headers_to_add"] = added
        written[f"{direction}_headers_to_remove"] = list(changes.removed)
    return {name: value for name, value in written.items() if value}


def _added(values: Mapping[str, str], action: str) -> list[dict[str, Any]]:
    return [
        {"header": without_empty({"key": key, "value": value}), **({"append_action": action} if action else {})}
        for key, value in values.items()
    ]


def _optional(seconds: float | None) -> str | None:
    return None if seconds is None else duration(seconds)
