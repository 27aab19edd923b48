"""One replica: started, probed, ended and started again as Kubernetes does it."""

import signal
import time

import pytest
from lab_support import web_container
from support import COMMANDS, free_port, get, is_refused, wait_until

from meshdemo.lab.cluster.pods import Probe
from meshdemo.lab.pods.replica import PROGRAM_VARIABLES, Replica

# A replica needs a while until it listens.
STARTUP = Probe("/healthz", 3030, period_seconds=1, failure_threshold=60)
READINESS = Probe("/readyz", 3030, period_seconds=0.1, failure_threshold=1)
LIVENESS = Probe("/healthz", 3030, period_seconds=0.1, timeout_seconds=0.3, failure_threshold=2)


@pytest.fixture
def replica():
    """Return a function that starts a replica of a web server; what it says is in `lines`."""
    started = []

    def start(*args, environment=None, grace_seconds=5.0, **probes):
        lines = []
        found = Replica(
            "web-1",
            web_container(*args, **probes),
            port=free_port(),
            arguments=(),
            environment={"DRAIN_SECONDS": "0", "ACCESS_LOG": "false", **(environment or {})},
            grace_seconds=grace_seconds,
            process_group=0,
            say=lines.append,
            log=lambda pod, line: lines.append(f"{pod} | {line}"),
        )
        found.lines = lines
        started.append(found)
        found.start()
        return found

    yield start
    for each in started:
        each.retire()
        if each.process and each.process.poll() is None:
            each.process.kill()
        each.wait(10)


def wait_until_ready(found):
    wait_until(lambda: found.is_ready, "the replica")


def test_modules_in_the_current_folder_do_not_run(replica, tmp_path, monkeypatch):
    """A file in the current folder that is called as a module of Python or of a package is not that module."""
    for name in ("queue", "click", "requests"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)
    found = replica(readiness=READINESS)
    wait_until_ready(found)
    assert found.lines == []


def test_a_life(replica):
    """It is ready once its probe passes, answers at its port, and ends when it is retired."""
    found = replica("--content", "hello", readiness=READINESS)
    wait_until_ready(found)
    assert get(found.port)[2].startswith("hello requested from / on ")
    found.retire()
    assert not found.is_ready
    wait_until(lambda: found.has_ended, "its end")
    assert found.process.returncode == 0
    assert is_refused(found.port)
    assert found.lines == []


def test_without_probes(replica):
    """Without a probe it is ready as soon as it listens."""
    wait_until_ready(replica())


def test_environment(replica, monkeypatch):
    """It gets the variables it is given, and of the shell's only what a process needs."""
    monkeypatch.setenv("CONTENT", "the shell's")
    monkeypatch.setenv("FAIL_RATIO", "1")
    found = replica(environment={"FAIL_RATIO": "0"})
    wait_until_ready(found)
    assert get(found.port, "/failsometimes")[2].startswith("Hello world requested")
    assert get(found.port)[2].startswith("Hello world requested")


@pytest.mark.parametrize("name", ["HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "PYTHONPATH", "TMPDIR", "TZ"])
def test_what_a_process_takes_over(replica, monkeypatch, name):
    """A process finds its programs, folders, language and time zone as this one does."""
    monkeypatch.setenv(name, "here")
    assert replica().environment[name] == "here"


def test_a_replica_that_does_not_start(replica):
    """It says why, and is started again after pauses that grow."""
    found = replica("--fail-ratio", "2")
    wait_until(lambda: any("starting it again in 1 s" in line for line in found.lines), "the second pause")
    assert "web-1 | Error: Invalid value for '--fail-ratio'" in "\n".join(found.lines)
    assert [line for line in found.lines if "ended" in line][:2] == [
        "web-1 ended with status 2; starting it again in 0.5 s",
        "web-1 ended with status 2; starting it again in 1 s",
    ]
    assert not found.is_ready
    found.retire()
    wait_until(lambda: found.has_ended, "its end", 2)


def test_a_replica_that_is_killed(replica):
    """It is started again, and ready again."""
    found = replica(readiness=READINESS)
    wait_until_ready(found)
    first = found.process
    first.kill()
    wait_until(lambda: found.process is not first and found.is_ready, "the second one")
    assert found.lines == ["web-1 ended with status -9; starting it again in 0.5 s"]


def test_readiness_alone(replica):
    """While its readiness fails it takes no traffic, and is not ended."""
    found = replica(readiness=Probe("/failsometimes", 3030, period_seconds=0.1, failure_threshold=1))
    wait_until_ready(found)
    first = found.process
    for state in (False, True, False):  # a third of the answers fails
        wait_until(lambda state=state: found.is_ready == state, f"readiness {state}")
    assert found.process is first
    assert found.lines == []


def test_liveness_without_readiness(replica):
    """A replica that fails liveness is started again though it was never ready."""
    failing = Probe("/failsometimes", 3030, period_seconds=0.1, failure_threshold=2)
    found = replica("--fail-ratio", "1", startup=STARTUP, readiness=failing, liveness=failing)
    wait_until(lambda: any("does not pass its liveness probe" in line for line in found.lines), "liveness")
    first = found.process
    wait_until(lambda: found.process is not first, "the second one")
    assert not found.is_ready


def test_a_hung_replica(replica):
    """One that hangs fails liveness, gets SIGTERM and, when its grace is over, SIGKILL; then it is started again."""
    found = replica(startup=STARTUP, readiness=READINESS, liveness=LIVENESS, grace_seconds=0.5)
    wait_until_ready(found)
    first = found.process
    first.send_signal(signal.SIGSTOP)
    wait_until(lambda: found.process is not first and found.is_ready, "the second one")
    assert first.returncode == -9
    assert found.lines[0] == "web-1 does not pass its liveness probe: it is ended and started again"


def test_the_grace_of_a_probe(replica):
    """A probe may have a grace of its own."""
    liveness = Probe("/healthz", 3030, period_seconds=0.1, timeout_seconds=0.2, failure_threshold=1, grace_seconds=0.2)
    found = replica(startup=STARTUP, liveness=liveness, grace_seconds=1000)
    wait_until_ready(found)
    first = found.process
    first.send_signal(signal.SIGSTOP)
    wait_until(lambda: found.process is not first, "the second one")
    assert first.returncode == -9


def test_a_hung_replica_that_is_retired(replica):
    """However long its probes may take, one that hangs is killed when its grace is over."""
    slow = Probe("/healthz", 3030, period_seconds=0.1, timeout_seconds=1000)
    found = replica(startup=STARTUP, readiness=slow, liveness=slow, grace_seconds=0.3)
    wait_until_ready(found)
    found.process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)  # so that probes are waiting
    found.retire()
    wait_until(lambda: found.has_ended, "its end", 5)
    assert found.process.returncode == -9


def test_startup(replica):
    """Until its startup probe has passed no other counts; when it fails the replica is started again."""
    ready = Probe("/readyz", 3030, period_seconds=0.1)
    found = replica(startup=Probe("/healthz", 3030, initial_delay_seconds=0.6), readiness=ready)
    started = time.monotonic()
    wait_until_ready(found)
    assert time.monotonic() - started >= 0.5
    failing = Probe("/failsometimes", 3030, period_seconds=0.1, failure_threshold=3)
    found = replica("--fail-ratio", "1", startup=failing, readiness=ready)
    wait_until(lambda: any("does not pass its startup probe" in line for line in found.lines), "the failure")
    assert not found.is_ready


def test_nothing_starts_after_it_was_retired(replica):
    """A replica that is retired in the pause before a start is not started again."""
    found = replica("--fail-ratio", "2")
    wait_until(lambda: any("starting it again" in line for line in found.lines), "the pause")
    process = found.process
    found.retire()
    wait_until(lambda: found.has_ended, "its end", 2)
    assert found.process is process


def test_variables_of_a_manifest(replica):
    """A process gets the variables that the program reads, and no other that a manifest has."""
    found = replica(environment={"CONTENT": "mine", "SSLKEYLOGFILE": "keys", "LD_PRELOAD": "x.so"})
    assert found.environment["CONTENT"] == "mine"
    assert not {"SSLKEYLOGFILE", "LD_PRELOAD"} & found.environment.keys()


def test_the_variables_that_the_program_reads():
    """Every variable of the options of both roles is known."""
    read = set()
    for command in ("webserver", "proxy"):
        for parameter in COMMANDS[command].params:
            read |= {parameter.envvar} if isinstance(parameter.envvar, str) else set(parameter.envvar or ())
    assert read == PROGRAM_VARIABLES


def test_a_killed_replica_takes_no_calls_in_its_pause(replica):
    """From its end until it is ready again, a replica that was killed is not ready."""
    found = replica(readiness=READINESS)
    wait_until_ready(found)
    found.process.kill()
    wait_until(lambda: any("starting it again" in line for line in found.lines), "its end")
    assert not found.is_ready
    wait_until_ready(found)
