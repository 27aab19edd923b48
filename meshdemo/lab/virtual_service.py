"""VirtualServices as Envoy routes.

The rules are Istio's (pilot/pkg/networking/core/route/route.go and .../route/retry/retry.go), its defaults included.
"""

from __future__ import annotations

import re
from typing import Any

from meshdemo.lab.destinations import Destination, Destinations, duration
from meshdemo.lab.manifests import Fields

#: Istio retries by default (Istio, "Traffic Management: Retries"; retry.go, DefaultPolicy): neither 500 nor 503.
DEFAULT_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled"
DEFAULT_RETRY_ATTEMPTS = 2
FAULT_FILTER = "envoy.filters.http.fault"
_REDIRECT_CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}


def routes_of(spec: Fields, destinations: Destinations) -> list[dict[str, Any]]:
    """Return the Envoy routes of a VirtualService's `http`, in order: the first that matches wins."""
    rules = spec.items("http")
    if not rules:
        raise spec.error("http", "is missing: only HTTP routes are supported here")
    return [route for rule in rules for route in _routes_of_rule(rule, destinations)]


def _routes_of_rule(rule: Fields, destinations: Destinations) -> list[dict[str, Any]]:
    """Return one Envoy route for each `match`, which are alternatives; one that matches everything without any."""
    common = _common(rule, destinations)
    matches = rule.items("match")
    rule.ignore("name")
    return [{"match": _match(match), **common} for match in matches] or [{"match": {"prefix": "/"}, **common}]


def _match(match: Fields) -> dict[str, Any]:
    match.ignore("name", "statPrefix")
    result: dict[str, Any] = {}
    uri = match.fields("uri")
    insensitive = match.boolean("ignoreUriCase")
    if uri is None:
        result["prefix"] = "/"
    else:
        kind, value = _string_match(uri)
        if kind == "exact":
            result["path"] = value
        elif kind == "prefix":
            result["prefix"] = value
        elif kind == "safe_regex":
            result["safe_regex"] = value
        else:
            raise uri.error("exact", "is missing, as are prefix and regex")
        if insensitive and kind != "safe_regex":
            result["case_sensitive"] = False
    headers = _header_matches(match, "headers", invert=False) + _header_matches(match, "withoutHeaders", invert=True)
    method = match.fields("method")
    if method:
        kind, value = _string_match(method)
        headers.append({"name": ":method", "string_match": {kind: value}})
    if headers:
        result["headers"] = headers
    parameters = []
    for name in match.any("queryParams") or {}:
        condition = _child_of(match, "queryParams", name)
        kind, value = _string_match(condition)
        parameters.append({"name": name, **({"string_match": {kind: value}} if kind else {"present_match": True})})
    if parameters:
        result["query_parameters"] = parameters
    return result


def _child_of(fields: Fields, name: str, key: str) -> Fields:
    """Return one of the objects in a mapping; an empty one means that the name only has to be there."""
    child = fields.required(name)
    return child.fields(key) or Fields({}, child.at(key))


def _string_match(condition: Fields) -> tuple[str, Any]:
    """Return an Envoy string match as its kind and value; ("", None) for one without a condition."""
    exact, prefix, regex = condition.text("exact"), condition.text("prefix"), condition.text("regex")
    if sum(each is not None for each in (exact, prefix, regex)) > 1:
        raise condition.error("exact", "and prefix and regex exclude each other")
    if exact is not None:
        return "exact", exact
    if prefix is not None:
        return "prefix", prefix
    if regex is not None:
        return "safe_regex", {"regex": regex}
    return "", None


def _header_matches(match: Fields, name: str, *, invert: bool) -> list[dict[str, Any]]:
    result = []
    for header in match.any(name) or {}:
        kind, value = _string_match(_child_of(match, name, header))
        entry: dict[str, Any] = {"name": header.lower()}
        if kind:
            entry["string_match"] = {kind: value}
            if invert:
                entry["treat_missing_header_as_empty"] = True
        else:
            entry["present_match"] = True
        if invert:
            entry["invert_match"] = True
        result.append(entry)
    return result


def _common(rule: Fields, destinations: Destinations) -> dict[str, Any]:
    """Return what an Envoy route has beside its match."""
    route: dict[str, Any] = {**_header_operations(rule.fields("headers"))}
    redirect, direct = rule.fields("redirect"), rule.fields("directResponse")
    kinds = [name for name in ("route", "redirect", "directResponse") if name in rule]
    if len(kinds) != 1:
        raise rule.error("route", "is missing" if not kinds else f"excludes {' and '.join(kinds[1:])}")
    if redirect:
        route["redirect"] = _redirect(redirect)
    elif direct:
        route["direct_response"] = _direct_response(direct)
    else:
        route["route"] = _action(rule, destinations, route)
    fault = rule.fields("fault")
    if fault:
        if "route" not in rule:
            raise rule.error("fault", "goes with a route only")
        route["typed_per_filter_config"] = {FAULT_FILTER: _fault(fault)}
    return route


def _action(rule: Fields, destinations: Destinations, route: dict[str, Any]) -> dict[str, Any]:
    targets = rule.items("route")
    found = [(each, destinations.of(each.required("destination"))) for each in targets]
    weights = [each.integer("weight") for each in targets]
    action: dict[str, Any]
    if len(found) == 1:
        action = {"cluster": found[0][1].name}
        for name, value in _header_operations(targets[0].fields("headers")).items():
            route[name] = route.get(name, []) + value
    else:
        if sum(weight or 0 for weight in weights) != 100:
            raise rule.error("route", f"weights add up to {sum(weight or 0 for weight in weights)}, not to 100")
        action = {"weighted_clusters": {"clusters": [
            {"name": destination.name, "weight": weight or 0, **_header_operations(each.fields("headers"))}
            for (each, destination), weight in zip(found, weights, strict=True)
        ]}}  # fmt: skip
    add_hashing(action, [destination for _, destination in found])
    seconds = rule.seconds("timeout")
    action["timeout"] = duration(seconds or 0)  # by default there is none, where Envoy's own would be 15 s
    retries = _retries(rule.fields("retries"))
    if retries:
        action["retry_policy"] = retries
    rewrite = rule.fields("rewrite")
    if rewrite:
        action |= _rewrite(rewrite)
    mirrors = _mirrors(rule, destinations)
    if mirrors:
        action["request_mirror_policies"] = mirrors
    return action


def add_hashing(action: dict[str, Any], found: list[Destination]) -> None:
    """Add what consistent hashing needs on a route: the header is read there, not in the cluster."""
    headers = dict.fromkeys(destination.hash_header for destination in found if destination.hash_header)
    if headers:
        action["hash_policy"] = [{"header": {"header_name": header}} for header in headers]


def default_retries() -> dict[str, Any]:
    """Return the retry policy of a route that says nothing of retries.

    Another host is chosen each time, in up to 5 attempts (retry.go, defaultRetryHostPredicate).
    """
    return {
        "retry_on": DEFAULT_RETRY_ON,
        "num_retries": DEFAULT_RETRY_ATTEMPTS,
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


def _retries(retries: Fields | None) -> dict[str, Any] | None:
    """Translate HTTPRetry; None for no retries (retry.go, ConvertPolicy)."""
    policy = default_retries()
    if retries is None:
        return policy
    attempts = retries.integer("attempts")
    per_try, backoff = retries.seconds("perTryTimeout"), retries.seconds("backoff")
    conditions = [each.strip() for each in (retries.text("retryOn") or DEFAULT_RETRY_ON).split(",") if each.strip()]
    codes = [int(each) for each in conditions if re.fullmatch(r"\d{3}", each)]
    names = [each for each in conditions if not re.fullmatch(r"\d{3}", each)]
    for each in names:
        if not re.fullmatch(r"[a-z0-9-]+", each):
            raise retries.error("retryOn", f"{each!r} is neither a condition nor a status")
    if codes:
        policy["retriable_status_codes"] = codes
        names += ["retriable-status-codes"] if "retriable-status-codes" not in names else []
    policy["retry_on"] = ",".join(names)
    policy["num_retries"] = DEFAULT_RETRY_ATTEMPTS if attempts is None else attempts
    if per_try:
        policy["per_try_timeout"] = duration(per_try)
    if backoff:
        policy["retry_back_off"] = {"base_interval": duration(backoff)}
    if retries.any("retryIgnorePreviousHosts") is False:
        del policy["retry_host_predicate"], policy["host_selection_retry_max_attempts"]
    return policy if policy["num_retries"] else None


def _rewrite(rewrite: Fields) -> dict[str, Any]:
    result: dict[str, Any] = {}
    uri, authority, regex = rewrite.text("uri"), rewrite.text("authority"), rewrite.fields("uriRegexRewrite")
    if uri is not None and regex is not None:
        raise rewrite.error("uri", "and uriRegexRewrite exclude each other")
    if uri is not None:
        result["prefix_rewrite"] = uri
    if regex is not None:
        pattern, substitution = regex.required_text("match"), regex.text("rewrite") or ""
        result["regex_rewrite"] = {"pattern": {"regex": pattern}, "substitution": substitution}
    if authority is not None:
        result["host_rewrite_literal"] = authority
    return result


def _redirect(redirect: Fields) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for source, target in (
        ("uri", "path_redirect"),
        ("prefixRewrite", "prefix_rewrite"),
        ("authority", "host_redirect"),
        ("scheme", "scheme_redirect"),
    ):
        value = redirect.text(source)
        if value is not None:
            result[target] = value
    port = redirect.integer("port")
    if port is not None:
        result["port_redirect"] = port
    code = redirect.integer("redirectCode")
    result["response_code"] = redirect_code(redirect, "redirectCode", 301 if code is None else code)
    return result


def redirect_code(fields: Fields, name: str, code: int) -> str:
    """Return Envoy's name for the status of a redirect."""
    if code not in _REDIRECT_CODES:
        raise fields.error(name, f"{code} is not supported here, only {', '.join(map(str, _REDIRECT_CODES))}")
    return _REDIRECT_CODES[code]


def _direct_response(direct: Fields) -> dict[str, Any]:
    result: dict[str, Any] = {"status": direct.integer("status")}
    if result["status"] is None:
        raise direct.error("status", "is missing")
    body = direct.fields("body")
    if body:
        result["body"] = {"inline_string": body.required_text("string")}
    return result


def _fault(fault: Fields) -> dict[str, Any]:
    result: dict[str, Any] = {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}
    delay, abort = fault.fields("delay"), fault.fields("abort")
    if delay:
        seconds = delay.seconds("fixedDelay")
        if not seconds:
            raise delay.error("fixedDelay", "is missing")
        result["delay"] = {"fixed_delay": duration(seconds), "percentage": _percentage(delay, "percentage")}
    if abort:
        status = abort.integer("httpStatus")
        if status is None:
            raise abort.error("httpStatus", "is missing")
        result["abort"] = {"http_status": status, "percentage": _percentage(abort, "percentage")}
    return result


def _percentage(fields: Fields, name: str) -> dict[str, Any]:
    """Return Envoy's fraction for a `Percent`, all without one (route.go, translatePercentToFractionalPercent)."""
    percent = fields.fields(name)
    return fraction((percent.number("value") or 0.0) if percent else 100.0)


def fraction(percent: float) -> dict[str, Any]:
    """Return Envoy's form of a percentage, in millionths."""
    return {"numerator": round(percent * 10_000), "denominator": "MILLION"}


def _mirrors(rule: Fields, destinations: Destinations) -> list[dict[str, Any]]:
    """Return the copies that are sent; their answers are dropped."""
    result = []
    single = rule.fields("mirror")
    if single:
        result.append(mirror_policy(destinations.of(single), _percentage(rule, "mirrorPercentage")))
    for each in rule.items("mirrors"):
        result.append(mirror_policy(destinations.of(each.required("destination")), _percentage(each, "percentage")))
    return result


def mirror_policy(destination: Destination, share: dict[str, Any]) -> dict[str, Any]:
    """Return Envoy's policy for a copy of a share of the calls."""
    return {"cluster": destination.name, "runtime_fraction": {"default_value": share}}


def _header_operations(headers: Fields | None) -> dict[str, Any]:
    """Translate Headers: set replaces, add appends, remove removes."""
    result: dict[str, Any] = {}
    for direction in ("request", "response"):
        operations = headers.fields(direction) if headers else None
        if operations:
            result |= header_operations(
                direction, operations.mapping("set"), operations.mapping("add"), operations.texts("remove")
            )
    return result


def header_operations(
    direction: str, replaced: dict[str, str], added: dict[str, str], removed: list[str]
) -> dict[str, Any]:
    """Return Envoy's operations on the headers of a `request` or `response`."""
    changes = [
        {"header": {"key": name, "value": value}, "append_action": action}
        for values, action in ((replaced, "OVERWRITE_IF_EXISTS_OR_ADD"), (added, "APPEND_IF_EXISTS_OR_ADD"))
        for name, value in values.items()
    ]
    result: dict[str, Any] = {}
    if changes:
        result[f"{direction}_headers_to_add"] = changes
    if removed:
        result[f"{direction}_headers_to_remove"] = removed
    return result
