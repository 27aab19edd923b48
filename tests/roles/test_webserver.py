"""The web server role."""

import itertools
import random
import socket

import pytest

from meshdemo.roles import webserver
from meshdemo.roles.webserver import Faults


def create(faults=webserver.DEFAULT_FAULTS, **random):
    return webserver.create_app(content="Webserver V1", hostname="pod-1", faults=faults, **random)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_answer(call_app, method):
    """Every path and method gets one sentence, which ends with a line break, with status 200."""
    response = call_app(create(), "/some/where?query=1", method=method, body=b"ignored")
    assert response.body == b"Webserver V1 requested from /some/where on pod-1 with code 200\n"
    assert response.status == 200


def test_defaults(call_app):
    """Without options the content is Hello world and the host name the machine's."""
    response = call_app(webserver.create_app())
    assert response.text == f"Hello world requested from / on {socket.gethostname()} with code 200"


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/a%2fb%20c", "/a%2fb%20c"),
        ("//double", "//double"),
        ("/../x", "/../x"),
        ("*", "*"),
        ("/\xc3\xa9", "/é"),
        ("/\xff", "/\ufffd"),
    ],
)
def test_path_is_shown_as_sent(call_app, target, shown):
    """Percent-encoding stays as it is; raw bytes are read as UTF-8."""
    assert call_app(create(), target).text == f"Webserver V1 requested from {shown} on pod-1 with code 200"


def test_json(call_app):
    """A request that accepts JSON gets the same facts, and the headers that arrived."""
    response = call_app(create(), "/x", headers={"Accept": "application/json", "X-Forwarded-Client-Cert": "By=a"})
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "content": "Webserver V1",
        "path": "/x",
        "hostname": "pod-1",
        "status": 200,
        "headers": {"Accept": "application/json", "X-Forwarded-Client-Cert": "By=a"},
    }


def test_failsometimes_draws_for_each_request(call_app):
    """The path fails when the number drawn is below the ratio, and its body says so."""
    draws = iter([0.24, 0.25, 0.1, 0.9])
    app = create(Faults(fail_ratio=0.25), draw=lambda: next(draws))
    responses = [call_app(app, "/failsometimes?x") for _ in range(4)]
    assert [response.status for response in responses] == [500, 200, 500, 200]
    assert responses[0].text == "Webserver V1 requested from /failsometimes on pod-1 with code 500"


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, {200}), (1.0, {500})])
def test_a_ratio_of_none_or_all_has_no_exception(call_app, ratio, expected):
    """Ratio 0 never fails and ratio 1 always does."""
    app = create(Faults(fail_ratio=ratio))
    assert {call_app(app, "/failsometimes").status for _ in range(200)} == expected


def test_a_third_fails_by_default(call_app):
    """Of 3,000 calls 1,000 fail, give or take 129: five standard deviations."""
    app = create(draw=random.Random(3).random)
    failures = sum(call_app(app, "/failsometimes").status == 500 for _ in range(3000))
    assert abs(failures - 1000) <= 129


def test_outcomes_do_not_follow_a_pattern(call_app):
    """With ratio one half both outcomes follow both outcomes, which a counter would not do."""
    app = create(Faults(fail_ratio=0.5))
    statuses = [call_app(app, "/failsometimes").status for _ in range(200)]
    assert len(set(itertools.pairwise(statuses))) == 4


def test_slowsometimes_waits_and_then_answers_as_usual(call_app):
    """The path waits for the delay when the number drawn is below the ratio; it never fails."""
    draws, waits = iter([0.1, 0.9]), []
    app = create(Faults(1, 0.5, 2.5), draw=lambda: next(draws), sleep=waits.append)
    texts = [call_app(app, "/slowsometimes").text for _ in range(2)]
    assert waits == [2.5]
    assert texts == ["Webserver V1 requested from /slowsometimes on pod-1 with code 200"] * 2


def test_fail_status(call_app):
    """The status of a failure is chosen, and the body says it."""
    response = call_app(create(Faults(fail_ratio=1, fail_status=503)), "/failsometimes")
    assert response.status == 503
    assert response.text == "Webserver V1 requested from /failsometimes on pod-1 with code 503"


BODILESS = {204, 205, 304}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_any_status(call_app, method):
    """/status/503 answers 503, and so for each from 200 to 599, with the body that it allows (RFC 9110, 15)."""
    for status in range(200, 600):
        response = call_app(create(), f"/status/{status}?x", method=method)
        text = f"Webserver V1 requested from /status/{status} on pod-1 with code {status}"
        assert response.status == status
        assert response.text == ("" if status in BODILESS or method == "HEAD" else text)
        length = None if status in (204, 304) else "0" if status == 205 else str(len(text) + 1)
        assert response.headers.get("content-length") == length


@pytest.mark.parametrize(
    "text", ["", "0", "99", "101", "199", "600", "999", "2000", "20", "abc", "+200", "2\xb20", "%32%30%30"]
)
def test_a_status_that_no_answer_may_have(call_app, text):
    """Of what is no final status the answer is 400."""
    response = call_app(create(), f"/status/{text}")
    assert response.status == 400
    assert response.text.endswith(" on pod-1 with code 400")


@pytest.mark.parametrize(
    ("text", "seconds"), [("1.5", 1.5), ("2", 2), ("0.001", 0.001), ("99.999", 99.999), ("0", None), ("00.0", None)]
)
def test_delay(call_app, text, seconds):
    """/delay/1.5 waits so long and then answers as usual."""
    waits = []
    response = call_app(create(sleep=waits.append), f"/delay/{text}")
    assert waits == ([] if seconds is None else [seconds])
    assert (response.status, response.text.endswith(" with code 200")) == (200, True)


@pytest.mark.parametrize("text", ["", "100", "1e1", "-1", "nan", "inf", "1.", ".5", "1.2345", "1_0", "soon"])
def test_a_delay_that_is_none(call_app, text):
    """What is no number of seconds below 100 is answered 400 at once."""
    waits = []
    assert call_app(create(sleep=waits.append), f"/delay/{text}").status == 400
    assert waits == []


@pytest.mark.parametrize("path", ["/status", "/delay", "/status/503/x", "/x/status/503", "//status/503", "/STATUS/503"])
def test_paths_that_only_look_like_it(call_app, path):
    """Only the two forms ask for something."""
    assert call_app(create(sleep=None), path).status == 200


@pytest.mark.parametrize("path", ["/", "/failsometimes/", "/FAILSOMETIMES", "/x/failsometimes", "/%66ailsometimes"])
def test_other_paths_neither_fail_nor_wait(call_app, path):
    """Only the two paths, written just so, draw a number."""

    def draw():
        raise AssertionError("a number was drawn")

    assert call_app(create(draw=draw), path).status == 200
