"""Reading the files again when they have changed, beside everything else; what comes of it is to be put in force."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from meshdemo.lab.cluster.pods import Pod
from meshdemo.lab.edits.state import Reader, State
from meshdemo.lab.envoy.judge import Judge
from meshdemo.lab.envoy.xds.control_plane import EnvoyError
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.following import BackgroundJob, WatchedFiles
from meshdemo.lab.pods.replica import Say


class Readings:
    """The files of a lab, and the state that is being made of them, if any."""

    def __init__(self, paths: Sequence[Path], reader: Reader, say: Say) -> None:
        self._reader = reader
        self._files = WatchedFiles(paths, say)
        self._job: BackgroundJob[State] = BackgroundJob()
        self._tidied: State | None = None
        self._callers: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return which files there are."""
        return tuple(self._files.paths)

    @property
    def is_busy(self) -> bool:
        """Return whether something is being read."""
        return self._job.is_busy

    @property
    def is_settled(self) -> bool:
        """Return whether nothing is being read, or to be read."""
        return not (self._job.is_busy or self._files.have_unreported_changes)

    def follow(self, paths: Sequence[Path]) -> None:
        """Read other files from now on."""
        self._reader.loader.paths = tuple(paths)
        self._files.paths = tuple(paths)

    def read_again(self) -> None:
        """Read the files once more, whatever they are."""
        self._files.read_again()

    def take(self) -> State | None:
        """Return a state that is complete; None while there is none. Raise ManifestError for one that cannot be."""
        silent = self._reader.loader.silent
        if self._job.is_busy and silent and not self._files.hold(silent):
            self._job = BackgroundJob()  # the other one may never end
            self._reader.loader = self._reader.loader.anew()
            self._files.read_again()
        if not self._job.is_busy:
            return None
        try:
            state = self._job.result()
        except ManifestError:
            if self._files.are_as_reported():
                raise
            return None  # it was read while it was being written
        return state if self._files.are_as_reported() else None

    def begin_edit(self, here: Callable[[], list[Pod]]) -> bool:
        """Begin to read files that have changed, beside the pods that are `here`; return whether they have."""
        if self._job.is_busy or not self._files.have_changed():
            return False
        pods = here()
        self._job.begin(lambda: self._reader.configure(self._reader.read(), pods))
        return True

    def begin_rest(self, here: Callable[[], list[Pod]], state: State) -> None:
        """Begin what else changes a state that is in force: pods that have gone, and others that call."""
        if self._job.is_busy:
            return
        pods = here()
        if (self._tidied is not state and _has_gone(pods, state)) or self._callers != self._reader.callers:
            self._tidied, self._callers = state, self._reader.callers
            self._job.begin(lambda: self._reader.configure(state.files, pods))

    def begin_blame(self, state: State, refusal: EnvoyError, judge: Judge) -> None:
        """Begin to look for the object that an Envoy refuses a state for; `take` raises what is found."""
        self._job.begin(functools.partial(self._blame, state, refusal, judge))

    def _blame(self, state: State, refusal: EnvoyError, judge: Judge) -> State:
        raise self._reader.blame(state, refusal, judge)


def _has_gone(here: Sequence[Pod], state: State) -> bool:
    """Return whether a state holds pods that no file has, and that are not there any more."""
    there = {pod.address for pod in here} | {pod.address for pod in state.pods}
    return any(pod.address not in there for pod in state.cluster.pods)
