"""The lab under fifty calls a second while its files are edited: not one call is lost."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab_support import EXAMPLE, K8S, RunningLab, call
from support import get, is_refused, wait_until

from meshdemo.lab import telling

# The example with two pods of each version, which are replaced sooner than three.
TEXT = EXAMPLE.read_text().replace("replicas: 3", "replicas: 2")


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory):
    """Run the example and one more file, for all tests."""
    example = tmp_path_factory.mktemp("files") / "example.yaml"
    example.write_text(TEXT)
    running = RunningLab(tmp_path_factory.mktemp("lab"), example, K8S / "policy.yaml")
    yield running
    running.close()


@pytest.fixture
def running(shared_lab):
    """Give the lab with the files as they were."""
    shared_lab.edit("policy.yaml", "# nothing yet\n")
    shared_lab.edit("example.yaml", TEXT)
    shared_lab.wait_until_settled()
    shared_lab.lines.clear()
    return shared_lab


def roll(running, *edit):
    """Edit the example, and return when all pods are as it says."""
    since = len(running.lines)
    assert "rolling out" in " ".join(running.replace("example.yaml", *edit))
    running.wait_for_line("rolled out", since)


def test_scaling(running):
    """Scaling 2, 4, 2 starts or ends only the difference, and loses nothing."""
    kept = {pod.pod.name: pod.key for pod in running.lab.pods.present}
    with running.load() as calls:
        for before, after in ((2, 4), (4, 2)):
            roll(running, f"replicas: {before}", f"replicas: {after}")
            calls.wait_for_more()
    assert not calls.lost
    assert len(calls) >= 60
    assert set(calls.pods["Webserver V1"]) == {f"webserverv1-{number}" for number in range(1, 5)}
    keys = {pod.pod.name: pod.key for pod in running.lab.pods.present}
    for name in ("proxy-1", "webserverv1-1", "webserverv1-2", "webserverv2-1", "webserverv2-2"):
        assert keys[name] == kept[name]


def test_other_content(running):
    """A changed argument is rolled out pod by pod, and never are fewer ready than there are to be."""
    fewest = []

    def count():
        fewest.append(sum(pod.pod.name.startswith("webserverv1") for pod in running.lab.pods.taking_calls.values()))
        return "rolled out" in " ".join(running.lines)

    with running.load() as calls:
        running.replace("example.yaml", "Webserver V1", "Webserver V1b")
        wait_until(count, "the new pods")
        calls.wait_for_more()
    assert "still rolling out" not in " ".join(running.lines)
    assert not calls.lost
    assert min(fewest) == 2
    assert set(calls.versions) == {"Webserver V1", "Webserver V1b", "Webserver V2"}
    assert set(running.call(count=100).versions) == {"Webserver V1b", "Webserver V2"}


@pytest.mark.thorough
def test_other_environment(running):
    """A changed variable of web servers and of the proxy is rolled out without loss."""
    with running.load() as calls:
        roll(running, "          ports:\n", '          env: [{name: FAIL_RATIO, value: "1"}]\n          ports:\n')
        calls.wait_for_more()
    assert not calls.lost
    assert set(running.call("/failsometimes", count=60).statuses) == {500}


def test_another_port(running):
    """While a named port gets another number, each pod takes calls at its own, and none is lost."""
    running.edit("policy.yaml", (K8S / "istio/all-v1.yaml").read_text())
    header = "kind: Deployment\nmetadata:\n  name: webserverv1\n"
    before, _, after = TEXT.partition(header)
    after = after.replace("Webserver V1]", "Webserver V1, --port, '3131']", 1)
    after = after.replace("containerPort: 3030", "containerPort: 3131", 1)
    with running.load() as calls:
        running.edit("example.yaml", before + header + after)
        running.wait_for_line("rolled out")
    assert not calls.lost
    assert running.call(count=60).statuses == {200: 60}
    assert len(running.call(count=60).pods["Webserver V1"]) == 2


def test_a_proxy_that_gets_a_sidecar(running):
    """A proxy that comes into the mesh takes over from the one outside of it without loss."""
    label = 'sidecar.istio.io/inject: "false"'
    text = TEXT
    head, _, tail = text.partition("kind: Deployment\nmetadata:\n  name: proxy")
    outside = tail.replace(
        "template:\n    metadata:\n      labels:\n", f"template:\n    metadata:\n      labels:\n        {label}\n", 1
    )
    assert outside != tail
    running.edit("example.yaml", f"{head}kind: Deployment\nmetadata:\n  name: proxy{outside}")
    running.wait_for_line("rolled out")
    since = len(running.lines)
    with running.load() as calls:
        running.edit("example.yaml", text)
        running.wait_for_line("rolled out", since)
    assert not calls.lost
    assert len(calls) > 5


def test_an_argument_that_cannot_be(running, monkeypatch):
    """Where new pods do not start, the old ones go on and the reason is said; a mended file is rolled out."""
    monkeypatch.setattr(telling, "_SLOW_SECONDS", 2)
    with running.load() as calls:
        running.replace("example.yaml", "Webserver V1]", 'Webserver V1, --fail-ratio, "2"]')
        reason = running.wait_for_line("| Error: Invalid value for '--fail-ratio'")
        assert re.match(r"webserverv1-\d \| ", reason)
        running.wait_for_line("ended with status 2; starting it again in 0.5 s")
        running.wait_for_line("still rolling out: Deployment/webserverv1 changed; the old pods serve until")
        running.edit("example.yaml", TEXT.replace("Webserver V1", "Webserver V1c"))
        running.wait_for_line("rolled out: Deployment/webserverv1 changed")
        calls.wait_for_more()
    assert not calls.lost
    assert set(running.call(count=100).versions) == {"Webserver V1c", "Webserver V2"}


def test_another_argument_of_the_proxy(running):
    """The port in front stays open while the proxy is replaced, and the new argument is in force."""
    url = running.lab.addresses()[0].url
    with running.load() as calls:
        roll(running, "args: [proxy, ", "args: [proxy, --pass-status, ")
        calls.wait_for_more()
    assert not calls.lost
    assert running.lab.addresses()[0].url == url
    running.edit("policy.yaml", (K8S / "istio/abort.yaml").read_text())
    wait_until(lambda: get(running.port)[0] == 503, "a status that is passed")


def test_another_name_of_the_proxy(running):
    """A renamed proxy takes over the same address once it is ready."""
    with running.load() as calls:
        text = TEXT.replace("kind: Deployment\nmetadata:\n  name: proxy", "kind: Deployment\nmetadata:\n  name: front")
        lines = running.edit("example.yaml", text)
        assert "example.yaml: Deployment/proxy removed, rolling out" in " ".join(lines)
        running.wait_for_line("rolled out: Deployment/front added, Deployment/proxy removed")
        calls.wait_for_more()
    assert not calls.lost
    assert {pod.pod.name for pod in running.lab.pods.taking_calls.values()} >= {"front-1"}


def test_another_name_of_web_servers(running):
    """Renamed web servers take over from the old ones without loss, under the split as well."""
    running.edit("policy.yaml", (K8S / "istio/split.yaml").read_text())
    with running.load() as calls:
        text = TEXT.replace(
            "kind: Deployment\nmetadata:\n  name: webserverv1", "kind: Deployment\nmetadata:\n  name: blue"
        )
        running.edit("example.yaml", text)
        running.wait_for_line("rolled out")
        calls.wait_for_more()
    assert not calls.lost
    assert set(running.call(count=100).pods["Webserver V1"]) == {"blue-1", "blue-2"}


def test_two_edits_in_quick_succession(running):
    """An edit while another is being rolled out leads to what the last one says, without loss."""
    with running.load() as calls:
        running.replace("example.yaml", "Webserver V1", "Webserver V1d")
        running.replace("example.yaml", "Webserver V1d", "Webserver V1e")
        running.replace("example.yaml", "replicas: 2", "replicas: 1")
        running.wait_for_line("rolled out")
        running.wait_until_settled()
        calls.wait_for_more()
    assert not calls.lost
    tally = running.call(count=100)
    assert set(tally.versions) == {"Webserver V1e", "Webserver V2"}
    assert sum(len(pods) for pods in tally.pods.values()) == 2


@pytest.mark.thorough
def test_proxy_and_web_servers_at_once(running):
    """Everything is replaced by one edit without loss."""
    with running.load() as calls:
        text = TEXT.replace("args: [proxy, ", "args: [proxy, --pass-status, ")
        text = text.replace("Webserver V1", "Webserver V1f").replace("Webserver V2", "Webserver V2f")
        running.edit("example.yaml", text)
        running.wait_for_line("rolled out")
        calls.wait_for_more(75)  # longer than the old proxy drains
    assert not calls.lost
    assert set(running.call(count=60).versions) == {"Webserver V1f", "Webserver V2f"}


def test_a_policy_while_calls_are_under_way(running):
    """Slow calls in flight and quick ones survive an edit, which waits for none of them."""
    running.edit("policy.yaml", (K8S / "istio/split.yaml").read_text())
    with ThreadPoolExecutor() as pool, running.load("/slowsometimes") as slow, running.load() as quick:
        quick.wait_for_more()
        slowest = pool.submit(call, running.url, "/delay/5")
        quick.wait_for_more()
        running.edit("policy.yaml", (K8S / "istio/header.yaml").read_text())
        assert running.call().versions == {"Webserver V1": 60}
        assert not slowest.done()
    assert slowest.result().status == 200
    assert not slow.lost
    assert not quick.lost


def test_no_pods_at_all(running):
    """With 0 replicas everywhere nothing answers, the port stays open, and pods come back with the next edit."""
    running.replace("example.yaml", "replicas: 2", "replicas: 0")
    wait_until(lambda: running.call(count=5).statuses == {503: 5}, "the pods to be out of traffic")
    running.replace("example.yaml", "replicas: 1", "replicas: 0")
    wait_until(lambda: not running.lab.pods.taking_calls, "all pods to leave")
    assert call(running.url).error
    assert not is_refused(running.port)
    running.edit("example.yaml", TEXT)
    running.wait_until_settled()
    assert running.call(count=60).statuses == {200: 60}


def test_a_killed_replica(running):
    """When a replica is killed under load, at most the calls that it held fail; it is started again and takes part."""
    running.edit("policy.yaml", (K8S / "istio/all-v1.yaml").read_text())
    victim = next(pod for pod in running.lab.pods.present if pod.pod.name == "webserverv1-2")
    with running.load(rate=150, concurrency=8) as calls:
        calls.wait_for_more()
        victim.replicas[0].process.kill()
        running.wait_for_line("webserverv1-2 ended with status -9; starting it again in 0.5 s")
    assert sum(calls.lost.values()) <= 4
    wait_until(lambda: "webserverv1-2" in running.call(count=40).pods["Webserver V1"], "the replica to return")


@pytest.mark.parametrize("whose", ["proxy-1", "the node"])
def test_an_envoy_that_ends(running, whose):
    """An Envoy that ends is started again, with its last words, and the lab goes on."""
    pods = {pod.pod.name: pod for pod in running.lab.pods.present}
    sidecar = running.lab.outside.node if whose == "the node" else pods[whose].sidecar
    sidecar.process.kill()
    assert "starting it again in" in running.wait_for_line(f"Envoy of {sidecar.name} ended with status -9")
    wait_until(lambda: sidecar.is_ready, "the Envoy")
    wait_until(lambda: all(call(running.url).status == 200 for _ in range(20)), "all to be well again")
