"""What the values of Istio's fields may be (validation.go in pkg/config/validation and its agent, of Istio)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshdemo.lab.manifests import NAMESPACE, ManifestError, shown
from meshdemo.lab.quick.model import HeaderChanges, Headers, StringMatch
from meshdemo.lab.schema import Duration, Fields, Integer, List, Map, Number, Object, Text

#: How a refusal ends of what Istio takes, and this engine does not do exactly.
ISTIOD = "--istiod applies it"
NOT_HERE = f"is not supported by the quick engine: {ISTIOD}"

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_FIELD_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PSEUDO_HEADERS = ":method|:scheme|:authority|:path|:status"
_LABEL_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?"
# What RE2 and Python's own syntax have in common, one token at a time; what only one of them knows is refused, since
# the expression has to mean the same to Istio as to the check here.
_REGEX_FIELD_NAME = re.compile(
    r"""[^\\()\[\]{}*+?]                          # a character, dot, anchor or alternative
    | \\(?: [dDsSwWbBAaftnrv] | x[0-9A-Fa-f]{2} | [^0-9A-Za-z\s] )
    | \((?: \?: | \?P<[A-Za-z_]\w*> | \?[ims]+: | (?!\?) ) | \)
    | \[\^?\]?(?: [^\\\[\]] | \\[dDsSwWaftnrv] | \\x[0-9A-Fa-f]{2} | \\[^0-9A-Za-z\s] )*\]
    | (?: [*+?] | \{(?P<least>\d{1,4})(?P<most>,\d{0,4})?\} )\??(?![*+?{])""",
    re.VERBOSE,
)
_REGEX_LENGTH = 1024
_REGEX_REPEATS = 1000
_FLAGS = re.compile(r"\(\?[ims]+\)")


@dataclass(frozen=True)
class Unsupported:
    """A field that Istio has and this engine does not; values that change nothing are `harmless`."""

    harmless: tuple[Any, ...] = ()

    def names(self, value: Any, place: str) -> None:
        """Have no fields that are looked at."""

    def parse(self, value: Any, place: str) -> Any:
        """Return a harmless value, or raise ManifestError."""
        if value not in self.harmless:
            raise ManifestError(place, NOT_HERE)
        return value


@dataclass(frozen=True)
class MilliDuration(Duration):
    """A duration in whole milliseconds (ValidateDuration)."""

    least: float = 0.001

    def parse(self, value: Any, place: str) -> float:
        seconds = super().parse(value, place)
        if not math.isclose(seconds * 1000, round(seconds * 1000), rel_tol=1e-12):
            raise ManifestError(place, f"{shown(value)} is finer than a millisecond")
        return round(seconds * 1000) / 1000


@dataclass(frozen=True)
class Regex(Text):
    """A regular expression of RE2, as far as it can be judged here (validateStringRegexp)."""

    def parse(self, value: Any, place: str) -> str:
        text = super().parse(value, place)
        if not text or len(text.encode()) > _REGEX_LENGTH:
            raise ManifestError(place, f"has {len(text.encode())} bytes, not 1 to {_REGEX_LENGTH}")
        check_regex(text, place)
        return text


def check_regex(text: str, place: str) -> None:
    """Raise ManifestError for what is no regular expression of RE2, or may be none."""
    flags = _FLAGS.match(text)
    position, repeats = flags.end() if flags else 0, 1
    problem = f"{shown(text)} is not a regular expression of RE2 that can be judged here"
    while position < len(text):
        token = _REGEX_FIELD_NAME.match(text, position)
        if token is None:
            raise ManifestError(place, f"{problem}, from {shown(text[position:])} on")
        if token["least"] is not None:
            repeats *= max(int(token["least"]), int((token["most"] or "").strip(",") or 0), 1)
        position = token.end()
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ManifestError(place, f"{shown(text)} is not a regular expression: {error}") from None
    if repeats > _REGEX_REPEATS:
        raise ManifestError(place, f"{shown(text)} repeats more than {_REGEX_REPEATS} times")


@dataclass(frozen=True)
class Percent(Number):
    """A share in percent, 0 or at least 0.0001 (validatePercentage); a mirror's may be smaller."""

    least: float = 0
    most: float = 100
    smallest: float = 0.0001

    def parse(self, value: Any, place: str) -> float:
        percent = super().parse(value, place)
        if 0 < percent < self.smallest:
            raise ManifestError(place, f"{shown(value)} is neither 0 nor at least {self.smallest:f}")
        return percent


@dataclass(frozen=True)
class Host(Text):
    """A domain name, maybe with a wildcard as its first part, read in full (ValidateWildcardDomain).

    A name without a dot is completed by namespace and domain (ResolveShortnameToFQDN). `service.default` is not, in a
    cluster either, where it then means no Service: it is refused, since it is a mistake.
    """

    wildcard: bool = False

    def parse(self, value: Any, place: str) -> str:
        text = super().parse(value, place)
        bare = re.sub(r"^\*\.?", "", text) if self.wildcard else text
        if len(text) > 255 or (bare and not re.fullmatch(rf"({_LABEL}\.)*{_LABEL}\.?", bare, re.IGNORECASE)):
            raise ManifestError(place, f"{shown(text)} is not the name of a host")
        if not bare and not (self.wildcard and text == "*"):
            raise ManifestError(place, "is missing" if not text else f"{shown(text)} is not the name of a host")
        return full_name(text)


def full_name(host: str) -> str:
    """Return a host's name in full."""
    return host if "." in host or host == "*" else f"{host}.{NAMESPACE}.svc.cluster.local"


HEADER_NAME = re.compile(rf"{_FIELD_NAME}|{_PSEUDO_HEADERS}")
NAME = Text(pattern=_LABEL, rule="a name in lower case letters, digits and '-'")
LABELS = Map(Text(pattern=_LABEL_VALUE, rule="the value of a label"))
PORT = Integer(1, 65535)
_EXACT = {"exact": Text(), "prefix": Text(), "regex": Regex()}
STRING_MATCH = Object(_EXACT)
#: Where nothing but `*` stands for "is there", since that is no regular expression of RE2.
STRING_MATCH_OR_PRESENT = Object({**_EXACT, "regex": Text()})
# An Envoy command such as %DOWNSTREAM_LOCAL_ADDRESS% is passed on, and the sign itself is %% (validateHeaderValue).
_HEADER_VALUE = Text(
    pattern=r"(?:[^\x00-\x08\x0a-\x1f\x7f%]|%%)*", rule=f"a plain header value; with a %variable% {ISTIOD}"
)
_OPERATIONS = Object({"set": Map(_HEADER_VALUE), "add": Map(_HEADER_VALUE), "remove": List(Text())})
HEADERS = Object({"request": _OPERATIONS, "response": _OPERATIONS})


def string_match(fields: Fields | None, *, may_be_empty: bool = False) -> StringMatch | None:
    """Return what a StringMatch says, `present` where it has no condition (route.go, translateHeaderMatch)."""
    if fields is None:
        return None
    if len(fields.given) > 1:
        raise fields.error(sorted(fields.given)[1], f"excludes {sorted(fields.given)[0]}")
    for kind in fields.given:
        value: str = fields[kind]
        if kind == "regex" and value == "*":
            break
        if kind == "regex":
            check_regex(value, f"{fields.place}.regex")
        if kind == "prefix" and not value and not may_be_empty:
            raise fields.error("prefix", "is empty")
        return StringMatch(kind, value)
    return StringMatch("present")


def headers(fields: Fields | None, *, authority: str = "") -> Headers:
    """Return changes of headers; `authority` is what else sets the Host header, which only one thing may."""
    if fields is None:
        return Headers()
    return Headers(
        _changes(fields["request"], authority, request=True), _changes(fields["response"], "", request=False)
    )


def _changes(fields: Fields | None, authority: str, *, request: bool) -> HeaderChanges:
    """Return changes of one direction (route.go, TranslateHeadersOperations)."""
    if fields is None:
        return HeaderChanges()
    for name, keys in (("set", fields["set"]), ("add", fields["add"]), ("remove", fields["remove"])):
        for key in keys:
            if request and name != "remove" and key.lower() in ("host", ":authority"):
                if authority:
                    raise fields.error(name, f"sets {key}, which is set already, to {shown(authority)}")
                authority = keys[key]
            elif key.lower() == "host" or key.startswith(":"):
                raise fields.error(name, f"{shown(key)} is a header that cannot be changed here")
            elif not re.fullmatch(_FIELD_NAME, key):
                raise fields.error(name, f"{shown(key)} is not the name of a header")
    return HeaderChanges(_plain(fields["set"]), _plain(fields["add"]), tuple(fields["remove"]), authority)


def _plain(values: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in sorted(values.items()) if key.lower() not in ("host", ":authority")}
