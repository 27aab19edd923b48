"""Calls that no Envoy has logged: those of pods without a sidecar, and those that a sidecar takes for plain TCP."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from urllib.parse import urlsplit

from meshdemo.lab.cluster.pods import Container, Pod
from meshdemo.lab.xray.facts.calls import APPLICATION, SIDECAR, Hop
from meshdemo.lab.xray.facts.scene import Scene
from meshdemo.lab.xray.policies.admission import Cause
from meshdemo.lab.xray.policies.known_hosts import closed_by, entry_of, refusal, service_of
from meshdemo.lab.xray.policies.mutual_tls import strict

_HTTP = frozenset({"http", "http2", "grpc", "grpc-web", "kubernetes.io/h2c", "kubernetes.io/ws", ""})
_PORTS = {"http": 80, "https": 443}


def caller_of(hops: Sequence[Hop], origin: str | None, entrance: Sequence[tuple[str, int]], scene: Scene) -> Pod | None:
    """Return the pod whose program called last without its sidecar logging it; None where there is none.

    `entrance` are the pods behind the address that was called, with their ports.
    """
    if not hops:
        name = origin or (entrance[0][0] if len(entrance) == 1 else "")
        return scene.pod(name)
    pod = scene.pod(hops[-1].pod)
    is_proxy = pod is not None and any(container.role == "proxy" for container in pod.containers)
    return pod if hops[-1].kind == APPLICATION and is_proxy else None


def silent_hop(pod: Pod, url: str | None, port: int | None, scene: Scene, *, is_failed: bool) -> Hop | None:
    """Return what is to be said of a call that a pod made to a URL; None where nothing explains the silence.

    Without a URL the pod called what its program is told to, the one at `port` where that is known.
    """
    programs = [each for each in pod.containers if each.port == port] or pod.containers
    url = url or next(filter(None, map(_upstream, programs)), "")
    service = service_of(urlsplit(url).hostname or "", pod.namespace, scene)
    number = urlsplit(url).port or _PORTS.get(urlsplit(url).scheme, 80)
    if service is None:
        called = _called_pod(url, number, pod, scene)
        if called is None:
            return _outside(pod, url, number, scene, is_failed=is_failed)
        return _in_plain_text(pod, url, called.name, [(called, number)], scene, is_failed=is_failed)
    found = service.port(number)
    if not pod.in_mesh:
        behind = scene.cluster.endpoints(service, found) if found else []
        return _in_plain_text(pod, url, service.name, behind, scene, is_failed=is_failed)
    if found is None:
        return _outbound(pod, Cause(), service.lack_of(number))
    refused = refusal(pod.name, urlsplit(url).hostname or "", number, scene) if is_failed else Cause()
    if refused.reason:
        return _outbound(pod, refused)
    if found.protocol not in _HTTP and urlsplit(url).scheme != "tcp":
        by = f"appProtocol {found.app_protocol}" if found.app_protocol else f"its name, {found.name}"
        by = by if found.app_protocol or found.name else "its number"
        words = f"port {number} of the Service {service.name} is {found.protocol}, by {by}: rules for HTTP do not apply"
        advice = "name it http, or begin its name with http-"
        if urlsplit(url).scheme == "https":
            advice = "the program speaks TLS itself"
        return _outbound(pod, Cause(), words, advice)
    return None


def _in_plain_text(
    pod: Pod, url: str, name: str, behind: Sequence[tuple[Pod, int]], scene: Scene, *, is_failed: bool
) -> Hop:
    """Return what is to be said of a call without mutual TLS to pods, which are known to be called by a name."""
    note = f"{pod.name} has no sidecar: its calls are plain text, without an identity, and meet no rule"
    plain = Hop(APPLICATION, None, pod.name, pod.namespace, None, 0.0, notes=(note,))
    hop = passing_hop(pod.name, url, scene) or plain
    rules = [strict(each, port, scene) for each, port in behind] if is_failed else []
    if not rules or not rules[0] or not all(rules):
        return hop
    reason = f"{name} takes mutual TLS alone: {rules[0].kind}/{rules[0].name} is STRICT"
    return dataclasses.replace(hop, reason=reason, decided_by=rules[0])


def passing_hop(origin: str, url: str, scene: Scene) -> Hop | None:
    """Return what is to be said of a call that its caller's sidecar passed on as it was; None without a sidecar."""
    pod = scene.pod(origin)
    if pod is None or not pod.in_mesh:
        return None
    host = urlsplit(url).hostname or ""
    limit = scene.sidecar_for(pod.name)
    why = f"{host} is a pod's own name or address"
    if limit and service_of(host, pod.namespace, scene):
        why = f"Sidecar/{limit.name} does not let the sidecar know {host}"
    notes = (why, "the call passes through as it is: in plain text, and by no rule")
    return _outbound(pod, Cause(), *notes)


def _outside(pod: Pod, url: str, number: int, scene: Scene, *, is_failed: bool) -> Hop | None:
    """Return what is to be said of a call to a host outside, which a sidecar passes on as it is, or refuses."""
    host = urlsplit(url).hostname or ""
    if not pod.in_mesh or not host:
        return None
    refused = refusal(pod.name, host, number, scene) if is_failed else Cause()
    notes = []
    if urlsplit(url).scheme == "https":
        entry = entry_of(host, pod.namespace, scene)
        notes.append("the program speaks TLS itself: no rule for HTTP sees the call")
        if entry and not refused.reason:
            notes.append(f"ServiceEntry/{entry.name} makes {host} a host of the mesh")
        elif not entry and not closed_by(pod.name, scene):
            notes.append(f"no ServiceEntry names {host}: calls pass through (outboundTrafficPolicy ALLOW_ANY)")
    elif refused.reason is None:
        return None
    return _outbound(pod, refused, *notes)


def _outbound(pod: Pod, cause: Cause, *notes: str) -> Hop:
    """Return the hop of a sidecar that has logged nothing."""
    hop = Hop(SIDECAR, "outbound", pod.name, pod.namespace, None, 0.0, notes=notes)
    return dataclasses.replace(hop, reason=cause.reason, decided_by=cause.decided_by)


def _upstream(container: Container) -> str:
    """Return the URL that a proxy is told to call."""
    for option, value in zip(container.args, container.args[1:], strict=False):
        if option == "--proxy-url":
            return value
    for arg in container.args:
        if arg.startswith("--proxy-url="):
            return arg.partition("=")[2]
    environment = dict(container.environment)
    return environment.get("PROXY_URL") or environment.get("PROXYURL") or ""


def _called_pod(url: str, port: int, caller: Pod, scene: Scene) -> Pod | None:
    """Return the pod with a port whose own address or name a URL has; those of a headless Service have names there."""
    host = urlsplit(url).hostname or ""
    names = scene.cluster.names_from(caller.namespace)
    for pod in scene.cluster.pods:
        if host in (pod.name, pod.address, *names.get(pod.address, ())):
            return pod if any(port in container.listens for container in pod.containers) else None
    return None
