"""`meshdemo up -f` as a whole program: its start, its signals, its end, and what it says when it cannot."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from lab_support import EXAMPLE, K8S, call
from support import ROOT, free_port, get, in_tiers, wait_until

SPLIT = K8S / "istio/split.yaml"


class LabProgram:
    """A running `meshdemo up`: its lines as they come, and the processes and the folder that are to end with it."""

    def __init__(self, folder, *args, env=None, text=None, port=0):
        self.folder = folder
        self.started_at = time.monotonic()
        clean = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "PYTHONPATH")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "meshdemo", "up", "--port", str(port), *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**clean, "TMPDIR": str(folder), **(env or {})},
            cwd=ROOT,
        )
        self.process.stdin.write(text or "")
        self.process.stdin.close()
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_for_line(self, text):
        def find():
            assert self.process.poll() is None or any(text in line for line in self.lines), self.lines
            return next((line for line in self.lines if text in line), None)

        return wait_until(find, repr(text), 40)

    def wait_for_start(self):
        self.wait_for_line("Press Ctrl+C to stop.")
        return self.addresses()

    def addresses(self):
        """Return what can be called, by its name."""
        found = [re.fullmatch(r"  (http://\S+/)  (.*)", line) for line in self.lines]
        return {match[2]: match[1] for match in found if match}

    def family(self):
        """Return the ids of the guard and of all that the lab has started."""
        listing = subprocess.run(
            ["ps", "-ww", "-e", "-o", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True
        ).stdout
        rows = [line.split() for line in listing.splitlines()]
        guards = {row[0] for row in rows if row[1] == str(self.process.pid)}
        groups = {row[2] for row in rows if row[1] in guards}
        return {row[0] for row in rows if (row[0] in guards or row[2] in groups) and "Z" not in row[3]}

    def end(self, number, *, within=None, seconds=60):
        """Send a signal, and return the exit status when the program has ended, and nothing else is left either."""
        family = self.family()
        started = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(seconds)
        if within is not None:
            assert time.monotonic() - started < within
        wait_until(lambda: not any(is_running(pid) for pid in family), "all processes to end")
        wait_until(lambda: not list(self.folder.iterdir()), "the folder to go")
        self._reader.join(5)
        assert "Traceback" not in "\n".join(self.lines)
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        self._reader.join(20)
        self.process.stdout.close()


def is_running(pid):
    listing = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True).stdout
    return bool(listing.strip()) and "Z" not in listing


@pytest.fixture
def up():
    """Return a function that starts the command with a temporary folder of its own, whose path is short."""
    folder = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))
    programs = []

    def start(*args, **options):
        programs.append(LabProgram(folder, *args, **options))
        return programs[-1]

    yield start
    for each in programs:
        each.close()
    wait_until(lambda: not list(folder.iterdir()), "the folder to be empty")
    folder.rmdir()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return the example with one pod of each version, which starts sooner."""
    path = tmp_path_factory.mktemp("small") / "example.yaml"
    path.write_text(EXAMPLE.read_text().replace("replicas: 3", "replicas: 1"))
    return path


def test_what_the_start_says(up):
    """At once what is being started; then pods, policies, what is not applied, what to call; no other user sees in."""
    running = up("-f", f"{EXAMPLE},{SPLIT}", "-f", K8S / "istio/mutual-tls.yaml")
    running.wait_for_start()
    text = "\n".join(running.lines)
    assert running.lines[0] == "starting 8 pods (1 proxy, 3 webserverv1, 3 webserverv2, 1 outsider) ..."
    assert "\npods\n  proxy: proxy-1\n  webserverv1: webserverv1-1, webserverv1-2, webserverv1-3\n" in text
    assert "\npolicies\n" in text
    assert "mutual-tls.yaml: PeerAuthentication/webserver: not applied" in text
    assert "split.yaml: VirtualService/webserver: replaced by the one in " in text
    assert "ServiceAccount" not in text
    assert re.search(r"\nto call\n  http://127.0.0.1:\d+/  service/proxy\n", text)
    (folder,) = running.folder.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    sockets = list(folder.rglob("control-plane"))
    assert sockets
    assert all(each.is_socket() and each.stat().st_mode & 0o077 == 0 for each in sockets)
    assert running.end(signal.SIGINT) == 0


@pytest.mark.parametrize("times", in_tiers([1, 3], 2))
def test_the_first_call(up, small, times):
    """The first call after the first connection succeeds: no port answers before everything behind it does."""
    for _ in range(times):
        port = free_port()
        running = up("-f", small, port=port)
        wait_until(lambda port=port: connects(port), "the port")
        assert call(f"http://127.0.0.1:{port}/").status == 200
        running.wait_for_start()
        assert running.end(signal.SIGINT) == 0


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


MOMENTS = {
    "the folder is there": lambda running: list(running.folder.iterdir()),
    "the first line is there": lambda running: running.lines,
    "an Envoy is being started": lambda running: list(running.folder.glob("*/*/bootstrap.json")),
    "an Envoy runs": lambda running: list(running.folder.glob("*/*/log")),
    "two Envoys run": lambda running: len(list(running.folder.glob("*/*/log"))) > 1,
}


@pytest.mark.parametrize("moment", in_tiers(MOMENTS.values(), 2), ids=MOMENTS.keys())
def test_ctrl_c_while_it_starts(up, small, tmp_path, moment):
    """Ctrl+C ends it at once at any moment of its start, here of one that takes 30 s, and leaves nothing."""
    path = tmp_path / "never-ready.yaml"
    path.write_text(small.read_text().replace("path: /readyz", "path: /status/503"))
    running = up("-f", path, "-f", SPLIT)
    wait_until(lambda: moment(running), "the moment")
    assert running.end(signal.SIGINT, within=5) in (0, 130)


def test_ctrl_c_while_it_reads(up, small, tmp_path):
    """Ctrl+C is heard while a large file is read, which takes longer, at the start and after an edit."""
    large = tmp_path / "large.yaml"
    large.write_text("a: [" + "1, " * 2_400_000 + "1]")
    running = up("-f", large)
    wait_until(lambda: list(running.folder.iterdir()), "the lab to begin")
    time.sleep(0.2)
    assert running.process.poll() is None
    assert running.end(signal.SIGINT, within=3) in (0, 130)
    edited = tmp_path / "edited.yaml"
    edited.write_text("# nothing")
    running = up("-f", small, "-f", edited)
    running.wait_for_start()
    edited.write_text(large.read_text())
    time.sleep(0.5)
    assert not [line for line in running.lines if "not applied" in line]
    assert call(running.addresses()["service/proxy"]).status == 200
    assert running.end(signal.SIGINT, within=3) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_everything_stops_together(up, small, number):
    """SIGTERM and even SIGKILL of the command leave no process and no folder."""
    running = up("--drain-seconds", "0", "-f", small, "-f", SPLIT)
    running.wait_for_start()
    # Three replicas, the Envoys of the proxy and of the node, the guard and its child.
    assert len(running.family()) == 7
    assert running.end(number) == (-9 if number == signal.SIGKILL else 0)


def test_sigterm_drains(up, small):
    """SIGTERM lets a call under way finish and ends with 0."""
    running = up("--drain-seconds", "0.2", "-f", small)
    url = running.wait_for_start()["service/proxy"]
    slow, answers = [], []
    for _ in range(20):  # of which a third waits for 2 s
        slow.append(threading.Thread(target=lambda: answers.append(call(url, "/slowsometimes"))))
        slow[-1].start()
    wait_until(lambda: answers, "the quick ones")
    time.sleep(0.3)
    assert running.end(signal.SIGTERM) == 0
    for each in slow:
        each.join()
    assert {each.status for each in answers} == {200}


@pytest.mark.parametrize("second", in_tiers([signal.SIGTERM, signal.SIGINT], 2), ids=lambda each: each.name)
def test_a_second_signal_ends_the_drain(up, small, second):
    """While it drains for 30 s, a second signal ends it at once."""
    running = up("--drain-seconds", "30", "-f", small)
    running.wait_for_start()
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert running.process.poll() is None
    assert running.end(second, within=10) == 0


def test_variables_of_the_shell(up, small):
    """`http_proxy` and its kin make no difference, and what the shell says does not reach the replicas."""
    nowhere = "http://127.0.0.1:9"
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "PROXY_URL")
    running = up("-f", small, env={**dict.fromkeys(names, nowhere), "FAIL_RATIO": "1", "CONTENT": "mine"})
    url = running.wait_for_start()["service/proxy"]
    answers = [call(url, "/failsometimes") for _ in range(60)]
    assert not {each.error for each in answers if each.error}
    assert 200 in {each.status for each in answers}
    assert {each.content for each in answers} == {"Webserver V1", "Webserver V2"}


def test_standard_input(up, small):
    """`-f -` reads standard input, as kubectl does."""
    running = up("-f", "-", text=small.read_text())
    assert call(running.wait_for_start()["service/proxy"]).status == 200
    assert running.end(signal.SIGINT, within=5) == 0


SECOND = """
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: webserver}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: another}
spec: {type: LoadBalancer, selector: {app: proxy}, ports: [{name: http, port: 80, targetPort: http}]}
"""


def test_several_services_and_gateways(up, small, tmp_path):
    """Further Services get the ports after the first, always the same; a gateway has one as well."""
    path = tmp_path / "example.yaml"
    path.write_text(small.read_text() + SECOND)
    found, port = [], free_port()
    for _ in range(2):
        running = up("-f", path, "-f", K8S / "istio/ingress.yaml", port=port)
        addresses = running.wait_for_start()
        found.append(addresses)
        assert call(addresses.pop("gateway istio-ingressgateway, port 80")).status == 200
        assert call(addresses["service/another"]).status == 200
        assert get(int(addresses["service/web"].rstrip("/").rpartition(":")[2]))[2].startswith("Webserver V")
        assert running.end(signal.SIGINT) == 0
    assert found[0] == found[1]
    assert found[0]["service/proxy"] == f"http://127.0.0.1:{port}/"
    assert found[0]["service/another"] == f"http://127.0.0.1:{port + 1}/"
    assert found[0]["service/web"] == f"http://127.0.0.1:{port + 2}/"


OUTSIDE = EXAMPLE.read_text().replace(
    "      labels:\n        app: proxy\n        version: v1\n    spec:",
    '      labels:\n        app: proxy\n        version: v1\n        sidecar.istio.io/inject: "false"\n    spec:',
)


def test_a_pod_outside_the_mesh(up, tmp_path):
    """A proxy without a sidecar reaches Services as a plain cluster leads it there: policies do not count for it."""
    assert "inject" in OUTSIDE
    path = tmp_path / "example.yaml"
    path.write_text(OUTSIDE)
    running = up("-f", path, "-f", K8S / "istio/all-v1.yaml")
    url = running.wait_for_start()["service/proxy"]
    answers = [call(url) for _ in range(60)]
    assert {each.status for each in answers} == {200}
    assert {each.content for each in answers} == {"Webserver V1", "Webserver V2"}


# Without running anything


def run(*args, env=None, text=None, folder=ROOT):
    clean = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "PYTHONPATH")}
    return subprocess.run([sys.executable, "-m", "meshdemo", "up", *map(str, args)], capture_output=True, text=True,
                          cwd=folder, timeout=60, env={**clean, **(env or {})}, input=text or "")  # fmt: skip


def test_files_that_come_with_the_program(tmp_path):
    """Where there is no file of that name, the one that comes with the program is taken, and that is said."""
    done = run("--dry-run", "-f", "example.yaml", "-f", "k8s/istio/split.yaml", folder=tmp_path)
    assert done.stderr.splitlines() == [
        f"{name} is not here: this is the one that comes with meshdemo, {path}"
        for name, path in (("example.yaml", EXAMPLE), ("k8s/istio/split.yaml", SPLIT))
    ]
    assert done.stdout == run("--dry-run", "-f", EXAMPLE, "-f", SPLIT).stdout


def test_dry_run():
    """The configuration of each sidecar is one object with Istio's names and the addresses of a cluster."""
    done = run("-f", EXAMPLE, "-f", SPLIT, "-f", K8S / "istio/mutual-tls.yaml", "--dry-run")
    assert done.returncode == 0
    envoys = json.loads(done.stdout)
    assert "proxy-1" in envoys
    parts = envoys["proxy-1"]
    assert list(parts) == ["listeners", "routes", "clusters", "endpoints"]
    assert "80" in [route["name"] for route in parts["routes"]]
    assert "outbound|80|v1|webserver.default.svc.cluster.local" in [cluster["name"] for cluster in parts["clusters"]]
    assert "10.244." in json.dumps(parts["endpoints"])
    assert "127.0.0.1" not in json.dumps(parts["endpoints"])
    assert "PeerAuthentication/webserver: not applied" in done.stderr
    assert "VirtualService/webserver: replaced by the one in" in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-f", "no-such-file.yaml"], "no-such-file.yaml: does not exist"),
        (["-f", "/dev/null"], "/dev/null: is not a file"),
        (["--dry-run"], "needs -f"),
        (["-f", EXAMPLE, "--host", "*"], "--host cannot be combined with -f: the lab listens on 127.0.0.1 alone."),
        (["-f", EXAMPLE, "--fail-ratio", "1"], "--fail-ratio cannot be combined with -f"),
        (["-f", SPLIT], "split.yaml: no Deployment, StatefulSet or Pod to run: add -f k8s/example.yaml"),
        (["-f", K8S / "kustomization.yaml"], "no Deployment, StatefulSet or Pod to run"),
        (["-f", "-"], "standard input: no Deployment, StatefulSet or Pod to run"),
    ],
)
def test_bad_usage(args, words):
    """A mistake is one line, and exits 2."""
    done = run(*args)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_would_not_run(tmp_path):
    """What Envoy would refuse ends a dry run with 2 and the object it came from."""
    path = tmp_path / "bad.yaml"
    path.write_text(SPLIT.read_text().replace("weight: 75", "weight: -1"))
    done = run("-f", EXAMPLE, "-f", path, "--dry-run")
    assert done.returncode == 2
    assert re.search(
        r"bad.yaml, line \d+, column \d+: VirtualService/webserver: spec.http\[0\].route\[0\].weight: -1", done.stderr
    )
    assert done.stdout == ""


def test_a_busy_port():
    """A port that is taken is named before anything starts."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        done = run("-f", EXAMPLE, "--port", busy.getsockname()[1])
    assert done.returncode == 1
    assert "is already in use" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("module", in_tiers(["yaml", "grpc", "google.protobuf", "cryptography"], 4))
def test_without_the_extra(module):
    """Where a package is missing, the message says what to install."""
    script = f"import sys; sys.modules[{module!r}] = None; from meshdemo.cli import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", script, "up", "-f", str(EXAMPLE)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install '.[lab]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_up_without_manifests_needs_none_of_it():
    """Without -f neither YAML nor Envoy is loaded."""
    names = ("yaml", "envoy", "cryptography")
    script = f"import sys, meshdemo.cli, meshdemo.roles.local; print([m for m in {names} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


def test_an_empty_folder(tmp_path):
    """A folder without manifests is no application."""
    Path(tmp_path / "readme.txt").write_text("nothing")
    assert "no Deployment, StatefulSet or Pod to run" in run("-f", tmp_path).stderr
