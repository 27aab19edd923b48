"""What the Gateway API asks of a mesh, from one pod to another, with Istio's own control plane."""

import json
from collections import Counter

import pytest
from lab_support import RunningLab

from meshdemo.lab_socket import ask

_ECHO = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo-%(version)s, namespace: %(namespace)s}
spec:
  selector: {matchLabels: {app: echo, version: %(version)s}}
  template:
    metadata: {labels: {app: echo, version: %(version)s}}
    spec: {containers: [{name: echo, image: "echo:1", ports: [{containerPort: 8080}, {containerPort: 7070}]}]}
---
"""
_SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: %(name)s, namespace: mesh}
spec:
  type: LoadBalancer
  selector: %(selector)s
  ports:
    - {name: http, port: 80, targetPort: 8080}
    - {name: http-more, port: 8080}
    - {name: grpc, port: 7070}
---
"""
_SIDECAR = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: near, namespace: consumer}
spec:
  workloadSelector: {labels: {version: v2}}
  egress: [{hosts: [./*]}]
---
"""
_UNNAMED = """
apiVersion: v1
kind: Service
metadata: {name: unnamed, namespace: consumer}
spec: {selector: {app: echo, version: v1}, ports: [{port: 81, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: near, namespace: consumer}
spec: {selector: {app: echo}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
"""
_ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: %(kind)s
metadata: {name: %(name)s, namespace: %(namespace)s}
spec:
  parentRefs: [{group: "", kind: Service, %(parent)s}]
  rules:
%(rules)s
---
"""


def route(name, parent, *rules, kind="HTTPRoute", namespace="mesh"):
    text = "\n".join(f"    - {rule}" for rule in rules)
    return _ROUTE % {"name": name, "parent": parent, "rules": text, "kind": kind, "namespace": namespace}


def to(name, port=80):
    return f"backendRefs: [{{name: {name}, namespace: mesh, port: {port}}}]"


def path(value, kind="PathPrefix"):
    return f"path: {{type: {kind}, value: {value}}}"


def redirect(value, fields):
    return f"{{matches: [{{{path(value)}}}], filters: [{{type: RequestRedirect, requestRedirect: {{{fields}}}}}]}}"


def set_in_answer(value, then):
    modifier = f"responseHeaderModifier: {{set: [{{name: X-Set, value: {value}}}]}}"
    return f"{{filters: [{{type: ResponseHeaderModifier, {modifier}}}], {then}}}"


_MODIFIER = (
    "requestHeaderModifier: {set: [{name: X-Set, value: s}], add: [{name: X-Add, value: a}], remove: [X-Remove]}"
)
_MODIFIED = f"filters: [{{type: RequestHeaderModifier, {_MODIFIER}}}]"
_REWRITTEN = "filters: [{type: URLRewrite, urlRewrite: {path: {type: %s, %s}}}]"
MESH = "".join(
    [
        *(_ECHO % {"version": version, "namespace": "mesh"} for version in ("v1", "v2")),
        *(_ECHO % {"version": version, "namespace": "consumer"} for version in ("v1", "v2")),
        _SIDECAR,
        _UNNAMED,
        _SERVICE % {"name": "echo", "selector": "{app: echo}"},
        *(_SERVICE % {"name": f"echo-{each}", "selector": f"{{app: echo, version: {each}}}"} for each in ("v1", "v2")),
        route(
            "echo",
            "name: echo, port: 80",
            f"{{matches: [{{{path('/')}}}], {to('echo-v1')}}}",
            f"{{matches: [{{{path('/two')}}}, {{headers: [{{name: version, value: two}}]}}], {to('echo-v2')}}}",
            f"{{matches: [{{queryParams: [{{name: animal, value: dolphin}}]}}], {to('echo-v2')}}}",
            f"{{matches: [{{{path('/modified')}}}], {_MODIFIED}, {to('echo-v1')}}}",
            f"{{matches: [{{{path('/backend')}}}], {to('echo-v1').replace('port: 80', f'port: 80, {_MODIFIED}')}}}",
            f"{{matches: [{{{path('/cut')}}}], {_REWRITTEN % ('ReplacePrefixMatch', 'replacePrefixMatch: /')}, "
            f"{to('echo-v1')}}}",
            f"{{matches: [{{{path('/full')}}}], {_REWRITTEN % ('ReplaceFullPath', 'replaceFullPath: /one')}, "
            f"{to('echo-v1')}}}",
            redirect("/away", "hostname: example.org, port: 8083, scheme: https, statusCode: 307"),
            redirect("/there", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /here}, statusCode: 303"),
            f"{{matches: [{{{path('/weights', 'Exact')}}}], backendRefs: [{{name: echo-v1, port: 8080, weight: 7}}, "
            "{name: echo-v2, port: 8080, weight: 3}]}",
        ),
        route("by-port", "name: echo-v1, port: 80", set_in_answer("v1", to("echo-v1"))),
        route("all-ports", "name: echo-v2", set_in_answer("v2", to("echo-v2"))),
        route(
            "consumer",
            "name: echo-v1, namespace: mesh, port: 8080",
            set_in_answer("consumer", to("echo-v1", 8080)),
            namespace="consumer",
        ),
        route(
            "grpc",
            "name: echo, port: 7070",
            f"{{matches: [{{headers: [{{name: x-case, value: one}}]}}], {_MODIFIED}, {to('echo-v1', 7070)}}}",
            f"{{matches: [{{headers: [{{name: x-case, value: two}}]}}], {to('echo-v2', 7070)}}}",
            kind="GRPCRoute",
        ),
    ]
)


@pytest.fixture(scope="module")
def call(tmp_path_factory, engine):
    """Return a function that has a pod call, and returns the answer and what the application says."""
    source = tmp_path_factory.mktemp("files") / "mesh.yaml"
    source.write_text(MESH)
    lab = RunningLab(tmp_path_factory.mktemp("lab"), source, engine=engine)

    def make(url, origin="echo-v1.mesh", **headers):
        pairs = [[name.replace("_", "-"), value] for name, value in headers.items()]
        wish = {"from": origin, "url": f"http://{url}", "headers": pairs}
        reply = ask(lab.lab.door.path, "POST", "/call", wish, timeout_seconds=30)
        answer = {**reply["answer"], "hops": reply["hops"]}
        return answer, json.loads(answer["body"]) if answer["version"] else {}

    yield make
    lab.close()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("target", "headers", "backend"),
    [
        ("/", {}, "echo-v1"),
        ("/two", {}, "echo-v2"),
        ("/two/more", {}, "echo-v2"),
        ("/twofold", {}, "echo-v1"),
        ("/", {"version": "two"}, "echo-v2"),
        ("/?animal=dolphin&more=1", {}, "echo-v2"),
        ("/?animal=whale", {}, "echo-v1"),
    ],
)
def test_matches(call, target, headers, backend):
    """Path, header and query choose the backend."""
    _, said = call(f"echo{target}", **headers)
    assert said["hostname"] == f"{backend}-1"


@pytest.mark.thorough
@pytest.mark.parametrize("target", ["/modified", "/backend"])
def test_request_headers(call, target):
    """Headers of the request are set, added and removed, for a rule or for one backend; the answer shows them."""
    _, said = call(f"echo{target}", x_set="old", x_add="old", x_remove="old", other="kept")
    headers = {name.lower(): value for name, value in said["headers"].items()}
    assert (headers["x-set"], headers["x-add"].replace(" ", ""), headers["other"]) == ("s", "old,a", "kept")
    assert "x-remove" not in headers


@pytest.mark.thorough
@pytest.mark.parametrize(("target", "seen"), [("/cut/one", "/one"), ("/cut", "/"), ("/full/two", "/one")])
def test_rewritten_paths(call, target, seen):
    """The application sees the path that a rule has written anew."""
    _, said = call(f"echo{target}")
    assert said["path"] == seen


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("target", "status", "location"),
    [("/away/x", 307, "https://example.org:8083/away/x"), ("/there/x", 303, "http://echo/here/x")],
)
def test_redirects(call, target, status, location):
    """A redirect is the mesh's own answer."""
    answer, _ = call(f"echo{target}")
    assert (answer["status"], answer["headers"]["location"]) == (status, location)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("url", "origin", "set_by"),
    [
        ("echo-v1", "echo-v1.mesh", "v1"),
        ("echo-v1:8080", "echo-v1.mesh", None),
        ("echo-v2", "echo-v1.mesh", "v2"),
        ("echo-v2:8080", "echo-v1.mesh", "v2"),
        ("echo-v1.mesh:8080", "echo-v1.consumer", "consumer"),
        ("echo-v2-1.mesh:8080", "echo-v1.mesh", None),
    ],
)
def test_where_a_route_holds(call, url, origin, set_by):
    """A route holds for the ports of its Service that it names, and for all callers or those of its namespace."""
    answer, said = call(url, origin)
    assert said["hostname"].startswith(url.partition(".")[0].partition(":")[0])
    assert answer["headers"].get("x-set") == set_by


@pytest.mark.thorough
@pytest.mark.parametrize("host", ["echo-v1.mesh:8080", "echo-v1.mesh"], ids=["at a port of its own", "at a known port"])
def test_what_a_sidecar_does_not_know(call, host):
    """What a Sidecar object leaves out is called as it is: by no route, and in plain text."""
    answer, said = call(host, "echo-v2.consumer")
    assert (said["hostname"], answer["headers"].get("x-set")) == ("echo-v1-1", None)
    first, second = answer["hops"][:2]
    assert first["notes"][0].startswith("Sidecar/near does not let the sidecar know echo-v1.mesh")
    assert (second["direction"], second["identity"]) == ("inbound", None)


@pytest.mark.thorough
def test_a_port_that_says_nothing(call):
    """At a port without a name the sidecar of the pod finds out that HTTP is spoken, within mutual TLS, too."""
    answer, _ = call("unnamed.consumer:81", "echo-v1.mesh")
    assert [hop["direction"] for hop in answer["hops"]] == ["outbound", "inbound", None]
    assert answer["hops"][1]["identity"] == "spiffe://cluster.local/ns/mesh/sa/default"


@pytest.mark.thorough
def test_weights(call):
    """Calls are shared by weight: 7 of 10, by chance outside of these bounds once in a million runs."""
    counts = Counter(call("echo/weights")[1]["hostname"] for _ in range(40))
    assert 14 <= counts["echo-v1-1"] < 40


@pytest.mark.thorough
def test_grpc_routes(call):
    """A GRPCRoute holds for what is called at a port for gRPC, which a stand-in answers as HTTP."""
    _, said = call("echo:7070", x_case="one", x_set="old")
    assert (said["hostname"], said["headers"]["X-Set"]) == ("echo-v1-1", "s")
    _, said = call("echo:7070", x_case="two", x_set="old")
    assert (said["hostname"], said["headers"]["X-Set"]) == ("echo-v2-1", "old")
    answer, _ = call("echo:7070")
    assert answer["status"] == 404
