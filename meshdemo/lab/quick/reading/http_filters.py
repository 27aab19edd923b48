"""Reading the filters of HTTPRoutes, and the backends that rules and mirrors send calls to.

Each type's table stands with what is made of it (Gateway API, HTTPRoute specification v1; conversion.go of Istio).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from meshdemo.lab.files.documents import shown
from meshdemo.lab.files.kinds import NAMESPACE
from meshdemo.lab.files.schema import Boolean, Fields, Integer, List, Object, Record, Text, Type
from meshdemo.lab.quick.reading import fields as kinds
from meshdemo.lab.quick.reading.fields import Some, Unsupported
from meshdemo.lab.quick.rules.model import (
    Cors,
    Destination,
    HeaderChanges,
    Headers,
    Match,
    Mirror,
    Redirect,
    Rewrite,
    Share,
    StringMatch,
)
from meshdemo.lab.quick.rules.refusing import refused

HOSTNAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
NAME = Text(pattern=r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,256}", rule="the name of a header or parameter")
_HOST = Text(pattern=HOSTNAME, rule="a host name")
_VALUE = Text(pattern=r"[!-~]+([\t ][!-~]+)*", rule="a value in printable ASCII")
_ORIGIN = Text(
    pattern=r"\*|https?://((\*\.)?([a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+|\*)(:[0-9]{1,5})?",
    rule="an origin such as https://example.com",
)


def _changes(fields: Fields) -> HeaderChanges:
    """Return changes, the first of a name where there are several (headerListToMap); Host becomes the authority."""
    replaced, added = (dict(reversed(fields[key])) for key in ("set", "add"))
    authority = replaced.pop("host", "") or added.get("host", "")
    added.pop("host", None)
    removed = tuple(name for name in fields["remove"] if name.lower() != "host")
    return HeaderChanges(dict(sorted(replaced.items())), dict(sorted(added.items())), removed, authority)


def _pair(fields: Fields) -> tuple[str, str]:
    if "%" in fields["value"]:
        raise refused(f"{fields.place}.value", f"{shown(fields['value'])} holds a %, which Envoy takes for more")
    return fields["name"].lower(), fields["value"]


_PAIRS = List(Record({"name": NAME, "value": _VALUE}, ("name", "value"), _pair), most=16)
_CHANGES = Record({"set": _PAIRS, "add": _PAIRS, "remove": List(Text(), most=16)}, make=_changes)


def _new_path(fields: Fields) -> tuple[str, str]:
    """Return the kind and the value of a path that replaces another."""
    kind: str = fields["type"]
    name = kind[0].lower() + kind[1:]
    if fields.given != {"type", name}:
        raise fields.error(name, "is missing" if name not in fields.given else f"is all that goes with {kind}")
    if "\\" in fields[name]:
        raise fields.error(name, f"{shown(fields[name])} holds a backslash")
    return kind, fields[name]


def _redirect(fields: Fields) -> Redirect:
    kind, path = fields["path"] or ("", "")
    code = fields["statusCode"] or 302
    if code not in (301, 302, 303, 307, 308):
        raise fields.error("statusCode", f"{code} is not one of 301, 302, 303, 307, 308")
    return Redirect(
        code=code,
        path=path if kind == "ReplaceFullPath" else "",
        prefix=path if kind == "ReplacePrefixMatch" else "",
        authority=fields["hostname"] or "",
        scheme=fields["scheme"] or "",
        port=fields["port"],
        same_port=fields["port"] is None and fields["scheme"] is None,
    )


def _rewrite(fields: Fields) -> Rewrite:
    """Return what is rewritten (createRewriteFilter); the prefix `/` means that the matched one is removed."""
    kind, path = fields["path"] or ("", "")
    authority = fields["hostname"] or ""
    if kind == "ReplaceFullPath":
        return Rewrite(pattern="/.*", substitution=path, authority=authority)
    return Rewrite((path.removesuffix("/") or "/") if kind else "", authority=authority)


def removing(rewrite: Rewrite | None, match: Match) -> Rewrite | None:
    """Return a rewrite with the pattern that removes a match's prefix, and leaves one slash (route.go)."""
    if rewrite is None or rewrite.prefix != "/":
        return rewrite
    prefix = match.path.value if match.path and match.path.kind == "segments" else ""
    quoted = re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", prefix)
    return dataclasses.replace(rewrite, prefix="", pattern=f"^{quoted}(/?)(.*)", substitution=r"/\2")


def backend(fields: Fields) -> Destination:
    """Return where a backend sends calls."""
    return Destination(kinds.full_name(fields["name"]), port=fields["port"], place=f"{fields.place}.name")


def _mirror(fields: Fields) -> Mirror:
    percent, fraction = fields["percent"], fields["fraction"]
    if percent is not None and fraction is not None:
        raise fields.error("fraction", "cannot be combined with percent")
    if fraction is not None:
        whole = fraction["denominator"] or 100
        if fraction["numerator"] > whole:
            raise fields.error("fraction.numerator", f"is more than {whole}")
        return Mirror(fields["backendRef"], Share(100 * fraction["numerator"] / whole))
    return Mirror(fields["backendRef"]) if percent is None else Mirror(fields["backendRef"], Share(percent))


def _cors(fields: Fields) -> Cors:
    """Return which origins may call (createCorsFilter); the API server's default of maxAge is 5."""
    return Cors(
        origins=tuple(_origin(origin) for origin in fields["allowOrigins"]),
        methods=tuple(fields["allowMethods"]),
        headers=tuple(fields["allowHeaders"]),
        exposed=tuple(fields["exposeHeaders"]),
        max_age_seconds=5 if fields["maxAge"] is None else fields["maxAge"],
        credentials=True if fields["allowCredentials"] else None,
        forward_unmatched=False,
    )


def _origin(origin: str) -> StringMatch:
    if origin == "*":
        return StringMatch("regex", r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$")
    if "*" not in origin:
        return StringMatch("exact", origin)
    if origin.endswith("*"):
        return StringMatch("prefix", origin.removesuffix("*"))
    return StringMatch("regex", f"^{origin.replace('.', chr(92) + '.').replace('*', '.*')}$")


BACKEND: dict[str, Type] = {
    "group": Some(known=("",)),
    "kind": Some(known=("Service",)),
    "name": kinds.HOST_NAME,
    "namespace": Some(known=(NAMESPACE,)),
    "port": kinds.PORT,
}
_NEW_PATH = Record(
    {
        "type": Text(("ReplaceFullPath", "ReplacePrefixMatch")),
        "replaceFullPath": Text(),
        "replacePrefixMatch": Text(),
    },
    ("type",),
    _new_path,
)
_HEADER_FILTERS: dict[str, Type] = {"requestHeaderModifier": _CHANGES, "responseHeaderModifier": _CHANGES}
_FILTERS: dict[str, Type] = {
    **_HEADER_FILTERS,
    "requestMirror": Record(
        {
            "backendRef": Record(BACKEND, ("name", "port"), backend),
            "percent": Integer(0, 100),
            "fraction": Object({"numerator": Integer(0), "denominator": Integer(1)}, ("numerator",)),
        },
        ("backendRef",),
        _mirror,
    ),
    "requestRedirect": Record(
        {
            "scheme": Text(("http", "https")),
            "hostname": _HOST,
            "path": _NEW_PATH,
            "port": kinds.PORT,
            "statusCode": Integer(300, 399),
        },
        make=_redirect,
    ),
    "urlRewrite": Record({"hostname": _HOST, "path": _NEW_PATH}, make=_rewrite),
    "cors": Record(
        {
            "allowOrigins": List(_ORIGIN, most=64),
            "allowMethods": List(Text((*METHODS, "*")), most=9),
            "allowHeaders": List(NAME, most=64),
            "exposeHeaders": List(NAME, most=64),
            "allowCredentials": Boolean(),
            "maxAge": Integer(1),
        },
        make=_cors,
    ),
    "extensionRef": Unsupported(),
    "externalAuth": Unsupported(),
}
#: The fields of filters by their types.
_FILTER_TYPES = {
    {"urlRewrite": "URLRewrite", "cors": "CORS"}.get(name, name[0].upper() + name[1:]): name for name in _FILTERS
}


def _filters_of(known: Mapping[str, Type]) -> List:
    """Return the type of a list of filters, each the field that its type names and no other."""

    def make(fields: Fields) -> tuple[str, object]:
        name = _FILTER_TYPES[fields["type"]]
        if name not in known:
            raise refused(f"{fields.place}.type", f"{fields['type']} is not supported by the quick engine")
        if name not in fields.given:
            raise fields.error(name, "is missing")
        if len(fields.given) > 2:
            raise fields.error(
                sorted(fields.given - {"type", name})[0], f"cannot be combined with type {fields['type']}"
            )
        return name, fields[name]

    others = dict.fromkeys(_FILTERS, Unsupported())
    return List(Record({"type": Text(tuple(_FILTER_TYPES)), **others, **known}, ("type",), make), most=16)


def headers(filters: list[tuple[str, HeaderChanges]]) -> Headers:
    """Return the changes that filters make, the last of a kind where there are several."""
    changes = dict(filters)
    none = HeaderChanges()
    return Headers(changes.get("requestHeaderModifier", none), changes.get("responseHeaderModifier", none))


#: The filters of a rule.
FILTERS = _filters_of({name: kind for name, kind in _FILTERS.items() if kind != Unsupported()})
#: The filters of a backend.
BACKEND_FILTERS = _filters_of(_HEADER_FILTERS)
