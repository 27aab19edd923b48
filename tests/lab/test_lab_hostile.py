"""Files that try to end the lab: it lives, says the place of what is wrong, and takes the next good edit."""

import json
import os
import time

import pytest
from lab_support import EXAMPLE, RunningLab, call
from support import in_tiers

from meshdemo.lab.files import manifests

GOOD = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: webserver}
spec:
  hosts: [webserver]
  http: [{route: [{destination: {host: webserver}}], timeout: %ss}]
"""
VIRTUAL_SERVICE = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService"}
DESTINATION_RULE = {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule"}
GATEWAY = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway"}
SERVICE_ENTRY = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry"}
HTTP_ROUTE = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"}
SERVICE = {"apiVersion": "v1", "kind": "Service"}
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment"}
DESTINATION = [{"destination": {"host": "webserver"}}]


def obj(base, spec, name="webserver", **others):
    """Return the text of an object."""
    return json.dumps({**base, "metadata": {"name": name}, "spec": spec, **others})


def rule(**fields):
    """Return a VirtualService with one rule."""
    return obj(VIRTUAL_SERVICE, {"hosts": ["webserver"], "http": [{"route": DESTINATION, **fields}]})


def match(**fields):
    return rule(match=[fields])


def destination_rule(**fields):
    return obj(DESTINATION_RULE, {"host": "webserver", **fields})


def traffic(**fields):
    return destination_rule(trafficPolicy=fields)


def gateway(name="webserver", selector="ingressgateway", **port):
    port = {"number": 80, "name": "http", "protocol": "HTTP", **port}
    servers = [{"port": port, "hosts": ["*"]}]
    return obj(GATEWAY, {"selector": {"istio": selector}, "servers": servers}, name)


def service_entry(**fields):
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    return obj(SERVICE_ENTRY, {"hosts": ["out.example"], "ports": [port], "resolution": "STATIC", **fields})


def http_route(**rule_fields):
    reference = {"group": "", "kind": "Service", "name": "webserver", "port": 80}
    backend = [{"name": "webserver", "port": 80}]
    return obj(HTTP_ROUTE, {"parentRefs": [reference], "rules": [{"backendRefs": backend, **rule_fields}]})


def service(**fields):
    return obj(SERVICE, {"selector": {"app": "webserver"}, "ports": [{"port": 80}], **fields}, "other")


def deployment(container=None, *, name="other", labels=None, pod=None, **fields):
    labels = labels or {"app": "other"}
    container = {"name": "web", "args": ["webserver"], **(container or {})}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], **(pod or {})}}
    return obj(DEPLOYMENT, {"selector": {"matchLabels": labels}, "template": template, **fields}, name)


def probe(**fields):
    return deployment({"readinessProbe": {"httpGet": {"path": "/", "port": 3030}, **fields}})


def environment(name, value="x"):
    return deployment({"env": [{"name": name, "value": value}]})


LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
MERGES = "a: &a {" + ", ".join(f"k{i}: 1" for i in range(1000)) + "}\nb: {<<: [" + "*a, " * 5000 + "*a]}\n"
TEXTS = "a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * 5000 + "*a]\n"

#: What is in the file, and words of the answer, its place among them.
HOSTILE = {
    # Not YAML, or not what Kubernetes takes for YAML
    "a bracket that is not closed": ("a: [", "policy.yaml, line"),
    "a tab for indentation": ("a:\n\t- b", "policy.yaml, line 2: not YAML"),
    "a NUL": ("a: \0", "policy.yaml: not YAML: control characters"),
    "an escape that is a NUL": (rule(rewrite={"uri": "/\0"}), "http[0].rewrite.uri: holds a NUL"),
    "half a character": ('a: "\\ud800"', "policy.yaml, line 1: not YAML: found invalid Unicode"),
    "a date that is none": ("a: 2026-13-45", "policy.yaml, line 1: apiVersion: is missing"),
    "a date that is said to be one": ("a: !!timestamp abc", "policy.yaml, line 1: not YAML"),
    "a number that is said to be one": ("a: !!int abc", "policy.yaml, line 1: not YAML: a value"),
    "a truth value that is none": ("a: !!bool perhaps", "policy.yaml, line 1: not YAML: a value"),
    "a number of 5,000 digits": ("a: " + "9" * 5000, "policy.yaml, line 1: not YAML: a value"),
    "a hexadecimal number of 5,000 digits": (
        deployment(replicas="@").replace('"@"', "0x" + "f" * 5000),
        "Deployment/other: spec.replicas: a number of very many digits is not",
    ),
    "3,000 lists in each other": ("[" * 3000, "nest"),  # "nested too deeply", or as libyaml says it since 0.2.6
    "500 objects in each other": ("{a: " * 500 + "1" + "}" * 500, "policy.yaml"),
    "a list that holds itself": ("a: &a [*a]", "policy.yaml, line 1: holds too much"),
    "a List that holds itself": (
        "apiVersion: v1\nkind: List\nitems: &items [{apiVersion: v1, kind: List, items: *items}]",
        "policy.yaml, line 1: holds too much",
    ),
    "an object that merges itself": ("&a {<<: *a}", "policy.yaml: not YAML"),
    "aliases of aliases": (LAUGHS, "policy.yaml, line 1: holds too much"),
    "merges of merges": (MERGES, "policy.yaml, line 2: not YAML: merges too much"),
    "a long text many times": (TEXTS, "policy.yaml, line 1: holds too much"),
    "9 MiB": ("# " + "x" * 9 * 1024**2, "policy.yaml: holds more than 8 MiB"),
    "an alias of nothing": ("a: *b", "policy.yaml, line 1: not YAML: found undefined alias"),
    "a Python object": ("a: !!python/object:os.system x", "policy.yaml, line 1: not YAML: could not determine"),
    "a key that is a list": ("? [a]\n: b", "policy.yaml, line 1: not YAML: a key is not a string"),
    "the same key twice": ("a: 1\na: 2", "policy.yaml, line 2: duplicate key 'a' (is a `---` missing?)"),
    "a number that is none": (
        rule(timeout=float("nan")).replace("NaN", ".nan"),
        "nan is not a number that JSON can hold",
    ),
    "bytes that are not UTF-8": (b"a: \xff\xfe", "policy.yaml: not YAML: not encoded in UTF-8"),
    # Not an object
    "a text": ("hello", "policy.yaml, line 1: 'hello' is not an object with apiVersion and kind"),
    "a List of a number": ("apiVersion: v1\nkind: List\nitems: 5", "policy.yaml, line 1: List: items: 5 is not a list"),
    "a List of numbers": ("apiVersion: v1\nkind: List\nitems: [5]", "policy.yaml, line 1: 5 is not an object"),
    "no kind": ("apiVersion: v1", "policy.yaml, line 1: kind: is missing"),
    "a kind that is an object": ("apiVersion: v1\nkind: {}", "policy.yaml, line 1: kind: an object is not a string"),
    "a kind with a control character": (
        'apiVersion: v1\nkind: "\\e[31m"\nmetadata: {name: a}',
        "policy.yaml, line 1: kind: '\\x1b[31m' is not a valid kind",
    ),
    "a misspelt kind": (
        obj({**VIRTUAL_SERVICE, "kind": "VirtualServce"}, {}),
        "VirtualServce/webserver: kind: 'VirtualServce' is unknown, did you mean VirtualService?",
    ),
    "the kind of another group": (
        obj({"apiVersion": "apps/v1", "kind": "Service"}, {}, "other"),
        "Service/other: apiVersion: 'apps/v1' has no Service, which is of v1",
    ),
    "a version that is not served": (
        obj({**VIRTUAL_SERVICE, "apiVersion": "networking.istio.io/v2"}, {}),
        "VirtualService/webserver: apiVersion: 'networking.istio.io/v2' is not served",
    ),
    "no name": (json.dumps({**SERVICE, "metadata": {}}), "Service: metadata.name: is missing"),
    "metadata that are a text": (json.dumps({**SERVICE, "metadata": "x"}), "Service: metadata: 'x' is not an object"),
    "a name that is a path": (gateway("a/b"), "Gateway: metadata.name: 'a/b' is not a name"),
    "a name that leads upwards": (gateway(".."), "Gateway: metadata.name: '..' is not a name"),
    "a name with a colon": (gateway("a:b"), "Gateway: metadata.name: 'a:b' is not a name"),
    "a name of 300 characters": (gateway("a" * 300), "Gateway: metadata.name: 'aaaaaaaaaa"),
    "a Service of 300 characters": (obj(SERVICE, {}, "a" * 300), "Service: metadata.name: 'aaaaaaaaaa"),
    "a Service with a dot": (obj(SERVICE, {}, "a.b"), "Service: metadata.name: 'a.b' is not the name of a Service"),
    "another namespace": (
        json.dumps({**SERVICE, "metadata": {"name": "other", "namespace": "Else/where"}, "spec": {}}),
        "Service/other: metadata.namespace: 'Else/where' is not",
    ),
    "no spec": (json.dumps({**DEPLOYMENT, "metadata": {"name": "other"}}), "Deployment/other: spec: is missing"),
    "a spec that is a list": (obj(SERVICE, [], "other"), "Service/other: spec: a list is not an object"),
    # Deployments
    "a misspelt field": (deployment(replica=2), "spec.replica: unknown field, did you mean replicas?"),
    "half a replica": (deployment(replicas=0.5), "spec.replicas: 0.5 is not a whole number"),
    "fewer than no replicas": (deployment(replicas=-1), "spec.replicas: -1 is not from 0"),
    "a template of other labels": (
        deployment(selector={"matchLabels": {"app": "else"}}),
        "Deployment/other: spec.selector: does not match",
    ),
    "a label that is a number": (deployment(labels={"app": 5}), "matchLabels.app: 5 is not a string: put it in quotes"),
    "a label with a line break": (deployment(labels={"app": "a\nb"}), "'a\\nb' is not the value of a label"),
    "a key with a control character": (
        deployment(labels={"app": "other", "\033[31m": 5}),
        "matchLabels.\\x1b[31m: 5 is not a string: put it in quotes",
    ),
    "arguments that are a text": (deployment({"args": "webserver"}), "containers[0].args: 'webserver' is not a list"),
    "an argument with a NUL": (deployment({"args": ["webserver", "\0"]}), "containers[0].args[1]: holds a NUL"),
    "a port that is a word": (deployment({"args": ["webserver", "--port", "x"]}), "args: 'x' is not a port"),
    "a port beyond all": (deployment({"ports": [{"containerPort": 70000}]}), "containerPort: 70000 is not from 1"),
    "two containers of one name": (
        deployment(pod={"containers": [{"name": "a", "args": ["webserver"]}, {"name": "a", "args": ["proxy"]}]}),
        "spec.containers: two have the same name",
    ),
    "two containers at one port": (
        deployment(pod={"containers": [{"name": "a", "args": ["webserver"]}, {"name": "b", "args": ["proxy"]}]}),
        "spec.containers: two listen on the same port",
    ),
    "a variable that Python obeys": (environment("PYTHONWARNINGS"), "env[0].name: 'PYTHONWARNINGS' would change"),
    "a variable that opens programs": (environment("BROWSER"), "env[0].name: 'BROWSER' would change"),
    "a variable that loads code": (environment("LD_PRELOAD"), "env[0].name: 'LD_PRELOAD' would change"),
    "a variable with an equals sign": (environment("A=B"), "env[0].name: 'A=B' cannot be the name"),
    "a variable with a NUL": (environment("A", "\0"), "env[0].value: holds a NUL"),
    "a variable from a Secret": (
        deployment({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
        "env[0].valueFrom: is not supported here",
    ),
    "variables from a ConfigMap": (deployment({"envFrom": []}), "containers[0].envFrom: is not supported here"),
    "containers that run before": (deployment(pod={"initContainers": []}), "initContainers: is not supported here"),
    "a probe that runs a command": (
        deployment({"livenessProbe": {"exec": {"command": ["true"]}}}),
        "livenessProbe.exec: is not supported here: nothing is run in a container here",
    ),
    "a probe that never times out": (
        probe(timeoutSeconds=float("inf")).replace("Infinity", ".inf"),
        "inf is not a number that JSON can hold",
    ),
    "a probe without a pause": (probe(periodSeconds=0), "readinessProbe.periodSeconds: 0 is not from 1"),
    "a probe of no port": (
        deployment({"readinessProbe": {"httpGet": {"port": "nowhere"}}}),
        "readinessProbe.httpGet.port: no port of this container has the name 'nowhere'",
    ),
    "a probe of another host": (
        deployment({"readinessProbe": {"httpGet": {"port": 3030, "host": "example.com"}}}),
        "httpGet.host: is not supported here",
    ),
    "an account that is no name": (deployment(pod={"serviceAccountName": "a b\n"}), "serviceAccountName: 'a b\\n'"),
    "an update that ends all at once": (deployment(strategy={"type": "Recreate"}), "spec.strategy.type: 'Recreate'"),
    # Services
    "a Service without ports": (service(ports=[]), "Service/other: spec.ports: is missing"),
    "a port of a Service that is a text": (service(ports=[{"port": "80"}]), "spec.ports[0].port: '80' is not"),
    "two ports without names": (service(ports=[{"port": 80}, {"port": 81}]), "spec.ports: of several each needs"),
    "a target that no pod has": (service(ports=[{"port": 80, "targetPort": "x"}]), "targetPort: no pod behind"),
    "a Service of another name": (service(type="ExternalName"), "spec.externalName: is missing"),
    # Policies
    "a weight that is misspelt": (
        obj(VIRTUAL_SERVICE, {"hosts": ["webserver"], "http": [{"route": [{**DESTINATION[0], "wieght": 25}]}]}),
        "spec.http[0].route[0].wieght: unknown field, did you mean weight?",
    ),
    "a header that ends with a colon": (match(headers={"1:": {"exact": "a"}}), "spec.http[0].match[0].headers"),
    "headers that are a number": (match(headers=5), "spec.http[0].match[0].headers: 5 is not an object"),
    "query parameters that are a number": (match(queryParams=5), "match[0].queryParams: 5 is not an object"),
    "a match that is a number": (rule(match=5), "spec.http[0].match: 5 is not a list"),
    "a regular expression that is none": (match(uri={"regex": "tes(ter"}), "spec.http[0].match[0].uri"),
    "a percentage of 500": (
        rule(fault={"abort": {"httpStatus": 503, "percentage": {"value": 500}}}),
        "spec.http[0].fault.abort.percentage",
    ),
    "a status of 5003": (
        rule(fault={"abort": {"httpStatus": 5003, "percentage": {"value": 5}}}),
        "spec.http[0].fault.abort.httpStatus: 5003",
    ),
    "a delay that is a number": (rule(fault={"delay": {"fixedDelay": 5}}), "spec.http[0].fault.delay.fixedDelay: 5"),
    "a duration of words": (rule(timeout="soon"), "spec.http[0].timeout: 'soon' is not a duration"),
    "retries on nothing that is": (
        rule(retries={"attempts": 2, "retryOn": "5xxx"}),
        "spec.http[0].retries.retryOn",
    ),
    "retries without end": (rule(retries={"attempts": -1}), "spec.http[0].retries.attempts: -1"),
    "a host that is not there": (
        obj(VIRTUAL_SERVICE, {"hosts": ["webserver"], "http": [{"route": [{"destination": {"host": "nowhere"}}]}]}),
        "spec.http[0].route[0].destination.host",
    ),
    "a subset of 300 characters": (
        destination_rule(subsets=[{"name": "a" * 300, "labels": {"version": "v1"}}]),
        "spec.subsets[0].name: 'aaaaaaaaaa",
    ),
    "a subset with a NUL": (
        destination_rule(subsets=[{"name": "a\0", "labels": {"version": "v1"}}]),
        "spec.subsets[0].name",
    ),
    "a load balancer that is unknown": (
        traffic(loadBalancer={"simple": "BEST"}),
        "spec.trafficPolicy.loadBalancer.simple: 'BEST' is not one of",
    ),
    "fewer than no connections": (
        traffic(connectionPool={"tcp": {"maxConnections": -5}}),
        "spec.trafficPolicy.connectionPool.tcp.maxConnections: -5",
    ),
    "an interval of 0": (traffic(outlierDetection={"interval": "0s"}), "outlierDetection.interval: '0s'"),
    "an outlier percentage of 200": (
        traffic(outlierDetection={"maxEjectionPercent": 200}),
        "outlierDetection.maxEjectionPercent: 200",
    ),
    "ports of an endpoint that are a list": (
        service_entry(endpoints=[{"address": "127.0.0.1", "ports": [1]}]),
        "spec.endpoints[0].ports: a list is not an object",
    ),
    "a port of an endpoint that is a word": (
        service_entry(endpoints=[{"address": "127.0.0.1", "ports": {"http": "abc"}}]),
        "spec.endpoints[0].ports.http: 'abc' is not a whole number",
    ),
    "an endpoint that is no address": (service_entry(endpoints=[{"address": "a b"}]), "spec.endpoints[0].address"),
    "a gateway whose selector is a path": (gateway(selector="../../x"), "spec.selector.istio: '../../x' is not"),
    "a gateway at no port": (gateway(number=0), "spec.servers[0].port.number: 0 is not from 1"),
    "a gateway of another protocol": (gateway(protocol="MAGIC"), "spec.servers[0].port.protocol: 'MAGIC'"),
    "a gateway without servers": (obj(GATEWAY, {"selector": {"istio": "x"}}), "spec.servers: is missing"),
    "a misspelt gateway": (obj(GATEWAY, {"selector": {}, "serverz": []}), "spec.serverz: unknown field"),
    "too many gateways": (
        "\n---\n".join(gateway(f"g{number}", selector=f"g{number}") for number in range(20)),
        "is one of more than 10 gateways",
    ),
    "a route to nothing": (
        http_route(backendRefs=[{"name": "nowhere", "port": 80}]),
        "HTTPRoute/webserver: spec.rules",
    ),
    "a path that is no type": (
        http_route(matches=[{"path": {"type": "Glob", "value": "/"}}]),
        "spec.rules[0].matches[0].path.type: 'Glob' is not one of",
    ),
    "a filter without its part": (http_route(filters=[{"type": "RequestRedirect"}]), "spec.rules[0].filters[0]"),
    "retries without anything": (rule(retries=None), "spec.http[0].retries: is empty: give it a value, or remove it"),
    "a mirror without anything": (rule(mirror=None), "spec.http[0].mirror: is empty"),
    "a weight without a number": (
        rule(route=[{**DESTINATION[0], "weight": None}]),
        "http[0].route[0].weight: is empty",
    ),
    "a match that is nothing": (rule(match=[None]), "spec.http[0].match[0]: is empty"),
    "a rule that is nothing": (
        obj({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy"}, {"rules": [None]}),
        "AuthorizationPolicy/webserver: spec.rules[0]: is empty",
    ),
    "a path that is empty": (http_route(matches=[{"path": {"value": ""}}]), "matches[0].path.value: '' is not a path"),
    "negative weights": (
        http_route(backendRefs=[{"name": "webserver", "port": 80, "weight": -1}]),
        "spec.rules[0].backendRefs[0].weight: -1",
    ),
}


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory):
    """Run the example and one more file, for all tests."""
    folder = tmp_path_factory.mktemp("lab")
    running = RunningLab(folder, EXAMPLE, folder / "policy.yaml")
    running.good = iter(range(1, 1_000_000))
    yield running
    running.close()


def good_edit(running):
    """Make an edit that is taken."""
    assert "in force" in " ".join(running.edit("policy.yaml", GOOD % next(running.good)))


@pytest.mark.parametrize(("text", "words"), in_tiers(HOSTILE.values(), 4), ids=HOSTILE.keys())
def test_hostile_edit(shared_lab, text, words):
    """What is wrong is said with its place in short, the lab lives, and the next good edit is taken."""
    started = time.monotonic()
    lines = shared_lab.edit("policy.yaml", text)
    (line,) = lines
    assert "not applied, the last good state stays: " in line
    assert words in line
    assert "meshdemo itself" not in line
    assert len(line) < 2500
    assert line.isprintable() or "\n" in line
    assert time.monotonic() - started < 20
    good_edit(shared_lab)
    assert shared_lab.is_alive
    assert call(shared_lab.url).status == 200


FULL = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: webserver
spec:
  hosts:
    - webserver
  http:
    - match:
        - gateways:
            - mesh
          uri:
            prefix: /a
          headers:
            end-user:
              exact: tester
      route:
        - destination:
            host: webserver
          weight: 75
        - destination:
            host: webserverv2
            port:
              number: 80
          weight: 25
      retries:
        attempts: 2
        perTryTimeout: 2s
      fault:
        delay:
          fixedDelay: 0.1s
          percentage:
            value: 1
      mirror:
        host: webserverv1
      timeout: %ss
"""


@pytest.mark.thorough  # an edit for each line and each of two ways
def test_lines_commented_out(shared_lab):
    """Whatever lines of a policy are commented out or emptied, the edit is taken or refused with its place."""
    lines = FULL.splitlines(keepends=True)
    for number in range(5, len(lines)):
        for line in ("#" + lines[number], lines[number].split(":")[0].rstrip() + ":\n"):
            text = "".join([*lines[:number], line, *lines[number + 1 :]])
            said = shared_lab.edit("policy.yaml", text % next(shared_lab.good) if "%" in text else text)
            assert any("in force" in each or "nothing that counts" in each or "policy.yaml" in each for each in said)
            assert "meshdemo itself" not in " ".join(said)
    good_edit(shared_lab)
    assert call(shared_lab.url).status == 200


def test_at_least_eighty():
    """There are enough of them."""
    assert len(HOSTILE) >= 80


def test_a_file_that_gives_no_answer(shared_lab, tmp_path, monkeypatch):
    """A file whose reading does not end is said, and once it is left out, edits go on."""
    monkeypatch.setattr(manifests, "SILENT_SECONDS", 0.2)
    pipe, other = tmp_path / "pipe.yaml", tmp_path / "other.yaml"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)  # so that the lab waits for what is written
    other.write_text(GOOD.replace("[webserver]", "[webserverv1]") % 7)
    paths, before = shared_lab.paths, len(shared_lab.lines)
    try:
        shared_lab.lab.follow([*paths, pipe])
        shared_lab.wait_for_line("pipe.yaml gives no answer for 0.2 s", before)
        shared_lab.lab.follow([*paths, other])
        shared_lab.wait_for_line("other.yaml: VirtualService/webserver", before)
    finally:
        shared_lab.lab.follow(paths)
        os.close(writer)
    shared_lab.wait_until_settled()
