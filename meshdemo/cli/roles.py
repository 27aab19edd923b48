"""`meshdemo` itself with its two roles; the other commands stand in the modules beside this one.

What a command needs is imported when it runs, so that the web server, for one, starts without the HTTP client.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from meshdemo import __version__
from meshdemo.options import (
    LazyGroup,
    fault_options,
    option,
    role_options,
    switch,
)
from meshdemo.parameters import POSITIVE_SECONDS, ConnectTo, HeaderName, Url
from meshdemo.roles import webserver
from meshdemo.serving import server, wsgi

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from meshdemo.roles.webserver import Faults
    from meshdemo.serving.server import ServeOptions

DEFAULT_PROXY_URL = "https://raw.githubusercontent.com/mcasperson/NodejsProxy/master/helloworld.txt"


_PLACES = {
    "call": "meshdemo.cli.calls:call_command",
    "check": "meshdemo.cli.lessons:check_command",
    "istiod": "meshdemo.cli.lab:istiod_group",
    "lesson": "meshdemo.cli.lessons:lesson_command",
    "up": "meshdemo.cli.lab:up_command",
    "watch": "meshdemo.cli.calls:watch_command",
}


@click.group(
    cls=LazyGroup, places=_PLACES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """See what a service mesh does to requests.

    A proxy calls a web server and shows the answer and how long it took; the web server says which version and
    which pod answered. Start with `meshdemo up`, which runs all of it on this machine.

    An option wins over its environment variable, the variable over the default.
    """
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        ctx.color = False


@main.command("webserver")
@role_options
@option(
    "--content",
    default=webserver.DEFAULT_CONTENT,
    envvar=["CONTENT", "SERVERCONTNET"],
    help="What the answer begins with, usually the version.",
)
@option(
    "--hostname",
    default=None,
    envvar="HOSTNAME",
    show_default="the machine's name",
    help="Name to answer with; in a pod, the pod's name.",
)
@fault_options
def webserver_command(serving: ServeOptions, faults: Faults, content: str, hostname: str | None) -> None:
    """Say which version and which pod answered.

    Answers every path with `CONTENT requested from PATH on HOST with code STATUS`, or the same as JSON where the
    request accepts application/json. The path /failsometimes fails and /slowsometimes waits, both at random;
    /status/503 answers 503, and /delay/1.5 waits 1.5 seconds.
    """
    _serve(webserver.create_app(content=content, hostname=hostname, faults=faults), "webserver", serving)


@main.command("proxy")
@role_options
@option(
    "--proxy-url",
    type=Url(),
    default=DEFAULT_PROXY_URL,
    envvar=["PROXY_URL", "PROXYURL"],
    help="URL to call; the request's path is appended.",
)
@option(
    "--timeout",
    "timeout_seconds",
    type=POSITIVE_SECONDS,
    default=30.0,
    envvar="TIMEOUT",
    help="Seconds that one upstream call may take, its body included.",
)
@switch(
    "--keep-alive/--no-keep-alive",
    default=False,
    envvar="KEEP_ALIVE",
    help="Reuse upstream connections instead of opening one per request.",
)
@option(
    "--connect-to",
    type=ConnectTo(),
    multiple=True,
    envvar="CONNECT_TO",
    metavar="HOST1:PORT1:HOST2:PORT2",
    help="Connect to HOST2:PORT2 where the URL says HOST1:PORT1, as curl does; an empty part means any, or the one in "
    "the URL. Repeatable; in the environment, separated by spaces.",
)
@switch(
    "--pass-status/--no-pass-status",
    default=False,
    envvar="PASS_STATUS",
    help="Answer with the upstream's status instead of 200, or 502 if there is none (504 for a timeout).",
)
@option(
    "--forward-header",
    "forward_headers",
    type=HeaderName(),
    multiple=True,
    envvar="FORWARD_HEADERS",
    metavar="NAME",
    help="Request header to pass on, besides the tracing headers and end-user. Repeatable; in the environment, "
    "separated by spaces.",
)
@option(
    "--changes-file",
    type=click.Path(),
    default=None,
    envvar="CHANGES_FILE",
    hidden=True,  # for the lab, which writes it
    help="File that says what was changed in the mesh, for marks on the live page.",
)
@option(
    "--lab-socket",
    type=click.Path(),
    default=None,
    envvar="LAB_SOCKET",
    hidden=True,  # for the lab, which listens there
    help="Unix socket of the lab, for what the live page shows of it.",
)
def proxy_command(
    serving: ServeOptions,
    proxy_url: str,
    timeout_seconds: float,
    keep_alive: bool,
    connect_to: tuple[tuple[str, int, str, int], ...],
    pass_status: bool,
    forward_headers: tuple[str, ...],
    changes_file: str | None,
    lab_socket: str | None,
) -> None:
    """Call a URL for each request, and show the answer and its time.

    Answers `Proxying value: ANSWER - Took N milliseconds`, or `Error: REASON - Took N milliseconds`, or the same as
    JSON where the request accepts application/json.
    """
    from pathlib import Path

    from meshdemo.calling.upstream import Upstream
    from meshdemo.page.page import PageOptions
    from meshdemo.roles import proxy

    upstream = Upstream(proxy_url, timeout_seconds=timeout_seconds, keep_alive=keep_alive, connect_to=connect_to)
    app = proxy.create_app(
        upstream,
        forward_headers=forward_headers,
        pass_status=pass_status,
        page_options=PageOptions(
            max(1, serving.threads // 2),
            changes_file=Path(changes_file) if changes_file else None,
            lab_socket=Path(lab_socket) if lab_socket else None,
        ),
    )
    if server.is_loopback(serving.host):
        # In the lab other pods call by their Services' names, so only the page refuses what is no name of this machine.
        app = wsgi.with_local_names(app, "/" if changes_file is None else "/ui/")
    _serve(app, "proxy", serving, f", proxying {proxy_url}")


def _serve(app: WSGIApplication, role: str, serving: ServeOptions, suffix: str = "") -> None:
    """Serve a role until a signal, and end the process."""

    def started(port: int) -> None:
        url, interfaces = server.url_of(serving.host, port), server.interfaces_of(serving.host)
        click.echo(f"meshdemo {role} listening at {url}/{interfaces}{suffix}")

    server.serve(app, role, server.bind(serving.host, serving.port), serving, started)
    server.exit_process()
