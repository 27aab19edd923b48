"""What the tests of the lab share: a lab that is looked after, files that are edited, calls that are counted."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from support import ROOT, get, replace_text, wait_until

from meshdemo.lab import quick
from meshdemo.lab.cluster.pods import Container, Probe
from meshdemo.lab.engine import Engine
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.lab import Lab, LabOptions

K8S = ROOT / "k8s"
EXAMPLE = K8S / "example.yaml"
VERDICT = re.compile(r"in force|rolling out|not applied|no effective change")


@dataclass(frozen=True)
class Call:
    """One call of a proxy: what its answer says, or why there was none."""

    status: int | None = None
    content: str = ""
    hostname: str = ""
    text: str = ""
    milliseconds: float = 0.0
    error: str = ""


class Calls(list[Call]):
    """Calls that were made, counted in several ways."""

    def __init__(self, calls: Iterable[Call] = ()):
        super().__init__(calls)
        #: While they are made under load: how many were answered so far.
        self.answered = 0

    def wait_for_more(self, count: int = 30) -> None:
        """Return when so many more were answered, so that what was edited had calls after it."""
        since = self.answered
        wait_until(lambda: self.answered >= since + count, f"{count} more calls")

    @property
    def statuses(self) -> Counter:
        return Counter(call.status for call in self)

    @property
    def versions(self) -> Counter:
        return Counter(call.content for call in self if call.content)

    @property
    def pods(self) -> dict[str, Counter]:
        """Return for each version how often each of its pods answered."""
        pods = defaultdict(Counter)
        for call in self:
            if call.content:
                pods[call.content][call.hostname] += 1
        return dict(pods)

    @property
    def texts(self) -> Counter:
        """Return what those said that no application answered."""
        return Counter((call.status, call.text) for call in self if call.text)

    @property
    def lost(self) -> Counter:
        """Return what became of the calls that no application answered with 200."""
        return Counter((call.status, call.text or call.error) for call in self if call.status != 200)

    def slow(self, milliseconds: float) -> list[float]:
        return [call.milliseconds for call in self if call.milliseconds >= milliseconds]


def call(url: str, path: str = "/", **headers: str) -> Call:
    """Call a proxy once, over a connection of its own."""
    try:
        port = urlsplit(url).port
        _, _, body = get(port, path, Accept="application/json", **headers)
        answer = json.loads(body)
    except Exception as error:  # there are many ways in which there is no answer
        return Call(error=repr(error))
    if answer["error"]:
        return Call(error=answer["error"], milliseconds=answer["milliseconds"])
    value = answer["value"]
    if isinstance(value, dict):
        return Call(answer["status"], value["content"], value["hostname"], "", answer["milliseconds"])
    return Call(answer["status"], "", "", value.strip(), answer["milliseconds"])


def paced(rate: float, count: int | None = None, stop: threading.Event | None = None) -> Iterator[int]:
    """Yield numbers at a steady pace, 0 for as fast as can be."""
    started = time.monotonic()
    number = 0
    while (count is None or number < count) and not (stop and stop.is_set()):
        yield number
        number += 1
        if rate:
            time.sleep(max(0.0, started + number / rate - time.monotonic()))


class RunningLab:
    """A lab in this process that a thread looks after. Its files are copies that a test may edit."""

    def __init__(
        self,
        folder: Path,
        *sources: Path,
        drain_seconds: float = 1.0,
        access_log: bool = False,
        engine: Engine = quick,
    ):
        self.folder = folder
        self.lines: list[str] = []
        self.paths = [folder / source.name for source in sources]
        for source, path in zip(sources, self.paths, strict=True):
            path.write_text(source.read_text() if source.exists() else "# nothing yet\n")
        options = LabOptions(port=0, drain_seconds=drain_seconds, access_log=access_log)
        self.lab = Lab(self.paths, engine, options, self._say)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_after, daemon=True)
        try:
            self.lab.start()
        except BaseException:
            self.lab.stop()
            raise
        self._thread.start()
        self.url = self.lab.addresses()[0].url
        self.port = urlsplit(self.url).port

    def _say(self, line: str) -> None:
        self.lines.append(line)
        if " | " not in line:  # a line of an access log may come between two tests, where nothing captures it
            print(line)  # shown when a test fails

    def _look_after(self) -> None:
        while not self._ended.wait(0.01):
            self.lab.step()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.lab.stop()

    def path(self, name: str) -> Path:
        return next(path for path in self.paths if path.name == name)

    def edit(self, name: str, text: str | bytes) -> list[str]:
        """Write a file as an editor would, and return what the lab says to it."""
        path, before = self.path(name), len(self.lines)
        data = text.encode() if isinstance(text, str) else text
        if path.read_bytes() == data:
            return []
        replace_text(path, data)
        wait_until(lambda: any(VERDICT.search(line) for line in self.lines[before:]), f"a verdict on {name}")
        return self.lines[before:]

    def replace(self, name: str, old: str, new: str, count: int = -1) -> list[str]:
        """Replace a text in a file, and return what the lab says to it."""
        text = self.path(name).read_text()
        assert old in text
        return self.edit(name, text.replace(old, new, count))

    def wait_for_line(self, text: str, since: int = 0) -> str:
        return wait_until(lambda: next((line for line in self.lines[since:] if text in line), None), repr(text))

    def wait_until_settled(self) -> None:
        """Return when all pods are as the files say, and that has been said."""
        wait_until(lambda: self.lab.is_settled, "all pods")

    def call(self, path="/", count=60, *, concurrency=8, rate=0, url=None, **headers) -> Calls:
        """Make a number of calls, all of which the proxy gets an answer for."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        with ThreadPoolExecutor(concurrency) as pool:
            pending = [pool.submit(call, url or self.url, path, **headers) for _ in paced(rate, count)]
        calls = Calls(each.result() for each in pending)
        assert not any(each.error for each in calls), Counter(each.error for each in calls)
        return calls

    @contextmanager
    def load(self, path="/", rate=50, concurrency=64) -> Iterator[Calls]:
        """Call at a steady pace while the body runs; the calls are there when it has ended, whatever became of them."""
        calls, stop, pending, lock = Calls(), threading.Event(), [], threading.Lock()

        def count_one(_: object) -> None:
            with lock:
                calls.answered += 1

        def work() -> None:
            with ThreadPoolExecutor(concurrency) as pool:
                for _ in paced(rate, stop=stop):
                    pending.append(pool.submit(call, self.url, path))
                    pending[-1].add_done_callback(count_one)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield calls
        finally:
            stop.set()
            thread.join()
            calls.extend(each.result() for each in pending)


def manifest(document: dict, path: str = "file.yaml") -> Manifest:
    """Return an object as if it had been read from a file."""
    group, _, version = document["apiVersion"].rpartition("/")
    return Manifest(Path(path), 1, group, version, document["kind"], document["metadata"]["name"], document)


def web_container(*args: str, environment: dict[str, str] | None = None, **probes: Probe) -> Container:
    """Return a container with a web server that answers `/readyz` and `/healthz` at its port 3030."""
    return Container(
        name="web",
        args=("webserver", *args),
        environment=tuple((environment or {}).items()),
        ports=(("http", 3030),),
        startup=probes.get("startup"),
        readiness=probes.get("readiness"),
        liveness=probes.get("liveness"),
    )
