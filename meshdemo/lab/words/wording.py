"""Policies in a few words: what each rule says, with its values.

The words come from the objects as they stand in the files, since both engines have these. Whatever is odd in an object
is left out here: to refuse it is for the engines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.words.gateway_api import describe_rule
from meshdemo.lab.words.terms import (
    Words,
    alternatives,
    as_list,
    as_number,
    as_object,
    as_text,
    leaves,
    seconds,
    shares,
    string_match,
    target_name,
)

# Of the Gateway API.
_ROUTES = ("HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute")
_PATH_MATCHES = {"exact": "path {value}", "prefix": "path {value}*", "regex": "path ~{value}"}


def describe(manifest: Manifest) -> list[Words]:
    """Return the words for each rule of a policy, in the order of the file; none where there is nothing to say."""
    spec = manifest.spec
    if manifest.kind == "VirtualService":
        kinds = {"http": _istio_match, "tls": _connection_match, "tcp": _connection_match}
        return [
            _istio_rule(as_object(rule), match) for kind, match in kinds.items() for rule in as_list(spec.get(kind))
        ]
    if manifest.kind in _ROUTES:
        return [describe_rule(as_object(rule)) for rule in as_list(spec.get("rules"))]
    describer = _OTHERS.get(manifest.kind)
    parts = tuple(part for part in describer(spec) if part) if describer else ()
    return [Words("", parts)] if parts else []


def _istio_rule(rule: dict[str, Any], describe_match: Callable[[dict[str, Any]], str]) -> Words:
    targets = [as_object(target) for target in as_list(rule.get("route"))]
    weights = [as_number(target.get("weight"), 0 if len(targets) > 1 else 1) for target in targets]
    parts = shares(weights, [target_name(as_object(target.get("destination"))) for target in targets])
    for name, describer in _ISTIO_ACTIONS.items():
        if rule.get(name) is not None:
            parts += describer(rule)
    matches = [describe_match(as_object(match)) for match in as_list(rule.get("match"))]
    return Words(alternatives(matches), tuple(part for part in parts if part))


def _percent(percentage: Any, missing: float) -> str:
    return f"{as_number(as_object(percentage).get('value'), missing):g} %"


def _fault(rule: dict[str, Any]) -> list[str]:
    fault = as_object(rule["fault"])
    words = []
    if fault.get("delay") is not None:
        delay = as_object(fault["delay"])
        share = _percent(delay.get("percentage"), as_number(delay.get("percent"), 0))
        words.append(f"delay {share} by {seconds(delay.get('fixedDelay', 'nothing'))}")
    if fault.get("abort") is not None:
        abort = as_object(fault["abort"])
        status = abort.get("httpStatus") or abort.get("grpcStatus") or "nothing"
        # A fault without a percentage is for no call.
        words.append(f"abort {_percent(abort.get('percentage'), 0)} with {status}")
    return words


def _retries(rule: dict[str, Any]) -> list[str]:
    retries = as_object(rule["retries"])
    if not retries.get("attempts"):
        return ["no retries"]
    words = f"retries {retries['attempts']}"
    if retries.get("retryOn"):
        words += f" on {retries['retryOn']}"
    return [words, f"{seconds(retries['perTryTimeout'])} each" if retries.get("perTryTimeout") else ""]


def _mirror(rule: dict[str, Any]) -> list[str]:
    share = _percent(rule.get("mirrorPercentage"), as_number(rule.get("mirrorPercent"), 100))
    return [f"{share} mirrored to {target_name(as_object(rule['mirror']))}"]


def _mirrors(rule: dict[str, Any]) -> list[str]:
    mirrors = [as_object(mirror) for mirror in as_list(rule["mirrors"])]
    return [
        f"{_percent(mirror.get('percentage'), 100)} mirrored to {target_name(as_object(mirror.get('destination')))}"
        for mirror in mirrors
    ]


def _redirect(rule: dict[str, Any]) -> list[str]:
    redirect = as_object(rule["redirect"])
    scheme = f"{redirect['scheme']}://" if redirect.get("scheme") else ""
    port = f":{redirect['port']}" if redirect.get("port") else ""
    path = redirect.get("uri") or redirect.get("prefixRewrite") or ""
    return [f"redirect {redirect.get('redirectCode') or 301} to {scheme}{redirect.get('authority') or ''}{port}{path}"]


def _rewrite(rule: dict[str, Any]) -> list[str]:
    rewrite = as_object(rule["rewrite"])
    regex = as_object(rewrite.get("uriRegexRewrite"))
    return [
        f"path becomes {rewrite['uri']}" if rewrite.get("uri") else "",
        f"path {regex.get('match')} becomes {regex.get('rewrite')}" if regex else "",
        f"host becomes {rewrite['authority']}" if rewrite.get("authority") else "",
    ]


def _headers(rule: dict[str, Any]) -> list[str]:
    words = []
    for direction in ("request", "response"):
        operations = as_object(as_object(rule["headers"]).get(direction))
        for operation in ("set", "add"):
            for name, value in as_object(operations.get(operation)).items():
                words.append(f"{operation} {direction} header {name}={value}")
        words += [f"remove {direction} header {name}" for name in as_list(operations.get("remove"))]
    return words


_ISTIO_ACTIONS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "redirect": _redirect,
    "directResponse": lambda rule: [f"answered with {as_object(rule['directResponse']).get('status')}"],
    "delegate": lambda rule: [f"delegated to {as_object(rule['delegate']).get('name')}"],
    "rewrite": _rewrite,
    "fault": _fault,
    "timeout": lambda rule: [f"timeout {seconds(rule['timeout'])}"],
    "retries": _retries,
    "mirror": _mirror,
    "mirrors": _mirrors,
    "headers": _headers,
    "corsPolicy": lambda _: ["CORS"],
}


def _istio_match(match: dict[str, Any]) -> str:
    parts = []
    if match.get("uri"):
        parts.append(string_match("path", match["uri"], _PATH_MATCHES))
    parts += [string_match(name, match[name]) for name in ("method", "authority", "scheme") if match.get(name)]
    parts += [string_match(name, value) for name, value in as_object(match.get("headers")).items()]
    parts += [f"not {string_match(name, value)}" for name, value in as_object(match.get("withoutHeaders")).items()]
    parts += [string_match(f"?{name}", value) for name, value in as_object(match.get("queryParams")).items()]
    return " and ".join([*parts, *_sources(match)])


def _connection_match(match: dict[str, Any]) -> str:
    """Return a condition on a connection that is not for HTTP."""
    lists = {name: " or ".join(map(str, as_list(match.get(name)))) for name in ("sniHosts", "destinationSubnets")}
    words = {"sniHosts": "TLS for {}", "destinationSubnets": "to {}"}
    parts = [words[name].format(values) for name, values in lists.items() if values]
    return " and ".join([*parts, *_sources(match)])


def _sources(match: dict[str, Any]) -> list[str]:
    """Return where a call comes from, and by which port."""
    parts = [f"port {match['port']}"] if match.get("port") else []
    parts += [f"from {name}={value}" for name, value in as_object(match.get("sourceLabels")).items()]
    if match.get("sourceNamespace"):
        parts.append(f"from namespace {match['sourceNamespace']}")
    if match.get("gateways"):
        parts.append(f"at {' or '.join(map(str, as_list(match['gateways'])))}")
    return parts


def _destination_rule(spec: dict[str, Any]) -> Iterator[str]:
    names = [str(as_object(subset).get("name") or "") for subset in as_list(spec.get("subsets"))]
    if names:
        yield f"subsets {', '.join(names)}"
    yield from _settings(spec.get("trafficPolicy"))
    for subset in (as_object(subset) for subset in as_list(spec.get("subsets"))):
        for setting in _settings(subset.get("trafficPolicy")):
            yield f"{subset.get('name')}: {setting}"


def _settings(policy: Any) -> Iterator[str]:
    """Yield the settings of a traffic policy by their own names, as `maxConnections 1`."""
    for path, value in leaves(as_object(policy), ""):
        names = [name for name in path.split(".") if name]
        if names:
            name = " ".join(names[-2:]) if names[-1] in ("mode", "number", "name") else names[-1]
            yield f"{name} {value}"


def _gateway(spec: dict[str, Any]) -> Iterator[str]:
    for server in (as_object(server) for server in as_list(spec.get("servers"))):
        port = as_object(server.get("port")).get("number")
        yield f"port {port} for {', '.join(map(str, as_list(server.get('hosts'))))}"
    for listener in (as_object(listener) for listener in as_list(spec.get("listeners"))):
        yield f"port {listener.get('port')} for {listener.get('hostname') or '*'}"


def _service_entry(spec: dict[str, Any]) -> Iterator[str]:
    ports = ", ".join(str(as_object(port).get("number")) for port in as_list(spec.get("ports")))
    yield ", ".join(map(str, as_list(spec.get("hosts")))) + (f" at port {ports}" if ports else "")
    yield f"resolution {spec.get('resolution') or 'NONE'}"


def _authorization(spec: dict[str, Any]) -> Iterator[str]:
    yield as_text(spec.get("action") or "ALLOW")
    rules = as_list(spec.get("rules"))
    nothing = "nothing" if spec.get("action") in (None, "ALLOW") else "no call"
    yield f"{len(rules)} rule{'s' * (len(rules) != 1)}" if rules else nothing
    yield _workloads(spec)


def _peer_authentication(spec: dict[str, Any]) -> Iterator[str]:
    yield str(as_object(spec.get("mtls")).get("mode") or "")
    for number, mtls in as_object(spec.get("portLevelMtls")).items():
        yield f"{as_object(mtls).get('mode') or 'UNSET'} at port {number}"
    yield _workloads(spec)


def _sidecar(spec: dict[str, Any]) -> Iterator[str]:
    hosts = [str(host) for each in as_list(spec.get("egress")) for host in as_list(as_object(each).get("hosts"))]
    yield f"knows {', '.join(hosts)}" if hosts else ""
    yield str(as_object(spec.get("outboundTrafficPolicy")).get("mode") or "")
    yield _workloads(spec)


def _workloads(spec: dict[str, Any]) -> str:
    selector = as_object(spec.get("selector")).get("matchLabels") or as_object(spec.get("workloadSelector")).get(
        "labels"
    )
    labels = as_object(selector)
    targets = [as_object(each) for each in (*as_list(spec.get("targetRefs")), spec.get("targetRef"))]
    names = [f"{each.get('kind')}/{each.get('name')}" for each in targets if each]
    names += [",".join(f"{name}={value}" for name, value in labels.items())] if labels else []
    return f"for {', '.join(names)}" if names else ""


_OTHERS: dict[str, Callable[[dict[str, Any]], Iterable[str]]] = {
    "DestinationRule": _destination_rule,
    "Gateway": _gateway,
    "ServiceEntry": _service_entry,
    "Sidecar": _sidecar,
    "PeerAuthentication": _peer_authentication,
    "AuthorizationPolicy": _authorization,
    "RequestAuthentication": lambda spec: [
        *(f"tokens of {as_object(rule).get('issuer')}" for rule in as_list(spec.get("jwtRules"))),
        _workloads(spec),
    ],
}
