"""Reading Services: what stands before pods."""

from __future__ import annotations

from meshdemo.lab.cluster.model import SERVICE_NETWORK, Cluster, Service, ServicePort
from meshdemo.lab.cluster.pod_fields import LABELS, ONLY_HERE, PORT, PortReference
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.files.schema import Anything, List, Object, Refused, Text, read

# Longer ones than containers may have (Kubernetes, ServicePort).
_PORT_NAME = Text(pattern=r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", rule="the name of a port")
_SERVICE = Object(
    {
        "type": Text(("ClusterIP", "LoadBalancer", "NodePort", "ExternalName")),
        "selector": LABELS,
        "ports": List(
            Object(
                {
                    "name": _PORT_NAME,
                    "port": PORT,
                    "targetPort": PortReference(0),
                    "appProtocol": Text(),
                    "protocol": Text(("TCP", "UDP", "SCTP")),
                    "nodePort": Anything(),
                },
                ("port",),
            )
        ),
        "clusterIP": Text(),
        "clusterIPs": Anything(),
        "externalName": Text(pattern=r"[a-zA-Z0-9]([-a-zA-Z0-9.]{0,251}[a-zA-Z0-9.])?", rule="the name of a host"),
        "externalIPs": Refused(ONLY_HERE),
        "sessionAffinity": Text(("None", "ClientIP")),
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
    }
)


_ADDRESS = Object({"ip": Text(), **dict.fromkeys(["hostname", "nodeName", "targetRef"], Anything())}, ("ip",))
_SUBSETS = List(
    Object(
        {
            "addresses": List(_ADDRESS),
            "notReadyAddresses": Anything(),
            "ports": List(
                Object({"name": Text(), "port": PORT, "protocol": Text(), "appProtocol": Text()}, ("port",)),
            ),
        }
    )
)


def read_service(manifest: Manifest, number: int) -> Service:
    """Return a Service; its `number` decides which address it has."""
    spec = read(manifest, _SERVICE)
    is_alias = spec["type"] == "ExternalName"
    if is_alias and not spec["externalName"]:
        raise spec.error("externalName", "is missing")
    is_headless = spec["clusterIP"] == "None"
    if not spec["ports"] and not (is_alias or is_headless):
        raise spec.error("ports", "is missing")
    names = [port["name"] for port in spec["ports"]]
    if len(names) > 1 and (None in names or len(set(names)) < len(names)):
        raise spec.error("ports", "of several each needs a name of its own")
    # What is not TCP goes past the mesh.
    ports = [port for port in spec["ports"] if port["protocol"] in (None, "TCP")]
    numbers = [port["port"] for port in ports]
    if len(set(numbers)) < len(numbers):
        raise spec.error("ports", "two have the same number")
    return Service(
        name=manifest.name,
        address="" if is_alias or is_headless else f"{SERVICE_NETWORK}{number // 250}.{number % 250 + 1}",
        labels=manifest.labels,
        selector=spec["selector"],
        ports=tuple(
            ServicePort(
                name=port["name"] or "",
                number=port["port"],
                target=port["targetPort"] or port["port"],
                app_protocol=port["appProtocol"] or "",
            )
            for port in ports
        ),
        is_public=spec["type"] in ("LoadBalancer", "NodePort"),
        prefers_near=spec["trafficDistribution"] is not None,
        place=manifest.place,
        annotations=manifest.annotations,
        namespace=manifest.namespace,
        alias_of=(spec["externalName"] or "") if is_alias else "",
    )


def keeps_callers(manifest: Manifest) -> bool:
    """Return whether a Service that could be read asks for callers to be kept at one pod, which no sidecar does."""
    return bool(manifest.spec.get("sessionAffinity") == "ClientIP")


def check_endpoints(manifest: Manifest) -> None:
    """Refuse Endpoints that an API server refuses, as far as they are read here."""
    _SUBSETS.parse(manifest.document.get("subsets") or [], f"{manifest.place}: subsets")


def check_targets(cluster: Cluster) -> None:
    """Refuse a Service whose target port none of its pods has: it would have no endpoint."""
    for service in cluster.services:
        for index, port in enumerate(service.ports):
            selected = cluster.selected(service)
            numbers = {number for pod in selected for container in pod.containers for _, number in container.ports}
            if selected and not any(pod.port(port.target) in numbers for pod in selected):
                place = f"{service.place}: spec.ports[{index}].targetPort"
                raise ManifestError(place, f"no pod behind this Service has a port {port.target!r}")
