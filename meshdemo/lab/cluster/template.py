"""Reading what pods are made of: containers with arguments, environment and probes, and what stands in for others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from meshdemo.lab.cluster.injected import PROXY_CONTAINER
from meshdemo.lab.cluster.model import INJECT_LABEL
from meshdemo.lab.cluster.pod_fields import OWN_CONTAINER, ROLES, container_type
from meshdemo.lab.cluster.pods import Container, Probe, Template
from meshdemo.lab.cluster.stand_ins import ANNOTATION, Behaviour, stand_in
from meshdemo.lab.files.documents import shown
from meshdemo.lab.files.schema import Fields
from meshdemo.serving import server

# Variables that Python obeys, or that decide what a program loads, could run anything on this machine.
_OBEYED = re.compile(
    r"PYTHON.*|LD_.*|DYLD_.*|BROWSER|PATH|HOME|SHELL|TMPDIR|GCONV_PATH|MALLOC_.*|GLIBC_TUNABLES|OPENSSL_.*|LOCPATH"
)


def read_template(fields: Fields, workload: str, behaviour: Behaviour | None = None) -> Template:
    """Return a pod template with the containers that run this program, else with one that stands in for all.

    What stands in behaves as the annotations say, unless there is a `behaviour`. There is no container where the
    pod has none but Istio's own, as that of a gateway.
    """
    pod = fields["spec"]
    others, own = [], []
    for container in pod["containers"]:
        args = container["args"]
        if container_type(container) is OWN_CONTAINER and args and args[0] in ROLES and not container["command"]:
            own.append(container)
        elif container["name"] != PROXY_CONTAINER:
            others.append(container)
    containers = [_container(container) for container in own]
    names = [container.name for container in containers]
    if len(set(names)) < len(names):
        raise pod.error("containers", "two have the same name")
    if len({container.port for container in containers}) < len(containers):
        raise pod.error("containers", "two listen on the same port")
    labels = fields["metadata"]["labels"]
    if others and not own:
        containers = [stand_in(others, workload, labels, behaviour or _behaviour(fields["metadata"]))]
    inject = {labels.get(INJECT_LABEL), fields["metadata"]["annotations"].get(INJECT_LABEL)}
    stays_outside = pod["hostNetwork"] is True or "false" in inject
    grace = pod["terminationGracePeriodSeconds"]
    return Template(
        labels=tuple(labels.items()),
        service_account=pod["serviceAccountName"] or pod["serviceAccount"] or "default",
        grace_seconds=30 if grace is None else grace,
        containers=tuple(containers),
        in_mesh=False if stays_outside else "true" in inject or None,
    )


def _behaviour(metadata: Fields) -> Behaviour:
    """Return how a stand-in behaves by the annotations of its pod."""
    annotations = metadata["annotations"]
    own = {name: value for name, value in annotations.items() if name.startswith(ANNOTATION)}
    try:
        return Behaviour({name.removeprefix(ANNOTATION): value for name, value in own.items()})
    except ValueError as error:
        raise metadata.error("annotations", str(error)) from None


def _container(fields: Fields) -> Container:
    ports = [(port["name"] or "", port["containerPort"]) for port in fields["ports"]]
    environment = _environment(fields)
    args = tuple(_expanded(arg, environment) for arg in fields["args"])
    own_port = _listening_port(args, environment, fields)
    # The port that the program listens on comes first, named or not.
    ports = sorted(ports, key=lambda pair: pair[1] != own_port)
    if not ports or ports[0][1] != own_port:
        ports.insert(0, ("", own_port))
    return Container(
        name=fields["name"],
        args=args,
        environment=tuple(environment.items()),
        ports=tuple(ports),
        startup=_probe(fields, "startupProbe", ports),
        readiness=_probe(fields, "readinessProbe", ports),
        liveness=_probe(fields, "livenessProbe", ports),
    )


def _listening_port(args: Sequence[str], environment: Mapping[str, str], fields: Fields) -> int:
    """Return the port that the program would listen on: --port, else PORT, else its default."""
    text = None
    for index, arg in enumerate(args):
        if arg == "--port" and index + 1 < len(args):
            text = args[index + 1]
        elif arg.startswith("--port="):
            text = arg.removeprefix("--port=")
    if text is None:
        text = environment.get("PORT")
    if not text:
        return server.DEFAULT_PORT
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) < 65536:
        raise fields.error("args", f"{text[:20]!r} is not a port from 1 to 65535")
    return int(text)


def _environment(fields: Fields) -> dict[str, str]:
    environment: dict[str, str] = {}
    for variable in fields["env"]:
        name = variable["name"]
        if "=" in name or not name.isascii() or not name.isprintable():
            raise variable.error("name", f"{shown(name)} cannot be the name of a variable")
        if _OBEYED.fullmatch(name.upper()):
            raise variable.error(
                "name", f"{shown(name)} would change how programs run on this machine, so it is not set here"
            )
        environment[name] = _expanded(variable["value"] or "", environment)
    return environment


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """Return a text with $(NAME) replaced by the variable, as Kubernetes does: unknown ones stay, $$ is one $."""

    def replaced(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else environment.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", replaced, text)


def _probe(container: Fields, name: str, ports: Sequence[tuple[str, int]]) -> Probe | None:
    probe = container[name]
    if probe is None:
        return None
    request = probe["httpGet"] or probe["tcpSocket"]
    if request is None:
        raise probe.error("httpGet", "is missing, as is tcpSocket")
    if probe["httpGet"] and probe["tcpSocket"]:
        raise probe.error("tcpSocket", "cannot be combined with httpGet")
    path = (probe["httpGet"]["path"] or "/") if probe["httpGet"] else None
    port = request["port"]
    number = dict(ports).get(port) if isinstance(port, str) else port
    if number is None:
        raise request.error("port", f"no port of this container has the name {port!r}")
    if number != ports[0][1]:
        raise request.error("port", f"nothing listens at {number} here, only at {ports[0][1]}")
    if name != "readinessProbe" and probe["successThreshold"] not in (None, 1):
        raise probe.error("successThreshold", "must be 1 but for readiness")
    if name == "readinessProbe" and probe["terminationGracePeriodSeconds"] is not None:
        raise probe.error("terminationGracePeriodSeconds", "is not for readiness, which ends nothing")
    given = {
        "initial_delay_seconds": probe["initialDelaySeconds"],
        "period_seconds": probe["periodSeconds"],
        "timeout_seconds": probe["timeoutSeconds"],
        "success_threshold": probe["successThreshold"],
        "failure_threshold": probe["failureThreshold"],
        "grace_seconds": probe["terminationGracePeriodSeconds"],
    }
    return Probe(path, number, **{key: value for key, value in given.items() if value is not None})
