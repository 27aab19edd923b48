"""Lessons on a cluster: the calls of kubectl in order, what goes wrong, and that all is taken back.

A stand-in for kubectl is on PATH (tests/support/kubectl_double.py).
"""

import os
import re
import signal
import subprocess
import sys

import pytest
from stage_support import write_lessons
from support import ROOT, free_port, in_tiers, is_refused, wait_until

WATCH = "  meshdemo watch http://127.0.0.1:3030/ -n 3 --rate 0 --expect hello=3"
EXAMPLE = """
{kind: ServiceAccount, metadata: {name: proxy}}
---
{kind: Deployment, metadata: {name: proxy}}
"""
LESSON = "{kind: VirtualService, metadata: {name: webserver}}\n"
# The program, but for the seconds that it gives the sidecars of a real cluster.
IMPATIENT = """
from meshdemo import __main__
from meshdemo.lessons.stages import cluster_stage
cluster_stage._SPREAD_SECONDS = 0.1
cluster_stage._REQUEST_SECONDS = {limit}
cluster_stage._SIGNAL_SECONDS = 1
__main__.main()
"""
FRONT = r"port-forward service/proxy \d+:80"


class Cluster:
    """What the stand-in remembers, and lessons that it is to show."""

    def __init__(self, folder):
        self.state = folder / "state"
        self.state.mkdir()
        (self.state / "sidecar").touch()
        program = folder / "bin" / "kubectl"
        program.parent.mkdir()
        double = ROOT / "tests/support/kubectl_double.py"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{double}" "$@"\n')
        program.chmod(0o755)
        self.environment = {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "KUBECTL_STATE": str(self.state),
            "HOME": str(folder),
        }
        self.folder = folder / "k8s"
        self.folder.mkdir()
        self.port = free_port()
        self.limit = 30
        self._started = []
        self.write(one=WATCH, two=WATCH)

    def write(self, **comments):
        for lesson in write_lessons(self.folder, **comments):
            lesson.path.write_text(lesson.path.read_text() + LESSON)
        (self.folder / "example.yaml").write_text(EXAMPLE)

    def command(self, *arguments):
        where = ["--folder", str(self.folder), "--port", str(self.port), "--cluster", "--check"]
        return [sys.executable, "-c", IMPATIENT.format(limit=self.limit), "lesson", *where, *arguments]

    def run(self, *arguments):
        return subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, cwd=ROOT, timeout=60
        )

    def check(self, comment, *arguments):
        """Check a policy with a comment; return the process, and its lines without the path."""
        policy = self.folder.parent / "policy.yaml"
        policy.write_text("".join(f"# {line}\n" for line in comment) + LESSON)
        program = IMPATIENT.format(limit=self.limit)
        done = subprocess.run(
            [sys.executable, "-c", program, "check", str(policy), "--cluster", *arguments],
            env=self.environment, capture_output=True, text=True, cwd=ROOT, timeout=60,
        )  # fmt: skip
        return done, done.stdout.replace(f"{policy.parent}/", "").splitlines()

    def start(self, *arguments):
        process = subprocess.Popen(
            self.command(*arguments), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        self._started.append(process)
        return process

    def close(self):
        (self.state / "slow").unlink(missing_ok=True)
        for process in self._started:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=20)

    def set(self, name, text):
        (self.state / name).write_text(text)

    def lines(self, name):
        path = self.state / name
        return [line for line in path.read_text().splitlines() if line] if path.exists() else []

    def calls(self):
        """Return the calls without those that only ask, and with paths made short."""
        shown = [call.replace(f"{self.folder}/", "") for call in self.lines("calls")]
        return [call for call in shown if not call.startswith(("config", "get", "apply --dry-run"))]

    def is_clean(self):
        return not self.lines("objects") and is_refused(self.port)


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    yield made
    made.close()


ROLLOUT = "rollout status deployment.apps/proxy --timeout=180s"
TAKE_BACK = (
    "delete --ignore-not-found --wait=false virtualservice.networking.istio.io/webserver serviceaccount/proxy "
    "deployment.apps/proxy"
)


def test_the_calls_in_order(cluster):
    """The example, then each lesson in place of the one before, with a port that is forwarded; then all is deleted."""
    done = cluster.run("--all")
    assert (done.returncode, done.stderr.splitlines()) == (0, ["deleting what was applied to kind-test ..."])
    front = f"port-forward service/proxy {cluster.port}:80"
    assert cluster.calls() == [
        "apply --filename example.yaml",
        ROLLOUT,
        "apply --filename istio/one.yaml",
        front,
        f"ended: {front}",
        "delete --ignore-not-found --timeout=30s virtualservice.networking.istio.io/webserver",
        "apply --filename istio/two.yaml",
        front,
        f"ended: {front}",
        TAKE_BACK,
    ]
    assert cluster.is_clean()


@pytest.mark.thorough
def test_what_will_be_done_is_said_first(cluster):
    """Before anything else context and namespace are named."""
    lines = cluster.run("one").stdout.splitlines()
    assert lines[0] == "kubectl's context is kind-test, its namespace default. meshdemo will do this there:"
    assert lines[3] == "  at the end, delete what it has applied, and nothing else."
    assert lines[4].startswith("1. The lesson one")


def test_a_broken_promise(cluster):
    """A lesson that does not hold exits 1, and all is taken back."""
    cluster.write(one=WATCH.replace("hello=3", "hello=2"))
    done = cluster.run("one")
    assert done.returncode == 1
    assert "✗ hello: 3 calls, expected 2" in done.stdout
    assert cluster.is_clean()


def test_an_example_that_is_there_stays(cluster):
    """An example that somebody else has applied is neither applied nor deleted."""
    cluster.set("objects", "serviceaccount/proxy\ndeployment.apps/proxy\nservice/theirs")
    done = cluster.run("one")
    assert done.returncode == 0
    assert "example.yaml" not in " ".join(cluster.calls())
    assert cluster.lines("objects") == ["serviceaccount/proxy", "deployment.apps/proxy", "service/theirs"]


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ("serviceaccount/proxy", "is there: deployment.apps/proxy is missing in namespace default"),
        (
            "virtualservice.networking.istio.io/webserver",
            "virtualservice.networking.istio.io/webserver is already in namespace default, and ",
        ),
    ],
    ids=["a part of the example", "an object of the lesson"],
)
def test_what_was_there_before_stays(cluster, objects, words):
    """Where something of the same name is there, it is neither changed nor deleted, and the message names it."""
    cluster.set("objects", objects)
    done = cluster.run("one")
    assert done.returncode == 1
    assert words in done.stdout
    assert cluster.lines("objects") == [objects]


@pytest.mark.parametrize(
    ("call", "message", "words"),
    in_tiers(
        [
            (
                "config current",
                "error: current-context is not set",
                "is not set. To make a cluster on this machine: ",
            ),
            ("config current", "error: \x1b[2J", "kubectl config current-context: error: \\x1b[2J"),
            (
                "apply --dry",
                "no matches for kind\\nensure CRDs are installed",
                "no matches for kind; ensure CRDs are",
            ),
            ("apply --filename .*one", "admission webhook denied the request", "admission webhook denied the request"),
            ("rollout", "error: timed out waiting", "error: timed out waiting; kubectl get pods shows why"),
            (
                "port-forward",
                "unable to listen on any of the requested ports",
                "unable to listen on any of the requested",
            ),
        ],
        3,
    ),
    ids=[
        "no context",
        "control characters",
        "no CRDs",
        "refused",
        "pods that do not come",
        "a port that cannot be had",
    ],
)
def test_errors(cluster, call, message, words):
    """What kubectl says when it fails is told in one line, and all is taken back."""
    cluster.set("fail", f"{call}={message}")
    done = cluster.run("one")
    assert done.returncode == 1
    assert len([line for line in (done.stdout + done.stderr).splitlines() if words in line]) == 1
    assert "Traceback" not in done.stderr
    assert cluster.is_clean()


@pytest.mark.thorough
def test_a_clean_up_that_fails(cluster):
    """What could not be deleted is named."""
    cluster.set("fail", "delete=the server is gone")
    done = cluster.run("one")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: kubectl delete")
    assert "the server is gone. What was applied may still be there: virtualservice" in last


def test_without_kubectl(cluster):
    """Without kubectl it is one line."""
    cluster.environment["PATH"] = str(cluster.folder)
    done = cluster.run("one")
    assert (done.returncode, done.stderr) == (1, "Error: --cluster runs kubectl, which is not installed.\n")


@pytest.mark.thorough
def test_a_port_that_another_program_has(cluster, tcp_server):
    """A port that another program answers on is not mistaken for the cluster's."""
    other = tcp_server(lambda connection: None)
    cluster.port = other.port
    cluster.set("slow", "")
    process = cluster.start("one")
    wait_until(lambda: any(re.fullmatch(FRONT, call) for call in cluster.calls()), "the port-forward")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert "hello" not in output


@pytest.mark.parametrize(
    "call", in_tiers(["apply --filename .*one", "get --ignore", "delete --ignore-not-found --timeout"], 3)
)
def test_a_kubectl_that_hangs(cluster, call):
    """Whatever kubectl does not come to an end with is ended and named, and what was applied is taken back."""
    cluster.limit = 4
    cluster.set("slow", call)
    done = cluster.run("--all")
    assert done.returncode == 1
    assert re.search(rf"kubectl {call}.*: no answer within 4 s. Does kubectl reach the cluster\?", done.stdout)
    assert cluster.is_clean()


@pytest.mark.parametrize("call", in_tiers(["delete --ignore-not-found --timeout", "apply --filename .*one"], 2))
def test_ctrl_c_while_kubectl_hangs(cluster, call):
    """A call that changes something has a moment to end by itself; then it is ended, and all is taken back."""
    cluster.set("slow", call)
    process = cluster.start("--all")
    wait_until(lambda: any(re.search(call, each) for each in cluster.lines("calls")), call)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert any(each.startswith("ended: ") and re.search(call, each) for each in cluster.lines("calls"))
    assert cluster.is_clean()


@pytest.mark.thorough
def test_a_bare_kubectl(cluster):
    """A lesson whose command is kubectl alone is no traceback."""
    cluster.write(one=f"  kubectl\n{WATCH}")
    done = cluster.run("one")
    assert "Traceback" not in done.stderr
    assert cluster.is_clean()


@pytest.mark.thorough
def test_pods_without_a_sidecar(cluster):
    """Where the pods have no sidecar, it is said why nothing will be seen."""
    (cluster.state / "sidecar").unlink()
    cluster.write(one=WATCH.replace("hello=3", "hello=2"))
    assert "has no sidecar" in cluster.run("one").stderr


def test_logs_and_other_ports(cluster):
    """Logs are those since the lesson began; other ports are forwarded, and ended with the rest; calls are left out."""
    other = free_port()
    commands = [
        f"kubectl port-forward deployment/outsider {other}:3030",
        WATCH.replace("3030", str(other)).strip(),
        f"meshdemo call 127.0.0.1:{other} --expect status=1",
        "kubectl logs --tail=-1 | grep --count /x  # 2",
    ]
    cluster.write(one="\n".join(f"  {command}" for command in commands))
    done = cluster.run("one")
    assert done.returncode == 0, done.stdout
    assert "status" not in done.stdout
    (logs,) = [call for call in cluster.calls() if call.startswith("logs")]
    assert re.fullmatch(r"logs --tail=-1 --since-time \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", logs)
    assert f"ended: port-forward deployment/outsider {other}:3030" in cluster.calls()
    assert is_refused(other)


def test_a_port_forward_that_ends_is_started_again(cluster):
    """When the pod behind it goes, the port is forwarded to another one."""
    cluster.write(one=WATCH.replace("-n 3 --rate 0", "-n 0").replace("hello=3", "unanswered=0.."))
    process = cluster.start("one")
    wait_until(lambda: any(re.fullmatch(FRONT, call) for call in cluster.calls()), "the port-forward")
    wait_until(lambda: not is_refused(cluster.port), "the port")
    (pid,) = pids_of(f"proxy {cluster.port}:80")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: sum(bool(re.fullmatch(FRONT, call)) for call in cluster.calls()) == 2, "another one")
    wait_until(lambda: not is_refused(cluster.port), "the port")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert cluster.is_clean()


def pids_of(pattern):
    listing = subprocess.run(["ps", "-eww", "-o", "pid=,args="], capture_output=True, text=True).stdout
    rows = [line.split(None, 1) for line in listing.splitlines()]
    return [int(pid) for pid, args in rows if "kubectl_double.py" in args and re.search(pattern, args)]


@pytest.mark.parametrize(
    ("call", "number"),
    in_tiers(
        [
            ("apply --dry", signal.SIGINT),
            ("get", signal.SIGINT),
            ("apply --filename .*example", signal.SIGINT),
            ("rollout", signal.SIGINT),
            ("rollout", signal.SIGTERM),
            ("apply --filename .*one", signal.SIGINT),
            ("apply --filename .*one", signal.SIGTERM),
            ("port-forward", signal.SIGINT),
            ("watch", signal.SIGINT),
            ("watch", signal.SIGTERM),
            ("watch", signal.SIGHUP),
        ],
        4,
    ),
)
def test_signals_take_everything_back(cluster, call, number):
    """Whatever kubectl is doing when a signal comes: what was applied is deleted, and nothing goes on running."""
    if call == "watch":
        cluster.write(one=WATCH.replace("-n 3", "-n 0"))
    else:
        cluster.set("slow", call)
    process = cluster.start("one")
    if call == "watch":
        wait_until(lambda: pids_of(FRONT), "the port-forward")
        wait_until(lambda: watching(process.pid), "the watch")
    else:
        wait_until(lambda: any(re.search(call, each) for each in cluster.lines("calls")), call)
    os.killpg(process.pid, number)  # as a terminal does
    if (cluster.state / "slow").exists():
        (cluster.state / "slow").unlink()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert cluster.is_clean()
    assert not pids_of(str(cluster.port))
    if call != "get" and not call.startswith("apply --dry"):
        assert cluster.calls()[-1].startswith("delete --ignore-not-found --wait=false")


def watching(pid):
    listing = subprocess.run(["ps", "-eww", "-o", "ppid=,args="], capture_output=True, text=True).stdout
    return any(line.split()[0] == str(pid) and "watch" in line for line in listing.splitlines())


def test_a_signal_during_the_clean_up(cluster):
    """Who presses Ctrl+C again while it cleans up does not stop that."""
    cluster.set("slow", "delete")
    process = cluster.start("one")
    wait_until(lambda: any(call.startswith("delete") for call in cluster.calls()), "the clean-up")
    os.killpg(process.pid, signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    (cluster.state / "slow").unlink()
    assert process.wait(20) == 0
    process.communicate()
    assert cluster.is_clean()


def test_bad_usage(cluster):
    """--cluster cannot be combined with --istiod, in one line."""
    done = cluster.run("one", "--istiod")
    assert done.returncode == 2
    assert "--cluster cannot be combined with --istiod" in done.stderr


def test_a_policy_is_checked(cluster, tmp_path):
    """What runs there stays; what only a lab could tell is marked, and neither passed nor failed."""
    cluster.set("objects", "service/proxy")
    junit = tmp_path / "out.xml"
    call = "meshdemo call -H 'end-user: jason' localhost:3030/x"
    commands = [
        WATCH,
        f"  {call} --expect status=200 --expect tries=1",
        "  meshdemo watch --from proxy http://webserver/ --expect hello=100",
        "  meshdemo call http://127.0.0.1:8080/ --expect status=200",
        "  meshdemo call tcp://mongo:27017 --expect status=none",
    ]
    done, lines = cluster.check(commands, "--junit", str(junit))
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines[0] == "kubectl's context is kind-test, its namespace default. meshdemo will do this there:"
    assert lines[3:-2] == [
        "policy.yaml",
        "   ✓ hello: 3 calls, expected 3",
        "   ✓ status: 200, expected 200",
        f"   {call} --expect status=200 --expect tries=1",
        "   - policy.yaml:2: tries=1: not judged: only a lab explains a call",
        "   meshdemo watch --from proxy http://webserver/ --expect hello=100",
        "   - policy.yaml:3: not judged: only in a lab --from says where a call comes from",
        "   meshdemo call http://127.0.0.1:8080/ --expect status=200",
        "   - policy.yaml:4: not judged: 127.0.0.1:8080 is not forwarded: only 127.0.0.1:3030 is, to the Service proxy",
        "   meshdemo call tcp://mongo:27017 --expect status=none",
        "   - policy.yaml:5: not judged: only in a lab tcp:// is called",
    ]
    assert lines[-1].startswith("2 passed, 4 not judged in ")
    assert junit.read_text().count("<skipped message=") == 4
    assert [call.split()[0] for call in cluster.calls()] == ["apply", "port-forward", "ended:", "delete"]
    assert cluster.lines("objects") == ["service/proxy"]


@pytest.mark.thorough
def test_a_policy_of_which_nothing_can_be_judged(cluster):
    """Where nothing stands in front, nothing is called, and that has not passed."""
    done, lines = cluster.check([WATCH])
    assert done.returncode == 1
    assert "not judged: 127.0.0.1:3030 is the Service proxy, and namespace default has none" in lines[-3]
    assert lines[-1].startswith("0 passed, 1 not judged in ")
    assert cluster.is_clean()
