"""Calls that a lab makes and explains: rule, destination, tries, and who decided, by its door."""

import json

import pytest
import yaml
from lab_support import EXAMPLE, K8S, RunningLab
from support import OF_THE_PAGE, get

from meshdemo.errors import StartError
from meshdemo.lab import call_maker, explainer
from meshdemo.lab.envoy.xds.messages import api
from meshdemo.lab_socket import LabSocketError, ask
from meshdemo.watching import command as watch


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Run the example and one more file, for all tests."""
    started = RunningLab(tmp_path_factory.mktemp("lab"), EXAMPLE, K8S / "policy.yaml")
    yield started
    started.close()


@pytest.fixture
def explain(running):
    """Return a function that applies a policy, makes a call, and returns its explanation."""

    def make(policy, path="/", *, origin=None, url=None, **headers):
        running.edit("policy.yaml", policy if isinstance(policy, str) else policy.read_text())
        running.wait_until_settled()
        pairs = [[name.replace("_", "-"), value] for name, value in headers.items()]
        target = url or (f"http://webserver{path}" if origin else f"{running.url.rstrip('/')}{path}")
        return ask(running.lab.door.path, "POST", "/call", {"from": origin, "url": target, "headers": pairs})

    return make


def sidecar(answer):
    """Return the hop by which the call left the proxy."""
    (hop,) = (hop for hop in answer["hops"] if hop["direction"] == "outbound")
    return hop


def virtual_service(*rules, **metadata):
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "webserver", **metadata},
        "spec": {"hosts": ["webserver"], "http": list(rules)},
    }
    return yaml.safe_dump(document, sort_keys=False)


TO = {"route": [{"destination": {"host": "webserver"}}]}


def test_what_runs(running):
    """The lab says what it is, and where it can be called."""
    found = ask(running.lab.door.path, "GET", "/")
    assert found["port"] == running.port
    assert "webserverv2-3" in found["pods"]
    assert found["addresses"][0] == {"name": "service/proxy", "url": running.url}
    assert found["files"][1].endswith("policy.yaml")


def test_rules(explain):
    """The rule that matched is named with its place, and each before it with the condition that failed."""
    lesson = K8S / "istio" / "header.yaml"
    answer = explain(lesson)
    hop = sidecar(answer)
    assert (hop["rule"]["kind"], hop["rule"]["name"], hop["rule"]["rule"]) == ("VirtualService", "webserver", 1)
    assert lesson.read_text().splitlines()[hop["rule"]["line"] - 1].strip().startswith("- route:")
    (passed,) = hop["passed_over"]
    assert (passed["rule"]["rule"], passed["rule"]["match"]) == (0, 0)
    assert passed["because"] == "header end-user is missing, not tester"
    assert (hop["destination"]["subset"], hop["destination"]["policy"]["kind"]) == ("v1", "DestinationRule")
    kinds = [(hop["kind"], hop["version"]) for hop in answer["hops"]]
    assert kinds == [("application", None), ("sidecar", None), ("application", "Webserver V1")]
    assert answer["answer"]["version"] == "Webserver V1"


def test_rules_that_many_calls_met(explain, running):
    """The rules of several calls are told at once by their ids; calls that nobody logged are left out."""
    lesson = K8S / "istio" / "header.yaml"
    answers = [explain(lesson, **({"end_user": "tester"} if tester else {})) for tester in (True, False, False)]
    ids = [answer["request"]["id"] for answer in answers]
    met = ask(running.lab.door.path, "POST", "/met", {"ids": [*ids, "unknown"]})
    assert list(met) == ids
    assert [[rule["rule"] for rule in met[each] if rule["kind"] == "VirtualService"] for each in ids] == [[0], [1], [1]]
    assert all(
        met[each][0].items() >= {**sidecar(answer)["rule"], "match": None}.items()
        for each, answer in zip(ids, answers, strict=True)
    )
    aborted = explain(
        virtual_service({**TO, "name": "broken", "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}})
    )
    (rule,) = ask(running.lab.door.path, "POST", "/met", {"ids": [aborted["request"]["id"]]}).popitem()[1]
    assert (rule["name"], rule["label"], rule["rule"]) == ("webserver", "broken", 0)


@pytest.mark.parametrize("body", [None, [], {}, {"ids": "x"}, {"ids": [1]}])
def test_what_is_no_list_of_ids(running, body):
    """A list of ids has texts alone."""
    with pytest.raises(LabSocketError, match="ids is a list of x-request-ids"):
        ask(running.lab.door.path, "POST", "/met", body)


def test_a_call_from_a_pod(explain):
    """A call is made as the program in a pod would make it, with the headers that it is given."""
    answer = explain(K8S / "istio" / "header.yaml", origin="proxy", end_user="tester")
    assert answer["request"]["from"] == "proxy-1"
    assert sidecar(answer)["rule"]["rule"] == 0
    assert sidecar(answer)["matched"] == "header end-user is tester"
    assert answer["answer"]["version"] == "Webserver V2"


def test_a_call_from_a_pod_that_calls_nobody(explain, running):
    """A pod whose program calls nobody calls as it would, and stays as it is."""
    before = {pod.key for pod in running.lab.pods.present}
    answer = explain(K8S / "istio" / "header.yaml", origin="webserverv1-2", end_user="tester")
    hop = sidecar(answer)
    assert (hop["pod"], hop["rule"]["rule"], answer["answer"]["version"]) == ("webserverv1-2", 0, "Webserver V2")
    hops = explain(K8S / "istio" / "all-v1.yaml", origin="webserverv1-2")["hops"]
    assert hops[0]["destination"]["subset"] == "v1"
    assert {pod.key for pod in running.lab.pods.present} == before


def test_a_call_of_a_pod(explain, running):
    """A pod is called by its name or address past Services and their rules, and knows its own port alone."""
    policy = virtual_service({"fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}, **TO})
    address = next(pod.address for pod in running.lab.state.pods if pod.name == "webserverv2-2")
    for host in ("webserverv2-2", address):
        answer = explain(policy, origin="proxy", url=f"http://{host}:3030/")["answer"]
        assert (answer["status"], answer["version"]) == (200, "Webserver V2")
        assert "webserverv2-2" in answer["body"]
    assert explain(policy, origin="proxy", url="http://webserverv2-2:9/")["answer"]["status"] != 200


def test_a_call_where_no_http_is_spoken(explain, tcp_server):
    """What is said in place of HTTP is shown."""
    server = tcp_server(lambda connection: connection.sendall(b"mongo v1 on mongo-v1-1\n"))
    answer = explain(virtual_service(TO), url=f"http://127.0.0.1:{server.port}/")["answer"]
    assert answer["error"] == "no HTTP is spoken there, but: mongo v1 on mongo-v1-1"


def test_a_call_over_tls(explain):
    """Where nobody speaks TLS, that is said as people say it."""
    answer = explain(virtual_service(TO), origin="proxy", url="https://webserverv2-2:3030/")["answer"]
    assert answer["error"] == "no TLS there: wrong version number"


def test_a_watch_from_a_pod(explain, running):
    """`watch --from` calls as the program of a pod would, one that calls nobody otherwise, too."""
    explain(K8S / "istio" / "header.yaml")
    for origin, version in (("proxy", "Webserver V1"), ("webserverv2-1", "Webserver V1")):
        options = watch.WatchOptions("http://webserver/", 3, origin=origin, lab_port=running.port, explains=True)
        report = watch.run(options)
        assert [(each.name, each.answers) for each in report.versions] == [(version, 3)]
        (found,) = report.explained
        assert sidecar(found.call)["pod"].startswith(origin)
    with pytest.raises(
        StartError, match=r"^there is no pod or workload nobody, only proxy, webserverv1, webserverv2\.$"
    ):
        watch.run(watch.WatchOptions("http://webserver/", origin="nobody", lab_port=running.port))


def test_weights_and_the_gateway_api(explain):
    """A rule of an HTTPRoute is named, too, and a weight with the sum that it is one of."""
    hop = sidecar(explain(K8S / "gateway-api" / "split.yaml"))
    assert (hop["rule"]["kind"], hop["rule"]["name"], hop["rule"]["rule"]) == ("HTTPRoute", "webserver", 0)
    assert hop["destination"]["host"] in (
        "webserverv1.default.svc.cluster.local",
        "webserverv2.default.svc.cluster.local",
    )
    assert hop["destination"]["of"] == 4


def test_matches_of_the_gateway_api(explain):
    """A call through an HTTPRoute is told with the number of the match that it met, and of those that it did not."""
    matches = [{"path": {"value": "/v1"}}, {"path": {"value": "/v2/long"}}, {"path": {"value": "/v2"}}]
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "webserver"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "webserver", "port": 80}],
            "rules": [{"matches": matches, "backendRefs": [{"name": "webserver", "port": 80}]}],
        },
    }
    hop = sidecar(explain(yaml.safe_dump(route), "/v2/x"))
    assert (hop["rule"]["name"], hop["rule"]["rule"], hop["rule"]["match"]) == ("webserver", 0, 2)
    assert {each["rule"]["match"] for each in hop["passed_over"]} in ({1}, {0, 1})


def test_what_the_page_says_of_an_empty_404(explain, running):
    """The page has the reason from the Envoy that answered: no route is one, and an answer of a policy is none."""
    rule = {"match": [{"uri": {"prefix": "/direct"}}], "directResponse": {"status": 404}}
    explain(virtual_service(rule), "/direct")

    def reasons(path):
        _, _, text = get(running.port, f"/ui/calls?rate=2&seconds=1&path={path}", **OF_THE_PAGE)
        return {sample["reason"] for sample in map(json.loads, text.splitlines()) if "milliseconds" in sample}

    assert reasons("/direct") == {"404"}
    assert reasons("/elsewhere") == {"no route (NR)"}


def test_mirrors(explain):
    """A mirrored copy is told with the pod that got it, and its answer."""
    (mirror,) = sidecar(explain(K8S / "istio" / "mirror.yaml"))["mirrors"]
    assert (mirror["subset"], mirror["status"]) == ("v2", 200)
    assert mirror["pod"].startswith("webserverv2-")


def test_tries(explain):
    """Each try has its pod, status and time, and the policy by which they were made is told."""
    rule = {**TO, "retries": {"attempts": 2, "retryOn": "5xx"}}
    hop = sidecar(explain(virtual_service(rule), "/status/503"))
    assert [each["status"] for each in hop["tries"]] == [503, 503, 503]
    assert len({each["pod"] for each in hop["tries"]}) == 3
    assert (hop["retries"]["attempts"], hop["retries"]["on"], hop["retries"]["is_default"]) == (2, ["5xx"], False)


def test_a_retry_on_the_wrong_code(explain):
    """What is not tried again is said with what would be."""
    hop = sidecar(explain(virtual_service({**TO, "retries": {"attempts": 2, "retryOn": "502"}}), "/status/503"))
    assert len(hop["tries"]) == 1
    assert hop["notes"] == ["503 is not tried again: it is not in what is tried again, 502"]


def test_faults(explain):
    """Who gets an injected fault is told whose it is."""
    rule = {**TO, "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}}
    hop = sidecar(explain(virtual_service(rule)))
    assert (hop["status"], hop["flags"], hop["reason"]) == (418, ["FI"], "fault: the rule aborts it")
    assert (hop["decided_by"]["name"], hop["decided_by"]["rule"]) == ("webserver", 0)


def test_timeouts(explain):
    """A timeout of all tries, and one of each, are told apart, with the seconds."""
    whole = sidecar(explain(virtual_service({**TO, "timeout": "0.2s"}), "/delay/1"))
    assert whole["reason"] == "timeout: the rule gives 0.2 s for all tries together"
    each = {**TO, "retries": {"attempts": 1, "perTryTimeout": "0.1s", "retryOn": "5xx"}}
    hop = sidecar(explain(virtual_service(each), "/delay/1"))
    assert hop["reason"] == "timeout: the rule gives each try 0.1 s (perTryTimeout), and the last one took longer"
    assert [each["reason"] for each in hop["tries"]] == ["timeout: it took longer than a try may"] * 2


def test_no_rule(explain):
    """Where no object says anything, Istio's default is told, and whose rules are for others."""
    hop = sidecar(explain("# nothing\n"))
    assert hop["rule"] is None
    assert hop["notes"] == ["no VirtualService or HTTPRoute is for webserver: any ready pod of it, by Istio's default"]
    others = virtual_service(TO).replace("- webserver", "- proxy", 1)
    assert "VirtualService/webserver is for calls to proxy, not to webserver" in sidecar(explain(others))["notes"]


def test_rules_for_other_callers(explain):
    """A rule for other callers alone stands among those before the one that matched, which says whom it is for."""
    others, own = {"sourceLabels": {"app": "batch"}}, {"sourceLabels": {"app": "proxy"}}
    missed = {"match": [{"uri": {"prefix": "/only"}}], **TO}
    hop = sidecar(explain(virtual_service(missed, {"match": [others], **TO}, {"match": [own], **TO})))
    because = "it is for callers with app=batch alone, and proxy-1 has app=proxy"
    expected = [(0, "path / does not begin with /only"), (1, because)]
    assert [(each["rule"]["rule"], each["because"]) for each in hop["passed_over"]] == expected
    assert (hop["rule"]["rule"], hop["matched"]) == (2, "the caller has app=proxy")
    hop = sidecar(explain(virtual_service(missed, {"match": [others], **TO})))
    assert [(each["rule"]["rule"], each["because"]) for each in hop["passed_over"]] == expected
    assert (hop["reason"], hop["notes"]) == ("no route: no rule of the policies fits the call", [])


def test_a_rule_behind_a_catch_all(explain):
    """A rule that no call can reach is told with why."""
    notes = sidecar(explain(virtual_service(TO, {"match": [{"uri": {"prefix": "/v2"}}], **TO}), "/v2"))["notes"]
    assert any(note.startswith("spec.http[1] is never reached: ") for note in notes)


def test_a_header_that_the_application_drops(explain):
    """What a proxy does not pass on is said where it is lost."""
    rule = {"match": [{"headers": {"x-canary": {"exact": "yes"}}}], **TO}
    answer = explain(virtual_service(rule, TO), x_canary="yes")
    assert answer["hops"][0]["notes"] == ["does not pass on x-canary"]
    assert sidecar(answer)["passed_over"][0]["because"] == "header x-canary is missing, not yes"


def test_a_header_that_the_route_changes(explain):
    """Of a header that the route has removed nothing is said: what is logged is not what the rules before it saw."""
    rule = {"match": [{"headers": {"end-user": {"exact": "tester"}}}], **TO}
    hop = sidecar(
        explain(virtual_service(rule, {**TO, "headers": {"request": {"remove": ["end-user"]}}}), end_user="bob")
    )
    assert (hop["rule"]["rule"], hop["matched"], hop["passed_over"]) == (1, None, [])


def test_secrets(explain):
    """The value of a header that carries a secret is never told."""
    rule = {"match": [{"headers": {"authorization": {"exact": "Bearer abc"}}}], **TO}
    answer = explain(virtual_service(rule, TO), origin="proxy", authorization="Bearer geheim")
    assert sidecar(answer)["rule"]["rule"] == 1
    assert "geheim" not in str(answer["hops"])


def test_a_host_that_nobody_knows(explain):
    """A call to a host outside the mesh passes through, by Istio's default."""
    hop = sidecar(explain("# nothing\n", origin="proxy", url="http://nobody.invalid/"))
    assert hop["reason"] == "no name server knows nobody.invalid"
    assert hop["notes"] == [
        "nobody.invalid is no host of the mesh: calls pass through (outboundTrafficPolicy ALLOW_ANY)"
    ]


def test_no_answer(explain):
    """A call without an answer says why there is none."""
    answer = explain("# nothing\n", origin="webserverv1", url="http://127.0.0.1:1/")
    assert (answer["answer"]["status"], answer["answer"]["error"]) == (None, "connection refused")


def test_a_log_that_is_late(explain, monkeypatch):
    """An answer that came through an Envoy is explained, however long that one takes to say what it did."""
    monkeypatch.setattr(explainer, "_COMPLETE_SECONDS", 0)
    for module in (explainer, call_maker):
        monkeypatch.setattr(module, "SETTLE_SECONDS", 0)
    answer = explain(K8S / "istio" / "header.yaml", end_user="tester")
    assert sidecar(answer)["destination"]["subset"] == "v2"


def test_a_call_that_was_seen(explain, running):
    """What somebody else called is explained by its x-request-id, as long as that is kept."""
    explain(K8S / "istio" / "header.yaml")
    get(running.port, "/seen", **{"x-request-id": "seen-1"})
    found = ask(running.lab.door.path, "GET", "/calls/seen-1")
    assert (found["request"]["url"], found["request"]["from"]) == ("http://webserver/seen", "proxy-1")
    assert sidecar(found)["rule"]["rule"] == 1
    with pytest.raises(LabSocketError, match="no Envoy here has logged a call with the x-request-id unknown"):
        ask(running.lab.door.path, "GET", "/calls/unknown")


def test_flags(explain, running):
    """With which flag an Envoy answered itself is told for many calls at once, and that an application did."""
    rules = [{"match": [{"uri": {"exact": f"/{name}"}}], **action} for name, action in (
        ("own", {"directResponse": {"status": 404}}),
        ("fault", {**TO, "fault": {"abort": {"httpStatus": 503, "percentage": {"value": 100}}}}),
        ("status/404", TO),
    )]  # fmt: skip
    explain(virtual_service(*rules))
    paths = {"1": "/own", "2": "/fault", "3": "/status/404"}
    for request_id, path in paths.items():
        get(running.port, path, **{"x-request-id": f"flags-{request_id}"})
    ids = [f"flags-{number}" for number in (1, 2, 3, 9)]
    expected = {"flags-1": "", "flags-2": "FI", "flags-3": None}
    assert ask(running.lab.door.path, "POST", "/flags", ids) == expected
    with pytest.raises(LabSocketError, match="a list of x-request-ids"):
        ask(running.lab.door.path, "POST", "/flags", {"a": 1})


def test_flags_of_a_call_that_is_not_logged_whole(running, monkeypatch):
    """Of a call nothing is told before all its Envoys have logged it: a later one may have answered."""
    monkeypatch.setattr(explainer, "_CERTAIN_SECONDS", 0.05)
    message = api("envoy.service.accesslog.v3.als_pb2").StreamAccessLogsMessage()
    entry = message.http_logs.log_entry.add()
    entry.request.request_id = "half"
    entry.response.response_code.value = 403
    entry.response.response_code_details = "via_upstream"
    running.lab.records.hear("proxy-1", message.SerializeToString())
    assert ask(running.lab.door.path, "POST", "/flags", ["half"]) == {}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "a call is an object with a url"),
        ({"url": "ftp://a/"}, "'ftp://a/' is not a URL"),
        ({"url": "http://a/ b"}, "is not a URL"),
        ({"url": "http://user@a/"}, "is not a URL"),
        ({"url": "http://a:x/"}, "is not a URL"),
        ({"url": "http://a/", "method": "GET /"}, "'GET /' is not a method"),
        ({"url": "http://a/", "headers": [["a", "b\r\nc: d"]]}, "is not a header"),
        ({"url": "http://a/", "headers": [["a"]]}, "is not a header"),
        ({"url": "http://a/", "body": 3}, "from and body are strings"),
        ({"url": "http://a/", "from": "nobody"}, "there is no pod or workload nobody, only proxy, webserverv1"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_call(running, body, reason):
    """What cannot be a call is refused in one line, and nothing is sent."""
    with pytest.raises(LabSocketError) as refused:
        ask(running.lab.door.path, "POST", "/call", body)
    assert reason in str(refused.value)
