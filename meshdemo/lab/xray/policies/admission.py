"""Who let a request in at a pod or gateway, or did not: policies for callers, for tokens, and for how many calls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.xray.facts.naming import Rule
from meshdemo.lab.xray.facts.records import Record
from meshdemo.lab.xray.facts.scene import Scene, covers

#: What an Envoy says of a request that a policy denied, with Istio's name of the rule, or `none`.
DENIED = re.compile(r"rbac_access_denied_matched_policy\[(.*)\]")
#: What it says of one whose token was refused, with the reason.
TOKEN = re.compile(r"jwt_authn_access_denied\{(.*)\}")
_POLICY = re.compile(r"ns\[([^\]]*)\]-policy\[([^\]]*)\]-rule\[(\d+)\]")
# Where a token is looked for unless a rule says where (Envoy, JwtProvider).
_DEFAULT_HEADER, _DEFAULT_PREFIX, _DEFAULT_PARAMETER = "authorization", "Bearer ", "access_token"


@dataclass(frozen=True)
class Cause:
    """Why a hop answered as it did, and whose word that was."""

    reason: str | None = None
    decided_by: Rule | None = None


def admission_of(record: Record, scene: Scene) -> Cause:
    """Return who let a request in, or why it was refused; neither where nobody was asked."""
    denied, token = DENIED.match(record.details), TOKEN.match(record.details)
    if denied:
        return _denial(denied[1], record, scene)
    if token:
        return _refused_token(token[1].replace("_", " "), record, scene)
    if record.details == "local_rate_limited" or "RL" in record.flags:
        return _rate_limit(record, scene)
    allowed = _authorization_rule(record.allowed_by, scene)
    # Of a policy that audits Envoy says that it lets requests through, which it does not decide.
    is_allowed = allowed is not None and _action(allowed[0]) == "ALLOW"
    return Cause(None, scene.book.rule_of(*allowed)) if allowed and is_allowed else Cause()


def https_redirect(record: Record, scene: Scene) -> Cause:
    """Return which Gateway has plain HTTP redirected to HTTPS; neither where none did."""
    gateway = next((each for each in scene.cluster.gateways if each.name == record.envoy), None)
    if gateway is None or record.details != "direct_response" or record.route or record.status != 301:
        return Cause()
    called = record.authority.partition(":")[0]
    found = [
        scene.book.rule_of(manifest, path=f"spec.servers[{number}].tls.httpsRedirect")
        for manifest in gateway.manifests
        for number, server in enumerate(manifest.spec.get("servers") or [])
        if (server.get("tls") or {}).get("httpsRedirect")
        and record.routes == f"http.{(server.get('port') or {}).get('number')}"
        and any(covers(host.rpartition("/")[2], called) for host in server.get("hosts") or [])
    ]
    if len({each.name for each in found}) != 1:
        return Cause("a Gateway redirects it to https (httpsRedirect)") if found else Cause()
    return Cause(f"Gateway/{found[0].name} redirects it to https (httpsRedirect)", found[0])


def decides(policy: Manifest) -> bool:
    """Return whether an AuthorizationPolicy lets anybody in or keeps anybody out."""
    return _action(policy) != "AUDIT" and not policy.is_dry_run


def without_effect(envoy: str, scene: Scene) -> Iterator[str]:
    """Yield in words which AuthorizationPolicies at an Envoy decide nothing."""
    for each in scene.policies_for(envoy, "AuthorizationPolicy"):
        if not decides(each):
            why = "it is a dry run (istio.io/dry-run)" if each.is_dry_run else "its action is AUDIT"
            yield f"AuthorizationPolicy/{each.name} decides nothing: {why}"


def _denial(policy: str, record: Record, scene: Scene) -> Cause:
    named = _authorization_rule(policy, scene)
    if named:
        rule = scene.book.rule_of(*named)
        return Cause(f"denied by rule {rule.rule} of {rule.kind}/{rule.name}", rule)
    found = scene.policies_for(record.envoy, "AuthorizationPolicy")
    allowing = [each for each in found if _action(each) == "ALLOW" and decides(each)]
    reason = f"denied: no rule of {_names(allowing)} allows it" if allowing else "denied: no policy allows it"
    return Cause(reason, scene.book.rule_of(allowing[0]) if allowing else None)


def _authorization_rule(text: str, scene: Scene) -> tuple[Manifest, int] | None:
    """Return the AuthorizationPolicy and the number of its rule that Istio names so in an Envoy."""
    found = _POLICY.search(text)
    for each in scene.policies("AuthorizationPolicy") if found else ():
        if found and (each.namespace, each.name) == (found[1], found[2]):
            return each, int(found[3])
    return None


def _refused_token(words: str, record: Record, scene: Scene) -> Cause:
    """Return why a token was refused, and by whom where one policy alone reads what was sent."""
    reading = {}
    for each in scene.policies_for(record.envoy, "RequestAuthentication"):
        numbers = [number for number, rule in enumerate(each.spec.get("jwtRules") or []) if _reads(rule, record)]
        if numbers:
            path = f"spec.jwtRules[{numbers[0]}]" if len(numbers) == 1 else ""
            reading[each.name] = (each, path)
    if len(reading) == 1:
        ((manifest, path),) = reading.values()
        return Cause(f"token refused: {words}", scene.book.rule_of(manifest, path=path))
    by = f", by {_names([each for each, _ in reading.values()], ' or ')}" if reading else ""
    return Cause(f"token refused: {words}{by}")


def _reads(rule: dict[str, Any], record: Record) -> bool:
    """Return whether a request has something where a rule looks for a token."""
    headers = [(str(each.get("name")).lower(), str(each.get("prefix") or "")) for each in rule.get("fromHeaders") or []]
    parameters, cookies = rule.get("fromParams") or [], rule.get("fromCookies") or []
    if not (headers or parameters or cookies):
        headers, parameters = [(_DEFAULT_HEADER, _DEFAULT_PREFIX)], [_DEFAULT_PARAMETER]
    sent = parse_qs(urlsplit(record.path).query, keep_blank_values=True)
    return (
        any(name in record.headers and prefix in record.headers[name] for name, prefix in headers)
        or any(name in sent for name in parameters)
        or any(name in _cookies(record) for name in cookies)
    )


def _cookies(record: Record) -> Sequence[str]:
    try:
        return list(SimpleCookie(record.headers.get("cookie", "")))
    except CookieError:
        return []


def _rate_limit(record: Record, scene: Scene) -> Cause:
    """Return the EnvoyFilter that limits calls; several where it cannot be said which."""
    context = "GATEWAY" if scene.is_gateway(record.envoy) else "SIDECAR_INBOUND"
    context = context if record.is_inbound or context == "GATEWAY" else "SIDECAR_OUTBOUND"
    limiting = [
        each
        for each in scene.policies_for(record.envoy, "EnvoyFilter")
        if any(
            "local_ratelimit" in str(patch) and (patch.get("match") or {}).get("context", "ANY") in ("ANY", context)
            for patch in each.spec.get("configPatches") or []
        )
    ]
    reason = "rate limited: more calls than it lets through"
    if len(limiting) == 1:
        return Cause(reason, scene.book.rule_of(limiting[0]))
    return Cause(f"{reason}, by {_names(limiting, ' or ')}" if limiting else reason)


def _names(manifests: Sequence[Manifest], between: str = " and ") -> str:
    return between.join(f"{each.kind}/{each.name}" for each in manifests)


def _action(manifest: Manifest) -> str:
    return str(manifest.spec.get("action", "ALLOW"))
