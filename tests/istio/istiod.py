"""Asking Istio's own control plane: one process that answers for one set of manifests after another."""

from __future__ import annotations

import atexit
import copy
import json
import os
import subprocess
from typing import Any

from meshdemo.lab.cluster import Cluster
from meshdemo.lab.engine import Configuration, Resources
from meshdemo.lab.manifests import GATEWAY_API, Manifest, ManifestError

#: The variable with the path of the program: JSON objects in, one answer a line out.
PROGRAM = "MESHDEMO_ISTIOD"
VERSION = "1.32.0-dev (v0.0.0-20260827124520-eed52ebb66ad)"
_TLS_LABEL = {"security.istio.io/tlsMode": "istio"}  # what injection writes: this pod takes mutual TLS


def istiod(cluster: Cluster, manifests: list[Manifest]) -> Configuration:
    """Return what Istio gives the sidecar of the caller, proxy-1, and every gateway.

    Raise ManifestError with Istio's reason for what it refuses.
    """
    callers = [pod for pod in cluster.pods if pod.calls and pod.in_mesh][:1]
    workloads = [_workload(pod, "sidecar", {**pod.labels, **_TLS_LABEL}) for pod in callers]
    workloads += [_workload(gateway, "router", gateway.labels) for gateway in cluster.gateways]
    istio, kubernetes = [], _kubernetes(cluster, manifests)
    for manifest in cluster.policies:
        document = copy.deepcopy(manifest.document)
        document["metadata"]["namespace"] = "default"
        if manifest.group == GATEWAY_API:
            _apply_defaults(document)
            kubernetes.append(document)
        else:
            istio.append(document)
    answer = _ask({"kubernetes": _dump(kubernetes), "istio": _dump(istio), "workloads": workloads})
    if "error" in answer:
        raise ManifestError("Istio", _reason(answer["error"]))
    return Configuration({name: Resources(**parts) for name, parts in answer["workloads"].items()})


_process: list[subprocess.Popen[str]] = []


def _ask(question: dict[str, Any]) -> dict[str, Any]:
    if not _process:
        program = os.environ.get(PROGRAM)
        if not program:
            raise SystemExit(f"set {PROGRAM} to the program that runs Istio's control plane")
        _process.append(subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        atexit.register(_process[0].kill)
    process = _process[0]
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        _process.clear()
        return {"error": "the control plane ended"}
    return json.loads(line)


def _reason(error: str) -> str:
    """Return an error of several lines as one."""
    lines = [line.strip() for line in error.splitlines()]
    several = [line.removeprefix("* ") for line in lines if line.startswith("* ")]
    return "; ".join(several) or lines[0]


def _dump(documents: list[dict[str, Any]]) -> str:
    return "\n---\n".join(json.dumps(document) for document in documents)


def _workload(pod: Any, kind: str, labels: Any) -> dict[str, Any]:
    account = getattr(pod, "service_account", pod.name)
    where = {"name": pod.name, "ip": pod.address, "namespace": pod.namespace, "serviceAccount": account}
    return {"type": kind, "labels": dict(labels), **where}


def _kubernetes(cluster: Cluster, manifests: list[Manifest]) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}},
        {
            "apiVersion": f"{GATEWAY_API}/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "istio"},
            "spec": {"controllerName": "istio.io/gateway-controller"},
        },
    ]
    for pod in cluster.pods:
        labels = {**pod.labels, **(_TLS_LABEL if pod.in_mesh else {})}
        named = [port for container in pod.containers for port in container.ports]
        objects.append(_pod(pod.name, pod.namespace, labels, pod.address, pod.service_account, named))
    documents = {each.name: each.document for each in manifests if (each.group, each.kind) == ("", "Service")}
    for service in cluster.services:
        document = copy.deepcopy(documents[service.name])
        document["metadata"]["namespace"] = service.namespace
        document["spec"]["clusterIP"] = service.address
        ports = []
        addresses: dict[str, str] = {}
        for port in service.ports:
            endpoints = cluster.endpoints(service, port)
            number = endpoints[0][1] if endpoints else port.number
            ports.append({"name": port.name, "port": number, "protocol": "TCP"})
            addresses |= {pod.name: pod.address for pod, _ in endpoints}
        objects += [document, _slice(service.name, service.namespace, ports, addresses)]
    for gateway in cluster.gateways:
        where = {"name": gateway.service, "namespace": gateway.namespace}
        ports = [{"name": f"http-{port}", "port": port, "protocol": "TCP"} for port in gateway.ports]
        objects += [
            _pod(gateway.name, gateway.namespace, gateway.labels, gateway.address, gateway.service),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": where,
                "spec": {
                    "selector": dict(gateway.labels),
                    "clusterIP": gateway.service_address,
                    "ports": [{**port, "targetPort": port["port"]} for port in ports],
                },
            },
            _slice(gateway.service, gateway.namespace, ports, {gateway.name: gateway.address}),
        ]
    return objects


def _pod(name: str, namespace: str, labels: Any, address: str, account: str, named: Any = ()) -> dict[str, Any]:
    ports = [{"name": port, "containerPort": number} for port, number in named]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {"serviceAccountName": account, "nodeName": "node", "containers": [{"name": "main", "ports": ports}]},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def _slice(name: str, namespace: str, ports: list[dict[str, Any]], addresses: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "ports": ports,
        "metadata": {
            "name": f"{name}-1",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace},
            }
            for pod, address in addresses.items()
        ],
    }


def _apply_defaults(document: dict[str, Any]) -> None:
    """Apply the defaults that an API server applies to the Gateway API's objects (API specification v1)."""
    spec = document["spec"]
    if document["kind"] == "Gateway":
        for listener in spec.get("listeners", []):
            allowed = listener.setdefault("allowedRoutes", {})
            allowed.setdefault("namespaces", {}).setdefault("from", "Same")
            for kind in allowed.get("kinds", []):
                kind.setdefault("group", GATEWAY_API)
    if document["kind"] != "HTTPRoute":
        return
    for parent in spec.get("parentRefs", []):
        parent.setdefault("group", GATEWAY_API)
        parent.setdefault("kind", "Gateway")
    for rule in spec.setdefault("rules", [{}]):
        for match in rule.setdefault("matches", [{"path": {}}]):
            path = match.setdefault("path", {})
            path.setdefault("type", "PathPrefix")
            path.setdefault("value", "/")
            for each in [*match.get("headers", []), *match.get("queryParams", [])]:
                each.setdefault("type", "Exact")
        references = list(rule.get("backendRefs", []))
        for each in references:
            each.setdefault("weight", 1)
        filters = [each for reference in references for each in reference.get("filters", [])] + rule.get("filters", [])
        for each in filters:
            if "requestRedirect" in each:
                each["requestRedirect"].setdefault("statusCode", 302)
            if "cors" in each:
                each["cors"].setdefault("maxAge", 5)
            if "requestMirror" in each:
                each["requestMirror"].get("fraction", {}).setdefault("denominator", 100)
                references.append(each["requestMirror"]["backendRef"])
        for each in references:
            each.setdefault("group", "")
            each.setdefault("kind", "Service")
