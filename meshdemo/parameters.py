"""The kinds of values that options take; each says in words what it wants, with the value that it was given."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlsplit

import click

DAY_SECONDS = 86400
# What the name of a header may hold (RFC 9110, 5.6.2), but for the underscore, which servers drop.
HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^`|~-]+"


class Number(click.ParamType[float]):
    """A number within a range; `meaning` says so in words, with an example.

    It is no click.FloatRange, which would show the range in the help as `0<x<=86400`.
    """

    name = "number"

    def __init__(self, meaning: str, low: float, high: float, *, above_low: bool = False) -> None:
        self._meaning, self._low, self._high, self._above_low = meaning, low, high, above_low

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if self._low <= number <= self._high and not (self._above_low and number == self._low):  # nan is in no range
            return number
        self.fail(f"{value!r} is not {self._meaning}.", param, ctx)


class Seconds(Number):
    """A time in seconds, or with its unit: ms, s, m or h."""

    name = "time"
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}  # noqa: RUF012

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"([0-9]*\.?[0-9]+) ?(ms|s|m|h)", str(value).strip())
        try:
            return super().convert(float(match[1]) * self.units[match[2]] if match else value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not {self._meaning}.", param, ctx)


class WholeNumber(click.ParamType[int]):
    """A whole number within a range, without an end where `high` is None; the message names it by `what`."""

    name = "number"

    def __init__(self, low: int, high: int | None = None, what: str = "a whole number") -> None:
        self._meaning = f"{what} of {low} or more" if high is None else f"{what} from {low} to {high}"
        self._low, self._high = low, float("inf") if high is None else high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            number = None
        if number is not None and self._low <= number <= self._high:
            return number
        self.fail(f"{value!r} is not {self._meaning}.", param, ctx)


class Switch(click.types.BoolParamType):
    """Whether something is on, by a variable of the environment; on the command line the option's name says it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is neither on nor off: give 1 or 0.", param, ctx)


SHARE = Number("a share from 0 to 1, such as 0.3", 0, 1)
_TIMES = "such as 2.5, 500ms or 2m"
SECONDS = Seconds(f"a number of seconds from 0 to 86400, {_TIMES}", 0, DAY_SECONDS)
POSITIVE_SECONDS = Seconds(f"a number of seconds above 0 and up to 86400, {_TIMES}", 0, DAY_SECONDS, above_low=True)
RATE = Number("a number from 0 to 10000, such as 20", 0, 10000)
PORT = WholeNumber(0, 65535, "a port")


# What stands in no URL as it is, and would be dropped or taken for something else on the way.
_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f\\]")


class Url(click.ParamType[str]):
    """An absolute http or https URL; with `is_completed` one that begins with its host, too, as in a browser.

    With `allows_tcp` also tcp://HOST:PORT.
    """

    name = "url"

    def __init__(self, *, is_completed: bool = False, allows_tcp: bool = False) -> None:
        self._is_completed = is_completed
        self._allows_tcp = allows_tcp

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        rule = None
        url = (
            f"http://{value}" if self._is_completed and not re.match(r"([A-Za-z][A-Za-z0-9+.-]*:)?/", value) else value
        )
        # A zone stands behind %25 (RFC 6874, 2); what tools print has the percent sign alone.
        url = re.sub(r"(?<=//)(\[[0-9A-Fa-f:.]+)%(?!25)", r"\1%25", url)
        try:
            parts = urlsplit(url)
            is_tcp = self._allows_tcp and parts.scheme == "tcp"
            if parts.scheme not in ("http", "https") and not is_tcp:
                rule = "does not start with http:// or https://"
            elif is_tcp and (not parts.port or parts.path):
                rule = "is not tcp://HOST:PORT"
            elif not parts.hostname or parts.port == 0 or _NOT_IN_URL.search(re.split("[/?#]", url, maxsplit=3)[2]):
                rule = "has no valid host and port"
            elif found := _NOT_IN_URL.search(url):
                rule = f"has {found[0]!r}, which no URL has: write {quote(found[0])}"
            elif "@" in parts.netloc:
                rule = "holds a user name or password, which is never sent"
            else:
                parts.hostname.encode("idna")
        except ValueError:
            rule = "has no valid host and port"
        if rule:
            self.fail(f"{value!r} {rule}. Give a URL such as http://webserver:8080/path.", param, ctx)
        return parts.scheme + url[len(parts.scheme) :]  # in small letters


class HeaderName(click.ParamType[str]):
    """The name of a request header that may cross the proxy."""

    name = "name"
    # Headers that belong to one connection (RFC 9110, 7.6.1) or that frame the message: the proxy writes its own.
    refused = frozenset(
        {
            "connection",
            "content-length",
            "expect",
            "host",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        }
    )

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(HEADER_NAME, value):
            self.fail(f"{value!r} is not the name of a header.", param, ctx)
        if value.lower() in self.refused:
            self.fail(f"{value!r} belongs to one connection and cannot be forwarded.", param, ctx)
        return value


class ConnectTo(click.ParamType[tuple[str, int, str, int]]):
    """Where to connect instead, as HOST1:PORT1:HOST2:PORT2; an empty part becomes "" or 0."""

    name = "connect-to"
    pattern = re.compile(r"(?:{0}):(?:{0})".format(r"(\[[0-9A-Fa-f:.]+\]|[^][\x00-\x20\x7f:/@\\]*):([0-9]{0,5})"))

    def convert(
        self, value: str | tuple[str, int, str, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int, str, int]:
        if isinstance(value, tuple):
            return value
        match = self.pattern.fullmatch(value)
        if not match or not all(port == "" or 1 <= int(port) <= 65535 for port in (match[2], match[4])):
            example = "webserver:80:127.0.0.1:8080"
            self.fail(f"{value!r} is not HOST1:PORT1:HOST2:PORT2. Give it as in {example}.", param, ctx)
        return match[1].strip("[]"), int(match[2] or 0), match[3].strip("[]"), int(match[4] or 0)


class Header(click.ParamType[tuple[str, str]]):
    """A request header to send, as NAME:VALUE."""

    name = "name:value"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, colon, content = value.partition(":")
        name, content = name.strip(), content.strip()
        if not colon or not re.fullmatch(HEADER_NAME, name) or not re.fullmatch(r"[\t\x20-\x7e\xa0-\xff]*", content):
            self.fail(f"{value!r} is not a header. Give it as NAME:VALUE, such as end-user:tester.", param, ctx)
        return name.lower(), content
