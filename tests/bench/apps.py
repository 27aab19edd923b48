"""Measure how soon applications of others answer: `python tests/bench/apps.py --bookinfo FOLDER --shop FOLDER`.

The folders are those of Istio's `samples/bookinfo` and of a clone of Google's microservices-demo; beside them a hundred
Deployments are made, each with a Service. Stand-ins answer for all images. Measured are the seconds from the command
until the lab says that it is ready, those of the first call from a pod whose program calls nobody, both together, the
processor time until then, and memory, proportional: of what processes share each counts its part. The result of one run
is kept in tests/bench/README.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import yaml
from bench import descendants, proportional_megabytes, shown
from sizes import ENGINES, processor_seconds, running, service, wait_for

from meshdemo.lab_socket import NAME, LabSocketError, ask

_START_SECONDS = 180
_CALL_SECONDS = 60
# For each application its files in its folder, and a call: from which workload, and of what.
APPLICATIONS = {
    "bookinfo": (
        [
            "platform/kube/bookinfo.yaml",
            "networking/destination-rule-all.yaml",
            "networking/virtual-service-reviews-test-v2.yaml",
        ],
        ("productpage-v1", "http://reviews:9080/"),
    ),
    "shop": (
        ["release/kubernetes-manifests.yaml", "release/istio-manifests.yaml"],
        ("frontend", "http://productcatalogservice:3550/"),
    ),
    "hundred": (["hundred.yaml"], ("web1", "http://web100/")),
}


def write_hundred(folder):
    """Write a hundred Deployments of somebody else's image, each with a Service."""
    objects = []
    for name in (f"web{number}" for number in range(1, 101)):
        template = {
            "metadata": {"labels": {"app": name, "version": "v1"}},
            "spec": {"containers": [{"name": "app", "image": "elsewhere:1", "ports": [{"containerPort": 3030}]}]},
        }
        spec = {"selector": {"matchLabels": {"app": name}}, "template": template}
        objects.append({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})
        objects.append(service(name))
    Path(folder, "hundred.yaml").write_text(yaml.safe_dump_all(objects))


def measure(name, folder, engine):
    """Return what one start of an application takes; raise LookupError for one that does not come to a call."""
    files, (origin, url) = APPLICATIONS[name]
    with tempfile.TemporaryDirectory(prefix="apps-") as temporary:
        started = time.perf_counter()
        options = ENGINES[engine]
        with running([Path(folder, file) for file in files], options, temporary) as (process, _, lines):
            wait_for(process, lines, lambda: any("Press Ctrl+C" in line for line in lines), _START_SECONDS)
            ready = time.perf_counter()
            (socket,) = Path(temporary).glob(f"*/{NAME}")
            try:
                call = ask(socket, "POST", "/call", {"from": origin, "url": url}, timeout_seconds=_CALL_SECONDS)
            except LabSocketError as error:
                raise LookupError(f"no call: {error}") from None
            answered = time.perf_counter()
            if call["answer"]["status"] != 200:
                raise LookupError(f"the call is answered with {call['answer']}")
            return {
                "ready, s": ready - started,
                "first call from a pod, s": answered - ready,
                "both, s": answered - started,
                "processor, s": processor_seconds(process.pid),
                "memory, MB": sum(map(proportional_megabytes, descendants(process.pid))),
            }


def main():
    """Measure what was asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bookinfo", type=Path, help="Istio's samples/bookinfo")
    parser.add_argument("--shop", type=Path, help="a clone of microservices-demo")
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--repetitions", type=int, default=3)
    chosen = parser.parse_args()
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory() as folder:
        write_hundred(folder)
        folders = {"bookinfo": chosen.bookinfo, "shop": chosen.shop, "hundred": folder}
        rows = [(name, engine) for name, place in folders.items() if place for engine in chosen.engines]
        values, failures = {}, {}
        for _ in range(chosen.repetitions):
            for name, engine in rows:
                try:
                    found = measure(name, folders[name].resolve() if name != "hundred" else folder, engine)
                except LookupError as error:
                    failures[name, engine] = str(error)
                    continue
                for what, value in found.items():
                    values.setdefault((name, engine), {}).setdefault(what, []).append(value)
    titles = ["ready, s", "first call from a pod, s", "both, s", "processor, s", "memory, MB"]
    print(f"| application | {' | '.join(titles)} |")
    print("| --- |" + " --- |" * len(titles))
    for row in rows:
        cells = [shown(values[row][title]) for title in titles] if row in values else [failures[row]]
        print(f"| {', '.join(row)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
