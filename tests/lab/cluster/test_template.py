"""Reading pod templates: arguments, environment, ports and probes as Kubernetes has them."""

import pytest
from lab_support import manifest

from meshdemo.lab.cluster.pod_fields import TEMPLATE
from meshdemo.lab.cluster.template import read_template
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.schema import Object, read


def template(container=None, pod=None, workload="a", labels=None):
    container = {"name": "web", "args": ["webserver"], **(container or {})}
    spec = {
        "template": {"metadata": {"labels": labels or {"app": "a"}}, "spec": {"containers": [container], **(pod or {})}}
    }
    document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec}
    fields = read(manifest(document), Object({"template": TEMPLATE}))
    return read_template(fields["template"], workload)


def container(**fields):
    (found,) = template(fields).containers
    return found


def test_defaults():
    """Without anything else a pod has 30 s of grace, the default account and the program's own port."""
    found = template()
    assert (found.grace_seconds, found.service_account, found.labels) == (30, "default", (("app", "a"),))
    assert (found.containers[0].role, found.containers[0].port) == ("webserver", 3030)
    assert (found.containers[0].startup, found.containers[0].readiness, found.containers[0].liveness) == (None,) * 3


@pytest.mark.parametrize(
    ("fields", "port"),
    [
        ({"args": ["webserver", "--port", "80"]}, 80),
        ({"args": ["webserver", "--port=81"]}, 81),
        ({"env": [{"name": "PORT", "value": "82"}]}, 82),
        ({"args": ["webserver", "--port", "80"], "env": [{"name": "PORT", "value": "82"}]}, 80),
        ({"args": ["webserver", "--port", "$(P)"], "env": [{"name": "P", "value": "83"}]}, 83),
    ],
)
def test_the_port(fields, port):
    """The port is the program's own: --port before PORT before the default."""
    assert container(**fields).port == port


def test_named_ports():
    """A port by name is found, and the one that the program listens on comes first."""
    found = container(ports=[{"name": "other", "containerPort": 9}, {"name": "http", "containerPort": 3030}])
    assert found.ports == (("http", 3030), ("other", 9))


def test_probes():
    """Probes have Kubernetes' defaults, their own values, and ports by name or number."""
    found = container(
        ports=[{"name": "http", "containerPort": 3030}],
        startupProbe={"httpGet": {"port": 3030}, "failureThreshold": 30},
        readinessProbe={"httpGet": {"path": "/readyz", "port": "http"}, "successThreshold": 2},
        livenessProbe={
            "httpGet": {"path": "/healthz", "port": "http"},
            "initialDelaySeconds": 3,
            "periodSeconds": 5,
            "timeoutSeconds": 2,
            "terminationGracePeriodSeconds": 4,
        },
    )
    assert (found.startup.path, found.startup.port, found.startup.failure_threshold) == ("/", 3030, 30)
    assert (found.readiness.path, found.readiness.success_threshold) == ("/readyz", 2)
    assert (found.readiness.period_seconds, found.readiness.timeout_seconds) == (10, 1)
    assert (found.readiness.failure_threshold, found.readiness.initial_delay_seconds) == (3, 0)
    assert (found.liveness.initial_delay_seconds, found.liveness.period_seconds) == (3, 5)
    assert (found.liveness.timeout_seconds, found.liveness.grace_seconds) == (2, 4)


@pytest.mark.parametrize(
    ("text", "value"),
    [("a$(X)b", "axb"), ("$(NONE)", "$(NONE)"), ("$$(X)", "$(X)"), ("$", "$"), ("$(X", "$(X"), ("$X", "$X")],
)
def test_references_to_variables(text, value):
    """$(NAME) in arguments and variables is replaced as Kubernetes does it."""
    variables = [{"name": "X", "value": "x"}, {"name": "Y", "value": text}]
    found = container(args=["webserver", "--content", text], env=variables)
    assert found.args[2] == value
    assert dict(found.environment)["Y"] == value


@pytest.mark.parametrize(
    "fields",
    [
        {"args": ["nginx"]},
        {"command": ["sh"]},
        {"image": "apache/airflow:3.0", "args": ["webserver"]},
        {"image": "meshdemo:1.0.0", "args": None},
    ],
)
def test_what_is_stood_in_for(fields):
    """A container that does not run this program is stood in for."""
    (found,) = template(fields).containers
    assert found.stands_in
    assert found.args == ("webserver", "--content", "a")


@pytest.mark.parametrize("image", ["meshdemo:1.0.0", "registry.example:5000/team/meshdemo@sha256:00", None])
def test_what_runs_itself(image):
    """A container of this program's image runs it, whatever its registry."""
    (found,) = template({"image": image}).containers
    assert (found.stands_in, found.args) == (False, ("webserver",))


@pytest.mark.parametrize(
    ("workload", "version", "content"),
    [("reviews-v2", "v2", "reviews v2"), ("reviews", "v2", "reviews v2"), ("reviews-v2", "", "reviews-v2")],
)
def test_what_a_stand_in_says(workload, version, content):
    """A stand-in says which workload and version it is, the version once."""
    labels = {"app": "a", **({"version": version} if version else {})}
    (found,) = template({"image": "other"}, workload=workload, labels=labels).containers
    assert found.args == ("webserver", "--content", content)


def test_what_makes_no_difference_to_a_stand_in():
    """What another image would run, need and be asked for is passed over; its ports are not, unless they are UDP."""
    other = {"name": "cache", "image": "redis", "ports": [{"containerPort": 6379}, {"containerPort": 8080}]}
    pod = {
        "initContainers": [{"name": "first", "image": "other", "command": ["sh"]}],
        "hostAliases": [{"ip": "127.0.0.1"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    fields = {
        "image": "other",
        "command": ["run"],
        "env": [{"name": "PATH", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}],
        "envFrom": [{"configMapRef": {"name": "a"}}],
        "readinessProbe": {"exec": {"command": ["true"]}},
        "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
        "ports": [
            {"name": "http", "containerPort": 8080, "hostPort": 80},
            {"containerPort": 9090},
            {"containerPort": 53, "protocol": "UDP"},
        ],
    }
    containers = [{"name": "web", **fields}, other, {"name": "istio-proxy", "image": "proxyv2", "args": ["proxy"]}]
    (found,) = template(pod={**pod, "containers": containers}).containers
    assert found.ports == (("http", 8080), ("", 9090), ("", 6379))
    assert found.listens == (8080, 9090, 6379)
    assert (found.environment, found.readiness) == ((), None)


def test_a_pod_with_this_program_in_it():
    """Where this program runs in a pod, nothing stands in for the other containers, and the pod is run as it says."""
    containers = [{"name": "web", "args": ["webserver"]}, {"name": "cache", "image": "redis"}]
    (found,) = template(pod={"containers": containers}).containers
    assert (found.name, found.stands_in) == ("web", False)
    with pytest.raises(ManifestError, match="initContainers: is not supported here"):
        template(pod={"containers": containers, "initContainers": []})


def test_the_pod_of_a_gateway():
    """A pod with nothing but Istio's own container has nothing to run."""
    assert template(pod={"containers": [{"name": "istio-proxy", "image": "auto"}]}).containers == ()


def test_a_mistake_in_what_is_stood_in_for():
    """A misspelt field of another image's container is said as well."""
    with pytest.raises(ManifestError, match="containerPorts: unknown field, did you mean containerPort"):
        template({"image": "other", "ports": [{"containerPorts": 80}]})


@pytest.mark.parametrize("name", ["PYTHONPATH", "pythonhome", "LD_PRELOAD", "BROWSER", "PATH", "A=B", "É", "A\n", ""])
def test_variables_that_are_refused(name):
    """What Python or the system obeys, or what is no name, is refused with its place."""
    with pytest.raises(ManifestError, match=r"env\[0\]\.name"):
        container(env=[{"name": name, "value": "x"}])


def test_more_refusals():
    """A probe of readiness ends nothing, one of liveness needs one success."""
    request = {"httpGet": {"port": 3030}}
    with pytest.raises(ManifestError, match="terminationGracePeriodSeconds"):
        container(readinessProbe={**request, "terminationGracePeriodSeconds": 1})
    with pytest.raises(ManifestError, match="successThreshold: must be 1"):
        container(livenessProbe={**request, "successThreshold": 2})
    with pytest.raises(ManifestError, match="nothing listens at 9 here, only at 3030"):
        container(livenessProbe={"httpGet": {"port": 9}})


def test_a_tcp_probe():
    """A TCP probe has a port and no path, and goes with no other."""
    found = container(readinessProbe={"tcpSocket": {"port": 3030}})
    assert (found.readiness.path, found.readiness.port) == (None, 3030)
    with pytest.raises(ManifestError, match="tcpSocket: cannot be combined with httpGet"):
        container(readinessProbe={"tcpSocket": {"port": 3030}, "httpGet": {"port": 3030}})
    with pytest.raises(ManifestError, match="httpGet: is missing, as is tcpSocket"):
        container(readinessProbe={"periodSeconds": 1})
