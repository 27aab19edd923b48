"""Certificates in Secrets, for gateways."""

import base64
import dataclasses

import pytest
from istiod_support import self_signed
from lab_support import manifest

from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.envoy.credentials import SHOWN, TRUSTED, check_texts, credentials
from meshdemo.lab.files.manifests import ManifestError

CERTIFICATE, KEY = self_signed("demo.example.com")
_, OTHER_KEY = self_signed("demo.example.com")
NOTHING = Cluster((), (), (), (), ())


def encoded(**values):
    return {name.replace("_", "."): base64.b64encode(value).decode() for name, value in values.items()}


def cluster(kind="Secret", name="demo", namespace="istio-system", **fields):
    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, **fields}
    return dataclasses.replace(NOTHING, others=(manifest(document),))


def find(names, cluster, folder, field=SHOWN, namespace="istio-system"):
    configuration = [{"chains": [{"tls": {field: [{"name": name} for name in names]}}]}]
    return credentials(configuration, namespace, cluster, folder)


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        ("kubernetes://demo", "istio-system"),
        ("kubernetes://istio-system/demo", "default"),
        ("kubernetes-gateway://istio-system/demo", "default"),
    ],
)
@pytest.mark.parametrize(
    "fields",
    [
        {"data": encoded(tls_crt=CERTIFICATE, tls_key=KEY)},
        {"data": encoded(cert=CERTIFICATE, key=KEY)},
        {
            "data": {**encoded(tls_crt=CERTIFICATE), "tls.key": "x"[:0]},
            "stringData": {"tls.key": KEY.decode()},
        },
    ],
    ids=["tls", "generic", "text"],
)
def test_a_certificate_to_show(tmp_path, name, namespace, fields):
    """A Secret is found by the names that Istio has for it; its key is nobody else's to read."""
    found = find([name], cluster(**fields), tmp_path, namespace=namespace)[name]
    assert (found.certificate.read_bytes(), found.key.read_bytes()) == (CERTIFICATE, KEY)
    assert found.key.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("secret", ["demo", "demo-cacert"])
@pytest.mark.parametrize("key", ["ca_crt", "cacert"])
def test_a_certificate_to_trust(tmp_path, secret, key):
    """An authority's certificate stands in the same Secret, or in one of its own."""
    name = "kubernetes://demo-cacert"
    found = find([name], cluster(name=secret, data=encoded(**{key: CERTIFICATE})), tmp_path, TRUSTED)[name]
    assert found.certificate.read_bytes() == CERTIFICATE
    assert found.key is None


def test_an_authority_in_a_config_map(tmp_path):
    """The Gateway API takes an authority's certificate from a ConfigMap, which holds plain text."""
    name = "configmap://default/demo-cacert"
    given = cluster("ConfigMap", namespace="default", data={"ca.crt": CERTIFICATE.decode()})
    assert find([name], given, tmp_path, TRUSTED)[name].certificate.read_bytes() == CERTIFICATE


def test_others_are_not_looked_up(tmp_path):
    """What is no Secret is none: an identity of the mesh, a file."""
    assert find(["default", "file-cert:a~b"], NOTHING, tmp_path) == {}


def test_a_change_has_other_files(tmp_path):
    """Another content has files of its own, and the same content the same ones."""
    first = cluster(data=encoded(cert=CERTIFICATE, key=KEY))
    certificate, key = self_signed("demo.example.com")
    other = cluster(data=encoded(cert=certificate, key=key))
    one, two, again = (find(["kubernetes://demo"], given, tmp_path) for given in (first, other, first))
    assert one == again != two


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (cluster(namespace="default"), "there is no Secret demo in namespace istio-system"),
        (cluster("ConfigMap"), "there is no Secret demo in namespace istio-system"),
        (cluster(), "Secret/demo: data: has no cert and key or tls.crt and tls.key"),
        (cluster(data=encoded(cert=CERTIFICATE)), "Secret/demo: data: has no cert and key or tls.crt and tls.key"),
        (cluster(data=encoded(cert=KEY, key=KEY)), "Secret/demo: data.cert: is not a certificate in PEM"),
        (cluster(data=encoded(cert=CERTIFICATE, key=b"x")), "Secret/demo: data.key: is not a private key in PEM"),
        (cluster(data=encoded(cert=CERTIFICATE, key=OTHER_KEY)), "Secret/demo: data.key: is not the key of cert"),
    ],
)
def test_what_is_no_certificate(tmp_path, given, problem):
    """What Envoy could not load is said with its place."""
    with pytest.raises(ManifestError, match=problem):
        find(["kubernetes://demo"], given, tmp_path)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (cluster(data={"a": "!secret!"}), "Secret/demo: data.a: is not encoded in base64"),
        (cluster(data={"a": 1}), "Secret/demo: data.a: is not a string: put it in quotes"),
        (cluster(data=["a"]), "Secret/demo: data: is not an object"),
        (cluster(stringData={"a": "\ud800"}), "Secret/demo: stringData.a: is not Unicode text"),
        (cluster("ConfigMap", binaryData={"a": "!secret!"}), "ConfigMap/demo: binaryData.a: is not encoded in base64"),
    ],
)
def test_what_an_api_server_refuses(given, problem):
    """What cannot be stored is refused, and what it holds is not shown."""
    with pytest.raises(ManifestError, match=problem) as caught:
        check_texts(given)
    assert "secret!" not in str(caught.value)
