"""The lab: what the lessons do on a real Envoy beside what their comments promise, which `meshdemo lesson` checks."""

import re
import time

import pytest
from lab_support import EXAMPLE, K8S, RunningLab
from support import PATHS, get, wait_until


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory):
    """Run the example and one more file, for all tests: starting a lab takes longer than most of them."""
    running = RunningLab(tmp_path_factory.mktemp("lab"), EXAMPLE, K8S / "policy.yaml", access_log=True)
    yield running
    running.close()


@pytest.fixture
def run_lab(shared_lab):
    """Return a function that has the lab apply a lesson, or no policy at all, and gives the lab."""

    def start(path=None):
        shared_lab.edit("policy.yaml", path.read_text() if path else "# nothing\n")
        shared_lab.wait_until_settled()
        shared_lab.lines.clear()
        return shared_lab

    return start


def both(name):
    """Run a test with the lesson for Istio and with the one for the Gateway API."""
    return pytest.mark.parametrize("lesson", [f"istio/{name}.yaml", f"gateway-api/{name}.yaml"])


def test_without_any_policy(run_lab):
    """Both versions and all six pods answer, half each; the sidecar adds its headers."""
    running = run_lab()
    tally = running.call(count=150)
    assert abs(tally.versions["Webserver V1"] - 75) <= 30
    assert sum(len(pods) for pods in tally.pods.values()) == 6
    assert "X-Envoy-Attempt-Count" in str(get(running.port, Accept="application/json"))


def test_the_log_of_a_sidecar(run_lab):
    """Each request is a line of the sidecar in Istio's format, with the pod that answered and its rule."""
    running = run_lab(K8S / "istio/all-v1.yaml")
    running.call("/seen", count=1)
    line = running.wait_for_line('"GET /seen HTTP/1.1" 200 - via_upstream')
    assert line.startswith("proxy-1/istio-proxy | [20")
    assert re.search(r'" "webserver" "webserverv1-\d:3030" outbound\|80\|v1\|webserver\.', line)
    assert re.search(r" VirtualService/webserver\[0\] \S+policy\.yaml:\d+$", line)


# A few calls to each lesson; `meshdemo lesson --all --check`, which is thorough, makes as many as their comments say.
# Random numbers have bounds that fail by chance less than once in a million runs.


@both("all-v1")
def test_all_v1(run_lab, lesson):
    """Every answer is from version 1, from all of its pods."""
    tally = run_lab(K8S / lesson).call(count=60)
    assert tally.versions == {"Webserver V1": 60}
    assert len(tally.pods["Webserver V1"]) == 3


@both("split")
def test_split(run_lab, lesson):
    """Of 200 calls 150 go to version 1 and 50 to version 2."""
    tally = run_lab(K8S / lesson).call(count=200)
    assert tally.versions.total() == 200
    assert abs(tally.versions["Webserver V2"] - 50) <= 31


@both("timeout")
def test_timeout(run_lab, lesson):
    """A third of the calls is cut off with 504 after 1 s, and none takes 2 s."""
    tally = run_lab(K8S / lesson).call("/slowsometimes", count=60, concurrency=60)
    assert set(tally.statuses) == {200, 504}
    assert tally.texts == {(504, "upstream request timeout"): tally.statuses[504]}
    assert len(tally.slow(990)) == tally.statuses[504]
    assert not tally.slow(1900)


@both("ingress")
def test_ingress(run_lab, lesson):
    """The gateway's port leads to the proxy, and both versions answer behind it."""
    running = run_lab(K8S / lesson)
    (gateway,) = [each for each in running.lab.addresses() if each.gateway_port == 80]
    assert set(running.call(count=60, url=gateway.url).versions) == {"Webserver V1", "Webserver V2"}


def test_abort(run_lab):
    """Half of the calls fail with 503 and no pod."""
    tally = run_lab(K8S / "istio/abort.yaml").call(count=100)
    assert abs(tally.statuses[503] - 50) <= 25
    assert tally.texts == {(503, "fault filter abort"): tally.statuses[503]}


def test_delay(run_lab):
    """A quarter of the calls takes 3 s, with status 200."""
    tally = run_lab(K8S / "istio/delay.yaml").call(count=60, concurrency=60)
    assert tally.statuses == {200: 60}
    assert 1 <= len(tally.slow(2990)) <= 31


def test_retries(run_lab):
    """One third of failures becomes 1/81: of 200 calls 2, never 15."""
    tally = run_lab(K8S / "istio/retries.yaml").call("/failsometimes", count=200)
    assert tally.statuses[500] <= 14
    assert tally.statuses.total() == 200


def test_circuit_breaker(run_lab):
    """More than two calls at once overflow into 503, at once, and without a pod."""
    tally = run_lab(K8S / "istio/circuit-breaker.yaml").call("/slowsometimes", count=60, concurrency=60)
    ((_, text),) = tally.texts
    assert "overflow" in text
    assert tally.statuses[503] >= 30
    assert tally.statuses[200] >= 2


@both("header")
def test_header(run_lab, lesson):
    """The header decides, through the proxy and to the letter."""
    running = run_lab(K8S / lesson)
    assert running.call(end_user="tester").versions == {"Webserver V2": 60}
    assert running.call(end_user="testers").versions == {"Webserver V1": 60}
    assert running.call().versions == {"Webserver V1": 60}


@both("path")
def test_path(run_lab, lesson):
    """The path decides, and version 2 sees it rewritten."""
    running = run_lab(K8S / lesson)
    for path, version, seen in PATHS:
        for _ in range(10):
            assert f"Webserver V{version} requested from {seen} on" in get(running.port, path)[2]


@both("redirect")
def test_redirect(run_lab, lesson):
    """The proxy follows the redirect to version 2, and other paths are not touched."""
    running = run_lab(K8S / lesson)
    for _ in range(20):
        assert "Webserver V2 requested from / on" in get(running.port, "/old")[2]
    assert set(running.call("/other").versions) == {"Webserver V1", "Webserver V2"}


@both("mirror")
def test_mirror(run_lab, lesson):
    """Version 1 answers, and each call is in the access log of both versions, once."""
    running = run_lab(K8S / lesson)
    assert running.call("/mirrored", count=50).versions == {"Webserver V1": 50}

    def logged(version):
        return sum(f"webserverv{version}-" in line and " GET /mirrored 200 " in line for line in running.lines)

    wait_until(lambda: min(logged(1), logged(2)) >= 50, "the calls and their copies")
    assert (logged(1), logged(2)) == (50, 50)


def take_out(running):
    """Call until the sick pod is taken out; return when the calls began that it was taken out for."""
    wait_until(lambda: "Webserver sick" in running.call("/", count=20).pods, "the sick pod")
    time.sleep(1.2)  # Envoy delivers changes of health to its load balancers once a second at most
    began = time.monotonic()
    tally = running.call("/failsometimes", count=300, concurrency=1)
    assert tally.pods["Webserver sick"] == {"webserversick-1": 10}
    assert sum(len(pods) for pods in tally.pods.values()) == 7
    return began


def test_outlier_detection(run_lab):
    """The sick pod answers ten times and is taken out."""
    running = run_lab(K8S / "istio/outlier-detection.yaml")
    take_out(running)
    assert "Webserver sick" not in running.call("/failsometimes", count=100).pods


@pytest.mark.thorough
def test_an_outlier_returns(run_lab):
    """After ten seconds the pod that was taken out is back, and is taken out again after ten answers."""
    running = run_lab(K8S / "istio/outlier-detection.yaml")
    began, ended = take_out(running), time.monotonic()  # it is taken out in between, sooner or later
    wait_until(lambda: "Webserver sick" in running.call("/", count=20).pods, "the sick pod to return")
    assert time.monotonic() - began > 7
    assert time.monotonic() - ended < 15
    time.sleep(1.2)
    tally = running.call("/failsometimes", count=300, concurrency=1)
    assert tally.pods["Webserver sick"]["webserversick-1"] == 10


def test_sticky(run_lab):
    """One user stays with one pod; several users are spread over several."""
    running = run_lab(K8S / "istio/sticky.yaml")
    pods = set()
    for user in ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"):
        ((name, answers),) = [
            item for each in running.call(count=15, end_user=user).pods.values() for item in each.items()
        ]
        assert answers == 15
        pods.add(name)
    assert len(pods) > 1
    assert sum(len(each) for each in running.call(count=100).pods.values()) == 6


@pytest.mark.parametrize(
    ("lesson", "words"),
    [
        ("mutual-tls", "PeerAuthentication/webserver: not applied"),
        ("authorization", "AuthorizationPolicy/webserver: not applied"),
    ],
)
def test_what_is_not_applied_is_said(run_lab, shared_lab, lesson, words):
    """A policy that the quick engine does not apply is named after each edit that leaves it there."""
    run_lab()
    shared_lab.edit("policy.yaml", (K8S / f"istio/{lesson}.yaml").read_text())
    shared_lab.wait_for_line(f"policy.yaml: {words}")
    shared_lab.wait_until_settled()
    shared_lab.lines.clear()
    shared_lab.edit("policy.yaml", shared_lab.path("policy.yaml").read_text() + "# looked at again\n")
    shared_lab.wait_for_line("no effective change")
    shared_lab.wait_for_line(f"policy.yaml: {words}")
