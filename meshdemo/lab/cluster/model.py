"""What a cluster would hold: workloads with their pods, Services with their endpoints, gateways, and the policies.

Plain data. Addresses are those that a cluster might give out; where on this machine something listens is not known
here. What the policies mean is not known here either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from meshdemo.lab.cluster.pods import Labels, Pod, Workload, matches, unique_name
from meshdemo.lab.files.kinds import NAMESPACE, SYSTEM
from meshdemo.lab.files.manifest import Manifest

#: What the addresses of pods begin with.
POD_NETWORK = "10.244."
#: How many networks of pods there are, one for each workload that has any; gateways have those from here on.
NETWORKS = 200
#: What those of Services begin with.
SERVICE_NETWORK = "10.96."
#: What the names of Services end with.
DOMAIN = "svc.cluster.local"
#: The label, once an annotation, by which a pod stays outside the mesh (Istio, "Installing the Sidecar").
INJECT_LABEL = "sidecar.istio.io/inject"
#: The labels by which a pod says where it is, as `region.zone.subzone` (Istio, pkg/model, GetLocalityLabel).
LOCALITY_LABELS = frozenset({"istio-locality", "topology.istio.io/locality"})

#: Objects that say what is behind a Service without a selector.
ENDPOINTS = frozenset({("", "Endpoints"), ("discovery.k8s.io", "EndpointSlice")})

# The protocols that Istio knows and that are not HTTP to it (pkg/config/protocol, Parse).
_NOT_HTTP = frozenset({"tcp", "tls", "https", "mongo", "mysql", "redis", "udp"})
_HTTP = frozenset({"http", "http2", "grpc", "kubernetes.io/h2c", "kubernetes.io/ws"})
# Ports for TCP, SMTP and so on, where nothing else is said (Istio, pkg/config/kube, wellKnownPorts).
_TCP_PORTS = frozenset({25, 53, 3306, 27017})


@dataclass(frozen=True)
class ServicePort:
    """A port of a Service: where it leads in a pod, and what is said of its protocol."""

    name: str
    number: int
    target: int | str
    app_protocol: str

    @property
    def protocol(self) -> str:
        """Return what is spoken there: http, http2, grpc, https, tls, tcp, in lower case; empty if that is not said.

        It comes from appProtocol, else from the first part of the name (Istio, "Protocol Selection"), and where these
        name none maybe from the number.
        """
        said = (self.app_protocol or self.name.partition("-")[0]).lower()
        return "tcp" if self.number in _TCP_PORTS and said not in _NOT_HTTP | _HTTP else said

    @property
    def is_for_tcp(self) -> bool:
        """Return whether it is said to be for something else than HTTP without TLS."""
        return self.protocol in _NOT_HTTP

    @property
    def is_for_tls(self) -> bool:
        """Return whether callers are to begin TLS with the pod itself, which the mesh passes on as it is."""
        return self.protocol in ("https", "tls")


@dataclass(frozen=True)
class Service:
    """A Service with its virtual address; a headless one, and one that stands for another name, have none."""

    name: str
    address: str
    labels: Labels
    selector: Labels
    ports: tuple[ServicePort, ...]
    is_public: bool = False
    namespace: str = NAMESPACE
    #: Whether pods near the caller are preferred (trafficDistribution); here all are equally near.
    prefers_near: bool = False
    place: str = ""
    annotations: Labels = field(default_factory=dict)
    #: The name that it stands for, of one of type ExternalName.
    alias_of: str = ""

    @property
    def is_headless(self) -> bool:
        """Return whether its name leads to its pods themselves."""
        return not self.address and not self.alias_of

    @property
    def host(self) -> str:
        """Return its name in full, as `webserver.default.svc.cluster.local`."""
        return f"{self.name}.{self.namespace}.{DOMAIN}"

    @property
    def short_names(self) -> tuple[str, ...]:
        """Return every name by which pods of its namespace can call it."""
        parts = (self.name, self.namespace, "svc", "cluster", "local")
        return tuple(".".join(parts[:count]) for count in (1, 2, 3, 5))

    def names_from(self, namespace: str) -> tuple[str, ...]:
        """Return every name by which pods of a namespace can call it."""
        return self.short_names if namespace == self.namespace else self.short_names[1:]

    def port(self, number: int) -> ServicePort | None:
        """Return a port by its number."""
        return next((port for port in self.ports if port.number == number), None)

    def lack_of(self, number: int) -> str:
        """Return in words that it has no such port, empty where it has, or only stands for another name."""
        if self.alias_of or self.port(number):
            return ""
        only = ", ".join(str(port.number) for port in self.ports)
        return f"the Service {unique_name(self.name, self.namespace)} has no port {number}" + (
            only and f", only {only}"
        )


@dataclass(frozen=True)
class Gateway:
    """The pod of a gateway: of Istio's own kind one for all Gateways that select the same, else one for each.

    `ports` are those that its Service has, as the Gateways ask for; `manifests` are these Gateways.
    """

    name: str
    service: str
    address: str
    service_address: str
    labels: Labels
    namespace: str
    account: str
    ports: tuple[int, ...]
    manifests: tuple[Manifest, ...]


@dataclass(frozen=True)
class Cluster:
    """Everything together. `policies` are the objects that say how calls are treated, as they stand in the files."""

    workloads: tuple[Workload, ...]
    pods: tuple[Pod, ...]
    services: tuple[Service, ...]
    gateways: tuple[Gateway, ...]
    policies: tuple[Manifest, ...]
    #: What is in the files that is not run or applied, whichever engine, each with its place.
    notes: tuple[str, ...] = ()
    #: All other objects, such as Secrets.
    others: tuple[Manifest, ...] = ()
    #: The names of pods from which somebody calls, whatever their programs do.
    callers: frozenset[str] = frozenset()
    #: The files as they stand, by name, for what judges them line by line, and the namespace of objects that name none.
    texts: tuple[tuple[str, str], ...] = ()
    unnamed_namespace: str = NAMESPACE

    def calls(self, pod: Pod) -> bool:
        """Return whether a pod calls others, by its program or because somebody named it."""
        return pod.calls or pod.name in self.callers

    def documents(self, group: str, kind: str) -> list[dict[str, Any]]:
        """Return the other objects of a kind as they stand in the files, with their namespace."""
        return [
            {**each.document, "metadata": {**each.document["metadata"], "namespace": each.namespace}}
            for each in self.others
            if (each.group, each.kind) == (group, kind)
        ]

    @property
    def namespaces(self) -> dict[str, Labels]:
        """Return all namespaces with their labels."""
        own = {each.name: each.labels for each in self.others if (each.group, each.kind) == ("", "Namespace")}
        used = {each.namespace for each in (*self.policies, *self.others)} | {NAMESPACE, SYSTEM}
        return {name: own.get(name, {}) for name in sorted(used | own.keys())}

    def pods_of(self, workload: str) -> list[Pod]:
        """Return the pods of a workload."""
        return [pod for pod in self.pods if pod.workload == workload]

    def service(self, host: str) -> Service | None:
        """Return a Service by any of its names."""
        return next((service for service in self.services if host in service.short_names), None)

    def service_from(self, namespace: str, host: str) -> Service | None:
        """Return the Service that pods of a namespace call by a name."""
        return next((service for service in self.services if host in service.names_from(namespace)), None)

    def names_from(self, namespace: str) -> dict[str, tuple[str, ...]]:
        """Return by address every name by which pods of a namespace can call it.

        Each pod of a headless Service has names of its own there; that of the Service itself leads to the first.
        """
        names: dict[str, tuple[str, ...]] = {}
        for service in self.services:
            own = service.names_from(namespace)
            if service.address:
                names[service.address] = own
            for index, pod in enumerate(self.selected(service) if service.is_headless else ()):
                of_pod = tuple(f"{pod.hostname}.{name}" for name in own)
                names[pod.address] = (*names.get(pod.address, ()), *of_pod, *(own if index == 0 else ()))
        return names

    def endpoints(self, service: Service, port: ServicePort, labels: Labels | None = None) -> list[tuple[Pod, int]]:
        """Return the pods behind a port of a Service, those with `labels` only, and the number of their own port."""
        found = []
        for pod in self.selected(service):
            number = pod.port(port.target)
            if number is not None and matches(pod.labels, labels or {}):
                found.append((pod, number))
        return found

    def selected(self, service: Service) -> list[Pod]:
        """Return the pods that a Service selects."""
        return [
            pod
            for pod in self.pods
            if service.selector and pod.namespace == service.namespace and matches(pod.labels, service.selector)
        ]
