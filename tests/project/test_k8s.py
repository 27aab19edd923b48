"""The manifests: valid by the published schemas, safe by the Pod Security Standards, in step with the program."""

import re
import shlex

import kubernetes_validate
import pytest
import yaml
from support import ROOT, documents, parsed

from meshdemo import __version__

EXAMPLE = ROOT / "k8s" / "example.yaml"


OBJECTS = documents(EXAMPLE)
BY_NAME = {(each["kind"], each["metadata"]["name"]): each for each in OBJECTS}
DEPLOYMENTS = [each for each in OBJECTS if each["kind"] == "Deployment"]
NAMES = [f"{each['kind']} {each['metadata']['name']}" for each in OBJECTS]


def container(deployment):
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return only


def test_what_the_example_holds():
    """A proxy, three web servers of each version, and the Services that the lessons route between."""
    assert set(BY_NAME) == {
        ("ServiceAccount", "proxy"),
        ("ServiceAccount", "webserver"),
        ("Service", "proxy"),
        ("Service", "webserver"),
        ("Service", "webserverv1"),
        ("Service", "webserverv2"),
        ("Deployment", "proxy"),
        ("Deployment", "webserverv1"),
        ("Deployment", "webserverv2"),
    }
    replicas = {each["metadata"]["name"]: each["spec"]["replicas"] for each in DEPLOYMENTS}
    assert replicas == {"proxy": 1, "webserverv1": 3, "webserverv2": 3}
    assert BY_NAME["Service", "proxy"]["spec"]["type"] == "LoadBalancer"


@pytest.mark.parametrize("document", OBJECTS, ids=NAMES)
def test_schema(document):
    """Every object fits Kubernetes' own schema, without a field that it does not know."""
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each["metadata"]["name"])
def test_pod_security_restricted(deployment):
    """Each field that the restricted profile of the Pod Security Standards asks for is set."""
    spec = deployment["spec"]["template"]["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers"} & set(spec)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container(deployment)["securityContext"]
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "hostPort" not in str(container(deployment)["ports"])
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each["metadata"]["name"])
def test_container(deployment):
    """One image with an exact tag, probes by port name, a memory limit and no CPU limit, time enough to drain."""
    each = container(deployment)
    assert each["image"] == f"meshdemo:{__version__}"
    assert "command" not in each
    assert each["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert each["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert set(each["resources"]["limits"]) == {"memory"}
    assert set(each["resources"]["requests"]) == {"cpu", "memory"}
    options = parsed(each["args"])
    assert each["ports"] == [{"name": "http", "containerPort": options["port"]}]
    longest = options["drain_seconds"] + options.get("timeout_seconds", options.get("delay_seconds"))
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > longest
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    assert ("ServiceAccount", account) in BY_NAME


def test_args_tell_the_roles_apart():
    """The real command takes the arguments, and they say what each Deployment is for."""
    by_name = {each["metadata"]["name"]: container(each)["args"] for each in DEPLOYMENTS}
    assert by_name["proxy"][0] == "proxy"
    assert parsed(by_name["proxy"])["proxy_url"] == "http://webserver"
    for version in ("1", "2"):
        args = by_name[f"webserverv{version}"]
        assert args[0] == "webserver"
        assert parsed(args)["content"] == f"Webserver V{version}"


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("proxy", {"proxy"}),
        ("webserver", {"webserverv1", "webserverv2"}),
        ("webserverv1", {"webserverv1"}),
        ("webserverv2", {"webserverv2"}),
    ],
)
def test_service_selects(service, expected):
    """Each Service selects the pods that its name says, on the port called http, and tells the mesh its protocol."""
    spec = BY_NAME["Service", service]["spec"]
    selected = {
        each["metadata"]["name"]
        for each in DEPLOYMENTS
        if spec["selector"].items() <= each["spec"]["template"]["metadata"]["labels"].items()
    }
    assert selected == expected
    assert spec["ports"] == [{"name": "http", "appProtocol": "http", "port": 80, "targetPort": "http"}]


def test_labels():
    """Pods carry app and version, their Deployment selects just them."""
    for each in DEPLOYMENTS:
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert set(labels) == {"app", "version"}
        assert each["spec"]["selector"]["matchLabels"] == labels
        assert each["metadata"]["labels"] == labels


def test_external_files():
    """The text files that stand for external services hold what the lessons show."""
    texts = {path.name: path.read_text() for path in (ROOT / "k8s" / "external").iterdir()}
    assert texts == {
        "helloworld.txt": "Hello World",
        "externalservice1.txt": "External Service 1",
        "externalservice2.txt": "External Service 2",
    }


def test_dockerfile():
    """The image runs the command as a numeric user, and opens the port that is the program's default."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    words = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line and not line.startswith("#")}
    assert words["ENTRYPOINT"] == '["meshdemo"]'
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", words["USER"])
    assert int(words["EXPOSE"]) == parsed(["webserver"])["port"]
    assert "ENV LISTEN_HOST=*" in lines
    assert [line.split()[1] for line in lines if line.startswith("FROM")] == ["python:3.14-slim"] * 2


def test_docker_context_holds_what_the_build_copies():
    """Each file that the build copies is let through by .dockerignore, and hardly anything else."""
    allowed = (ROOT / ".dockerignore").read_text().split()
    copied = [
        source
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY") and "--from" not in line
        for source in shlex.split(line)[1:-1]
    ]
    assert allowed[0] == "*"
    assert {"!" + source for source in copied} == {rule for rule in allowed if rule.startswith("!")}


def test_compose():
    """The program takes each command; the proxy, for this machine alone, calls both versions by one name."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert set(services) == {"proxy", "webserverv1", "webserverv2"}
    options = {name: parsed(service["command"]) for name, service in services.items()}
    for service in services.values():
        assert (service["image"], service["build"]) == (f"meshdemo:{__version__}", ".")
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert services["proxy"]["ports"] == [f"127.0.0.1:{options['proxy']['port']}:{options['proxy']['port']}"]
    for version in ("1", "2"):
        name = f"webserverv{version}"
        assert options[name]["content"] == f"Webserver V{version}"
        (alias,) = services[name]["networks"]["default"]["aliases"]
        assert options["proxy"]["proxy_url"] == f"http://{alias}:{options[name]['port']}"
        assert "ports" not in services[name]


@pytest.mark.parametrize("name", ["README.md", "k8s/README.md"])
def test_the_image_is_loaded_before_it_is_needed(name):
    """Who types the commands in order has the image in the cluster before the manifests are applied."""
    blocks = "".join(re.findall(r"```sh\n(.*?)```", (ROOT / name).read_text(), re.DOTALL))
    applied = min(blocks.index(words) for words in ("kubectl apply -f k8s", "kubectl apply -k k8s") if words in blocks)
    assert blocks.index("docker build") < blocks.index("kind load docker-image") < applied
