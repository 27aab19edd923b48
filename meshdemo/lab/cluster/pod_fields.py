"""The fields that pods and their containers may have: which are read, make no difference, or are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshdemo.lab.files.schema import Anything, Boolean, Fields, Integer, List, Map, Number, Object, Refused, Text, Type

ROLES = ("webserver", "proxy")
# What the name of this program's image holds, whatever registry or prefix it has.
_IMAGE = "meshdemo"
#: Why a field is refused that makes a difference in a cluster alone.
ONLY_HERE = "only a cluster does this"
_LABEL_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?"
LABELS = Map(Text(pattern=_LABEL_VALUE, rule="the value of a label"))
PORT_NAME = Text(pattern=r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?", rule="the name of a port")
PORT = Integer(1, 65535)


@dataclass(frozen=True)
class PortReference:
    """A port by number or by name; where 0 is `least`, it and an empty name mean the default."""

    least: int = 1

    def check_names(self, value: object, place: str) -> None:
        """Do nothing: there are no fields below a value."""

    def parse(self, value: object, place: str) -> int | str:
        if value == "" and not self.least:
            return 0
        return (
            PORT_NAME.parse(value, place) if isinstance(value, str) else Integer(self.least, 65535).parse(value, place)
        )


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
OWN_CONTAINER = Object(
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
        **dict.fromkeys((*OWN_CONTAINER.fields, "restartPolicyRules"), Anything()),
        "name": OWN_CONTAINER.fields["name"],
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
        container_type(value).check_names(value, place)

    def parse(self, value: Any, place: str) -> Fields:
        return container_type(value).parse(value, place)


class _AnyPod:
    """The spec of a pod: what only a cluster does is refused where this program is in it; others stay as they are."""

    def check_names(self, value: Any, place: str) -> None:
        _POD.check_names(value, place)

    def parse(self, value: Any, place: str) -> Fields:
        containers = value.get("containers") if isinstance(value, dict) else None
        is_own = isinstance(containers, list) and any(container_type(each) is OWN_CONTAINER for each in containers)
        return (_POD if is_own else _OTHER_POD).parse(value, place)


# Without a name it is the default one.
_ACCOUNT = Text(pattern=r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?", rule="the name of a service account")
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


def container_type(value: Any) -> Object:
    """Return what a container is read as: by its image it is of this program or not, without one by its arguments."""
    if not isinstance(value, Mapping):
        return OWN_CONTAINER
    image, args = value.get("image"), value.get("args")
    if isinstance(image, str):
        is_own = _IMAGE in image.rpartition("/")[2]
    else:
        is_own = not (isinstance(args, list) and args[:1] and args[0] not in ROLES)
    return OWN_CONTAINER if is_own else _OTHER_CONTAINER
