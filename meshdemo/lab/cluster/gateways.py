"""Reading Gateways: the pods that stand at the edge of the mesh."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from meshdemo.lab.cluster.model import NETWORKS, POD_NETWORK, Gateway
from meshdemo.lab.cluster.pod_fields import LABELS
from meshdemo.lab.cluster.pods import unique_name
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.kinds import ISTIO, SYSTEM
from meshdemo.lab.files.manifest import Manifest

_MOST_GATEWAYS = 10


def read_gateways(policies: Sequence[Manifest]) -> list[Gateway]:
    """Return the pods of the gateways: what an installation of Istio brings, and what it starts for the Gateway API.

    What else is wrong with a Gateway is for its translation to say.
    """
    groups: dict[tuple[str, str], list[Manifest]] = {}
    labels: dict[tuple[str, str], dict[str, str]] = {}
    for manifest in policies:
        if manifest.kind != "Gateway":
            continue
        if manifest.group == ISTIO:
            selector = _selector(manifest)
            name = selector.get("istio") or "-".join(selector.values()) or manifest.name
            key = (f"istio-{name}" if selector.get("istio") else name, SYSTEM)
        else:
            selector = {"gateway.networking.k8s.io/gateway-name": manifest.name}
            key = (f"{manifest.name}-istio", manifest.namespace)
        if any(_unique(*key) == _unique(*other) for other in groups if other != key):
            raise ManifestError(f"{manifest.place}: spec", f"another gateway has the name {_unique(*key)!r} already")
        groups.setdefault(key, []).append(manifest)
        labels.setdefault(key, {}).update(selector)
        if len(groups) > _MOST_GATEWAYS:
            raise ManifestError(
                manifest.place, f"is one of more than {_MOST_GATEWAYS} gateways, too many for a machine"
            )
    return [
        Gateway(
            name=_unique(service, namespace),
            service=service,
            address=f"{POD_NETWORK}{NETWORKS}.{number}",
            service_address=f"10.97.0.{number}",
            labels=labels[service, namespace],
            namespace=namespace,
            ports=tuple(sorted({port for manifest in manifests for port in _gateway_ports(manifest)})),
            manifests=tuple(manifests),
        )
        for number, ((service, namespace), manifests) in enumerate(groups.items(), 1)
    ]


def _unique(service: str, namespace: str) -> str:
    """Return the name of a gateway: those of an installation have none of their namespace."""
    return service if namespace == SYSTEM else unique_name(service, namespace)


def _selector(manifest: Manifest) -> dict[str, str]:
    """Return the labels of the pods that a Gateway of Istio is for, none where they are not strings."""
    selector = _spec(manifest).get("selector")
    if not isinstance(selector, dict) or not all(isinstance(value, str) for value in selector.values()):
        return {}
    return LABELS.parse(selector, f"{manifest.place}: spec.selector")


def _gateway_ports(manifest: Manifest) -> Iterable[int]:
    """Return the numbers of the ports that a Gateway asks for, as far as they are any."""
    listeners = _spec(manifest).get("servers" if manifest.group == ISTIO else "listeners")
    for listener in listeners if isinstance(listeners, list) else ():
        holder = listener.get("port") if isinstance(listener, dict) else None
        number = holder.get("number") if isinstance(holder, dict) else holder
        if isinstance(number, int) and 0 < number < 65536:
            yield number


def _spec(manifest: Manifest) -> dict[str, Any]:
    spec = manifest.document.get("spec")
    return spec if isinstance(spec, dict) else {}
