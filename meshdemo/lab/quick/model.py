"""What the policies mean, whatever kind they were written in, and without a word of what carries it out.

An HTTPRoute becomes the same as a VirtualService here, as Istio itself does it (pilot/pkg/config/kube/gateway). All
hosts are full names; durations are seconds, shares are percentages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: What a VirtualService calls all sidecars among its gateways.
MESH = "mesh"


@dataclass(frozen=True)
class StringMatch:
    """What a text has to be: `kind` is exact, prefix, segments (a prefix of whole path segments), regex or present."""

    kind: str
    value: str = ""


@dataclass(frozen=True)
class Match:
    """What a call has to be like; what is None, 0 or empty holds for every call."""

    path: StringMatch | None = None
    ignore_case: bool = False
    headers: tuple[tuple[str, StringMatch], ...] = ()
    without_headers: tuple[tuple[str, StringMatch], ...] = ()
    parameters: tuple[tuple[str, StringMatch], ...] = ()
    method: StringMatch | None = None
    authority: StringMatch | None = None
    scheme: StringMatch | None = None
    port: int = 0
    gateways: tuple[str, ...] = ()
    source_labels: Mapping[str, str] = field(default_factory=dict)
    source_namespace: str = ""
    name: str = ""

    @property
    def is_catch_all(self) -> bool:
        """Return whether every call that arrives is taken, so that nothing after it is (route.go, IsCatchAllRoute)."""
        every_path = (None, StringMatch("prefix", "/"), StringMatch("regex", ".*"))
        conditions = (self.headers, self.without_headers, self.parameters, self.method, self.authority, self.scheme)
        return self.path in every_path and not any(conditions)


@dataclass(frozen=True)
class HeaderChanges:
    """Headers that are replaced, added and removed. `authority` is what the Host header becomes."""

    replaced: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    authority: str = ""


@dataclass(frozen=True)
class Headers:
    """Changes of a request and of its response."""

    request: HeaderChanges = HeaderChanges()
    response: HeaderChanges = HeaderChanges()


@dataclass(frozen=True)
class Destination:
    """Where a call goes. Without a port it is the only one of the host, else the one that was called.

    `place` is that of the field with its host.
    """

    host: str
    subset: str = ""
    port: int | None = None
    place: str = ""


@dataclass(frozen=True)
class Target:
    """One of the destinations of a rule, with its share by weight."""

    destination: Destination
    weight: int = 0
    headers: Headers = Headers()


@dataclass(frozen=True)
class Mirror:
    """A copy of a share of the calls; its answer is dropped. `whole_percent` is written without fractions."""

    destination: Destination
    percent: float = 100
    whole_percent: bool = False


@dataclass(frozen=True)
class Retry:
    """How often and when a call is repeated; no `attempts` means never, no `conditions` means Istio's own."""

    attempts: int
    conditions: tuple[str, ...] = ()
    codes: tuple[int, ...] = ()
    per_try_seconds: float | None = None
    backoff_seconds: float | None = None
    other_hosts: bool | None = None
    other_localities: bool = False


@dataclass(frozen=True)
class Rewrite:
    """What of a request is changed: its path (or a prefix of it), parts of it by a pattern, its Host."""

    prefix: str = ""
    pattern: str = ""
    substitution: str = ""
    authority: str = ""


@dataclass(frozen=True)
class Redirect:
    """An answer that sends the caller elsewhere. `port` is a number, or None for that of the scheme.

    `same_port` keeps the port that was called.
    """

    code: int
    path: str = ""
    prefix: str = ""
    authority: str = ""
    scheme: str = ""
    port: int | None = None
    same_port: bool = False


@dataclass(frozen=True)
class DirectResponse:
    """An answer without a call; `body` is a text, or bytes in base64."""

    status: int
    text: str | None = None
    base64: str | None = None


@dataclass(frozen=True)
class Fault:
    """Delays and aborts that the caller's side makes up. The whole percentages are those of a deprecated field."""

    delay_seconds: float | None = None
    delay_percent: float | None = None
    delay_whole_percent: int = 0
    abort_status: int | None = None
    abort_grpc_status: int | None = None
    abort_percent: float | None = None


@dataclass(frozen=True)
class Cors:
    """Which other origins a browser may call from."""

    origins: tuple[StringMatch, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age_seconds: int | None = None
    credentials: bool | None = None
    forward_unmatched: bool = True


@dataclass(frozen=True)
class Rule:
    """One rule: calls that are like one of `matches` (all of them where there is none) are treated so."""

    name: str = ""
    matches: tuple[Match, ...] = ()
    targets: tuple[Target, ...] = ()
    redirect: Redirect | None = None
    response: DirectResponse | None = None
    headers: Headers = Headers()
    rewrite: Rewrite | None = None
    mirrors: tuple[Mirror, ...] = ()
    retry: Retry | None = None
    timeout_seconds: float | None = None
    fault: Fault | None = None
    cors: Cors | None = None


@dataclass(frozen=True)
class RuleSet:
    """Rules in order, the hosts that they are for, and the gateways (or MESH) that apply them.

    `of_gateway_api`: it applies to Services only, and a call to a destination that does not exist gets 500.
    """

    name: str
    place: str
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    rules: tuple[Rule, ...]
    is_private: bool = False
    of_gateway_api: bool = False


@dataclass(frozen=True)
class Hashing:
    """By what calls are kept together, exactly one of these, and how: by a ring or by Maglev's table."""

    header: str | None = None
    parameter: str | None = None
    cookie: str | None = None
    cookie_path: str = ""
    cookie_seconds: float | None = None
    cookie_attributes: tuple[tuple[str, str], ...] = ()
    source_address: bool | None = None
    ring_size: int | None = None
    table_size: int | None = None


@dataclass(frozen=True)
class Balancing:
    """How calls are spread; `warmup_seconds` is how long a new endpoint takes to get its full share."""

    policy: str = ""
    hashing: Hashing | None = None
    warmup_seconds: float | None = None
    warmup_percent: float | None = None
    warmup_aggression: float | None = None


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
    all of whose addresses count (all), or one at a time (one); empty for addresses.
    """

    name: str
    names: tuple[str, ...]
    ports: tuple[HostPort, ...]
    lookup: str = ""

    def port(self, number: int) -> HostPort | None:
        """Return a port by its number."""
        return next((port for port in self.ports if port.number == number), None)


@dataclass(frozen=True)
class Server:
    """What a gateway takes calls for: a port, and hosts, maybe with a wildcard. `gateway` is named by RuleSets."""

    gateway: str
    port: int
    hosts: tuple[str, ...]
    https_only: bool = False


@dataclass(frozen=True)
class Route:
    """A rule for the one match of it that counts (None: for every call), at the port that is called.

    `is_default`: no policy says anything, calls go to the host itself.
    """

    rule: Rule
    match: Match | None
    port: int
    of_gateway_api: bool = False
    is_default: bool = False


@dataclass(frozen=True)
class VirtualHost:
    """The routes for calls to some hosts, the first that matches counts; without any, the answer is 404."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    https_only: bool = False
