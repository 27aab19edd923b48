"""Istio's control plane as an engine: what it refuses, what it advises, and what becomes of it when it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import lab_support
import pytest
from istiod_support import K8S, LabProgram, ask
from quick_support import EXAMPLE, SUBSETS, cluster_of, manifest, to, virtual_service
from support import ROOT, wait_until

from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.istiod import Istiod, build
from meshdemo.lab.istiod import engine as engine_module

RULE = manifest("DestinationRule", SUBSETS)

# With a stand-in for the program

PROGRAM = """#!{python} -S
import json, pathlib, sys, time
here = pathlib.Path(__file__).parent
with (here / "starts").open("a") as starts:
    starts.write(" ".join(sys.argv[1:]) + "\\n")
print("some package says hello", flush=True)
for line in sys.stdin:
    with (here / "requests").open("a") as requests:
        requests.write(line)
    answers = here / "answers"
    first, _, rest = answers.read_text().partition("\\n")
    answers.write_text(rest)
    if first == "wait":
        time.sleep(60)
    if first.startswith("end "):
        sys.stderr.write(first.removeprefix("end ").replace("|", "\\n"))
        sys.exit(2)
    print(first, flush=True)
"""
EMPTY = {"workloads": {}, "messages": []}
FILTERS = [{"name": "istio.stats", "typed_config": {}}, {"name": "istio.example", "domains": []}, {"name": "envoy.a"}]


class StandIn:
    """A program that gives the answers which it is told, and the engine that asks it."""

    def __init__(self, folder):
        self._folder = folder
        folder.mkdir(parents=True)
        program = folder / "istiod"
        program.write_text(PROGRAM.format(python=sys.executable))
        program.chmod(0o755)
        self.engine = Istiod()

    def answers(self, *answers):
        texts = [each if isinstance(each, str) else json.dumps(each) for each in answers]
        (self._folder / "answers").write_text("\n".join(texts) + "\n")

    def lines(self, name):
        path = self._folder / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = StandIn(build.folder())
    yield found
    found.engine.close()


@pytest.fixture
def example(tmp_path):
    """Return the cluster of the example with two policies beside it."""
    return cluster_of(tmp_path, virtual_service(to()), RULE)


def test_not_compiled(tmp_path, monkeypatch):
    """Without the program there is no engine, and one line says what to run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(build.BuildError, match="run meshdemo istiod build"):
        Istiod()


def test_an_answer(stand_in, example):
    """What it makes of each workload is taken as it is; one process with the definitions answers all requests."""
    parts = {"listeners": [{"name": "a"}], "routes": [{"name": "b"}], "clusters": [], "endpoints": []}
    stand_in.answers({"workloads": {"proxy-1": parts}, "messages": None}, EMPTY)
    found = stand_in.engine.configure(example).resources
    assert (found["proxy-1"].listeners, found["proxy-1"].routes) == ([{"name": "a"}], [{"name": "b"}])
    assert stand_in.engine.configure(example).resources == {}
    assert stand_in.lines("starts") == [" ".join(build.find().definitions)]
    assert {"objects", "policies", "workloads", "files", "namespace"} == set(json.loads(stand_in.lines("requests")[0]))


def test_what_is_left_out_is_named_once(stand_in, example):
    """The filters that only Istio's Envoy has are named with the first answer, and nothing else of Istio's."""
    parts = {"listeners": FILTERS, "routes": [], "clusters": [], "endpoints": []}
    stand_in.answers(*[{"workloads": {"proxy-1": parts}, "messages": []}] * 2)
    notes = ("left out, since only Istio's own build of Envoy has them: the filters istio.stats",)
    assert stand_in.engine.configure(example).notes == notes
    assert stand_in.engine.configure(example).notes == ()


def test_advice(stand_in, example):
    """A message of the analysis is a line: level, code, object, file and line, text, and the page on it."""
    message = {
        "level": "Warning",
        "code": "IST0001",
        "origin": "VirtualService default/a",
        "reference": "a.yaml:3",
        "message": "two\n lines",
        "documentationUrl": "https://istio.io/ist0001/",
    }
    stand_in.answers({"workloads": {}, "messages": [message, {"level": "Info", "code": "IST2"}]})
    assert stand_in.engine.configure(example).advice == (
        "Warning IST0001: VirtualService default/a (a.yaml:3): two lines https://istio.io/ist0001/",
        "Info IST2: :",
    )


def test_a_refusal_with_its_object(stand_in, example):
    """A refusal of one policy has its place and one line; one of all has Istio's name."""
    stand_in.answers({"error": "no\n  such field", "policy": 1}, EMPTY, {"error": "cannot be"})
    with pytest.raises(ManifestError, match=r"^\S+policy\.yaml: DestinationRule/webserver: no such field$"):
        stand_in.engine.configure(example)
    with pytest.raises(ManifestError, match=r"^Istio's control plane: cannot be$"):
        stand_in.engine.configure(example)


def test_one_that_ends_is_started_again(stand_in, example):
    """A program that ends in the middle of a request is started again, and asked the same once more."""
    stand_in.answers(EMPTY, "end fatal error: x", EMPTY, EMPTY)
    for _ in range(3):
        assert stand_in.engine.configure(example).resources == {}
    requests = stand_in.lines("requests")
    assert len(requests) == 4
    assert requests[1] == requests[2]
    assert len(stand_in.lines("starts")) == 2


def test_one_that_was_killed_meanwhile(stand_in, example):
    """A program that somebody ended between two requests is started again."""
    stand_in.answers(EMPTY, EMPTY)
    stand_in.engine.configure(example)
    stand_in.engine.process.kill()
    stand_in.engine.process.wait()
    assert stand_in.engine.configure(example).resources == {}
    assert len(stand_in.lines("starts")) == 2


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ("chatter|panic: out of ideas||goroutine 1 [running]:|", "panic: out of ideas"),
        ("|".join(["line"] * 40) + "|fatal error: concurrent map writes|goroutine 5|", "fatal error: concurrent map"),
        ("no such flag|usage|", "no such flag"),
        ("", "it gives no reason"),
    ],
    ids=["a panic", "after many lines", "another reason", "none"],
)
def test_one_that_always_ends(stand_in, example, errors, reason):
    """When it ends again at the same request, that is the problem, with the reason that Go gives, in one line."""
    stand_in.answers(f"end {errors}", f"end {errors}", EMPTY)
    with pytest.raises(ManifestError, match=rf"^Istio's control plane: ended with status 2: {reason}.*$") as caught:
        stand_in.engine.configure(example)
    assert "\n" not in str(caught.value)
    assert stand_in.engine.configure(example).resources == {}


def test_one_that_cannot_run(stand_in, example):
    """A program that this machine cannot run, or that is gone, is a problem in one line."""
    Path(build.find().executable).write_text("#!/no/such/interpreter\n")
    with pytest.raises(ManifestError, match=r"^Istio's control plane: cannot be started: .*: run meshdemo istiod "):
        stand_in.engine.configure(example)


def test_much_is_answered_by_more_than_one(stand_in, example, monkeypatch):
    """After many answers the program is started anew, since it never gives memory back."""
    monkeypatch.setattr(engine_module, "_ANSWERS", 2)
    stand_in.answers(*[EMPTY] * 5)
    for _ in range(5):
        stand_in.engine.configure(example)
    assert len(stand_in.lines("starts")) == 3


def test_an_interrupted_request(stand_in, example, monkeypatch):
    """After Ctrl+C in the middle of a request no later request gets its answer."""
    stand_in.answers("wait", EMPTY)
    process = stand_in.engine._start()

    class Interrupted:
        def __iter__(self):
            raise KeyboardInterrupt

        def close(self):
            pass

    output, process.stdout = process.stdout, Interrupted()
    with pytest.raises(KeyboardInterrupt):
        stand_in.engine.configure(example)
    output.close()
    wait_until(lambda: process.poll() is not None, "the end of the program")
    stand_in.answers(EMPTY)
    assert stand_in.engine.configure(example).resources == {}


def test_one_that_hangs(stand_in, example, monkeypatch):
    """A program that is stopped is started again after some seconds, which is said once, and the edit is applied."""
    monkeypatch.setattr(engine_module, "_ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(engine_module, "_WORKLOAD_SECONDS", 0.0)
    stand_in.answers(EMPTY, EMPTY, EMPTY)
    stand_in.engine.configure(example)
    os.kill(stand_in.engine.process.pid, signal.SIGSTOP)
    notes = stand_in.engine.configure(example).notes
    assert notes == ("Istio's control plane gave no answer for 2 s, and was started again",)
    assert stand_in.engine.configure(example).notes == ()
    assert len(stand_in.lines("starts")) == 2


def test_one_that_always_hangs(stand_in, example, monkeypatch):
    """When it gives no answer twice, that is the problem; the next edit is tried again."""
    monkeypatch.setattr(engine_module, "_ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(engine_module, "_WORKLOAD_SECONDS", 0.0)
    stand_in.answers("wait", "wait", EMPTY)
    with pytest.raises(ManifestError, match=r"^Istio's control plane: gave no answer for 1 s$"):
        stand_in.engine.configure(example)
    assert stand_in.engine.configure(example).resources == {}


def test_one_that_was_cut_off(stand_in, example):
    """A program that a signal ends before its first answer, as where its file was cut off, is to be built anew."""
    Path(build.find().executable).write_text("#!/bin/sh\nkill -SEGV $$\n")
    with pytest.raises(ManifestError, match=r"status -11: .*: run meshdemo istiod remove, and then meshdemo istiod b"):
        stand_in.engine.configure(example)


def test_its_environment(stand_in, example, monkeypatch):
    """Nothing of the shell's environment reaches it: PILOT_ENABLE_... would change what it makes."""
    monkeypatch.setenv("PILOT_ENABLE_GATEWAY_API", "false")
    program = Path(build.find().executable)
    code = '(here / "environment").write_text(chr(10).join(["names:", *os.environ]))\n'
    program.write_text(
        program.read_text().replace("import json,", "import os, json,").replace("print(", code + "print(", 1)
    )
    stand_in.answers(EMPTY)
    stand_in.engine.configure(example)
    assert stand_in.lines("environment")[0] == "names:"
    assert "PILOT_ENABLE_GATEWAY_API" not in stand_in.lines("environment")


def test_closing(stand_in, example):
    """Closing ends the program; a closed engine can be asked again, and closed twice."""
    stand_in.answers(EMPTY, EMPTY)
    stand_in.engine.configure(example)
    process = stand_in.engine.process
    stand_in.engine.close()
    assert process.poll() is not None
    stand_in.engine.close()
    assert stand_in.engine.configure(example).resources == {}
    assert not [each for each in threading.enumerate() if each is stand_in.engine and not each.daemon]


# With the real program


def test_every_pod_is_configured(built_istiod, tmp_path):
    """Each pod of the example gets listeners, routes, clusters and endpoints of its own, with mutual TLS inside.

    What no Envoy here has is said once by an engine.
    """
    engine, cluster = Istiod(), cluster_of(tmp_path, virtual_service(to()), RULE)
    try:
        found, again = (engine.configure(cluster) for _ in range(2))
    finally:
        engine.close()
    assert again.notes == ()
    assert len(found.resources) == 7
    for name, resources in found.resources.items():
        wanted = {"virtualInbound", "virtualOutbound", "0.0.0.0_80"} if name == "proxy-1" else {"virtualInbound"}
        assert wanted <= {each["name"] for each in resources.listeners}
    (endpoints,) = [
        each
        for each in found.resources["proxy-1"].endpoints
        if each["cluster_name"] == "outbound|80||webserver.default.svc.cluster.local"
    ]
    assert sum(len(locality["lb_endpoints"]) for locality in endpoints["endpoints"]) == 6
    assert found.notes[0].endswith("the filters istio.metadata_exchange")
    assert found.advice == ()


REFUSED = {
    "a field that is unknown": (virtual_service({"wieght": 1}), "unknown fields [spec.http[0].wieght]"),
    "a value that the definition forbids": (virtual_service(to(timeout="soon")), "spec.http[0].timeout: Invalid value"),
    "what Istio itself refuses": (
        virtual_service(to(fault={"abort": {"httpStatus": 9999, "percentage": {"value": 1}}})),
        "configuration is invalid: HTTP status 9999 is not in range 200-599",
    ),
    "weights of 0": (
        virtual_service({"route": [{"destination": {"host": "webserver"}, "weight": 0}] * 2}),
        "configuration is invalid: total destination weight = 0",
    ),
    "a policy without an action": (
        manifest("AuthorizationPolicy", {"action": "MAYBE"}),
        'spec.action: Unsupported value: "MAYBE"',
    ),
    "a Gateway API object that cannot be": (
        manifest("HTTPRoute", {"rules": [{"matches": [{"path": {"value": "x", "type": "Exact"}}]}]}, "r"),
        "spec.rules[0].matches[0].path: Invalid value: value must be an absolute path",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(engine, tmp_path, case):
    """What a cluster would refuse is refused with file, object and the cluster's own words, in one line."""
    policy, problem = REFUSED[case]
    with pytest.raises(ManifestError) as caught:
        engine.configure(cluster_of(tmp_path, RULE, policy))
    start, found, rest = str(caught.value).partition(problem)
    assert (start, found) == (f"{tmp_path}/policy.yaml: {policy.label}: ", problem)
    assert "\n" not in rest


ALL = (K8S / "istio/all-v1.yaml").read_text()
# Rules before the lesson's own, the second of which the first one leaves nothing.
_RULE = """    - match: [{{uri: {{prefix: {}}}}}]
      route: [{{destination: {{host: webserver}}}}]
"""
NEVER = ALL.replace("  http:\n", "  http:\n" + _RULE.format("/") + _RULE.format("/never"))


@pytest.mark.thorough
@pytest.mark.parametrize(("line", "options"), [("  namespace: shop\n", ()), ("", ("-n", "shop"))])
def test_the_analysis_looks_at_every_namespace(built_istiod, tmp_path, line, options):
    """Objects of any namespace are judged, and those without one in the namespace that they are put into."""
    path = tmp_path / "policy.yaml"
    path.write_text(NEVER.replace("  name: webserver\n", f"  name: webserver\n{line}", 1))
    command = [sys.executable, "-m", "meshdemo", "up", "-f", EXAMPLE, "-f", path, "--istiod", "--dry-run", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert f"IST0131: VirtualService shop/webserver ({path}:" in done.stderr


def test_the_analysis_is_printed(built_istiod, tmp_path):
    """Istio's analysis is printed at the start and after an edit, with file and line; the lab takes the object."""
    lab = LabProgram(tmp_path, "--istiod", policy=NEVER)
    try:
        line = lab.wait_for_line("IST0131")
        assert f"({lab.policy}:" in line
        assert "VirtualService default/webserver" in line
        assert "of prefix /never is not used" in line
        assert "https://istio.io/" in line
        assert not any("IST0131" in line for line in lab.edit(ALL))
        assert ask(lab.port, count=20).versions == {"Webserver V1": 20}
        lines = lab.edit(NEVER)
        assert any("IST0131" in line for line in lines)
        (verdict,) = [line for line in lab.edit(NEVER.replace("hosts:", "host:")) if "not applied" in line]
        assert "the last good state stays" in verdict
        assert f"{lab.policy}, line " in verdict
        assert verdict.endswith(": VirtualService/webserver: unknown fields [spec.host]")
        assert len(ask(lab.port, count=120).pods) == 6
    finally:
        lab.close()


def test_dry_run(built_istiod, tmp_path):
    """A dry run prints what Istio gives to each pod, and the analysis beside it; a refusal ends with 2."""
    path = tmp_path / "policy.yaml"
    path.write_text(NEVER)
    command = [sys.executable, "-m", "meshdemo", "up", "-f", EXAMPLE, "-f", path, "--istiod", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0
    assert len(json.loads(done.stdout)) == 7
    assert f"VirtualService default/webserver ({path}:" in done.stderr
    path.write_text(NEVER.replace("hosts:", "host:"))
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert re.search(r"line \d+, column \d+: VirtualService/webserver: unknown fields \[spec.host\]", done.stderr)


@pytest.mark.thorough
def test_namespaces(built_istiod):
    """Pods of the same name in two namespaces each have what is theirs: the ports of their own Services."""
    objects = []
    for namespace, port in (("default", 8080), ("shop", 9090)):
        metadata = {"name": "web", "namespace": namespace}
        template = {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "other"}]},
        }
        spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
        objects.append({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
        ports = [{"name": "http", "port": 80, "targetPort": port}]
        spec = {"selector": {"app": "web"}, "ports": ports}
        objects.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    engine = Istiod()
    try:
        resources = engine.configure(read_cluster([lab_support.manifest(each) for each in objects])).resources
    finally:
        engine.close()
    for name, port, other in (("web-1", 8080, 9090), ("web-1.shop", 9090, 8080)):
        names = [cluster["name"] for cluster in resources[name].clusters]
        assert f"inbound|{port}||" in names
        assert f"inbound|{other}||" not in names
