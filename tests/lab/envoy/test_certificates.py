"""Certificates as Istio's control plane issues them."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from meshdemo.lab.envoy.certificates import Authority


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "certificates")


def test_an_identity(authority):
    """A certificate has the identity as its only name, is valid for a day, and its authority signed it."""
    secrets = authority.secrets("default", "proxy")
    root = x509.load_pem_x509_certificate(secrets.root.read_bytes())
    certificate = x509.load_pem_x509_certificate(secrets.chain.read_bytes())
    certificate.verify_directly_issued_by(root)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://cluster.local/ns/default/sa/proxy"
    ]
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds() == 86400 + 120
    key = serialization.load_pem_private_key(secrets.key.read_bytes(), None)
    assert key.public_key() == certificate.public_key()


def test_files(authority, tmp_path):
    """An identity is made once, others are others, and no other user can read a key."""
    first, other = authority.secrets("default", "proxy"), authority.secrets("default", "webserver")
    assert authority.secrets("default", "proxy") is first
    assert first.key.read_bytes() != other.key.read_bytes()
    assert first.root == other.root
    assert first.key.stat().st_mode & 0o077 == 0
    assert (tmp_path / "certificates").stat().st_mode & 0o077 == 0
