"""Reading what a VirtualService's rule does with calls, other than to send them on.

Each field's table stands with what is made of it (Istio, "Virtual Service" reference; validation.go and route.go).
"""

from __future__ import annotations

import base64
import binascii
import http
import re

from meshdemo.lab.files.documents import shown
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.schema import Boolean, Fields, Integer, List, Object, Record, Text, Type, into
from meshdemo.lab.quick.reading import fields as kinds
from meshdemo.lab.quick.reading.fields import MilliDuration, Percent, Regex, Unsupported
from meshdemo.lab.quick.rules.model import (
    ALL,
    Abort,
    Cors,
    Delay,
    Destination,
    DirectResponse,
    Fault,
    Mirror,
    Redirect,
    Retry,
    Rewrite,
    Share,
    StringMatch,
)
from meshdemo.lab.quick.rules.refusing import refused

# Go's names of status codes, which are Python's as well (net/http, StatusText).
_CODES = frozenset(int(status) for status in http.HTTPStatus)
_REDIRECT_CODES = (301, 302, 303, 307, 308)
#: Envoy's conditions for retries that Istio's validation knows (supportedRetryOnPolicies).
_CONDITIONS = frozenset(
    {"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream"}
    | {"retriable-status-codes", "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure"}
    | {"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}
)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*")
_MOST_BODY_BYTES = 1024 * 1024
_STATUS = Integer(200, 599)


def _destination(fields: Fields) -> Destination:
    port = fields["port"]["number"] if fields["port"] else None
    return Destination(fields["host"], fields["subset"] or "", port, f"{fields.place}.host")


DESTINATION = Record(
    {"host": kinds.HostName(), "subset": kinds.NAME, "port": Object({"number": kinds.PORT}, ("number",))},
    ("host",),
    _destination,
)


def _percentage(percent: Percent) -> Record:
    return Record({"value": percent}, make=lambda fields: Share(fields["value"] or 0))


_PERCENTAGE = _percentage(Percent())
#: The share of a mirror, which may be as small as can be.
MIRROR_PERCENTAGE = _percentage(Percent(smallest=0))
MIRRORS = List(
    Record(
        {"destination": DESTINATION, "percentage": MIRROR_PERCENTAGE},
        ("destination",),
        into(Mirror, destination="destination", share="percentage"),
    )
)


def mirrors(rule: Fields) -> tuple[Mirror, ...]:
    """Return the copies that are sent (route.go, MirrorPercent): 0 % is none, nothing said is all."""
    found: list[Mirror] = list(rule["mirrors"])
    if rule["mirror"]:
        if found:
            raise rule.error("mirrors", "cannot be combined with mirror")
        whole = ALL if rule["mirrorPercent"] is None else Share(rule["mirrorPercent"], is_whole=True)
        found.append(Mirror(rule["mirror"], rule["mirrorPercentage"] or whole))
    return tuple(mirror for mirror in found if mirror.share.percent > 0)


def _redirect(fields: Fields) -> Redirect:
    for one, other in (("port", "derivePort"), ("uri", "prefixRewrite")):
        if fields[other] and one in fields.given and fields[one] != "":
            raise fields.error(other, f"cannot be combined with {one}")
    if not any(fields[name] for name in ("uri", "prefixRewrite", "authority", "scheme")) and not (
        fields.given & {"port", "derivePort"}
    ):
        raise fields.error("uri", "is missing, as are authority, scheme and port")
    code = fields["redirectCode"] or 301
    if code < 300:
        raise fields.error("redirectCode", f"{code} is not 3xx")
    if code not in _REDIRECT_CODES:
        raise refused(f"{fields.place}.redirectCode", f"{code} is not one of {', '.join(map(str, _REDIRECT_CODES))}")
    return Redirect(
        code=code,
        path=fields["uri"] or "",
        prefix=fields["prefixRewrite"] or "",
        authority=fields["authority"] or "",
        scheme=fields["scheme"] or "",
        port=fields["port"],
        same_port=fields["derivePort"] == "FROM_REQUEST_PORT",
    )


def _response(fields: Fields) -> DirectResponse:
    body: Fields | None = fields["body"]
    if body is None:
        return DirectResponse(fields["status"])
    text, encoded = body["string"], body["bytes"]
    if len(body.given) > 1:
        raise body.error("bytes", "cannot be combined with string")
    if encoded is not None:
        try:
            if not encoded:
                raise ValueError
            base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise body.error("bytes", f"{shown(encoded)} is not base64") from None
    if len((encoded or text or "").encode()) > _MOST_BODY_BYTES:
        raise body.error(next(iter(body.given)), "holds more than 1 MiB")
    return DirectResponse(fields["status"], text, encoded)


def _rewrite(fields: Fields) -> Rewrite:
    regex: Fields | None = fields["uriRegexRewrite"]
    if fields["uri"] and regex:
        raise fields.error("uriRegexRewrite", "cannot be combined with uri")
    if not (fields["uri"] or regex or fields["authority"]):
        raise fields.error("uri", "is missing, as are uriRegexRewrite and authority")
    pattern, substitution = (regex["match"], regex["rewrite"]) if regex else ("", "")
    # What Envoy refuses (RE2, CheckRewriteString): a group that the pattern does not have, a lone backslash.
    for escape in re.findall(r"\\(.?)", substitution):
        if escape != "\\" and not (escape.isdigit() and int(escape) <= re.compile(pattern).groups):
            raise fields.error("uriRegexRewrite.rewrite", f"\\{escape} is not a group of {shown(pattern)}")
    return Rewrite(fields["uri"] or "", pattern, substitution, fields["authority"] or "")


def _retry(fields: Fields) -> Retry:
    """Return how calls are repeated; without attempts they are not (retry.go, ConvertPolicy)."""
    attempts = fields["attempts"] or 0
    for name in ("perTryTimeout", "retryOn", "retryRemoteLocalities"):
        if not attempts and name in fields.given and fields[name] != "":
            raise fields.error("attempts", f"is missing or 0, which turns retries off: {name} says otherwise")
    conditions, codes = [], []
    for word in fields["retryOn"].split(",") if fields["retryOn"] else ():
        if re.fullmatch(r"\d{3}", word) and int(word) in _CODES:
            codes.append(int(word))
        elif word in _CONDITIONS:
            conditions.append(word)
        else:
            raise ManifestError(f"{fields.place}.retryOn", f"{shown(word)} is neither a condition nor a status")
    return Retry(
        attempts=attempts,
        conditions=tuple(conditions),
        codes=tuple(codes),
        per_try_seconds=fields["perTryTimeout"],
        backoff_seconds=fields["backoff"],
        other_hosts=fields["retryIgnorePreviousHosts"],
        other_localities=bool(fields["retryRemoteLocalities"]),
    )


def _delay(fields: Fields) -> Delay:
    if fields["fixedDelay"] is None:
        raise refused(f"{fields.place}.fixedDelay", "is missing, so that nothing is delayed")
    return Delay(fields["fixedDelay"], fields["percentage"] or Share(fields["percent"] or 0, is_whole=True))


def _abort(fields: Fields) -> Abort:
    if fields["httpStatus"] is None:
        raise refused(f"{fields.place}.httpStatus", "is missing, so that nothing is aborted")
    return Abort(fields["httpStatus"], fields["percentage"])


def _fault(fields: Fields) -> Fault:
    if fields["delay"] is None and fields["abort"] is None:
        raise fields.error("delay", "is missing, as is abort")
    return Fault(fields["delay"], fields["abort"])


def _cors(fields: Fields) -> Cors:
    origins: list[StringMatch] = fields["allowOrigins"]
    if "allowOrigins" not in fields.given:
        origins = [StringMatch("exact", origin) for origin in fields["allowOrigin"]]
    for index, origin in enumerate(origins):
        if not origin.value:
            raise fields.error(f"allowOrigins[{index}]", "has no origin: give exact, prefix or regex")
    age = fields["maxAge"]
    if age is not None and age != int(age):
        raise fields.error("maxAge", "is not in whole seconds")
    return Cors(
        origins=tuple(origins),
        methods=tuple(fields["allowMethods"]),
        headers=tuple(fields["allowHeaders"]),
        exposed=tuple(fields["exposeHeaders"]),
        max_age_seconds=None if age is None else int(age),
        credentials=fields["allowCredentials"],
        forward_unmatched=fields["unmatchedPreflights"] != "IGNORE",
    )


#: The fields of a rule that say what is done.
ACTIONS: dict[str, Type] = {
    "redirect": Record(
        {
            "uri": kinds.LINE,
            "prefixRewrite": kinds.LINE,
            "authority": kinds.LINE,
            "scheme": Text(("http", "https")),
            "port": Integer(0, 65535),
            "derivePort": Text(("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT")),
            "redirectCode": Integer(0, 399),
        },
        make=_redirect,
    ),
    "directResponse": Record(
        {"status": _STATUS, "body": Object({"string": Text(), "bytes": Text()})}, ("status",), _response
    ),
    "rewrite": Record(
        {
            "uri": kinds.LINE,
            "authority": kinds.LINE,
            "uriRegexRewrite": Object({"match": Regex(), "rewrite": Text()}, ("match", "rewrite")),
        },
        make=_rewrite,
    ),
    "retries": Record(
        {
            "attempts": Integer(0),
            "perTryTimeout": MilliDuration(),
            "retryOn": Text(),
            "retryRemoteLocalities": Boolean(),
            "retryIgnorePreviousHosts": Boolean(),
            "backoff": MilliDuration(),
        },
        make=_retry,
    ),
    "fault": Record(
        {
            "delay": Record(
                {
                    "fixedDelay": MilliDuration(),
                    "exponentialDelay": Unsupported(),
                    "percent": Integer(0, 100),
                    "percentage": _PERCENTAGE,
                },
                make=_delay,
            ),
            "abort": Record(
                {
                    "httpStatus": _STATUS,
                    "grpcStatus": Unsupported(),
                    "http2Error": Unsupported(),
                    "percentage": _PERCENTAGE,
                },
                make=_abort,
            ),
        },
        make=_fault,
    ),
    "corsPolicy": Record(
        {
            "allowOrigins": List(kinds.STRING_MATCH),
            "allowOrigin": List(Text()),
            "allowMethods": List(Text(_METHODS)),
            "allowHeaders": List(kinds.HEADER_NAME),
            "exposeHeaders": List(kinds.HEADER_NAME),
            "maxAge": MilliDuration(),
            "allowCredentials": Boolean(),
            "unmatchedPreflights": Text(("UNSPECIFIED", "FORWARD", "IGNORE")),
        },
        make=_cors,
    ),
}
