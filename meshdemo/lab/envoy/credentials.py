"""Certificates from the Secrets in the files, for the gateways that show them and the hosts that are trusted by them.

Keys of a Secret, and where one is looked for, are those of Istio's control plane (pilot/pkg/credentials/kube).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.envoy.standalone import TRUSTED, Credential, secret_names
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.manifest import Manifest

_SCHEMES = ("kubernetes://", "kubernetes-gateway://", "configmap://")
_AUTHORITY_SUFFIX = "-cacert"
_PAIRS = (("cert", "key"), ("tls.crt", "tls.key"))
_AUTHORITIES = ("cacert", "ca.crt")
_NOT_ENCODED = {True: "is not encoded in base64", False: "is not Unicode text"}


def credentials(configuration: Any, namespace: str, cluster: Cluster) -> Mapping[str, Credential]:
    """Return what every Secret holds that the configuration of a pod or gateway of `namespace` names, by that name.

    Raise ManifestError for one that is not there, or holds no certificate.
    """
    return {
        name: Credential(*_look_up(name, namespace, cluster, trusted=field == TRUSTED))
        for field, name in sorted(set(secret_names(configuration)))
        if name.startswith(_SCHEMES)
    }


def check_texts(cluster: Cluster) -> None:
    """Raise ManifestError for a Secret or ConfigMap that an API server refuses."""
    for manifest in cluster.others:
        if manifest.group == "" and manifest.kind in ("Secret", "ConfigMap"):
            _texts(manifest)


def _look_up(name: str, namespace: str, cluster: Cluster, *, trusted: bool) -> list[bytes]:
    """Return the certificate that a name such as `kubernetes://NAMESPACE/NAME` means, and its key if it has one."""
    scheme, _, rest = name.partition("://")
    inner, slash, short = rest.partition("/")
    namespace, short = (inner, short) if slash else (namespace, rest)
    kind = "ConfigMap" if scheme == "configmap" else "Secret"
    names = (short, short.removesuffix(_AUTHORITY_SUFFIX)) if trusted else (short,)
    for each in names:
        wanted = ("", kind, namespace, each)
        manifest = next((manifest for manifest in cluster.others if manifest.id == wanted), None)
        if manifest is not None:
            texts = _texts(manifest)
            choices = tuple((key,) for key in _AUTHORITIES) if trusted else _PAIRS
            keys = next((keys for keys in choices if all(texts.get(key) for key in keys)), None)
            if keys is None:
                names_of_keys = " or ".join(" and ".join(keys) for keys in choices)
                raise ManifestError(f"{manifest.place}: data", f"has no {names_of_keys}")
            return _checked(f"{manifest.place}: data", keys, [texts[key] for key in keys])
    problem = f"there is no {kind} {names[-1]} in namespace {namespace}, where it is looked for"
    raise ManifestError(_who_asks(names, cluster), problem)


def _texts(manifest: Manifest) -> dict[str, bytes]:
    """Return what a Secret or ConfigMap holds; plain text counts more than what is encoded."""
    is_secret = manifest.kind == "Secret"
    texts = {}
    for field, is_encoded in {"data": is_secret, "stringData" if is_secret else "binaryData": not is_secret}.items():
        values = manifest.document.get(field) or {}
        if not isinstance(values, dict):
            raise ManifestError(f"{manifest.place}: {field}", "is not an object")
        for key, text in values.items():
            if not isinstance(text, str):
                raise ManifestError(f"{manifest.place}: {field}.{key}", "is not a string: put it in quotes")
            try:
                texts[key] = (
                    base64.b64decode(re.sub(r"[\r\n]", "", text), validate=True) if is_encoded else text.encode()
                )
            except ValueError:  # of which that of base64 is one, and that of a text that has no encoding
                raise ManifestError(f"{manifest.place}: {field}.{key}", _NOT_ENCODED[is_encoded]) from None
    return texts


def _checked(place: str, keys: tuple[str, ...], values: list[bytes]) -> list[bytes]:
    """Return a certificate and its key, or raise ManifestError for what Envoy could not load."""
    try:
        certificates = x509.load_pem_x509_certificates(values[0])
    except ValueError:
        raise ManifestError(f"{place}.{keys[0]}", "is not a certificate in PEM") from None
    if len(keys) > 1:
        try:
            key = serialization.load_pem_private_key(values[1], None)
        except (ValueError, TypeError):
            raise ManifestError(f"{place}.{keys[1]}", "is not a private key in PEM without a password") from None
        if key.public_key() != certificates[0].public_key():
            raise ManifestError(f"{place}.{keys[1]}", f"is not the key of {keys[0]}")
    return values


def _who_asks(names: tuple[str, ...], cluster: Cluster) -> str:
    """Return the place of the policy that names a Secret."""
    for manifest in cluster.policies:
        if any(f'"{name}"' in json.dumps(manifest.document, default=str) for name in names):
            return manifest.place
    return f"the policies about {names[0]}"
