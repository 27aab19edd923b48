"""What somebody expects of one call."""

import pytest

from meshdemo.explaining.expectations import judge, parse_expectation

RULE = {"kind": "VirtualService", "name": "webserver", "rule": 1}
HOP = dict.fromkeys(("version", "rule", "decided_by", "destination", "identity", "direction"))
CALL = {
    "answer": {"status": 200, "result": 403, "version": "Webserver V2"},
    "hops": [
        {**HOP, "kind": "application", "pod": "proxy-1", "tries": []},
        {
            **HOP,
            "kind": "sidecar",
            "direction": "outbound",
            "pod": "proxy-1",
            "tries": [1, 2],
            "rule": RULE,
            "destination": {"subset": "v2"},
        },
        {
            **HOP,
            "kind": "sidecar",
            "direction": "inbound",
            "pod": "webserverv2-1",
            "tries": [],
            "identity": "spiffe://a/b",
            "decided_by": {"kind": "AuthorizationPolicy", "name": "no-admin", "rule": 0},
        },
    ],
}


def verdict(text):
    (found,) = judge([parse_expectation(text)], CALL)
    return found


@pytest.mark.parametrize(
    "text",
    [
        "status=403",
        "status = 40*",
        "pod=webserverv2-*",
        "version=Webserver V2",
        "rule=VirtualService/webserver[1]",
        "rule=VirtualService/webserver",
        "decided-by=AuthorizationPolicy/no-admin[0]",
        "tries=2",
        "subset=v2",
        "identity=spiffe://*",
    ],
)
def test_what_is_met(text):
    """The value is that of the application or the mesh, and * stands for any characters."""
    assert verdict(text).is_met


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("status=200", ("403",)),
        ("pod=webserverv1-*", ("webserverv2-1",)),
        ("rule=VirtualService/webserver[0]", ("VirtualService/webserver[1]",)),
        ("tries=1", ("2",)),
        ("version=Webserver V", ("Webserver V2",)),
    ],
)
def test_what_is_not_met(text, seen):
    """What was seen instead is told."""
    assert not verdict(text).is_met
    assert verdict(text).seen == seen


def test_a_call_that_nobody_saw():
    """Where there is nothing, nothing is met, and no answer is a status of its own."""
    call = {"answer": {"status": None, "result": None, "version": None}, "hops": []}
    texts = ["status=none", "pod=*", "version=*", "rule=*", "decided-by=*", "tries=0", "subset=*", "identity=*"]
    assert [each.is_met for each in judge(list(map(parse_expectation, texts)), call)] == [True] + [False] * 7


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("status", "is not SUBJECT=VALUE, such as status=403"),
        ("=3", "is not SUBJECT=VALUE"),
        ("status=", "is not SUBJECT=VALUE"),
        ("stats=403", "'stats' is none of status, pod, .*, did you mean 'status'"),
        ("colour=red", "'colour' is none of status, pod, version, rule, decided-by, tries, subset, identity$"),
    ],
)
def test_what_is_no_expectation(text, problem):
    """The part that is wrong is named."""
    with pytest.raises(ValueError, match=problem):
        parse_expectation(text)
