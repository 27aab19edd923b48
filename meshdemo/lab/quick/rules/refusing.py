"""The one way to refuse what only --istiod applies."""

from __future__ import annotations

from meshdemo.lab.files.manifests import ManifestError

#: How a refusal ends of what Istio takes, and this engine does not do exactly.
ISTIOD = "--istiod applies it, or says why Istio does not"


def refused(place: str, problem: str = "is not supported by the quick engine") -> ManifestError:
    """Return the error for what Istio takes, and this engine does not do."""
    return ManifestError(place, f"{problem}: {ISTIOD}")
