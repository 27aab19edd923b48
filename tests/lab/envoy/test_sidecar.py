"""One Envoy: its start, its changes, what it refuses, and how it is started again."""

import dataclasses
import http.client
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import free_port, get, http_response, is_refused, read_request, wait_until

from meshdemo.lab.engine import Resources
from meshdemo.lab.envoy import sidecar as sidecar_module
from meshdemo.lab.envoy.loopback import Local, Ports
from meshdemo.lab.envoy.outbound import outbound_names
from meshdemo.lab.envoy.sidecar import Sidecar, change
from meshdemo.lab.envoy.xds import control_plane
from meshdemo.lab.envoy.xds.control_plane import ControlPlane, EnvoyError
from meshdemo.lab.pods.guard import Guard

TYPE = "type.googleapis.com/envoy.extensions.filters."


def resources(text, *names, extra_cluster=None, **more):
    """Return listeners that answer a text over a route, each with a cluster of its own."""
    listeners, routes, clusters = [], [], []
    for name in names:
        manager = {
            "@type": TYPE + "network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "rds": {"route_config_name": name},
            "http_filters": [
                {"name": "envoy.filters.http.router", "typed_config": {"@type": TYPE + "http.router.v3.Router"}}
            ],
        }
        chain = {"filters": [{"name": "envoy.http_connection_manager", "typed_config": manager}]}
        at = {"socket_address": {"address": "0.0.0.0", "port_value": 80}}
        listeners.append({"name": name, "address": at, "filter_chains": [chain]})
        match = {"match": {"prefix": "/called"}, "route": {"cluster": f"outbound|80||{name}"}}
        answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": text}}}
        hosts = [{"name": "all", "domains": ["*"], "routes": [match, answer]}]
        routes.append({"name": name, "virtual_hosts": hosts, **more})
        eds = {"name": f"outbound|80||{name}", "type": "EDS", "eds_cluster_config": {"service_name": name}}
        clusters.append({**eds, "connect_timeout": "1s"})
    return Resources(listeners, routes, clusters + ([extra_cluster] if extra_cluster else []))


@pytest.fixture
def guard():
    guard = Guard()
    yield guard
    guard.close()


class Running:
    """An Envoy with its ports on loopback, and the lines that it says."""

    def __init__(self, guard, plane):
        self.lines = []
        self.ports = {}
        self.plane = plane
        self.sidecar = Sidecar("test", guard.folder / "test", guard.group, self.lines.append, plane)

    def local(self, found):
        for name in outbound_names(found):
            self.ports.setdefault(name, free_port())
        return Local(found, Ports(outbound=self.ports), None)

    def start(self, found, **options):
        self.sidecar.start(self.local(found), nobody, **options)
        self.wait_until_ready()

    def wait_until_ready(self):
        def look():
            self.sidecar.look_after()
            return self.sidecar.is_ready

        wait_until(look, "Envoy")

    def change(self, found, where=None):
        return change({self.sidecar: self.local(found)}, where or nobody, self.plane)

    def answer(self, name="a"):
        return get(self.ports[name])[2]


def nobody(address, port):
    return None


@pytest.fixture
def running(guard):
    plane = ControlPlane(guard.folder)
    found = Running(guard, plane)
    yield found
    found.sidecar.stop()
    plane.close()


def test_changes(running):
    """When a change returns it is in force; what it leaves alone goes on, and what it takes away is gone."""
    running.start(resources("one", "a"))
    assert running.answer() == "one"
    for text in ("two", "three", "three", "four"):
        running.change(resources(text, "a"))
        assert running.answer() == text
    running.change(resources("five", "a", "b"))
    assert (running.answer(), running.answer("b")) == ("five", "five")
    running.change(resources("six", "b"))
    assert running.answer("b") == "six"
    wait_until(lambda: is_refused(running.ports["a"]), "the listener to close")


def test_a_cluster_that_is_replaced(running):
    """A cluster that is replaced by another one of its name gets its endpoints again, and nobody waits for long."""
    running.start(resources("one", "a", "b"))
    found = resources("two", "a", "b")
    found.clusters[0]["connect_timeout"] = "2s"
    started = time.monotonic()
    assert running.change(found) == []
    assert time.monotonic() - started < 3
    assert running.answer() == "two"


def test_without_listening(running):
    """Before the first change nothing can be called; when that returns it can."""
    running.start(resources("one", "a"), listening=False)
    assert is_refused(running.ports["a"])
    assert running.change(resources("two", "a")) == []
    assert running.answer() == "two"


def test_a_port_that_is_taken(running, tcp_server):
    """A port that somebody else has is an error with its reason, at once, and no two share one."""
    server = tcp_server(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"))
    running.ports["a"] = server.port
    running.start(resources("one", "a"), listening=False)
    started = time.monotonic()
    with pytest.raises(EnvoyError, match=r"does not accept this: a: cannot bind"):
        running.change(resources("one", "a"))
    assert time.monotonic() - started < 4


def test_a_change_that_is_refused(running):
    """What Envoy refuses is an error with its reason, the former state stays, and the next good change is taken."""
    running.start(resources("one", "a"))
    bad = {"name": "bad", "type": "STATIC", "connect_timeout": "-1s"}
    with pytest.raises(EnvoyError, match="Envoy does not accept this: "):
        running.change(resources("two", "a", extra_cluster=bad))
    assert running.answer() == "one"
    running.change(resources("three", "a"))
    assert running.answer() == "three"
    with pytest.raises(EnvoyError, match="Envoy does not accept this: "):
        running.change(resources("four", "a", max_direct_response_body_size_bytes=1))
    running.change(resources("five", "a"))
    assert running.answer() == "five"


@pytest.mark.parametrize("kind", ["STRICT_DNS", "LOGICAL_DNS"])
def test_a_name_server_that_does_not_answer(running, kind):
    """A change holds for all else while a host's address is still being looked up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        at = {"socket_address": {"address": "127.0.0.1", "port_value": silent.getsockname()[1]}}
        resolver = {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                "resolvers": [at],
            },
        }
        host = {"endpoint": {"address": {"socket_address": {"address": "known.example", "port_value": 443}}}}
        outside = {
            "name": "outside",
            "type": kind,
            "connect_timeout": "1s",
            "typed_dns_resolver_config": resolver,
            "load_assignment": {"cluster_name": "outside", "endpoints": [{"lb_endpoints": [host]}]},
        }
        running.start(resources("one", "a"))
        running.change(resources("two", "a", extra_cluster=outside))
        assert running.answer() == "two"


def test_no_call_is_lost_by_changes(running):
    """While routes and clusters come and go every call is answered."""
    running.start(resources("0", "a"))
    connection = http.client.HTTPConnection("127.0.0.1", running.ports["a"], timeout=10)
    for number in range(10):
        extra = {"name": f"extra{number}", "type": "STATIC", "connect_timeout": "1s"}
        running.change(resources(str(number), "a", extra_cluster=extra))
        for _ in range(5):
            connection.request("GET", "/")
            response = connection.getresponse()
            assert (response.status, response.read().decode()) == (200, str(number))
    connection.close()


def test_one_that_hangs(running, monkeypatch):
    """One that hangs holds up no change for long, counts as one without calls, and gets the state of now later."""
    monkeypatch.setattr(control_plane, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(sidecar_module, "_SILENT_SECONDS", 0.0)
    running.start(resources("one", "a"))
    running.sidecar.process.send_signal(signal.SIGSTOP)
    assert running.change(resources("two", "a")) == ["test"]
    wait_until(lambda: running.sidecar.look_after() or not running.sidecar.is_ready, "the silence to be noticed")
    assert running.lines == ["Envoy of test does not answer, and gets no calls until it does"]
    assert running.change(resources("three", "a")) == []
    running.sidecar.process.send_signal(signal.SIGCONT)
    running.wait_until_ready()
    assert running.answer() == "three"


def test_endpoints(running, tcp_server):
    """Who takes calls changes without a cluster being replaced: its connections are kept."""

    def behave(connection):
        while read_request(connection):
            connection.sendall(http_response(b"answer"))

    server, other = tcp_server(behave), tcp_server(behave)
    found = [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": 80}}}}
        for address in ("10.244.0.1", "10.244.0.2")
    ]
    assignment = {"cluster_name": "a", "endpoints": [{"lb_endpoints": found}]}
    running.start(dataclasses.replace(resources("one", "a"), endpoints=[assignment]))
    ports = {"10.244.0.1": server.port}

    def taken():
        running.sidecar.change_endpoints(lambda address, port: ports.get(address))
        running.plane.wait([running.sidecar.subscriber])
        return {get(running.ports["a"], "/called")[0] for _ in range(10)}

    assert taken() == {200}
    ports["10.244.0.2"] = other.port
    assert taken() == {200}
    assert (server.connections, other.connections) == (1, 1)
    ports.clear()
    assert taken() == {503}


def test_one_that_ends(running):
    """An Envoy that ends is started again with what it should have, after pauses that grow."""
    running.start(resources("one", "a"))
    running.sidecar.process.kill()
    running.sidecar.process.wait()
    running.change(resources("two", "a"))
    with pytest.raises(EnvoyError, match="ended with status -9"):
        running.sidecar.check()
    running.sidecar.look_after()
    assert not running.sidecar.is_ready
    running.wait_until_ready()
    assert running.answer() == "two"
    running.sidecar.process.kill()
    running.sidecar.process.wait()
    running.wait_until_ready()
    pauses = [line.splitlines()[-1] for line in running.lines]
    assert pauses == ["starting it again in 0.5 s", "starting it again in 1 s"]


def test_a_program_that_does_not_run(running, monkeypatch):
    """A program that ends at once is told with its last words."""
    monkeypatch.setattr(sidecar_module, "program", lambda: "/bin/false")
    running.sidecar.start(running.local(resources("one", "a")), nobody)
    with pytest.raises(EnvoyError, match="Envoy of test ended with status 1"):
        running.sidecar.wait_until_ready()


def test_one_that_never_takes_calls(running, monkeypatch, tmp_path):
    """One that takes no calls 20 s after its start is told of, and started again."""
    idle = tmp_path / "idle"
    idle.write_text("#!/bin/sh\nexec sleep 600\n")
    idle.chmod(0o700)
    now = [1000.0]

    def pass_time(seconds):
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=pass_time)
    monkeypatch.setattr(sidecar_module, "program", lambda: str(idle))
    monkeypatch.setattr(sidecar_module, "time", clock)
    running.sidecar.start(running.local(resources("one", "a")), nobody)
    with pytest.raises(EnvoyError, match="Envoy of test takes no calls after 20 s"):
        running.sidecar.wait_until_ready()
    assert 1020 <= now[0] < 1020.1
    now[0] = 1020.0
    running.sidecar.look_after()
    assert running.lines == []
    now[0] = 1020.1
    running.sidecar.look_after()
    assert running.lines == ["Envoy of test takes no calls after 20 s\nstarting it again in 0.5 s"]


def test_one_that_ran_long(running, monkeypatch):
    """One that ran long before it ended has earned a short pause again."""
    monkeypatch.setattr(sidecar_module, "_LONGEST_PAUSE_SECONDS", 0.0)
    running.start(resources("one", "a"))
    running.sidecar._pause_seconds = 8.0
    running.sidecar.process.kill()
    running.sidecar.process.wait()
    running.sidecar.look_after()
    assert running.lines[-1].splitlines()[-1] == "starting it again in 0.5 s"


def test_its_environment(running, monkeypatch):
    """Nothing of this program's environment is in an Envoy's, so that no policy can read it."""
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "x")
    running.start(resources("one", "a"))
    assert Path(f"/proc/{running.sidecar.process.pid}/environ").read_bytes() == b""


def test_where_envoy_does_not_run(running, monkeypatch):
    """Where the program cannot run that is said."""
    monkeypatch.setattr(sidecar_module, "program", lambda: "/no/such/envoy")
    with pytest.raises(EnvoyError, match="Envoy does not run on this system"):
        running.sidecar.start(running.local(resources("one", "a")), nobody)
