"""One pod that runs: its containers as processes, and its sidecar."""

from __future__ import annotations

import functools
import shutil
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.cluster.pods import Container, Pod, Template, line_of
from meshdemo.lab.engine import Resources
from meshdemo.lab.envoy.endpoints import HOST, Where
from meshdemo.lab.envoy.loopback import Local, Ports
from meshdemo.lab.envoy.original import Names
from meshdemo.lab.envoy.outbound import connect_rules, is_inbound, outbound_names
from meshdemo.lab.envoy.sidecar import Sidecar
from meshdemo.lab.envoy.standalone import Secrets
from meshdemo.lab.envoy.xds.control_plane import ControlPlane
from meshdemo.lab.pods.lines import LineServer
from meshdemo.lab.pods.ports import PortBook
from meshdemo.lab.pods.replica import Log, Replica, Say
from meshdemo.lab.pods.tls import TlsServer

_SIDECAR = "/istio-proxy"
# What a container answers with: its program, or servers of the lab for ports where no HTTP is spoken.
_APPS = ("app", "line", "tls")


@dataclass(frozen=True)
class PodContext:
    """What all pods of a lab share."""

    folder: Path
    process_group: int
    plane: ControlPlane
    ports: PortBook
    say: Say
    log: Log
    #: Takes what sidecars write of requests: of each one with `access_log`, else of those that a policy names.
    request_log: Log
    access_log: bool
    #: Variables of every container; where its manifest says otherwise, that counts.
    environment: Mapping[str, str]
    #: Variables of every proxy, whatever its manifest says.
    proxy_environment: Mapping[str, str]
    #: Returns how stand-ins speak TLS.
    tls: Callable[[], ssl.SSLContext]


@dataclass(frozen=True)
class PodSpec:
    """What a pod is to be: any difference but in its resources takes a new one."""

    pod: Pod
    template: Template
    #: Where its calls go instead: a pattern of host and port, and the name of a listener or a port on loopback.
    rules: tuple[tuple[str, str | int], ...] = ()
    listens: tuple[str, ...] = ()
    has_sidecar: bool = False
    takes_inbound: bool = False


class RunningPod:
    """A pod from `start` until all of it has ended after `retire`.

    `key` tells it from all others, those of the same name that it replaces among them.
    """

    def __init__(self, key: str, wanted: PodSpec, around: PodContext) -> None:
        self.key = key
        self.wanted = wanted
        self.pod = wanted.pod
        self._around = around
        book = around.ports
        # A stand-in listens once for all its ports where HTTP is spoken, once for those of TLS, once for all others.
        apps = {
            port: book.get((key, _kind_of(container, port), container.port))
            for container in self.pod.containers
            for port in container.listens
        }
        self._lines = [server for container in self.pod.containers for server in self._servers(container)]
        inbound = {number: book.get((key, "in", number)) for number in apps} if wanted.takes_inbound else {}
        outbound = {name: book.get((key, "out", name)) for name in wanted.listens}
        http1 = frozenset(
            port
            for container in self.pod.containers
            if container.stands_in
            for port in container.listens
            if port not in container.lines_at
        )
        self.ports = Ports(apps, inbound, outbound, http1)
        self.sidecar: Sidecar | None = None
        self._local: tuple[object, Local] | None = None
        if wanted.has_sidecar:
            log = functools.partial(around.request_log, sidecar_name(self.pod.name))
            folder = around.folder / key
            self.sidecar = Sidecar(self.pod.name, folder, around.process_group, around.say, around.plane, log)
        self.replicas = [self._replica(number) for number in range(len(self.pod.containers))]

    def _servers(self, container: Container) -> Iterator[LineServer]:
        """Yield what answers at ports of a stand-in that are not for HTTP."""
        book, line = self._around.ports, line_of(self.pod, container)
        if set(container.lines_at) - set(container.tls_at):
            yield LineServer(book.get((self.key, "line", container.port)), line)
        if container.tls_at:
            inner = book.get((self.key, "app", container.port))
            yield TlsServer(book.get((self.key, "tls", container.port)), line, self._around.tls(), inner)

    def _replica(self, number: int) -> Replica:
        container = self.pod.containers[number]
        # Kubernetes sets HOSTNAME to the name of the pod.
        environment = {"HOSTNAME": self.pod.hostname, **self._around.environment, **dict(container.environment)}
        arguments: list[str] = []
        if container.role == "proxy":
            environment |= self._around.proxy_environment
            for pattern, target in self.wanted.rules:
                port = target if isinstance(target, int) else self.ports.outbound[target]
                arguments += ["--connect-to", f"{pattern}:{HOST}:{port}"]
        single = len(self.pod.containers) == 1
        return Replica(
            self.pod.name if single else f"{self.pod.name}/{container.name}",
            container,
            port=self._around.ports.get((self.key, "app", container.port)),
            arguments=arguments,
            environment=environment,
            grace_seconds=self.wanted.template.grace_seconds,
            process_group=self._around.process_group,
            say=self._around.say,
            log=self._around.log,
        )

    @property
    def is_ready(self) -> bool:
        """Return whether all of it takes calls."""
        return (self.sidecar is None or self.sidecar.is_ready) and all(replica.is_ready for replica in self.replicas)

    @property
    def has_ended(self) -> bool:
        """Return whether all its containers have ended after `retire`."""
        return all(replica.has_ended for replica in self.replicas)

    def port_of(self, number: int) -> int | None:
        """Return where its port `number` is reached on loopback."""
        return self.ports.inbound.get(number) or self.ports.apps.get(number)

    def local(
        self, resources: Resources, service_names: Names, basis: object, secrets: Callable[[], Secrets | None]
    ) -> Local:
        """Return its configuration for loopback, made again only when something that it is made of is different.

        `basis` is what the secrets depend on beside the resources.
        """
        made_of = (resources, service_names, basis)
        if self._local is None or self._local[0] != made_of:
            log = self._around.access_log
            made = Local(resources, self.ports, secrets(), service_names=service_names, text_log=log)
            self._local = made_of, made
        return self._local[1]

    def start(self, local: Local | None, where: Where) -> None:
        """Start everything, without waiting."""
        if self.sidecar and local:
            self.sidecar.start(local, where)
        for server in self._lines:
            server.start()
        for replica in self.replicas:
            replica.start()

    def check(self) -> None:
        """Raise EnvoyError when its sidecar has ended."""
        if self.sidecar:
            self.sidecar.check()

    def look_after(self) -> None:
        """Notice what its sidecar does; its replicas look after themselves."""
        if self.sidecar:
            self.sidecar.look_after()

    def retire(self) -> None:
        """Let its containers drain and end; the sidecar stays until they have."""
        for server in self._lines:
            server.stop()
        for replica in self.replicas:
            replica.retire()

    def end(self) -> None:
        """End the sidecar, and give its folder and the ports back."""
        if self.sidecar:
            self.sidecar.stop()
            self._around.plane.remove(self.sidecar.subscriber)
            shutil.rmtree(self.sidecar.folder, ignore_errors=True)
        keys: list[tuple[str, str | int]] = [(kind, number) for kind in _APPS for number in self.ports.apps]
        keys += [("in", number) for number in self.ports.inbound]
        keys += [("out", name) for name in self.ports.outbound]
        for kind, number in keys:
            self._around.ports.release((self.key, kind, number))


def _kind_of(container: Container, port: int) -> str:
    """Return which of the servers of a container answers at a port."""
    return "tls" if port in container.tls_at else "line" if port in container.lines_at else "app"


def sidecar_name(pod: str) -> str:
    """Return the name by which the lines of a pod's sidecar, or of a gateway, are known."""
    return pod + _SIDECAR


def is_sidecar_name(name: str) -> bool:
    """Return whether a line of that name is of a sidecar or gateway, not of an application."""
    return name.endswith(_SIDECAR)


def pod_spec(pod: Pod, template: Template, resources: Resources | None, cluster: Cluster) -> PodSpec:
    """Return what a pod with these resources for its sidecar is to be."""
    takes_inbound = resources is not None and any(is_inbound(listener) for listener in resources.listeners)
    if resources is None or not (pod.calls or takes_inbound):
        return PodSpec(pod, template)
    return PodSpec(
        pod,
        template,
        rules=connect_rules(resources, cluster, pod.namespace) if pod.calls else (),
        listens=tuple(outbound_names(resources)) if pod.calls else (),
        has_sidecar=True,
        takes_inbound=takes_inbound,
    )
