"""Probes, by Kubernetes' thresholds."""

import socket
import threading
import time

import pytest
from support import free_port, http_response, read_request, wait_until

from meshdemo.lab.cluster.pods import Probe
from meshdemo.lab.pods.probing import Probing

PROBE = {"path": "/healthz", "period_seconds": 0.1, "timeout_seconds": 0.3}


class Answers:
    """What a server answers to probes, and when they came."""

    def __init__(self):
        self.status = "200 OK"
        self.times = []
        self.requests = []

    def __call__(self, connection):
        self.requests.append(read_request(connection))
        self.times.append(time.monotonic())
        if self.status:
            connection.sendall(http_response(b"", status=self.status))
        else:
            connection.recv(1)  # until the other side gives up


@pytest.fixture
def probing(tcp_server):
    """Return a function that starts a probe of a server, and gives both."""
    started = []

    def start(status="200 OK", **fields):
        answers = Answers()
        answers.status = status
        server = tcp_server(answers)
        started.append(Probing(Probe(port=3030, **{**PROBE, **fields}), server.port, "probe"))
        started[-1].start()
        return started[-1], answers

    yield start
    for each in started:
        each.stop()


def test_success(probing):
    """An answer from 200 to 399 is a success, and the path is the probe's."""
    found, answers = probing("302 Found")
    wait_until(lambda: found.passing, "success")
    assert found.passed
    assert answers.requests[0].startswith(b"GET /healthz ")


@pytest.mark.parametrize("status", ["500 Internal Server Error", "404 Not Found", None])
def test_failure(probing, status):
    """Any other answer, or none in time, is a failure; as many in a row as the threshold says count."""
    found, answers = probing(status, failure_threshold=3)
    wait_until(lambda: found.failed, "failure")
    assert len(answers.times) >= 3
    assert not found.passed


def test_recovery(probing):
    """What has failed passes again after as many successes as the threshold says."""
    found, answers = probing(success_threshold=2, failure_threshold=2)
    wait_until(lambda: found.passing, "success")
    answers.status = "503 Service Unavailable"
    wait_until(lambda: found.failed and not found.passing, "failure")
    answers.status = "200 OK"
    wait_until(lambda: found.passing and not found.failed, "success again")


def test_one_failure_among_successes(probing):
    """Fewer failures in a row than the threshold change nothing."""
    found, answers = probing(failure_threshold=1000)
    wait_until(lambda: found.passing, "success")
    answers.status = "503 Service Unavailable"
    count = len(answers.times)
    wait_until(lambda: len(answers.times) > count + 3, "failures")
    assert found.passing
    assert not found.failed


def test_initial_delay(probing):
    """The first probe comes after the initial delay."""
    started = time.monotonic()
    found, answers = probing(initial_delay_seconds=0.5)
    wait_until(lambda: found.passing, "success")
    assert answers.times[0] - started >= 0.5


def test_before_the_first_success(probing):
    """Before it first succeeds a probe comes often, but its failures count at its own pace."""
    found, answers = probing("503 Service Unavailable", period_seconds=60, failure_threshold=2)
    wait_until(lambda: len(answers.times) >= 5, "probes")
    assert not found.failed
    answers.status = "200 OK"
    wait_until(lambda: found.passing, "success")


def test_how_often_it_asks():
    """Before it first succeeds a probe comes every 0.1 s, or at its own pace where that is quicker."""

    class Pauses(list):
        def wait(self, seconds):
            self.append(seconds)
            return len(self) > 3

    for period_seconds, pause_seconds in ((60, 0.1), (0.05, 0.05)):
        found = Probing(Probe(None, 3030, period_seconds=period_seconds), free_port(), "probe")
        found._stopped = Pauses()
        found._run()
        assert found._stopped == [0, *[pause_seconds] * 3]


def test_stop(probing):
    """A probe that is stopped asks no more."""
    found, _ = probing()
    wait_until(lambda: found.passing, "success")
    found.stop()
    wait_until(lambda: "probe" not in [each.name for each in threading.enumerate()], "its thread to end")


def test_a_tcp_probe():
    """A probe without a path succeeds where somebody listens, and fails where nobody does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        probing = Probing(Probe(None, 3030, period_seconds=0.05, failure_threshold=1), server.getsockname()[1], "tcp")
        probing.start()
        wait_until(lambda: probing.passing, "a probe that succeeds")
    wait_until(lambda: probing.failed, "a probe that fails")
    probing.stop()
