"""Paths as an Envoy sees them when it looks for a route: normalized as its HttpConnectionManager says.

(Envoy, "HttpConnectionManager": normalize_path, merge_slashes, path_with_escaped_slashes_action. Envoy takes the rules
of the URL Standard from Chromium: dot segments are resolved, and escapes of letters, digits and -._~ undone.)
"""

from __future__ import annotations

import re

from meshdemo.lab.engine import Resource

# What stays as it is in a path; all else is escaped, or means something.
_PLAIN = re.compile(r"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_UNRESERVED = re.compile(r"%(?:2[dDeE]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9aA]|5[fF]|7[eE])")
_ESCAPED_SLASH = re.compile("%2f|%5c", re.IGNORECASE)
_KEPT = (None, "KEEP_UNCHANGED", "IMPLEMENTATION_SPECIFIC_DEFAULT")


class UnknownPathError(Exception):
    """A path of which only Envoy itself can tell what it makes of it."""


def normalize(path: str, manager: Resource) -> str:
    """Return a path with its query as an HttpConnectionManager normalizes it; raise UnknownPathError."""
    plain, mark, query = path.partition("?")
    if "#" in path or not plain.startswith("/") or not path.isascii():
        raise UnknownPathError(path)
    if manager.get("path_with_escaped_slashes_action") not in _KEPT and _ESCAPED_SLASH.search(plain):
        raise UnknownPathError(path)
    if manager.get("normalize_path"):
        if not _PLAIN.fullmatch(plain):
            raise UnknownPathError(path)
        plain = _resolve(_UNRESERVED.sub(lambda escape: chr(int(escape[0][1:], 16)), plain))
    if manager.get("merge_slashes"):
        plain = re.sub("//+", "/", plain)
    return plain + mark + query


def _resolve(path: str) -> str:
    """Return a path without dot segments (RFC 3986, 5.2.4)."""
    segments = path.split("/")
    kept: list[str] = []
    for segment in segments[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
