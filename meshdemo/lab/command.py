"""`meshdemo up -f` at the terminal: what it prints, and which engine it runs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import click

from meshdemo import server, streams
from meshdemo.lab import lab, quick, summary
from meshdemo.lab.engine import Engine
from meshdemo.lab.manifests import ManifestError
from meshdemo.lab.sidecar import EnvoyError
from meshdemo.server import ServeOptions


def paths_of(filenames: Sequence[str]) -> list[Path]:
    """Return the files that `-f` names: as with kubectl several by commas, and `-` for standard input."""
    return [Path(name) for filename in filenames for name in filename.split(",") if name]


def up(filenames: Sequence[str], serving: ServeOptions, *, dry_run: bool) -> None:
    """Run the lab until a signal, or print what it would run; raise UsageError or StartError in one line."""
    paths = paths_of(filenames)
    engine: Engine = quick
    options = lab.LabOptions(serving.port, serving.drain_seconds, serving.access_log)
    say = functools.partial(click.echo, err=True)
    try:
        if dry_run:
            text, notes = lab.dry_run(paths, engine)
            for note in notes:
                say(note)
            click.echo(text)
            return
        streams.unblock()
        lab.run(paths, engine, options, say=say, started=_started)
    except ManifestError as error:
        raise click.UsageError(str(error)) from None
    except EnvoyError as error:
        raise server.StartError(str(error)) from None


def _started(running: lab.Lab) -> None:
    """Print what runs, which policies are in force, what is not applied, and what can be called."""
    cluster = running.state.cluster
    click.echo("\npods")
    for deployment in cluster.deployments:
        names = ", ".join(pod.name for pod in cluster.pods_of(deployment.name)) or "none"
        click.echo(f"  {deployment.name}: {names}")
    click.echo("policies")
    for line in summary.policies(cluster) or ["none: calls go as they would without any"]:
        click.echo(f"  {line}")
    for note in running.state.notes:
        click.echo(note, err=True)
    click.echo("to call")
    addresses = running.addresses()
    for address in addresses:
        click.echo(f"  {address.url}  {address.name}")
    if addresses:
        click.echo(f"  {addresses[0].url}ui  see it live")
    click.echo("\nEdit a file, and the change is applied. Press Ctrl+C to stop.")
