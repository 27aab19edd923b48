"""The lessons with Istio's own control plane: each shows the numbers that its comment promises, in one running lab."""

import re
import ssl
import time

import pytest
from istiod_support import K8S, LabProgram, ask, self_signed
from support import PATHS, TcpServer, get, http_response, in_tiers, replying, wait_until

PROXY, OUTSIDER, CALLER = "service/proxy", "deployment/outsider", "deployment/caller"


@pytest.fixture(scope="module")
def shared_lab(built_istiod, tmp_path_factory):
    """Run one lab for all tests: starting it takes longer than most of them."""
    running = LabProgram(tmp_path_factory.mktemp("lab"), "--istiod", "--access-log")
    yield running
    print(*[line for line in running.lines if " | " not in line], sep="\n")  # which is shown where a test fails
    running.close()


@pytest.fixture
def run(shared_lab):
    """Return a function that has the lab apply a lesson, or another text, and gives the lab."""

    def start(lesson=None, text=None):
        lines = shared_lab.edit((K8S / lesson).read_text() if lesson else text or "# none\n")
        assert not [line for line in lines if "not applied" in line]
        return shared_lab

    return start


def both(name):
    """Run a test with the lesson for Istio and with the one for the Gateway API, in the second tier."""
    return pytest.mark.parametrize("lesson", in_tiers([f"istio/{name}.yaml", f"gateway-api/{name}.yaml"], 2))


# Lessons that the quick engine shows as well, most of which are for the second tier: test_lab.py has them with that
# engine. Random numbers have bounds of 4.9 standard deviations or more: they fail by chance less than once in a million
# runs.


def test_without_any_policy(run):
    """Both versions and all six pods answer, half each; there is mutual TLS, and each try is counted."""
    lab = run()
    answers = ask(lab.port, count=150)
    assert abs(answers.versions["Webserver V1"] - 75) <= 30
    assert len(answers.pods) == 6
    headers = answers[0]["value"]["headers"]
    assert headers["X-Envoy-Attempt-Count"] == "1"
    assert headers["X-Forwarded-Client-Cert"].endswith("URI=spiffe://cluster.local/ns/default/sa/proxy")


def test_sidecars_log(run):
    """Each request is one line of each sidecar that it came through, also where a policy asks for that as well."""
    telemetry = "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: logs}\n"
    lab = run(text=telemetry + "spec: {accessLogging: [{providers: [{name: envoy}]}]}\n")
    ask(lab.port, "/logged", 1)

    def logged():
        return [line for line in lab.lines if "/istio-proxy | [" in line and '"GET /logged HTTP/1.1" 200 ' in line]

    wait_until(lambda: len(logged()) == 3, "three lines")
    assert sum(" outbound|80||webserver." in line for line in logged()) == 1
    assert sum(" inbound|3030|| " in line for line in logged()) == 2


@pytest.mark.thorough
@both("all-v1")
def test_all_v1(run, lesson):
    """Every answer is from version 1, from all of its pods."""
    answers = ask(run(lesson).port, count=100)
    assert answers.versions == {"Webserver V1": 100}
    assert len(answers.pods) == 3


@both("split")
def test_split(run, lesson):
    """Of 400 calls 300 go to version 1 and 100 to version 2."""
    answers = ask(run(lesson).port, count=400)
    assert answers.versions.total() == 400
    assert abs(answers.versions["Webserver V2"] - 100) <= 43


@pytest.mark.thorough
@both("header")
def test_header(run, lesson):
    """The header decides, through the proxy and to the letter."""
    lab = run(lesson)
    assert ask(lab.port, end_user="tester").versions == {"Webserver V2": 60}
    assert ask(lab.port, end_user="testers").versions == {"Webserver V1": 60}
    assert ask(lab.port).versions == {"Webserver V1": 60}


@pytest.mark.thorough
@both("path")
def test_path(run, lesson):
    """The path decides, and version 2 sees it rewritten."""
    lab = run(lesson)
    for path, version, seen in PATHS:
        for _ in range(10):
            assert f"Webserver V{version} requested from {seen} on" in get(lab.port, path)[2]


@pytest.mark.thorough
@both("redirect")
def test_redirect(run, lesson):
    """The proxy follows the redirect to version 2, and other paths are not touched."""
    lab = run(lesson)
    for _ in range(20):
        assert "Webserver V2 requested from / on" in get(lab.port, "/old")[2]
    assert set(ask(lab.port, "/other").versions) == {"Webserver V1", "Webserver V2"}


@pytest.mark.thorough
@both("mirror")
def test_mirror(run, lesson):
    """Version 1 answers, and each call is in the access log of both versions, once."""
    lab = run(lesson)
    assert ask(lab.port, "/mirrored", 50).versions == {"Webserver V1": 50}

    def logged():
        return lab.logged("webserverv1-", "/mirrored"), lab.logged("webserverv2-", "/mirrored")

    wait_until(lambda: min(logged()) >= 50, "the log")
    assert logged() == (50, 50)


@pytest.mark.thorough
@both("timeout")
def test_timeout(run, lesson):
    """A third of the calls is cut off with 504 after 1 s, and none takes 2 s."""
    answers = ask(run(lesson).port, "/slowsometimes", 60, concurrency=60)
    assert set(answers.statuses) == {200, 504}
    assert 2 <= answers.statuses[504] <= 38
    assert answers.texts == {"upstream request timeout": answers.statuses[504]}
    assert answers.slow(990) == answers.statuses[504]
    assert not answers.slow(1900)


@pytest.mark.thorough
@both("ingress")
def test_ingress(run, lesson):
    """The gateway's port leads to the proxy, and both versions answer behind it."""
    lab = run(lesson)
    name = "istio-ingressgateway" if lesson.startswith("istio/") else "webserver-istio"
    answers = ask(lab.port_of(f"gateway {name}, port 80"), count=100)
    assert answers.versions.total() == 100
    assert abs(answers.versions["Webserver V1"] - 50) <= 25


@pytest.mark.thorough
def test_abort(run):
    """Half of the calls fail with 503 and no pod."""
    answers = ask(run("istio/abort.yaml").port, count=300)
    assert abs(answers.statuses[503] - 150) <= 43
    assert answers.texts == {"fault filter abort": answers.statuses[503]}


@pytest.mark.thorough
def test_delay(run):
    """A quarter of the calls takes 3 s, with status 200; the others take no time."""
    answers = ask(run("istio/delay.yaml").port, count=60, concurrency=60)
    assert answers.statuses == {200: 60}
    assert 1 <= answers.slow(2990) <= 31
    assert answers.slow(1900) == answers.slow(2990)


@pytest.mark.thorough
def test_retries(run):
    """One third of failures becomes 1/81: of 400 calls 5, never 21; some needed four tries."""
    answers = ask(run("istio/retries.yaml").port, "/failsometimes", 400)
    assert answers.statuses[500] <= 20
    assert answers.statuses[200] + answers.statuses[500] == 400
    tries = {int(each["value"]["headers"]["X-Envoy-Attempt-Count"]) for each in answers}
    assert {1, 2, 3} < tries <= {1, 2, 3, 4}


@pytest.mark.thorough
def test_circuit_breaker(run):
    """More than two calls at once overflow into 503, at once, and without a pod."""
    answers = ask(run("istio/circuit-breaker.yaml").port, "/slowsometimes", 100, concurrency=100, rate=50)
    assert answers.statuses[503] >= 50
    (text,) = answers.texts
    assert "overflow" in text
    assert answers.statuses[200] >= 2


def take_out(lab):
    """Call until the sick pod is taken out; return when the calls began that it was taken out for."""
    wait_until(lambda: "Webserver sick" in ask(lab.port).versions, "the sick pod")
    ask(lab.port, count=30, rate=20)  # Envoy delivers changes of health to its load balancers once a second at most
    began = time.monotonic()
    answers = ask(lab.port, "/failsometimes", 300, concurrency=1)
    assert answers.versions["Webserver sick"] == 10
    assert len(answers.pods) == 7
    return began


@pytest.mark.thorough
def test_outlier_detection(run):
    """The sick pod answers ten times and is taken out."""
    lab = run("istio/outlier-detection.yaml")
    take_out(lab)
    assert "Webserver sick" not in ask(lab.port, "/failsometimes", 100).versions


@pytest.mark.thorough
def test_an_outlier_returns(run):
    """After ten seconds the pod that was taken out is back, and is taken out again after ten answers."""
    lab = run("istio/outlier-detection.yaml")
    began, ended = take_out(lab), time.monotonic()  # it is taken out in between, sooner or later
    wait_until(lambda: "Webserver sick" in ask(lab.port).versions, "the sick pod to return")
    ask(lab.port, count=30, rate=20)
    assert time.monotonic() - began > 7
    assert time.monotonic() - ended < 15
    assert ask(lab.port, "/failsometimes", 300, concurrency=1).versions["Webserver sick"] == 10


@pytest.mark.thorough
def test_sticky(run):
    """One user stays with one pod; several users are spread over several."""
    lab = run("istio/sticky.yaml")
    pods = set()
    for user in ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"):
        ((pod, count),) = ask(lab.port, count=15, end_user=user).pods.items()
        assert count == 15
        pods.add(pod)
    assert len(pods) > 1
    assert len(ask(lab.port, count=100).pods) == 6


# Lessons that take Istio's control plane


def test_mutual_tls(run):
    """Who has no sidecar is cut off, and the proxy is known by its identity."""
    lab = run("istio/mutual-tls.yaml")
    answers = ask(lab.port_of(OUTSIDER), count=20)
    assert answers.errors == {"connection reset calling http://webserver/": 20}
    answers = ask(lab.port, count=20)
    assert answers.statuses == {200: 20}
    certificate = answers[0]["value"]["headers"]["X-Forwarded-Client-Cert"]
    assert certificate.startswith("By=spiffe://cluster.local/ns/default/sa/webserver;")
    assert certificate.endswith(";URI=spiffe://cluster.local/ns/default/sa/proxy")


def test_without_strict_the_outsider_is_answered(run):
    """Without the PeerAuthentication plain text is taken, and nobody is named."""
    text = (K8S / "istio/mutual-tls.yaml").read_text().replace("mode: STRICT", "mode: PERMISSIVE")
    answers = ask(run(text=text).port_of(OUTSIDER), count=20)
    assert answers.statuses == {200: 20}
    assert "X-Forwarded-Client-Cert" not in str(answers)


def test_authorization(run):
    """Only the proxy is answered, and not for /failsometimes; the 403 is in force for connections that exist."""
    lab = run()
    assert ask(lab.port, "/failsometimes").texts == {}
    lab = run("istio/authorization.yaml")
    denied = "RBAC: access denied"
    answers = ask(lab.port, "/failsometimes", 20)
    assert (answers.statuses, answers.texts) == ({403: 20}, {denied: 20})
    answers = ask(lab.port_of(OUTSIDER), count=20)
    assert (answers.statuses, answers.texts) == ({403: 20}, {denied: 20})
    assert ask(lab.port, count=20).statuses == {200: 20}
    assert ask(lab.port, "/other", count=20).statuses == {200: 20}


def test_deny_by_default(run):
    """Without a rule nobody is answered; each step that the comment describes adds what it says and no more."""
    lab = run("istio/deny-by-default.yaml")

    def statuses(name, path):
        return dict(ask(lab.port_of(name), path, 20).statuses)

    assert statuses(PROXY, "/") == statuses(OUTSIDER, "/") == {403: 20}
    text = (K8S / "istio/deny-by-default.yaml").read_text()
    before, first, rest = re.split(r"  # Step [12]: .*\n", text)
    second, _, others = rest.partition("---")
    step = re.compile("^  # ", re.MULTILINE)
    run(text=before + step.sub("  ", first) + second + "---" + others)
    assert statuses(PROXY, "/") == {200: 20}
    assert statuses(PROXY, "/failsometimes") == {403: 20}
    assert statuses(OUTSIDER, "/") == {403: 20}
    run(text=before + step.sub("  ", first + second) + "---" + others)
    assert statuses(PROXY, "/") == statuses(OUTSIDER, "/") == {200: 20}
    assert statuses(PROXY, "/failsometimes") == statuses(OUTSIDER, "/failsometimes") == {403: 20}


def test_jwt(run):
    """Only a token of the issuer that says "reader" is let through; the web server does not see it."""
    lab = run("istio/jwt.yaml")
    reader, guest, forged = re.findall(r"authorization:(Bearer [\w.-]+)", (K8S / "istio/jwt.yaml").read_text())
    caller = lab.port_of(CALLER)
    answers = ask(caller, count=10, authorization=reader)
    assert answers.statuses == {200: 10}
    assert "Bearer" not in str(answers)
    assert ask(caller, count=10, authorization=guest).texts == {"RBAC: access denied": 10}
    assert ask(caller, count=10, authorization=forged).texts == {"Jwt verification fails": 10}
    assert ask(caller, count=10).texts == {"RBAC: access denied": 10}
    assert ask(lab.port, count=10, authorization=reader).statuses == {403: 10}


def test_retries_twice(run):
    """Two hops with two retries each make nine calls of one, and each hop counts its own tries."""
    lab = run("istio/retries-twice.yaml")
    assert ask(lab.port, "/failsometimes", 20).statuses == {500: 20}

    def logged():
        return [lab.logged(f"{pod} | ", "/failsometimes") for pod in ("webserversick-1", "inner-1")]

    wait_until(lambda: logged() >= [180, 60], "the log")
    assert logged() == [180, 60]
    (answer,) = ask(lab.port, "/failsometimes", 1)
    inner = answer["value"]["value"]
    assert (inner["content"], inner["headers"]["X-Envoy-Attempt-Count"]) == ("Webserver sick", "3")


def test_rate_limit(run):
    """Six pods with buckets of 10 and 2 a second let 114 of 300 calls through in 5 s; others get 429 at once."""
    lab = run("istio/rate-limit.yaml")
    answers = ask(lab.port, count=300, rate=60)
    assert 6 * 17 <= answers.statuses[200] <= 6 * 23
    assert answers.texts == {"local_rate_limited": answers.statuses[429]}
    assert answers.statuses[429] > 150


def test_locality(run):
    """The caller stays in its zone until the pod there has failed ten times; then it calls the others."""
    lab = run("istio/locality.yaml")
    caller = lab.port_of(CALLER)
    # For a second, since Envoy delivers changes of health to its load balancers once a second at most.
    assert ask(caller, count=25, rate=20).versions == {"Webserver near": 25}
    answers = ask(caller, "/failsometimes", 60, concurrency=1)
    assert answers.versions["Webserver near"] == 10
    assert "Webserver near" not in ask(caller, count=20).versions
    assert len(ask(lab.port, count=200).pods) == 6  # for the proxy the near pod is one of seven, and still out


# Calls that leave the mesh


class TlsServer(TcpServer):
    """Answers over TLS with a certificate for `host`, signed by an authority in the file `authority`."""

    def __init__(self, folder, host, answer):
        certificate, key = self_signed(host)
        self.authority = folder / "authority.pem"
        self.authority.write_bytes(certificate)
        private = folder / "key.pem"
        private.write_bytes(key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.authority, private)
        self._context.sni_callback = lambda connection, name, context: self.names.append(name)
        self.names = []
        self.requests = []
        self._answer = replying(answer, self.requests)
        super().__init__(self._speak)

    def _speak(self, connection):
        with self._context.wrap_socket(connection, server_side=True) as secure:
            self._answer(secure)


@pytest.fixture
def outside(tmp_path):
    """Run the host that stands for one on the internet."""
    server = TlsServer(tmp_path, "raw.githubusercontent.com", http_response(b"External Service 1\n"))
    yield server
    server.close()


def beside(text, port_name, server):
    """Return a lesson whose outside host is a server on this machine."""
    assert text.count("  resolution: DNS\n") == 1
    endpoint = f"  endpoints:\n    - address: 127.0.0.1\n      ports:\n        {port_name}: {server.port}\n"
    return text.replace("  resolution: DNS\n", "  resolution: STATIC\n" + endpoint)


def test_egress(run, outside):
    """The known host gets the application's own TLS, unread; another host is cut off."""
    run()  # so that all addresses are new, and said
    lab = run(text=beside((K8S / "istio/egress.yaml").read_text(), "tls", outside))
    known, unknown = lab.ports_of("deployment/external")[-2:]
    answers = ask(known, "/externalservice1.txt", 10)
    assert set(outside.names) == {"raw.githubusercontent.com"}
    (error,) = answers.errors
    assert error.startswith("TLS problem (self-signed certificate) calling https://raw.githubusercontent.com/")
    answers = ask(unknown, "/", 10)
    assert answers.errors == {"connection reset calling https://www.example.com/": 10}
    assert ask(lab.port, count=10).statuses == {200: 10}


def test_tls_origination(run, outside):
    """The application speaks plain HTTP, and the host gets TLS by name with the rule's path; who it is, is checked."""
    text = beside((K8S / "istio/tls-origination.yaml").read_text(), "http", outside)
    lab = run(text=text.replace("caCertificates: system", f"caCertificates: {outside.authority}"))
    port = lab.port_of("deployment/external")
    answers = ask(port, count=20)
    assert (answers.statuses, answers.texts) == ({200: 20}, {"External Service 1": 20})
    assert set(outside.names) == {"raw.githubusercontent.com"}
    assert outside.requests[0].startswith(b"GET /mcasperson/NodejsProxy/master/externalservice1.txt HTTP/1.1\r\n")
    lab = run(text=text)
    outside.requests.clear()
    answers = ask(port, count=5)
    assert answers.statuses == {503: 5}
    assert "connection failure" in str(answers.texts)
    assert not outside.requests


UNKNOWN_HOSTS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: webserver}}
spec:
  hosts: [known.example]
  resolution: DNS
  ports: [{{number: {tls}, name: tls, protocol: TLS}}, {{number: {plain}, name: http, protocol: HTTP}}]
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
        - {{name: tls, args: [proxy, --port, "3031", --proxy-url, "https://localhost:{tls}"]}}
        - {{name: http, args: [proxy, --port, "3032", --proxy-url, "http://localhost:{plain}"]}}
"""


def test_unknown_hosts_pass(run, outside, tcp_server):
    """Without REGISTRY_ONLY an unknown host is reached at a port that the mesh knows, over TLS and without."""
    plain = tcp_server(replying(http_response(b"plain")))
    run()
    lab = run(text=UNKNOWN_HOSTS.format(tls=outside.port, plain=plain.port))
    over_tls, over_http = lab.ports_of("deployment/caller")[-2:]
    assert ask(over_http, count=10).texts == {"plain": 10}
    (error,) = ask(over_tls, count=10).errors
    assert error.startswith("TLS problem (self-signed certificate) calling https://localhost:")
    assert set(outside.names) == {"localhost"}


CALLED_ADDRESSES = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: outside}}
spec:
  hosts: [{host}]
  ports: [{{number: {tls}, name: {kind}-a, protocol: {tls_kind}}}, {{number: {plain}, name: b, protocol: {kind}}}]
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
        - {{name: tls, args: [proxy, --port, "3031", --proxy-url, "https://out.localhost:{tls}"]}}
        - {{name: http, args: [proxy, --port, "3032", --proxy-url, "http://out.localhost:{plain}"]}}
"""


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("host", "kind", "tls_kind"),
    [('"*.localhost"', "HTTP", "TLS"), ("out.localhost", "HTTP", "TLS"), ("out.localhost", "TCP", "TCP")],
    ids=["a wildcard", "a host", "TCP"],
)
def test_called_addresses(run, outside, tcp_server, host, kind, tls_kind):
    """Without a resolution a host is called where its caller would, and a Service with PASSTHROUGH at its address."""
    plain = tcp_server(replying(http_response(b"plain")))
    run()
    entry = {"host": host, "kind": kind, "tls_kind": tls_kind, "tls": outside.port, "plain": plain.port}
    lab = run(text=CALLED_ADDRESSES.format(**entry))
    over_tls, over_http = lab.ports_of("deployment/caller")[-2:]
    assert ask(over_http, count=10).texts == {"plain": 10}
    (error,) = ask(over_tls, count=10).errors
    assert error.startswith("TLS problem (self-signed certificate) calling https://out.localhost:")
    assert set(outside.names) == {"out.localhost"}
    # A connection stays with its pod: calls at one time have one each.
    answers = ask(lab.port, "/delay/1", count=16, concurrency=16)
    assert set(answers.versions) == {"Webserver V1", "Webserver V2"}
    assert answers[0]["value"]["headers"]["X-Forwarded-Client-Cert"].endswith("/sa/proxy")
