"""Reading Deployments, Services and Gateways: what runs, and what stands before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from meshdemo.lab.cluster.model import (
    POD_NETWORK,
    Cluster,
    Deployment,
    Gateway,
    Labels,
    Pod,
    Service,
    ServicePort,
)
from meshdemo.lab.cluster.template import LABELS, ONLY_HERE, PORT, PORT_NAME, TEMPLATE, PortReference, read_template
from meshdemo.lab.files.manifests import GATEWAY_API, ISTIO, KINDS, NAMESPACE, SYSTEM, Manifest, ManifestError
from meshdemo.lab.files.schema import Anything, Integer, List, Object, Refused, Text, read

# More processes than this are more than a machine is for.
_MOST_PODS = 100
_MOST_GATEWAYS = 10
# Networks of pods, one for each Deployment that has any; gateways have those from here on.
_NETWORKS = 200

# Objects that make no difference to calls on this machine.
_SILENT = {("", "ServiceAccount"), ("", "Namespace"), ("", "ConfigMap"), ("", "Secret")}
_SILENT |= {(GATEWAY_API, "GatewayClass"), (GATEWAY_API, "ReferenceGrant")}
_SILENT |= {("kustomize.config.k8s.io", "Kustomization"), ("policy", "PodDisruptionBudget")}

_DEPLOYMENT = Object(
    {
        "replicas": Integer(0, 1_000_000),
        "selector": Object({"matchLabels": LABELS, "matchExpressions": Refused("only matchLabels is")}),
        "template": TEMPLATE,
        "strategy": Object({"type": Text(("RollingUpdate",)), "rollingUpdate": Anything()}),
        "minReadySeconds": Anything(),
        "revisionHistoryLimit": Anything(),
        "progressDeadlineSeconds": Anything(),
        "paused": Refused(ONLY_HERE),
    },
    ("selector", "template"),
)
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


def read_cluster(manifests: Sequence[Manifest], networks: dict[str, int] | None = None) -> Cluster:
    """Return the cluster that the manifests describe, or raise ManifestError with the place of the first problem.

    `networks` remembers the number that a Deployment's pods have in their addresses, from one reading to the next.
    """
    networks = {} if networks is None else networks
    notes: list[str] = []
    deployments = [_deployment(manifest, notes) for manifest in _of_kind(manifests, "apps", "Deployment")]
    deployments = [deployment for deployment in deployments if deployment.template.containers]
    services = [_service(manifest, number) for number, manifest in enumerate(_of_kind(manifests, "", "Service"), 1)]
    policies = []
    for manifest in manifests:
        known = (manifest.group, manifest.kind) in KINDS
        if (manifest.group, manifest.kind) in _SILENT or (manifest.group in ("", "apps") and known):
            continue
        if known:
            policies.append(manifest)
        else:
            notes.append(f"{manifest.place}: not applied here, only a cluster knows {manifest.kind}")
    cluster = Cluster(
        deployments=tuple(deployments),
        pods=tuple(_pods(deployments, networks)),
        services=tuple(services),
        gateways=tuple(_gateways(policies)),
        policies=tuple(policies),
        notes=tuple(notes),
        others=tuple(manifest for manifest in manifests if manifest not in policies),
    )
    _check_targets(cluster, manifests)
    names = {pod.name for pod in cluster.pods}
    for gateway in cluster.gateways:
        if gateway.name in names:
            raise ManifestError(
                f"{gateway.manifests[0].place}: spec.selector", f"{gateway.name!r} is the name of a pod"
            )
    return cluster


def _of_kind(manifests: Iterable[Manifest], group: str, kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if (manifest.group, manifest.kind) == (group, kind)]


def _deployment(manifest: Manifest, notes: list[str]) -> Deployment:
    spec = read(manifest, _DEPLOYMENT)
    template = spec["template"]
    labels = template["metadata"]["labels"]
    selector = spec["selector"]["matchLabels"]
    if not selector or any(labels.get(key) != value for key, value in selector.items()):
        raise spec.error("selector", "does not match the labels of template.metadata")
    replicas = 1 if spec["replicas"] is None else spec["replicas"]
    return Deployment(manifest.name, manifest.place, replicas, read_template(template, notes))


def addresses(pod: Pod) -> list[str]:
    """Return the addresses that a pod can have: while another one replaces it, that one has the second."""
    network, _, number = pod.address.rpartition(".")
    return [pod.address, f"{network}.{int(number) + _MOST_PODS}"]


def _pods(deployments: Sequence[Deployment], networks: dict[str, int]) -> list[Pod]:
    pods: list[Pod] = []
    names = {deployment.name for deployment in deployments}
    for deployment in deployments:
        if len(pods) + deployment.replicas > _MOST_PODS:
            problem = f"makes more than {_MOST_PODS} pods in all, which are too many for one machine"
            raise ManifestError(f"{deployment.place}: spec.replicas", problem)
        network = _network(deployment.name, names, networks) if deployment.replicas else 0
        template = deployment.template
        pods += [
            Pod(
                name=f"{deployment.name}-{number}",
                address=f"{POD_NETWORK}{network}.{number}",
                labels=dict(template.labels),
                service_account=template.service_account,
                containers=template.containers,
            )
            for number in range(1, deployment.replicas + 1)
        ]
    return pods


def _network(name: str, names: set[str], networks: dict[str, int]) -> int:
    """Return the number of a Deployment's network: its own from before, or one that nobody has."""
    if name not in networks:
        if len(networks) == _NETWORKS:
            for gone in networks.keys() - names:
                del networks[gone]
        networks[name] = next(number for number in range(_NETWORKS) if number not in networks.values())
    return networks[name]


def _service(manifest: Manifest, number: int) -> Service:
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
        address=f"10.96.{number // 250}.{number % 250 + 1}",
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


def _check_targets(cluster: Cluster, manifests: Sequence[Manifest]) -> None:
    """Refuse a Service whose target port none of its pods has: it would have no endpoint."""
    places = {manifest.name: manifest.place for manifest in _of_kind(manifests, "", "Service")}
    for service in cluster.services:
        for index, port in enumerate(service.ports):
            selected = [
                pod for pod in cluster.pods if service.selector and service.selector.items() <= dict(pod.labels).items()
            ]
            numbers = {number for pod in selected for container in pod.containers for _, number in container.ports}
            if selected and not any(pod.port(port.target) in numbers for pod in selected):
                place = f"{places[service.name]}: spec.ports[{index}].targetPort"
                raise ManifestError(place, f"no pod behind this Service has a port {port.target!r}")


def _gateways(policies: Sequence[Manifest]) -> list[Gateway]:
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
            key = (f"{manifest.name}-istio", NAMESPACE)
        if any(name == key[0] and namespace != key[1] for name, namespace in groups):
            raise ManifestError(f"{manifest.place}: spec", f"another gateway has the name {key[0]!r} already")
        groups.setdefault(key, []).append(manifest)
        labels.setdefault(key, {}).update(selector)
        if len(groups) > _MOST_GATEWAYS:
            raise ManifestError(
                manifest.place, f"is one of more than {_MOST_GATEWAYS} gateways, too many for a machine"
            )
    return [
        Gateway(
            name=service,
            service=service,
            address=f"{POD_NETWORK}{_NETWORKS}.{number}",
            service_address=f"10.97.0.{number}",
            labels=labels[service, namespace],
            namespace=namespace,
            ports=tuple(sorted({port for manifest in manifests for port in _gateway_ports(manifest)})),
            manifests=tuple(manifests),
        )
        for number, ((service, namespace), manifests) in enumerate(groups.items(), 1)
    ]


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


def annotations_of(manifest: Manifest) -> dict[str, str]:
    """Return the annotations of an object."""
    annotations = (manifest.document.get("metadata") or {}).get("annotations")
    return dict(annotations) if isinstance(annotations, dict) else {}


def labels_of(manifest: Manifest) -> Labels:
    """Return the labels of an object."""
    return dict((manifest.document.get("metadata") or {}).get("labels") or {})
