"""What runs, and what stands before it: Deployments of this program, and Services."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from meshdemo.lab.manifests import NAMESPACE, Fields, Manifest, ManifestError

ROLES = ("webserver", "proxy")


@dataclass(frozen=True)
class Probe:
    """An HTTP probe, with Kubernetes' defaults (Kubernetes, "Configure Liveness, Readiness and Startup Probes")."""

    path: str
    period_seconds: float = 10
    timeout_seconds: float = 1
    failure_threshold: int = 3


@dataclass(frozen=True)
class Workload:
    """One container of a Deployment: what its replicas run, and by what labels and ports they are found."""

    deployment: str
    container: str
    replicas: int
    args: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    labels: frozenset[tuple[str, str]]
    ports: frozenset[tuple[str, int]]
    readiness: Probe | None
    liveness: Probe | None
    is_first: bool

    @property
    def role(self) -> str:
        """Return `webserver` or `proxy`."""
        return self.args[0]

    def hostname(self, number: int) -> str:
        """Return the name of a replica, counted from 1; a second container of a pod adds its own name."""
        return f"{self.deployment}-{number}" + ("" if self.is_first else f"-{self.container}")


@dataclass(frozen=True)
class Service:
    """A Service: its ports, and the containers behind each of them."""

    name: str
    ports: tuple[int, ...]
    workloads: tuple[tuple[int, Workload], ...]

    def endpoints(self, port: int, labels: Iterable[tuple[str, str]] = ()) -> list[Workload]:
        """Return the containers behind a port whose labels include `labels`."""
        wanted = set(labels)
        return [workload for behind, workload in self.workloads if behind == port and wanted <= workload.labels]


def short_name(host: str) -> str:
    """Return the name of a Service whose host may be written with its namespace and domain."""
    return re.sub(rf"\.{NAMESPACE}(\.svc(\.cluster\.local)?)?$", "", host)


def read_workloads(manifests: Iterable[Manifest]) -> tuple[list[Workload], list[str]]:
    """Return the containers of all Deployments that run this program, and a note for each that does not."""
    workloads, notes = [], []
    for manifest in manifests:
        if manifest.kind != "Deployment":
            continue
        spec = manifest.fields()
        replicas = 1 if "replicas" not in spec else spec.integer("replicas")
        template = spec.required("template")
        labels = frozenset((template.required("metadata")).mapping("labels").items())
        first = True
        for container in template.required("spec").items("containers"):
            args = container.texts("args")
            if not args or args[0] not in ROLES or "command" in container:
                notes.append(f"{container.place}: not run here: its args do not begin with webserver or proxy")
                continue
            workloads.append(
                Workload(
                    deployment=manifest.name,
                    container=container.required_text("name"),
                    replicas=replicas or 0,
                    args=tuple(args),
                    environment=tuple(_environment(container)),
                    labels=labels,
                    ports=frozenset(_container_ports(container)),
                    readiness=_probe(container, "readinessProbe"),
                    liveness=_probe(container, "livenessProbe"),
                    is_first=first,
                )
            )
            first = False
    return workloads, notes


def _environment(container: Fields) -> Iterable[tuple[str, str]]:
    for variable in container.items("env"):
        name, value = variable.required_text("name"), variable.text("value")
        if "valueFrom" in variable:
            raise variable.error("valueFrom", "only plain values are supported here")
        yield name, value or ""


def _container_ports(container: Fields) -> Iterable[tuple[str, int]]:
    for port in container.items("ports"):
        yield port.text("name") or "", port.integer("containerPort") or 0


def _probe(container: Fields, name: str) -> Probe | None:
    probe = container.fields(name)
    if probe is None:
        return None
    if "httpGet" not in probe:
        raise probe.error("httpGet", "is missing: only HTTP probes are supported here")
    return Probe(
        path=probe.required("httpGet").text("path") or "/",
        period_seconds=probe.number("periodSeconds") or Probe.period_seconds,
        timeout_seconds=probe.number("timeoutSeconds") or Probe.timeout_seconds,
        failure_threshold=probe.integer("failureThreshold") or Probe.failure_threshold,
    )


def read_services(manifests: Iterable[Manifest], workloads: Iterable[Workload]) -> dict[str, Service]:
    """Return all Services by name."""
    workloads = list(workloads)
    services = {}
    for manifest in manifests:
        if manifest.kind != "Service" or manifest.group:
            continue
        spec = manifest.fields()
        selector = set(spec.mapping("selector").items())
        selected = [each for each in workloads if selector and selector <= each.labels]
        ports, behind = [], []
        for item in spec.items("ports"):
            port = item.integer("port")
            if port is None:
                raise item.error("port", "is missing")
            target = item.any("targetPort") or port
            ports.append(port)
            found = [each for each in selected if any(target in known for known in each.ports)]
            if selected and not found:
                raise item.error("targetPort", f"no container behind this Service has a port {target!r}")
            behind += [(port, each) for each in found]
        if not ports:
            raise ManifestError(f"{manifest.place}: spec.ports", "is missing")
        services[manifest.name] = Service(manifest.name, tuple(ports), tuple(behind))
    return services
