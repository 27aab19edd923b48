"""Measure speed, start-up and memory side by side in one run, and print a table: `python tests/bench/bench.py`.

Speeds are ratios to a reference that is measured in the same run, alternating with it, and repeated; what is shown is
the median of the repetitions with the lowest and highest. Everything listens on loopback, and each load is bounded in
time. The result of one run is kept in tests/bench/README.md.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import http.client
import json
import os
import platform
import re
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from meshdemo.lab.istiod import build

HERE = Path(__file__).resolve()
THREADS = 64
PACE = 50  # calls a second, where the pace is given
TENTH = (0.01, 0.09)  # a tenth of a core: seconds to run and to stand still, as a container's quota does


# Processes


def start(*command, folder=None):
    """Start a server that prints its address; return the process and its port."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder)
    port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
    return process, port


def meshdemo(*args, log=False, folder=None):
    """Start a role, from another checkout's folder where one is given."""
    log_option = "--access-log" if log else "--no-access-log"
    command = [sys.executable, "-m", "meshdemo", *args, "--host", "127.0.0.1", "--port", "0", log_option]
    return start(*command, folder=folder)


def own(*args):
    """Run another part of this file in a process of its own."""
    return [sys.executable, str(HERE), *map(str, args)]


@contextlib.contextmanager
def running(started):
    process, port = started
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def serve_hello():
    """Serve what is left of a web server without this project: waitress and a constant."""
    import waitress

    def hello(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"hello"]

    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
    waitress.serve(hello, sockets=[listening], threads=THREADS, _quiet=True)


def serve_slowly(milliseconds):
    """Answer each connection after a while; print how long each took at this socket, in milliseconds, in order."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)

    def answer(connection):
        started = time.perf_counter()
        with connection:
            request = connection.recv(65536).decode()
            time.sleep(milliseconds / 1000)
            took = (time.perf_counter() - started) * 1000
            body = f"{took:.3f}".encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert request

    while True:
        connection, _ = listening.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


# Loads, in processes of their own


def closed_loop(port, connections, seconds):
    """Keep `connections` busy with one request after the other; print rate and percentiles as JSON."""
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    selector, times, buffers = selectors.DefaultSelector(), [], {}
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
        buffers[connection] = (b"", time.perf_counter())
        connection.sendall(request)
    started = time.perf_counter()
    deadline = started + seconds
    while time.perf_counter() < deadline:
        for key, _ in selector.select(0.1):
            connection = key.fileobj
            data, sent = buffers[connection]
            data += connection.recv(65536)
            head, separator, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if separator and length and len(body) >= int(length[1]):
                now = time.perf_counter()
                times.append(now - sent)
                connection.sendall(request)
                buffers[connection] = (b"", now)
            else:
                buffers[connection] = (data, sent)
    print(json.dumps({"rate": len(times) / (time.perf_counter() - started), **percentiles(times)}))


def session_loop(port, keep_alive, seconds):
    """Call with requests.Session.get, one after the other, as a plain script would; print the rate as JSON.

    With `keep_alive` 1 on one connection, with 0 on a new one for each call, as the proxy's are.
    """
    import requests

    session, count = requests.Session(), 0
    if not keep_alive:
        session.headers["Connection"] = "close"
    started = time.perf_counter()
    while time.perf_counter() < started + seconds:
        session.get(f"http://127.0.0.1:{port}/")
        count += 1
    print(json.dumps({"rate": count / (time.perf_counter() - started)}))


def paced(port, seconds):
    """Make PACE calls a second, each on a connection of its own; print times and bodies as JSON."""
    times, bodies = [], []
    started = time.perf_counter()
    for number in range(int(PACE * seconds)):
        time.sleep(max(0.0, started + number / PACE - time.perf_counter()))
        sent = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: application/json\r\n\r\n"
            )
            data = b""
            while more := connection.recv(65536):
                data += more
        times.append(time.perf_counter() - sent)
        bodies.append(json.loads(data.partition(b"\r\n\r\n")[2]))
    print(json.dumps({"times": times, "bodies": bodies}))


def run(*args):
    """Run one of the loads and return what it printed."""
    return json.loads(subprocess.run(own(*args), stdout=subprocess.PIPE, check=True, text=True).stdout)


def percentiles(values):
    ordered = sorted(values)
    return {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000
            for name, share in (("p50", 0.5), ("p99", 0.99))}  # fmt: skip


# Measurements: each returns a list of rows (what, value, target)


def shown(values, form="{:.2f}"):
    """Return the median of the repetitions, with the lowest and highest."""
    return f"{form} ({form} to {form})".format(statistics.median(values), min(values), max(values))


def alternating(repetitions, seconds, *measures):
    """Return a list of results for each measure, taken in turn."""
    results = [[] for _ in measures]
    for _ in range(repetitions):
        for measure, found in zip(measures, results, strict=True):
            found.append(measure(seconds))
    return results


def web_server_speed(repetitions, seconds):
    rows = []
    with running(start(*own("hello"))) as (_, hello), running(meshdemo("webserver")) as (_, port):
        for connections in (1, 16):
            reference, ours = alternating(
                repetitions,
                seconds,
                lambda seconds, count=connections: run("closed", hello, count, seconds),
                lambda seconds, count=connections: run("closed", port, count, seconds),
            )
            ratios = [mine["rate"] / bare["rate"] for mine, bare in zip(ours, reference, strict=True)]
            name = f"web server, {connections} connection{'s' if connections > 1 else ''}"
            rows.append((f"{name}: answers/s", shown([each["rate"] for each in ours], "{:.0f}"), ""))
            rows.append(
                (f"{name}: bare waitress, answers/s", shown([each["rate"] for each in reference], "{:.0f}"), "")
            )
            rows.append((f"{name}: ratio to bare waitress", shown(ratios), "at least 0.9"))
            for percentile in ("p50", "p99"):
                pair = [shown([each[percentile] for each in which]) for which in (ours, reference)]
                rows.append((f"{name}: {percentile} in ms; bare waitress", "; ".join(pair), ""))
    return rows


def proxy_speed(repetitions, seconds):
    rows = []
    with running(meshdemo("webserver")) as (_, web):
        url = f"http://127.0.0.1:{web}"
        with (
            running(meshdemo("proxy", "--proxy-url", url)) as (_, port),
            running(meshdemo("proxy", "--proxy-url", url, "--keep-alive")) as (_, keeping),
        ):
            for connections in (1, 16):
                reference, reconnecting, ours, kept = alternating(
                    repetitions,
                    seconds,
                    lambda seconds: run("session", web, 1, seconds),
                    lambda seconds: run("session", web, 0, seconds),
                    lambda seconds, count=connections: run("closed", port, count, seconds),
                    lambda seconds, count=connections: run("closed", keeping, count, seconds),
                )
                ratios, kept_ratios = (
                    [mine["rate"] / plain["rate"] for mine, plain in zip(which, reference, strict=True)]
                    for which in (ours, kept)
                )
                as_often = [mine["rate"] / plain["rate"] for mine, plain in zip(ours, reconnecting, strict=True)]
                name = f"proxy, {connections} connection{'s' if connections > 1 else ''}"
                rows.append((f"{name}: answers/s", shown([each["rate"] for each in ours], "{:.0f}"), ""))
                plain = shown([each["rate"] for each in reference], "{:.0f}")
                rows.append((f"{name}: plain Session.get, answers/s", plain, ""))
                rows.append((f"{name}: ratio to plain Session.get", shown(ratios), "at least 0.9"))
                rows.append((f"{name}: ratio to one that connects for each call", shown(as_often), "at least 1.0"))
                rows.append((f"{name}: the same with --keep-alive, as Session.get has it", shown(kept_ratios), ""))
            direct, through = alternating(
                repetitions,
                2 * seconds,
                lambda seconds: percentiles(run("paced", web, seconds)["times"]),
                lambda seconds: percentiles(run("paced", port, seconds)["times"]),
            )
            for percentile, target in (("p50", "at most 3"), ("p99", "at most 10")):
                over = [mine[percentile] - bare[percentile] for mine, bare in zip(through, direct, strict=True)]
                rows.append((f"proxy at {PACE}/s: {percentile} over a direct call, ms", shown(over), target))
    return rows


def truth(repetitions, seconds):
    medians, tails = [], []
    with running(start(*own("slow", 20))) as (_, upstream):
        url = f"http://127.0.0.1:{upstream}"
        with running(meshdemo("proxy", "--proxy-url", url)) as (_, port):
            for _ in range(repetitions):
                bodies = run("paced", port, 2 * seconds)["bodies"]
                off = percentiles(abs(each["milliseconds"] - float(each["value"])) / 1000 for each in bodies)
                medians.append(off["p50"])
                tails.append(off["p99"])
    return [
        (f"Took at {PACE}/s: off the upstream's own socket, p50 in ms", shown(medians), "at most 2"),
        (f"Took at {PACE}/s: off the upstream's own socket, p99 in ms", shown(tails), "at most 5"),
    ]


def memory_megabytes(pid):
    """Return the resident memory of a process (proc(5), VmRSS)."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def cpu_seconds(pid):
    """Return user and system time of a process (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def call_once(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while connection.recv(65536):
            pass


def start_and_memory(repetitions, seconds):
    rows = []
    with running(meshdemo("webserver")) as (_, web):
        for role, options, cpu_target, memory_target in (
            ("webserver", [], "at most 0.15", "at most 25"),
            ("proxy", ["--proxy-url", f"http://127.0.0.1:{web}"], "at most 0.35", "at most 40"),
        ):
            cpu, idle, loaded = [], [], []
            for _ in range(repetitions):
                with running(meshdemo(role, *options)) as (process, port):
                    call_once(port)
                    cpu.append(cpu_seconds(process.pid))
                    idle.append(memory_megabytes(process.pid))
                    run("closed", port, 16, seconds)
                    loaded.append(memory_megabytes(process.pid))
            rows.append((f"{role}: CPU to the first answer, s", shown(cpu), cpu_target))
            rows.append((f"{role}: memory idle, MB", shown(idle, "{:.1f}"), memory_target))
            rows.append((f"{role}: memory after 16 connections, MB", shown(loaded, "{:.1f}"), memory_target))
            rows.append((f"{role}: a tenth of a core, s to the first answer", tenth(role, options, repetitions), ""))
    return rows


def tenth(role, options, repetitions):
    """Return the seconds to the first answer of a process that may run for 10 ms in every 100 ms."""
    found = []
    for _ in range(repetitions):
        command = [sys.executable, "-m", "meshdemo", role, *options, "--host", "127.0.0.1", "--port", "0"]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        done = threading.Event()

        def throttle(process=process, done=done):
            run_seconds, pause_seconds = TENTH
            while not done.is_set():
                process.send_signal(signal.SIGSTOP)
                time.sleep(pause_seconds)
                process.send_signal(signal.SIGCONT)
                time.sleep(run_seconds)

        throttling = threading.Thread(target=throttle)
        throttling.start()
        call_once(int(re.search(r":(\d+)/", process.stdout.readline())[1]))
        found.append(time.perf_counter() - started)
        done.set()
        throttling.join()
        process.kill()
        process.wait()
    return shown(found)


def cost(repetitions, _seconds, against=None):
    """Return processor time per answer, which a busy machine changes less than speed; of another checkout, in turn."""
    rows = []
    with contextlib.ExitStack() as held:
        bare = held.enter_context(running(start(*own("hello"))))
        web = held.enter_context(running(meshdemo("webserver")))
        url = f"http://127.0.0.1:{web[1]}"
        for name, count, args, log in (
            ("webserver", 3000, ["webserver"], False),
            ("webserver with its log", 3000, ["webserver"], True),
            ("proxy", 500, ["proxy", "--proxy-url", url], False),
        ):
            servers = {"bare waitress": bare} if name == "webserver" else {}
            for label, folder in ((name, None), (f"{name}, the other checkout", against)):
                if label == name or against:
                    servers[label] = held.enter_context(running(meshdemo(*args, log=log, folder=folder)))
            for process, port in servers.values():
                microseconds_each(process.pid, port, count // 10)  # what is done once
            results = alternating(
                repetitions,
                count,
                *(functools.partial(microseconds_each, process.pid, port) for process, port in servers.values()),
            )
            rows += [
                (f"{label}: processor time an answer, in microseconds", shown(times, "{:.0f}"), "")
                for label, times in zip(servers, results, strict=True)
            ]
    return rows


def microseconds_each(pid, port, count):
    """Return the processor time of a server for each of `count` requests on one connection, one after the other."""
    before = cpu_nanoseconds(pid)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for _ in range(count):
        connection.request("GET", "/")
        connection.getresponse().read()
    connection.close()
    return (cpu_nanoseconds(pid) - before) / count / 1000


def cpu_nanoseconds(pid):
    """Return the time that all threads of a process have run, not rounded to ticks (proc(5), schedstat)."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def lab_start(repetitions, reference):
    """Measure the lab from the command to its first answer, in turn with another checkout's where there is one."""
    rows, programs = [], {"lab": sys.executable, **({"reference": reference} if reference else {})}
    found = {name: [] for name in programs}
    for _ in range(repetitions):
        for name, python in programs.items():
            found[name].append(first_answer(python))
    rows.append(("lab, example and split: s from the command to the first answer", shown(found["lab"]), ""))
    if reference:
        ratios = [mine / other for mine, other in zip(found["lab"], found["reference"], strict=True)]
        rows.append(("lab: the same of the reference, s", shown(found["reference"]), ""))
        rows.append(("lab: ratio to the reference", shown(ratios), "at most 1.5"))
    return rows


def first_answer(python):
    """Return the seconds until a lab of the program `python` answers; its checkout is two folders above it."""
    root = Path(python).absolute().parents[2]
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    files = [argument for name in ("example", "istio/split") for argument in ("-f", str(root / f"k8s/{name}.yaml"))]
    command = [str(python), "-m", "meshdemo", "up", "--port", str(port), "--drain-seconds", "0", *files]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while True:
            if process.poll() is not None:
                sys.exit(f"{python} did not start a lab: {process.stderr.read()}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    if b"with code 200" in answer.read():
                        return time.perf_counter() - started
            except OSError:
                time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        process.stderr.close()


def engines(repetitions, seconds):
    """Measure a lab with the quick engine and one with Istio's control plane in turn: the example and a split."""
    found = {name: collections.defaultdict(list) for name in ("quick", "--istiod")}
    for _ in range(repetitions):
        for name, values in found.items():
            with tempfile.TemporaryDirectory() as folder:
                for what, value in one_engine(name, Path(folder), seconds).items():
                    values[what].append(value)
    targets = {
        "s from the command to the first answer": "at most 4 with --istiod",
        "MB for each pod, without the lab itself and istiod": "at most 100 with --istiod",
        "s from an edit to the first answer by it": "at most 2 with --istiod",
    }
    quick, istiod = found.values()
    rows = [
        (f"lab, {name}: {what}", shown(values), targets.get(what, ""))
        for what in quick
        for name, values in (("quick", quick[what]), ("--istiod", istiod[what]))
    ]
    more = [mine - theirs for mine, theirs in zip(istiod[_CALL], quick[_CALL], strict=True)]
    return [*rows, ("lab: ms that --istiod adds to a call", shown(more), "at most 1.5")]


CACHE = str(build.folder().parent)
_CALL = f"ms of a call as the proxy saw it, median at {PACE}/s"


def one_engine(name, folder, seconds):
    """Return what one run of a lab with an engine takes."""
    root = HERE.parents[2]
    policy = folder / "policy.yaml"
    versions = {version: (root / "k8s/istio/all-v1.yaml").read_text().replace("subset: v1", f"subset: v{version}")
                for version in (1, 2)}  # fmt: skip
    policy.write_text(versions[1])
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    command = [sys.executable, "-m", "meshdemo", "up", "--port", str(port), "--drain-seconds", "0"]
    command += ["-f", str(root / "k8s/example.yaml"), "-f", str(policy), *([name] if name.startswith("-") else [])]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait_for(version):
        while f"Webserver V{version} ".encode() not in answer_of(port):
            if process.poll() is not None:
                sys.exit(f"the lab ended: {' '.join(command)}")
            time.sleep(0.01)

    try:
        wait_for(1)
        found = {"s from the command to the first answer": time.perf_counter() - started}
        bodies = run("paced", port, 2 * seconds)["bodies"]
        found[_CALL] = statistics.median(each["milliseconds"] for each in bodies)
        sizes = {pid: proportional_megabytes(pid) for pid in descendants(process.pid)}
        found["MB in all, 7 pods"] = sum(sizes.values())
        istiod = sum(size for pid, size in sizes.items() if Path(f"/proc/{pid}/cmdline").read_text().startswith(CACHE))
        found["MB for each pod, without the lab itself and istiod"] = (
            found["MB in all, 7 pods"] - sizes[process.pid] - istiod
        ) / 7
        edited = time.perf_counter()
        policy.write_text(versions[2])
        wait_for(2)
        found["s from an edit to the first answer by it"] = time.perf_counter() - edited
        return found
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def proportional_megabytes(pid):
    """Return the memory of a process, of what it shares its part only (proc(5), smaps_rollup, Pss)."""
    return int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[1]) / 1024


def answer_of(port):
    """Return the body of one call of the proxy, empty when there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return answer.read()
    except OSError:
        return b""


def descendants(pid):
    """Return the processes that a process has started, and those they have, with itself (proc(5), children)."""
    children = [text for path in Path(f"/proc/{pid}/task").glob("*/children") for text in path.read_text().split()]
    return [pid, *(each for child in children for each in descendants(int(child)))]


def imports(module, count=6):
    """Return the imports that cost most, by their own time in milliseconds."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"], capture_output=True, text=True
    )
    found = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", done.stderr)
    ranked = sorted(((int(own) / 1000, name) for own, name in found), reverse=True)[:count]
    return ", ".join(f"{name} {own:.1f}" for own, name in ranked)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument(
        "--only", choices=["web", "proxy", "truth", "start", "cost", "lab", "engines"], help="measure only this"
    )
    parser.add_argument("--against", help="folder of another checkout, whose cost is measured in turn with this one's")
    parser.add_argument(
        "--reference", help="Python of another checkout's .venv, whose lab is started in turn with this"
    )
    chosen = parser.parse_args()
    parts = {
        "web": web_server_speed,
        "proxy": proxy_speed,
        "truth": truth,
        "start": start_and_memory,
        "cost": functools.partial(cost, against=chosen.against),
        "lab": lambda repetitions, _seconds: lab_start(repetitions, chosen.reference),
        "engines": engines,
    }
    rows = []
    for name, part in parts.items():
        if chosen.only in (None, name):
            rows += part(chosen.repetitions, chosen.seconds)
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
          f"{chosen.repetitions} repetitions of {chosen.seconds:g} s: median (lowest to highest)\n")  # fmt: skip
    print("| measured | value | target |\n| --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    if chosen.only in (None, "start"):
        print(f"\nImports of the web server that cost most, in ms: {imports('meshdemo.cli')}.")
        print(f"Imports of the proxy that cost most, in ms: {imports('meshdemo.cli, meshdemo.roles.proxy')}.")


PARTS = {"hello": serve_hello, "slow": serve_slowly, "closed": closed_loop, "session": session_loop, "paced": paced}

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in PARTS:
        PARTS[sys.argv[1]](*(float(each) if "." in each else int(each) for each in sys.argv[2:]))
    else:
        main()
