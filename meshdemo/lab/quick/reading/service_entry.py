"""Reading ServiceEntries of HTTP hosts outside the mesh (Istio, "Service Entry" reference; ValidateServiceEntry)."""

from __future__ import annotations

import ipaddress

from meshdemo.lab.files.documents import shown
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.files.schema import Anything, Fields, Integer, List, Map, Object, Text, read
from meshdemo.lab.quick.reading import fields as kinds
from meshdemo.lab.quick.reading.fields import Some, Unsupported
from meshdemo.lab.quick.rules.destinations import CALLER, Endpoint, Host, HostPort
from meshdemo.lab.quick.rules.hosts import is_wildcard
from meshdemo.lab.quick.rules.refusing import refused

_LOOKUPS = {"STATIC": "", "DNS": "all", "DNS_ROUND_ROBIN": "one", "NONE": CALLER}
_SCHEMA = Object(
    {
        "hosts": List(kinds.HostName(wildcard=True), least=1, most=256),
        "addresses": List(Text()),
        "ports": List(
            Object(
                {"number": kinds.PORT, "name": kinds.NAME, "protocol": Some(known=("HTTP",)), "targetPort": kinds.PORT},
                ("number", "name"),
            )
        ),
        "location": Text(("MESH_EXTERNAL", "MESH_INTERNAL")),
        "resolution": Some((*_LOOKUPS, "DYNAMIC_DNS"), known=tuple(_LOOKUPS)),
        "endpoints": List(
            Object(
                {
                    "address": Text(),
                    "ports": Map(kinds.PORT),
                    "labels": kinds.LABELS,
                    "weight": Integer(0, 2**32 - 1),
                    "network": Unsupported(),
                    "locality": Unsupported(),
                    "serviceAccount": Anything(),
                },
                ("address",),
            )
        ),
        "workloadSelector": Unsupported(),
        "subjectAltNames": Unsupported(([],)),
        "exportTo": kinds.EXPORT_TO,
    },
    ("hosts",),
)


def read_service_entry(manifest: Manifest) -> list[Host]:
    """Return the hosts of a ServiceEntry, where only plain HTTP is spoken."""
    spec = read(manifest, _SCHEMA)
    names = [port["name"] for port in spec["ports"]]
    numbers = [port["number"] for port in spec["ports"]]
    for what, values in (("name", names), ("number", numbers)):
        if len(set(values)) < len(values):
            raise spec.error("ports", f"has the same {what} twice")
    for port in spec["ports"]:
        if port["protocol"] is None:
            raise refused(f"{port.place}.protocol", "is missing, so that it is guessed from the name, or from calls")
        if port["targetPort"] and spec["resolution"] in (None, "NONE"):
            raise refused(
                f"{port.place}.targetPort", "is another port than the one that is called, with resolution NONE"
            )
    lookup = _LOOKUPS[spec["resolution"] or "NONE"]
    addresses = [address.removesuffix("/32") for address in spec["addresses"]]
    for index, address in enumerate(addresses):
        if not (_is_address(address) or _is_range(address)):
            raise refused(f"{spec.place}.addresses[{index}]", f"{shown(address)} is not an IPv4 address or range")
    if addresses and len(addresses) + len(spec["hosts"]) > 2:
        problem = "Istio gives only one of several hosts only one of several addresses, by chance"
        raise refused(f"{spec.place}.addresses", problem)
    if lookup == CALLER and spec["endpoints"]:
        raise spec.error("endpoints", "is not allowed with resolution NONE")
    if lookup == "one" and len(spec["endpoints"]) > 1:
        raise spec.error("endpoints", "has more than one, for resolution DNS_ROUND_ROBIN")
    for index, host in enumerate(spec["hosts"]):
        if host == "*":
            raise spec.error(f"hosts[{index}]", "'*' is every host, which none can be")
        if is_wildcard(host) and lookup != CALLER:
            raise refused(f"{spec.place}.hosts[{index}]", f"{shown(host)} is a wildcard, which is none here")
        if host.endswith(".svc.cluster.local"):
            raise refused(f"{spec.place}.hosts[{index}]", f"{shown(host)} is a name as Services have it")
    for endpoint in spec["endpoints"]:
        _check(endpoint, lookup, names)
    return [
        Host(
            name=host,
            names=(host, f"{host}.", *addresses),
            ports=tuple(HostPort(port["number"], _endpoints(spec, host, port)) for port in spec["ports"]),
            lookup=lookup,
            is_private=kinds.is_private(spec),
        )
        for host in dict.fromkeys(spec["hosts"])
    ]


def _check(endpoint: Fields, lookup: str, names: list[str]) -> None:
    address = endpoint["address"]
    if not _is_address(address):
        if not lookup:
            raise endpoint.error("address", f"{shown(address)} is not an IPv4 address, for resolution STATIC")
        kinds.HostName().parse(address, f"{endpoint.place}.address")
    for name in endpoint["ports"]:
        if name not in names:
            raise endpoint.error(f"ports.{name}", "is not the name of one of the ports")


def _endpoints(spec: Fields, host: str, port: Fields) -> tuple[Endpoint, ...]:
    """Return what is behind a port of a host: the endpoints, or else the host itself, as far as that is known."""
    if spec["resolution"] in (None, "NONE"):
        return ()
    target = port["targetPort"] or port["number"]
    if not spec["endpoints"] and spec["resolution"] != "STATIC":
        return (Endpoint(host, target, {}),)
    return tuple(
        Endpoint(
            endpoint["address"],
            endpoint["ports"].get(port["name"], target),
            endpoint["labels"],
            endpoint["weight"] or 1,
        )
        for endpoint in spec["endpoints"]
    )


def _is_address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False


def _is_range(text: str) -> bool:
    try:
        return ipaddress.ip_network(text).version == 4
    except ValueError:
        return False
