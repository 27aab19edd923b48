"""All that runs in a lab: one state at a time is in force in it."""

import socket
import threading

import pytest
from lab_support import EXAMPLE, RunningLab
from support import get, is_refused, wait_until

from meshdemo.errors import StartError
from meshdemo.lab import quick
from meshdemo.lab.door.door import DoorError
from meshdemo.lab.fleet import fleet as fleet_module
from meshdemo.lab.lab import Lab, LabOptions

ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: webserver}
spec:
  hosts: [webserver]
  http: [{name: "%s", route: [{destination: {host: webserver}}]}]
"""


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "example.yaml"
    path.write_text(EXAMPLE.read_text().replace("replicas: 3", "replicas: 1"))
    return path


@pytest.fixture(scope="module")
def running(tmp_path_factory, example):
    folder = tmp_path_factory.mktemp("lab")
    running = RunningLab(folder, example, folder / "policy.yaml")
    yield running
    running.close()


def test_what_an_envoy_refuses_is_not_in_force(running, monkeypatch):
    """The state stays that was in force before, for what starts later, too."""
    fleet = running.lab._fleet
    before, put = running.lab.state, fleet.put_in_force

    def refuse():
        put()
        raise OSError("no Envoy takes this")

    monkeypatch.setattr(fleet, "put_in_force", refuse)
    with pytest.raises(OSError, match="no Envoy takes this"):
        fleet.change(running.lab._reader.configure(running.lab._reader.read()))
    assert running.lab.state is before


def test_a_second_call_from_a_pod(running):
    """The first call from a pod that calls nobody prepares its sidecar; another one changes nothing."""
    (pod,) = (pod for pod in running.lab.state.pods if pod.name == "webserverv1-1")
    running.lab.rules_of_caller(pod)
    wait_until(lambda: running.lab.is_settled, "the caller")
    state = running.lab.state
    assert "webserverv1-1" in state.cluster.callers
    running.lab.rules_of_caller(pod)
    assert running.edit("policy.yaml", ROUTE % "first")
    wait_until(lambda: running.lab.is_settled, "the edit")
    assert running.lab._reader.callers == ("webserverv1-1",)


def test_who_waits_for_a_caller_while_all_ends(tmp_path, example):
    """The end of a lab ends the wait for a sidecar, too."""
    lab, problems = Lab([example], quick, LabOptions(port=0), lambda line: None), []
    lab.start()
    pod = next(pod for pod in lab.state.pods if pod.name == "webserverv2-1")

    def ask():
        try:
            lab.rules_of_caller(pod)
        except DoorError as error:
            problems.append(str(error))

    waiting = threading.Thread(target=ask)
    waiting.start()
    wait_until(lambda: pod.name in lab._reader.callers, "the wait")
    lab.stop()
    waiting.join(10)
    assert problems == ["webserverv2-1 cannot call yet: its sidecar is not ready"]


@pytest.fixture
def two_addresses(tmp_path, example):
    """Return the example with a second Service to call from outside, which the proxy calls without a sidecar."""
    text = example.read_text().replace("type: ClusterIP", "type: LoadBalancer", 1)
    path = tmp_path / "two.yaml"
    path.write_text(
        text.replace("        version: v1\n", '        version: v1\n        sidecar.istio.io/inject: "false"\n', 1)
    )
    return path


def test_a_port_that_somebody_else_takes(two_addresses):
    """A port that was free when it was chosen, and is not when an Envoy is to listen there, is chosen again.

    Pods that call there call at the other one.
    """
    lab = Lab([two_addresses], quick, LabOptions(port=0), lambda line: None)
    front, chosen = (address.port for address in lab.addresses())
    ended = threading.Event()

    def look_after():
        while not ended.wait(0.01):
            lab.step()

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", chosen))
        try:
            lab.start()
            _, after = (address.port for address in lab.addresses())
            assert lab.port == front
            assert after > chosen
            assert "Webserver" in get(after)[2]
            threading.Thread(target=look_after, daemon=True).start()
            wait_until(lambda: "Webserver" in get(front)[2], "the proxy to call the other port")
        finally:
            ended.set()
            lab.stop()


def test_a_port_that_somebody_else_takes_during_an_edit(running, monkeypatch):
    """So it is where an edit brings the port."""
    taken = []

    def change(wanted, where, plane):
        for port in {port for local in wanted.values() for port in local.ports()}:
            if not taken and is_refused(port):
                taken.append(socket.create_server(("127.0.0.1", port)))
        return envoy_change(wanted, where, plane)

    envoy_change = fleet_module.change
    monkeypatch.setattr(fleet_module, "change", change)
    text = running.path("example.yaml").read_text()
    lines = running.edit("example.yaml", text.replace("type: ClusterIP", "type: LoadBalancer", 1))
    try:
        assert not [line for line in lines if "not applied" in line]
        port = running.lab.addresses()[1].port
        assert port != taken[0].getsockname()[1]
        assert "Webserver" in get(port)[2]
    finally:
        taken[0].close()
        running.edit("example.yaml", text)


def test_the_port_of_the_lab_is_no_other(tmp_path, example):
    """The port that the lab is known by is not chosen again: whoever has it is told of."""
    lab = Lab([example], quick, LabOptions(port=0), lambda line: None)
    try:
        with (
            socket.create_server(("127.0.0.1", lab.port)),
            pytest.raises(StartError, match=f"port {lab.port} is already"),
        ):
            lab.start()
    finally:
        lab.stop()
