"""What one answer says of itself: who gave it, with what status, and what a mesh did on the way.

The live page and `watch` read answers by this module alone, so that both say the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshdemo.escaping import replace_surrogates
from meshdemo.reasons import Origin, Reason, find_origin, find_reason

if TYPE_CHECKING:
    from meshdemo.calling.upstream import Answer

#: What is kept of a name or text that a server gives, in characters.
TEXT_LENGTH = 300
# What is read of a text that no application signed.
_READ_LENGTH = 2000
# How many proxies in a row are read through.
_PROXY_LIMIT = 10
# More than a day, the longest time limit that a proxy takes.
_MOST_MILLISECONDS = 1e8

# X-Forwarded-Client-Cert: elements between commas, each from one proxy; fields between semicolons; a value that holds
# one of these, or an equals sign, stands in double quotes, with a backslash before its own (Envoy, "HTTP header
# manipulation", x-forwarded-client-cert). Quotes that nobody closes reach to the end.
_QUOTED = r'"(?:[^"\\]|\\.?)*+(?:"|\Z)'
_ELEMENT = re.compile(rf'(?:[^,"]|{_QUOTED})++', re.DOTALL)
_FIELD = re.compile(rf'(?:[^;"]|{_QUOTED})++', re.DOTALL)


@dataclass(frozen=True)
class Outcome:
    """What became of a call that was answered.

    `status` is the application's or the mesh's, through however many proxies; None where the last proxy got no answer,
    which `error` and `error_code` then explain. `version` and `pod` are None where no application signed; then `text`
    is what was answered, on one line. As the web server saw the call: its `path`, its `request_id`, which `attempt` it
    was, and the `identity` that mutual TLS proved. `proxy_milliseconds` is what the first proxy says that its call
    took, `not_passed_on` names headers, in small letters, that a proxy did not pass on.
    """

    status: int | None
    version: str | None = None
    pod: str | None = None
    path: str | None = None
    attempt: int | None = None
    identity: str | None = None
    request_id: str | None = None
    text: str = ""
    origin: Origin = Origin.ELSEWHERE
    error: str | None = None
    error_code: str | None = None
    proxy_milliseconds: float | None = None
    not_passed_on: frozenset[str] = frozenset()

    @property
    def reason(self) -> Reason | None:
        """Return why the mesh answered so; None where an application did, or the reason is unknown."""
        if self.version is not None or self.status is None:
            return None
        return find_reason(self.status, self.text, self.origin)

    @property
    def is_failed(self) -> bool:
        """Tell whether the call failed: it got no answer, a 5xx, or a 4xx from the mesh."""
        if self.status is None or self.status >= 500:
            return True
        made_by_mesh = self.version is None and (self.origin is Origin.ENVOY or self.reason is not None)
        return self.status >= 400 and made_by_mesh


def read_answer(answer: Answer) -> Outcome:
    """Return what an answer says of itself, be it from an application, a proxy or any other server."""
    return _read(answer.status, answer.value(), answer.headers)


def read_document(status: int, document: Mapping[str, Any]) -> Outcome:
    """Return the same for an object that was answered with a status."""
    return _read(status, document, {})


def read_proxied(document: Mapping[str, Any]) -> Outcome:
    """Return the same for the object that a proxy gives as JSON."""
    return _read(200, document, {})


def _read(status: int, value: Any, headers: Any) -> Outcome:
    milliseconds = None
    not_passed_on: set[str] = set()
    for _ in range(_PROXY_LIMIT):
        match value:
            case {"value": _, "status": None, "error": str(error), "milliseconds": took} if _is_time(took):
                code = value.get("code")
                return Outcome(
                    None,
                    error=shorten(error),
                    error_code=shorten(code) if isinstance(code, str) else None,
                    proxy_milliseconds=took if milliseconds is None else milliseconds,
                )
            case {"value": inner, "status": inner_status, "error": None, "milliseconds": took} if _is_time(
                took
            ) and _is_status(inner_status):
                milliseconds = took if milliseconds is None else milliseconds
                names = value.get("not passed on")
                not_passed_on.update(str(name).lower() for name in (names if isinstance(names, list) else ()))
                headers = value.get("headers")
                status, value = inner_status, inner
            case _:
                break
    shared: dict[str, Any] = {"proxy_milliseconds": milliseconds, "not_passed_on": frozenset(not_passed_on)}
    match value:
        case {"content": str(content), "hostname": str(hostname), "status": _}:
            path = value.get("path")
            arrived = _lower_names(value.get("headers"))
            return Outcome(
                status,
                version=shorten(content),
                pod=shorten(hostname),
                path=shorten(path) if isinstance(path, str) else None,
                request_id=shorten(arrived["x-request-id"]) if "x-request-id" in arrived else None,
                attempt=_attempt(arrived.get("x-envoy-attempt-count", "")),
                identity=_identity(arrived.get("x-forwarded-client-cert", "")),
                **shared,
            )
    return Outcome(status, text=_one_line(value), origin=find_origin(_lower_names(headers)), **shared)


def _is_time(milliseconds: Any) -> bool:
    return type(milliseconds) in (int, float) and 0 <= milliseconds < _MOST_MILLISECONDS


def _is_status(status: Any) -> bool:
    """Tell whether it is a status code by its form (RFC 9110, 15)."""
    return type(status) is int and 100 <= status <= 999


def _lower_names(headers: Any) -> dict[str, str]:
    """Return headers by their names in small letters, without what is no text."""
    if not isinstance(headers, Mapping):
        return {}
    return {str(name).lower(): value for name, value in headers.items() if isinstance(value, str)}


def _attempt(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,3}", text) else None


def _identity(certificates: str) -> str | None:
    """Return the nearest caller's identity: the URI of the last element, which this pod's own sidecar added."""
    elements = _ELEMENT.findall(certificates)
    for name, value in _fields(elements[-1] if elements else ""):
        if name == "uri" and value:
            return shorten(value)
    return None


def _fields(element: str) -> Iterator[tuple[str, str]]:
    """Yield name, in small letters, and value of each field of an element."""
    for field in _FIELD.findall(element):
        name, _, value = field.strip().partition("=")
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:].removesuffix('"'), flags=re.DOTALL)
        yield name.lower(), value


def _one_line(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        text = "JSON that is nested too deeply"
    return replace_surrogates(" ".join(text[:_READ_LENGTH].split()))


def shorten(text: str, length: int = TEXT_LENGTH, ellipsis: str = "...") -> str:
    """Return a text that can be kept and written: of limited length, without lone surrogates."""
    return replace_surrogates(text if len(text) <= length else text[:length] + ellipsis)
