"""What is evaluated of routes is what a real Envoy does, in both engines."""

import pytest
import routes

from meshdemo.lab.xray.evaluation import Evaluation


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
