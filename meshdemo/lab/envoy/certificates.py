"""Certificates as Istio's control plane issues them: one authority for each start, one for each service account.

They are in memory alone: Envoys get them from the control plane.
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshdemo.lab.envoy.standalone import Credential, Secrets

TRUST_DOMAIN = "cluster.local"
# A certificate is valid for a day, and renewed after half of it; the authority outlives every lab (Istio, "Security:
# PKI", and pkg/security, SecretRotationGracePeriodRatio).
_VALID = datetime.timedelta(days=1)
_AUTHORITY_VALID = datetime.timedelta(days=3650)
# The clocks of two processes on one machine agree; a certificate is still valid a little before it was made.
_BEFORE = datetime.timedelta(minutes=2)


class Authority:
    """An authority, and the certificates that it has issued."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, TRUST_DOMAIN)])
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            self._builder(self._name, self._key, _AUTHORITY_VALID)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self._root = certificate.public_bytes(serialization.Encoding.PEM)
        self._issued: dict[str, Secrets] = {}
        self._renew_at: datetime.datetime | None = None

    def secrets(self, namespace: str, service_account: str) -> Secrets:
        """Return those of an identity, `spiffe://cluster.local/ns/NAMESPACE/sa/ACCOUNT`, made at first use."""
        identity = f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{service_account}"
        if identity not in self._issued:
            self._issued[identity] = self._issue(identity)
            if self._renew_at is None:
                self._renew_at = datetime.datetime.now(datetime.UTC) + _VALID / 2
        return self._issued[identity]

    def renew(self) -> bool:
        """Forget what it has issued when the first of it has passed half of its life; return whether that was so."""
        if self._renew_at is None or datetime.datetime.now(datetime.UTC) < self._renew_at:
            return False
        self._issued.clear()
        self._renew_at = None
        return True

    def _issue(self, identity: str) -> Secrets:
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            self._builder(x509.Name([]), key, _VALID)
            # Critical, since there is no subject (SPIFFE, "X.509-SVID", 3).
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Secrets(Credential(certificate.public_bytes(serialization.Encoding.PEM), private), self._root)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, valid: datetime.timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BEFORE)
            .not_valid_after(now + valid)
        )
