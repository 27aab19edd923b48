"""What is evaluated of routes is what a real Envoy does, in both engines."""

import pytest
import routes
from istiod import istiod
from records import load_objects

from meshdemo.lab.xray.facts.naming import RuleBook
from meshdemo.lab.xray.matching.evaluation import Evaluation


def outcomes(engine, count):
    results = list(routes.judge(engine, 7, count))
    assert [result for result in results if result.outcome == routes.DIFFERENT] == []
    assert any(result.evaluation and result.evaluation.passed_over for result in results)
    return [result.outcome for result in results]


def test_few():
    """A few random requests end where the evaluation says that they do."""
    assert outcomes("quick", 20).count(routes.SAME) == 20


@pytest.mark.thorough
def test_hundred():
    """So do a hundred, and of nearly all there is something to say."""
    assert outcomes("quick", 100).count(routes.SAME) >= 99


@pytest.mark.thorough
def test_hundred_with_istiod(built_istiod):
    """So do a hundred that Istio's own control plane configures."""
    assert outcomes("istiod", 100).count(routes.SAME) >= 99


@pytest.mark.parametrize(
    ("evaluation", "outcome", "code"),
    [
        (None, routes.SILENT, 0),
        (Evaluation("host", 0, ()), routes.SAME, 0),
        (Evaluation("host", 1, ("a",)), routes.DIFFERENT, 1),
        (Evaluation("host", None, ("a",)), routes.DIFFERENT, 1),
        (Evaluation("other", 0, ()), routes.DIFFERENT, 1),
    ],
)
def test_command(evaluation, outcome, code, monkeypatch, capsys):
    """The command counts, shows what differs, and exits with 1 when anything does."""
    case = routes.Case([], {}, {}, routes.Request("GET", "webserver", "/"), "a")
    monkeypatch.setattr(routes, "judge", lambda *arguments: [routes.Result(case, ("host", 0), evaluation)])
    monkeypatch.setattr("sys.argv", ["routes.py", "--engine", "quick"])
    assert routes.main() == code
    printed = capsys.readouterr().out
    assert f"1 {outcome}" in printed
    assert ("evaluated Evaluation" in printed) == bool(code)


REGEX = "RegularExpression"
METHODS = [
    {"method": {"service": "a.B", "method": "C"}},
    {"method": {"service": "a.B"}},
    {"method": {"method": "D"}},
    {"method": {"type": REGEX, "service": "x.*"}},
    {"method": {"type": REGEX, "service": "x.*", "method": "m"}},
    {"headers": [{"name": "Foo", "value": "1"}]},
    {"method": {"service": "q"}, "headers": [{"name": "foo", "type": REGEX, "value": "a.*"}]},
]
PATHS = [
    {"path": {"value": "/v2/"}},
    {"path": {"type": "Exact", "value": "/x/"}},
    {"path": {"type": REGEX, "value": "/r[0-9]+"}},
    {"headers": [{"name": "A", "value": "1"}, {"name": "b", "type": REGEX, "value": ".*"}]},
    {"queryParams": [{"name": "q", "value": "1"}, {"name": "p", "type": REGEX, "value": "z+"}], "method": "POST"},
    {"method": "GET", "path": {"value": "/v2"}},
]


@pytest.mark.thorough
@pytest.mark.usefixtures("built_istiod")
@pytest.mark.parametrize(("kind", "matches"), [("GRPCRoute", METHODS), ("HTTPRoute", PATHS)])
def test_which_match_of_the_gateway_api(kind, matches):
    """Each route that Istio makes of a rule with several matches is known to come from one of them, and all occur."""
    rule = {"matches": matches, "backendRefs": [{"name": "webserver", "port": 80}]}
    parent = {"group": "", "kind": "Service", "name": "webserver", "port": 80}
    spec = {"parentRefs": [parent], "rules": [rule]}
    version = "gateway.networking.k8s.io/v1"
    cluster = load_objects([{"apiVersion": version, "kind": kind, "metadata": {"name": "r"}, "spec": spec}])
    book = RuleBook(cluster.policies, {})
    found = [
        book.find(route["name"], match=route["match"]).match
        for configuration in istiod(cluster).resources["proxy-1"].routes
        for host in configuration["virtual_hosts"]
        for route in host.get("routes", [])
        if route["name"] == "default.r.0"
    ]
    assert set(found) == {*range(len(matches))}
