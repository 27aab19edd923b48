"""What the commands share: groups of options, and how errors are said."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from click.exceptions import NoArgsIsHelpError, NoSuchCommand

from meshdemo.errors import StartError
from meshdemo.parameters import PORT, SECONDS, SHARE, Switch, WholeNumber
from meshdemo.roles import webserver
from meshdemo.serving import server

Function = TypeVar("Function", bound=Callable[..., Any])

# Environment names are written out. Click could derive them, but MESHDEMO_PROXY_PORT is what Kubernetes sets to
# tcp://10.0.0.1:80 for a Service called meshdemo-proxy.
option = functools.partial(click.option, show_envvar=True, show_default=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Report whatever goes wrong as one line: bad usage without the usage text (exit 2), a failed start (exit 1)."""
    try:
        yield
    except StartError as error:
        raise click.ClickException(str(error)) from None
    except click.UsageError as error:
        if not isinstance(error, NoArgsIsHelpError):
            error.ctx = None
        raise


class Group(click.Group):
    """A group whose commands report errors in one line."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with one_line_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors():
            return super().invoke(ctx)


class LazyGroup(Group):
    """A group that imports the module of a command when somebody asks for it.

    `places` has for the names of such commands where they are, as `meshdemo.cli.calls:watch_command`.
    """

    def __init__(self, *args: Any, places: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._places})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._places:
            return super().get_command(ctx, cmd_name)
        module, _, name = self._places[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:  # click knows of no others than those that are imported
            raise NoSuchCommand(error.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from None


def switch(names: str, *, default: bool, **attributes: Any) -> Callable[[Any], Any]:
    """Return an option that is on or off, by the two names in `names`."""
    return option(names, type=Switch(), default=default, show_default="on" if default else "off", **attributes)


def group_of(*options: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Return one decorator that applies `options`, the first of them first in the help."""
    return lambda function: functools.reduce(lambda inner, outer: outer(inner), reversed(options), function)


def as_one(name: str, kind: type[Any], *options: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Return a decorator that applies `options` and gives their values to the command as one `kind`, called `name`."""
    fields = [field.name for field in dataclasses.fields(kind)]

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def command(*args: Any, **values: Any) -> Any:
            own = {field: values.pop(field) for field in fields if field in values}
            return function(*args, **{name: kind(**own)}, **values)

        return group_of(*options)(command)

    return decorate


def access_log_option(default: bool) -> Callable[[Any], Any]:
    """Return the option for the access log, which is on for a role of its own and off for all of them together."""
    return switch(
        "--access-log/--no-access-log",
        default=default,
        envvar="ACCESS_LOG",
        help="Write one line per request to standard error.",
    )


port_option = option(
    "--port", type=PORT, default=server.DEFAULT_PORT, envvar="PORT", help="Port to listen on; 0 picks a free one."
)
thread_options = group_of(
    option(
        "--threads",
        type=WholeNumber(1, 1024),
        default=server.DEFAULT_THREADS,
        envvar="THREADS",
        help="Requests served at the same time, at most 1024; others wait their turn.",
    ),
    option(
        "--drain-seconds",
        type=SECONDS,
        default=server.DEFAULT_DRAIN_SECONDS,
        envvar="DRAIN_SECONDS",
        help="Seconds to keep serving after SIGTERM, with /readyz at 503 so that load balancers notice.",
    ),
)


def host_option(default: str, shown: str) -> Callable[[Any], Any]:
    """Return the option for the address to listen on; `shown` says in words what the default is."""
    return option(
        "--host",
        default=default,
        envvar="LISTEN_HOST",
        callback=lambda ctx, param, value: "" if value == "*" else value,  # noqa: ARG005
        show_default=shown,
        help="Address or name to listen on; * is all interfaces.",
    )


istiod_option = option(
    "--istiod",
    is_flag=True,
    help="Let Istio's own control plane configure an Envoy for each pod; compiled at first use.",
)
cluster_option = option(
    "--cluster", is_flag=True, help="Run on the cluster of kubectl's current context instead of in the lab."
)
# These give the command a ServeOptions called `serving`.
role_options = as_one(
    "serving",
    server.ServeOptions,
    port_option,
    host_option("", "all interfaces"),
    thread_options,
    access_log_option(default=True),
)
up_options = as_one(
    "serving",
    server.ServeOptions,
    port_option,
    host_option(server.LOOPBACK, f"{server.LOOPBACK}, this machine alone"),
    thread_options,
    access_log_option(default=False),
)
# This gives it a Faults called `faults`.
fault_options = as_one(
    "faults",
    webserver.Faults,
    option(
        "--fail-ratio",
        type=SHARE,
        default=webserver.DEFAULT_FAULTS.fail_ratio,
        envvar="FAIL_RATIO",
        show_default="one third",
        help="Probability, from 0 to 1, that /failsometimes fails.",
    ),
    option(
        "--fail-status",
        type=WholeNumber(400, 599, "a status"),
        default=webserver.DEFAULT_FAULTS.fail_status,
        envvar="FAIL_STATUS",
        help="Status, from 400 to 599, with which /failsometimes fails.",
    ),
    option(
        "--slow-ratio",
        type=SHARE,
        default=webserver.DEFAULT_FAULTS.slow_ratio,
        envvar="SLOW_RATIO",
        show_default="one third",
        help="Probability, from 0 to 1, that /slowsometimes waits.",
    ),
    option(
        "--delay",
        "delay_seconds",
        type=SECONDS,
        default=webserver.DEFAULT_FAULTS.delay_seconds,
        envvar="DELAY",
        help="Seconds that /slowsometimes waits.",
    ),
    switch(
        "--everywhere/--not-everywhere",
        default=False,
        envvar="EVERYWHERE",
        help="Fail and wait at random on any path, not just on these two.",
    ),
)
