"""The command line: reads options and environment once, checks them, and runs what they ask for.

What a command needs is imported when it runs, so that the web server, for one, starts without the HTTP client.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from meshdemo import __version__
from meshdemo.errors import StartError
from meshdemo.options import (
    Group,
    fault_options,
    filenames_option,
    group_of,
    istiod_option,
    option,
    port_option,
    recursive_option,
    role_options,
    switch,
    up_options,
)
from meshdemo.parameters import PORT, POSITIVE_SECONDS, RATE, ConnectTo, Header, HeaderName, Url, WholeNumber
from meshdemo.roles import webserver
from meshdemo.serving import server, wsgi

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from meshdemo.explaining.expectations import Expectation as CallExpectation
    from meshdemo.roles.webserver import Faults
    from meshdemo.serving.server import ServeOptions
    from meshdemo.watching.expectations import Expectation

DEFAULT_PROXY_URL = "https://raw.githubusercontent.com/mcasperson/NodejsProxy/master/helloworld.txt"

DEFAULT_WATCH_URL = f"http://127.0.0.1:{server.DEFAULT_PORT}/"


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
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
    type=click.Path(path_type=Path),
    default=None,
    envvar="CHANGES_FILE",
    hidden=True,  # for the lab, which writes it
    help="File that says what was changed in the mesh, for marks on the live page.",
)
@option(
    "--lab-socket",
    type=click.Path(path_type=Path),
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
    changes_file: Path | None,
    lab_socket: Path | None,
) -> None:
    """Call a URL for each request, and show the answer and its time.

    Answers `Proxying value: ANSWER - Took N milliseconds`, or `Error: REASON - Took N milliseconds`, or the same as
    JSON where the request accepts application/json.
    """
    from meshdemo.calling.upstream import Upstream
    from meshdemo.page.page import PageOptions
    from meshdemo.roles import proxy

    upstream = Upstream(proxy_url, timeout_seconds=timeout_seconds, keep_alive=keep_alive, connect_to=connect_to)
    app = proxy.create_app(
        upstream,
        forward_headers=forward_headers,
        pass_status=pass_status,
        page_options=PageOptions(max(1, serving.threads // 2), changes_file, lab_socket),
    )
    if server.is_loopback(serving.host):
        # In the lab other pods call by their Services' names, so only the page refuses what is no name of this machine.
        app = wsgi.with_local_names(app, "/" if changes_file is None else "/ui/")
    _serve(app, "proxy", serving, f", proxying {proxy_url}")


def _serve(app: WSGIApplication, role: str, serving: ServeOptions, suffix: str = "") -> None:
    """Serve a role until a signal, and end the process."""

    def started(port: int) -> None:
        click.echo(f"meshdemo {role} listening at {_url(serving.host, port)}/{_interfaces(serving.host)}{suffix}")

    server.serve(app, role, server.bind(serving.host, serving.port), serving, started)
    server.exit_process()


def _url(host: str, port: int) -> str:
    """Return where a person on this machine reaches what listens on `host`."""
    return f"http://{f'[{host}]' if ':' in host else host or 'localhost'}:{port}"


def _interfaces(host: str) -> str:
    return "" if host else " on all interfaces"


@main.command("up")
@up_options
@option(
    "--replicas",
    type=WholeNumber(1, 50),
    default=3,
    help="Web servers of each version, from 1 to 50; with -f the most pods of each workload.",
)
@filenames_option
@recursive_option
@option("-n", "--namespace", metavar="NAME", help="Namespace of objects that name none, instead of default; needs -f.")
@option(
    "--stand-in",
    "stand_ins",
    multiple=True,
    metavar="WORKLOAD:SETTING=VALUE",
    help="How a workload's stand-in behaves: fail-ratio, status, delay or calls, as in reviews-v2:fail-ratio=0.5. "
    "Repeatable.",
)
@option(
    "--skip-invalid", is_flag=True, help="Go on without objects that cannot be, or are not supported, and name them."
)
@istiod_option
@option("--dry-run", is_flag=True, help="Print the Envoy configuration for the manifests, and run nothing.")
@option(
    "--allow-code",
    is_flag=True,
    help="Let what the manifests bring for Envoy run code, and use files and Unix sockets of this machine.",
)
@fault_options
@click.pass_context
def up_command(
    ctx: click.Context,
    /,
    serving: ServeOptions,
    faults: Faults,
    replicas: int,
    filenames: tuple[str, ...],
    recursive: bool,
    namespace: str | None,
    stand_ins: tuple[str, ...],
    skip_invalid: bool,
    istiod: bool,
    dry_run: bool,
    allow_code: bool,
) -> None:
    """Run the whole application on this machine.

    Starts web servers of both versions, a service that picks one of them at random for each call, and the proxy in
    front of it. Ctrl+C stops everything. Only this machine reaches the proxy, unless --host says otherwise.

    With -f it runs what the manifests describe instead: each replica is a process, and a real Envoy is the sidecar, as
    in meshdemo up -f k8s/example.yaml -f k8s/istio/split.yaml. Edit a file, and the change is applied.
    """
    if filenames:
        _up_with_manifests(
            ctx,
            filenames,
            serving,
            istiod=istiod,
            dry_run=dry_run,
            allow_code=allow_code,
            recursive=recursive,
            namespace=namespace,
            stand_ins=stand_ins,
            skip_invalid=skip_invalid,
        )
        return
    needing = {
        "--dry-run": dry_run,
        "--istiod": istiod,
        "--allow-code": allow_code,
        "--namespace": namespace,
        "--stand-in": stand_ins,
        "--skip-invalid": skip_invalid,
    }
    for name in (name for name, value in needing.items() if value):
        raise click.UsageError(f"{name} needs -f: without manifests there is no Envoy.")
    from meshdemo.roles import local

    def started(port: int, service_port: int) -> None:
        url, interfaces = _url(serving.host, port), _interfaces(serving.host)
        click.echo(f"meshdemo proxy listening at {url}/{interfaces}, proxying {2 * replicas} web servers\n")
        _echo_urls(url)
        alone = "" if serving.host == server.LOOPBACK else ", on this machine alone"
        click.echo(f"  {_url(server.LOOPBACK, service_port)}/  the web servers without the proxy{alone}\n")
        click.echo("Press Ctrl+C to stop.")

    local.run(serving, replicas=replicas, faults=faults, started=started)
    server.exit_process()


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
    filenames: tuple[str, ...],
    serving: ServeOptions,
    *,
    istiod: bool,
    dry_run: bool,
    allow_code: bool,
    recursive: bool,
    namespace: str | None,
    stand_ins: tuple[str, ...],
    skip_invalid: bool,
) -> None:
    """Run the lab, which needs packages of its own."""
    if ctx.get_parameter_source("host") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError(f"--host cannot be combined with -f: the lab listens on {server.LOOPBACK} alone.")
    for name in ("threads", "everywhere", "fail_ratio", "fail_status", "slow_ratio", "delay_seconds"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option_name = next(parameter.opts[0] for parameter in ctx.command.params if parameter.name == name)
            raise click.UsageError(f"{option_name} cannot be combined with -f: the manifests say it.")
    has_replicas = ctx.get_parameter_source("replicas") is click.core.ParameterSource.COMMANDLINE
    command = _import_lab("-f")
    command.up(
        filenames,
        serving,
        istiod=istiod,
        dry_run=dry_run,
        allow_code=allow_code,
        recursive=recursive,
        namespace=namespace,
        replicas=ctx.params["replicas"] if has_replicas else None,
        stand_ins=stand_ins,
        skip_invalid=skip_invalid,
    )
    server.exit_process()


def _import_lab(what: str) -> ModuleType:
    """Return the lab's commands; raise StartError where the packages that it needs are not installed."""
    try:
        return importlib.import_module("meshdemo.lab.command")
    except ImportError as error:
        raise StartError(
            f"{what} needs the package {error.name}, which the extra `lab` brings: from a clone of meshdemo, "
            "pip install '.[lab]'."
        ) from None


def _complete_lesson(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of lessons, or of exercises, that begin so."""
    from meshdemo.lessons.command import names_of

    names = names_of(ctx.params.get("folder"), exercises=bool(ctx.params.get("exercises")))
    return [name for name in names if name.startswith(incomplete)]


@main.command("lesson")
@click.argument("name", required=False, shell_complete=_complete_lesson)
@option("--all", "everything", is_flag=True, help="Run all lessons, one after the other; needs --check.")
@option("--check", is_flag=True, help="Print what holds, and exit with 1 if anything does not.")
@option("--exercises", is_flag=True, help="Show broken meshes to mend instead of lessons.")
@option(
    "--folder",
    type=click.Path(path_type=Path),
    show_default="k8s if it is here, otherwise the lessons that come with meshdemo",
    help="Where the lessons are.",
)
@option(
    "--copy",
    "copy_to",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Copy the lessons to a new folder, to edit them there and run them with --folder.",
)
@istiod_option
@option("--cluster", is_flag=True, help="Run on the cluster of kubectl's current context instead of in the lab.")
@port_option
@click.pass_context
def lesson_command(
    ctx: click.Context,
    /,
    name: str | None,
    everything: bool,
    check: bool,
    exercises: bool,
    folder: Path | None,
    copy_to: Path | None,
    istiod: bool,
    cluster: bool,
    port: int,
) -> None:
    """Run the lesson NAME, and check what it promises.

    NAME is a number, a name such as split, or a file; without it the lessons are listed. On a terminal, keys lead to
    the next and the previous lesson, run the lesson again, or open it in an editor.

    Exits with 0 if every expectation is met, and with 1 otherwise.
    """
    from meshdemo.lessons.command import LessonOptions, run_lessons

    ctx.exit(run_lessons(LessonOptions(name, everything, check, folder, copy_to, istiod, cluster, port, exercises)))


@main.command("check")
@click.argument("policies", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="POLICY...")
@filenames_option
@recursive_option
@istiod_option
@option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write the result as JUnit XML to this file.")
@option("--write", is_flag=True, help="Propose calls for the rules of the policies, for a person to read and keep.")
@click.pass_context
def check_command(
    ctx: click.Context,
    /,
    policies: tuple[Path, ...],
    filenames: tuple[str, ...],
    recursive: bool,
    istiod: bool,
    junit: Path | None,
    write: bool,
) -> None:
    """Run the calls that the comments of policies hold, and check what they expect.

    A POLICY is a file, or a folder of files. The comment that it begins with holds the commands, indented by two
    spaces: meshdemo call and meshdemo watch with --expect. Each file is applied in a lab on top of the manifests, in
    place of the one before. Without -f the manifests are the example.

    Exits with 0 if every expectation is met, and with 1 otherwise.
    """
    from meshdemo.lessons.checking import CheckOptions, check_policies

    ctx.exit(check_policies(CheckOptions(policies, filenames, recursive, istiod, junit, write)))


@main.group("istiod", cls=Group)
def istiod_group() -> None:
    """Compile or remove Istio's own control plane.

    `meshdemo up -f ... --istiod` compiles it at first use; this does the same by hand.
    """


@istiod_group.command("build")
def istiod_build_command() -> None:
    """Compile it, unless that has been done, and print where it is."""
    click.echo(_import_lab("meshdemo istiod").make_istiod().executable)


@istiod_group.command("remove")
def istiod_remove_command() -> None:
    """Remove all versions of it."""
    click.echo(f"removed {_import_lab('meshdemo istiod').build.remove() / 1e6:.0f} MB")


def _parse_expectations(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[Expectation]:
    """Return the expectations, or report the part of one that is wrong."""
    from meshdemo.watching.expectations import parse_expectation

    expectations = []
    for value in values:
        try:
            expectations.append(parse_expectation(value))
        except ValueError as error:
            raise click.BadParameter(f"{value!r}: {error}.", ctx, param) from None
    return expectations


def _parse_call_expectations(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> list[CallExpectation]:
    """Return the expectations of one call, or report the part of one that is wrong."""
    from meshdemo.explaining.expectations import parse_expectation

    expectations = []
    for value in values:
        try:
            expectations.append(parse_expectation(value))
        except ValueError as error:
            raise click.BadParameter(f"{value!r}: {error}.", ctx, param) from None
    return expectations


# From where in a lab calls are made.
_from_pod = group_of(
    option("--from", "origin", metavar="POD|WORKLOAD", help="In the lab, call as the program in this pod would."),
    option(
        "--lab", "lab_port", type=PORT, show_default="the one that runs", help="Port of the lab, where several run."
    ),
)


@main.command("call")
@click.argument("url", type=Url(is_completed=True, allows_tcp=True))
@option("-X", "--request", "method", show_default="GET, or POST with -d", help="Method.")
@option("-H", "--header", "headers", type=Header(), multiple=True, metavar="NAME:VALUE", help="Header; repeatable.")
@option("-d", "--data", "body", help="Body to send.")
@_from_pod
@option(
    "--expect",
    "expectations",
    multiple=True,
    callback=_parse_call_expectations,
    metavar="SUBJECT=VALUE",
    help="What to expect, such as status=403 or 'rule=VirtualService/webserver[1]'; repeatable.",
)
@option("--json", "as_json", is_flag=True, help="Print the explanation as one JSON object.")
@click.pass_context
def call_command(
    ctx: click.Context,
    /,
    url: str,
    method: str | None,
    headers: tuple[tuple[str, str], ...],
    body: str | None,
    origin: str | None,
    lab_port: int | None,
    expectations: list[CallExpectation],
    as_json: bool,
) -> None:
    """Make one call in a running lab, and show why it went where it went.

    URL is an address that the lab printed, or with --from any that the program in a pod could call, such as
    http://webserver/v2. Each hop is shown: the rule that it took and those that it passed over, the destination, each
    try, who let the call in, and what Istio does by default where no policy says anything. For tcp://HOST:PORT
    it says who answers.

    Exits with 0 if there is an answer, whatever its status, or if every expectation is met, and with 1 otherwise.
    """
    from meshdemo.explaining import command as call

    options = call.CallOptions(
        url=url,
        method=method,
        headers=headers,
        body=body,
        origin=origin,
        lab_port=lab_port,
    )
    ctx.exit(call.command(options, expectations, as_json=as_json))


@main.command("watch")
@click.argument("url", type=Url(is_completed=True), default=DEFAULT_WATCH_URL)
@option(
    "-n",
    "--requests",
    type=WholeNumber(0),
    show_default="100, or no limit with --duration",
    help="How many to send; 0 means until Ctrl+C.",
)
@option(
    "--duration",
    "duration_seconds",
    type=POSITIVE_SECONDS,
    help="Start no request after this many seconds.",
)
@option("--rate", type=RATE, default=20.0, help="Requests per second, at most 10000; 0 means as fast as possible.")
@option(
    "-c",
    "--concurrency",
    type=WholeNumber(1, 1024),
    default=64,
    help="Requests at the same time, at most 1024.",
)
@option("--header", "headers", type=Header(), multiple=True, metavar="NAME:VALUE", help="Header to send; repeatable.")
@option("--timeout", "timeout_seconds", type=POSITIVE_SECONDS, default=30.0, help="Seconds that one request may take.")
@switch("--keep-alive/--no-keep-alive", default=False, help="Reuse connections instead of opening one per request.")
@option(
    "--expect",
    "expectations",
    multiple=True,
    callback=_parse_expectations,
    metavar="SUBJECT=RANGE",
    help="What to expect at the end, such as 'Webserver V1=130..170'; repeatable.",
)
@_from_pod
@option("--why", "explains", is_flag=True, help="In the lab, explain one call of each kind at the end.")
@option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Print in colour; auto means on a terminal, unless NO_COLOR is set.",
)
@option("--heading", multiple=True, hidden=True, help="Line to show above the table; a lesson gives it.")
@click.pass_context
def watch_command(
    ctx: click.Context,
    /,
    url: str,
    requests: int | None,
    duration_seconds: float | None,
    rate: float,
    concurrency: int,
    headers: tuple[tuple[str, str], ...],
    timeout_seconds: float,
    keep_alive: bool,
    expectations: list[Expectation],
    origin: str | None,
    lab_port: int | None,
    explains: bool,
    as_json: bool,
    color: str,
    heading: tuple[str, ...],
) -> None:
    """Call URL many times, and show who answered.

    URL is a proxy, a web server, a gateway in front of them, or any server that answers with text; without one it is
    http://127.0.0.1:3030/, and http:// may be left out. With --from it is any that the program in a pod of a lab could
    call, such as http://webserver/v2. Requests go out at a steady pace, however long the answers
    take. The result comes at the end, or at Ctrl+C.

    Exits with 0 if every request got an answer, whatever its status, and with 1 otherwise. With --expect, exits with 0
    if every expectation is met, and with 1 otherwise.
    """
    from meshdemo.watching import command as watch

    if color != "auto":
        ctx.color = color == "always"
    settings = watch.WatchOptions(
        url=url,
        requests=requests,
        duration_seconds=duration_seconds,
        rate=rate,
        concurrency=concurrency,
        headers=headers,
        timeout_seconds=timeout_seconds,
        keep_alive=keep_alive,
        explains=explains,
        origin=origin,
        lab_port=lab_port,
    )
    if explains and any(name.lower() == "x-request-id" for name, _ in headers):
        raise click.UsageError("--why cannot be combined with --header x-request-id: each call gets an id of its own.")
    ctx.exit(watch.command(settings, expectations, as_json=as_json, heading=heading))
