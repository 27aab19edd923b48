"""The options of the commands: their types, and the groups that several commands share."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from meshdemo import server, webserver

DAY_SECONDS = 86400
# What the name of a header may hold (RFC 9110, 5.6.2), but for the underscore, which servers drop.
HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^`|~-]+"

Function = TypeVar("Function", bound=Callable[..., Any])

# Environment names are written out. Click could derive them, but MESHDEMO_PROXY_PORT is what Kubernetes sets to
# tcp://10.0.0.1:80 for a Service called meshdemo-proxy.
option = functools.partial(click.option, show_envvar=True, show_default=True)


class Url(click.ParamType[str]):
    """An absolute http or https URL."""

    name = "url"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        rule = None
        try:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https"):
                rule = "does not start with http:// or https://"
            elif not parts.hostname or parts.port == 0 or re.search(r"[\x00-\x20\x7f\\]", value):
                rule = "has no valid host and port"
            elif "@" in parts.netloc:
                rule = "holds a user name or password, which is never sent"
            else:
                parts.hostname.encode("idna")
        except ValueError:
            rule = "has no valid host and port"
        if rule:
            self.fail(f"{value!r} {rule}. Give a URL such as http://webserver:8080/path.", param, ctx)
        return value


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


class Number(click.FloatRange):
    """A finite number within a range; the range alone would let nan pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not in the range {self._describe_range()}.", param, ctx)
        return number


RATIO = Number(0, 1)
SECONDS = Number(0, DAY_SECONDS)
POSITIVE_SECONDS = Number(0, DAY_SECONDS, min_open=True)


def group_of(*options: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Return one decorator that applies `options`, the first of them first in the help."""
    return lambda function: functools.reduce(lambda inner, outer: outer(inner), reversed(options), function)


def access_log_option(default: bool) -> Callable[[Any], Any]:
    """Return the option for the access log, which is on for a role of its own and off for all of them together."""
    return option(
        "--access-log/--no-access-log",
        default=default,
        envvar="ACCESS_LOG",
        help="Write one line per request to standard error.",
    )


port_option = option(
    "--port", type=click.IntRange(0, 65535), default=3030, envvar="PORT", help="Port to listen on; 0 picks a free one."
)
thread_options = group_of(
    option(
        "--threads",
        type=click.IntRange(1, 1024),
        default=server.DEFAULT_THREADS,
        envvar="THREADS",
        help="Requests served at the same time; more wait in turn.",
    ),
    option(
        "--drain-seconds",
        type=SECONDS,
        default=server.DEFAULT_DRAIN_SECONDS,
        envvar="DRAIN_SECONDS",
        help="Seconds to go on serving after SIGTERM, with /readyz at 503, so that load balancers notice.",
    ),
)
role_options = group_of(
    port_option,
    option(
        "--host",
        default="",
        envvar="LISTEN_HOST",
        show_default="all interfaces",
        help="Address or name to listen on.",
    ),
    thread_options,
    access_log_option(default=True),
)
fault_options = group_of(
    option(
        "--fail-ratio",
        type=RATIO,
        default=webserver.DEFAULT_RATIO,
        envvar="FAIL_RATIO",
        show_default="one third",
        help="Probability that /failsometimes answers 500.",
    ),
    option(
        "--slow-ratio",
        type=RATIO,
        default=webserver.DEFAULT_RATIO,
        envvar="SLOW_RATIO",
        show_default="one third",
        help="Probability that /slowsometimes waits.",
    ),
    option(
        "--delay",
        "delay_seconds",
        type=SECONDS,
        default=webserver.DEFAULT_DELAY_SECONDS,
        envvar="DELAY",
        help="Seconds that /slowsometimes waits.",
    ),
)
