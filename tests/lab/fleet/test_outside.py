"""The ports of what is called from outside."""

import socket

import pytest
from lab_support import EXAMPLE, K8S
from support import free_port

from meshdemo.errors import StartError
from meshdemo.lab import quick
from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.edits.state import Reader
from meshdemo.lab.engine import Resources
from meshdemo.lab.envoy.node import public_entrances
from meshdemo.lab.envoy.xds.control_plane import ControlPlane
from meshdemo.lab.files.manifests import Loader
from meshdemo.lab.fleet.outside import Outside, _scheme
from meshdemo.lab.lab import Lab, LabOptions
from meshdemo.lab.pods.guard import Guard
from meshdemo.lab.pods.ports import PortBook

SERVICE = """---
apiVersion: v1
kind: Service
metadata: {name: %s}
spec: {type: LoadBalancer, selector: {app: webserver}, ports: [{name: http, port: 80, targetPort: http}]}
"""
PROXY = """apiVersion: apps/v1
kind: Deployment
metadata: {name: proxy}
spec:
  selector: {matchLabels: {app: proxy}}
  template:
    metadata: {labels: {app: proxy}}
    spec: {containers: [{name: proxy, args: [proxy, --port, "3030", --proxy-url, "http://webserver"]}]}
"""


@pytest.fixture
def outside(tmp_path):
    """Return a function that gives what is outside of files, and their state."""
    guard = Guard()
    plane = ControlPlane(guard.folder)

    def build(text="", *paths):
        path = tmp_path / "more.yaml"
        path.write_text(text)
        reader = Reader([EXAMPLE, path, *paths], quick)
        found = Outside(guard, plane, ports, reader, print, print, access_log=False)
        return found, reader.configure(reader.read())

    ports = PortBook()
    ports.claim("front", free_port())
    build.front = ports.get("front")
    yield build
    plane.close()
    guard.close()


def numbers(found, state):
    return {each.name: int(each.url.split(":")[2].strip("/")) for each in found.addresses(state)}


def test_ports(outside):
    """The Service `proxy` has --port, the others follow, and each keeps its own when more come."""
    found, state = outside(SERVICE % "web")
    assert numbers(found, state)["service/proxy"] == outside.front
    web = numbers(found, state)["service/web"]
    assert web > outside.front
    found, state = outside(SERVICE % "another" + SERVICE % "web")
    assert numbers(found, state)["service/web"] == web
    assert len(set(numbers(found, state).values())) == 3


def test_gateways(outside):
    """A gateway's port is named by its own number."""
    found, state = outside("", K8S / "istio/ingress.yaml")
    port = numbers(found, state)["gateway istio-ingressgateway, port 80"]
    assert port >= 8080
    assert numbers(found, state) == numbers(found, state)


def test_rules_for_pods_outside_the_mesh(outside):
    """Each Service is found by each of its names; a public one at the port where it is public."""
    found, state = outside()
    rules = dict(found.service_rules(state.cluster, "default"))
    assert rules["proxy:80"] == outside.front
    assert rules["webserver:80"] == rules["webserver.default.svc.cluster.local:80"]
    assert len({port for pattern, port in rules.items() if "." not in pattern}) == 4
    assert all("." in pattern for pattern, _ in found.service_rules(state.cluster, "elsewhere"))


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ({"filters": []}, "http"),
        ({"filter_chain_match": {"destination_port": 80}}, "http"),
        ({"filters": [{"typed_config": {"@type": "type.googleapis.com/envoy...v3.TcpProxy"}}]}, "tcp"),
        ({"transport_socket": {"name": "envoy.transport_sockets.tls"}}, "https"),
        ({"filter_chain_match": {"server_names": ["demo.example.com"]}}, "https"),
    ],
)
def test_schemes(chain, expected):
    """A listener is called by https where it ends TLS, and where it passes TLS on, by tcp where no HTTP is spoken."""
    resources = Resources(listeners=[{"name": "0.0.0.0_80"}, {"name": "0.0.0.0_443", "filter_chains": [chain]}])
    assert _scheme(resources, "0.0.0.0_443") == expected
    assert _scheme(resources, "0.0.0.0_80") == "http"


@pytest.mark.parametrize(("name", "scheme"), [("web", "http"), ("grpc", "http"), ("tcp-db", "tcp"), ("https", "https")])
def test_schemes_of_services(tmp_path, name, scheme):
    """A Service's port is called by what it says that it is for."""
    path = tmp_path / "a.yaml"
    path.write_text(SERVICE.replace("name: http,", f"name: {name},") % "db")
    cluster = read_cluster(Loader([EXAMPLE, path]).load()[0])
    assert next(each.scheme for each in public_entrances(cluster) if each.name == "service/db") == scheme


def test_two_labs_at_one_moment(tmp_path):
    """Of two labs that start on one port the second names the port in a line, and shows nothing of its Envoy."""
    path = tmp_path / "proxy.yaml"
    path.write_text(PROXY)
    port = free_port()
    lab = Lab([path], quick, LabOptions(port), lambda line: None)
    try:
        with socket.create_server(("127.0.0.1", port)), pytest.raises(StartError) as error:
            lab.start()
    finally:
        lab.stop()
    assert str(error.value) == f"port {port} is already in use: choose another with --port, or 0 for a free one."
