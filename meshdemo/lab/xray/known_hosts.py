"""Which hosts a sidecar knows, and why it refuses calls to others where a Sidecar has it do so."""

from __future__ import annotations

from typing import Any

from meshdemo.lab.cluster.model import Service
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.xray.admission import Cause
from meshdemo.lab.xray.scene import Scene, covers

_EXPORT = "networking.istio.io/exportTo"


def service_of(host: str, namespace: str, scene: Scene) -> Service | None:
    """Return the Service that a pod of a namespace calls by a name."""
    return next((each for each in scene.cluster.services if host in each.names_from(namespace)), None)


def entry_of(host: str, namespace: str, scene: Scene) -> Manifest | None:
    """Return a ServiceEntry that makes a host known in a namespace, maybe by a wildcard: `*.example.com`."""
    for each in scene.policies("ServiceEntry"):
        exported = _spec(each).get("exportTo") or ["*"]
        is_seen = "*" in exported or namespace in exported or ("." in exported and namespace == each.namespace)
        if is_seen and any(covers(name, host) for name in _hosts(each)):
            return each
    return None


def closed_by(pod: str, scene: Scene) -> Manifest | None:
    """Return the Sidecar by which a pod's sidecar refuses calls to hosts that it does not know."""
    sidecar = scene.sidecar_for(pod)
    mode = (_spec(sidecar).get("outboundTrafficPolicy") or {}).get("mode") if sidecar else None
    return sidecar if mode == "REGISTRY_ONLY" else None


def refusal(pod: str, host: str, port: int, scene: Scene) -> Cause:
    """Return why a pod's sidecar refuses calls to a host, and by which Sidecar; neither where it does not."""
    sidecar, namespace = closed_by(pod, scene), scene.namespace(pod)
    if sidecar is None:
        return Cause()
    service, entry = service_of(host, namespace, scene), entry_of(host, namespace, scene)
    if service is None and entry is None:
        reason = f"no ServiceEntry names {host}, and Sidecar/{sidecar.name} lets calls go to known hosts alone"
        return Cause(reason, scene.book.rule_of(sidecar, path="spec.outboundTrafficPolicy"))
    names = [service.host] if service else [each for each in _hosts(entry) if covers(each, host)] if entry else []
    if any(scene.cluster_of(pod, f"outbound|{port}||{name}") for name in names):
        return Cause()
    if service and service.port(port) is None:
        return Cause(f"the Service {service.name} has no port {port}")
    ports = [each.get("number") for each in _spec(entry).get("ports") or []] if entry else []
    if entry and not service and port not in ports:
        return Cause(f"ServiceEntry/{entry.name} has no port {port} for {host}", scene.book.rule_of(entry))
    if service and _EXPORT in service.annotations:
        return Cause(f"the sidecar does not know {host}, and Sidecar/{sidecar.name} lets calls go to known hosts alone")
    reason = f"Sidecar/{sidecar.name} does not let the sidecar know {host}, and lets calls go to known hosts alone"
    return Cause(reason, scene.book.rule_of(sidecar, path="spec.egress"))


def _hosts(entry: Manifest) -> list[str]:
    return [str(each) for each in _spec(entry).get("hosts") or []]


def _spec(manifest: Manifest) -> dict[str, Any]:
    return manifest.document.get("spec") or {}
