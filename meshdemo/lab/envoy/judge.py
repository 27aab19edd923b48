"""An Envoy that takes no calls: it says what Envoy accepts and what it does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from meshdemo.lab.engine import Resources
from meshdemo.lab.envoy.loopback import Local, Ports
from meshdemo.lab.envoy.outbound import outbound_names
from meshdemo.lab.envoy.sidecar import Sidecar
from meshdemo.lab.envoy.standalone import Secrets
from meshdemo.lab.envoy.xds.control_plane import ControlPlane, EnvoyError
from meshdemo.lab.envoy.xds.messages import MessageError


class Judge:
    """Runs from its first use until `close`, in a folder of its own in `folder`."""

    def __init__(self, folder: Path, process_group: int, plane: ControlPlane) -> None:
        self._folder = folder
        self._group = process_group
        self._plane = plane
        self._envoy: Sidecar | None = None

    def check(self, resources: Resources, apps: Sequence[int], secrets: Secrets | None, *, calls: bool) -> None:
        """Raise EnvoyError for what Envoy does not accept of a pod or gateway, with its reason.

        `apps` are the ports of its containers; without `calls` it calls nobody.
        """
        if self._envoy is None:
            self._envoy = Sidecar("judge", self._folder / "judge", self._group, lambda _: None, self._plane)
            self._envoy.start(Local(Resources(), Ports(), None), _anywhere)
            self._envoy.wait_until_ready()
        any_port = dict.fromkeys(apps, 0)
        ports = Ports(any_port, any_port, dict.fromkeys(outbound_names(resources) if calls else (), 0))
        try:
            snapshot = Local(resources, ports, secrets).snapshot(_anywhere)
        except MessageError as error:
            raise EnvoyError(f"Envoy does not accept this: {error}") from None
        if self._plane.change({self._envoy.subscriber: snapshot}):
            raise EnvoyError("Envoy has not judged this in time")

    def close(self) -> None:
        """End it."""
        if self._envoy:
            self._envoy.stop()


def _anywhere(_address: str, port: int) -> int:
    return port
