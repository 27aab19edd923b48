"""Certificates for gateways where the files hold no Secret at all: dumps and repositories rightly have none."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from meshdemo.lab.cluster.model import Cluster, Gateway
from meshdemo.lab.envoy.certificates import Authority
from meshdemo.lab.envoy.standalone import Secrets
from meshdemo.lab.files.kinds import ISTIO
from meshdemo.lab.files.manifest import Manifest


class StandInSecrets:
    """One certificate of the lab's own, as long as it runs, for each Secret that a Gateway names."""

    @cached_property
    def _certificate(self) -> Secrets:
        return Authority().secrets("default", "stand-in")

    def added_to(self, cluster: Cluster) -> Cluster:
        """Return the cluster with the Secrets that its Gateways name, and a note, unless the files hold any Secret."""
        if any(each.group == "" and each.kind == "Secret" for each in cluster.others):
            return cluster
        asked = {
            (namespace, name): manifest
            for gateway in cluster.gateways
            for manifest in gateway.manifests
            for namespace, name in _named_by(manifest, gateway)
        }
        if not asked:
            return cluster
        secrets = [self._secret(*of, manifest) for of, manifest in asked.items()]
        names = ", ".join(each.label for each in secrets)
        note = f"stood in for by a certificate of the lab's own, since the files hold no Secret: {names}"
        return dataclasses.replace(cluster, others=(*cluster.others, *secrets), notes=(*cluster.notes, note))

    def _secret(self, namespace: str, name: str, asked_by: Manifest) -> Manifest:
        own = self._certificate.own
        texts = {"tls.crt": own.certificate, "tls.key": own.key or b"", "ca.crt": self._certificate.root}
        document = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(text).decode() for key, text in texts.items()},
        }
        return Manifest(asked_by.path, asked_by.line, "", "v1", "Secret", name, document)


def _named_by(manifest: Manifest, gateway: Gateway) -> Iterator[tuple[str, str]]:
    """Yield namespace and name of each Secret whose certificate a Gateway shows, as far as it says that at all."""
    is_istio = manifest.group == ISTIO
    for listener in _dicts(manifest.spec.get("servers" if is_istio else "listeners")):
        tls = listener.get("tls")
        if not isinstance(tls, dict):
            continue
        if is_istio and isinstance(tls.get("credentialName"), str):
            yield gateway.namespace, tls["credentialName"]
        for reference in _dicts(None if is_istio else tls.get("certificateRefs")):
            name, namespace = reference.get("name"), reference.get("namespace", manifest.namespace)
            if reference.get("kind", "Secret") == "Secret" and isinstance(name, str) and isinstance(namespace, str):
                yield namespace, name


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    yield from (each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()
