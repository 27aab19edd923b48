"""What is said of connections by which no HTTP goes: who closed them, or which stand-in answered."""

import dataclasses

import pytest
from lab_support import manifest

from meshdemo.lab.cluster.model import Gateway
from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.engine import Configuration
from meshdemo.lab.files.manifests import Loader
from meshdemo.lab.xray.connections import connection_hops, explain_connection, is_followed
from meshdemo.lab.xray.facts.calls import Call
from meshdemo.lab.xray.facts.records import Record
from meshdemo.lab.xray.facts.scene import Place, Scene

APPLICATION = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: mongo}
spec:
  replicas: 2
  selector: {matchLabels: {app: mongo}}
  template:
    metadata: {labels: {app: mongo, version: v1}}
    spec: {containers: [{name: mongo, image: "mongo:7"}]}
---
apiVersion: v1
kind: Service
metadata: {name: mongo}
spec: {selector: {app: mongo}, ports: [{name: mongo, port: 27017}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec: {containers: [{name: shop, image: "shop:1"}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: batch}
spec:
  selector: {matchLabels: {app: batch}}
  template:
    metadata: {labels: {app: batch, sidecar.istio.io/inject: "false"}}
    spec: {containers: [{name: batch, image: "batch:1"}]}
"""
POLICIES = (
    ("AuthorizationPolicy", "nobody", {"action": "DENY", "rules": [{}]}),
    ("PeerAuthentication", "all", {"mtls": {"mode": "STRICT"}}),
    ("Sidecar", "near", {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}),
)
LINE = "mongo v1 on mongo-1\n"
NOBODY = "127.0.0.1:9"
OUT, IN, PROGRAM = "127.0.0.1:20000", "127.0.0.1:20001", "127.0.0.1:20002"
CLUSTER = "outbound|27017|v1|mongo.default.svc.cluster.local"


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Return the application with its policies."""
    path = tmp_path_factory.mktemp("files") / "shop.yaml"
    path.write_text(APPLICATION)
    groups = {"Sidecar": "networking"}
    policies = tuple(
        manifest(
            {
                "apiVersion": f"{groups.get(kind, 'security')}.istio.io/v1",
                "kind": kind,
                "metadata": {"name": name},
                "spec": spec,
            }
        )
        for kind, name, spec in POLICIES
    )
    places = {IN: Place("mongo-1", 27017, is_program=False), PROGRAM: Place("mongo-1", 27017, is_program=True)}
    cluster = read_cluster(Loader([path]).load()[0])
    return Scene(dataclasses.replace(cluster, policies=policies), Configuration({}), places)


def connection(envoy, local, upstream, *flags, cluster=CLUSTER, details="", identity=""):
    """Return what an Envoy logs of a connection."""
    empty = dict.fromkeys(("request_id", "method", "authority", "path", "routes", "route", "object"), "")
    return Record(
        **empty,
        envoy=envoy,
        is_try=False,
        headers={},
        cluster=cluster,
        status=None,
        flags=flags,
        details=details,
        started=0.0,
        milliseconds=1.0,
        tries=0,
        upstream=upstream,
        downstream="",
        local=local,
        peer_identity=identity,
        is_tls=bool(identity),
    )


OUTBOUND = connection("shop-1", OUT, IN)
INBOUND = "inbound|27017||"
DENIED = "rbac_access_denied_matched_policy[ns[default]-policy[nobody]-rule[0]]"


def explain(scene, *records, body="", origin="shop-1", host="mongo"):
    call = Call("1", "CONNECT", f"tcp://{host}:27017", origin, None, 1.0, body=body)
    return explain_connection(call, records, scene)


def test_who_answers(seen):
    """Each sidecar on the way is a hop, and the stand-in that was reached, by the line that it says."""
    found = explain(
        seen, OUTBOUND, connection("mongo-1", IN, PROGRAM, cluster=INBOUND, identity="spiffe://a"), body=LINE
    )
    kinds = [(hop.kind, hop.direction, hop.pod, hop.reason) for hop in found.hops]
    assert kinds == [
        ("sidecar", "outbound", "shop-1", None),
        ("sidecar", "inbound", "mongo-1", None),
        ("application", None, "mongo-1", None),
    ]
    assert (found.hops[0].destination.port, found.hops[0].destination.subset) == (27017, "v1")
    assert found.hops[1].identity == "spiffe://a"
    assert found.version == found.hops[2].version == "mongo v1"


def test_who_denied(seen):
    """A connection that an AuthorizationPolicy had closed is told with its rule."""
    hop = explain(seen, OUTBOUND, connection("mongo-1", IN, PROGRAM, cluster=INBOUND, details=DENIED)).hops[-1]
    assert (hop.pod, hop.reason) == ("mongo-1", "denied by rule 0 of AuthorizationPolicy/nobody")
    assert (hop.decided_by.name, hop.decided_by.rule) == ("nobody", 0)


@pytest.mark.parametrize("envoy", ["node", "shop-1"])
def test_mutual_tls_alone(seen, envoy):
    """A connection in plain text that no filter chain took is told with the PeerAuthentication, and once."""
    origin = "batch-1" if envoy == "node" else envoy
    found = explain(seen, connection(envoy, OUT, IN), connection("mongo-1", IN, "", "NR", cluster=""), origin=origin)
    reasons = [(hop.pod, hop.reason) for hop in found.hops if hop.reason]
    assert reasons == [("mongo-1", "it takes mutual TLS alone: PeerAuthentication/all is STRICT")]
    assert [hop.pod for hop in found.hops] == [origin, "mongo-1"]


def test_an_outsider(seen):
    """Where no Envoy tells why a caller without a sidecar was not answered, mutual TLS alone is the reason."""
    (hop,) = explain(seen, origin="batch-1").hops
    assert (hop.kind, hop.reason) == ("application", "mongo takes mutual TLS alone: PeerAuthentication/all is STRICT")
    (hop,) = explain(seen, origin="batch-1", body="hello").hops
    assert hop.reason is None


def test_past_its_sidecar(seen):
    """A connection that comes to a pod past the caller's sidecar is told with the Sidecar that hides the Service."""
    first, *_ = explain(seen, connection("mongo-1", IN, PROGRAM, cluster=INBOUND), body=LINE).hops
    assert (first.pod, first.notes[0]) == ("shop-1", "Sidecar/near does not let the sidecar know mongo")


def test_registry_only(seen):
    """A connection to what the sidecar does not know is told with the Sidecar that has it refused."""
    record = connection("shop-1", OUT, "", "UH", cluster="BlackHoleCluster")
    (hop,) = explain(seen, record, host="www.example.com").hops
    assert hop.reason == "no ServiceEntry names www.example.com, and Sidecar/near lets calls go to known hosts alone"
    assert hop.decided_by.name == "near"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x.org", "no server of the gateway is for the server name x.org at port 443, only shop.example.com"),
        (
            "",
            "no server of the gateway is for a call without a server name at port 443, only shop.example.com; "
            "-H 'Host: NAME' gives one",
        ),
        ("a.b.org", "Gateway/pass has a.b.org at port 443, but no tls rule is for it"),
        (None, None),
    ],
)
def test_a_server_name_that_a_gateway_does_not_have(seen, name, reason):
    """A gateway that closed a connection by TLS has no server for the name that was asked for."""
    server = {"port": {"number": 443, "protocol": "TLS"}, "tls": {"mode": "PASSTHROUGH"}, "hosts": ["shop/*.b.org"]}
    passing = manifest(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "pass"},
            "spec": {"servers": [server]},
        }
    )
    gateway = Gateway("edge", "edge", "10.0.0.9", "10.96.0.9", {}, "default", "edge", (443,), (passing,))
    place = Place("edge", 443, is_program=False, hosts=("shop.example.com",))
    scene = dataclasses.replace(
        seen, cluster=dataclasses.replace(seen.cluster, gateways=(gateway,)), places={"127.0.0.1:8443": place}
    )
    call = Call("1", "GET", "https://x.org/", None, None, 1.0)
    record = connection("edge", "127.0.0.1:8443", "", "NR", cluster="")
    (hop,) = connection_hops(call, [record], scene, name)
    assert (hop.kind, hop.reason) == ("gateway", reason)


def test_tls_that_failed(seen):
    """A connection that ends since TLS to the pod fails is told with Envoy's reason."""
    record = dataclasses.replace(connection("shop-1", OUT, IN, "UF"), tls_failure="WRONG_VERSION_NUMBER")
    (hop,) = explain(seen, record).hops
    assert hop.reason == "TLS failed: WRONG_VERSION_NUMBER"


def test_nobody_there(seen):
    """Where no pod takes connections that is told, and of an end without a reason nothing is."""
    (hop,) = explain(seen, connection("shop-1", OUT, "", "UH")).hops
    assert hop.reason.startswith("no healthy pod: ")
    for record in (
        connection("shop-1", OUT, NOBODY),
        connection("shop-1", OUT, "", "UH", cluster="PassthroughCluster"),
    ):
        (hop,) = explain(seen, record).hops
        assert hop.reason is None


@pytest.mark.parametrize(
    ("body", "pod"), [("mongo v1 on mongo-0", "mongo-0"), ("hello", None), ("mongo v2 on mongo-0", None)]
)
def test_a_stand_in_without_a_sidecar(seen, body, pod):
    """A stand-in is known by its line alone, and other answers are nobody's."""
    found = explain(seen, connection("shop-1", OUT, NOBODY), body=body)
    assert [hop.pod for hop in found.hops if hop.kind == "application"] == ([pod] if pod else [])


@pytest.mark.parametrize(
    ("upstreams", "expected"), [([], False), ([IN], False), ([IN, PROGRAM], True), ([NOBODY], True), ([""], True)]
)
def test_how_far_it_is_followed(seen, upstreams, expected):
    """A connection goes on where it leads to a sidecar, which logs it as well."""
    assert is_followed([connection("shop-1", OUT, each) for each in upstreams], seen) == expected
