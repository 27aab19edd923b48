"""The whole application on one machine."""

import re
import signal
import socket
from collections import Counter

import pytest
from support import get

from meshdemo.roles import local
from meshdemo.roles.webserver import Faults

HOSTS = [f"webserverv{version}-{number}" for version in (1, 2) for number in (1, 2, 3)]


def test_service_hands_each_request_to_the_endpoint_it_chose(call_app):
    """The choice is made anew for each request."""
    servers = local.create_web_servers(3, Faults(), access_log=False)
    choices = iter([5, 0, 3])
    service = local.create_service(servers, choose=lambda endpoints: endpoints[next(choices)])
    names = [re.search(r"on (\S+) with", call_app(service).text)[1] for _ in range(3)]
    assert names == ["webserverv2-3", "webserverv1-1", "webserverv2-1"]


def test_web_servers_take_the_fault_options(call_app):
    """The options of the role reach every web server."""
    for app in local.create_web_servers(2, Faults(fail_ratio=1.0), access_log=False):
        assert call_app(app, "/failsometimes").status == 500


def test_up_shows_both_versions_and_every_host(program):
    """400 calls see all six host names with their versions, about evenly: each expects 67, give or take 41."""
    running = program("up", "--port", "0")
    counts = Counter()
    for _ in range(400):
        text = get(running.port)[2]
        match = re.fullmatch(
            r"Proxying value: Webserver V([12]) requested from / on (webserverv\1-[123]) with code 200"
            r" - Took \d+ milliseconds",
            text,
        )
        assert match, text
        counts[match[2]] += 1
    assert sorted(counts) == HOSTS
    assert all(26 <= count <= 108 for count in counts.values()), counts  # 5.5 standard deviations


def test_up_says_where_to_look_and_ends_cleanly(program):
    """The proxy's and the web servers' addresses are printed and answer; SIGTERM ends with 0 and no word."""
    running = program("up", "--port", "0", "--replicas", "1", "--drain-seconds", "0")
    assert running.first_line == f"meshdemo proxy listening at {running.url}/, proxying 2 web servers"
    lines = []
    while not (lines and lines[-1].startswith("Press Ctrl+C")):
        lines.append(running.process.stdout.readline())
    ports = set(re.findall(r"127\.0\.0\.1:(\d+)", "".join(lines)))
    assert str(running.port) in ports
    (service_port,) = ports - {str(running.port)}
    assert get(int(service_port))[2].startswith("Webserver V")
    running.signal(signal.SIGTERM)
    assert running.wait_for_end() == (0, "")


@pytest.mark.parametrize(
    ("options", "env", "first_line"),
    [
        (["--host", "*"], {}, "http://localhost:{port}/ on all interfaces, proxying 2 web servers"),
        ([], {"LISTEN_HOST": "*"}, "http://localhost:{port}/ on all interfaces, proxying 2 web servers"),
        (["--host", "127.0.0.2"], {"LISTEN_HOST": "*"}, "http://127.0.0.2:{port}/, proxying 2 web servers"),
    ],
    ids=["option", "environment", "option before environment"],
)
def test_up_listens_where_it_is_told(program, options, env, first_line):
    """Another address reaches the proxy where --host or LISTEN_HOST says so, and never the web servers."""
    running = program("up", "--port", "0", "--replicas", "1", *options, env=env)
    assert running.first_line == f"meshdemo proxy listening at {first_line.format(port=running.port)}"
    lines = iter(running.process.stdout.readline, "Press Ctrl+C to stop.\n")
    (service_port,) = re.findall(r"127\.0\.0\.1:(\d+)/  the web servers without the proxy, on this", "".join(lines))
    socket.create_connection(("127.0.0.2", running.port), 5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", int(service_port)), 5)


def test_up_is_for_this_machine_alone(program):
    """By default no other address reaches the proxy."""
    running = program("up", "--port", "0", "--replicas", "1")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", running.port), 5)


def test_up_logs_by_host_name(program):
    """With the access log on, each line says who answered."""
    running = program("up", "--port", "0", "--access-log", "--drain-seconds", "0")
    name = re.search(r"on (\S+) with", get(running.port, "/x")[2])[1]
    running.signal(signal.SIGTERM)
    _, stderr = running.wait_for_end()
    assert re.fullmatch(rf"\S+ {name} \S+ GET /x 200 \S+\n\S+ proxy \S+ GET /x 200 \S+\n", stderr)
