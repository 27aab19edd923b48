"""Workloads and their pods as plain data: what they are made of, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshdemo.lab.files.kinds import NAMESPACE

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
    #: Those of them at which it speaks TLS with who begins that, since they are for it.
    tls_at: tuple[int, ...] = ()

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
    #: Whether its pods have a sidecar; None where that is for their namespace to say.
    in_mesh: bool | None = None


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
        name = within_namespace(self.name, self.namespace)
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
        return within_namespace(self.name, self.namespace)

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


def line_of(pod: Pod, container: Container) -> str:
    """Return what a stand-in says where HTTP is not spoken."""
    return f"{container.content} on {pod.hostname}"


def within_namespace(name: str, namespace: str) -> str:
    """Return the name of an object as its own namespace knows it."""
    return name if namespace == NAMESPACE else name.removesuffix(f".{namespace}")


def matches(labels: Labels, selector: Labels) -> bool:
    """Return whether `labels` include all of `selector`."""
    return all(labels.get(key) == value for key, value in selector.items())
