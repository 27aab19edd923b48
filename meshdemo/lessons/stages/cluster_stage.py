"""A cluster as the stage of lessons: what a person would type, typed by this program, and taken back at the end.

Only what this program has brought is deleted: objects that are there before it comes are neither changed nor deleted.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from meshdemo.console import signals
from meshdemo.console.processes import end_process
from meshdemo.errors import StartError
from meshdemo.escaping import printable
from meshdemo.lessons.files.comment import Command
from meshdemo.lessons.files.reading import EXAMPLE, Lesson, ports_of, replace_ports
from meshdemo.lessons.stages.port_forward import PortForward

# What lessons call the proxy's address by.
_FRONT = 3030
_AVAILABLE_SECONDS = 180
# How long any other call of kubectl may take, and one that changes something once a signal has come.
_REQUEST_SECONDS = 30
_SIGNAL_SECONDS = 5.0
_POLL_SECONDS = 0.05
# How long sidecars may take to hear of a policy; a cluster does not say when they have.
_SPREAD_SECONDS = 5.0
_HINTS = {
    "config": ". To make a cluster on this machine: kind create cluster",
    "rollout": "; kubectl get pods shows why",
}
_CONTAINERS = "{range .items[*].spec['initContainers','containers'][*]}{.name} {end}"
_NO_SIDECAR = (
    "the proxy's pod has no sidecar, so Istio's own policies have no effect, unless the namespace is in ambient mode: "
    "kubectl label namespace {namespace} istio-injection=enabled, kubectl rollout restart deployment"
)


class ClusterStage:
    """Lessons on the context and the namespace that kubectl has when this begins. `say` takes lines for the person.

    With a `folder` its example is brought; without, policies are applied to what is there.
    """

    where = "on the cluster"
    explains = False
    page: str | None = None

    def __init__(self, folder: Path | None, port: int, say: Callable[[str], object]) -> None:
        if shutil.which("kubectl") is None:
            raise StartError("--cluster runs kubectl, which is not installed.")
        self._example = folder and folder / EXAMPLE
        self._port = port
        self._say = say
        self._scope: tuple[str, ...] = ()
        self.context = self._kubectl("config", "current-context").strip()
        namespace = self._kubectl("config", "view", "--minify", "--output", "jsonpath={..namespace}").strip()
        self.namespace = namespace or "default"
        # Named in every call: another terminal may change the current ones meanwhile.
        self._scope = ("--context", self.context, "--namespace", self.namespace)
        self._shown_at = datetime.now(UTC)
        self._is_prepared = False
        self._has_front = False
        self._ours: list[str] = []
        self._of_lesson: list[str] = []
        self._forwards: dict[tuple[str, ...], PortForward] = {}

    def plan(self) -> str:
        """Return what will be done, and to which context."""
        example = f"  apply {self._example}, unless it is there already;\n" if self._example else ""
        return (
            f"kubectl's context is {self.context}, its namespace {self.namespace}. meshdemo will do this there:\n"
            f"{example}"
            f"  apply each {'lesson' if self._example else 'policy'} in place of the one before, and forward ports;\n"
            "  at the end, delete what it has applied, and nothing else."
        )

    def show(self, lesson: Lesson) -> None:
        self._end_forwards()
        self._delete(self._of_lesson)
        if not self._is_prepared:
            self._prepare()
        self._bring(lesson.path, self._of_lesson)
        until = time.monotonic() + _SPREAD_SECONDS
        while time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        self._shown_at = datetime.now(UTC)
        if self._has_front:
            self._forward(("service/proxy", f"{self._port or ''}:80"))
            self.page = f"http://127.0.0.1:{self._front_port}/ui"

    def translate(self, command: Sequence[str]) -> list[str] | None:
        if tuple(command[:2]) == ("kubectl", "port-forward"):
            self._forward(tuple(command[2:]))
            return None
        if tuple(command[:2]) == ("meshdemo", "call"):
            return None  # only the lab can explain a call
        if command[0] != "kubectl" or len(command) == 1:
            return self.typed(command)
        words = ["kubectl", *self._scope, *command[1:]]
        if command[1] == "logs":  # what former lessons have left there does not count
            words += ["--since-time", self._shown_at.strftime("%Y-%m-%dT%H:%M:%SZ")]
        return words

    def typed(self, command: Sequence[str]) -> list[str]:
        return replace_ports(command, {_FRONT: self._front_port} if self._has_front else {})

    def logs(self, command: Sequence[str]) -> str | None:  # noqa: ARG002
        return None

    def pressed(self) -> str:
        return ""

    def edited(self, lesson: Lesson) -> Lesson:
        return lesson

    def judged(self, checks: Sequence[tuple[str, bool | None]] | None) -> None:
        pass

    def step(self) -> None:
        for forward in self._forwards.values():
            forward.look_after()

    def why_not(self, lesson: Lesson) -> str | None:  # noqa: ARG002
        return None

    def why_not_judged(self, command: Command) -> str | None:
        words = command.pipeline[-1]
        if any(word.partition("=")[0] == "--from" for word in words):
            return "only in a lab --from says where a call comes from"
        if any(word.startswith("tcp:") for word in words):
            return "only in a lab tcp:// is called"
        ports = ports_of(words)
        if others := sorted(ports - {_FRONT}):
            return f"127.0.0.1:{others[0]} is not forwarded: only 127.0.0.1:{_FRONT} is, to the Service proxy"
        if ports and not self._has_front:
            return f"127.0.0.1:{_FRONT} is the Service proxy, and namespace {self.namespace} has none"
        return None

    def close(self) -> None:
        """Take back what was applied, and end what forwards ports; raise StartError for what could not be deleted.

        To be called where signals do not interrupt it.
        """
        self._end_forwards()
        names = [*self._of_lesson, *self._ours]
        if not names:
            return
        try:
            self._say(f"deleting what was applied to {self.context} ...")
        except OSError:
            pass  # the terminal has gone
        try:
            self._kubectl("delete", "--ignore-not-found", "--wait=false", *names)
        except StartError as error:
            raise StartError(f"{error}. What was applied may still be there: {', '.join(names)}") from None

    @property
    def _front_port(self) -> int:
        return next(forward.ports[0] for words, forward in self._forwards.items() if words[0] == "service/proxy")

    def _prepare(self) -> None:
        """Bring the example, find out what stands in front, and say where that has no sidecar."""
        if self._example:
            self._bring_example(self._example)
        self._has_front = self._example is not None or bool(self._present(["service/proxy"]))
        if self._has_front:
            containers = self._kubectl("get", "pods", "--selector", "app=proxy", "--output", f"jsonpath={_CONTAINERS}")
            if "istio-proxy" not in containers.split():
                self._say(_NO_SIDECAR.format(namespace=self.namespace))
        self._is_prepared = True

    def _bring_example(self, example: Path) -> None:
        names = self._names(example)
        there = self._present(names)
        if there and there != set(names):
            missing = ", ".join(name for name in names if name not in there)
            raise StartError(
                f"only part of {example} is there: {missing} is missing in namespace {self.namespace}. "
                "First apply it, or delete it."
            )
        if there:
            self._say(f"{example} is there already, and stays as it is")
        else:
            self._apply(example, names, self._ours)
        self._wait_for_pods(names)

    def _bring(self, path: Path, ours: list[str]) -> None:
        """Apply a file of which nothing is there yet, and wait for its pods."""
        names = self._names(path)
        there = self._present(names)
        if there:
            raise StartError(
                f"{min(there)} is already in namespace {self.namespace}, and {path} brings its own: delete it first, "
                "or use another namespace."
            )
        self._apply(path, names, ours)
        self._wait_for_pods(names)

    def _apply(self, path: Path, names: Sequence[str], ours: list[str]) -> None:
        ours += names  # before they are there: whatever happens from now on, they are taken back
        self._kubectl("apply", "--filename", str(path))

    def _names(self, path: Path) -> list[str]:
        """Return the objects of a file, such as `deployment.apps/proxy`."""
        return self._kubectl("apply", "--dry-run=client", "--output", "name", "--filename", str(path)).split()

    def _present(self, names: Sequence[str]) -> set[str]:
        return set(self._kubectl("get", "--ignore-not-found", "--output", "name", *names).split())

    def _wait_for_pods(self, names: Sequence[str]) -> None:
        for name in names:
            if name.startswith("deployment.apps/"):
                self._kubectl("rollout", "status", name, f"--timeout={_AVAILABLE_SECONDS}s")

    def _delete(self, names: list[str]) -> None:
        if names:
            self._kubectl("delete", "--ignore-not-found", f"--timeout={_REQUEST_SECONDS}s", *names)
            names.clear()

    def _forward(self, arguments: tuple[str, ...]) -> None:
        if arguments not in self._forwards:
            forward = self._forwards[arguments] = PortForward([*self._scope, "port-forward", *arguments])
            forward.open()

    def _end_forwards(self) -> None:
        for forward in self._forwards.values():
            forward.close()
        self._forwards.clear()

    def _kubectl(self, *arguments: str) -> str:
        """Run kubectl to its end, and return what it printed; raise StartError with its reason.

        A call that changes something is not interrupted at once by a signal, since how far it has come would not be
        known: it has some seconds to end by itself, unless a second signal comes.
        """
        limit = _AVAILABLE_SECONDS + _REQUEST_SECONDS if arguments[0] == "rollout" else _REQUEST_SECONDS
        shown = f"kubectl {shlex.join(arguments)}"
        with signals.held() if arguments[0] in ("apply", "delete") else nullcontext(()) as arrived:
            process = subprocess.Popen(
                ["kubectl", *self._scope, *arguments],  # noqa: S607
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                process_group=0,  # Ctrl+C is this program's, which takes back what it did
            )
            try:
                output, errors = _communicate(process, limit, arrived)
            except subprocess.TimeoutExpired:
                raise StartError(f"{shown}: no answer within {limit} s. Does kubectl reach the cluster?") from None
            finally:
                end_process(process)
        if process.returncode:
            lines = [printable(line.strip()) for line in errors.splitlines() if line.strip()]
            reason = "; ".join(dict.fromkeys(lines)) or "no reason given"
            raise StartError(f"{shown}: {reason}{_HINTS.get(arguments[0], '')}")
        return output


def _communicate(process: subprocess.Popen[str], seconds: float, arrived: Sequence[int]) -> tuple[str, str]:
    """Return what a process writes until it ends; raise TimeoutExpired after `seconds`, or soon after a signal."""
    deadline = time.monotonic() + seconds
    signalled = False
    while True:
        try:
            return process.communicate(timeout=_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if arrived and not signalled:
                signalled, deadline = True, min(deadline, time.monotonic() + _SIGNAL_SECONDS)
            if len(arrived) > 1 or time.monotonic() > deadline:
                raise
