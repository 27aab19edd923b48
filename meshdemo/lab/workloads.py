"""Reading Deployments, Services and Gateways: what runs, and what stands before it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from meshdemo.lab.cluster import (
    POD_NETWORK,
    Cluster,
    Container,
    Deployment,
    Gateway,
    Labels,
    Pod,
    Probe,
    Service,
    ServicePort,
    Template,
)
from meshdemo.lab.manifests import GATEWAY_API, ISTIO, KINDS, NAMESPACE, Manifest, ManifestError
from meshdemo.lab.schema import Anything, Boolean, Fields, Integer, List, Map, Number, Object, Refused, Text, read

ROLES = ("webserver", "proxy")
DEFAULT_PORT = 3030
_MOST_REPLICAS = 50

# Objects that make no difference to calls on this machine.
_SILENT = {("", "ServiceAccount"), ("", "Namespace"), ("", "ConfigMap"), ("", "Secret")}
_SILENT |= {(GATEWAY_API, "GatewayClass"), (GATEWAY_API, "ReferenceGrant")}
_SILENT |= {("kustomize.config.k8s.io", "Kustomization"), ("policy", "PodDisruptionBudget")}

_ONLY_HERE = "only a cluster does this"
_LABEL_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?"
_LABELS = Map(Text(pattern=_LABEL_VALUE, rule="the value of a label"))
_PORT_NAME = Text(pattern=r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?", rule="the name of a port")
_PORT = Integer(1, 65535)
# Variables that Python obeys, or that decide what a program loads, could run anything on this machine.
_OBEYED = re.compile(r"PYTHON.*|LD_.*|DYLD_.*|BROWSER|PATH|HOME|SHELL|TMPDIR|GCONV_PATH|MALLOC_.*|GLIBC_TUNABLES")


class _PortReference:
    """A port by number or by name."""

    def names(self, value: object, place: str) -> None:
        """Have no fields."""

    def parse(self, value: object, place: str) -> int | str:
        return _PORT_NAME.parse(value, place) if isinstance(value, str) else _PORT.parse(value, place)


_PROBE = Object(
    {
        "httpGet": Object(
            {
                "path": Text(pattern=r"/[\x21-\x7e]*", rule="a path, which begins with a slash"),
                "port": _PortReference(),
                "scheme": Text(("HTTP",)),
                "host": Refused(_ONLY_HERE),
                "httpHeaders": Refused(_ONLY_HERE),
            },
            ("port",),
        ),
        "initialDelaySeconds": Number(0, 86400),
        "periodSeconds": Number(1, 86400),
        "timeoutSeconds": Number(1, 86400),
        "successThreshold": Integer(1, 1000),
        "failureThreshold": Integer(1, 1_000_000),
        "terminationGracePeriodSeconds": Number(1, 86400),
        "exec": Refused("only HTTP probes are"),
        "tcpSocket": Refused("only HTTP probes are"),
        "grpc": Refused("only HTTP probes are"),
    },
    ("httpGet",),
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
                    "name": _PORT_NAME,
                    "containerPort": _PORT,
                    "protocol": Text(("TCP",)),
                    "hostPort": Refused(_ONLY_HERE),
                    "hostIP": Refused(_ONLY_HERE),
                },
                ("containerPort",),
            )
        ),
        "startupProbe": _PROBE,
        "readinessProbe": _PROBE,
        "livenessProbe": _PROBE,
        "lifecycle": Refused("no hook is run"),
        "volumeMounts": Anything(),
        "volumeDevices": Refused(_ONLY_HERE),
        "workingDir": Refused(_ONLY_HERE),
        "restartPolicy": Refused(_ONLY_HERE),
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
_POD = Object(
    {
        "containers": List(_CONTAINER, least=1),
        "initContainers": Refused("no container runs before the others"),
        "serviceAccountName": Text(),
        "serviceAccount": Text(),
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
        "hostNetwork": Refused(_ONLY_HERE),
        "hostAliases": Refused(_ONLY_HERE),
        "hostPID": Refused(_ONLY_HERE),
        "hostIPC": Refused(_ONLY_HERE),
        "hostUsers": Anything(),
        "readinessGates": Refused(_ONLY_HERE),
        "activeDeadlineSeconds": Refused(_ONLY_HERE),
    },
    ("containers",),
)
_DEPLOYMENT = Object(
    {
        "replicas": Integer(0, _MOST_REPLICAS),
        "selector": Object({"matchLabels": _LABELS, "matchExpressions": Refused("only matchLabels is")}),
        "template": Object(
            {"metadata": Object({"labels": _LABELS, "annotations": Anything(), "name": Text()}), "spec": _POD},
            ("metadata", "spec"),
        ),
        "strategy": Anything(),
        "minReadySeconds": Anything(),
        "revisionHistoryLimit": Anything(),
        "progressDeadlineSeconds": Anything(),
        "paused": Refused(_ONLY_HERE),
    },
    ("selector", "template"),
)
_SERVICE = Object(
    {
        "type": Text(("ClusterIP", "LoadBalancer", "NodePort")),
        "selector": _LABELS,
        "ports": List(
            Object(
                {
                    "name": _PORT_NAME,
                    "port": _PORT,
                    "targetPort": _PortReference(),
                    "appProtocol": Text(),
                    "protocol": Text(("TCP",)),
                    "nodePort": Anything(),
                },
                ("port",),
            )
        ),
        "clusterIP": Text(),
        "clusterIPs": Anything(),
        "externalName": Refused("use a ServiceEntry"),
        "externalIPs": Refused(_ONLY_HERE),
        "sessionAffinity": Text(("None",)),
        **dict.fromkeys(
            [
                "allocateLoadBalancerNodePorts",
                "externalTrafficPolicy",
                "healthCheckNodePort",
                "internalTrafficPolicy",
                "ipFamilies",
                "ipFamilyPolicy",
                "loadBalancerClass",
                "loadBalancerIP",
                "loadBalancerSourceRanges",
                "publishNotReadyAddresses",
                "trafficDistribution",
                "sessionAffinityConfig",
            ],
            Anything(),
        ),
    },
    ("ports",),
)


def read_cluster(manifests: Sequence[Manifest], networks: dict[str, int] | None = None) -> Cluster:
    """Return the cluster that the manifests describe, or raise ManifestError with the place of the first problem.

    `networks` remembers the number that a Deployment's pods have in their addresses, from one reading to the next.
    """
    networks = {} if networks is None else networks
    notes: list[str] = []
    deployments = [_deployment(manifest, notes) for manifest in _of_kind(manifests, "apps", "Deployment")]
    deployments = [deployment for deployment in deployments if deployment.template.containers]
    services = [_service(manifest, number) for number, manifest in enumerate(_of_kind(manifests, "", "Service"), 1)]
    policies = []
    for manifest in manifests:
        known = (manifest.group, manifest.kind) in KINDS
        if (manifest.group, manifest.kind) in _SILENT or (manifest.group in ("", "apps") and known):
            continue
        if known:
            policies.append(manifest)
        else:
            notes.append(f"{manifest.place}: not applied here, only a cluster knows {manifest.kind}")
    cluster = Cluster(
        deployments=tuple(deployments),
        pods=tuple(
            pod
            for deployment in deployments
            for pod in _pods(deployment, networks.setdefault(deployment.name, len(networks)))
        ),
        services=tuple(services),
        gateways=tuple(_gateways(policies)),
        policies=tuple(policies),
        notes=tuple(notes),
        others=tuple(manifest for manifest in manifests if manifest not in policies),
    )
    _check_targets(cluster, manifests)
    return cluster


def _of_kind(manifests: Iterable[Manifest], group: str, kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if (manifest.group, manifest.kind) == (group, kind)]


def _deployment(manifest: Manifest, notes: list[str]) -> Deployment:
    spec = read(manifest, _DEPLOYMENT)
    template = spec["template"]
    pod = template["spec"]
    labels = template["metadata"]["labels"]
    selector = spec["selector"]["matchLabels"]
    if not selector or any(labels.get(key) != value for key, value in selector.items()):
        raise spec.error("selector", "does not match the labels of template.metadata")
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
    grace = pod["terminationGracePeriodSeconds"]
    return Deployment(
        name=manifest.name,
        place=manifest.place,
        replicas=1 if spec["replicas"] is None else spec["replicas"],
        template=Template(
            labels=tuple(labels.items()),
            service_account=pod["serviceAccountName"] or pod["serviceAccount"] or "default",
            grace_seconds=30 if grace is None else grace,
            containers=tuple(containers),
        ),
    )


def _container(fields: Fields) -> Container:
    ports = [(port["name"] or "", port["containerPort"]) for port in fields["ports"]]
    args = tuple(fields["args"])
    own_port = _listening_port(args, fields)
    # The port that the program listens on comes first, named or not.
    ports = sorted(ports, key=lambda pair: pair[1] != own_port)
    if not ports or ports[0][1] != own_port:
        ports.insert(0, ("", own_port))
    return Container(
        name=fields["name"],
        args=args,
        environment=tuple(_environment(fields)),
        ports=tuple(ports),
        startup=_probe(fields, "startupProbe", ports),
        readiness=_probe(fields, "readinessProbe", ports),
        liveness=_probe(fields, "livenessProbe", ports),
    )


def _listening_port(args: Sequence[str], fields: Fields) -> int:
    """Return the port that the program would listen on: --port, else PORT, else its default."""
    text = None
    for index, arg in enumerate(args):
        if arg == "--port" and index + 1 < len(args):
            text = args[index + 1]
        elif arg.startswith("--port="):
            text = arg.removeprefix("--port=")
    if text is None:
        text = next((variable["value"] for variable in fields["env"] if variable["name"] == "PORT"), None)
    if not text:
        return DEFAULT_PORT
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) < 65536:
        raise fields.error("args", f"{text[:20]!r} is not a port from 1 to 65535")
    return int(text)


def _environment(fields: Fields) -> Iterable[tuple[str, str]]:
    for variable in fields["env"]:
        name = variable["name"]
        if "=" in name or not name.isprintable():
            raise variable.error("name", f"{name[:40]!r} cannot be the name of a variable")
        if _OBEYED.fullmatch(name.upper()):
            raise variable.error(
                "name", f"{name[:40]} would change how programs run on this machine, so it is not set here"
            )
        yield name, variable["value"] or ""


def _probe(container: Fields, name: str, ports: Sequence[tuple[str, int]]) -> Probe | None:
    probe = container[name]
    if probe is None:
        return None
    request = probe["httpGet"]
    port = request["port"]
    number = dict(ports).get(port) if isinstance(port, str) else port
    if number is None:
        raise request.error("port", f"no port of this container has the name {port!r}")
    if number != ports[0][1]:
        raise request.error("port", f"nothing listens at {number} here, only at {ports[0][1]}")
    if name != "readinessProbe" and probe["successThreshold"] not in (None, 1):
        raise probe.error("successThreshold", "must be 1 but for readiness")
    given = {
        "initial_delay_seconds": probe["initialDelaySeconds"],
        "period_seconds": probe["periodSeconds"],
        "timeout_seconds": probe["timeoutSeconds"],
        "success_threshold": probe["successThreshold"],
        "failure_threshold": probe["failureThreshold"],
    }
    return Probe(request["path"] or "/", number, **{key: value for key, value in given.items() if value is not None})


def _pods(deployment: Deployment, index: int) -> list[Pod]:
    template = deployment.template
    return [
        Pod(
            name=f"{deployment.name}-{number}",
            address=f"{POD_NETWORK}{index}.{number}",
            labels=dict(template.labels),
            service_account=template.service_account,
            containers=template.containers,
        )
        for number in range(1, deployment.replicas + 1)
    ]


def _service(manifest: Manifest, number: int) -> Service:
    spec = read(manifest, _SERVICE)
    names = [port["name"] for port in spec["ports"]]
    if len(names) > 1 and (None in names or len(set(names)) < len(names)):
        raise spec.error("ports", "of several each needs a name of its own")
    if spec["clusterIP"] not in (None, ""):
        raise spec.error("clusterIP", "only a cluster chooses one, and headless Services are not supported here")
    numbers = [port["port"] for port in spec["ports"]]
    if len(set(numbers)) < len(numbers):
        raise spec.error("ports", "two have the same number")
    return Service(
        name=manifest.name,
        address=f"10.96.0.{number}",
        labels=dict((manifest.document.get("metadata") or {}).get("labels") or {}),
        selector=spec["selector"],
        ports=tuple(
            ServicePort(
                name=port["name"] or "",
                number=port["port"],
                target=port["targetPort"] or port["port"],
                app_protocol=port["appProtocol"] or "",
            )
            for port in spec["ports"]
        ),
        is_public=spec["type"] == "LoadBalancer",
    )


def _check_targets(cluster: Cluster, manifests: Sequence[Manifest]) -> None:
    """Refuse a Service whose target port none of its pods has: it would have no endpoint."""
    places = {manifest.name: manifest.place for manifest in _of_kind(manifests, "", "Service")}
    for service in cluster.services:
        for index, port in enumerate(service.ports):
            selected = [
                pod for pod in cluster.pods if service.selector and service.selector.items() <= dict(pod.labels).items()
            ]
            numbers = {number for pod in selected for container in pod.containers for _, number in container.ports}
            if selected and not any(pod.port(port.target) in numbers for pod in selected):
                place = f"{places[service.name]}: spec.ports[{index}].targetPort"
                raise ManifestError(place, f"no pod behind this Service has a port {port.target!r}")


def _gateways(policies: Sequence[Manifest]) -> list[Gateway]:
    """Return the pods of the gateways: what an installation of Istio brings, and what it starts for the Gateway API."""
    groups: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[Manifest]] = {}
    for manifest in policies:
        if manifest.kind != "Gateway":
            continue
        spec = manifest.document.get("spec")
        if not isinstance(spec, dict):
            raise ManifestError(f"{manifest.place}: spec", "is missing")
        if manifest.group == ISTIO:
            selector = spec.get("selector")
            if not isinstance(selector, dict) or not all(isinstance(each, str) for each in selector.values()):
                raise ManifestError(f"{manifest.place}: spec.selector", "is not an object of texts")
            name = selector.get("istio") or "-".join(selector.values()) or manifest.name
            service = f"istio-{name}" if selector.get("istio") else name
            groups.setdefault((service, "istio-system", tuple(sorted(selector.items()))), []).append(manifest)
        else:
            labels = (("gateway.networking.k8s.io/gateway-name", manifest.name),)
            groups[f"{manifest.name}-istio", NAMESPACE, labels] = [manifest]
    return [
        Gateway(
            name=service,
            service=service,
            address=f"{POD_NETWORK}200.{number}",
            service_address=f"10.96.1.{number}",
            labels=dict(labels),
            namespace=namespace,
            ports=tuple(sorted({port for manifest in manifests for port in _gateway_ports(manifest)})),
            manifests=tuple(manifests),
        )
        for number, ((service, namespace, labels), manifests) in enumerate(groups.items(), 1)
    ]


def _gateway_ports(manifest: Manifest) -> Iterable[int]:
    """Return the numbers of the ports that a Gateway asks for."""
    name = "servers" if manifest.group == ISTIO else "listeners"
    listeners = manifest.document["spec"].get(name)
    if not isinstance(listeners, list) or not listeners:
        raise ManifestError(f"{manifest.place}: spec.{name}", "is missing")
    for index, listener in enumerate(listeners):
        holder = listener.get("port") if isinstance(listener, dict) else None
        number = holder.get("number") if isinstance(holder, dict) else holder
        place = f"{manifest.place}: spec.{name}[{index}].port" + (".number" if manifest.group == ISTIO else "")
        yield _PORT.parse(number, place)


def labels_of(manifest: Manifest) -> Labels:
    """Return the labels of an object."""
    return dict((manifest.document.get("metadata") or {}).get("labels") or {})
