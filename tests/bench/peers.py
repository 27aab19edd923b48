"""Measure the web server beside others that samples are made with: `python tests/bench/peers.py --programs FOLDER`.

The folder holds go-httpbin and podinfo, and hey, which makes the load and is faster than all of them, as Go makes them:

    GOBIN=FOLDER go install github.com/mccutchen/go-httpbin/v2/cmd/go-httpbin@latest
    GOBIN=FOLDER go install github.com/stefanprodan/podinfo/cmd/podinfo@latest
    GOBIN=FOLDER go install github.com/rakyll/hey@latest

and `node` is in the PATH, for webserver.js beside this file. Each says which host answered, and none writes a log. All
are measured in turn, and the load is the same for all.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench import cpu_seconds, memory_megabytes, running, shown
from watch_speed import print_table

HERE = Path(__file__).resolve().parent
_START_SECONDS = 10


def commands(programs):
    """Return the command line of each server and the path that says who answers, `{port}` being where it listens."""
    ours = [sys.executable, "-m", "meshdemo", "webserver", "--host", "127.0.0.1", "--port", "{port}"]
    httpbin = [str(programs / "go-httpbin"), "-host", "127.0.0.1", "-port", "{port}", "-log-level", "OFF"]
    podinfo = [str(programs / "podinfo"), "--host", "127.0.0.1", "--port", "{port}", "--level", "fatal"]
    node = [shutil.which("node") or "node", str(HERE / "webserver.js"), "{port}", "Hello world"]
    return {
        "`meshdemo webserver`": ([*ours, "--no-access-log"], "/"),
        "go-httpbin": ([*httpbin, "-use-real-hostname"], "/hostname"),
        "podinfo": (podinfo, "/"),
        "Node, webserver.js": (node, "/"),
    }


def answer(port, path):
    """Return the first bytes of an answer, empty while nothing listens."""
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())
            return connection.recv(65536)
    except ConnectionError:
        return b""


def start(command, path):
    """Start a server; return the process, its port, and the seconds until it answered."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    line = [each.format(port=port) for each in command]
    started = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not answer(port, path).startswith(b"HTTP/1.1 200"):
        if process.poll() is not None or time.perf_counter() > started + _START_SECONDS:
            process.kill()
            sys.exit(f"this does not answer: {' '.join(line)}")
        time.sleep(0.002)
    return process, port, time.perf_counter() - started


def rate(hey, url, connections, seconds):
    """Return the answers a second that so many connections get, each busy with one request after the other."""
    done = subprocess.run(
        [hey, "-z", f"{seconds}s", "-c", str(connections), url], stdout=subprocess.PIPE, check=True, text=True
    )
    if not re.search(r"^  \[200\]\s+\d+ responses\s*\Z", done.stdout, re.MULTILINE):
        sys.exit(f"not all answers have status 200: {done.stdout}")
    return float(re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)[1])


def measure(command, path, hey, seconds):
    """Return what one run of a server takes, and how fast it answers."""
    process, port, started = start(command, path)
    url = f"http://127.0.0.1:{port}{path}"
    with running((process, port)):
        found = {
            "s to the first answer": started,
            "s of processor to it": cpu_seconds(process.pid),
            "MB idle": memory_megabytes(process.pid),
            "answers a second, 1 connection": rate(hey, url, 1, seconds),
            "answers a second, 16 connections": rate(hey, url, 16, seconds),
        }
        return {**found, "MB after that": memory_megabytes(process.pid)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=Path, default=Path.home() / "go/bin", help="folder of the programs")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    chosen = parser.parse_args()
    servers = commands(chosen.programs)
    found = {name: [] for name in servers}
    for _ in range(chosen.repetitions):
        for name, (command, path) in servers.items():
            found[name].append(measure(command, path, str(chosen.programs / "hey"), chosen.seconds))
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
          f"{chosen.repetitions} repetitions of {chosen.seconds:g} s: median (lowest to highest)\n")  # fmt: skip
    rows = []
    for what in next(iter(found.values()))[0]:
        values = [[each[what] for each in runs] for runs in found.values()]
        digits = 0 if statistics.median(values[0]) > 100 else 1 if "MB" in what else 2
        rows.append((what, *(shown(each, f"{{:.{digits}f}}") for each in values)))
    print_table(("measured", *found), *rows)


if __name__ == "__main__":
    main()
