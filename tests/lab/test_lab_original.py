"""Policies whose calls go to the address that the caller chose, on real Envoys of the quick engine."""

import pytest
from lab_support import EXAMPLE, RunningLab
from support import TcpServer, http_response, replying

ENTRY = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: outside}}
spec:
  hosts: ["*.localhost"]
  ports: [{{number: {port}, name: http, protocol: HTTP}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: webserver}}
spec:
  host: webserver
  trafficPolicy: {{loadBalancer: {{simple: PASSTHROUGH}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: caller}}
spec:
  selector: {{matchLabels: {{app: caller}}}}
  template:
    metadata: {{labels: {{app: caller}}}}
    spec:
      containers:
        - {{name: proxy, args: [proxy, --port, "3031", --proxy-url, "http://out.localhost:{port}"]}}
"""
RULE = """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: outside}
spec:
  hosts: [out.localhost]
  http: [{rewrite: {authority: rewritten.example}, route: [{destination: {host: out.localhost}}]}]
"""


@pytest.fixture(scope="module")
def requests():
    return []


@pytest.fixture(scope="module")
def running(tmp_path_factory, requests):
    """Run the example with a caller of a host outside, and policies for both."""
    server = TcpServer(replying(http_response(b"outside"), requests))
    folder = tmp_path_factory.mktemp("lab")
    policy = folder / "outside.yaml"
    policy.write_text(ENTRY.format(port=server.port))
    lab = RunningLab(folder, EXAMPLE, policy)
    lab.wait_until_settled()
    yield lab
    lab.close()
    server.close()


def test_a_host_without_endpoints(running, requests):
    """Without a resolution the host that is asked for is called, also where a rule writes another one."""
    (url,) = [each.url for each in running.lab.addresses() if each.name == "deployment/caller"]
    assert running.call(url=url, count=5).texts == {(200, "outside"): 5}
    assert all(b"\r\nhost: out.localhost:" in each for each in requests)
    text = running.path("outside.yaml").read_text()
    running.edit("outside.yaml", text.replace('"*.localhost"', "out.localhost") + RULE)
    running.wait_until_settled()
    requests.clear()
    assert running.call(url=url, count=5).texts == {(200, "outside"): 5}
    assert all(b"\r\nhost: rewritten.example\r\n" in each for each in requests)


def test_a_service_that_is_passed_through(running):
    """A Service with PASSTHROUGH is called at its address, which leads to any of its pods."""
    # A connection stays with its pod: calls at one time have one each.
    tally = running.call("/delay/1", count=16, concurrency=16)
    assert tally.statuses == {200: 16}
    assert set(tally.versions) == {"Webserver V1", "Webserver V2"}
