"""The comparison tells what came of a policy, whoever is right."""

import compare
import pytest

from meshdemo.lab import quick
from meshdemo.lab.engine import Configuration, Resources
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.quick.rules.refusing import RefusalError

ROUTE = {"destination": {"host": "webserver"}}
POLICY = [
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "webserver"},
        "spec": {"hosts": ["webserver"], "http": [{"route": [ROUTE]}]},
    }
]


def refuse(problem, error=ManifestError):
    def configure(*arguments):
        raise error("policy.yaml: VirtualService/webserver: spec.http[0]", problem)

    return configure


def fail(*arguments):
    raise KeyError("a defect")


def other(*arguments):
    return Configuration({"proxy-1": Resources()})


@pytest.fixture
def istiod(monkeypatch):
    """Let Istio make what the quick engine makes, unless a test says otherwise."""
    configure = quick.configure
    monkeypatch.setattr(compare, "istiod", configure)


@pytest.mark.parametrize(
    ("engines", "outcome", "line"),
    [
        ({}, compare.SAME, None),
        ({"istiod": other}, compare.DIFFERENT, "proxy-1 / listeners / 80: nothing in Istio"),
        ({"istiod": refuse("no")}, compare.DIFFERENT, "taken here, though policy.yaml"),
        (
            {"istiod": refuse("ended with status 2: panic: why")},
            compare.INVALID,
            "policy.yaml: VirtualService/webserver",
        ),
        ({"quick": refuse("no", RefusalError)}, compare.REFUSED, "VirtualService/webserver: spec.http[0]"),
        ({"quick": refuse("no")}, compare.DIFFERENT, "refused as if Istio did: policy.yaml"),
        ({"quick": refuse("no"), "istiod": refuse("no")}, compare.INVALID, "policy.yaml: VirtualService/webserver"),
        ({"quick": fail}, compare.DIFFERENT, "the quick engine fails"),
    ],
)
def test_outcome(engines, outcome, line, istiod, monkeypatch):
    """The same is the same; a refusal has to name its hint; Istio's panic is its own; all else is a difference."""
    if "istiod" in engines:
        monkeypatch.setattr(compare, "istiod", engines["istiod"])
    if "quick" in engines:
        monkeypatch.setattr(quick, "configure", engines["quick"])
    found, lines = compare.compare(POLICY)
    assert found == outcome
    assert line is None or lines[0].startswith(line)


@pytest.mark.parametrize(("engine", "code", "summary"), [(None, 0, "0 different"), (other, 1, "2 different")])
def test_command(engine, code, summary, istiod, monkeypatch, capsys):
    """The command exits with 1 when anything differs, shows the policy, and counts."""
    if engine:
        monkeypatch.setattr(compare, "istiod", engine)
    monkeypatch.setattr(compare, "Generator", lambda seed: type("One", (), {"policy": lambda self: POLICY})())
    monkeypatch.setattr("sys.argv", ["compare.py", "--count", "2", "--seed", "7"])
    assert compare.main() == code
    printed = capsys.readouterr().out
    assert summary in printed.splitlines()[-1]
    assert ("# --seed 7 --only 1: different" in printed) == bool(code)
