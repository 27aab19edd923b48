"""What somebody expects of one call."""

import pytest

from meshdemo.explaining.expectations import check_for_tcp, judge, parse_expectation

RULE = {"kind": "VirtualService", "name": "webserver", "rule": 1}
HOP = dict.fromkeys(("version", "rule", "decided_by", "destination", "identity", "direction"))
CALL = {
    "request": {"url": "http://webserver/"},
    "answer": {"status": 200, "result": 403, "version": "Webserver V2", "body": ""},
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
    answer = {"status": None, "result": None, "version": None, "body": ""}
    call = {"request": CALL["request"], "answer": answer, "hops": []}
    texts = ["status=none", "pod=*", "version=*", "rule=*", "decided-by=*", "tries=0", "subset=*", "identity=*"]
    assert [each.is_met for each in judge(list(map(parse_expectation, texts)), call)] == [True] + [False] * 7


@pytest.mark.parametrize(
    ("body", "met"),
    [
        ("mongo v1 on mongo-0\n", ["status=answered", "pod=mongo-*", "version=mongo v1"]),
        ("", ["status=none", "decided-by=AuthorizationPolicy/no-admin"]),
    ],
    ids=["answered", "closed"],
)
def test_tcp(body, met):
    """Where HTTP is not spoken a call is answered or not, and a pod that closed it has not answered it."""
    answer = {"status": None, "result": None, "version": "mongo v1" if body else None, "body": body}
    program = {**HOP, "kind": "application", "pod": "mongo-0", "tries": [], "version": "mongo v1"}
    hops = [program] if body else [{**CALL["hops"][-1], "pod": "mongo-0"}]
    call = {"request": {"url": "tcp://mongo:27017"}, "answer": answer, "hops": hops}
    texts = ["status=answered", "pod=mongo-*", "version=mongo v1", "status=none"]
    texts += ["decided-by=AuthorizationPolicy/no-admin"]
    expectations = list(map(parse_expectation, texts))
    check_for_tcp(expectations)
    assert [str(each.expectation) for each in judge(expectations, call) if each.is_met] == met


def test_nobody_answered():
    """A call that ended without an answer has no pod that answered, whoever was on its way."""
    answer = {"status": None, "result": None, "version": None, "body": ""}
    (found,) = judge([parse_expectation("pod=*")], {**CALL, "answer": answer})
    assert not found.is_met


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("status=200", "'status=200': the status of tcp:// is answered or none"),
        ("tries=1", "'tries=1': of tcp:// there is only status, pod, version, decided-by, subset, identity"),
        ("rule=*", r"'rule=\*': of tcp:// there is only"),
    ],
)
def test_what_no_tcp_call_can_meet(text, problem):
    """An expectation that cannot hold is refused, so that nobody takes it for a test."""
    with pytest.raises(ValueError, match=problem):
        check_for_tcp([parse_expectation(text)])
    check_for_tcp([parse_expectation("status=*")])


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
