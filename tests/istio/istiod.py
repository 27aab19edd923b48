"""Asking Istio's own control plane, as the lab does: the program that `meshdemo istiod build` makes."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.engine import Configuration
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.istiod import Istiod, build

(MODULE,) = re.findall(r"^\tistio.io/istio (\S+)$", (Path(build.__file__).parent / "go.mod").read_text(), re.MULTILINE)
VERSION = f"{build.ISTIO_VERSION} ({MODULE})"


@functools.cache
def _engine() -> Istiod:
    return Istiod()


def istiod(cluster: Cluster) -> Configuration:
    """Return what Istio gives each pod and gateway; raise ManifestError with Istio's reason for what it refuses."""
    try:
        return _configure(cluster)
    except ManifestError as error:
        # Without the place, which has the path of a checkout.
        raise ManifestError("Istio", re.sub(r"^.*?\.yaml: \S+: ", "", str(error))) from None


def _configure(cluster: Cluster, tries: int = 3) -> Configuration:
    """Ask again where the machine has so much else to do that no answer came in time."""
    try:
        return _engine().configure(cluster)
    except ManifestError as error:
        if "gave no answer" not in str(error) or tries == 1:
            raise
    return _configure(cluster, tries - 1)
