"""What the values of Istio's fields may be (validation.go in pkg/config/validation and its agent, of Istio)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshdemo.lab.files.documents import shown
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.kinds import NAMESPACE
from meshdemo.lab.files.schema import Duration, Fields, Integer, List, Map, Number, Record, Text, Type, into
from meshdemo.lab.quick.rules.model import HeaderChanges, Headers, StringMatch
from meshdemo.lab.quick.rules.refusing import refused

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_FIELD_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LABEL_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?"
_LABEL_KEY = re.compile(rf"({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")
# What RE2 and Python's own syntax have in common, one token at a time; what only one of them knows is refused, since
# the expression has to mean the same to Istio as to the check here.
_REGEX_TOKEN = re.compile(
    r"""[^\\()\[\]{}*+?]                          # a character, dot, anchor or alternative
    | \\(?: [dDsSwWbBAaftnrv] | x[0-9A-Fa-f]{2} | [^0-9A-Za-z\s] )
    | \((?: \?: | \?P<[A-Za-z_]\w*> | \?[ims]+: | (?!\?) ) | \)
    | \[\^?\]?(?: [^\\\[\]] | \\[dDsSwWaftnrv] | \\x[0-9A-Fa-f]{2} | \\[^0-9A-Za-z\s] )*\]
    | (?: [*+?] | \{(?P<least>\d{1,4})(?P<most>,\d{0,4})?\} )\??(?![*+?{])""",
    re.VERBOSE,
)
# What only Perl and Python know: looking around, referring back, possessive and atomic groups, comments.
_NOT_OF_RE2 = re.compile(r"\(\?(?:[=!>#(]|<[=!]|P[=>])|\\[1-9]|[*+?}]\??[*+?{]")
_REGEX_LENGTH = 1024
_REGEX_REPEATS = 1000
_FLAGS = re.compile(r"\(\?[ims]+\)")


@dataclass(frozen=True)
class Unsupported:
    """A field that Istio has and this engine does not; values that change nothing are `harmless`."""

    harmless: tuple[Any, ...] = ()

    def check_names(self, value: Any, place: str) -> None:
        """Have no fields that are looked at."""

    def parse(self, value: Any, place: str) -> Any:
        """Return a harmless value, or raise ManifestError."""
        if value not in self.harmless:
            raise refused(place)
        return value


@dataclass(frozen=True)
class Some(Text):
    """A text of which this engine knows only some values, in whatever case they are written."""

    known: tuple[str, ...] = ()

    def parse(self, value: Any, place: str) -> str:
        text = super().parse(value, place)
        if text.upper() not in [known.upper() for known in self.known]:
            raise refused(place, f"{shown(text)} is not supported by the quick engine")
        return text


@dataclass(frozen=True)
class Sensible(Text):
    """A text that Istio takes whatever it is, of which this engine knows only what matches the pattern."""

    def parse(self, value: Any, place: str) -> str:
        text = Text().parse(value, place)
        if not re.fullmatch(self.pattern, text):
            raise refused(place, f"{shown(text)} is not {self.rule}")
        return text


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
    problem = f"{shown(text)} is not a regular expression of RE2"
    flags = _FLAGS.match(text)
    position = flags.end() if flags else 0
    most, last, groups = 1, 1, []  # how often something repeats: the most in this group, its last part, outer groups
    while position < len(text):
        token = _REGEX_TOKEN.match(text, position)
        if token is None:
            if _NOT_OF_RE2.match(text, position) or _NOT_OF_RE2.match(text, position - 1):
                raise ManifestError(place, f"{problem}, from {shown(text[position:])} on")
            raise refused(place, f"{problem} that the quick engine can judge, from {shown(text[position:])} on")
        position = token.end()
        if token[0].startswith("("):
            groups.append(most)
            most = last = 1
        elif token[0] == ")" and groups:
            last, most = most, max(most, groups.pop())
        elif token["least"] is not None:
            last *= max(int(token["least"]), int((token["most"] or "").strip(",") or 0), 1)
            most = max(most, last)
        elif token[0][0] not in "*+?":
            last = 1
        if last > _REGEX_REPEATS:
            raise ManifestError(place, f"{problem}, which repeats nothing more than {_REGEX_REPEATS} times")
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ManifestError(place, f"{problem}: {error}") from None


@dataclass(frozen=True)
class _Labels(Map):
    """Labels by their keys (labels.Instance.Validate)."""

    def parse(self, value: Any, place: str) -> dict[str, Any]:
        labels = super().parse(value, place)
        for key in labels:
            if not _LABEL_KEY.fullmatch(key):
                raise ManifestError(place, f"{shown(key)} is not the key of a label")
        return labels


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
class HostName(Text):
    """A domain name, maybe with a wildcard as its first part, read in full (ValidateWildcardDomain).

    A name without a dot is completed by namespace and domain (ResolveShortnameToFQDN). `service.default` is not, in a
    cluster either, where it then means no Service: it is refused, since it is a mistake.
    """

    wildcard: bool = False

    def parse(self, value: Any, place: str) -> str:
        text = super().parse(value, place)
        bare = re.sub(r"^\*\.", "", text) if self.wildcard else text
        is_host = len(text) <= 255 and re.fullmatch(rf"({_LABEL}\.)*{_LABEL}\.?", bare, re.IGNORECASE)
        if not is_host and not (self.wildcard and text == "*"):
            raise ManifestError(place, f"{shown(text)} is not the name of a host")
        return full_name(text)


def full_name(host: str) -> str:
    """Return a host's name in full."""
    return host if "." in host or host == "*" else f"{host}.{NAMESPACE}.svc.cluster.local"


def is_private(spec: Fields) -> bool:
    """Return whether an object is for its own namespace alone."""
    return bool(spec["exportTo"]) and spec["exportTo"] != ["*"]


#: The names of headers that a call can be matched by, those that begin with a colon among them.
MATCHED_HEADER = rf"{_FIELD_NAME}|:method|:scheme|:authority|:path|:status"
HEADER_NAME = Text(pattern=_FIELD_NAME, rule="the name of a header")
HOST_NAME = Text(pattern=rf"({_LABEL}\.)*{_LABEL}", rule="a host name")
NAME = Text(pattern=_LABEL, rule="a name in lower case letters, digits and '-'")
EXPORT_TO = List(Some(known=("*", ".", NAMESPACE)), most=1)
LABELS = _Labels(Text(pattern=_LABEL_VALUE, rule="the value of a label"))
PORT = Integer(1, 65535)
#: What becomes part of a header, so that it cannot have lines.
LINE = Text(pattern=r"[^\r\n]*", rule="a single line")
SOME_LINE = Text(pattern=r"[^\r\n]+", rule="a single line that is not empty")


def _string_match(fields: Fields) -> StringMatch:
    """Return what a StringMatch says, `present` where it has no condition (route.go, translateHeaderMatch)."""
    if len(fields.given) > 1:
        raise fields.error(sorted(fields.given)[1], f"cannot be combined with {sorted(fields.given)[0]}")
    for kind in fields.given:
        value: str = fields[kind]
        if kind == "prefix" and not value:
            raise fields.error("prefix", "is empty")
        return StringMatch(kind, value)
    return StringMatch("present")


def _path_match(fields: Fields) -> StringMatch:
    """Return what a path has to be; unlike others it may have an empty prefix."""
    return StringMatch("prefix") if fields.given == {"prefix"} and not fields["prefix"] else _string_match(fields)


def _match_or_present(fields: Fields) -> StringMatch:
    """Return what a header has to be; the regex `*`, which is none of RE2, says that it is there."""
    if fields["regex"] == "*":
        return StringMatch("present")
    if fields["regex"] is not None:
        Regex().parse(fields["regex"], f"{fields.place}.regex")
    return _string_match(fields)


_KINDS: dict[str, Type] = {"exact": Text(), "prefix": Text(), "regex": Regex()}
STRING_MATCH = Record(_KINDS, make=_string_match)
PATH_MATCH = Record(_KINDS, make=_path_match)
STRING_MATCH_OR_PRESENT = Record({**_KINDS, "regex": Text()}, make=_match_or_present)


def _changes(*, request: bool, of_route: bool) -> Record:
    """Return the type of changes in one direction (route.go, TranslateHeadersOperations).

    Two values for the authority are something that Istio itself refuses for a route, and not for its destinations.
    """

    def make(fields: Fields) -> HeaderChanges:
        authority = ""
        for name in ("add", "set", "remove"):
            for key in fields[name]:
                if request and name != "remove" and key.lower() in ("host", ":authority"):
                    if authority:
                        problem = f"sets {key}, which is set already, to {shown(authority)}"
                        raise fields.error(name, problem) if of_route else refused(f"{fields.place}.{name}", problem)
                    authority = fields[name][key]
                elif key.lower() == "host" or key.startswith(":"):
                    raise fields.error(name, f"{shown(key)} is a header that cannot be changed here")
                elif not re.fullmatch(_FIELD_NAME, key):
                    raise fields.error(name, f"{shown(key)} is not the name of a header")
        return HeaderChanges(_plain(fields["set"]), _plain(fields["add"]), tuple(fields["remove"]), authority)

    return Record({"set": Map(_HEADER_VALUE), "add": Map(_HEADER_VALUE), "remove": List(Text())}, make=make)


def _plain(values: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in sorted(values.items()) if key.lower() not in ("host", ":authority")}


# The sign itself is written %%, and Envoy fills in what stands between two of them (validateHeaderValue).
_VARIABLE = r"%(?:REQ|RESP)\([-:A-Za-z0-9_?]+\)%|%(?:PROTOCOL|RESPONSE_CODE|RESPONSE_FLAGS|START_TIME|ROUTE_NAME)%"
_PLAIN_VALUE = re.compile(rf"(?:[^\x00-\x08\x0a-\x1f\x7f%]|%%|{_VARIABLE})*")


class _HeaderValue(Text):
    """The value of a header, with those variables that are as they are to Istio."""

    def parse(self, value: Any, place: str) -> str:
        text = super().parse(value, place)
        if not _PLAIN_VALUE.fullmatch(text):
            raise refused(place, f"{shown(text)} is not plain: the quick engine does not support other %variables%")
        return text


_HEADER_VALUE = _HeaderValue()
ROUTE_HEADERS, DESTINATION_HEADERS = (
    Record(
        {name: _changes(request=name == "request", of_route=of_route) for name in ("request", "response")},
        make=into(Headers, request="request", response="response"),
    )
    for of_route in (True, False)
)
