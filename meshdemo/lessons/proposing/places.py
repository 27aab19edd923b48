"""Where calls meet a policy: at a Service by workloads in the cluster, or at a gateway from outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshdemo.lab.cluster.model import Cluster, Gateway, Service
from meshdemo.lab.cluster.pods import Labels, Pod, matches
from meshdemo.lab.files.kinds import GATEWAY_API, ISTIO, NAMESPACE, SYSTEM
from meshdemo.lab.files.manifest import Manifest

if TYPE_CHECKING:
    from meshdemo.lessons.proposing.conditions import Condition

#: The name by which a VirtualService means all sidecars.
MESH = "mesh"
# What a check adds to the ports of gateways that only root may listen on.
_PRIVILEGED, _SHIFT = 1024, 8000
# A host of gateways that are for any.
_ANY_HOST = "www.example.com"


@dataclass(frozen=True)
class Port:
    """A port to call: its number, the number that it has in the pod, and the scheme."""

    number: int
    target: int
    scheme: str = "http"


@dataclass(frozen=True)
class Place:
    """What is called: `host` is that of the URL, `authority` what a request says, `name` how people say it.

    `callers` are pods that can call it, one of each workload; none where it is called from outside. `pods` are those
    whose sidecars judge the calls.
    """

    name: str
    host: str
    authority: str
    ports: tuple[Port, ...]
    callers: tuple[Pod, ...] = ()
    pods: tuple[str, ...] = ()
    gateway: str = MESH
    #: The gateway through which it is called from outside, as the pod that calls.
    through: Pod | None = None
    #: What calls have to be so that they come to it at all.
    asked: tuple[Condition, ...] = ()


class NoPlaceError(Exception):
    """A policy that no call can be made for: the message says why."""


def places_of(manifest: Manifest, cluster: Cluster) -> list[Place]:
    """Return where calls meet a policy; raise NoPlaceError where nothing can be called by HTTP."""
    spec = manifest.spec
    if (manifest.group, manifest.kind) == (ISTIO, "VirtualService"):
        places = list(_of_virtual_service(manifest, spec, cluster))
        hosts = " or ".join(map(str, spec.get("hosts") or ()))
        via = f" at {' or '.join(map(str, spec['gateways']))}" if spec.get("gateways") else ""
        why = f"nothing here calls {hosts}{via}" if hosts else "it has no hosts: another VirtualService delegates to it"
    elif (manifest.group, manifest.kind) == (GATEWAY_API, "HTTPRoute"):
        places = list(_of_route(manifest, spec, cluster))
        parents = " or ".join(str(parent.get("name")) for parent in spec.get("parentRefs") or ())
        why = f"nothing here calls {' or '.join(spec.get('hostnames') or ()) or 'it'} at {parents or 'no parent'}"
    else:
        places = list(_of_selector(manifest, spec, cluster))
        why = _why_nothing_is_selected(manifest, spec, cluster)
    if not places:
        raise NoPlaceError(why)
    if all(not place.ports for place in places):
        raise NoPlaceError(f"{places[0].name} has no port for HTTP")
    return [place for place in places if place.ports]


def _of_virtual_service(manifest: Manifest, spec: Any, cluster: Cluster) -> Iterator[Place]:
    names = list(spec.get("gateways") or [MESH])
    for rule in spec.get("http") or []:
        names += [name for match in rule.get("match") or [] for name in match.get("gateways") or []]
    for name in dict.fromkeys(names):
        for host in spec.get("hosts") or []:
            if name == MESH:
                service = cluster.service(host if "." in host else f"{host}.{manifest.namespace}")
                if service:
                    yield of_service(service, cluster)
                continue
            namespace, _, own = name.rpartition("/")
            for gateway in cluster.gateways:
                for each in gateway.manifests:
                    if (each.namespace, each.name) == (namespace or manifest.namespace, own):
                        yield from _of_gateway(gateway, each, host, name, cluster)


def _of_route(manifest: Manifest, spec: Any, cluster: Cluster) -> Iterator[Place]:
    for parent in spec.get("parentRefs") or []:
        namespace, name = parent.get("namespace") or manifest.namespace, str(parent.get("name"))
        if parent.get("kind") == "Service":
            service = cluster.service(f"{name}.{namespace}")
            if service:
                yield of_service(service, cluster)
            continue
        for gateway in cluster.gateways:
            for each in gateway.manifests:
                if (each.group, each.namespace, each.name) == (GATEWAY_API, namespace, name):
                    for host in spec.get("hostnames") or ["*"]:
                        yield from _of_gateway(gateway, each, host, name, cluster)


def _of_selector(manifest: Manifest, spec: Any, cluster: Cluster) -> Iterator[Place]:
    """Yield the places at which an AuthorizationPolicy judges: by its selector, or by a Gateway that it names."""
    named = [*(spec.get("targetRefs") or []), *filter(None, [spec.get("targetRef")])]
    selector: Labels = (spec.get("selector") or {}).get("matchLabels") or {}
    for service in () if named else cluster.services:
        behind = cluster.selected(service) if manifest.namespace in (service.namespace, SYSTEM) else ()
        # Where it selects some of the pods, it is drawn at random whether a call meets it.
        if behind and all(matches(pod.labels, selector) and pod.in_mesh for pod in behind):
            yield of_service(service, cluster, callers_in_mesh_only=False)
    for gateway in cluster.gateways:
        if manifest.namespace not in (gateway.namespace, SYSTEM):
            continue
        for each in gateway.manifests:
            is_named = any((ref.get("kind"), ref.get("name")) == ("Gateway", each.name) for ref in named)
            if is_named if named else matches(gateway.labels, selector):
                yield from _of_gateway(gateway, each, "*", each.name, cluster)


def _why_nothing_is_selected(manifest: Manifest, spec: Any, cluster: Cluster) -> str:
    if spec.get("targetRefs") or spec.get("targetRef"):
        return "no gateway here is what it names"
    selector: Labels = (spec.get("selector") or {}).get("matchLabels") or {}
    pods = [
        pod for pod in cluster.pods if manifest.namespace in (pod.namespace, SYSTEM) and matches(pod.labels, selector)
    ]
    where = "" if manifest.namespace == SYSTEM else f" in namespace {manifest.namespace}"
    if not pods:
        return f"no pod here{where} is what it selects"
    if not any(pod.in_mesh for pod in pods):
        return "the pods that it selects have no sidecar"
    return "no Service leads to pods that it selects, and to no others"


def of_service(service: Service, cluster: Cluster, *, callers_in_mesh_only: bool = True) -> Place:
    """Return a Service as a place to call; workloads whose programs call others come first, its own pods last."""
    behind = cluster.selected(service)
    name = service.name if service.namespace == NAMESPACE else f"{service.name}.{service.namespace}"
    own = {pod.workload for pod in behind}
    callers: dict[str, Pod] = {}
    for pod in cluster.pods:
        if pod.in_mesh or not callers_in_mesh_only:
            callers.setdefault(pod.workload, pod)
    ports = []
    for port in service.ports:
        if not port.is_for_tcp:
            number = next((number for _, number in cluster.endpoints(service, port)), None)
            ports.append(Port(port.number, number or port.number))

    def rank(pod: Pod) -> tuple[bool, bool, bool, bool]:
        return pod.workload in own, not pod.in_mesh, not pod.calls, pod.namespace != service.namespace

    return Place(
        f"the Service {name}",
        name,
        name,
        tuple(ports),
        tuple(sorted(callers.values(), key=rank)),
        tuple(pod.name for pod in behind),
    )


def _of_gateway(gateway: Gateway, manifest: Manifest, host: str, name: str, cluster: Cluster) -> Iterator[Place]:
    """Yield a gateway as a place to call, for each host that one of its servers has in common with a policy."""
    spec = manifest.spec
    for server in spec.get("servers" if manifest.group == ISTIO else "listeners") or []:
        holder = server.get("port")
        number = holder.get("number") if isinstance(holder, dict) else holder
        protocol = str(holder.get("protocol") if isinstance(holder, dict) else server.get("protocol")).upper()
        if protocol not in ("HTTP", "HTTP2", "GRPC", "HTTPS") or not isinstance(number, int):
            continue
        hosts = [each.rpartition("/")[2] for each in server.get("hosts") or [server.get("hostname") or "*"]]
        common = next((found for each in hosts if (found := _common(host, each))), None)
        if common:
            scheme = "https" if protocol == "HTTPS" else "http"
            authority = "" if common == "*" else common.replace("*", "www", 1)
            at, own = "127.0.0.1", number + _SHIFT if number < _PRIVILEGED else number
            if own != number and any(own in each.ports for each in cluster.gateways):  # which is that one's port here
                at, own = authority or _ANY_HOST, number
            port = Port(own, number, scheme)
            yield Place(f"the gateway {gateway.name}", at, authority, (port,), (), (gateway.name,), gateway=name)


def _common(one: str, other: str) -> str | None:
    """Return the narrower of two hosts, maybe with wildcards, None where they have nothing in common."""
    for narrow, wide in ((one, other), (other, one)):
        if wide in ("*", narrow) or (wide.startswith("*") and narrow.endswith(wide[1:])):
            return narrow
    return None
