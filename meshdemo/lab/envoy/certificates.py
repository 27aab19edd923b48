"""Certificates as Istio's control plane issues them: one authority for each start, one for each service account.

The key pair and the certificate of an identity are files in the lab's folder, and end with it.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshdemo.lab.envoy.standalone import Secrets

TRUST_DOMAIN = "cluster.local"
_VALID = datetime.timedelta(days=1)
# The clocks of two processes on one machine agree; a certificate is still valid a little before it was made.
_BEFORE = datetime.timedelta(minutes=2)


class Authority:
    """An authority whose certificates are valid for a day (Istio, "Security: PKI")."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(mode=0o700, exist_ok=True)
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
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self._root = self._folder / "root.pem"
        self._root.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._issued: dict[str, Secrets] = {}

    def secrets(self, namespace: str, service_account: str) -> Secrets:
        """Return the files of an identity, `spiffe://cluster.local/ns/NAMESPACE/sa/ACCOUNT`, made at first use."""
        identity = f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{service_account}"
        if identity not in self._issued:
            self._issued[identity] = self._issue(identity, len(self._issued))
        return self._issued[identity]

    def _issue(self, identity: str, number: int) -> Secrets:
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            self._builder(x509.Name([]), key)
            # Critical, since there is no subject (SPIFFE, "X.509-SVID", 3).
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        secrets = Secrets(self._folder / f"{number}.pem", self._folder / f"{number}.key", self._root)
        secrets.chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        secrets.key.touch(mode=0o600)
        secrets.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return secrets

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BEFORE)
            .not_valid_after(now + _VALID)
        )
