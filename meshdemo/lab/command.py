"""`meshdemo up -f` at the terminal: what it prints, and which engine it runs."""

from __future__ import annotations

import errno
import functools
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from meshdemo import bundled
from meshdemo.console import signals, streams
from meshdemo.errors import StartError, sentence
from meshdemo.lab import lab, quick
from meshdemo.lab.cluster.options import ReadOptions
from meshdemo.lab.cluster.stand_ins import Behaviour, parse_behaviour
from meshdemo.lab.dry_run import dry_run as dry_run_of
from meshdemo.lab.engine import Engine
from meshdemo.lab.envoy.safety import SafeEngine
from meshdemo.lab.envoy.xds.control_plane import EnvoyError
from meshdemo.lab.files.documents import shown
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.kinds import NAMESPACE, NAMESPACE_RULE, is_namespace
from meshdemo.lab.files.sources import folders_below, parse_source
from meshdemo.lab.istiod import Istiod, build
from meshdemo.lab.options import ManifestOptions
from meshdemo.lab.pods.replica import Say
from meshdemo.lab.words import summary
from meshdemo.serving.server import ServeOptions

# How often a progress is written where it cannot be written over.
_PROGRESS_SECONDS = 30.0
_POLL_SECONDS = 0.05


def find_paths(manifests: ManifestOptions, say: Callable[[str], object]) -> list[Path]:
    """Return the files that `-f` names: as with kubectl several by commas, URLs, and `-` for standard input.

    For those that are not here they are those that come with meshdemo.
    """
    paths = [parse_source(name) for filename in manifests.filenames for name in filename.split(",") if name]
    return [_here_or_bundled(path, say) for path in (folders_below(paths) if manifests.recursive else paths)]


def read_options(manifests: ManifestOptions) -> ReadOptions:
    """Return how manifests are to be read; raise UsageError for what cannot be."""
    namespace = manifests.namespace
    if namespace is not None and not is_namespace(namespace):
        raise click.UsageError(f"-n {shown(namespace)} is not {NAMESPACE_RULE}.")
    stand_ins = dict(map(_parse_stand_in, manifests.stand_ins))
    return ReadOptions(namespace or NAMESPACE, manifests.replicas, stand_ins, manifests.skip_invalid)


def _here_or_bundled(path: Path, say: Callable[[str], object]) -> Path:
    """Return a file, or the one of that name that comes with meshdemo where there is none here, and say so."""
    bundled_path = bundled.find(path)
    if bundled_path:
        say(f"{path} is not here: this is the one that comes with meshdemo, {bundled_path}")
    return bundled_path or path


def up(manifests: ManifestOptions, serving: ServeOptions, *, istiod: bool, dry_run: bool, allow_code: bool) -> None:
    """Run the lab until a signal, or print what it would run; raise UsageError or StartError in one line."""
    reading = read_options(manifests)
    options = lab.LabOptions(serving.port, serving.drain_seconds, serving.access_log, reading)
    say = functools.partial(click.echo, err=True)
    paths = find_paths(manifests, say)
    try:
        engine = choose_engine(istiod=istiod, allow_code=allow_code)
        if dry_run:
            text, notes = dry_run_of(paths, engine, reading, say)
            for note in notes:
                say(note)
            click.echo(text)
            return
        streams.unblock()
        _run(paths, engine, options, say=say, started=_started)
    except ManifestError as error:
        raise click.UsageError(str(error)) from None
    except EnvoyError as error:
        raise StartError(str(error)) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StartError(f"no space is left for temporary files in {tempfile.gettempdir()}") from None


def _parse_stand_in(text: str) -> tuple[str, Behaviour]:
    """Return the workload and the behaviour that a value of --stand-in means, or raise UsageError."""
    try:
        return parse_behaviour(text)
    except ValueError as error:
        raise click.UsageError(sentence(f"--stand-in {text}: {error}")) from None


def choose_engine(*, istiod: bool, allow_code: bool = False) -> Engine:
    """Return the quick engine, or Istio's control plane, which is compiled when it has not been."""
    if not istiod:
        return SafeEngine(quick, allow_code=allow_code)
    make_istiod()
    return SafeEngine(Istiod(), allow_code=allow_code)


def make_istiod() -> build.Program:
    """Compile Istio's control plane unless it has been, and show how far that is; raise BuildError."""
    is_terminal = sys.stderr.isatty()
    shown = 0.0

    def show(progress: str) -> None:
        nonlocal shown
        if is_terminal:
            click.echo(f"\r\x1b[K{progress}", nl=False, err=True)
        elif time.monotonic() > shown + _PROGRESS_SECONDS:
            shown = time.monotonic()
            click.echo(progress, err=True)

    program = build.make(functools.partial(click.echo, err=True), show)
    if is_terminal:
        click.echo("\r\x1b[K", nl=False, err=True)
    return program


def _run(
    paths: Sequence[Path], engine: Engine, options: lab.LabOptions, *, say: Say, started: Callable[[lab.Lab], object]
) -> None:
    """Run a lab until a signal: Ctrl+C ends it at once, SIGTERM after the proxies have drained."""
    running: lab.Lab | None = None
    try:
        with signals.raising() as arrived:
            try:
                running = lab.Lab(paths, engine, options, say)
                running.start()
                started(running)
                while True:
                    arrived.check()
                    time.sleep(_POLL_SECONDS)
                    running.step()
            except signals.Signalled as signalled:
                if signalled.number == signal.SIGTERM and running is not None:
                    running.drain()
    except signals.Signalled:
        pass  # a second one, while it drained
    finally:
        if running is not None:
            running.stop()


def _started(running: lab.Lab) -> None:
    """Print what runs, which policies are in force, what is not applied, and what can be called."""
    cluster = running.state.cluster
    click.echo("\npods")
    for workload in cluster.workloads:
        names = ", ".join(pod.name for pod in cluster.pods_of(workload.name)) or "none"
        click.echo(f"  {workload.name}: {names}{', a stand-in' if workload.stands_in else ''}")
    click.echo("policies")
    for line in summary.policies(cluster, running.state.configuration) or ["none: calls go as they would without any"]:
        click.echo(f"  {line}")
    streams.finish()  # or the lines of the two streams change places
    for note in running.state.notes:
        click.echo(note, err=True)
    streams.finish()
    click.echo("to call")
    addresses = running.addresses()
    for address in addresses:
        click.echo(f"  {address.url}  {address.name}")
    if addresses and any(pod.calls for pod in cluster.pods):
        click.echo(f"  {addresses[0].url}ui  see it live")
    elif not cluster.gateways:
        command = summary.example_call(cluster)
        click.echo(f"  {command}  from any pod" if command else "  nothing: no Service leads to a pod by HTTP")
    click.echo("\nEdit a file, and the change is applied. Press Ctrl+C to stop.")
