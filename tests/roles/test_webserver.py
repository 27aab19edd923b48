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


@pytest.mark.parametrize("path", ["/", "/failsometimes/", "/FAILSOMETIMES", "/x/failsometimes", "/%66ailsometimes"])
def test_other_paths_neither_fail_nor_wait(call_app, path):
    """Only the two paths, written just so, draw a number."""

    def draw():
        raise AssertionError("a number was drawn")

    assert call_app(create(draw=draw), path).status == 200
