"""What is told of changes, and of the pods that are replaced for them."""

from types import SimpleNamespace

import pytest

from meshdemo.lab import telling
from meshdemo.lab.telling import Telling


@pytest.fixture
def told(monkeypatch):
    """Return a Telling, the lines without their time, and a state that has changes of two objects after another."""
    lines = []
    changes = [
        SimpleNamespace(label="Deployment/a", text="Deployment/a changed", moves_pods=True, object="a"),
        SimpleNamespace(label="VirtualService/b", text="VirtualService/b added", moves_pods=False, object="b"),
    ]
    monkeypatch.setattr(telling.summary, "changes", lambda _former, new: changes if new else [])
    monkeypatch.setattr(telling.summary, "without_force", lambda cluster, _configuration: cluster)
    state = SimpleNamespace(files=SimpleNamespace(manifests=("some",)), cluster={}, configuration=None)
    return Telling(lambda line: lines.append(line[9:])), lines, state


def test_what_an_edit_did(told):
    """A policy is in force at once, what moves pods rolls out, and that is told once when it is complete."""
    teller, lines, state = told
    assert teller.tell_changes(state, state, [], rolls=True) == ("Deployment/a", "VirtualService/b")
    assert lines == ["Deployment/a changed, rolling out", "VirtualService/b added, in force"]
    assert teller.is_rolling
    teller.look(is_settled=True)
    teller.look(is_settled=True)
    assert lines[2:] == ["rolled out: Deployment/a"]
    assert not teller.is_rolling


def test_an_edit_without_effect(told):
    """A policy that is not in force is never told to be, but why it is not."""
    teller, lines, state = told
    state.cluster["b"] = "there is no Gateway shop/public"
    teller.tell_changes(state, state, [], rolls=False)
    assert lines[1] == "VirtualService/b added, not in force, since there is no Gateway shop/public"


def test_pods_that_are_long_in_coming(told, monkeypatch):
    """That is told once."""
    teller, lines, state = told
    monkeypatch.setattr(telling, "_SLOW_SECONDS", 0)
    teller.tell_changes(state, state, [], rolls=True)
    teller.look(is_settled=False)
    teller.look(is_settled=False)
    assert lines[2:] == ["still rolling out: Deployment/a; the old pods serve until new ones are ready"]


def test_nothing_to_tell(told):
    """An edit without an effect is told, and an Envoy that does not answer is named."""
    teller, lines, state = told
    empty = SimpleNamespace(files=SimpleNamespace(manifests=()), cluster={}, configuration=None)
    assert teller.tell_changes(state, empty, [], rolls=False) == ()
    teller.tell_changes(empty, state, ["proxy-1"], rolls=False)
    assert lines[0] == "no effective change"
    assert lines[1] == "Deployment/a changed, in force but for proxy-1, whose Envoy does not answer"
