"""Where a redirect leads, and what of a request goes along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from meshdemo.calling.headers import BODY_HEADERS, SAFE_HEADERS
from meshdemo.escaping import percent_encode

LIMIT = 5
STATUSES = frozenset({301, 302, 303, 307, 308})

_SHOWN_LENGTH = 200


class Request(NamedTuple):
    """What is sent; `url` is absolute."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


def follow(request: Request, status: int, location: str) -> Request:
    """Return the request that a redirect asks for; raise ValueError, in words, where none can be made.

    To another origin only SAFE_HEADERS go along, and no header that describes the body goes where the body does not.
    """
    method, url, headers, body = request
    url = _target(url, location)
    if _origin(url) != _origin(request.url):
        headers = {name: value for name, value in headers.items() if name.lower() in SAFE_HEADERS}
    if _becomes_get(method, status):
        method, body = "GET", b""
        headers = {name: value for name, value in headers.items() if not _describes_body(name.lower())}
    return Request(method, url, headers, body)


def _becomes_get(method: str, status: int) -> bool:
    """Tell whether the next request is a GET without a body, as browsers have it (RFC 9110, 15.4)."""
    return (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST")


def _describes_body(name: str) -> bool:
    return name.startswith("content-") or name in BODY_HEADERS


def _origin(url: str) -> tuple[str, str | None, int]:
    """Return scheme, host and port of a URL, by which two URLs have the same origin (RFC 6454, 4)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]


def _target(url: str, location: str) -> str:
    """Return the absolute URL that a `Location` means."""
    try:
        parts = urlsplit(urljoin(url, percent_encode(location)))
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            authority = parts.netloc.rpartition("@")[2]
            query = f"?{parts.query}" if parts.query else ""
            return f"{parts.scheme}://{authority}{parts.path or '/'}{query}"
    except ValueError:
        pass
    shown = percent_encode(location[:_SHOWN_LENGTH])
    raise ValueError(f"redirect to {shown}, which is not an http or https address,")
