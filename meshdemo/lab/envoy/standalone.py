"""Envoy configuration for an Envoy that has neither Istio's agent beside it nor Istio's filters in it.

Routes and certificates come from the lab's control plane, and what only Istio's build has is left out.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshdemo.lab.engine import Resource
from meshdemo.lab.envoy.xds.control_plane import ADS

#: The fields of Envoy's configuration that name a certificate to show, and one to trust.
SHOWN = "tls_certificate_sds_secret_configs"
TRUSTED = "validation_context_sds_secret_config"
# What the names of filters begin with that only Istio's own build of Envoy has.
_ISTIO_ONLY = "istio."
# The one of them that Envoy's own can do: it says in TLS that HTTP is spoken, by which the pod that is called knows it
# where its port does not say it (Istio, alpnFilter). Clusters that lead to sidecars have in their metadata how.
_ALPN = "istio.alpn"
_FILTER_STATE = "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config"
_PROTOCOLS = ("meshdemo", "alpn")
# Without http/1.1, which the pod's sidecar would take for a promise also where HTTP/2 is spoken.
_HTTP = "istio-http/1.1,istio"
# How a certificate authority in a file is named, and the one that stands for those of the system (Istio, pkg/security,
# SdsCertificateConfig).
_FILE_ROOT = "file-root:"
_FILE_CERTIFICATE = "file-cert:"
# How an identity's own certificate is named.
_OWN = "default"
_SYSTEM_ROOTS = "system"


@dataclass(frozen=True)
class Credential:
    """A certificate to show, with its key, or one to trust, without, in PEM."""

    certificate: bytes
    key: bytes | None = None


@dataclass(frozen=True)
class Secrets:
    """The certificate and key of an identity, the authority's certificate, and those of Secrets by name."""

    own: Credential
    root: bytes
    named: Mapping[str, Credential] = field(default_factory=dict)


def adapt(value: Any) -> Any:
    """Return a part that takes the rest from the control plane, without what this Envoy lacks."""
    if isinstance(value, list):
        return [adapt(each) for each in map(_in_envoys_terms, value) if not _is_istio_only(each)]
    if not isinstance(value, dict):
        return value
    value = {key: inner for key, inner in value.items() if not key.startswith(_ISTIO_ONLY)}
    if "rds" in value:
        value["rds"] = {**value["rds"], "config_source": ADS}
    if SHOWN in value:
        value[SHOWN] = [{**each, "sds_config": ADS} for each in value[SHOWN]]
    if TRUSTED in value:
        value[TRUSTED] = {**value[TRUSTED], "sds_config": ADS}
    return {key: adapt(inner) for key, inner in value.items()}


def _in_envoys_terms(part: Any) -> Any:
    """Return a filter of Istio's as one that Envoy has, where there is one; all else as it is."""
    if not isinstance(part, dict) or part.get("name") != _ALPN or "typed_config" not in part:
        return part
    said = {"text_format_source": {"inline_string": f"%METADATA(CLUSTER:{':'.join(_PROTOCOLS)})%"}}
    kept = {
        "object_key": "envoy.network.application_protocols",
        "format_string": {**said, "omit_empty_values": True},
        "skip_if_empty": True,
    }
    return {
        "name": "envoy.filters.http.set_filter_state",
        "typed_config": {"@type": _FILTER_STATE, "on_request_headers": [kept]},
    }


def with_protocols(cluster: Resource) -> Resource:
    """Return a cluster that has in its metadata how TLS with sidecars says that HTTP is spoken; others as they are."""
    sockets = [each.get("transport_socket", {}) for each in (cluster, *cluster.get("transport_socket_matches", ()))]
    contexts = [each.get("typed_config", {}).get("common_tls_context", {}) for each in sockets]
    if not any("istio" in each.get("alpn_protocols", ()) for each in contexts):
        return cluster
    metadata = cluster.get("metadata", {})
    name, key = _PROTOCOLS
    filters = {**metadata.get("filter_metadata", {}), name: {key: _HTTP}}
    return {**cluster, "metadata": {**metadata, "filter_metadata": filters}}


def _is_istio_only(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get("name", "")).startswith(_ISTIO_ONLY)


def secret_names(value: Any) -> Iterator[tuple[str, str]]:
    """Return which field of a configuration names which secret."""
    if isinstance(value, list):
        for inner in value:
            yield from secret_names(inner)
    elif isinstance(value, dict):
        for field_name, inner in value.items():
            if field_name in (SHOWN, TRUSTED):
                yield from ((field_name, each["name"]) for each in (inner if isinstance(inner, list) else [inner]))
            else:
                yield from secret_names(inner)


def secret(field_name: str, name: str, secrets: Secrets) -> Resource:
    """Return the secret that a field names: one of the files, a file itself, or the identity's own and its root."""
    if field_name == SHOWN:
        if name.startswith(_FILE_CERTIFICATE):
            chain, _, key = name.removeprefix(_FILE_CERTIFICATE).partition("~")
            pair = {"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}
        else:
            shown = secrets.own if name == _OWN else secrets.named[name]
            pair = {"certificate_chain": _inline(shown.certificate), "private_key": _inline(shown.key or b"")}
        return {"name": name, "tls_certificate": pair}
    if name.startswith(_FILE_ROOT):
        path = name.removeprefix(_FILE_ROOT)
        trusted: Resource = {"filename": _system_roots() if path == _SYSTEM_ROOTS else path}
    else:
        trusted = _inline(secrets.named[name].certificate if name in secrets.named else secrets.root)
    return {"name": name, "validation_context": {"trusted_ca": trusted}}


def _system_roots() -> str:
    """Return the file of the certificates that machines trust."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH  # which takes its time, and few labs ask for it

    return str(DEFAULT_CA_BUNDLE_PATH)


def _inline(value: bytes) -> Resource:
    return {"inline_bytes": base64.b64encode(value).decode()}
