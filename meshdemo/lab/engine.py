"""The seam: what an engine makes of a cluster. Nothing above an engine knows which one it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from meshdemo.lab.cluster.model import Cluster

#: A resource in the JSON form of Envoy's API, with the addresses that a cluster would have.
Resource = dict[str, Any]


@dataclass(frozen=True)
class Resources:
    """What the Envoy of one pod or gateway gets: lists of Listener, RouteConfiguration, Cluster, ClusterLoadAssignment.

    Names are Istio's: listeners `0.0.0.0_80` and `virtualInbound`, routes `80`, clusters
    `outbound|80|v1|webserver.default.svc.cluster.local`. Listeners name their routes (`rds`), clusters of type EDS
    have their endpoints in `endpoints`, where every pod stands, ready or not.
    """

    listeners: Sequence[Resource] = ()
    routes: Sequence[Resource] = ()
    clusters: Sequence[Resource] = ()
    endpoints: Sequence[Resource] = ()


@dataclass(frozen=True)
class NotInForce:
    """A policy (`Manifest.id`) that is not in force, or one part of it, such as `spec.http[1]`, and why.

    `needs_istiod`: Istio would apply it, and this engine does not.
    """

    policy: tuple[str, str, str, str]
    part: str
    reason: str
    needs_istiod: bool = False


@dataclass(frozen=True)
class Configuration:
    """Resources by the name of the pod or gateway; what was not applied, and what there is to say, as lines.

    `not_in_force` has what an engine knows beyond what the order of policies says to both (see precedence.py).
    """

    resources: Mapping[str, Resources]
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = field(default=())
    not_in_force: tuple[NotInForce, ...] = ()


class Engine(Protocol):
    """Turns policies into configuration."""

    @property
    def name(self) -> str:
        """Return what it is called, `quick` or `istiod`."""

    def configure(self, cluster: Cluster) -> Configuration:
        """Return the configuration of every pod in the mesh that needs one, and of every gateway.

        Raise ManifestError for a policy that cannot be, or that this engine does not apply exactly.
        """
