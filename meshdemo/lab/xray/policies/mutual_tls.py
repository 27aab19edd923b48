"""Which PeerAuthentication has a pod take mutual TLS alone, so that a call in plain text ends without a word."""

from __future__ import annotations

from typing import Any

from meshdemo.lab.cluster.pods import Pod
from meshdemo.lab.files.kinds import SYSTEM
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.xray.facts.naming import Rule
from meshdemo.lab.xray.facts.scene import Scene


def strict(pod: Pod, port: int, scene: Scene) -> Rule | None:
    """Return the PeerAuthentication by which a pod takes mutual TLS alone at one of its ports; None where it does not.

    One with a selector counts before that of the namespace, and that before the mesh's; where one says no mode, the
    next one does. Of several for the same the oldest counts, here the first by name. Only one with a selector can say
    another mode for a port (Istio, pilot/pkg/security/authn, ComposePeerAuthentication).
    """
    if not pod.in_mesh:
        return None
    found = sorted(scene.policies_for(pod.name, "PeerAuthentication"), key=lambda each: each.name)
    selecting = [each for each in found if _selects(each) and each.namespace != SYSTEM][:1]
    own = [each for each in found if not _selects(each) and each.namespace != SYSTEM][:1]
    mesh = [each for each in found if not _selects(each) and each.namespace == SYSTEM][:1]
    of_ports = [(each, _of_port(each, port)) for each in selecting]
    of_all = [(each, each.spec.get("mtls")) for each in (*selecting, *own, *mesh)]
    for each, said in (*of_ports, *of_all):
        mode = (said or {}).get("mode", "UNSET")
        if mode != "UNSET":
            return scene.book.rule_of(each) if mode == "STRICT" else None
    return None


def _of_port(manifest: Manifest, port: int) -> Any:
    """Return what is said of a port, whose number may be written as a string."""
    ports = manifest.spec.get("portLevelMtls") or {}
    return next((said for number, said in ports.items() if str(number) == str(port)), None)


def _selects(manifest: Manifest) -> bool:
    return bool((manifest.spec.get("selector") or {}).get("matchLabels"))
