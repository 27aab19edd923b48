"""The command line: reads options and environment once, checks them, and runs what they ask for.

What a command needs is imported when it runs, so that the web server, for one, starts without the HTTP client.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.exceptions import NoArgsIsHelpError

from meshdemo import __version__, server, webserver, wsgi
from meshdemo.options import (
    POSITIVE_SECONDS,
    Header,
    HeaderName,
    Number,
    Url,
    access_log_option,
    fault_options,
    option,
    port_option,
    role_options,
    thread_options,
)

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

DEFAULT_PROXY_URL = "https://raw.githubusercontent.com/mcasperson/NodejsProxy/master/helloworld.txt"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Report whatever goes wrong as one line: bad usage without the usage text (exit 2), a failed start (exit 1)."""
    try:
        yield
    except server.StartError as error:
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


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """See what a service mesh does to requests.

    A proxy calls a web server and shows the answer and how long it took; the web server says which version and
    which pod answered. Start with `meshdemo up`, which runs all of it on this machine.

    Options win over the environment, the environment over the defaults.
    """


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
    help="Name to answer with, in a pod the pod's.",
)
@fault_options
def webserver_command(
    port: int, host: str, threads: int, drain_seconds: float, access_log: bool, **options: Any
) -> None:
    """Say which version and which pod answered.

    Answers every path with `CONTENT requested from PATH on HOST with code STATUS`, or the same as JSON where the
    request accepts application/json. The path /failsometimes fails and /slowsometimes waits, both at random.
    """
    app = webserver.create_app(**options)
    _serve(app, "webserver", host, port, threads, drain_seconds, access_log)


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
@option(
    "--keep-alive/--no-keep-alive",
    default=False,
    envvar="KEEP_ALIVE",
    help="Use upstream connections again instead of opening one per request.",
)
@option(
    "--http-proxy",
    type=Url(),
    default=None,
    envvar="HTTP_PROXY_URL",
    show_default="none",
    help="HTTP proxy that calls to http URLs go through, such as a sidecar's.",
)
@option(
    "--pass-status/--no-pass-status",
    default=False,
    envvar="PASS_STATUS",
    help="Answer with the upstream's status instead of 200; without one with 502, or 504 for a timeout.",
)
@option(
    "--forward-header",
    "forward_headers",
    type=HeaderName(),
    multiple=True,
    envvar="FORWARD_HEADERS",
    metavar="NAME",
    help="Request header to pass on beside the tracing headers and end-user; repeatable, in the environment "
    "separated by spaces.",
)
@option(
    "--changes-file",
    type=click.Path(path_type=Path),
    default=None,
    envvar="CHANGES_FILE",
    show_default="none",
    help="File that says what was changed in the mesh, for marks on the live page; the lab writes it.",
)
def proxy_command(
    port: int,
    host: str,
    threads: int,
    drain_seconds: float,
    access_log: bool,
    proxy_url: str,
    forward_headers: tuple[str, ...],
    pass_status: bool,
    changes_file: Path | None,
    **options: Any,
) -> None:
    """Call a URL for each request, and show the answer and how long it took.

    Answers `Proxying value: ANSWER - Took N milliseconds`, or `Error: REASON - Took N milliseconds`, or the same as
    JSON where the request accepts application/json.
    """
    from meshdemo import proxy
    from meshdemo.upstream import Upstream

    app = proxy.create_app(
        Upstream(proxy_url, **options),
        forward_headers=forward_headers,
        pass_status=pass_status,
        page_stream_limit=max(1, threads // 2),
        changes_file=changes_file,
    )
    _serve(app, "proxy", host, port, threads, drain_seconds, access_log, f", proxying {proxy_url}")


def _serve(
    app: WSGIApplication,
    role: str,
    host: str,
    port: int,
    threads: int,
    drain_seconds: float,
    access_log: bool,
    suffix: str = "",
) -> None:
    """Serve a role until a signal, and end the process."""

    def started(bound_port: int) -> None:
        name = f"[{host}]" if ":" in host else host or "localhost"
        interfaces = "" if host else " on all interfaces"
        click.echo(f"meshdemo {role} listening at http://{name}:{bound_port}/{interfaces}{suffix}")

    if access_log:
        app = wsgi.with_access_log(app, role)
    sockets = server.bind(host, port)
    server.serve(app, sockets, threads=threads, drain_seconds=drain_seconds, started=started)
    server.leave()


@main.command("up")
@port_option
@option("--replicas", type=click.IntRange(1, 50), default=3, help="Web servers of each version.")
@option(
    "-f",
    "--filename",
    "filenames",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    metavar="FILE|FOLDER",
    help="Kubernetes manifests to run on a real Envoy, as for kubectl apply; repeatable.",
)
@option("--dry-run", is_flag=True, help="Print the Envoy configuration for the manifests, and run nothing.")
@fault_options
@thread_options
@access_log_option(default=False)
@click.pass_context
def up_command(
    ctx: click.Context,
    /,
    replicas: int,
    filenames: tuple[Path, ...],
    dry_run: bool,
    **options: Any,
) -> None:
    """Run the whole application on this machine.

    Starts web servers of both versions, a service that picks one of them at random for each call, and the proxy in
    front of it. Ctrl+C stops everything.

    With -f it runs what the manifests describe instead, each replica as a process, and lets a real Envoy treat the
    calls as a sidecar would: meshdemo up -f k8s/example.yaml -f k8s/istio/split.yaml. Edit a file, and the change is
    applied.
    """
    if filenames:
        _up_with_manifests(ctx, filenames, dry_run, **options)
        return
    if dry_run:
        raise click.UsageError("--dry-run goes with -f only: without manifests there is no Envoy.")
    from meshdemo import local

    def started(port: int, service_port: int) -> None:
        url = f"http://{local.LOOPBACK}:{port}"
        click.echo(f"meshdemo proxy listening at {url}/, proxying {2 * replicas} web servers\n")
        _echo_urls(url)
        click.echo(f"  http://{local.LOOPBACK}:{service_port}/  the web servers without the proxy\n")
        click.echo("Press Ctrl+C to stop.")

    local.run(replicas=replicas, started=started, **options)
    server.leave()


def _echo_urls(url: str) -> None:
    """Say what can be called."""
    click.echo(
        f"  {url}/ui                  see it live\n"
        f"  curl {url}/               which version and pod answered\n"
        f"  curl {url}/failsometimes  the same, failing at random\n"
        f"  curl {url}/slowsometimes  the same, slow at random"
    )


def _up_with_manifests(
    ctx: click.Context,
    filenames: tuple[Path, ...],
    dry_run: bool,
    port: int,
    drain_seconds: float,
    access_log: bool,
    **_: Any,
) -> None:
    """Run the lab, which needs packages of its own."""
    for name in ("replicas", "threads", "fail_ratio", "slow_ratio", "delay_seconds"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option_name = next(each.opts[0] for each in ctx.command.params if each.name == name)
            raise click.UsageError(f"{option_name} does not go with -f: the manifests say it.")
    try:
        from meshdemo.lab import lab
        from meshdemo.lab.envoy import EnvoyError
        from meshdemo.lab.manifests import ManifestError
    except ImportError as error:
        raise server.StartError(
            f"-f needs the package {error.name}: install the extra with pip install 'meshdemo[lab]', "
            "or from a clone with pip install '.[lab]'."
        ) from None

    def started(running: lab.Lab) -> None:
        for note in running.notes():
            click.echo(note, err=True)
        for index, (what, url) in enumerate(running.addresses()):
            click.echo(f"meshdemo {what}, listening at {url}")
            if index == 0:
                click.echo()
                _echo_urls(url.rstrip("/"))
                click.echo()
        click.echo("Edit a file, and the change is applied. Press Ctrl+C to stop.")

    try:
        if dry_run:
            click.echo(lab.dry_run(filenames))
            return
        say = functools.partial(click.echo, err=True)
        lab.run(filenames, port=port, drain_seconds=drain_seconds, access_log=access_log, say=say, started=started)
    except ManifestError as error:
        raise click.UsageError(str(error)) from None
    except EnvoyError as error:
        raise server.StartError(str(error)) from None
    server.leave()


@main.command("watch")
@click.argument("url", type=Url())
@option("--requests", type=click.IntRange(0), default=100, help="How many to send; 0 goes on until Ctrl+C.")
@option("--rate", type=Number(0, 10000), default=20.0, help="Requests a second; 0 is as fast as it can.")
@option("--concurrency", type=click.IntRange(1, 1024), default=64, help="Requests under way at the same time at most.")
@option("--header", "headers", type=Header(), multiple=True, metavar="NAME:VALUE", help="Header to send; repeatable.")
@option("--timeout", "timeout_seconds", type=POSITIVE_SECONDS, default=30.0, help="Seconds that one request may take.")
@option("--keep-alive/--no-keep-alive", default=False, help="Use connections again instead of opening one per request.")
@option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def watch_command(
    ctx: click.Context,
    /,
    url: str,
    timeout_seconds: float,
    keep_alive: bool,
    headers: tuple[tuple[str, str], ...],
    as_json: bool,
    **pace: Any,
) -> None:
    """Call URL many times, and show who answered.

    URL is a proxy, a web server, a gateway in front of them, or any server that answers text. Requests go out at a
    steady pace, however long the answers take. The result comes at the end, or with Ctrl+C.

    Exits 0 when every request got an answer, whatever its status, and 1 when some got none.
    """
    from meshdemo import report
    from meshdemo.upstream import Upstream
    from meshdemo.watch import Tally, Watch

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for a terminal that knows no block characters
    tally = Tally()
    watch = Watch(Upstream(url, timeout_seconds=timeout_seconds, keep_alive=keep_alive), headers=dict(headers), **pace)
    started = time.perf_counter()
    bar = click.progressbar(
        itertools.repeat(None),
        length=pace["requests"] or None,
        item_show_func=lambda _: report.in_short(tally),
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
        show_eta=False,
    )
    try:
        with bar:
            for sample in watch:
                tally.add(sample)
                bar.update(1)
    except KeyboardInterrupt:
        click.echo(err=True)
    result = report.as_object(tally, url, time.perf_counter() - started)
    click.echo(json.dumps(result, indent=2) if as_json else report.as_text(result, pace["concurrency"]))
    ctx.exit(1 if tally.unanswered else 0)
