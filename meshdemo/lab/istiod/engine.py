"""Istio's own control plane as an engine of the lab: what it makes of the policies is applied as it is."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Iterable, Mapping
from threading import Event, Thread, Timer
from typing import IO, Any

from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.engine import Configuration, Resources
from meshdemo.lab.files.errors import ManifestError, raise_all
from meshdemo.lab.files.kinds import GATEWAY_API
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.istiod import build
from meshdemo.lab.istiod.addresses import judged_by_address
from meshdemo.lab.istiod.objects import control_plane_input
from meshdemo.lab.istiod.statuses import read_statuses

# What this filter does one of Envoy's own does here (lab/envoy/standalone.py).
_ALPN = "istio.alpn"
_LEFT_OUT = "left out, since only Istio's own build of Envoy has them: the filters "
# With what a Go program says why it ends (runtime package), and how many lines are kept of what it says otherwise.
_ENDS = ("panic: ", "fatal error: ")
_LINES = 20
_READ_SECONDS = 2.0
_ANEW = "run meshdemo istiod remove, and then meshdemo istiod build"
_PLACE = "Istio's control plane"
# What a patch of an EnvoyFilter may name beside the resources that an engine answers with.
_UNDELIVERED = ("BOOTSTRAP", "EXTENSION_CONFIG")
# How long an answer may take: many times what it does, also where the machine has other things to do.
_ANSWER_SECONDS = 20.0
_WORKLOAD_SECONDS = 0.5
# Each answer takes some megabytes that Istio's packages never give back: after so many the program is started anew.
_ANSWERS = 100


class Istiod:
    """The program that `build` makes, asked again and again; it ends with this process.

    Raise build.BuildError when it has not been made.
    """

    name = "istiod"

    def __init__(self) -> None:
        self._program = build.find()
        #: The program, for those who look at it; None before the first use.
        self.process: subprocess.Popen[str] | None = None
        self._errors: list[str] = []
        self._reason = ""
        self._late = ""
        self._answers = 0
        self._has_named_filters = False
        self._resources: dict[str, Resources] = {}

    def configure(self, cluster: Cluster) -> Configuration:
        """Return what Istio's control plane makes of a cluster, and what its analysis says of the files.

        Raise ManifestError for a policy that an API server or Istio itself refuses, with its reason.
        """
        for manifest in cluster.policies:
            _check_patches(manifest)
        answer, refusals = self._ask(control_plane_input(cluster)), []
        # Those that are refused are left out one after the other, so that all are said.
        policies = list(cluster.policies)
        while "policy" in answer:
            policy = policies.pop(answer["policy"])
            reason = _one_line(answer["error"]).removeprefix(f"{policy.kind}/{policy.name}/{policy.namespace}: ")
            refusals.append(ManifestError(policy.place, reason))
            answer = self._ask(control_plane_input(dataclasses.replace(cluster, policies=tuple(policies))))
        if "error" in answer:
            raise_all(refusals)
            raise ManifestError(_PLACE, _one_line(answer["error"]))
        # What is the same as last time is not sent again.
        former, self._resources = self._resources, {}
        for name, parts in answer["workloads"].items():
            known = former.get(name, Resources())
            self._resources[name] = dataclasses.replace(known, **parts) if parts else known
        raise_all(refusals)
        resources = dict(self._resources)
        filters = set() if self._has_named_filters else _istio_filters(answer["workloads"])
        statuses, not_in_force = read_statuses(answer.get("statuses") or (), cluster)
        notes = [_LEFT_OUT + ", ".join(sorted(filters))] if filters else []
        if self._late:
            notes.append(self._late)
            self._late = ""
        notes += [*_closed_ports(cluster, resources), *judged_by_address(cluster), *statuses]
        self._has_named_filters = True
        return Configuration(resources, tuple(notes), tuple(_advice(answer.get("messages") or [])), tuple(not_in_force))

    def close(self) -> None:
        """End the program."""
        if self.process:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe:
                    with contextlib.suppress(OSError):  # what nobody reads any more
                        pipe.close()
            self.process = None

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request, and return its answer.

        A program that ends is started anew, and asked once more: what ended it may have been an earlier request.
        """
        text = json.dumps(request) + "\n"
        seconds = _ANSWER_SECONDS + _WORKLOAD_SECONDS * len(request["workloads"])
        line = self._exchange(text, seconds) or self._exchange(text, seconds)
        if not line:
            raise ManifestError(_PLACE, self._reason)
        self._answers += 1
        if self._answers >= _ANSWERS:
            self.close()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _exchange(self, text: str, seconds: float) -> str:
        """Return the line that answers a request, empty when the program has ended; `_reason` says why.

        A program that gives no answer for `seconds` is ended.
        """
        process = self.process or self._start()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process without its pipes")
        is_late = Event()

        def end_late() -> None:
            is_late.set()
            process.kill()

        timer = Timer(seconds, end_late)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(text)
            process.stdin.flush()
            # Istio's packages may say something at their start, which is no answer.
            line = next((line for line in process.stdout if line.startswith("{")), "")
        except BrokenPipeError:
            line = ""
        except BaseException:
            self.close()  # half a request was sent, or half an answer read
            raise
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            status = process.wait()
            self._reader.join(_READ_SECONDS)
            said = [each for each in self._errors if each.strip()]
            # What Go says before it tells what everything was about.
            reason = next((each for each in said if each.startswith(_ENDS)), said[0] if said else "it gives no reason")
            # Killed by a signal before its first answer: as a file is that was cut off.
            hint = f": {_ANEW}" if status < 0 and not self._answers else ""
            self._reason = f"ended with status {status}: {reason}{hint}"
            if is_late.is_set():
                self._reason = f"gave no answer for {seconds:g} s"
                self._late = f"{_PLACE} {self._reason}, and was started again"
            self.close()
            return ""
        return line

    def _start(self) -> subprocess.Popen[str]:
        self._errors.clear()
        self._answers = 0
        self._resources = {}
        try:
            process = subprocess.Popen(
                [self._program.executable, *self._program.definitions],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env={},  # PILOT_* and others would change what Istio makes
                process_group=0,  # Ctrl+C is this process's to hear; the program ends when its input does
            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ManifestError(_PLACE, f"cannot be started: {reason}: {_ANEW}") from None
        self._reader = Thread(target=self._hear, args=(process.stderr,), daemon=True)
        self._reader.start()
        self.process = process
        return process

    def _hear(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                if len(self._errors) < _LINES or line.startswith(_ENDS):
                    self._errors.append(line.rstrip())


def _istio_filters(value: Any) -> set[str]:
    """Return the names of the filters that only Istio's own build of Envoy has, which the lab leaves out."""
    if isinstance(value, list):
        return set().union(*map(_istio_filters, value))
    if not isinstance(value, dict):
        return set()
    name = str(value.get("name", ""))
    is_own = "typed_config" in value and name.startswith("istio.") and name != _ALPN
    own = {name} if is_own else set()
    return own.union(*map(_istio_filters, value.values()))


def _closed_ports(cluster: Cluster, resources: Mapping[str, Resources]) -> Iterable[str]:
    """Return a line for each port that Istio does not open; the Gateway API has conditions that say it."""
    for gateway in cluster.gateways:
        if gateway.manifests[0].group == GATEWAY_API:
            continue
        listeners = resources[gateway.name].listeners if gateway.name in resources else []
        is_open = {each["name"].rpartition("_")[2] for each in listeners}
        for port in gateway.ports:
            if str(port) not in is_open:
                yield f"{gateway.manifests[0].place}: Istio opens no port {port} for it; is there all that it names?"


def _check_patches(manifest: Manifest) -> None:
    """Raise ManifestError for what changes no resource: Istio takes it, and no Envoy here would hear of it."""
    patches = manifest.spec.get("configPatches") if manifest.kind == "EnvoyFilter" else None
    for index, patch in enumerate(patches if isinstance(patches, list) else []):
        target = patch.get("applyTo") if isinstance(patch, dict) else None
        if target in _UNDELIVERED:
            where = f"spec.configPatches[{index}]"
            raise ManifestError(manifest.place, f"{where}: the lab has no {target} that a patch could change")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _advice(messages: Iterable[dict[str, Any]]) -> Iterable[str]:
    """Return the messages of Istio's analysis, a line each: level, code, object, file and line, and the page on it."""
    for message in messages:
        origin, page = message.get("origin", ""), message.get("documentationUrl", "")
        where = f" ({message['reference']})" if message.get("reference") else ""
        text = _one_line(message.get("message", ""))
        yield f"{message.get('level', '')} {message.get('code', '')}: {origin}{where}: {text} {page}".strip()
