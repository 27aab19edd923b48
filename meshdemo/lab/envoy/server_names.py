"""For which hosts a gateway's listener is: server names of TLS, else those of the requests that its routes are for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from meshdemo.lab.engine import Resource, Resources

_ANY = "*"


def hosts_of(listener: Resource, resources: Resources) -> tuple[str, ...]:
    """Return the hosts that a listener is for, in which a wildcard may stand first: `*.example.com`, or `*` for any."""
    domains = {each["name"]: list(_domains(each)) for each in resources.routes}
    found: list[str] = []
    for chain in listener.get("filter_chains", ()):
        found += server_names(chain)
        if not server_names(chain):
            managers = [each.get("typed_config", {}) for each in chain.get("filters", ())]
            routes = [name for each in managers for name in _route_names(each)]
            is_tls = "transport_socket" in chain
            found += [_ANY] if is_tls or not routes else [name for each in routes for name in domains.get(each, ())]
    return tuple(dict.fromkeys(found))


def server_names(chain: Resource) -> list[str]:
    """Return the server names that a filter chain is for alone; none where it is for any."""
    return [*(chain.get("filter_chain_match") or {}).get("server_names", ())]


def takes(hosts: Iterable[str], host: str) -> str | None:
    """Return the first of the hosts that fits one best: its own name, then the longest wildcard; None for none."""
    host = host.lower()
    fitting = [each for each in hosts if each.lower() == host or (each[:1] == _ANY and host.endswith(each[1:].lower()))]
    return min(fitting, key=lambda each: (each[:1] == _ANY, -len(each)), default=None)


def _domains(configuration: Resource) -> Iterator[str]:
    for host in configuration.get("virtual_hosts", ()):
        for domain in host["domains"]:
            yield domain.partition(":")[0]


def _route_names(manager: Any) -> Iterator[str]:
    if "rds" in manager:
        yield manager["rds"]["route_config_name"]
