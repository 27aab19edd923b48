"""What can be called, and how it is called, without a word of what carries it out.

All hosts are full names; durations are seconds, shares are percentages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshdemo.lab.files.kinds import ISTIO, NAMESPACE

#: How a host is looked up whose callers look it up themselves, so that their connections go to the address they found.
CALLER = "caller"


@dataclass(frozen=True)
class Cookie:
    """A cookie that callers are told apart by; with `seconds` it is given to those that have none."""

    name: str
    path: str = ""
    seconds: float | None = None
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Hashing:
    """By what calls are kept together, at most one of these, and how: by a ring of some size or by Maglev's table."""

    header: str | None = None
    parameter: str | None = None
    cookie: Cookie | None = None
    source_address: bool | None = None
    ring_size: int = 1024
    table_size: int | None = None


@dataclass(frozen=True)
class Warmup:
    """How long a new endpoint takes to get its full share; a deprecated field says nothing more."""

    seconds: float
    percent: float | None = None
    aggression: float | None = None


@dataclass(frozen=True)
class Balancing:
    """How calls are spread."""

    policy: str = ""
    hashing: Hashing | None = None
    warmup: Warmup | None = None


@dataclass(frozen=True)
class Pool:
    """Limits on connections and calls; 0 and None mean none."""

    max_connections: int = 0
    max_pending: int = 0
    max_requests: int = 0
    max_retries: int = 0
    max_requests_per_connection: int = 0
    connect_seconds: float | None = None
    idle_seconds: float | None = None
    connection_seconds: float | None = None
    keepalive: Mapping[str, int] | None = None
    #: Whether something is said of HTTP/2, which makes no difference where it is not spoken.
    names_http2: bool = False


@dataclass(frozen=True)
class OutlierDetection:
    """When an endpoint is left out for a while; None means that nothing is said."""

    errors_5xx: int | None = None
    gateway_errors: int | None = None
    local_failures: int | None = None
    split_local: bool = False
    interval_seconds: float | None = None
    ejection_seconds: float | None = None
    max_percent: int = 0
    min_health_percent: int = 0


@dataclass(frozen=True)
class RetryBudget:
    """The share of calls that may be retries at a time."""

    percent: float | None = None
    min_concurrency: int = 0
    interval_seconds: float | None = None


@dataclass(frozen=True)
class TrafficPolicy:
    """How a destination is called. `ports` has what replaces it for single ports."""

    pool: Pool | None = None
    outliers: OutlierDetection | None = None
    balancing: Balancing | None = None
    retry_budget: RetryBudget | None = None
    ports: Mapping[int, TrafficPolicy] = field(default_factory=dict)

    @property
    def passes_through(self) -> bool:
        """Return whether calls go on to the address that the caller chose, whichever endpoints there are."""
        return self.balancing is not None and self.balancing.policy == "PASSTHROUGH"


@dataclass(frozen=True)
class Subset:
    """The endpoints of a host that have these labels."""

    name: str
    labels: Mapping[str, str]
    policy: TrafficPolicy | None


@dataclass(frozen=True)
class HostPolicy:
    """What a DestinationRule says about a host, maybe with a wildcard."""

    name: str
    place: str
    host: str
    policy: TrafficPolicy | None
    subsets: tuple[Subset, ...]
    is_private: bool = False

    @property
    def path(self) -> str:
        """Return the path of the object in the API of Kubernetes."""
        return f"/apis/{ISTIO}/v1/namespaces/{NAMESPACE}/destination-rule/{self.name}"


@dataclass(frozen=True)
class Endpoint:
    """An address behind a host: of a pod, or a name to be looked up."""

    address: str
    port: int
    labels: Mapping[str, str]
    weight: int = 1


@dataclass(frozen=True)
class HostPort:
    """A port of a host where HTTP is spoken, and what is behind it."""

    number: int
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True)
class Host:
    """Something that can be called: a Service, or a host of a ServiceEntry.

    `names` are all the names and addresses it is called by, the full one first. `lookup`: its endpoints are names,
    all of whose addresses count (all), or one at a time (one), or it is what the caller looks up (CALLER); empty for
    addresses. `prefers_near`: callers prefer endpoints near them. `is_private`: only its own namespace knows it.
    `has_outsiders`: some of its pods are not in the mesh.
    """

    name: str
    names: tuple[str, ...]
    ports: tuple[HostPort, ...]
    lookup: str = ""
    prefers_near: bool = False
    is_private: bool = False
    has_outsiders: bool = False

    def port(self, number: int) -> HostPort | None:
        """Return a port by its number."""
        return next((port for port in self.ports if port.number == number), None)
