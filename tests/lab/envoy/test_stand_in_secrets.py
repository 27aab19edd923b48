"""Certificates for gateways where the files hold no Secret."""

import pytest
import yaml
from cryptography import x509

from meshdemo.lab.cluster.gateways import read_gateways
from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.envoy.credentials import credentials
from meshdemo.lab.envoy.stand_in_secrets import StandInSecrets
from meshdemo.lab.envoy.standalone import SHOWN, TRUSTED
from meshdemo.lab.files.manifests import Loader

ISTIO = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: web}\n"
GATEWAY_API = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: api, namespace: edge}\n"
OTHER = "apiVersion: v1\nkind: Secret\nmetadata: {name: other}\n"


@pytest.fixture
def read(tmp_path):
    """Return a function that reads objects into a cluster without pods."""

    def start(*documents):
        (tmp_path / "files.yaml").write_text("---\n".join(documents))
        manifests, _ = Loader([tmp_path / "files.yaml"]).load()
        policies = [each for each in manifests if each.kind == "Gateway"]
        others = tuple(each for each in manifests if each.kind != "Gateway")
        return Cluster((), (), (), tuple(read_gateways(policies)), tuple(policies), others=others)

    return start


def servers(*tls):
    return ISTIO + "spec:\n  servers: " + yaml.safe_dump([{"tls": each} for each in tls], default_flow_style=True)


def listeners(*references):
    each = [{"tls": {"certificateRefs": list(references)}}]
    return GATEWAY_API + "spec:\n  listeners: " + yaml.safe_dump(each, default_flow_style=True)


def names_of(cluster):
    return [each.label for each in cluster.others]


def test_each_secret_that_a_gateway_names(read):
    """Once where several servers name it, in the namespace where Istio looks for it, and that is said in a note."""
    wanted = [{"credentialName": "a", "mode": "SIMPLE"}, {"credentialName": "a"}, {"credentialName": "b"}]
    found = StandInSecrets().added_to(read(servers(*wanted), listeners({"name": "c"}, {"name": "d", "namespace": "x"})))
    assert names_of(found) == ["Secret/a.istio-system", "Secret/b.istio-system", "Secret/c.edge", "Secret/d.x"]
    (note,) = found.notes
    assert note.endswith("hold no Secret: Secret/a.istio-system, Secret/b.istio-system, Secret/c.edge, Secret/d.x")


def test_the_certificate_is_one_to_show_and_to_trust(read):
    """It can be shown with its key, there is an authority for clients, and a later reading has the same."""
    stand_ins, given = StandInSecrets(), read(servers({"credentialName": "a", "mode": "MUTUAL"}))
    first, second = stand_ins.added_to(given), stand_ins.added_to(given)
    own = credentials({SHOWN: [{"name": "kubernetes://a"}]}, "istio-system", first)
    trusted = credentials({TRUSTED: {"name": "kubernetes://a-cacert"}}, "istio-system", first)
    (certificate,) = x509.load_pem_x509_certificates(own["kubernetes://a"].certificate)
    (authority,) = x509.load_pem_x509_certificates(trusted["kubernetes://a-cacert"].certificate)
    certificate.verify_directly_issued_by(authority)
    assert first.others == second.others


@pytest.mark.parametrize(
    "documents",
    [
        (servers({"credentialName": "a"}), OTHER),
        (servers({"mode": "PASSTHROUGH"}, {"mode": "ISTIO_MUTUAL"}),),
        (servers({"credentialName": ["a"]}, "a", None),),
        (listeners({"name": 1}, {"name": "a", "kind": "ConfigMap"}, {"name": "a", "namespace": []}, "a"),),
        (ISTIO + "spec: {servers: {}}\n", GATEWAY_API + "spec: {listeners: 1}\n"),
    ],
)
def test_what_stays_as_it_is(read, documents):
    """Files that hold any Secret are to hold all; what names none needs none, whatever else is wrong with it."""
    given = read(*documents)
    assert StandInSecrets().added_to(given) is given
