"""Certificates as Istio's control plane issues them."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from meshdemo.lab.envoy import certificates
from meshdemo.lab.envoy.certificates import Authority


@pytest.fixture
def authority():
    return Authority()


def test_an_identity(authority):
    """A certificate has the identity as its only name, is valid for a day, and its authority signed it."""
    secrets = authority.secrets("default", "proxy")
    root = x509.load_pem_x509_certificate(secrets.root)
    certificate = x509.load_pem_x509_certificate(secrets.own.certificate)
    certificate.verify_directly_issued_by(root)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://cluster.local/ns/default/sa/proxy"
    ]
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds() == 86400 + 120
    key = serialization.load_pem_private_key(secrets.own.key, None)
    assert key.public_key() == certificate.public_key()


def test_identities(authority):
    """An identity is made once, others are others, and all have one authority."""
    first, other = authority.secrets("default", "proxy"), authority.secrets("default", "webserver")
    assert authority.secrets("default", "proxy") is first
    assert first.own.key != other.own.key
    assert first.root == other.root


def test_renewal(authority, monkeypatch):
    """After half of its life a certificate is made anew by the same authority, which outlives it, and not before."""
    first = authority.secrets("default", "proxy")
    assert not authority.renew()
    assert authority.secrets("default", "proxy") is first
    monkeypatch.setattr(certificates, "_VALID", datetime.timedelta(0))
    authority = Authority()
    first = authority.secrets("default", "proxy")
    assert authority.renew()
    assert not authority.renew()
    second = authority.secrets("default", "proxy")
    assert second.own != first.own
    assert second.root == first.root
    root = x509.load_pem_x509_certificate(first.root)
    assert root.not_valid_after_utc - root.not_valid_before_utc > datetime.timedelta(days=365)
