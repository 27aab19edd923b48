"""Which rules are for which hosts, for a sidecar and for a gateway, as Istio decides it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from meshdemo.lab.files.kinds import NAMESPACE
from meshdemo.lab.quick.rules.destinations import Host
from meshdemo.lab.quick.rules.hosts import intersection, is_wildcard, specificity, subset_of
from meshdemo.lab.quick.rules.model import MESH, Destination, Match, Route, Rule, RuleSet, Server, Target, VirtualHost
from meshdemo.lab.quick.rules.refusing import missing
from meshdemo.lab.quick.rules.registry import Registry


@dataclasses.dataclass(frozen=True)
class Caller:
    """Whose calls are routed: a pod or a gateway."""

    namespace: str
    labels: Mapping[str, str]


def ordered(rule_sets: Iterable[RuleSet]) -> list[RuleSet]:
    """Return rules in the order in which they count for one host.

    What is not exported, then HTTPRoutes, then the rest, by name (PushContext.VirtualServicesForGateway,
    SelectVirtualServices); a cluster puts the older one first, here all are of the same age.
    """
    return sorted(rule_sets, key=lambda each: (not each.is_private, not each.of_gateway_api, each.name))


def routes(rule_set: RuleSet, caller: Caller, port: int, gateway: str, *, over_tls: bool = False) -> tuple[Route, ...]:
    """Return the routes of rules for a caller at a port (route.go, BuildHTTPRoutesForVirtualService).

    What follows a match that takes every call is left out.
    """
    found: list[Route] = []
    for rule in rule_set.rules:
        for match in rule.matches or (None,):
            if match is None or _applies(match, caller, port, gateway):
                found.append(Route(rule, match, port, rule_set.of_gateway_api, gateway != MESH, over_tls))
                if match is None or match.is_catch_all:
                    return tuple(found)
    return tuple(found)


def _applies(match: Match, caller: Caller, port: int, gateway: str) -> bool:
    """Return whether a match can be for this caller at all (route.go, sourceMatchHTTP)."""
    if match.port not in (0, port):
        return False
    if match.gateways:
        return gateway in match.gateways
    same = match.source_labels.items() <= dict(caller.labels).items()
    return same and match.source_namespace in ("", caller.namespace)


def sidecar_hosts(registry: Registry, rule_sets: Sequence[RuleSet], caller: Caller, port: int) -> list[VirtualHost]:
    """Return the virtual hosts of a sidecar at a port (httproute.go, BuildSidecarOutboundVirtualHosts)."""
    rule_sets = [rule_set for rule_set in rule_sets if MESH in rule_set.gateways]
    here = {name.lower(): host for name, host in registry.hosts.items() if host.port(port)}
    owners = {name: _owner(name, rule_sets) for name in here}
    found: list[tuple[str, Host | None, tuple[Route, ...]]] = []
    with_rules: set[str] = set()
    for rule_set in rule_sets:
        services, others = _split(rule_set, owners)
        # Hosts that are in no registry are known at port 80 alone, or at a port of another host of the same rules.
        if not services and (port != 80 or rule_set.of_gateway_api):
            continue
        chosen = routes(rule_set, caller, port, MESH)
        if not chosen:
            continue
        found += [(host, None, chosen) for host in others]
        found += [(host, here[host], chosen) for host in services]
        with_rules.update(services)
    for name, host in here.items():
        if name not in with_rules:
            target = Target(Destination(host.name, port=port))
            default = Route(Rule("default", targets=(target,)), None, port, is_default=True)
            found.append((name, host, (default,)))
    return _named(found, port)


def _owner(name: str, rule_sets: Iterable[RuleSet]) -> RuleSet | None:
    """Return the first rules for the most specific name of a host (computeWildcardHostVirtualServiceIndex)."""
    pairs = [(host, each) for each in rule_sets for host in each.hosts if subset_of(name, host)]
    return min(pairs, key=lambda pair: specificity(pair[0]))[1] if pairs else None


def _split(rule_set: RuleSet, owners: Mapping[str, RuleSet | None]) -> tuple[list[str], list[str]]:
    """Return which known hosts rules are for, and which of their hosts are none (separateVSHostsAndServices).

    A name with a wildcard is for those hosts that no closer name has.
    """
    services: list[str] = []
    others: list[str] = []
    for host in sorted((host.lower() for host in rule_set.hosts), key=is_wildcard):
        known = [name for name in owners if subset_of(name, host)]
        if not known:
            others.append(host)
        services += [name for name in known if not is_wildcard(host) or owners[name] is rule_set]
    return services, others


def _named(found: Iterable[tuple[str, Host | None, tuple[Route, ...]]], port: int) -> list[VirtualHost]:
    """Return virtual hosts without the names that others have already; the first counts."""
    virtual_hosts: dict[str, VirtualHost] = {}
    taken: set[str] = set()
    for name, host, chosen in found:
        key = f"{name}:{port}"
        domains = [each for each in (host.names if host else (name,)) if each.lower() not in taken]
        if key not in virtual_hosts and domains:
            virtual_hosts[key] = VirtualHost(key, tuple(domains), chosen)
            taken.update(each.lower() for each in domains)
    return sorted(virtual_hosts.values(), key=lambda each: each.name)


def check_hosts(rule_set: RuleSet, registry: Registry, gateways: Collection[str]) -> None:
    """Refuse gateways that do not exist, and hosts that sidecars would not know as they are meant."""
    for index, gateway in enumerate(rule_set.gateways):
        if gateway not in (MESH, *gateways):
            names = [name.removeprefix(f"{NAMESPACE}/") for name in gateways]
            name = gateway.removeprefix(f"{NAMESPACE}/")
            raise missing(f"{rule_set.place}.gateways[{index}]", "no Gateway of Istio has the name", name, names)
    for index, host in enumerate(rule_set.hosts if MESH in rule_set.gateways else ()):
        if is_wildcard(host):
            continue
        if host.endswith(".svc.cluster.local") or (host not in registry.hosts and _is_short(host)):
            registry.find(host, f"{rule_set.place}.hosts[{index}]")


def _is_short(host: str) -> bool:
    """Return whether a name looks like that of a Service, though Istio takes it for another host."""
    return host.endswith((".default", ".default.svc", ".svc"))


def destinations_of(rule_sets: Iterable[RuleSet]) -> Iterator[Destination]:
    """Yield where rules send calls and copies of them."""
    for rule in (rule for rule_set in rule_sets for rule in rule_set.rules):
        yield from (each.destination for each in rule.targets)
        yield from (each.destination for each in rule.mirrors)


def gateway_hosts(
    servers: Sequence[Server], rule_sets: Sequence[RuleSet], caller: Caller, port: int
) -> list[VirtualHost]:
    """Return the virtual hosts of a gateway at a port (gateway.go, buildGatewayHTTPRouteConfig)."""
    found: dict[str, list[Route]] = {}
    https_only: set[str] = set()
    known: dict[tuple[str, str], tuple[Route, ...]] = {}
    for server in servers:
        for rule_set in rule_sets:
            if server.gateway not in rule_set.gateways:
                continue
            common = intersection(server.hosts, rule_set.hosts)
            key = (server.gateway, rule_set.name)
            if common and key not in known:
                known[key] = routes(rule_set, caller, port, server.gateway, over_tls=server.names_tls)
            chosen = known[key] if common else ()
            for host in common if chosen else ():
                found.setdefault(host.lower(), []).extend(chosen)
                if server.https_only:
                    https_only.add(host.lower())
        for host in server.hosts if server.https_only else ():
            found.setdefault(host.lower(), [])
            https_only.add(host.lower())
    if not found:
        return [VirtualHost(f"blackhole:{port}", ("*",), ())]
    return sorted(_collapsed(found, https_only, port), key=lambda each: each.name)


def _collapsed(found: Mapping[str, list[Route]], https_only: set[str], port: int) -> list[VirtualHost]:
    """Return one virtual host for all hosts with the same routes (collapseDuplicateRoutes, SortVHostRoutes)."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for host in sorted(found, key=specificity):
        groups.setdefault((host in https_only, *map(id, found[host])), []).append(host)
    return [
        VirtualHost(
            name=f"{hosts[0]}:{port}",
            domains=tuple(hosts),
            routes=tuple(sorted(found[hosts[0]], key=lambda route: route.match is None or route.match.is_catch_all)),
            https_only=hosts[0] in https_only,
        )
        for hosts in groups.values()
    ]
