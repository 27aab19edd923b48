"""Reading what the pods of a Deployment are made of: containers with their arguments, environment and probes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from meshdemo.lab.cluster.model import Container, Probe, Template
from meshdemo.lab.files.manifests import shown
from meshdemo.lab.files.schema import Anything, Boolean, Fields, Integer, List, Map, Number, Object, Refused, Text
from meshdemo.serving import server

ROLES = ("webserver", "proxy")
#: Why a field is refused that makes a difference in a cluster alone.
ONLY_HERE = "only a cluster does this"
_LABEL_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?"
LABELS = Map(Text(pattern=_LABEL_VALUE, rule="the value of a label"))
PORT_NAME = Text(pattern=r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?", rule="the name of a port")
PORT = Integer(1, 65535)
# Variables that Python obeys, or that decide what a program loads, could run anything on this machine.
_OBEYED = re.compile(
    r"PYTHON.*|LD_.*|DYLD_.*|BROWSER|PATH|HOME|SHELL|TMPDIR|GCONV_PATH|MALLOC_.*|GLIBC_TUNABLES|OPENSSL_.*|LOCPATH"
)


class PortReference:
    """A port by number or by name."""

    def check_names(self, value: object, place: str) -> None:
        """Do nothing: there are no fields below a value."""

    def parse(self, value: object, place: str) -> int | str:
        return PORT_NAME.parse(value, place) if isinstance(value, str) else PORT.parse(value, place)


_PROBE = Object(
    {
        "httpGet": Object(
            {
                "path": Text(pattern=r"/[\x21-\x7e]*", rule="a path, which begins with a slash"),
                "port": PortReference(),
                "scheme": Text(("HTTP",)),
                "host": Refused(ONLY_HERE),
                "httpHeaders": Refused(ONLY_HERE),
            },
            ("port",),
        ),
        "initialDelaySeconds": Number(0, 86400),
        "periodSeconds": Number(1, 86400),
        "timeoutSeconds": Number(1, 86400),
        "successThreshold": Integer(1, 1000),
        "failureThreshold": Integer(1, 1_000_000),
        "terminationGracePeriodSeconds": Number(1, 86400),
        "tcpSocket": Object({"port": PortReference(), "host": Refused(ONLY_HERE)}, ("port",)),
        "exec": Refused("nothing is run in a container here, only httpGet and tcpSocket are"),
        "grpc": Refused("only httpGet and tcpSocket are"),
    }
)
_CONTAINER = Object(
    {
        "name": Text(pattern=r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", rule="the name of a container"),
        "image": Text(),
        "args": List(Text()),
        "command": List(Text()),
        "env": List(
            Object({"name": Text(), "value": Text(), "valueFrom": Refused("only plain values are")}, ("name",))
        ),
        "envFrom": Refused("only plain values in env are"),
        "ports": List(
            Object(
                {
                    "name": PORT_NAME,
                    "containerPort": PORT,
                    "protocol": Text(("TCP",)),
                    "hostPort": Refused(ONLY_HERE),
                    "hostIP": Refused(ONLY_HERE),
                },
                ("containerPort",),
            )
        ),
        "startupProbe": _PROBE,
        "readinessProbe": _PROBE,
        "livenessProbe": _PROBE,
        "lifecycle": Refused("no hook is run"),
        "volumeMounts": Anything(),
        "volumeDevices": Refused(ONLY_HERE),
        "workingDir": Refused(ONLY_HERE),
        "restartPolicy": Refused(ONLY_HERE),
        "resizePolicy": Anything(),
        "resources": Anything(),
        "securityContext": Anything(),
        "imagePullPolicy": Anything(),
        "terminationMessagePath": Anything(),
        "terminationMessagePolicy": Anything(),
        "stdin": Boolean(),
        "stdinOnce": Boolean(),
        "tty": Boolean(),
    },
    ("name",),
)
_ACCOUNT = Text(pattern=r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", rule="the name of a service account")
_POD = Object(
    {
        "containers": List(_CONTAINER, least=1),
        "initContainers": Refused("no container runs before the others"),
        "serviceAccountName": _ACCOUNT,
        "serviceAccount": _ACCOUNT,
        "terminationGracePeriodSeconds": Number(0, 86400),
        **dict.fromkeys(
            [
                "affinity",
                "automountServiceAccountToken",
                "dnsConfig",
                "dnsPolicy",
                "enableServiceLinks",
                "hostname",
                "imagePullSecrets",
                "nodeName",
                "nodeSelector",
                "overhead",
                "preemptionPolicy",
                "priority",
                "priorityClassName",
                "restartPolicy",
                "runtimeClassName",
                "schedulerName",
                "schedulingGates",
                "securityContext",
                "shareProcessNamespace",
                "subdomain",
                "tolerations",
                "topologySpreadConstraints",
                "volumes",
                "os",
                "setHostnameAsFQDN",
                "resources",
            ],
            Anything(),
        ),
        "hostNetwork": Refused(ONLY_HERE),
        "hostAliases": Refused(ONLY_HERE),
        "hostPID": Refused(ONLY_HERE),
        "hostIPC": Refused(ONLY_HERE),
        "hostUsers": Anything(),
        "readinessGates": Refused(ONLY_HERE),
        "activeDeadlineSeconds": Refused(ONLY_HERE),
    },
    ("containers",),
)
#: The fields of a pod template.
TEMPLATE = Object(
    {"metadata": Object({"labels": LABELS, "annotations": Anything(), "name": Text()}), "spec": _POD},
    ("metadata", "spec"),
)


def read_template(fields: Fields, notes: list[str]) -> Template:
    """Return a pod template, with the containers that run this program; what others it has is told in `notes`."""
    pod = fields["spec"]
    containers: list[Container] = []
    for container in pod["containers"]:
        args = container["args"]
        if not args or args[0] not in ROLES or container["command"]:
            notes.append(f"{container.place}: not run here: its args do not begin with webserver or proxy")
        else:
            containers.append(_container(container))
    names = [container.name for container in containers]
    if len(set(names)) < len(names):
        raise pod.error("containers", "two have the same name")
    if len({container.port for container in containers}) < len(containers):
        raise pod.error("containers", "two listen on the same port")
    grace = pod["terminationGracePeriodSeconds"]
    return Template(
        labels=tuple(fields["metadata"]["labels"].items()),
        service_account=pod["serviceAccountName"] or pod["serviceAccount"] or "default",
        grace_seconds=30 if grace is None else grace,
        containers=tuple(containers),
    )


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
