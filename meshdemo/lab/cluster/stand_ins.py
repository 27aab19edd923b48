"""What stands in for images of others: what it says, at which ports, and how it fails, waits or calls others."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from meshdemo.lab.cluster.model import Service, ServicePort
from meshdemo.lab.cluster.pods import Container, Template, Workload, matches
from meshdemo.lab.files.schema import Fields
from meshdemo.serving import server

#: What the annotations of a pod begin with that say how its stand-in behaves.
ANNOTATION = "stand-in/"
_RULES = {
    "fail-ratio": (r"0(\.\d{1,6})?|1(\.0{1,6})?|\.\d{1,6}", "a share from 0 to 1"),
    "status": (r"[45]\d\d", "a status from 400 to 599"),
    "delay": (r"\d{1,4}(\.\d{1,3})?", "a number of seconds below 10000"),
    "calls": (r"https?://[^\s\x00-\x1f]{1,1000}", "a URL"),
}


@dataclass(frozen=True)
class Behaviour:
    """How a stand-in answers: values of `fail-ratio`, `status`, `delay` and `calls`, as they were written."""

    values: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError, which says in words which of them cannot be."""
        for name, value in self.values.items():
            if name not in _RULES:
                raise ValueError(f"{name!r} is not one of {', '.join(_RULES)}")
            pattern, rule = _RULES[name]
            if not re.fullmatch(pattern, value):
                raise ValueError(f"{name}={value} is not {rule}")
        if "calls" in self.values and len(self.values) > 1:
            raise ValueError("calls cannot be combined with others: what it calls may fail or wait")

    def args(self, content: str) -> tuple[str, ...]:
        """Return the arguments of this program that answers so."""
        if "calls" in self.values:
            return ("proxy", "--proxy-url", self.values["calls"])
        if not self.values:
            return ("webserver", "--content", content)
        fails = "status" in self.values or "fail-ratio" in self.values
        options = {
            "--fail-ratio": self.values.get("fail-ratio", "1" if fails else "0"),
            "--fail-status": self.values.get("status", "500"),
            "--slow-ratio": "1" if "delay" in self.values else "0",
            "--delay": self.values.get("delay", "0"),
        }
        return ("webserver", "--content", content, "--everywhere", *(each for pair in options.items() for each in pair))


def parse_behaviour(text: str) -> tuple[str, Behaviour]:
    """Return the workload and the behaviour that `reviews-v2:fail-ratio=0.5,delay=2` means; raise ValueError."""
    workload, colon, rest = text.partition(":")
    if not workload or not colon:
        raise ValueError("it is not WORKLOAD:SETTING=VALUE, such as reviews-v2:fail-ratio=0.5")
    # A URL may hold commas, and goes with no other setting.
    parts = [rest] if rest.startswith("calls=") else rest.split(",")
    return workload, Behaviour({name: value for name, _, value in (part.partition("=") for part in parts)})


def stand_in(containers: Sequence[Fields], workload: str, labels: Mapping[str, str], behaviour: Behaviour) -> Container:
    """Return what answers at all ports of containers, with the names of workload and version."""
    version = labels.get("version", "")
    name = workload.removesuffix(f"-{version}") if version else workload
    ports: dict[int, str] = {}
    for port in (each for container in containers for each in container["ports"]):
        if port["protocol"] in (None, "TCP"):
            ports.setdefault(port["containerPort"], port["name"] or "")
    content = f"{name} {version}".rstrip()
    return Container(
        name=containers[0]["name"],
        args=behaviour.args(content),
        environment=(),
        ports=tuple((name, number) for number, name in ports.items()),
        stands_in=True,
        content=content,
    )


def with_ports(workload: Workload, services: Sequence[Service]) -> Workload:
    """Return a workload whose stand-ins answer at the ports that Services name by number as well, at one at least.

    At a port that no Service has for HTTP, and one for something else, they answer with a line, or in TLS.
    """
    if not workload.stands_in:
        return workload
    template = workload.template
    (container,) = template.containers
    ports = {number: (name, number) for name, number in container.ports}
    for_http: set[int | None] = set()
    for_others: set[int | None] = set()
    for_tls: set[int | None] = set()
    for service_port in _ports_before(template, workload.namespace, services):
        if isinstance(service_port.target, int):
            ports.setdefault(service_port.target, ("", service_port.target))
        number = next((number for name, number in ports.values() if service_port.target in (name, number)), None)
        (for_others if service_port.is_for_tcp else for_http).add(number)
        for_tls |= {number} if service_port.is_for_tls else set()
    found = tuple(ports.values()) or (("", server.DEFAULT_PORT),)
    lines = tuple(number for _, number in found if number in for_others - for_http)
    tls = tuple(number for number in lines if number in for_tls)
    container = dataclasses.replace(container, ports=found, lines_at=lines, tls_at=tls)
    return dataclasses.replace(workload, template=dataclasses.replace(template, containers=(container,)))


def _ports_before(template: Template, namespace: str, services: Sequence[Service]) -> Iterator[ServicePort]:
    """Yield the ports of the Services that select pods of a template."""
    for service in services:
        is_near = service.namespace == namespace
        if is_near and service.selector and matches(dict(template.labels), service.selector):
            yield from service.ports
