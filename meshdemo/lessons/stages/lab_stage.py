"""The lab as the stage of lessons: one lab for all of them, with the same address and page."""

from __future__ import annotations

import dataclasses
import re
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from meshdemo.errors import StartError
from meshdemo.lab import quick
from meshdemo.lab.cluster.options import DEFAULT_OPTIONS, ReadOptions
from meshdemo.lab.cluster.pods import Pod, matches
from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.edits.state import Files, Reader, State
from meshdemo.lab.engine import Engine
from meshdemo.lab.envoy.xds.control_plane import EnvoyError
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.manifests import Loader
from meshdemo.lab.files.sources import shown_path
from meshdemo.lab.lab import Lab, LabOptions
from meshdemo.lab.page_view import Subject
from meshdemo.lab.pods.pod import is_sidecar_name, sidecar_name
from meshdemo.lab.pods.replica import Say
from meshdemo.lab.quick.rules.refusing import UnsupportedError
from meshdemo.lessons.files.comment import Command
from meshdemo.lessons.files.reading import EXAMPLE, Lesson, ports_of, replace_ports
from meshdemo.lessons.stages.desk import FRONT, Desk, find_scene
from meshdemo.lessons.stages.stage import UnusableStageError

# Where the lessons' commands look for the gateways' port 80.
_GATEWAY_SHIFT = 8000
_PRIVILEGED = 1024
# Ports by which commands call nothing but the lab: what stands in front, and gateways.
_FRONTS = {FRONT, _GATEWAY_SHIFT + 80, _GATEWAY_SHIFT + 443}
_POLL_SECONDS = 0.05
_IN_FORCE_SECONDS = 40.0
# How many lines are kept of what each pod logs.
_LINES = 10_000
# What fits a line of a terminal.
_LINK_LENGTH = 79


class LabStage:
    """Lessons in a lab, which starts with the first of them. `engine` configures it, `say` takes its lines.

    `manifests` are what runs instead of the example of the lessons' folder. `count` is how many lessons there are,
    `edits` the folder for copies that the page makes.
    """

    where = "in the lab"
    explains = True

    def __init__(
        self,
        engine: Engine,
        options: LabOptions,
        say: Say,
        manifests: Sequence[Path] = (),
        *,
        count: int = 0,
        edits: Path | None = None,
    ) -> None:
        self._engine = engine
        self._manifests = tuple(manifests)
        self._options = options
        self._say = say
        self._lab: Lab | None = None
        self._lesson: Lesson | None = None
        self._scene = (FRONT, "")  # read once: the lesson's file may go while it is shown
        self._desk = Desk(edits)
        self._copies: dict[str, Path] = {}
        self._count = count
        self._about = ""
        self._checks: tuple[tuple[str, bool | None], ...] | None = ()  # None while they are made
        self._logs: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_LINES))

    def show(self, lesson: Lesson) -> None:
        self._scene = find_scene(lesson)
        self._lesson = lesson
        self._about = lesson.words().about if lesson.is_exercise else ""
        self._checks = ()
        self._desk.show(lesson)
        paths = self._paths(lesson)
        try:
            if self._lab is None:
                self._lab = Lab(paths, self._engine, self._options, self._say, self._log)
                self._lab.door.add("POST", "/edit", self._desk.answer)
                self._start(self._lab)
            else:
                self._lab.follow(paths, dataclasses.replace(self._subject(lesson), link=""))
                self._wait(self._lab)
            self._lab.follow(paths, self._subject(lesson))  # with the ports that its proxies have now
        except EnvoyError as error:  # no policy is to blame for it
            raise UnusableStageError(str(error)) from None
        except ManifestError as error:
            self._check_manifests()
            raise StartError(str(error)) from None
        self._check_applied(lesson, self._lab.state)
        self._logs.clear()

    def translate(self, command: Sequence[str]) -> list[str] | None:
        if command[0] == "kubectl":
            return None  # it opens a port, which the lab has open
        ports = self._ports()
        if command[0] == "meshdemo" and (unknown := sorted(ports_of(command) & _FRONTS - ports.keys())):
            there = ", ".join(f"127.0.0.1:{port}" for port in ports) or "nothing: call with --from"
            raise StartError(f"127.0.0.1:{unknown[0]} is nothing of the lab, from outside there is {there}.")
        words = replace_ports(command, ports)
        asks_the_lab = words[1:2] == ["call"] or any(word.partition("=")[0] == "--from" for word in words)
        if words[0] == "meshdemo" and asks_the_lab and self._lab:
            words += ["--lab", str(self._lab.port)]  # where several labs run
        return words

    def typed(self, command: Sequence[str]) -> list[str]:
        return replace_ports(command, self._ports())

    def logs(self, command: Sequence[str]) -> str | None:
        if tuple(command[:2]) != ("kubectl", "logs") or self._lab is None:
            return None
        return "".join(
            f"{line}\n"
            for name in selected_logs(command, self._lab.state.cluster.pods)
            for line in list(self._logs[name])
        )

    @property
    def page(self) -> str | None:
        """Return the link to the page with the scene of the lesson that is shown, and with the desk."""
        if not self._lab or not self._lesson:
            return None
        link, desk = self._link(), f"#desk={self._desk.token}"
        # The page asks the lab for a scene that its link has no room for.
        return link + desk if len(link + desk) <= _LINK_LENGTH else link.partition("?")[0] + desk

    def pressed(self) -> str:
        return self._desk.pressed()

    def edited(self, lesson: Lesson) -> Lesson:
        copy = self._copies.pop(lesson.file, None)
        return dataclasses.replace(lesson, edited=copy) if copy else lesson

    def judged(self, checks: Sequence[tuple[str, bool | None]] | None) -> None:
        self._checks = None if checks is None else tuple(checks)
        if self._lab and self._lesson:
            self._lab.rename(self._subject(self._lesson))

    def step(self) -> None:
        if self._lab is None:
            return
        if self._lesson and (copy := self._desk.copied()):
            self._copies[self._lesson.file] = copy
            if not self._lesson.edited:
                self._say(f"the page edits a copy, {copy}; the lesson's own file stays as it is")
            self._lesson = dataclasses.replace(self._lesson, edited=copy)
            self._checks = ()
            self._desk.show(self._lesson)
            self._lab.follow(self._paths(self._lesson), self._subject(self._lesson))
        self._lab.step()

    def why_not(self, lesson: Lesson) -> str | None:
        if self._engine.name != "quick" or self._options.reading.skip_invalid:
            return None
        reason = reason_for_istiod(self._paths(lesson), self._options.reading)
        if reason and self._manifests and (own := reason_for_istiod(self._manifests, self._options.reading)):
            raise UnusableStageError(own)
        return reason

    def why_not_judged(self, command: Command) -> str | None:  # noqa: ARG002
        return None

    @property
    def files(self) -> Files:
        """Return what the files say that are applied now; to be called once a lesson is shown."""
        if self._lab is None:
            raise LookupError("nothing is shown")
        return self._lab.state.files

    def close(self) -> None:
        """End the lab."""
        if self._lab:
            self._lab.stop()

    def _link(self) -> str:
        port, query = self._scene
        number = self._ports().get(port)
        return f"http://127.0.0.1:{number}/ui" + (f"?{query}" if query else "") if number else ""

    def _subject(self, lesson: Lesson) -> Subject:
        """Return what the page says of a lesson."""
        of_all = f" of {self._count}" if self._count else ""
        title = f"{'Exercise' if lesson.is_exercise else 'Lesson'} {lesson.number}{of_all}: {lesson.title}"
        return Subject(
            title,
            self._link(),
            desk=True,
            turns=self._desk.edits is not None,
            about=self._about,
            checks=self._checks or (),
            verdict=self._verdict(lesson),
        )

    def _verdict(self, lesson: Lesson) -> str:
        if self._checks is None:
            return "The calls are made and checked ..."
        if not lesson.is_exercise:
            return ""
        if not self._checks:
            return "Edit what is wrong, then press Run again: the calls are made and checked."
        if any(met is None for _, met in self._checks):
            return "Not judged: press Run again, which makes all calls and checks them."
        return "Mended: all checks are green." if all(met for _, met in self._checks) else "Not mended yet."

    def _paths(self, lesson: Lesson) -> list[Path]:
        return [*(self._manifests or [lesson.folder / EXAMPLE]), lesson.path]

    def _log(self, pod: str, line: str) -> None:
        """Keep what a pod logs for those who ask for it; what is no line of an access log is said at once."""
        self._logs[pod].append(line)
        if not line[:1].isdigit() and not is_sidecar_name(pod):  # each begins with the time
            self._say(f"{pod} | {line}")

    def _start(self, lab: Lab) -> None:
        try:
            lab.start()
        except (ManifestError, EnvoyError):
            lab.stop()
            self._lab = None
            raise

    def _check_manifests(self) -> None:
        """Raise UnusableStageError where something is wrong with what runs instead of the example, without a lesson."""
        reader = Reader(self._manifests, self._engine, options=self._options.reading)
        try:
            if self._manifests:
                reader.configure(reader.read())
        except ManifestError as error:
            raise UnusableStageError(str(error)) from None

    def _check_applied(self, lesson: Lesson, state: State) -> None:
        """Raise StartError where something of the lesson's own file is left out, as --skip-invalid lets others be."""
        file = shown_path(lesson.path)
        for error in state.files.left_out:
            if f"{error.place}:".startswith(f"{file}:"):
                raise StartError(str(error))
        if self._options.reading.skip_invalid:
            places = {each.id: each.place for each in state.files.manifests if each.path == lesson.path}
            for part in state.configuration.not_in_force:
                if part.needs_istiod and part.policy in places:
                    raise StartError(f"{places[part.policy]}: {part.reason}")

    def _wait(self, lab: Lab) -> None:
        deadline = time.monotonic() + _IN_FORCE_SECONDS
        while not lab.is_settled:
            if time.monotonic() > deadline:
                raise StartError(f"the lesson is not in force after {_IN_FORCE_SECONDS:g} s.")
            time.sleep(_POLL_SECONDS)
            lab.step()
            if lab.problem:
                raise StartError(lab.problem)

    def _ports(self) -> dict[int, int]:
        """Return where the ports that lessons name are here: an own number comes before one that stands for another."""
        own: dict[int, int] = {}
        shifted: dict[int, int] = {}
        for index, address in enumerate(self._lab.addresses() if self._lab else ()):
            number = address.gateway_port or FRONT + index
            if address.gateway_port is not None and number < _PRIVILEGED:
                shifted.setdefault(number + _GATEWAY_SHIFT, address.port)
            else:
                own.setdefault(number, address.port)
        return shifted | own


def selected_logs(command: Sequence[str], pods: Iterable[Pod]) -> list[str]:
    """Return whose lines `kubectl logs` asks for: pods, or their sidecars, by labels or by their workload's name."""
    words = " ".join(command)
    selector = re.search(r"(?:--selector|-l)[ =](\S+)", words)
    named = re.search(r"\bdeployment/(\S+)", words)
    labels = dict(part.split("=", 1) for part in selector[1].split(",")) if selector else {}
    is_of_sidecar = re.search(r"(?:--container|-c)[ =]?istio-proxy\b", words) is not None
    found = [pod.name for pod in pods if matches(pod.labels, labels) and (not named or pod.workload == named[1])]
    return [sidecar_name(name) if is_of_sidecar else name for name in found]


def needs_istiod(lesson: Lesson) -> str | None:
    """Return why only Istio's own control plane shows a lesson as it is, None when the quick engine does, too."""
    return reason_for_istiod([lesson.folder / EXAMPLE, lesson.path])


def reason_for_istiod(paths: Sequence[Path], reading: ReadOptions = DEFAULT_OPTIONS) -> str | None:
    """Return why only Istio's own control plane shows what files say as it is, None when the quick engine does, too."""
    try:
        manifests, _ = Loader(paths, namespace=reading.namespace).load()
        configuration = quick.configure(read_cluster(manifests, options=reading))
    except ManifestError as error:
        return str(error) if isinstance(error, UnsupportedError) else None
    return configuration.notes[0] if any(each.needs_istiod for each in configuration.not_in_force) else None
