"""`meshdemo up -f`: runs what the manifests describe, keeps it running, and follows their changes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshdemo.escaping import printable_message
from meshdemo.lab.cluster.options import DEFAULT_OPTIONS, ReadOptions
from meshdemo.lab.cluster.pods import Pod
from meshdemo.lab.door.door import Door, DoorError
from meshdemo.lab.door.marks import ChangeMarks
from meshdemo.lab.edits.readings import Readings
from meshdemo.lab.edits.state import Reader, State
from meshdemo.lab.engine import Engine
from meshdemo.lab.envoy.judge import Judge
from meshdemo.lab.envoy.xds.control_plane import ControlPlane, EnvoyError
from meshdemo.lab.explainer import Explainer
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.sources import given_paths, shown_path
from meshdemo.lab.fleet.fleet import Fleet
from meshdemo.lab.fleet.outside import Address
from meshdemo.lab.fleet.request_log import RequestLog
from meshdemo.lab.page_view import FILES, Edit, PageView, Refusal, Subject, now_as_text
from meshdemo.lab.pods.guard import Guard
from meshdemo.lab.pods.pod import PodContext
from meshdemo.lab.pods.ports import PortBook
from meshdemo.lab.pods.replica import Log, Say
from meshdemo.lab.pods.tls import make_context
from meshdemo.lab.telling import Telling
from meshdemo.lab.words import summary
from meshdemo.lab.xray.facts.records import Records

_POLL_SECONDS = 0.05
_START_SECONDS = 30
_POD_SECONDS = 1
_NOT_APPLIED = "not applied, the last good state stays: "
# How long who has seen a scene waits for another one.
_SCENE_SECONDS = 2


@dataclass(frozen=True)
class LabOptions:
    """How a lab runs: the port in front, seconds to drain, whether calls are logged, and how the files are read."""

    port: int = 3030
    drain_seconds: float = 5.0
    access_log: bool = False
    reading: ReadOptions = DEFAULT_OPTIONS


class Lab:
    """The manifests at `paths`, running.

    `say` takes lines for the person at the terminal, `log` what pods log, which is said like all else without it.
    `subject` is what the page says of them.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        engine: Engine,
        options: LabOptions,
        say: Say,
        log: Log | None = None,
        subject: Subject = FILES,
    ) -> None:
        self._options = options
        self._stopped = False
        self._out = say
        self._reader = Reader(paths, engine, self._say, options.reading)
        self._readings = Readings(paths, self._reader, self._say)
        self._telling = Telling(self._say)
        with ExitStack() as stack:
            guard = Guard()
            stack.callback(guard.close)
            ports = PortBook()
            files = self._reader.read()
            self._port = ports.claim("front", options.port)
            self._say(summary.starting(files.cluster))
            state = self._reader.configure(files)
            plane = ControlPlane(guard.folder)
            stack.callback(plane.close)
            self._judge = Judge(guard.folder, guard.group, plane)
            stack.callback(self._judge.close)
            self.records = Records()
            plane.hearers.append(self.records.hear)
            #: By which other programs of this user ask; what they ask for is added to it.
            self.door = Door(guard.folder)
            self.door.add("GET", "/", self._describe)
            Explainer(self, self.door)
            #: What the page shows of all this.
            self.page_view = PageView()
            for path in ("/scene", "/scene/"):
                self.door.add("GET", path, self._scene)
            self._marks = ChangeMarks(guard.folder / "changes.json")
            log = log or (lambda pod, line: self._say(f"{pod} | {line}"))
            self._request_log = RequestLog(log, lambda: self.pods.taking_calls)
            around = PodContext(
                folder=guard.folder,
                process_group=guard.group,
                plane=plane,
                ports=ports,
                say=self._say,
                log=log,
                request_log=self._request_log.write,
                access_log=options.access_log,
                environment={"DRAIN_SECONDS": str(options.drain_seconds), "ACCESS_LOG": str(options.access_log)},
                proxy_environment={"CHANGES_FILE": str(self._marks.path), "LAB_SOCKET": str(self.door.path)},
                tls=functools.cache(lambda: make_context(guard.folder)),
            )
            self._fleet = Fleet(guard, around, self._request_log, self._reader, state)
            #: All pods, and what is reached from outside, for those who look at them.
            self.pods, self.outside = self._fleet.pods, self._fleet.outside
            self.door.open()
            stack.callback(self.door.close)
            self._ending = stack.pop_all()
        self._subject = subject
        self._edit: Edit | None = None
        self._is_edit = True  # what is read next, and not another subject
        self._refusal: Refusal | None = None

    def start(self) -> None:
        """Start everything, and return when all pods take calls and everything that is to be called listens."""
        try:
            self._fleet.start()
        except EnvoyError as error:
            self.outside.check_ports(self.state)
            raise self._reader.blame(self.state, error, self._judge) from None

    def step(self) -> None:
        """Look after everything once: pods that come and go, what listens, files that changed."""
        for look in (
            self.outside.look_after,
            self._fleet.callers.look_after,
            self.pods.step,
            lambda: self._telling.look(is_settled=self.pods.settled),
            self._renew,
            self._follow,
        ):
            refusal = None
            try:
                look()
            except (ManifestError, EnvoyError) as error:
                refusal = self._refuse(f"{_NOT_APPLIED}{error}", error)
            except Exception as error:  # such as a full disk; whatever it is, it must not end the lab
                refusal = Refusal(f"meshdemo itself failed and goes on, please report it: {error!r}")
            if refusal and refusal != self._refusal:
                self._refusal = refusal
                self._telling.tell(refusal.problem)
        if not self._readings.is_busy:
            self.page_view.show(self.state, self._subject, self._edit, self._refusal)

    def stop(self) -> None:
        """End everything at once, and leave nothing."""
        self._stopped = True
        self._fleet.retire()
        self._ending.close()
        self._fleet.stop()

    def drain(self) -> None:
        """Let the proxies finish what they have begun, as when their pods are deleted."""
        self._fleet.drain(self._options.drain_seconds)

    @property
    def state(self) -> State:
        """Return what the files say that is in force."""
        return self._fleet.state

    def addresses(self) -> list[Address]:
        """Return what can be called from outside."""
        return self.outside.addresses(self.state)

    @property
    def port(self) -> int:
        """Return the port that this lab is known by, that of what stands in front."""
        return self._port

    def rules_of_caller(self, pod: Pod) -> tuple[tuple[str, str | int], ...]:
        """Return where a pod's calls go instead, of one that calls nobody, too. Raise DoorError."""
        rules = self._fleet.rules_of_caller(pod)
        if rules is None:
            raise DoorError(503, f"{pod.name} cannot call yet: {self.problem or 'its sidecar is not ready'}")
        return rules

    def _describe(self, _rest: str, _body: object) -> dict[str, Any]:
        """Return what runs here, for those who look for a lab."""
        return {
            "port": self._port,
            "files": [shown_path(path) for path in given_paths(self._readings.paths)],
            "pods": [pod.name for pod in self.state.pods],
            "addresses": [{"name": address.name, "url": address.url} for address in self.addresses()],
        }

    def _scene(self, seen: str, _body: object) -> dict[str, Any] | None:
        """Return what the page shows, and who makes the calls of a page, by the port that it was opened at."""
        document = self.page_view.get(seen, _SCENE_SECONDS)
        names = ((each.port, each.name) for each in self.addresses() if each.gateway_port is None)
        callers = {str(port): name.rpartition("/")[2] for port, name in names}
        return document and {**document, "callers": callers}

    def follow(self, paths: Sequence[Path], subject: Subject = FILES) -> None:
        """Follow other files from now on; `is_settled` says when they are in force."""
        self._is_edit = subject.title == self._subject.title or tuple(paths) == self._readings.paths
        self._subject = subject
        self._readings.follow(paths)
        if self._refusal:
            self._refusal = None
            self._readings.read_again()

    def rename(self, subject: Subject) -> None:
        """Have the page say something else of the files that run."""
        self._subject = subject

    @property
    def is_settled(self) -> bool:
        """Return whether what the files say is in force, and every pod as it is to be."""
        return self._readings.is_settled and not self._telling.is_rolling and self.pods.settled

    @property
    def problem(self) -> str | None:
        """Return why the files as they are now are not in force."""
        return self._refusal.problem.removeprefix(_NOT_APPLIED) if self._refusal else None

    def _refuse(self, problem: str, error: Exception) -> Refusal:
        """Return what is said of an error in the files, with the text that it is about."""
        if not isinstance(error, ManifestError):
            return Refusal(problem)
        text = self._reader.loader.texts.get(error.file or "", "")
        return Refusal(problem, error.file, error.line, text)

    def _say(self, line: str) -> None:
        """Tell the person; not what ends because all does."""
        if not self._stopped:
            self._out(printable_message(line))

    def _renew(self) -> None:
        """Renew certificates in time."""
        if self._reader.renew_certificates():
            self._fleet.put_in_force()

    def _follow(self) -> None:
        """Apply files that have changed, and what changes when pods have gone; keep the last good state otherwise."""
        if state := self._readings.take():
            try:
                self._apply(state)
            except EnvoyError as error:
                self._readings.begin_blame(state, error, self._judge)
        elif self._readings.begin_edit(self._pods_here):
            self._refusal = None
        else:
            self._readings.begin_rest(self._pods_here, self.state)

    def _pods_here(self) -> list[Pod]:
        return [pod.pod for pod in self.pods.present]

    def _apply(self, state: State) -> None:
        """Put a state in force, say what is different; raise EnvoyError, with all as it was, where it is refused."""
        former = self.state
        addresses = self.outside.addresses(former)
        silent, rolls = self._fleet.change(state)
        self.pods.step()
        if state.files is former.files:
            return
        labels = self._telling.tell_changes(former, state, silent, rolls=rolls)
        for address in self.outside.addresses(state):
            if address not in addresses:
                self._telling.tell(f"to call: {address.url}  {address.name}")
        self._telling.tell_notes(state.notes)
        if labels or not self._is_edit:
            self._edit = Edit(now_as_text(), labels, former) if self._is_edit else None
        self._is_edit = True
        self._marks.add(labels)
