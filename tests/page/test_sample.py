"""What the live page shows of one answer."""

import json
import math
import queue

import pytest
from samples import ENVOY
from support import wait_until

from meshdemo.page.sample import Guesses, make_sample


def sample(value=None, status=200, error=None, milliseconds=3.5, **others):
    return make_sample({"value": value, "status": status, "error": error, "milliseconds": milliseconds, **others})


def test_an_answer_of_the_application():
    """Version, pod and path come from the answer, the try and the caller's identity from what a mesh added."""
    headers = {
        "X-Envoy-Attempt-Count": "2",
        "X-Forwarded-Client-Cert": 'By=spiffe://b;Hash=0;Subject="";URI=spiffe://cluster.local/ns/default/sa/proxy',
    }
    value = {"content": "V1", "hostname": "pod-1", "path": "/x", "status": 200, "headers": headers}
    assert sample(value) == {
        "version": "V1",
        "pod": "pod-1",
        "path": "/x",
        "status": 200,
        "failed": False,
        "milliseconds": 3.5,
        "attempt": 2,
        "caller": "spiffe://cluster.local/ns/default/sa/proxy",
        "text": None,
        "reason": None,
        "explanation": None,
        "guessed": False,
    }
    assert sample({**value, "headers": "none"}, status=500)["failed"]
    assert sample({**value, "headers": {"x-envoy-attempt-count": "-1"}})["attempt"] is None


@pytest.mark.parametrize(
    ("status", "text", "reason", "failed"),
    [
        (
            503,
            "upstream connect error or disconnect/reset before headers. reset reason: overflow",
            "overflow (UO)",
            True,
        ),
        (403, "RBAC: access denied", "denied (RBAC)", True),
        (404, "", "probably no route (NR)", True),
        (500, "broken\n by us", "500 broken by us", True),
        (418, "go away", "418 go away", True),
        (200, "Hello", None, False),
        (301, "", None, False),
    ],
)
def test_an_answer_that_no_application_signed(status, text, reason, failed):
    """A refusal or failure has the mesh's reason, an unknown one its status and text; any other answer is one."""
    found = sample(text, status, headers=ENVOY)
    assert (found["version"], found["status"], found["reason"], found["failed"]) == (None, status, reason, failed)


@pytest.mark.parametrize(("status", "text"), [(404, ""), (403, "RBAC: access denied"), (400, "what?")])
def test_an_answer_where_no_envoy_was(status, text):
    """What another server answers has no reason of a mesh, and below 500 it is no failure."""
    found = sample(text, status, headers={"Server": "nginx"})
    assert (found["text"], found["reason"], found["failed"]) == (text, None, False)


def test_no_answer():
    """The reason stands without the address, which the text has."""
    found = sample(None, None, "connection refused calling http://webserver/", code="connection refused")
    assert (found["reason"], found["status"], found["failed"]) == ("connection refused", None, True)
    assert found["text"] == "connection refused calling http://webserver/"


def test_several_proxies_in_a_row():
    """What the last proxy got is what counts, and the first one's time."""
    value = {"content": "V1", "hostname": "pod", "path": "/", "status": 500}
    inner = {"value": value, "status": 500, "error": None, "milliseconds": 1}
    assert sample({"value": inner, "status": 200, "error": None, "milliseconds": 2})["version"] == "V1"
    assert sample(inner)["failed"]
    assert sample({"value": None, "status": None, "error": "timed out", "milliseconds": 1})["reason"] == "timed out"
    odd = {"value": None, "status": None, "error": None, "milliseconds": 1}
    assert sample(odd)["text"] == json.dumps(odd)


@pytest.mark.parametrize(
    "value", [None, 1, [], {}, {"content": 1}, "x" * 5000, {"content": "a\nb" * 999, "hostname": [], "status": {}}]
)
def test_whatever_is_answered_is_a_short_line(value):
    """An answer of any form gives one line of at most some hundred characters for each text."""
    found = sample(value)
    assert all(len(text) <= 201 and "\n" not in text for text in found.values() if isinstance(text, str))


def at_once(work):
    work()


def guess(text="", status=404, request_id="1"):
    found = sample(text, status, headers=ENVOY | ({"X-Envoy-Upstream-Service-Time": "1"} if text else {}))
    assert found["guessed"]
    assert found["reason"].startswith("probably ")
    return {**found, "id": request_id}


@pytest.mark.parametrize(
    ("text", "status", "flag", "reason", "failed"),
    [
        pytest.param("", 404, "NR", "no route (NR)", True, id="as guessed"),
        pytest.param("", 503, "UH", "no healthy pod (UH)", True, id="another reason"),
        pytest.param("", 404, "", "404", True, id="a direct response of a policy"),
        pytest.param("", 404, None, None, False, id="an application's own"),
        pytest.param("RBAC: access denied", 403, None, None, False, id="an application that says so"),
        pytest.param("RBAC: access denied", 403, "RBAC", "denied (RBAC)", True, id="a sidecar that says so"),
        pytest.param("no healthy upstream", 503, None, "503 no healthy upstream", True, id="an application's 503"),
    ],
)
def test_a_guess_is_put_right(text, status, flag, reason, failed):
    """What an Envoy has logged takes the place of what the text says; an application's own 4xx is no failure."""
    guesses = Guesses(lambda ids: dict.fromkeys(ids, flag), at_once)
    guesses.add(guess(text, status), 0.0)
    (found,) = guesses.settle(guesses.due)
    assert (found["reason"], found["failed"], found["guessed"]) == (reason, failed, False)
    assert not guesses


def test_a_guess_that_stays_one():
    """A sample waits a second for what is logged of its call."""
    known = {}
    guesses = Guesses(lambda ids: {each: known[each] for each in ids if each in known}, at_once)
    guesses.add(guess(request_id="1"), 0.0)
    guesses.add(guess(request_id="2"), 0.5)
    assert guesses.settle(0.6) == []
    known["2"] = "NR"
    (settled,) = guesses.settle(0.7)
    assert (settled["reason"], settled["held_milliseconds"]) == ("no route (NR)", 200)
    assert [each["reason"] for each in guesses.settle(1.1)] == ["probably no route (NR)"]
    assert guesses.due == math.inf


def test_too_many_threads():
    """Where no thread can be started the question is put again."""
    failures = [RuntimeError("can't start new thread")]

    def start(work):
        if failures:
            raise failures.pop()
        work()

    guesses = Guesses(lambda ids: dict.fromkeys(ids, "NR"), start)
    guesses.add(guess(), 0.0)
    assert guesses.settle(0.1) == []
    assert len(guesses.settle(0.2)) == 1


def test_whoever_is_asked_holds_nobody_up():
    """An answer that is long in coming holds up neither the calls nor other guesses, and is asked for once."""
    asked, told = queue.SimpleQueue(), queue.SimpleQueue()

    def ask(ids):
        asked.put(ids)
        return told.get(timeout=20)

    guesses = Guesses(ask)
    guesses.add(guess(request_id="1"), 0.0)
    assert guesses.settle(0.1) == guesses.settle(0.2) == []
    assert asked.get(timeout=20) == ["1"]
    assert asked.empty()
    assert len(guesses.settle(1.1)) == 1
    guesses.add(guess(request_id="2"), 1.1)
    told.put({"1": "NR"})
    wait_until(lambda: not guesses.settle(1.2) and not asked.empty(), "the next question")
    assert asked.get(timeout=20) == ["2"]
    told.put({"2": None})
    (settled,) = wait_until(lambda: guesses.settle(1.3), "the answer")
    assert settled["failed"] is False
