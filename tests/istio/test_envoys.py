"""What counts as the same answers the same: Envoys with two forms of one thing, asked the same, and with a third."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from rules import RULES, V1, WEB, configuration
from static_envoy import at, listener, static_envoy

# The rules about what one call shows; the others are about balancing, limits and what Envoy says of itself.
ANSWERED = [
    "the name of a route",
    "the name of a virtual host",
    "the order of domains",
    "the timeout of gRPC",
    "case by default",
    "case of a regular expression",
    "case of a path without letters",
    "the order of header matches",
    "the case of a header's name",
    "the order of query matches",
    "the case of a query parameter",
    "a condition's defaults",
    "case of a value",
    "weight 0",
    "one cluster alone",
    "one cluster alone with headers",
    "an action's defaults",
    "what stands behind a catch-all",
    "https by two words",
    "a redirect's defaults",
    "a body as text or in base64",
    "an empty body",
    "the order of header operations",
    "the order of operations on one header",
    "the order of computed headers",
    "appending by default",
    "the order of removals",
    "hosts of the same routes",
    "nothing for everybody",
]
# In these the third form shows itself only in what a single call cannot tell.
NOT_SHOWN = {"the timeout of gRPC", "weight 0"}
CALLS = [
    ("/", {}),
    ("/a", {"a": "1", "b": "2"}),
    ("/a", {"a": "1"}),
    ("/A", {"x": "1", "a": "x"}),
    ("/a", {"x": "x", "a": "X"}),
    ("/1?a=1&b=2", {}),
    ("/1/2?a=1", {"b": "1"}),
    ("/?A=1&b=", {"a": "2", "b": "2"}),
    ("/c?b=1", {"host": "webserver.default"}),
    ("/a", {"host": "a"}),
    ("/", {"host": "c"}),
    ("/", {"host": "b"}),
    ("/a", {"host": "x.b"}),
]
# What differs from call to call, and what Envoy says of itself.
NOT_COMPARED = {"date", "x-request-id", "x-envoy-upstream-service-time", "x-envoy-expected-rq-timeout-ms"}


FAULT_FILTER = ("fault", "fault.v3.HTTPFault")


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked, and by whose name."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = [(name.lower(), value) for name, value in self.headers.items() if name.lower() not in NOT_COMPARED]
        asked.sort(key=lambda pair: pair[0])  # values of one name keep their order
        body = json.dumps([self.server.called, self.path, asked]).encode()
        self.send_response(200)
        for name in ("a", "b"):
            self.send_header(name, "from the web server")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def upstreams():
    """Return the ports of two web servers by the names of the clusters that lead to them."""
    servers = {}
    for name in (WEB, V1):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        server.daemon_threads = True
        server.called = name
        servers[name] = server
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {name: server.server_port for name, server in servers.items()}
    for server in servers.values():
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def ports(upstreams, tmp_path_factory):
    """Return where an Envoy answers for each form of each rule."""
    listeners = [
        listener(f"{rule}: {number}", configuration(**changes).resources["proxy-1"].routes[0], [FAULT_FILTER])
        for rule in ANSWERED
        for number, changes in enumerate(RULES[rule])
    ]
    clusters = [
        {
            "name": name,
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(port)}}]}],
            },
        }
        for name, port in upstreams.items()
    ]
    with static_envoy(tmp_path_factory.mktemp("envoy"), listeners, clusters) as ports:
        yield ports


def ask(port):
    """Return the answers to all calls."""
    answers = []
    for path, headers in CALLS:
        url = f"http://127.0.0.1:{port}{path}"
        answer = requests.get(url, headers={"host": "webserver", **headers}, allow_redirects=False, timeout=10)
        shown = sorted((name, value) for name, value in answer.headers.lower_items() if name not in NOT_COMPARED)
        answers.append((answer.status_code, shown, answer.text))
    return answers


@pytest.mark.parametrize("rule", ANSWERED)
def test_rule(rule, ports):
    """Two forms of one thing answer every call alike; something else answers at least one of them otherwise."""
    one, other, different = (ask(ports[f"{rule}: {number}"]) for number in range(3))
    assert one == other
    assert rule in NOT_SHOWN or one != different
