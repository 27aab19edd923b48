"""Each lesson explained: a call names the object and the rule, and says in words what the lesson's comment explains."""

import re
import threading

import pytest
from click.testing import CliRunner
from istiod_support import K8S, LabProgram
from support import get, wait_until

from meshdemo.cli import main

pytestmark = pytest.mark.thorough
RULE, ROUTE = "rule=VirtualService/webserver[{}]".format, "rule=HTTPRoute/webserver[{}]".format
ALLOWS = "decided-by=AuthorizationPolicy/webserver[{}]".format
OUTSIDER, CALLER, EXTERNAL = "deployment/outsider", "deployment/caller", "deployment/external"
READER, GUEST, FORGED = re.findall(r"authorization:(Bearer [\w.-]+)", (K8S / "istio/jwt.yaml").read_text())


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


def explain(lab, lesson, path, headers, expected, words, name="service/proxy", which=-1):
    """Call until what chance decides is as expected; a call says it all, or it is not said."""
    lines = lab.edit((K8S / f"{lesson}.yaml").read_text())
    assert not [line for line in lines if "not applied, the last good state stays" in line], lines
    url = f"http://127.0.0.1:{lab.ports_of(name)[which]}{path}"
    options = [item for each in headers for item in ("-H", each)] + [
        item for each in expected for item in ("--expect", each)
    ]
    output = ""

    def is_said():
        nonlocal output
        result = CliRunner().invoke(main, ["call", "--lab", str(lab.port), url, *options])
        output = " ".join(result.output.split())
        return result.exit_code == 0 and all(each in output for each in words)

    try:
        wait_until(is_said, "the explanation", seconds=15)
    except AssertionError:
        pytest.fail(output)


# Lesson, path, headers, what holds of rule and object, and words that are said.
CASES = [
    ("istio/all-v1", "/", (), [RULE(0), "subset=v1", "version=Webserver V1"], []),
    ("istio/split", "/", (), [RULE(0)], ["of 100), DestinationRule/webserver"]),
    ("istio/header", "/", (), [RULE(1), "subset=v1"], ["header end-user is missing, not tester"]),
    ("istio/header", "/", ("end-user:tester",), [RULE(0), "subset=v2"], ["header end-user is tester"]),
    ("istio/path", "/v2", (), [RULE(0), "subset=v2"], ["path is /v2"]),
    ("istio/path", "/", (), [RULE(1)], ["VirtualService/webserver[0]"]),
    ("istio/redirect", "/old", (), [RULE(0)], ["the rule redirects it to webserverv2/"]),
    ("istio/abort", "/", (), [RULE(0), "decided-by=VirtualService/webserver[0]"], ["fault: the rule aborts it (FI)"]),
    ("istio/delay", "/", (), [RULE(0), "decided-by=VirtualService/webserver[0]"], ["fault: the rule delays it (DI)"]),
    ("istio/timeout", "/slowsometimes", (), [RULE(0), "status=504"], ["for all tries together (UT)"]),
    ("istio/retries", "/status/500", (), [RULE(0), "tries=4"], ["retries: up to 3 on 5xx"]),
    ("istio/sticky", "/", ("end-user:alice",), [RULE(0)], ["calls with the same end-user go to the same pod"]),
    ("istio/mirror", "/", (), [RULE(0), "subset=v1"], ["a copy to webserverv2-", "which nobody sees"]),
    ("istio/outlier-detection", "/", (), [RULE(0)], ["a pod that fails 10 times in a row gets no calls for a while"]),
    ("gateway-api/all-v1", "/", (), [ROUTE(0), "version=Webserver V1"], ["to webserverv1:80"]),
    ("gateway-api/split", "/", (), [ROUTE(0)], ["of 4)"]),
    ("gateway-api/header", "/", (), [ROUTE(1)], ["header end-user is missing, not tester"]),
    ("gateway-api/path", "/v1", (), [ROUTE(1)], ["path /v1 is not /v2 or below it"]),
    ("gateway-api/redirect", "/old", (), [ROUTE(0)], ["the rule redirects it to http://webserverv2/"]),
    ("gateway-api/timeout", "/slowsometimes", (), [ROUTE(0), "status=504"], ["1 s for all tries together (UT)"]),
    ("gateway-api/mirror", "/", (), [ROUTE(0)], ["a copy to webserverv2-", "which nobody sees"]),
]
WITH_ISTIOD = [
    # By this id Istio's Envoys sample the request for traces, as one of a hundred, and mark the id.
    (
        "istio/split",
        "/",
        ("x-request-id: 00000000-0000-4000-8000-000000000000",),
        [RULE(0)],
        ["no AuthorizationPolicy"],
    ),
    ("istio/retries-by-status", "/status/503", (), [RULE(0), "tries=3"], ["retries: up to 2 on gateway-error"]),
    ("istio/retries-by-status", "/status/500", (), [RULE(0), "tries=1"], ["500 is not tried again"]),
    ("istio/retries-twice", "/failsometimes", (), [RULE(1), "tries=3"], ["to inner:80", "retries: up to 2 on 5xx"]),
    ("istio/deny-by-default", "/", (), ["status=403"], ["denied: no rule of AuthorizationPolicy/"]),
    (
        "istio/authorization",
        "/",
        (),
        [ALLOWS(0)],
        ["mutual TLS, the caller is spiffe://cluster.local/ns/default/sa/proxy"],
    ),
    (
        "istio/authorization",
        "/failsometimes",
        (),
        ["status=403"],
        ["no rule of AuthorizationPolicy/webserver allows it"],
    ),
    ("istio/authorization", "/", (), ["status=403", "identity=*/sa/outsider"], ["no rule of"], OUTSIDER),
    ("istio/mutual-tls", "/", (), ["identity=*/sa/proxy"], ["mutual TLS, the caller is"]),
    ("istio/mutual-tls", "/", (), ["status=none"], ["PeerAuthentication/webserver is STRICT"], OUTSIDER),
    ("istio/jwt", "/", (f"authorization:{READER}",), [ALLOWS(0)], ["allows it"], CALLER),
    ("istio/jwt", "/", (f"authorization:{GUEST}",), ["status=403"], ["no rule of AuthorizationPolicy/"], CALLER),
    (
        "istio/jwt",
        "/",
        (f"authorization:{FORGED}",),
        ["status=401", "decided-by=RequestAuthentication/webserver"],
        ["token refused: Jwt verification fails"],
        CALLER,
    ),
    ("istio/tls-origination", "/", (), [RULE(0)], ["the sidecar speaks TLS with it, SIMPLE"], EXTERNAL),
    ("istio/egress", "/", (), [], ["ServiceEntry/webserver makes raw.githubusercontent.com a host"], EXTERNAL, -2),
    ("istio/egress", "/", (), ["status=none"], ["no ServiceEntry names www.example.com, and Sidecar/"], EXTERNAL, -1),
    ("istio/locality", "/", (), [RULE(0)], ["pods near caller-1 come first, by"], CALLER),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}")
def test_with_the_quick_engine(quick_lab, case):
    """A call in the lesson says rule, object and cause."""
    explain(quick_lab, *case)


@pytest.mark.parametrize("case", [*CASES, *WITH_ISTIOD], ids=lambda case: f"{case[0]} {case[1]}")
def test_with_istiod(istiod_lab, case):
    """A call in the lesson says rule, object and cause."""
    explain(istiod_lab, *case)


@pytest.mark.parametrize("lesson", ["istio/ingress", "gateway-api/ingress"])
@pytest.mark.parametrize("engine", ["quick_lab", pytest.param("istiod_lab", marks=pytest.mark.istiod)])
def test_gateways(request, engine, lesson):
    """A call by a gateway shows the gateway's rule, and what stands behind."""
    lab = request.getfixturevalue(engine)
    lab.edit((K8S / f"{lesson}.yaml").read_text())
    name = next(line for line in reversed(lab.lines) if "  gateway " in line).partition("/  ")[2]
    rule = ROUTE(0) if lesson.startswith("gateway") else RULE(0)
    words = ["to proxy:80", "no VirtualService or HTTPRoute is for webserver"]
    explain(lab, lesson, "/", (), [rule], words, name)


@pytest.mark.parametrize(
    ("lesson", "path", "words"),
    [
        ("istio/circuit-breaker", "/delay/0.5", "the connection pool of DestinationRule/webserver is full"),
        ("istio/rate-limit", "/", "rate limited: more calls than it lets through"),
    ],
)
def test_under_load(istiod_lab, lesson, path, words):
    """What only many calls meet is explained for one of them."""
    lab = istiod_lab
    lab.edit((K8S / f"{lesson}.yaml").read_text())
    stop = threading.Event()

    def load():
        while not stop.is_set():
            get(lab.port, path)

    threads = [threading.Thread(target=load, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        explain(lab, lesson, "/", (), [], [words])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
