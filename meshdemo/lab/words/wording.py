"""Policies in a few words: what each rule says, with its values.

The words come from the objects as they stand in the files, since both engines have these. Whatever is odd in an object
is left out here: to refuse it is for the engines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from meshdemo.lab.files.manifest import Manifest

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|m|s|ms)")
_STRING_MATCHES = {"exact": "{name}={value}", "prefix": "{name}={value}*", "regex": "{name}~{value}"}
_PATH_MATCHES = {"exact": "path {value}", "prefix": "path {value}*", "regex": "path ~{value}"}


@dataclass(frozen=True)
class Words:
    """One rule of a policy, or all of a policy without rules: its condition, empty for none, and what it does."""

    condition: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        actions = ", ".join(self.parts)
        return f"if {self.condition}: {actions}" if self.condition else actions


def describe(manifest: Manifest) -> list[Words]:
    """Return the words for each rule of a policy, in the order of the file; none where there is nothing to say."""
    spec = _object(manifest.document.get("spec"))
    if manifest.kind == "VirtualService":
        return [_istio_rule(_object(rule)) for rule in _list(spec.get("http"))]
    if manifest.kind in ("HTTPRoute", "GRPCRoute"):
        return [_gateway_api_rule(_object(rule)) for rule in _list(spec.get("rules"))]
    describer = _OTHERS.get(manifest.kind)
    parts = tuple(part for part in describer(spec) if part) if describer else ()
    return [Words("", parts)] if parts else []


def leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield each field that holds no others, with its value."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path, _value(value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value in (None, {}, []) else str(value)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any, missing: float) -> float:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else missing


def _seconds(value: Any) -> str:
    """Return a duration with its unit apart, as `0.3 s`."""
    simple = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return f"{simple[1]} {simple[2]}" if simple else str(value)


def _istio_rule(rule: dict[str, Any]) -> Words:
    targets = [_object(target) for target in _list(rule.get("route"))]
    weights = [_number(target.get("weight"), 0 if len(targets) > 1 else 1) for target in targets]
    parts = _shares(weights, [_target(_object(target.get("destination"))) for target in targets])
    for name, describer in _ISTIO_ACTIONS.items():
        if rule.get(name) is not None:
            parts += describer(rule)
    matches = [_istio_match(_object(match)) for match in _list(rule.get("match"))]
    return Words(_alternatives(matches), tuple(part for part in parts if part))


def _alternatives(matches: list[str]) -> str:
    """Return a condition; a match without one holds for every call, and so for the others, too."""
    return " or ".join(matches) if all(matches) else ""


def _shares(weights: list[float], names: list[str]) -> list[str]:
    total = sum(weights)
    if len(names) < 2 or total <= 0:
        return names[:1]
    return [f"{weight * 100 / total:.3g} % {name}" for weight, name in zip(weights, names, strict=True)]


def _target(destination: dict[str, Any]) -> str:
    return str(destination.get("subset") or destination.get("host") or destination.get("name") or "")


def _percent(percentage: Any, missing: float) -> str:
    return f"{_number(_object(percentage).get('value'), missing):g} %"


def _fault(rule: dict[str, Any]) -> list[str]:
    fault = _object(rule["fault"])
    words = []
    if fault.get("delay") is not None:
        delay = _object(fault["delay"])
        share = _percent(delay.get("percentage"), _number(delay.get("percent"), 0))
        words.append(f"delay {share} by {_seconds(delay.get('fixedDelay', 'nothing'))}")
    if fault.get("abort") is not None:
        abort = _object(fault["abort"])
        status = abort.get("httpStatus") or abort.get("grpcStatus") or "nothing"
        # A fault without a percentage is for no call.
        words.append(f"abort {_percent(abort.get('percentage'), 0)} with {status}")
    return words


def _retries(rule: dict[str, Any]) -> list[str]:
    retries = _object(rule["retries"])
    if not retries.get("attempts"):
        return ["no retries"]
    words = f"retries {retries['attempts']}"
    if retries.get("retryOn"):
        words += f" on {retries['retryOn']}"
    return [words, f"{_seconds(retries['perTryTimeout'])} each" if retries.get("perTryTimeout") else ""]


def _mirror(rule: dict[str, Any]) -> list[str]:
    share = _percent(rule.get("mirrorPercentage"), _number(rule.get("mirrorPercent"), 100))
    return [f"{share} mirrored to {_target(_object(rule['mirror']))}"]


def _mirrors(rule: dict[str, Any]) -> list[str]:
    mirrors = [_object(mirror) for mirror in _list(rule["mirrors"])]
    return [
        f"{_percent(mirror.get('percentage'), 100)} mirrored to {_target(_object(mirror.get('destination')))}"
        for mirror in mirrors
    ]


def _redirect(rule: dict[str, Any]) -> list[str]:
    redirect = _object(rule["redirect"])
    scheme = f"{redirect['scheme']}://" if redirect.get("scheme") else ""
    port = f":{redirect['port']}" if redirect.get("port") else ""
    path = redirect.get("uri") or redirect.get("prefixRewrite") or ""
    return [f"redirect {redirect.get('redirectCode') or 301} to {scheme}{redirect.get('authority') or ''}{port}{path}"]


def _rewrite(rule: dict[str, Any]) -> list[str]:
    rewrite = _object(rule["rewrite"])
    regex = _object(rewrite.get("uriRegexRewrite"))
    return [
        f"path becomes {rewrite['uri']}" if rewrite.get("uri") else "",
        f"path {regex.get('match')} becomes {regex.get('rewrite')}" if regex else "",
        f"host becomes {rewrite['authority']}" if rewrite.get("authority") else "",
    ]


def _headers(rule: dict[str, Any]) -> list[str]:
    words = []
    for direction in ("request", "response"):
        operations = _object(_object(rule["headers"]).get(direction))
        for operation in ("set", "add"):
            for name, value in _object(operations.get(operation)).items():
                words.append(f"{operation} {direction} header {name}={value}")
        words += [f"remove {direction} header {name}" for name in _list(operations.get("remove"))]
    return words


_ISTIO_ACTIONS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "redirect": _redirect,
    "directResponse": lambda rule: [f"answered with {_object(rule['directResponse']).get('status')}"],
    "delegate": lambda rule: [f"delegated to {_object(rule['delegate']).get('name')}"],
    "rewrite": _rewrite,
    "fault": _fault,
    "timeout": lambda rule: [f"timeout {_seconds(rule['timeout'])}"],
    "retries": _retries,
    "mirror": _mirror,
    "mirrors": _mirrors,
    "headers": _headers,
    "corsPolicy": lambda _: ["CORS"],
}


def _string_match(name: str, match: Any, formats: dict[str, str] = _STRING_MATCHES) -> str:
    """Return a condition on a string: `end-user=tester`, `end-user=test*`, `end-user~te.*`, or just its name."""
    for kind, value in _object(match).items():
        if kind in formats:
            return formats[kind].format(name=name, value=value)
    return name


def _istio_match(match: dict[str, Any]) -> str:
    parts = []
    if match.get("uri"):
        parts.append(_string_match("path", match["uri"], _PATH_MATCHES))
    parts += [_string_match(name, match[name]) for name in ("method", "authority", "scheme") if match.get(name)]
    parts += [_string_match(name, value) for name, value in _object(match.get("headers")).items()]
    parts += [f"not {_string_match(name, value)}" for name, value in _object(match.get("withoutHeaders")).items()]
    parts += [_string_match(f"?{name}", value) for name, value in _object(match.get("queryParams")).items()]
    if match.get("port"):
        parts.append(f"port {match['port']}")
    parts += [f"from {name}={value}" for name, value in _object(match.get("sourceLabels")).items()]
    if match.get("sourceNamespace"):
        parts.append(f"from namespace {match['sourceNamespace']}")
    if match.get("gateways"):
        parts.append(f"at {' or '.join(map(str, _list(match['gateways'])))}")
    return " and ".join(parts)


def _gateway_api_rule(rule: dict[str, Any]) -> Words:
    backends = [_object(backend) for backend in _list(rule.get("backendRefs"))]
    weights = [_number(backend.get("weight"), 1) for backend in backends]
    parts = _shares(weights, [_target(backend) for backend in backends])
    for each in (_object(each) for each in _list(rule.get("filters"))):
        parts.append(_filter(each))
    timeouts, retry = _object(rule.get("timeouts")), _object(rule.get("retry"))
    if timeouts.get("request"):
        parts.append(f"timeout {_seconds(timeouts['request'])}")
    if retry:
        codes = ", ".join(map(str, _list(retry.get("codes"))))
        parts.append(f"retries {retry.get('attempts', 2)}" + (f" on {codes}" if codes else ""))
    if timeouts.get("backendRequest"):
        parts.append(f"{_seconds(timeouts['backendRequest'])} each")
    matches = [_gateway_api_match(_object(match)) for match in _list(rule.get("matches"))]
    return Words(_alternatives(matches), tuple(part for part in parts if part))


def _filter(of: dict[str, Any]) -> str:
    kind = str(of.get("type") or "")
    if kind == "RequestMirror":
        mirror = _object(of.get("requestMirror"))
        return f"{_number(mirror.get('percent'), 100):g} % mirrored to {_target(_object(mirror.get('backendRef')))}"
    return kind


def _gateway_api_match(match: dict[str, Any]) -> str:
    parts = []
    path = _object(match.get("path"))
    if path:
        value = path.get("value") or "/"
        formats = {"Exact": "path {}", "RegularExpression": "path ~{}"}
        parts.append(formats.get(str(path.get("type")), "path {} and below").format(value))
    if match.get("method"):
        parts.append(f"method {_value(match['method'])}")
    for name, sign in (("headers", ""), ("queryParams", "?")):
        for condition in (_object(each) for each in _list(match.get(name))):
            kind = "regex" if condition.get("type") == "RegularExpression" else "exact"
            parts.append(_string_match(f"{sign}{condition.get('name')}", {kind: condition.get("value")}))
    return " and ".join(parts)


def _destination_rule(spec: dict[str, Any]) -> Iterator[str]:
    names = [str(_object(subset).get("name") or "") for subset in _list(spec.get("subsets"))]
    if names:
        yield f"subsets {', '.join(names)}"
    yield from _settings(spec.get("trafficPolicy"))
    for subset in (_object(subset) for subset in _list(spec.get("subsets"))):
        for setting in _settings(subset.get("trafficPolicy")):
            yield f"{subset.get('name')}: {setting}"


def _settings(policy: Any) -> Iterator[str]:
    """Yield the settings of a traffic policy by their own names, as `maxConnections 1`."""
    for path, value in leaves(_object(policy), ""):
        names = [name for name in path.split(".") if name]
        if names:
            name = " ".join(names[-2:]) if names[-1] in ("mode", "number", "name") else names[-1]
            yield f"{name} {value}"


def _gateway(spec: dict[str, Any]) -> Iterator[str]:
    for server in (_object(server) for server in _list(spec.get("servers"))):
        port = _object(server.get("port")).get("number")
        yield f"port {port} for {', '.join(map(str, _list(server.get('hosts'))))}"
    for listener in (_object(listener) for listener in _list(spec.get("listeners"))):
        yield f"port {listener.get('port')} for {listener.get('hostname') or '*'}"


def _service_entry(spec: dict[str, Any]) -> Iterator[str]:
    ports = ", ".join(str(_object(port).get("number")) for port in _list(spec.get("ports")))
    yield ", ".join(map(str, _list(spec.get("hosts")))) + (f" at port {ports}" if ports else "")
    yield f"resolution {spec.get('resolution') or 'NONE'}"


def _authorization(spec: dict[str, Any]) -> Iterator[str]:
    yield _value(spec.get("action") or "ALLOW")
    rules = _list(spec.get("rules"))
    nothing = "nothing" if spec.get("action") in (None, "ALLOW") else "no call"
    yield f"{len(rules)} rule{'s' * (len(rules) != 1)}" if rules else nothing
    yield _workloads(spec)


def _workloads(spec: dict[str, Any]) -> str:
    labels = _object(_object(spec.get("selector")).get("matchLabels"))
    return f"for {','.join(f'{name}={value}' for name, value in labels.items())}" if labels else ""


_OTHERS: dict[str, Callable[[dict[str, Any]], Iterable[str]]] = {
    "DestinationRule": _destination_rule,
    "Gateway": _gateway,
    "ServiceEntry": _service_entry,
    "PeerAuthentication": lambda spec: [str(_object(spec.get("mtls")).get("mode") or ""), _workloads(spec)],
    "AuthorizationPolicy": _authorization,
    "RequestAuthentication": lambda spec: [
        *(f"tokens of {_object(rule).get('issuer')}" for rule in _list(spec.get("jwtRules"))),
        _workloads(spec),
    ],
}
