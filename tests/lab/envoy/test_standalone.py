"""Configuration for an Envoy without Istio's agent and Istio's filters."""

from pathlib import Path

import pytest
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from meshdemo.lab.envoy.credentials import Credential
from meshdemo.lab.envoy.standalone import Secrets, Standalone, passthrough

TCP_PROXY = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def standalone(secrets=None, passes_through=False):
    return Standalone(lambda name: {"file": name}, secrets, passes_through)


def test_filters_of_istio_are_left_out():
    """Filters and settings that only Istio's build has are left out, all others stay."""
    found = standalone().adapt(
        {"filters": [{"name": "istio.stats"}, {"name": "envoy.a"}], "per_filter": {"istio.x": 1, "envoy.y": 2}}
    )
    assert found == {"filters": [{"name": "envoy.a"}], "per_filter": {"envoy.y": 2}}


def test_routes_are_files():
    """A route comes from its file."""
    found = standalone().adapt({"rds": {"route_config_name": "80", "config_source": {"ads": {}}}})
    assert found == {"rds": {"route_config_name": "80", "config_source": {"file": "80"}}}


def test_certificates_are_files(tmp_path):
    """Certificates come from files: the identity's own, one in a Secret, and one that is named as a file."""
    named = {
        "kubernetes://mine": Credential(tmp_path / "c", tmp_path / "k"),
        "kubernetes://mine-cacert": Credential(tmp_path / "a"),
    }
    secrets = Secrets(tmp_path / "chain", tmp_path / "key", tmp_path / "root", named)

    def adapted(*names, trusted="ROOTCA"):
        value = {
            "tls_certificate_sds_secret_configs": [{"name": name} for name in names],
            "combined_validation_context": {
                "default_validation_context": {"match": 1},
                "validation_context_sds_secret_config": {"name": trusted},
            },
        }
        return standalone(secrets).adapt(value)

    own = adapted("default")
    assert own["tls_certificates"][0]["certificate_chain"] == {"filename": str(tmp_path / "chain")}
    assert own["validation_context"] == {"match": 1, "trusted_ca": {"filename": str(tmp_path / "root")}}
    found = adapted("kubernetes://mine", "file-cert:/etc/c.pem~/etc/k.pem", trusted="kubernetes://mine-cacert")
    assert [each["private_key"]["filename"] for each in found["tls_certificates"]] == [
        str(tmp_path / "k"),
        "/etc/k.pem",
    ]
    assert found["tls_certificates"][1]["certificate_chain"] == {"filename": "/etc/c.pem"}
    assert found["validation_context"]["trusted_ca"] == {"filename": str(tmp_path / "a")}


@pytest.mark.parametrize(
    ("name", "root"),
    [("ROOTCA", "root"), ("file-root:system", DEFAULT_CA_BUNDLE_PATH), ("file-root:/etc/ca.pem", "/etc/ca.pem")],
)
def test_authorities_are_files(tmp_path, name, root):
    """Whom to trust comes from a file: the lab's own authority, the system's, or a named one."""
    value = {
        "combined_validation_context": {
            "default_validation_context": {"match": 1},
            "validation_context_sds_secret_config": {"name": name, "sds_config": {}},
        }
    }
    secrets = Secrets(tmp_path / "chain", tmp_path / "key", Path("root"))
    found = {"validation_context": {"match": 1, "trusted_ca": {"filename": root}}}
    assert standalone(secrets).adapt(value) == found
    if name != "ROOTCA":
        assert standalone().adapt(value) == found


def test_outside_hosts_are_looked_up():
    """Where calls pass through, Envoy looks hosts up before it routes, at the listener's port; nothing elsewhere."""
    tcp = {"name": "tcp", "typed_config": {"@type": TCP_PROXY, "cluster": "PassthroughCluster"}}
    other = {"name": "tcp", "typed_config": {"@type": TCP_PROXY, "cluster": "BlackHoleCluster"}}
    manager = {"name": "http", "typed_config": {"http_filters": [{"name": "r", "typed_config": {"@type": ROUTER}}]}}
    listener = {"filter_chains": [{"filters": [manager]}, {"filters": [tcp]}], "default": {"filters": [other]}}
    assert standalone().with_lookup(listener, 8443) == listener
    found = standalone(passes_through=True).with_lookup(listener, 8443)
    (http,) = found["filter_chains"][0]["filters"]
    names = [each["name"] for each in http["typed_config"]["http_filters"]]
    assert names == ["envoy.filters.http.dynamic_forward_proxy", "r"]
    lookup, last = found["filter_chains"][1]["filters"]
    assert (lookup["typed_config"]["port_value"], last) == (8443, tcp)
    assert found["default"] == {"filters": [other]}


def test_the_passthrough_cluster():
    """The cluster that passes on to an address becomes one that passes on to a host's name."""
    found = passthrough({"name": "PassthroughCluster", "type": "ORIGINAL_DST", "connect_timeout": "10s"})
    assert found["cluster_type"]["name"] == "envoy.clusters.dynamic_forward_proxy"
    assert "type" not in found
