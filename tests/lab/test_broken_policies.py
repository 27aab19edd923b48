"""Ten policies that are broken as people break them: what `meshdemo call` prints names the cause of each."""

import re
import threading

import pytest
import yaml
from click.testing import CliRunner
from istiod_support import K8S, LabProgram
from support import get, wait_until

from meshdemo.cli import main

# tests/lab/test_explainer.py has those of the quick engine in the first tier, one lab for all.
pytestmark = pytest.mark.thorough

TO = {"route": [{"destination": {"host": "webserver"}}]}
TO_V2 = {"route": [{"destination": {"host": "webserver", "subset": "v2"}}]}
TO_V1 = {"route": [{"destination": {"host": "webserver", "subset": "v1"}}]}


@pytest.fixture(scope="module")
def quick_lab(tmp_path_factory):
    running = LabProgram(tmp_path_factory.mktemp("lab"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def istiod_lab(built_istiod, tmp_path_factory):
    running = LabProgram(tmp_path_factory.mktemp("lab"), "--istiod")
    yield running
    print(*running.lines, sep="\n")
    running.close()


def policy(kind, spec, name="webserver", group="networking.istio.io"):
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def virtual_service(*rules, hosts=("webserver",)):
    return policy("VirtualService", {"hosts": list(hosts), "http": list(rules)})


def destination_rule(**fields):
    subsets = [{"name": name, "labels": {"version": name}} for name in ("v1", "v2")]
    return policy("DestinationRule", {"host": "webserver", "subsets": subsets, **fields})


def call(lab, *args):
    """Return what the command prints, its lines joined as words."""
    result = CliRunner().invoke(main, ["call", "--lab", str(lab.port), *args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return " ".join(result.output.split())


def explain(lab, documents, *args):
    lines = lab.edit(yaml.safe_dump_all(documents, sort_keys=False))
    assert not [line for line in lines if "not applied" in line], lines
    return call(lab, *(args or (f"http://127.0.0.1:{lab.port}/",)))


def behind_a_catch_all(lab):
    """Put a rule for /v2 behind one that takes every call."""
    rules = [TO_V1, {"match": [{"uri": {"prefix": "/v2"}}], **TO_V2}]
    output = explain(lab, [virtual_service(*rules), destination_rule()], f"http://127.0.0.1:{lab.port}/v2")
    assert "VirtualService/webserver[0]" in output
    assert "it takes every request" in output
    assert re.search(r"spec.http\[1\] is never reached: a rule before it|spec.http\[1\] is never reached", output)


def dropped_header(lab):
    """Look for a header that the proxy does not pass on."""
    rules = [{"match": [{"headers": {"x-canary": {"exact": "yes"}}}], **TO_V2}, TO_V1]
    documents = [virtual_service(*rules), destination_rule()]
    output = explain(lab, documents, f"http://127.0.0.1:{lab.port}/", "-H", "x-canary: yes")
    assert "does not pass on x-canary" in output
    assert "header x-canary is missing, not yes" in output


def wrong_code(lab):
    """Try calls again on 502 that fail with 503."""
    rule = {**TO, "retries": {"attempts": 2, "retryOn": "502"}}
    output = explain(lab, [virtual_service(rule)], f"http://127.0.0.1:{lab.port}/status/503")
    assert "retries: up to 2 on 502" in output
    assert "503 is not tried again: it is not in what is tried again, 502" in output
    assert "try 2" not in output


def per_try_timeout(lab):
    """Give each try less time than an answer takes."""
    rule = {**TO, "retries": {"attempts": 1, "perTryTimeout": "0.1s", "retryOn": "5xx"}}
    output = explain(lab, [virtual_service(rule)], f"http://127.0.0.1:{lab.port}/delay/1")
    assert "try 2" in output
    assert "the rule gives each try 0.1 s (perTryTimeout), and the last one took longer" in output


def tight_breaker(lab):
    """Take fewer calls at a time than there are."""
    pool = {"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 1}}
    explain(lab, [virtual_service(TO), destination_rule(trafficPolicy={"connectionPool": pool})])
    stop = threading.Event()

    def load():
        while not stop.is_set():
            get(lab.port, "/delay/0.5")

    threads = [threading.Thread(target=load, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        words = "the connection pool of DestinationRule/webserver is full (maxConnections 1, http1MaxPendingRequests 1"
        wait_until(lambda: words in call(lab, f"http://127.0.0.1:{lab.port}/"), words)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def other_host(lab):
    """Write a VirtualService for the caller's host instead of the host that is called."""
    output = explain(lab, [virtual_service(TO_V2, hosts=["proxy"]), destination_rule()])
    assert "no VirtualService or HTTPRoute is for webserver" in output
    assert "VirtualService/webserver is for calls to proxy, not to webserver" in output


def misspelt_subset(lab):
    """Lead to a subset that the DestinationRule does not have."""
    rule = {"route": [{"destination": {"host": "webserver", "subset": "v3"}}]}
    output = explain(lab, [virtual_service(rule), destination_rule()])
    assert "DestinationRule/webserver has no subset v3 of webserver, only v1, v2" in output


def strict_with_an_outsider(lab):
    """Have web servers take mutual TLS alone, where a caller has no sidecar."""
    documents = list(yaml.safe_load_all((K8S / "istio" / "mutual-tls.yaml").read_text()))
    output = explain(lab, documents, "http://webserver/", "--from", "outsider")
    assert "outsider-1 has no sidecar: its calls are plain text" in output
    assert "webserver takes mutual TLS alone: PeerAuthentication/webserver is STRICT" in output


def wide_denial(lab):
    """Deny every path, where callers are to be kept from one."""
    rules = [{"to": [{"operation": {"methods": ["POST"]}}]}, {"to": [{"operation": {"paths": ["*"]}}]}]
    spec = {"selector": {"matchLabels": {"app": "webserver"}}, "action": "DENY", "rules": rules}
    output = explain(lab, [policy("AuthorizationPolicy", spec, "no-admin", "security.istio.io")])
    assert "403: denied by rule 1 of AuthorizationPolicy/no-admin" in output
    assert "mutual TLS, the caller is spiffe://cluster.local/ns/default/sa/proxy" in output


def port_named_tcp(lab):
    """Call the Service's port tcp, so that no rule for HTTP applies."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "webserver"},
        "spec": {"selector": {"app": "webserver"}, "ports": [{"name": "tcp", "port": 80, "targetPort": "http"}]},
    }
    output = explain(lab, [virtual_service(TO_V2), destination_rule(), service])
    assert "port 80 of the Service webserver is tcp, by its name, tcp: rules for HTTP do not apply" in output


QUICK = [behind_a_catch_all, dropped_header, wrong_code, per_try_timeout, tight_breaker, other_host]
ISTIOD = [misspelt_subset, strict_with_an_outsider, wide_denial, port_named_tcp]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.__name__)
def test_with_the_quick_engine(quick_lab, case):
    """The output of a call names the cause."""
    case(quick_lab)


@pytest.mark.parametrize("case", [*QUICK, *ISTIOD], ids=lambda case: case.__name__)
def test_with_istiod(istiod_lab, case):
    """The output of a call names the cause."""
    case(istiod_lab)
