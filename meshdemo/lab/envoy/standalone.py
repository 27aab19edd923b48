"""Envoy configuration for an Envoy that has neither Istio's agent beside it nor Istio's filters in it.

Sources and certificates become files, what only Istio's build has is left out, and outside hosts, whose addresses a
caller in a cluster looks up itself, are looked up by Envoy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from meshdemo.lab.engine import Resource
from meshdemo.lab.envoy.credentials import SHOWN, TRUSTED, Credential

#: The cluster that leads to whatever address a caller chose.
PASSTHROUGH = "PassthroughCluster"
# What the names of filters begin with that only Istio's own build of Envoy has.
_ISTIO_ONLY = "istio."
# How a certificate authority in a file is named, and the one that stands for those of the system (Istio, pkg/security,
# SdsCertificateConfig).
_FILE_ROOT = "file-root:"
_FILE_CERTIFICATE = "file-cert:"
# How an identity's own certificate is named.
_OWN = "default"
_SYSTEM_ROOTS = "system"
_EXTENSIONS = "type.googleapis.com/envoy.extensions."
_DNS_CACHE: dict[str, Any] = {"dns_cache_config": {"name": "outside", "dns_lookup_family": "V4_PREFERRED"}}


@dataclass(frozen=True)
class Secrets:
    """Where the certificate and key of an identity are, the authority's certificate, and those of Secrets by name."""

    chain: Path
    key: Path
    root: Path
    named: Mapping[str, Credential] = field(default_factory=dict)


@dataclass(frozen=True)
class Standalone:
    """Adapts parts of a configuration. `route_source` gives the source of a route by its name."""

    route_source: Callable[[str], Resource]
    secrets: Secrets | None
    #: Whether there is a passthrough cluster.
    passes_through: bool

    def adapt(self, value: Any) -> Any:
        """Return a part with sources and certificates as files, and without what this Envoy lacks."""
        if isinstance(value, list):
            return [self.adapt(each) for each in value if not _is_istio_only(each)]
        if not isinstance(value, dict):
            return value
        value = {key: inner for key, inner in value.items() if not key.startswith(_ISTIO_ONLY)}
        if "rds" in value:
            name = value["rds"]["route_config_name"]
            value["rds"] = {"route_config_name": name, "config_source": self.route_source(name)}
        if SHOWN in value and self.secrets:
            value = _with_certificates(value, self.secrets)
        if "combined_validation_context" in value:
            value = _with_authorities(value, self.secrets)
        return {key: self.adapt(inner) for key, inner in value.items()}

    def with_lookup(self, value: Any, port: int) -> Any:
        """Add to a part of a listener for `port` what looks an outside host up.

        A cluster passes on to the address that the caller had looked up. Here the host of a request is looked up, or
        the server name of TLS; what has neither goes nowhere.
        """
        if not self.passes_through:
            return value
        if isinstance(value, dict):
            return {key: self.with_lookup(inner, port) for key, inner in value.items()}
        if not isinstance(value, list):
            return value
        result: list[Any] = []
        for each in value:
            kind = each.get("typed_config", {}).get("@type", "") if isinstance(each, dict) else ""
            if kind.endswith(".http.router.v3.Router"):
                kind_of_lookup = _EXTENSIONS + "filters.http.dynamic_forward_proxy.v3.FilterConfig"
                config: Resource = {"@type": kind_of_lookup, **_DNS_CACHE}
                result.append({"name": "envoy.filters.http.dynamic_forward_proxy", "typed_config": config})
            if kind.endswith(".TcpProxy") and each["typed_config"].get("cluster") == PASSTHROUGH:
                kind_of_lookup = _EXTENSIONS + "filters.network.sni_dynamic_forward_proxy.v3.FilterConfig"
                config = {"@type": kind_of_lookup, "port_value": port, **_DNS_CACHE}
                result.append({"name": "envoy.filters.network.sni_dynamic_forward_proxy", "typed_config": config})
            result.append(self.with_lookup(each, port))
        return result


def passthrough(cluster: Resource) -> Resource:
    """Return the passthrough cluster as one that looks hosts up."""
    config = {
        "@type": _EXTENSIONS + "clusters.dynamic_forward_proxy.v3.ClusterConfig",
        **_DNS_CACHE,
        # Plain text and TLS that the caller itself speaks go on as they are.
        "allow_insecure_cluster_options": True,
    }
    rest = {key: value for key, value in cluster.items() if key != "type"}
    kind = {"name": "envoy.clusters.dynamic_forward_proxy", "typed_config": config}
    return {**rest, "lb_policy": "CLUSTER_PROVIDED", "cluster_type": kind}


def _is_istio_only(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get("name", "")).startswith(_ISTIO_ONLY)


def _with_certificates(value: Resource, secrets: Secrets) -> Resource:
    """Take the certificates to show from files instead of from Istio's agent."""
    value = dict(value)
    pairs = [_certificate(each["name"], secrets) for each in value.pop(SHOWN)]
    value["tls_certificates"] = [
        {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}} for chain, key in pairs
    ]
    return value


def _certificate(name: str, secrets: Secrets) -> tuple[str | Path, str | Path | None]:
    """Return the files of a certificate and its key: those in a Secret, named files, or the identity's own."""
    if name.startswith(_FILE_CERTIFICATE):
        chain, _, key = name.removeprefix(_FILE_CERTIFICATE).partition("~")
        return chain, key
    if name == _OWN:
        return secrets.chain, secrets.key
    return secrets.named[name].certificate, secrets.named[name].key


def _with_authorities(value: Resource, secrets: Secrets | None) -> Resource:
    """Take the authorities to trust from a file: the one that is named, those of the system, or the lab's own."""
    value = dict(value)
    combined = value.pop("combined_validation_context")
    name = combined.get(TRUSTED, {}).get("name", "")
    if name.startswith(_FILE_ROOT):
        path = name.removeprefix(_FILE_ROOT)
        root = DEFAULT_CA_BUNDLE_PATH if path == _SYSTEM_ROOTS else path
    elif secrets is not None and name in secrets.named:
        root = str(secrets.named[name].certificate)
    elif secrets is not None:
        root = str(secrets.root)
    else:
        raise ValueError(f"no certificates for {name}")
    context = combined.get("default_validation_context", {})
    value["validation_context"] = {**context, "trusted_ca": {"filename": root}}
    return value
