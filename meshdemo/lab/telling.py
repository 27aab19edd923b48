"""What a person is told while the lab runs: what an edit did, and how far the pods are with it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import datetime

from meshdemo.lab.edits.state import State
from meshdemo.lab.pods.replica import Say
from meshdemo.lab.words import summary

_SLOW_SECONDS = 10


class Telling:
    """Tells it with the time of day; remembers which changes pods are still being replaced for."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._rolling: set[str] = set()
        self._slow_at = 0.0

    @property
    def is_rolling(self) -> bool:
        """Return whether a change of pods was told of that is not said to be complete."""
        return bool(self._rolling)

    def tell(self, text: str) -> None:
        """Tell something."""
        self._say(f"{datetime.now().astimezone():%H:%M:%S} {text}")

    def tell_changes(self, former: State, state: State, silent: Sequence[str], *, rolls: bool) -> tuple[str, ...]:
        """Tell what another state changes; return the labels of the changes.

        `silent` are the Envoys that do not answer; with `rolls` pods are replaced.
        """
        changes = summary.changes(former.files.manifests, state.files.manifests)
        # A policy moves pods, too, where it brings a port that callers have to be told of.
        moving = [each for each in changes if each.moves_pods] or changes if rolls else []
        reasons = summary.without_force(state.cluster, state.configuration) if changes else {}
        for each in changes:
            outcome = "rolling out" if each in moving else "in force"
            if each.object in reasons:
                self.tell(f"{each.text}, not in force, since {reasons[each.object]}")
                continue
            if silent:
                outcome += f" but for {', '.join(silent)}, whose Envoy does not answer"
            self.tell(f"{each.text}, {outcome}")
        if not changes:
            self.tell("no effective change")
        if rolls:
            self._rolling |= {each.label for each in moving}
            self._slow_at = time.monotonic() + _SLOW_SECONDS
        return tuple(each.label for each in changes)

    def tell_notes(self, notes: Collection[str]) -> None:
        """Tell what is not applied, which has its place instead of a time."""
        for note in notes:
            self._say(note)

    def look(self, *, is_settled: bool) -> None:
        """Tell when a change of pods is complete, and once when it is long in coming."""
        if not self._rolling:
            return
        labels = ", ".join(sorted(self._rolling))
        if is_settled:
            self.tell(f"rolled out: {labels}")
            self._rolling.clear()
        elif time.monotonic() > self._slow_at:
            self.tell(f"still rolling out: {labels}; the old pods serve until new ones are ready")
            self._slow_at = float("inf")
