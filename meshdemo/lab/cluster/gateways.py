"""Reading Gateways: the pods that stand at the edge of the mesh."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from meshdemo.lab.cluster.model import NETWORKS, POD_NETWORK, Gateway
from meshdemo.lab.cluster.pod_fields import LABELS
from meshdemo.lab.cluster.pods import Labels, Workload, matches, unique_name
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.kinds import ISTIO, SYSTEM
from meshdemo.lab.files.manifest import Manifest

_MOST_GATEWAYS = 10
# What the names of an installation's gateways begin with, and their label `app`.
_PREFIX = "istio-"


@dataclass(frozen=True)
class _Home:
    """Where the pod of a gateway stands: behind which Service of which namespace, and as whom."""

    service: str
    namespace: str
    account: str


@dataclass(frozen=True)
class Installed:
    """The workload of a gateway that is in the files, with the name of the Service in front of it."""

    service: str
    workload: Workload


def read_gateways(policies: Sequence[Manifest], installed: Sequence[Installed] = ()) -> list[Gateway]:
    """Return the pods of the gateways: what an installation of Istio brings, and what it starts for the Gateway API.

    Those that are `installed` by the files stand where these say, others where istioctl would have them. What else is
    wrong with a Gateway is for its translation to say.
    """
    groups: dict[_Home, list[Manifest]] = {}
    labels: dict[_Home, dict[str, str]] = {}
    for manifest in policies:
        if manifest.kind != "Gateway":
            continue
        for home, its_labels in _homes(manifest, installed):
            if any(_unique(home) == _unique(other) for other in groups if other != home):
                raise ManifestError(
                    f"{manifest.place}: spec", f"another gateway has the name {_unique(home)!r} already"
                )
            groups.setdefault(home, []).append(manifest)
            labels.setdefault(home, {}).update(its_labels)
            if len(groups) > _MOST_GATEWAYS:
                raise ManifestError(
                    manifest.place, f"is one of more than {_MOST_GATEWAYS} gateways, too many for a machine"
                )
    return [
        Gateway(
            name=_unique(home),
            service=home.service,
            address=f"{POD_NETWORK}{NETWORKS}.{number}",
            service_address=f"10.97.0.{number}",
            labels=labels[home],
            namespace=home.namespace,
            account=home.account,
            ports=tuple(sorted({port for manifest in manifests for port in _gateway_ports(manifest)})),
            manifests=tuple(manifests),
        )
        for number, (home, manifests) in enumerate(groups.items(), 1)
    ]


def _homes(manifest: Manifest, installed: Sequence[Installed]) -> Iterator[tuple[_Home, Labels]]:
    """Yield where the pods of a Gateway stand, and their labels."""
    if manifest.group != ISTIO:
        labels = {"gateway.networking.k8s.io/gateway-name": manifest.name}
        yield _Home(f"{manifest.name}-istio", manifest.namespace, f"{manifest.name}-istio"), labels
        return
    selector = _selector(manifest)
    found = [each for each in installed if selector and matches(dict(each.workload.template.labels), selector)]
    for each in found:
        template = each.workload.template
        yield _Home(each.service, each.workload.namespace, template.service_account), dict(template.labels)
    app = selector.get("app", "")
    kind = selector.get("istio") or (app.removeprefix(_PREFIX) if app.startswith(_PREFIX) else "")
    if not found and kind:
        # Both labels are there, whichever a Gateway or a policy selects (Istio, the charts gateway and istio-ingress).
        labels = {"app": f"{_PREFIX}{kind}", "istio": kind, **selector}
        yield _Home(f"{_PREFIX}{kind}", SYSTEM, f"{_PREFIX}{kind}-service-account"), labels
    elif not found:
        name = "-".join(selector.values()) or manifest.name
        yield _Home(name, SYSTEM, name), selector


def _unique(home: _Home) -> str:
    """Return the name of a gateway: those of an installation have none of their namespace."""
    return home.service if home.namespace == SYSTEM else unique_name(home.service, home.namespace)


def _selector(manifest: Manifest) -> dict[str, str]:
    """Return the labels of the pods that a Gateway of Istio is for, none where they are not strings."""
    selector = manifest.spec.get("selector")
    if not isinstance(selector, dict) or not all(isinstance(value, str) for value in selector.values()):
        return {}
    return LABELS.parse(selector, f"{manifest.place}: spec.selector")


def _gateway_ports(manifest: Manifest) -> Iterable[int]:
    """Return the numbers of the ports that a Gateway asks for, as far as they are any."""
    listeners = manifest.spec.get("servers" if manifest.group == ISTIO else "listeners")
    for listener in listeners if isinstance(listeners, list) else ():
        holder = listener.get("port") if isinstance(listener, dict) else None
        number = holder.get("number") if isinstance(holder, dict) else holder
        if isinstance(number, int) and 0 < number < 65536:
            yield number
