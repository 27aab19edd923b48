"""Measure what it costs that the Envoys log each call to the lab: `python tests/bench/call_log.py [--istiod]`.

A lab runs beside one whose Envoys do not log, and both are called in turn: at a steady pace for the time of a call, as
fast as they answer for the calls a second. What counts are the ratio and the difference, since a machine's own numbers
are its own; each is the median over the rounds of what two runs one after the other have shown.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = ["-f", str(ROOT / "k8s/example.yaml"), "-f", str(ROOT / "k8s/istio/split.yaml")]
TICKS = os.sysconf("SC_CLK_TCK")
WITHOUT = (
    "from meshdemo.lab.envoy import loopback; loopback.with_access_log = lambda value, *_, **__: value; "
    "from meshdemo.__main__ import main; main()"
)


def start(port, options, *, logs):
    """Start a lab at a port, and return its process when it takes calls."""
    program = ["-m", "meshdemo"] if logs else ["-c", WITHOUT]
    command = [sys.executable, *program, "up", *FILES, "--port", str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "Press Ctrl+C" in line:
            return process
    raise SystemExit("a lab did not start")


def processor_seconds(process):
    """Return the processor time of a lab with all that it has started so far."""
    parents, seconds = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        number = int(path.parent.name)
        parents[number], seconds[number] = int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS
    return sum(each for number, each in seconds.items() if process.pid in ancestors(number, parents))


def ancestors(number, parents):
    """Yield a process and those that it descends from."""
    while number in parents:
        yield number
        number = parents[number]


def watch(port, *options):
    """Return the report of one watch."""
    command = [sys.executable, "-m", "meshdemo", "watch", f"http://127.0.0.1:{port}/", "--json", *options]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def main():
    """Run both in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--istiod", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=1000)
    arguments = parser.parse_args()
    options = ["--istiod"] if arguments.istiod else []
    labs = {True: 3461, False: 3471}
    processes = {logs: start(port, options, logs=logs) for logs, port in labs.items()}
    steady, rates, costs = [], [], []
    try:
        for port in labs.values():
            watch(port, "-n", "300", "--rate", "0", "-c", "8")
        for number in range(arguments.rounds):
            order = (True, False) if number % 2 else (False, True)
            paced = {logs: watch(labs[logs], "-n", "300", "--rate", "50") for logs in order}
            times = {logs: report["times"]["caller"]["median"] for logs, report in paced.items()}
            steady.append((times[True], times[False]))
            speed, cost = {}, {}
            for logs in order:
                before = processor_seconds(processes[logs])
                report = watch(labs[logs], "-n", str(arguments.calls), "--rate", "0", "-c", "8")
                cost[logs] = (processor_seconds(processes[logs]) - before) / report["requests"] * 1e6
                speed[logs] = report["requests"] / report["seconds"]
            rates.append((speed[True], speed[False]))
            costs.append((cost[True], cost[False]))
            print(
                f"round {number + 1}, with and without the log: {times[True]:.2f} and {times[False]:.2f} ms, "
                f"{speed[True]:.0f} and {speed[False]:.0f} calls a second, {cost[True]:.0f} and {cost[False]:.0f} us "
                "of processor a call",
                flush=True,
            )
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGINT)
        for process in processes.values():
            process.wait()
    difference = statistics.median(one - other for one, other in steady)
    ratio = statistics.median(one / other for one, other in rates)
    processor = statistics.median(one / other for one, other in costs)
    print(f"a call takes {difference:+.2f} ms with the log; calls a second are {ratio:.3f} of those without, and")
    print(f"the processor time of lab, Envoys and applications is {processor:.3f} of that without")


if __name__ == "__main__":
    main()
