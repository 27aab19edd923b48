"""What rules about calls mean, whatever kind they were written in, and without a word of what carries it out.

An HTTPRoute becomes the same as a VirtualService here, as Istio itself does it (pilot/pkg/config/kube/gateway). All
hosts are full names; durations are seconds, shares are percentages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: What a VirtualService calls all sidecars among its gateways.
MESH = "mesh"
#: How often a call is repeated where no rule says so (retry.go, DefaultPolicy), or an HTTPRoute gives no number.
DEFAULT_RETRIES = 2


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
    """Where a call goes. Without a port it is the one that was called; at a gateway the only one of the host, if so.

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
class Share:
    """A share of the calls; `is_whole` is one that can only be whole percents."""

    percent: float
    is_whole: bool = False


#: What a share is where nothing is said of it.
ALL = Share(100, is_whole=True)


@dataclass(frozen=True)
class Mirror:
    """A copy of a share of the calls; its answer is dropped."""

    destination: Destination
    share: Share = ALL


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
class Delay:
    """A share of the calls is held back."""

    seconds: float
    share: Share


@dataclass(frozen=True)
class Abort:
    """A share of the calls is answered with a status instead, none where no share is said."""

    status: int
    share: Share | None = None


@dataclass(frozen=True)
class Fault:
    """What the caller's side makes go wrong."""

    delay: Delay | None = None
    abort: Abort | None = None


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
class Server:
    """What a gateway takes calls for: a port, and hosts, maybe with a wildcard. `gateway` is named by RuleSets.

    `names_tls`: something is said of TLS, so that Istio takes its calls for https.
    """

    gateway: str
    port: int
    hosts: tuple[str, ...]
    https_only: bool = False
    names_tls: bool = False


@dataclass(frozen=True)
class Route:
    """A rule for the one match of it that counts (None: for every call), at the port that is called.

    `over_tls`: calls are taken for https where a redirect names no scheme.
    `is_default`: no policy says anything, calls go to the host itself.
    """

    rule: Rule
    match: Match | None
    port: int
    of_gateway_api: bool = False
    at_gateway: bool = False
    over_tls: bool = False
    is_default: bool = False


@dataclass(frozen=True)
class VirtualHost:
    """The routes for calls to some hosts, the first that matches counts; without any, the answer is 404."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    https_only: bool = False
