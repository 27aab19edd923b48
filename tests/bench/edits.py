"""Edit a lab a hundred times under load, end parts of it in between, and count the calls that are lost.

`python tests/bench/edits.py [--istiod]` runs `meshdemo up -f` on the example and the lesson on weights, and calls it a
hundred times a second. In each of fifty rounds it changes a Deployment, waits until that has rolled out, changes the
policy, and waits until that is in force. After every fifth round it kills one part, in turn: an Envoy, a replica, and
Istio's control plane where it runs. What such a death costs is no edit's loss: calls pause until all is well again.
Prints the counts, and exits 1 when a call was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from bench import descendants

from meshdemo.lab.istiod import build

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 60
# How many of the lab's last lines are shown where something takes too long.
_LINES = 30


class Load:
    """Calls at a steady pace from several threads, which can pause; `outcomes` counts statuses and errors."""

    def __init__(self, port, rate, clients=16):
        self.outcomes = Counter()
        self._port, self._rate = port, rate
        self._goes, self._stopped = threading.Event(), threading.Event()
        self._numbers, self._lock, self._busy = itertools.count(), threading.Lock(), 0
        self._goes.set()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        self._started = time.monotonic()
        for thread in self._threads:
            thread.start()

    def pause(self):
        self._goes.clear()
        wait_until(lambda: self._busy == 0, "calls under way")

    def go_on(self):
        self._goes.set()

    def stop(self):
        self._stopped.set()
        self._goes.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        while not self._stopped.is_set():
            with self._lock:
                number = next(self._numbers)
            time.sleep(max(0.0, self._started + number / self._rate - time.monotonic()))
            with self._lock:
                self._busy += 1
            outcome = call(self._port) if self._goes.is_set() and not self._stopped.is_set() else None
            with self._lock:
                self._busy -= 1
                if outcome:
                    self.outcomes[outcome] += 1
            self._goes.wait()


def call(port):
    """Return the status of a call and what came of it, or the error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        text = response.read().decode()
        return "200" if "requested from" in text else f"{response.status} {text.strip()[:100]}"
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def wait_until(condition, what):
    deadline = time.monotonic() + _SECONDS
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_SECONDS} s for {what}")
        time.sleep(0.02)
    return result


def processes(lab, words):
    """Return the processes that a lab has started whose command line holds some words."""
    found = []
    for pid in descendants(lab.pid):
        with contextlib.suppress(OSError):
            if pid != lab.pid and words in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode():
                found.append(pid)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--istiod", action="store_true")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edits-") as folder:
        example, policy = Path(folder, "example.yaml"), Path(folder, "split.yaml")
        example.write_text((ROOT / "k8s/example.yaml").read_text())
        policy.write_text((ROOT / "k8s/istio/split.yaml").read_text())
        command = [sys.executable, "-m", "meshdemo", "up", "--port", "0", "-f", str(example), "-f", str(policy)]
        command += ["--istiod"] if chosen.istiod else []
        environment = {**os.environ, "TMPDIR": folder, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        lines = []
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
        )
        threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True).start()
        try:
            return run(chosen, process, example, policy, lines)
        except TimeoutError:
            print("".join(lines[-_LINES:]))
            raise
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def run(chosen, lab, example, policy, lines):
    def said(pattern, since):
        return wait_until(lambda: next((m for each in lines[since:] if (m := re.search(pattern, each))), None), pattern)

    port = int(said(r"http://127\.0\.0\.1:(\d+)/  service/proxy", 0)[1])
    load = Load(port, chosen.rate)
    took = {"Deployment": [], "policy": []}
    victims = {
        "an Envoy": "bootstrap.json",
        "a replica": "webserver --host",
        **({"istiod": build.find().executable} if chosen.istiod else {}),
    }
    turns, deaths = itertools.cycle(victims.items()), Counter()
    for number in range(chosen.rounds):
        for kind, path, old, new, verdict in (
            ("Deployment", example, r"Webserver V1\w*", f"Webserver V1x{number}", "rolled out"),
            ("policy", policy, r"weight: \d+", f"weight: {number + 1}", "in force"),
        ):
            since, started = len(lines), time.monotonic()
            path.write_text(re.sub(old, new, path.read_text(), count=1))
            said(verdict, since)
            took[kind].append(time.monotonic() - started)
        if number % 5 == 4:
            what, words = next(turns)
            found = processes(lab, words)
            if what != "istiod":
                load.pause()
            os.kill(found[(number // 5) % len(found)], signal.SIGKILL)
            deaths[what] += 1
            for _ in range(3):
                wait_until(lambda: all(call(port) == "200" for _ in range(20)), "all to be well")
                time.sleep(0.5)
            load.go_on()
    load.stop()
    calls = sum(load.outcomes.values())
    lost = calls - load.outcomes["200"]
    print(f"{calls} calls, {lost} lost: {dict(load.outcomes)}; killed: {dict(deaths)}")
    for kind, seconds in took.items():
        ordered = sorted(seconds)
        print(f"{kind}: {len(ordered)} edits, median {ordered[len(ordered) // 2]:.2f} s, longest {ordered[-1]:.2f} s")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
