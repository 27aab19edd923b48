"""`meshdemo call` and `meshdemo watch`: one call explained, and many counted."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from meshdemo.options import group_of, option, switch
from meshdemo.parameters import PORT, POSITIVE_SECONDS, RATE, Header, Url, WholeNumber
from meshdemo.serving import server

if TYPE_CHECKING:
    from meshdemo.explaining.expectations import Expectation as CallExpectation
    from meshdemo.watching.expectations import Expectation

DEFAULT_WATCH_URL = f"http://127.0.0.1:{server.DEFAULT_PORT}/"


def _read_expectations(module: str) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], list[Any]]:
    """Return what reads values by the `parse_expectation` of a module, and reports the part of one that is wrong."""

    def read(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[Any]:
        parse_expectation = importlib.import_module(module).parse_expectation
        expectations = []
        for value in values:
            try:
                expectations.append(parse_expectation(value))
            except ValueError as error:
                raise click.BadParameter(f"{value!r}: {error}.", ctx, param) from None
        return expectations

    return read


# From where in a lab calls are made.
_from_pod = group_of(
    option(
        "--from",
        "origin",
        metavar="POD|WORKLOAD|outside",
        help="In the lab, call as the program in this pod would, or by a gateway's host from outside.",
    ),
    option(
        "--lab", "lab_port", type=PORT, show_default="the one that runs", help="Port of the lab, where several run."
    ),
)


@click.command("call")
@click.argument("url", type=Url(is_completed=True, allows_tcp=True))
@option("-X", "--request", "method", show_default="GET, or POST with -d", help="Method.")
@option("-H", "--header", "headers", type=Header(), multiple=True, metavar="NAME:VALUE", help="Header; repeatable.")
@option("-d", "--data", "body", help="Body to send.")
@_from_pod
@option(
    "--expect",
    "expectations",
    multiple=True,
    callback=_read_expectations("meshdemo.explaining.expectations"),
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

    URL is an address that the lab printed or one of a gateway's hosts, or with --from any that the program in a pod
    could call, such as http://webserver/v2. Each hop is shown: the rule that it took and those that it passed over, the
    destination, each try, who let the call in, and what Istio does by default where no policy says anything. For
    tcp://HOST:PORT it says who answers, or who closed the connection.

    Exits with 0 if there is an answer, whatever its status, or if every expectation is met, and with 1 otherwise.
    """
    from meshdemo.explaining import command as call
    from meshdemo.explaining.expectations import check_for_tcp

    if url.startswith("tcp:"):
        try:
            check_for_tcp(expectations)
        except ValueError as error:
            raise click.UsageError(f"--expect {error}.") from None
    options = call.CallOptions(
        url=url,
        method=method,
        headers=headers,
        body=body,
        origin=origin,
        lab_port=lab_port,
    )
    ctx.exit(call.command(options, expectations, as_json=as_json))


@click.command("watch")
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
    callback=_read_expectations("meshdemo.watching.expectations"),
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
