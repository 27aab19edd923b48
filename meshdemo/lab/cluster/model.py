"""What a cluster would hold: workloads with their pods, Services with their endpoints, gateways, and the policies.

Plain data. Addresses are those that a cluster might give out; where on this machine something listens is not known
here. What the policies mean is not known here either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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

Labels = Mapping[str, str]


def unique_name(name: str, namespace: str) -> str:
    """Return a name that tells an object from those of its name in other namespaces: `reviews`, `reviews.shop`."""
    return name if namespace == NAMESPACE else f"{name}.{namespace}"


@dataclass(frozen=True)
class Probe:
    """A probe (Kubernetes, "Configure Liveness, Readiness and Startup Probes", defaults included).

    It asks for a path by HTTP; without one a TCP connection is all that it wants.
    """

    path: str | None
    port: int
    initial_delay_seconds: float = 0
    period_seconds: float = 10
    timeout_seconds: float = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    #: How long a process that failed it has to end; None for the grace of its pod.
    grace_seconds: float | None = None


@dataclass(frozen=True)
class Container:
    """A container that runs this program: its arguments, the first of which is its role, and its environment.

    One that `stands_in` does so for all containers of a pod, whose images are others.
    """

    name: str
    args: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    #: Ports by name and number; the first is the one that this program itself listens on.
    ports: tuple[tuple[str, int], ...]
    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None
    stands_in: bool = False
    #: Who a stand-in says it is: workload and version.
    content: str = ""
    #: The ports of a stand-in at which it says a line to whoever connects, since they are not for HTTP.
    lines_at: tuple[int, ...] = ()

    @property
    def role(self) -> str:
        """Return `webserver` or `proxy`."""
        return self.args[0]

    @property
    def port(self) -> int:
        """Return the port that it listens on in its pod."""
        return self.ports[0][1]

    @property
    def listens(self) -> tuple[int, ...]:
        """Return all ports that it answers at: a stand-in does at each."""
        return tuple(number for _, number in self.ports) if self.stands_in else (self.port,)


@dataclass(frozen=True)
class Template:
    """What the pods of a workload are made of."""

    labels: tuple[tuple[str, str], ...]
    service_account: str
    grace_seconds: float
    containers: tuple[Container, ...]
    #: Whether its pods have a sidecar, unless their namespace says that none has.
    in_mesh: bool = True


@dataclass(frozen=True)
class Workload:
    """A Deployment or whatever else makes pods, a bare Pod included: how many there are to be, and of what.

    Its name tells it from those in other namespaces.
    """

    name: str
    place: str
    replicas: int
    template: Template
    kind: str = "Deployment"
    #: The number of the first pod: those of a StatefulSet are counted from 0.
    first: int = 1
    namespace: str = NAMESPACE

    @property
    def pod_names(self) -> list[str]:
        """Return the names of its pods."""
        if self.kind == "Pod":
            return [self.name]
        numbers = range(self.first, self.first + self.replicas)
        name = _within_namespace(self.name, self.namespace)
        return [unique_name(f"{name}-{number}", self.namespace) for number in numbers]

    @property
    def stands_in(self) -> bool:
        """Return whether its pods stand in for those of other images."""
        return any(container.stands_in for container in self.template.containers)


@dataclass(frozen=True)
class Pod:
    """A pod: `webserverv1-1`, in another namespace `webserverv1-1.shop`, with an address of its own."""

    name: str
    address: str
    labels: Labels
    service_account: str
    containers: tuple[Container, ...]
    namespace: str = NAMESPACE
    #: The name of its workload.
    workload: str = ""
    #: Whether it has a sidecar.
    in_mesh: bool = True

    @property
    def hostname(self) -> str:
        """Return the name that it has within its namespace."""
        return _within_namespace(self.name, self.namespace)

    @property
    def calls(self) -> bool:
        """Return whether anything in it calls others."""
        return any(container.role == "proxy" for container in self.containers)

    def port(self, target: int | str) -> int | None:
        """Return the number of a port given by name or number; None where no container has the name."""
        if isinstance(target, int):
            return target
        named = dict(pair for container in self.containers for pair in container.ports)
        return named.get(target)


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

        It comes from appProtocol, else from the first part of the name (Istio, "Protocol Selection").
        """
        return (self.app_protocol or self.name.partition("-")[0]).lower()

    @property
    def is_for_tcp(self) -> bool:
        """Return whether it is said to be for something else than HTTP without TLS."""
        return self.protocol in _NOT_HTTP


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


@dataclass(frozen=True)
class Gateway:
    """The pod of a gateway: of Istio's own kind one for all Gateways with the same selector, else one for each.

    `ports` are those that its Service has, as the Gateways ask for; `manifests` are these Gateways.
    """

    name: str
    service: str
    address: str
    service_address: str
    labels: Labels
    namespace: str
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
    #: The files as they stand, by name, for what judges them line by line.
    texts: tuple[tuple[str, str], ...] = ()

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


def _within_namespace(name: str, namespace: str) -> str:
    return name if namespace == NAMESPACE else name.removesuffix(f".{namespace}")


def matches(labels: Labels, selector: Labels) -> bool:
    """Return whether `labels` include all of `selector`."""
    return all(labels.get(key) == value for key, value in selector.items())
