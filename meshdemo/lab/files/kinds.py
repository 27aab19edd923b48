"""The kinds of objects that are known here, with their versions, and what names they may have."""

from __future__ import annotations

import re

#: The namespace of objects that name none.
NAMESPACE = "default"
#: Where Istio's own gateways run, and look for the Secrets with their certificates.
SYSTEM = "istio-system"

ISTIO = "networking.istio.io"
SECURITY = "security.istio.io"
TELEMETRY = "telemetry.istio.io"
GATEWAY_API = "gateway.networking.k8s.io"
ARGO = "argoproj.io"

_ISTIO_VERSIONS = ("v1", "v1beta1", "v1alpha3")
#: The kinds that are known here, with the versions that Kubernetes, Istio and the Gateway API serve them in.
KINDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Service"): ("v1",),
    ("", "ServiceAccount"): ("v1",),
    ("", "Namespace"): ("v1",),
    ("", "ConfigMap"): ("v1",),
    ("", "Secret"): ("v1",),
    ("", "Pod"): ("v1",),
    ("", "Endpoints"): ("v1",),
    ("discovery.k8s.io", "EndpointSlice"): ("v1",),
    **{("apps", kind): ("v1",) for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")},
    (ARGO, "Rollout"): ("v1alpha1",),
    **{(ISTIO, kind): _ISTIO_VERSIONS for kind in ("VirtualService", "DestinationRule", "ServiceEntry", "Gateway")},
    **{(ISTIO, kind): _ISTIO_VERSIONS for kind in ("Sidecar", "WorkloadEntry", "WorkloadGroup")},
    (ISTIO, "EnvoyFilter"): ("v1alpha3",),
    (ISTIO, "ProxyConfig"): ("v1beta1",),
    **{(SECURITY, kind): ("v1", "v1beta1") for kind in ("PeerAuthentication", "AuthorizationPolicy")},
    (SECURITY, "RequestAuthentication"): ("v1", "v1beta1"),
    (TELEMETRY, "Telemetry"): ("v1", "v1alpha1"),
    ("extensions.istio.io", "WasmPlugin"): ("v1alpha1",),
    **{(GATEWAY_API, kind): ("v1", "v1beta1") for kind in ("Gateway", "HTTPRoute", "GatewayClass")},
    (GATEWAY_API, "GRPCRoute"): ("v1",),
    (GATEWAY_API, "ReferenceGrant"): ("v1", "v1beta1"),
    (GATEWAY_API, "TLSRoute"): ("v1", "v1alpha3", "v1alpha2"),
    (GATEWAY_API, "TCPRoute"): ("v1", "v1alpha2"),
    (GATEWAY_API, "BackendTLSPolicy"): ("v1", "v1alpha3"),
}
# RFC 1123 as Kubernetes has it ("Object Names and IDs"): no such name leads anywhere as a part of a path.
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
NAME_LENGTH = 253
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
NAMESPACE_RULE = "the name of a namespace, which has lower case letters, digits and '-', up to 63 of them"


def is_namespace(name: str) -> bool:
    """Return whether a namespace can have this name."""
    return _LABEL.fullmatch(name) is not None


def is_name(name: str) -> bool:
    """Return whether an object can have this name."""
    return len(name) <= NAME_LENGTH and _SUBDOMAIN.fullmatch(name) is not None
