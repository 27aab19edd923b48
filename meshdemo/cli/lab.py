"""`meshdemo up` and `meshdemo istiod`: the application on this machine, without a mesh or in the lab."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

import click

from meshdemo.cli.manifests import manifest_options
from meshdemo.errors import StartError
from meshdemo.options import (
    Group,
    fault_options,
    istiod_option,
    option,
    up_options,
)
from meshdemo.serving import server

if TYPE_CHECKING:
    from meshdemo.lab.options import ManifestOptions
    from meshdemo.roles.webserver import Faults
    from meshdemo.serving.server import ServeOptions

# How many web servers of each version there are without manifests.
DEFAULT_REPLICAS = 3


@click.command("up")
@up_options
@manifest_options
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
    manifests: ManifestOptions,
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
    if manifests.filenames:
        _up_with_manifests(ctx, manifests, serving, istiod=istiod, dry_run=dry_run, allow_code=allow_code)
        return
    needing = {
        "--dry-run": dry_run,
        "--istiod": istiod,
        "--allow-code": allow_code,
        "--namespace": manifests.namespace,
        "--stand-in": manifests.stand_ins,
        "--skip-invalid": manifests.skip_invalid,
    }
    for name in (name for name, value in needing.items() if value):
        raise click.UsageError(f"{name} needs -f: without manifests there is no Envoy.")
    from meshdemo.roles import local

    replicas = manifests.replicas or DEFAULT_REPLICAS

    def started(port: int, service_port: int) -> None:
        url, interfaces = server.url_of(serving.host, port), server.interfaces_of(serving.host)
        click.echo(f"meshdemo proxy listening at {url}/{interfaces}, proxying {2 * replicas} web servers\n")
        _echo_urls(url)
        alone = "" if serving.host == server.LOOPBACK else ", on this machine alone"
        click.echo(f"  {server.url_of(server.LOOPBACK, service_port)}/  the web servers without the proxy{alone}\n")
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
    manifests: ManifestOptions,
    serving: ServeOptions,
    *,
    istiod: bool,
    dry_run: bool,
    allow_code: bool,
) -> None:
    """Run the lab, which needs packages of its own."""
    if ctx.get_parameter_source("host") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError(f"--host cannot be combined with -f: the lab listens on {server.LOOPBACK} alone.")
    for name in ("threads", "everywhere", "fail_ratio", "fail_status", "slow_ratio", "delay_seconds"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option_name = next(parameter.opts[0] for parameter in ctx.command.params if parameter.name == name)
            raise click.UsageError(f"{option_name} cannot be combined with -f: the manifests say it.")
    import_lab("-f").up(manifests, serving, istiod=istiod, dry_run=dry_run, allow_code=allow_code)
    server.exit_process()


def import_lab(what: str) -> ModuleType:
    """Return the lab's commands; raise StartError where the packages that it needs are not installed."""
    try:
        return importlib.import_module("meshdemo.lab.command")
    except ImportError as error:
        raise StartError(
            f"{what} needs the package {error.name}, which the extra `lab` brings: from a clone of meshdemo, "
            "pip install '.[lab]'."
        ) from None


@click.group("istiod", cls=Group)
def istiod_group() -> None:
    """Compile or remove Istio's own control plane.

    `meshdemo up -f ... --istiod` compiles it at first use; this does the same by hand.
    """


@istiod_group.command("build")
def istiod_build_command() -> None:
    """Compile it, unless that has been done, and print where it is."""
    click.echo(import_lab("meshdemo istiod").make_istiod().executable)


@istiod_group.command("remove")
def istiod_remove_command() -> None:
    """Remove all versions of it."""
    click.echo(f"removed {import_lab('meshdemo istiod').build.remove() / 1e6:.0f} MB")
