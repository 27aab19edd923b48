"""Keeps the pods of all workloads as Kubernetes does: what is missing starts, what has changed is rolled over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from meshdemo.lab.envoy.endpoints import Where
from meshdemo.lab.envoy.loopback import Local
from meshdemo.lab.pods.pod import PodContext, PodSpec, RunningPod

# How long pods that are not wanted any more stay while those that are to take their place are not ready.
_REPLACEMENT_SECONDS = 30.0
# So many start at the same time, since more make each other slow; one that is long in coming keeps nobody waiting.
_MOST_STARTING = 8
_STARTING_SECONDS = 10.0

#: Returns the configuration of a pod's sidecar, None for one without.
Configure = Callable[[RunningPod], "Local | None"]


@dataclass
class _Slot:
    """A pod by name: the one that takes calls, and the one that is to replace it."""

    current: RunningPod
    incoming: RunningPod | None = None


class Pods:
    """The pods that run, by name.

    `configure` gives the sidecar of each what it needs; `publish` returns when all callers know who takes calls.
    `elsewhere` tells where addresses that no pod has take calls.
    """

    def __init__(
        self, around: PodContext, configure: Configure, publish: Callable[[], object], elsewhere: Where
    ) -> None:
        self._around = around
        self._configure = configure
        self._publish = publish
        self._elsewhere = elsewhere
        self._workloads: frozenset[str] = frozenset()
        self._wanted: dict[str, PodSpec] = {}
        self._slots: dict[str, _Slot] = {}
        self._leaving: list[RunningPod] = []
        self._count = 0
        self._changed_at = 0.0
        self._starting: dict[RunningPod, float] = {}
        #: The pods that take calls, by their address in the cluster, as the last `step` saw it.
        self.taking_calls: dict[str, RunningPod] = {}

    def want(self, workloads: Iterable[str], wanted: Mapping[str, PodSpec]) -> bool:
        """Set the workloads and the pods that there are to be, by name; `step` leads there.

        Return whether anything about the pods has changed.
        """
        changed = self._wanted != wanted
        self._workloads = frozenset(workloads)
        self._wanted = dict(wanted)
        self._changed_at = time.monotonic()
        return changed

    @property
    def present(self) -> list[RunningPod]:
        """Return all pods: those that take calls or are to, and those that are leaving."""
        return [pod for slot in self._slots.values() for pod in (slot.current, slot.incoming) if pod] + self._leaving

    @property
    def settled(self) -> bool:
        """Return whether every pod is as it is to be, and takes calls."""
        return self._slots.keys() == self._wanted.keys() and all(
            slot.current.wanted == self._wanted[name] and self._takes_calls(slot) for name, slot in self._slots.items()
        )

    def not_ready(self, workload: str | None = None) -> list[str]:
        """Return the names of the pods that are wanted and do not take calls, of one workload or of all."""
        return sorted(
            name
            for name, wanted in self._wanted.items()
            if workload in (None, wanted.pod.workload)
            and (name not in self._slots or not self._takes_calls(self._slots[name]))
        )

    def where(self, address: str, port: int) -> int | None:
        """Return where an address of the cluster takes calls now (see loopback.Where)."""
        pod = self.taking_calls.get(address)
        return pod.port_of(port) if pod else self._elsewhere(address, port)

    def step(self) -> None:
        """Do what there is to do now: who leaves is taken out of traffic first, and then ended."""
        for pod in self.present:
            pod.look_after()
        taken_out: list[RunningPod] = []
        try:
            self._replace(taken_out)
            for name, wanted in self._wanted.items():
                if name not in self._slots and self._has_room():
                    self._slots[name] = _Slot(self._start(wanted))
            self._roll()
            self._remove(taken_out)
        finally:
            former = self.taking_calls
            ready = [slot.current for slot in self._slots.values() if slot.current.is_ready]
            self.taking_calls = {pod.pod.address: pod for pod in ready}
            self._leaving += taken_out
            try:
                if self.taking_calls != former:
                    self._publish()
            finally:
                for pod in taken_out:
                    pod.retire()
        for pod in [pod for pod in self._leaving if pod.has_ended]:
            pod.end()
            self._leaving.remove(pod)

    def _takes_calls(self, slot: _Slot) -> bool:
        return self.taking_calls.get(slot.current.pod.address) is slot.current

    def _has_room(self) -> bool:
        """Return whether one more pod may start now."""
        now = time.monotonic()
        self._starting = {
            pod: since
            for pod, since in self._starting.items()
            if not pod.is_ready and not pod.has_ended and now < since + _STARTING_SECONDS
        }
        return len(self._starting) < _MOST_STARTING

    def _start(self, wanted: PodSpec) -> RunningPod:
        self._count += 1
        pod = RunningPod(f"pod-{self._count}", wanted, self._around)
        self._starting[pod] = time.monotonic()
        try:
            pod.start(self._configure(pod), self.where)
        except BaseException:
            pod.retire()
            self._leaving.append(pod)
            raise
        return pod

    def _replace(self, taken_out: list[RunningPod]) -> None:
        """Let new pods that are ready take the place of the old ones, and drop those that are outdated."""
        for name, slot in self._slots.items():
            if slot.incoming is None:
                continue
            if slot.incoming.wanted != self._wanted.get(name):
                taken_out.append(slot.incoming)
                slot.incoming = None
            elif slot.incoming.is_ready:
                taken_out.append(slot.current)
                slot.current, slot.incoming = slot.incoming, None

    def _roll(self) -> None:
        """Start the replacement of one pod of each workload; never fewer are ready than there are to be."""
        busy = {slot.current.pod.workload for slot in self._slots.values() if slot.incoming}
        for name, slot in self._slots.items():
            wanted = self._wanted.get(name)
            if wanted is None or slot.incoming or slot.current.wanted == wanted:
                continue
            if wanted.pod.workload not in busy and self._has_room():
                busy.add(wanted.pod.workload)
                slot.incoming = self._start(wanted)

    def _remove(self, taken_out: list[RunningPod]) -> None:
        """Take out what is not wanted any more.

        What a workload has too many of goes once the others are ready; what has no workload any more, which may
        have got another name, once all are.
        """
        patient = time.monotonic() < self._changed_at + _REPLACEMENT_SECONDS
        for name in [name for name in self._slots if name not in self._wanted]:
            workload = self._slots[name].current.pod.workload
            waits = self.not_ready(workload if workload in self._workloads else None)
            if not (waits and patient):
                taken_out.append(self._slots.pop(name).current)
