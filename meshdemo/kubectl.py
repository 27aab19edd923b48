"""A cluster as the stage of lessons: what a person would type, typed by this program, and taken back at the end."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence

from meshdemo.lessons import EXAMPLE, Lesson
from meshdemo.server import StartError

_FRONT = ("service/proxy", "3030:80")
_AVAILABLE_SECONDS = 180
_OPEN_SECONDS = 30
_POLL_SECONDS = 0.05
# How long sidecars may take to hear of a policy; a cluster does not say when they have.
_SPREAD_SECONDS = 5.0


class ClusterStage:
    """Lessons on the current context of kubectl."""

    where = "on the cluster"

    def __init__(self, lessons: Sequence[Lesson]) -> None:
        if shutil.which("kubectl") is None:
            raise StartError("--cluster runs kubectl, which is not installed.")
        self.context = self._kubectl("config", "current-context").strip()
        self._folder = lessons[0].folder
        self._applied: list[str] = []
        self._forwards: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}
        self._example_is_ours = False

    def plan(self) -> str:
        """Return what will be done, and to which context."""
        return (
            f"kubectl's context is {self.context}. There {self._folder / EXAMPLE} and each lesson are applied, "
            "ports are forwarded, and what was applied is deleted at the end."
        )

    def show(self, lesson: Lesson) -> None:
        self._start()
        self._take_back()
        self._applied.append(str(lesson.path))
        self._kubectl("apply", "-f", str(lesson.path))
        self._wait_for_pods()
        until = time.monotonic() + _SPREAD_SECONDS
        while time.monotonic() < until:
            self.step()
            time.sleep(_POLL_SECONDS)
        self._forward(_FRONT)

    def translate(self, command: Sequence[str]) -> list[str] | None:
        if list(command[:2]) == ["kubectl", "port-forward"]:
            self._forward(tuple(command[2:]))
            return None
        return list(command)

    def step(self) -> None:
        for arguments, process in list(self._forwards.items()):
            if process.poll() is not None:  # its pod has gone
                self._forwards[arguments] = self._open(arguments)

    def why_not(self, lesson: Lesson) -> str | None:  # noqa: ARG002
        return None

    def close(self) -> None:
        """Take back what was applied, and end what forwards ports."""
        self._take_back()
        if self._example_is_ours:
            self._kubectl("delete", "--ignore-not-found", "--wait=false", "-f", str(self._folder / EXAMPLE))
            self._example_is_ours = False

    def _start(self) -> None:
        if self._example_is_ours or self._forwards:
            return
        example = str(self._folder / EXAMPLE)
        there = self._kubectl("get", "--ignore-not-found", "-o", "name", "-f", example).split()
        self._example_is_ours = not there
        self._kubectl("apply", "-f", example)
        self._wait_for_pods()

    def _wait_for_pods(self) -> None:
        self._kubectl("rollout", "status", "deployment", f"--timeout={_AVAILABLE_SECONDS}s")

    def _take_back(self) -> None:
        for process in self._forwards.values():
            process.terminate()
            process.wait()
        self._forwards.clear()
        while self._applied:
            self._kubectl("delete", "--ignore-not-found", "-f", self._applied.pop())

    def _forward(self, arguments: tuple[str, ...]) -> None:
        if arguments not in self._forwards:
            self._forwards[arguments] = self._open(arguments)

    def _open(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        """Start a port-forward, and return when each of its ports can be connected to."""
        process = subprocess.Popen(
            ["kubectl", "port-forward", *arguments],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        ports = [int(each.partition(":")[0]) for each in arguments if each.partition(":")[0].isdigit()]
        deadline = time.monotonic() + _OPEN_SECONDS
        while not all(map(_is_open, ports)):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise StartError(f"kubectl port-forward {shlex.join(arguments)} did not open its ports.")
            time.sleep(_POLL_SECONDS)
        return process

    def _kubectl(self, *arguments: str) -> str:
        """Run kubectl to its end, and return what it printed; raise StartError with its reason."""
        done = subprocess.run(
            ["kubectl", *arguments],  # noqa: S607
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            process_group=0,  # Ctrl+C is this program's, which takes back what it did
        )
        if done.returncode:
            reason = done.stderr.strip().splitlines()
            raise StartError(f"kubectl {shlex.join(arguments)}: {reason[-1] if reason else 'it gives no reason'}")
        return done.stdout


def _is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
