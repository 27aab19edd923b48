"""Certificates in Secrets, for gateways."""

import base64
import dataclasses

import pytest
from istiod_support import self_signed
from lab_support import manifest

from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.envoy.credentials import check_texts, credentials
from meshdemo.lab.envoy.standalone import SHOWN, TRUSTED
from meshdemo.lab.files.errors import ManifestError

CERTIFICATE, KEY = self_signed("demo.example.com")
_, OTHER_KEY = self_signed("demo.example.com")
NOTHING = Cluster((), (), (), (), ())


def encoded(**values):
    return {name.replace("_", "."): base64.b64encode(value).decode() for name, value in values.items()}


def cluster(kind="Secret", name="demo", namespace="istio-system", **fields):
    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, **fields}
    return dataclasses.replace(NOTHING, others=(manifest(document),))


def find(names, cluster, field=SHOWN, namespace="istio-system"):
    configuration = [{"chains": [{"tls": {field: [{"name": name} for name in names]}}]}]
    return credentials(configuration, namespace, cluster)


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
def test_a_certificate_to_show(name, namespace, fields):
    """A Secret is found by the names that Istio has for it."""
    found = find([name], cluster(**fields), namespace=namespace)[name]
    assert (found.certificate, found.key) == (CERTIFICATE, KEY)


@pytest.mark.parametrize("secret", ["demo", "demo-cacert"])
@pytest.mark.parametrize("key", ["ca_crt", "cacert"])
def test_a_certificate_to_trust(secret, key):
    """An authority's certificate stands in the same Secret, or in one of its own."""
    name = "kubernetes://demo-cacert"
    found = find([name], cluster(name=secret, data=encoded(**{key: CERTIFICATE})), TRUSTED)[name]
    assert found.certificate == CERTIFICATE
    assert found.key is None


def test_an_authority_in_a_config_map():
    """The Gateway API takes an authority's certificate from a ConfigMap, which holds plain text."""
    name = "configmap://default/demo-cacert"
    given = cluster("ConfigMap", namespace="default", data={"ca.crt": CERTIFICATE.decode()})
    assert find([name], given, TRUSTED)[name].certificate == CERTIFICATE


def test_others_are_not_looked_up():
    """What is no Secret is none: an identity of the mesh, a file."""
    assert find(["default", "file-cert:a~b"], NOTHING) == {}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (cluster(namespace="default"), "there is no Secret demo in namespace istio-system"),
        (cluster("ConfigMap"), "there is no Secret demo in namespace istio-system"),
        (cluster(), "Secret/demo.istio-system: data: has no cert and key or tls.crt and tls.key"),
        (
            cluster(data=encoded(cert=CERTIFICATE)),
            "Secret/demo.istio-system: data: has no cert and key or tls.crt and tls.key",
        ),
        (cluster(data=encoded(cert=KEY, key=KEY)), "Secret/demo.istio-system: data.cert: is not a certificate in PEM"),
        (
            cluster(data=encoded(cert=CERTIFICATE, key=b"x")),
            "Secret/demo.istio-system: data.key: is not a private key in PEM",
        ),
        (
            cluster(data=encoded(cert=CERTIFICATE, key=OTHER_KEY)),
            "Secret/demo.istio-system: data.key: is not the key of cert",
        ),
    ],
)
def test_what_is_no_certificate(given, problem):
    """What Envoy could not load is said with its place."""
    with pytest.raises(ManifestError, match=problem):
        find(["kubernetes://demo"], given)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (cluster(data={"a": "!secret!"}), "Secret/demo.istio-system: data.a: is not encoded in base64"),
        (cluster(data={"a": 1}), "Secret/demo.istio-system: data.a: is not a string: put it in quotes"),
        (cluster(data=["a"]), "Secret/demo.istio-system: data: is not an object"),
        (cluster(stringData={"a": "\ud800"}), "Secret/demo.istio-system: stringData.a: is not Unicode text"),
        (
            cluster("ConfigMap", binaryData={"a": "!secret!"}),
            "ConfigMap/demo.istio-system: binaryData.a: is not encoded in base64",
        ),
    ],
)
def test_what_an_api_server_refuses(given, problem):
    """What cannot be stored is refused, and what it holds is not shown."""
    with pytest.raises(ManifestError, match=problem) as caught:
        check_texts(given)
    assert "secret!" not in str(caught.value)
