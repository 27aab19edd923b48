"""Measure what rate `watch` keeps, and its times beside those of `hey`: `python tests/bench/watch_speed.py --hey PATH`.

Both call the same server in turn, each call on a connection of its own, and ask for the same. There are two servers:
the web server of this project, whose answer takes about a millisecond, and one that answers after 20 ms. hey is a load
generator in Go, github.com/rakyll/hey; `go install` puts it into `~/go/bin`.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from bench import meshdemo, own, running, shown, start

RATES = (50, 200, 500)
#: Asked of `watch` until it says that it cannot.
LADDER = (100, 200, 300, 400, 500, 600, 700, 800, 1000, 1200)
# hey makes its calls in workers that all begin at the same moments: half as many again as the answers keep busy.
_SPARE = 1.5


def watch(url, rate, seconds):
    """Return the rate, times in ms, how many began late, and processor time for each call, of one run of `watch`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "meshdemo", "watch", url, "--rate", str(rate)]
    command += ["--duration", str(seconds), "--json"]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    times = report["times"]["caller"]
    return {
        "rate": report["requests"] / seconds,
        "median": times["median"],
        "p95": times["p95"],
        "late": report["late"] / report["requests"] * 100,
        "processor": processor / report["requests"] * 1e6,
    }


def hey(program, url, rate, milliseconds, seconds):
    """Return the same of one run of hey, as far as it says it, where answers take about so many milliseconds."""
    workers = math.ceil(rate * milliseconds / 1000 * _SPARE)
    command = [program, "-z", f"{seconds}s", "-c", str(workers), "-q", str(rate / workers), "-disable-keepalive"]
    command += ["-H", "Accept: application/json", "-o", "csv", url]
    rows = csv.DictReader(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines())
    times = sorted(float(row["response-time"]) * 1000 for row in rows)
    return {
        "rate": len(times) / seconds,
        "median": statistics.median(times),
        "p95": times[min(len(times) - 1, int(len(times) * 0.95))],
    }


def beside_hey(program, servers, repetitions, seconds):
    """Return rows of times, watch beside hey, in turn."""
    rows = []
    for name, (url, milliseconds) in servers.items():
        for rate in RATES:
            pairs = [
                (watch(url, rate, seconds), hey(program, url, rate, milliseconds, seconds)) for _ in range(repetitions)
            ]
            cells = [shown([each[0]["rate"] / rate for each in pairs], "{:.3f}")]
            for which in ("median", "p95"):
                mine, other = ([each[index][which] for each in pairs] for index in (0, 1))
                ratios = [one / two for one, two in zip(mine, other, strict=True)]
                cells += [shown(mine), shown(other), shown(ratios)]
            rows.append((f"{name}, {rate} a second", *cells))
    return rows


def ladder(url, repetitions, seconds):
    """Return a row for each rate: the part of it that was kept, calls that began late, processor time for a call."""
    rows = []
    for rate in LADDER:
        found = [watch(url, rate, seconds) for _ in range(repetitions)]
        kept = [each["rate"] / rate for each in found]
        late = [each["late"] for each in found]
        processor = [each["processor"] for each in found]
        rows.append((f"{rate} a second", shown(kept, "{:.3f}"), shown(late, "{:.1f}"), shown(processor, "{:.0f}")))
        if statistics.median(kept) < 0.8:
            break
    return rows


def print_table(*rows):
    """Print rows, the first of which is the heading."""
    print("| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]))
    for row in rows[1:]:
        print("| " + " | ".join(row) + " |")
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hey", default=str(Path.home() / "go/bin/hey"), help="where hey is")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--only", choices=["rates", "times"], help="measure only this")
    chosen = parser.parse_args()
    with running(meshdemo("webserver")) as (_, fast), running(start(*own("slow", 20))) as (_, slow):
        servers = {"web server": (f"http://127.0.0.1:{fast}/", 2), "after 20 ms": (f"http://127.0.0.1:{slow}/", 20)}
        heading = ("asked of `watch`", "part that was kept", "began late, %", "processor time a call, µs")
        tables = []
        if chosen.only != "times":
            tables.append((heading, *ladder(servers["web server"][0], chosen.repetitions, chosen.seconds)))
        columns = [f"{which}: {what}" for which in ("median", "95 %") for what in ("watch, ms", "hey, ms", "ratio")]
        if chosen.only != "rates":
            rows = beside_hey(chosen.hey, servers, chosen.repetitions, chosen.seconds)
            tables.append((("server and rate", "part of the rate", *columns), *rows))
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
          f"{chosen.repetitions} repetitions of {chosen.seconds:g} s: median (lowest to highest)\n")  # fmt: skip
    for table in tables:
        print_table(*table)


if __name__ == "__main__":
    main()
