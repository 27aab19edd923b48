"""Reading what pods are made of: containers with arguments, environment and probes, and what stands in for others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from meshdemo.lab.cluster.model import INJECT_LABEL, Container, Probe, Template
from meshdemo.lab.cluster.stand_ins import ANNOTATION, Behaviour, stand_in
from meshdemo.lab.files.documents import shown
from meshdemo.lab.files.schema import Anything, Boolean, Fields, Integer, List, Map, Number, Object, Refused, Text, Type
from meshdemo.serving import server

ROLES = ("webserver", "proxy")
# What the name of this program's image holds, whatever registry or prefix it has.
_IMAGE = "meshdemo"
# The name of the container that Istio adds to a pod: objects that come out of a cluster have it.
_SIDECAR = "istio-proxy"
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
_CONTAINER_PORT: dict[str, Type] = {
    "name": PORT_NAME,
    "containerPort": PORT,
    "protocol": Text(("TCP",)),
    "hostPort": Refused(ONLY_HERE),
    "hostIP": Refused(ONLY_HERE),
}
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
        "ports": List(Object(_CONTAINER_PORT, ("containerPort",))),
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
# What runs in a container of another image makes no difference here, but for its ports.
_OTHER_CONTAINER = Object(
    {
        **dict.fromkeys((*_CONTAINER.fields, "restartPolicyRules"), Anything()),
        "name": _CONTAINER.fields["name"],
        "ports": List(
            Object(
                {
                    **dict.fromkeys(_CONTAINER_PORT, Anything()),
                    "name": PORT_NAME,
                    "containerPort": PORT,
                    "protocol": Text(("TCP", "UDP", "SCTP")),
                },
                ("containerPort",),
            )
        ),
    },
    ("name",),
)


class _AnyContainer:
    """A container of this program, which is run as it says, or another one."""

    def check_names(self, value: Any, place: str) -> None:
        _container_type(value).check_names(value, place)

    def parse(self, value: Any, place: str) -> Fields:
        return _container_type(value).parse(value, place)


class _AnyPod:
    """The spec of a pod: what only a cluster does is refused where this program is in it; others stay as they are."""

    def check_names(self, value: Any, place: str) -> None:
        _POD.check_names(value, place)

    def parse(self, value: Any, place: str) -> Fields:
        containers = value.get("containers") if isinstance(value, dict) else None
        is_own = isinstance(containers, list) and any(_container_type(each) is _CONTAINER for each in containers)
        return (_POD if is_own else _OTHER_POD).parse(value, place)


_ACCOUNT = Text(pattern=r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", rule="the name of a service account")
_POD_FIELDS: dict[str, Type] = {
    "containers": List(_AnyContainer(), least=1),
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
            "ephemeralContainers",
            "hostname",
            "hostnameOverride",
            "imagePullSecrets",
            "nodeName",
            "nodeSelector",
            "overhead",
            "preemptionPolicy",
            "priority",
            "priorityClassName",
            "resourceClaims",
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
            "hostUsers",
        ],
        Anything(),
    ),
}
_ONLY_ELSEWHERE = ["hostNetwork", "hostAliases", "hostPID", "hostIPC", "readinessGates", "activeDeadlineSeconds"]
_POD = Object(
    {
        **_POD_FIELDS,
        "initContainers": Refused("no container runs before the others"),
        **dict.fromkeys(_ONLY_ELSEWHERE, Refused(ONLY_HERE)),
    },
    ("containers",),
)
_OTHER_POD = Object({**_POD_FIELDS, **dict.fromkeys(["initContainers", *_ONLY_ELSEWHERE], Anything())}, ("containers",))
METADATA = Object(
    {
        "labels": LABELS,
        "annotations": Map(Text()),
        **dict.fromkeys(["name", "namespace", "generateName", "creationTimestamp"], Anything()),
        **dict.fromkeys(["finalizers", "managedFields", "ownerReferences", "resourceVersion", "uid"], Anything()),
        **dict.fromkeys(["generation", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"], Anything()),
    }
)
#: The spec of a pod, and the fields of a pod template.
POD_SPEC = _AnyPod()
TEMPLATE = Object({"metadata": METADATA, "spec": POD_SPEC}, ("metadata", "spec"))


def _container_type(value: Any) -> Object:
    """Return what a container is read as: by its image it is of this program or not, without one by its arguments."""
    if not isinstance(value, Mapping):
        return _CONTAINER
    image, args = value.get("image"), value.get("args")
    if isinstance(image, str):
        is_own = _IMAGE in image.rpartition("/")[2]
    else:
        is_own = not (isinstance(args, list) and args[:1] and args[0] not in ROLES)
    return _CONTAINER if is_own else _OTHER_CONTAINER


def read_template(fields: Fields, workload: str, behaviour: Behaviour | None = None) -> Template:
    """Return a pod template with the containers that run this program, else with one that stands in for all.

    What stands in behaves as the annotations say, unless there is a `behaviour`. There is no container where the
    pod has none but Istio's own, as that of a gateway.
    """
    pod = fields["spec"]
    others, own = [], []
    for container in pod["containers"]:
        args = container["args"]
        if _container_type(container) is _CONTAINER and args and args[0] in ROLES and not container["command"]:
            own.append(container)
        elif container["name"] != _SIDECAR:
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
    inject = fields["metadata"]["annotations"].get(INJECT_LABEL)
    grace = pod["terminationGracePeriodSeconds"]
    return Template(
        labels=tuple(labels.items()),
        service_account=pod["serviceAccountName"] or pod["serviceAccount"] or "default",
        grace_seconds=30 if grace is None else grace,
        containers=tuple(containers),
        in_mesh=not (pod["hostNetwork"] is True or "false" in (labels.get(INJECT_LABEL), inject)),
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
