"""Run everything for a long while and compare memory and open files: `python tests/soak.py`.

Starts a web server and a proxy in front of it, sends mixed traffic at a steady pace for ten minutes, and prints what
both processes hold after the first minute and at the end. Exits 1 when a request was lost, when memory has grown by
more than a tenth, or when there are more open files. The result of one run is kept in tests/BENCH.md.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from bench import meshdemo, running

from meshdemo.upstream import Upstream, UpstreamError

#: What a client does, in turn: method, path and query, headers, body.
MIX = [
    ("GET", "/", {}, b""),
    ("GET", "/failsometimes", {"accept": "application/json"}, b""),
    ("POST", "/echo?x=%2f", {"x-request-id": "soak"}, b"x" * 100_000),
    ("GET", "/slowsometimes", {}, b""),
    ("HEAD", "/", {}, b""),
    ("POST", "/too-large", {}, b"x" * 1_100_000),
    ("GET", "/ui", {}, b""),
    ("GET", "/" + "long" * 2000, {"end-user": "tester"}, b""),
]


def held(pid):
    """Return the resident memory in megabytes and the number of open files (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return kilobytes / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def traffic(url, pace, until, outcomes):
    """Send the mix at a pace with eight clients until a time; count the statuses and the failures."""
    numbers, lock, started = itertools.count(), threading.Lock(), time.monotonic()

    def client():
        fresh, kept = Upstream(url), Upstream(url, keep_alive=True)
        while True:
            with lock:
                number = next(numbers)
            due = started + number / pace
            if due >= until:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            method, target, headers, body = MIX[number % len(MIX)]
            upstream = kept if number % 3 else fresh
            try:
                outcome = str(upstream.call(method, upstream.url_for(*target.split("?")), headers, body).status)
            except UpstreamError as error:
                outcome = str(error)
            with lock:
                outcomes[outcome] += 1

    clients = [threading.Thread(target=client) for _ in range(8)]
    for each in clients:
        each.start()
    return clients


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pace", type=float, default=50.0, help="requests a second")
    chosen = parser.parse_args()
    outcomes = Counter()
    with (
        running(meshdemo("webserver", "--delay", "0.2")) as (web, web_port),
        running(meshdemo("proxy", "--proxy-url", f"http://127.0.0.1:{web_port}")) as (front, port),
    ):
        started = time.monotonic()
        clients = traffic(f"http://127.0.0.1:{port}", chosen.pace, started + 60 * chosen.minutes, outcomes)
        time.sleep(min(60.0, 30 * chosen.minutes))
        roles = {"webserver": web.pid, "proxy": front.pid}
        before = {role: held(pid) for role, pid in roles.items()}
        for each in clients:
            each.join()
        time.sleep(1)
        after = {role: held(pid) for role, pid in roles.items()}
    print(f"{sum(outcomes.values())} requests in {chosen.minutes:g} minutes: {dict(outcomes.most_common())}")
    print("| | after a minute | at the end |\n| --- | --- | --- |")
    bad = set(outcomes) - {"200", "413"}
    for role in roles:
        (memory, files), (end_memory, end_files) = before[role], after[role]
        print(f"| {role}: memory, MB | {memory:.1f} | {end_memory:.1f} |")
        print(f"| {role}: open files | {files} | {end_files} |")
        bad |= {role} if end_memory > 1.1 * memory or end_files > files else set()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
