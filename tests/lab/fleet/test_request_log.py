"""What sidecars write of requests, as it is shown."""

from types import SimpleNamespace

import pytest
from quick_support import to, virtual_service

from meshdemo.lab.envoy.loopback import Ports
from meshdemo.lab.fleet.request_log import RequestLog
from meshdemo.lab.xray.facts.naming import RuleBook

PODS = {"10.244.0.1": SimpleNamespace(pod=SimpleNamespace(name="web-1"), ports=Ports({3030: 21000}, {3030: 22000}))}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('"127.0.0.1:21000" - 127.0.0.1:9 default', '"web-1:3030" - 127.0.0.1:9 default'),
        (
            "127.0.0.1:22000 default.webserver#1",
            "web-1:3030 default.webserver#1 VirtualService/webserver[1] policy.yaml:None",
        ),
    ],
    ids=["no rule", "a rule"],
)
def test_lines(line, expected):
    """Ports are told as pods with their own, and the rule of the route with its place."""
    written = []
    log = RequestLog(lambda *parts: written.append(parts), lambda: PODS)
    log.write("web-1/istio-proxy", line)
    log.book = RuleBook([virtual_service(to(), to())], {})
    log.write("web-1/istio-proxy", line)
    assert written == [("web-1/istio-proxy", expected.partition(" VirtualService")[0]), ("web-1/istio-proxy", expected)]
