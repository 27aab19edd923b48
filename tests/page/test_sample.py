"""What the live page shows of one answer."""

import json

import pytest
from samples import ENVOY

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
    guesses = Guesses(lambda ids: dict.fromkeys(ids, flag))
    guesses.add(guess(text, status), 0.0)
    (found,) = guesses.settle(guesses.due)
    assert (found["reason"], found["failed"], found["guessed"]) == (reason, failed, False)
    assert not guesses


def test_a_guess_that_stays_one():
    """A sample waits a second for what is logged of its call, and not at all for a lab that has ended."""
    known = {}
    guesses = Guesses(lambda ids: None if known is None else {each: known[each] for each in ids if each in known})
    guesses.add(guess(request_id="1"), 0.0)
    guesses.add(guess(request_id="2"), 0.5)
    assert guesses.settle(0.6) == []
    known["2"] = "NR"
    (settled,) = guesses.settle(0.7)
    assert (settled["reason"], settled["held_milliseconds"]) == ("no route (NR)", 200)
    assert [each["reason"] for each in guesses.settle(1.1)] == ["probably no route (NR)"]
    guesses.add(guess(), 2.0)
    known = None
    assert [each["reason"] for each in guesses.settle(2.1)] == ["probably no route (NR)"]
