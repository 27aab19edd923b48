"""Measure how a lab grows with its pods, beside another checkout where one is given: `python tests/bench/sizes.py`.

Each size is a proxy and web servers, each with a Service, a Deployment and a VirtualService; the proxy calls the first
web server, whose VirtualService has the one weight that is edited. Measured are the seconds from the command until all
pods are ready, those from an edit to the first answer by it, the processor time of both, of all processes together, and
memory, proportional: of what processes share each counts its part. With `--against FOLDER` the lab of that checkout is
measured in turn with this one's, by the Python of its .venv; one that ends, or is not there after some minutes, is
shown as such.

`--many` runs what has to hold besides: 200 Services in one Envoy, and three labs at once beside a process that holds
100 inotify instances. The result of one run is kept in tests/bench/README.md.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml
from bench import answer_of, descendants, proportional_megabytes, shown

ROOT = Path(__file__).resolve().parents[2]
ENGINES = {"quick": [], "istiod": ["--istiod"]}
_START_SECONDS = 180
_EDIT_SECONDS = 60
_HELD = 100
_SERVICES = 200
_LABS = 3


def manifests(pods):
    """Return the objects of a size: all but the VirtualService that is edited."""
    names = ["proxy", *(f"web{number}" for number in range(1, pods))]
    return [
        each
        for name in names
        for each in (service(name), deployment(name), virtual_service(name, {name: 100}))
        if (each["kind"], name) != ("VirtualService", "web1")
    ]


def edited(weight, pods):
    """Return the VirtualService that is edited: a weight of the first web server, the rest of the last."""
    return virtual_service("web1", {"web1": weight, f"web{pods - 1}": 100 - weight})


def service(name):
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 3030}]}
    if name == "proxy":
        spec["type"] = "LoadBalancer"
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def deployment(name):
    args = ["proxy", "--proxy-url", "http://web1"] if name == "proxy" else ["webserver", "--content", f"[{name}]"]
    container = {
        "name": "role",
        "image": "meshdemo:1.0.0",
        "args": [*args, "--port", "3030"],
        "ports": [{"name": "http", "containerPort": 3030}],
    }
    labels = {"app": name, "version": "v1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def virtual_service(name, weights):
    route = [{"destination": {"host": host}, "weight": weight} for host, weight in weights.items()]
    spec = {"hosts": [name], "http": [{"route": route}]}
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name}, "spec": spec}


@contextlib.contextmanager
def lab(objects, policy, engine, checkout=ROOT):
    """Run a lab of a checkout, and yield its process, its port, and the lines that it has said so far."""
    with tempfile.TemporaryDirectory(prefix="sizes-") as folder:
        path = Path(folder, "all.yaml")
        path.write_text(yaml.safe_dump_all(objects))
        with running([path, policy], ENGINES[engine], folder, checkout) as found:
            yield found


@contextlib.contextmanager
def running(files, options, folder, checkout=ROOT):
    """Run a lab with files, its temporary ones in a folder; yield its process, its port and the lines that it says."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    own = checkout / ".venv/bin/python"
    program = [str(own) if own.exists() else sys.executable, "-m", "meshdemo"]
    command = [*program, "up", "--port", str(port), "--drain-seconds", "0", *options]
    command += [word for file in files for word in ("-f", str(file))]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "TMPDIR": folder, "PYTHONUNBUFFERED": "1"}
    lines = []
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True).start()
    try:
        yield process, port, lines
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def wait_until_ready(process, port, lines):
    """Return how long it takes until a lab says where it can be called; raise LookupError where it does not."""
    return wait_for(process, lines, lambda: any(f"127.0.0.1:{port}/" in line for line in lines), _START_SECONDS)


def wait_for_answer(process, port, lines, text):
    """Return how long it takes until an answer holds a text; raise LookupError where none does."""
    return wait_for(process, lines, lambda: text in answer_of(port).decode(), _EDIT_SECONDS)


def wait_for(process, lines, condition, seconds):
    started = time.perf_counter()
    while not condition():
        if process.poll() is not None:
            raise LookupError(f"ended: {lines[-1].strip() if lines else ''}")
        if time.perf_counter() > started + seconds:
            raise LookupError(f"not within {seconds} s")
        time.sleep(0.01)
    return time.perf_counter() - started


def processor_seconds(pid):
    """Return the processor time of a process and of all that it has started (proc(5), stat)."""
    ticks = 0
    for each in descendants(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(pods, engine, checkout, edits):
    """Return what one lab of a size takes; raise LookupError for one that does not run."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder, "policy.yaml")
        policy.write_text(yaml.safe_dump(edited(100, pods)))
        with lab(manifests(pods), policy, engine, checkout) as (process, port, lines):
            found = {"start, s": wait_until_ready(process, port, lines)}
            wait_for_answer(process, port, lines, "[web1]")
            found["processor of the start, s"] = processor_seconds(process.pid)
            time.sleep(1)
            seconds, worked = [], []
            for number in range(edits):
                weight = 100 * (number % 2)
                before = processor_seconds(process.pid)
                policy.write_text(yaml.safe_dump(edited(weight, pods)))
                seconds.append(wait_for_answer(process, port, lines, f"[web{1 if weight else pods - 1}]"))
                time.sleep(0.5)  # what else an edit takes is not this answer's
                worked.append(processor_seconds(process.pid) - before)
            found["edit, s"] = statistics.median(seconds)
            found["processor of an edit, s"] = statistics.median(worked)
            megabytes = sum(map(proportional_megabytes, descendants(process.pid)))
            return found | {"memory, MB": megabytes, "memory for each pod, MB": megabytes / pods}


def table(sizes, engines, checkouts, repetitions, edits):
    """Print the table of sizes, and how much the last step of sizes grew beyond the step itself."""
    values = collections.defaultdict(list)
    failures = {}
    for _ in range(repetitions):
        for size in sizes:
            for engine in engines:
                for name, checkout in checkouts.items():
                    try:
                        found = measure(size, engine, checkout, edits)
                    except LookupError as error:
                        failures[size, engine, name] = str(error)
                        continue
                    for what, value in found.items():
                        values[what, size, engine, name].append(value)
    columns = [(engine, name) for engine in engines for name in checkouts]
    print(f"| measured, pods | {' | '.join(f'{engine}, {name}' for engine, name in columns)} |")
    print("| --- |" + " --- |" * len(columns))
    for what in dict.fromkeys(key[0] for key in values):
        for size in sizes:
            cells = [
                shown(values[what, size, *each]) if values[what, size, *each] else failures[size, *each]
                for each in columns
            ]
            print(f"| {what}, {size} | {' | '.join(cells)} |")
        if len(sizes) > 1:
            print(f"| {what}, growth from {sizes[-2]} to {sizes[-1]} over that of pods | ", end="")
            print(" | ".join(growth(values, what, sizes[-2:], each) for each in columns), "|")


def growth(values, what, sizes, column):
    """Return by how much more a value grew than the size did."""
    small, large = (values[what, size, *column] for size in sizes)
    if not small or not large:
        return ""
    return f"{statistics.median(large) / statistics.median(small) / (sizes[1] / sizes[0]):.2f}"


def many(engines):
    """Print what came of many Services in one Envoy, and of several labs where inotify instances are few."""
    for engine in engines:
        objects = manifests(7)
        objects += [{**service("web1"), "metadata": {"name": f"extra{number}"}} for number in range(_SERVICES - 7)]
        print(f"{engine}: {_SERVICES} Services in one Envoy: {outcome(objects, engine)}")
    hold_inotify(_HELD)
    for engine in engines:
        with contextlib.ExitStack() as stack:
            policy = Path(stack.enter_context(tempfile.TemporaryDirectory()), "policy.yaml")
            policy.write_text(yaml.safe_dump(edited(100, 7)))
            labs = [stack.enter_context(lab(manifests(7), policy, engine)) for _ in range(_LABS)]
            starts = [wait_until_ready(*each) for each in labs]
            policy.write_text(yaml.safe_dump(edited(0, 7)))
            edits = [wait_for_answer(*each, "[web6]") for each in labs]
            print(f"{engine}: {_LABS} labs beside {_HELD} inotify instances: all started, all edited", end="")
            print(f" ({max(starts):.1f} s, {max(edits):.1f} s)")


def outcome(objects, engine):
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder, "policy.yaml")
        policy.write_text(yaml.safe_dump(edited(100, 7)))
        with lab(objects, policy, engine) as found:
            start = wait_until_ready(*found)
            policy.write_text(yaml.safe_dump(edited(0, 7)))
            return f"started in {start:.1f} s, edited in {wait_for_answer(*found, '[web6]'):.1f} s"


def hold_inotify(count):
    """Hold inotify instances until this process ends, as an IDE does (inotify_init(2))."""
    library = ctypes.CDLL(None, use_errno=True)
    for _ in range(count):
        if library.inotify_init() < 0:
            raise OSError(ctypes.get_errno(), "no more inotify instances")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pods", type=int, nargs="+", default=[7, 37, 67])
    parser.add_argument("--engines", nargs="+", choices=["quick", "istiod"], default=["quick", "istiod"])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--edits", type=int, default=5, help="of which the median counts")
    parser.add_argument("--against", type=Path, help="folder of another checkout, measured in turn with this one")
    parser.add_argument("--many", action="store_true", help="many Services, many labs, instead of the table")
    chosen = parser.parse_args()
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    if chosen.many:
        many(chosen.engines)
        return
    checkouts = {"here": ROOT} | ({"there": chosen.against.resolve()} if chosen.against else {})
    table(chosen.pods, chosen.engines, checkouts, chosen.repetitions, chosen.edits)


if __name__ == "__main__":
    main()
