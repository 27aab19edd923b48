"""`meshdemo up -f ... --dry-run`: what each Envoy would get, judged by Envoy itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from meshdemo.lab.cluster.options import ReadOptions
from meshdemo.lab.edits.state import Reader, as_json
from meshdemo.lab.engine import Engine
from meshdemo.lab.envoy.judge import Judge
from meshdemo.lab.envoy.xds.control_plane import ControlPlane
from meshdemo.lab.pods.guard import Guard
from meshdemo.lab.pods.replica import Say


def dry_run(paths: Sequence[Path], engine: Engine, reading: ReadOptions, say: Say) -> tuple[str, tuple[str, ...]]:
    """Return what each Envoy gets as JSON, with the addresses of a cluster, and notes on the files."""
    reader = Reader(paths, engine, say, reading)
    state = reader.configure(reader.read())
    with ExitStack() as stack:
        guard = Guard()
        stack.callback(guard.close)
        plane = ControlPlane(guard.folder)
        stack.callback(plane.close)
        judge = Judge(guard.folder, guard.group, plane)
        stack.callback(judge.close)
        reader.check(state, judge)
    return as_json(state), state.notes
