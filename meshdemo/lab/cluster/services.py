"""Reading Services: what stands before pods."""

from __future__ import annotations

from collections.abc import Sequence

from meshdemo.lab.cluster.model import SERVICE_NETWORK, Cluster, Labels, Service, ServicePort
from meshdemo.lab.cluster.template import LABELS, ONLY_HERE, PORT, PORT_NAME, PortReference
from meshdemo.lab.files.manifests import Manifest, ManifestError
from meshdemo.lab.files.schema import Anything, List, Object, Refused, Text, read

_SERVICE = Object(
    {
        "type": Text(("ClusterIP", "LoadBalancer", "NodePort")),
        "selector": LABELS,
        "ports": List(
            Object(
                {
                    "name": PORT_NAME,
                    "port": PORT,
                    "targetPort": PortReference(),
                    "appProtocol": Text(),
                    "protocol": Text(("TCP",)),
                    "nodePort": Anything(),
                },
                ("port",),
            )
        ),
        "clusterIP": Text(),
        "clusterIPs": Anything(),
        "externalName": Refused("use a ServiceEntry"),
        "externalIPs": Refused(ONLY_HERE),
        "sessionAffinity": Text(("None",)),
        "trafficDistribution": Text(("PreferClose", "PreferSameZone", "PreferSameNode")),
        **dict.fromkeys(
            [
                "allocateLoadBalancerNodePorts",
                "externalTrafficPolicy",
                "healthCheckNodePort",
                "internalTrafficPolicy",
                "ipFamilies",
                "ipFamilyPolicy",
                "loadBalancerClass",
                "loadBalancerIP",
                "loadBalancerSourceRanges",
                "publishNotReadyAddresses",
                "sessionAffinityConfig",
            ],
            Anything(),
        ),
    },
    ("ports",),
)


def read_service(manifest: Manifest, number: int) -> Service:
    """Return a Service; its `number` decides which address it has."""
    spec = read(manifest, _SERVICE)
    names = [port["name"] for port in spec["ports"]]
    if len(names) > 1 and (None in names or len(set(names)) < len(names)):
        raise spec.error("ports", "of several each needs a name of its own")
    if spec["clusterIP"] not in (None, ""):
        raise spec.error("clusterIP", "only a cluster chooses one, and headless Services are not supported here")
    numbers = [port["port"] for port in spec["ports"]]
    if len(set(numbers)) < len(numbers):
        raise spec.error("ports", "two have the same number")
    return Service(
        name=manifest.name,
        address=f"{SERVICE_NETWORK}{number // 250}.{number % 250 + 1}",
        labels=labels_of(manifest),
        selector=spec["selector"],
        ports=tuple(
            ServicePort(
                name=port["name"] or "",
                number=port["port"],
                target=port["targetPort"] or port["port"],
                app_protocol=port["appProtocol"] or "",
            )
            for port in spec["ports"]
        ),
        is_public=spec["type"] == "LoadBalancer",
        prefers_near=spec["trafficDistribution"] is not None,
        place=manifest.place,
        annotations=annotations_of(manifest),
    )


def check_targets(cluster: Cluster, services: Sequence[Manifest]) -> None:
    """Refuse a Service whose target port none of its pods has: it would have no endpoint."""
    places = {manifest.name: manifest.place for manifest in services}
    for service in cluster.services:
        for index, port in enumerate(service.ports):
            selected = [
                pod for pod in cluster.pods if service.selector and service.selector.items() <= dict(pod.labels).items()
            ]
            numbers = {number for pod in selected for container in pod.containers for _, number in container.ports}
            if selected and not any(pod.port(port.target) in numbers for pod in selected):
                place = f"{places[service.name]}: spec.ports[{index}].targetPort"
                raise ManifestError(place, f"no pod behind this Service has a port {port.target!r}")


def annotations_of(manifest: Manifest) -> dict[str, str]:
    """Return the annotations of an object."""
    annotations = (manifest.document.get("metadata") or {}).get("annotations")
    return dict(annotations) if isinstance(annotations, dict) else {}


def labels_of(manifest: Manifest) -> Labels:
    """Return the labels of an object."""
    return dict((manifest.document.get("metadata") or {}).get("labels") or {})
