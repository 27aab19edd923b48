"""What Istio's control plane is told of a cluster: the objects that an API server would hold by then."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from meshdemo.lab.cluster.model import LOCALITY_LABELS, Cluster, Gateway, Service, ServicePort
from meshdemo.lab.cluster.pods import Labels, Pod
from meshdemo.lab.files.kinds import GATEWAY_API

#: What the injector writes on a pod with a sidecar: it takes mutual TLS.
_TLS_LABEL = {"security.istio.io/tlsMode": "istio"}

_SERVICE_LABEL = "kubernetes.io/service-name"
# What Istio looks at beside what the cluster is made of.
_PASSED_ON = (("", "Secret"), ("", "ConfigMap"), (GATEWAY_API, "ReferenceGrant"))

Object = dict[str, Any]


def control_plane_input(cluster: Cluster) -> Object:
    """Return one request of main.go."""
    pods = [_pod(pod) for pod in cluster.pods]
    objects = [
        _named("v1", "Namespace", name, None, {**labels, "kubernetes.io/metadata.name": name})
        for name, labels in cluster.namespaces.items()
    ]
    objects.append(
        _named("gateway.networking.k8s.io/v1", "GatewayClass", "istio", None)
        | {"spec": {"controllerName": "istio.io/gateway-controller"}}
    )
    for service in cluster.services:
        behind = {port.number: cluster.endpoints(service, port) for port in service.ports}
        objects += [_service(service), *_slices(service, behind)]
    objects += _own_endpoints(cluster)
    for gateway in cluster.gateways:
        objects += _gateway(gateway)
    workloads = [
        _workload(
            pod.name, "sidecar", pod.address, pod.namespace, pod.service_account, _labels(pod), calls=cluster.calls(pod)
        )
        for pod in cluster.pods
        if pod.in_mesh
    ]
    workloads += [
        _workload(gateway.name, "router", gateway.address, gateway.namespace, gateway.account, gateway.labels)
        for gateway in cluster.gateways
    ]
    return {
        "objects": [*objects, *pods, *(_stored(each) for kind in _PASSED_ON for each in cluster.documents(*kind))],
        "policies": [manifest.document for manifest in cluster.policies],
        "workloads": workloads,
        "files": dict(cluster.texts),
        "namespace": cluster.unnamed_namespace,
    }


def _stored(document: Object) -> Object:
    """Return an object as an API server holds it: the plain text of a Secret is encoded with the rest."""
    if not document.get("stringData"):
        return document
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in document["stringData"].items()}
    return {**document, "stringData": None, "data": {**(document.get("data") or {}), **encoded}}


def _labels(pod: Pod) -> Labels:
    return {**pod.labels, **_TLS_LABEL} if pod.in_mesh and pod.containers else pod.labels


def _named(api_version: str, kind: str, name: str, namespace: str | None, labels: Labels | None = None) -> Object:
    metadata: Object = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(labels)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _pod(pod: Pod) -> Object:
    containers = [
        {"name": container.name, "ports": [_container_port(name, number) for name, number in container.ports]}
        for container in pod.containers
    ]
    return _named("v1", "Pod", pod.hostname, pod.namespace, _labels(pod)) | {
        "spec": {
            "serviceAccountName": pod.service_account,
            "nodeName": "node",
            "containers": containers or [{"name": "istio-proxy"}],
        },
        "status": {
            "phase": "Running",
            "podIP": pod.address,
            "podIPs": [{"ip": pod.address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def _container_port(name: str, number: int) -> Object:
    return {"containerPort": number, "protocol": "TCP", **({"name": name} if name else {})}


def _service(service: Service) -> Object:
    ports = [
        {
            "name": port.name,
            "port": port.number,
            "targetPort": port.target,
            "protocol": "TCP",
            **({"appProtocol": port.app_protocol} if port.app_protocol else {}),
        }
        for port in service.ports
    ]
    document = _named("v1", "Service", service.name, service.namespace, service.labels)
    document["metadata"]["annotations"] = dict(service.annotations)
    near = {"trafficDistribution": "PreferClose"} if service.prefers_near else {}
    if service.alias_of:
        return document | {"spec": {"type": "ExternalName", "externalName": service.alias_of, "ports": ports}}
    address = service.address or "None"
    return document | {"spec": {"selector": dict(service.selector), "clusterIP": address, "ports": ports, **near}}


def _slices(service: Service, behind: dict[int, list[tuple[Pod, int]]]) -> Iterable[Object]:
    """Return the EndpointSlices of a Service: one for each set of port numbers, as Kubernetes makes them."""
    pods: dict[str, Pod] = {}
    ports_of: dict[str, dict[str, int]] = {}
    for port in service.ports:
        for pod, number in behind[port.number]:
            pods[pod.name] = pod
            ports_of.setdefault(pod.name, {})[port.name] = number
    groups: dict[tuple[tuple[str, int], ...], list[Pod]] = {}
    for name, ports in ports_of.items():
        groups.setdefault(tuple(ports.items()), []).append(pods[name])
    for index, (ports_and_names, members) in enumerate(groups.items(), 1):
        labels = {_SERVICE_LABEL: service.name}
        yield _named("discovery.k8s.io/v1", "EndpointSlice", f"{service.name}-{index}", service.namespace, labels) | {
            "addressType": "IPv4",
            "ports": [{"name": name, "port": number, "protocol": "TCP"} for name, number in ports_and_names],
            "endpoints": [
                {
                    "addresses": [pod.address],
                    "conditions": {"ready": True},
                    "targetRef": {"kind": "Pod", "name": pod.hostname, "namespace": pod.namespace},
                }
                for pod in members
            ],
        }


def _own_endpoints(cluster: Cluster) -> Iterable[Object]:
    """Return the EndpointSlices of Services without a selector, those that Kubernetes makes of Endpoints among them."""
    open_ones = {(each.namespace, each.name) for each in cluster.services if not (each.selector or each.alias_of)}
    for document in cluster.documents("discovery.k8s.io", "EndpointSlice"):
        metadata = document["metadata"]
        if (metadata["namespace"], (metadata.get("labels") or {}).get(_SERVICE_LABEL)) in open_ones:
            yield document
    for document in cluster.documents("", "Endpoints"):
        name, namespace = document["metadata"]["name"], document["metadata"]["namespace"]
        for index, subset in enumerate(document.get("subsets") or () if (namespace, name) in open_ones else ()):
            yield _named(
                "discovery.k8s.io/v1", "EndpointSlice", f"{name}-{index}", namespace, {_SERVICE_LABEL: name}
            ) | {
                "addressType": "IPv4",
                "ports": subset.get("ports") or [],
                "endpoints": [
                    {"addresses": [each["ip"]], "conditions": {"ready": True}} for each in subset.get("addresses") or ()
                ],
            }


def _gateway(gateway: Gateway) -> Iterable[Object]:
    """Return the Service and the pod of a gateway: what an installation brings, or what Istio starts for it."""
    ports = tuple(ServicePort(f"http-{number}", number, number, "") for number in gateway.ports)
    service = Service(
        gateway.service, gateway.service_address, gateway.labels, gateway.labels, ports, namespace=gateway.namespace
    )
    pod = Pod(gateway.name, gateway.address, gateway.labels, gateway.account, (), gateway.namespace)
    yield _service(service)
    yield from _slices(service, {number: [(pod, number)] for number in gateway.ports})
    yield _pod(pod)


def _workload(
    name: str, kind: str, address: str, namespace: str, account: str, labels: Labels, *, calls: bool = True
) -> Object:
    """Return what a sidecar or gateway tells of itself, a locality with slashes (Istio, pkg/bootstrap)."""
    return {
        "name": name,
        "type": kind,
        "ip": address,
        "namespace": namespace,
        "serviceAccount": account,
        "labels": {key: value.replace(".", "/") if key in LOCALITY_LABELS else value for key, value in labels.items()},
        "calls": calls,
    }
