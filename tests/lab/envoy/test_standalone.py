"""Configuration for an Envoy without Istio's agent and Istio's filters."""

import base64

import pytest
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from meshdemo.lab.envoy.standalone import (
    SHOWN,
    TRUSTED,
    Credential,
    Secrets,
    adapt,
    secret,
    secret_names,
    with_protocols,
)
from meshdemo.lab.envoy.xds.control_plane import ADS


def test_filters_of_istio_are_left_out():
    """Filters and settings that only Istio's build has are left out, all others stay."""
    found = adapt(
        {"filters": [{"name": "istio.stats"}, {"name": "envoy.a"}], "per_filter": {"istio.x": 1, "envoy.y": 2}}
    )
    assert found == {"filters": [{"name": "envoy.a"}], "per_filter": {"envoy.y": 2}}


def test_what_http_is_spoken():
    """The filter that says in TLS that HTTP is spoken is one of Envoy's own; clusters that lead to sidecars say how."""
    config = {"@type": "type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"}
    (found,) = adapt([{"name": "istio.alpn", "typed_config": config}])
    (kept,) = found["typed_config"]["on_request_headers"]
    assert found["name"] == "envoy.filters.http.set_filter_state"
    assert kept["object_key"] == "envoy.network.application_protocols"
    assert kept["format_string"]["text_format_source"]["inline_string"] == "%METADATA(CLUSTER:meshdemo:alpn)%"

    def cluster(*protocols):
        socket = {"typed_config": {"common_tls_context": {"alpn_protocols": list(protocols)}}}
        return {"transport_socket_matches": [{"transport_socket": socket}], "metadata": {"filter_metadata": {"a": {}}}}

    metadata = with_protocols(cluster("istio-peer-exchange", "istio"))["metadata"]
    assert metadata == {"filter_metadata": {"a": {}, "meshdemo": {"alpn": "istio-http/1.1,istio"}}}
    assert with_protocols(cluster("h2")) == cluster("h2")


def test_sources():
    """Routes and certificates come from the control plane."""
    sds = {"name": "default", "sds_config": {"api_config_source": {}}}
    found = adapt(
        {
            "rds": {"route_config_name": "80", "config_source": {"api_config_source": {}}},
            "tls": [{SHOWN: [sds]}, {"combined_validation_context": {TRUSTED: sds}}],
        }
    )
    assert found["rds"] == {"route_config_name": "80", "config_source": ADS}
    own = {"name": "default", "sds_config": ADS}
    assert found["tls"] == [{SHOWN: [own]}, {"combined_validation_context": {TRUSTED: own}}]
    assert sorted(secret_names(found)) == [(SHOWN, "default"), (TRUSTED, "default")]


def inline(value):
    return {"inline_bytes": base64.b64encode(value).decode()}


SECRETS = Secrets(
    Credential(b"chain", b"key"),
    b"root",
    {"kubernetes://mine": Credential(b"c", b"k"), "kubernetes://mine-cacert": Credential(b"a")},
)


@pytest.mark.parametrize(
    ("name", "chain", "key"),
    [
        ("default", inline(b"chain"), inline(b"key")),
        ("kubernetes://mine", inline(b"c"), inline(b"k")),
        ("file-cert:/etc/c.pem~/etc/k.pem", {"filename": "/etc/c.pem"}, {"filename": "/etc/k.pem"}),
    ],
)
def test_certificates(name, chain, key):
    """A certificate is the identity's own, one in a Secret, or one that is named as a file."""
    expected = {"name": name, "tls_certificate": {"certificate_chain": chain, "private_key": key}}
    assert secret(SHOWN, name, SECRETS) == expected


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("ROOTCA", inline(b"root")),
        ("kubernetes://mine-cacert", inline(b"a")),
        ("file-root:system", {"filename": DEFAULT_CA_BUNDLE_PATH}),
        ("file-root:/etc/ca.pem", {"filename": "/etc/ca.pem"}),
    ],
)
def test_authorities(name, root):
    """Whom to trust is the lab's own authority, one in a Secret, the system's, or one that is named as a file."""
    assert secret(TRUSTED, name, SECRETS) == {"name": name, "validation_context": {"trusted_ca": root}}
