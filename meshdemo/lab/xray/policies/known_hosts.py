"""Which hosts a sidecar knows, and why it refuses calls to others where a Sidecar has it do so."""

from __future__ import annotations

from urllib.parse import urlsplit

from meshdemo.lab.cluster.model import Service
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.xray.facts.records import Record
from meshdemo.lab.xray.facts.scene import Scene, covers
from meshdemo.lab.xray.policies.admission import Cause

_EXPORT = "networking.istio.io/exportTo"


def called_by(record: Record) -> tuple[str, int]:
    """Return the host that a request was for, and the port, which is the name of a sidecar's routes."""
    called = urlsplit(f"http://{record.authority}")
    return called.hostname or "", int(record.routes) if record.routes.isdecimal() else called.port or 80


def service_of(host: str, namespace: str, scene: Scene) -> Service | None:
    """Return the Service that a pod of a namespace calls by a name."""
    return scene.cluster.service_from(namespace, host)


def entry_of(host: str, namespace: str, scene: Scene) -> Manifest | None:
    """Return a ServiceEntry that makes a host known in a namespace, maybe by a wildcard: `*.example.com`."""
    for each in scene.policies("ServiceEntry"):
        exported = each.spec.get("exportTo") or ["*"]
        is_seen = "*" in exported or namespace in exported or ("." in exported and namespace == each.namespace)
        if is_seen and any(covers(name, host) for name in _hosts(each)):
            return each
    return None


def closed_by(pod: str, scene: Scene) -> Manifest | None:
    """Return the Sidecar by which a pod's sidecar refuses calls to hosts that it does not know."""
    sidecar = scene.sidecar_for(pod)
    mode = (sidecar.spec.get("outboundTrafficPolicy") or {}).get("mode") if sidecar else None
    return sidecar if mode == "REGISTRY_ONLY" else None


def why_unknown(pod: str, host: str, port: int, scene: Scene) -> Cause:
    """Return why a pod's sidecar does not know a host at a port, and the object to mend; neither where it does."""
    service, entry = service_of(host, scene.namespace(pod), scene), entry_of(host, scene.namespace(pod), scene)
    if service is None and entry is None:
        return Cause(f"no ServiceEntry names {host}")
    names = [service.host] if service else [each for each in _hosts(entry) if covers(each, host)] if entry else []
    if any(scene.cluster_of(pod, f"outbound|{port}||{name}") for name in names):
        return Cause()
    if service and service.port(port) is None:
        return Cause(service.lack_of(port))
    if entry and not service and port not in [each.get("number") for each in entry.spec.get("ports") or []]:
        return Cause(f"ServiceEntry/{entry.name} has no port {port} for {host}", scene.book.rule_of(entry))
    sidecar = scene.sidecar_for(pod)
    if sidecar is None or (service and _EXPORT in service.annotations):
        return Cause(f"the sidecar does not know {host}")
    reason = f"Sidecar/{sidecar.name} does not let the sidecar know {host}"
    return Cause(reason, scene.book.rule_of(sidecar, path="spec.egress"))


def refusal(pod: str, host: str, port: int, scene: Scene) -> Cause:
    """Return why a pod's sidecar refuses calls to a host, and whose word that is; neither where it does not."""
    sidecar, unknown = closed_by(pod, scene), why_unknown(pod, host, port, scene)
    if sidecar is None or unknown.reason is None:
        return Cause()
    own = f"Sidecar/{sidecar.name}"
    closes = f"{'and' if unknown.reason.startswith(own) else f'and {own}'} lets calls go to known hosts alone"
    policy = scene.book.rule_of(sidecar, path="spec.outboundTrafficPolicy")
    return Cause(f"{unknown.reason}, {closes}", unknown.decided_by or policy)


def _hosts(entry: Manifest) -> list[str]:
    return [str(each) for each in entry.spec.get("hosts") or []]
