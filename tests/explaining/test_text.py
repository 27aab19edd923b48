"""What `meshdemo call` and `watch --why` say of a call: the cause, in words, and in the width that there is."""

import click
import pytest

from meshdemo.console.terminal import ASCII_MARKS, Marks, width_of
from meshdemo.explaining.text import format_call, format_short


def rule(number=0, name="webserver", kind="VirtualService", line=9, match=None):
    return {
        "kind": kind, "namespace": "default", "name": name, "rule": number, "match": match, "file": "split.yaml",
        "line": line,
    }  # fmt: skip


def attempt(pod, status, reason=None, flags=(), milliseconds=1.04):
    return {"pod": pod, "status": status, "flags": list(flags), "milliseconds": milliseconds, "reason": reason}


def hop(kind="sidecar", direction="outbound", pod="proxy-1", status=200, **more):
    empty = dict.fromkeys(("reason", "rule", "matched", "destination", "retries", "timeout_seconds", "identity"))
    empty |= {"decided_by": None, "version": None}
    empty |= {name: [] for name in ("flags", "passed_over", "tries", "mirrors", "notes")}
    place = {"kind": kind, "direction": direction, "pod": pod, "namespace": "default"}
    return {**place, "status": status, "milliseconds": 0.61, **empty, **more}


def to(subset=None, weight=None, policy=None):
    of = 100 if weight else None
    return {
        "host": "webserver.default.svc.cluster.local",
        "port": 80,
        "subset": subset,
        "weight": weight,
        "of": of,
        "policy": policy,
    }


def call(*hops, status=200, url="http://webserver/v2", error=None):
    request = {"id": "1", "method": "GET", "url": url, "from": "proxy-1"}
    answer = {"status": 200, "result": status, "milliseconds": 4.12, "version": None, "error": error}
    return {"request": request, "answer": answer, "hops": list(hops)}


def plain(lines):
    return [click.unstyle(line) for line in lines]


RETRIES = {"attempts": 2, "on": ["5xx"], "is_default": False, "per_try_timeout_seconds": None}
OUTBOUND = hop(
    passed_over=[{"rule": rule(0), "because": "header end-user is missing, not tester"}],
    rule=rule(1, line=15),
    matched="path /v2 begins with /v2",
    destination=to("v2", 25, rule(None, kind="DestinationRule")),
    retries=RETRIES,
    tries=[attempt("webserverv2-3", 500), attempt("webserverv2-1", 200)],
)
INBOUND = hop(
    direction="inbound", pod="webserverv2-1", identity="spiffe://cluster.local/ns/default/sa/proxy",
    decided_by=rule(1, kind="AuthorizationPolicy"),
)  # fmt: skip
APPLICATION = hop("application", None, "webserverv2-1", version="Webserver V2")


def test_call():
    """Each hop is told with its rule, those before it, where it went, each try, the identity and who let it in."""
    assert plain(format_call(call(OUTBOUND, INBOUND, APPLICATION), 80, Marks())) == [
        "GET http://webserver/v2 from proxy-1" + " " * 31 + "200 in 4.1 ms",
        "proxy-1, sidecar, outbound",
        "  ✗ VirtualService/webserver[0]  split.yaml:9",
        "      header end-user is missing, not tester",
        "  ✓ VirtualService/webserver[1]  split.yaml:15",
        "      path /v2 begins with /v2",
        "    to webserver:80, subset v2 (25 of 100), DestinationRule/webserver",
        "    retries: up to 2 on 5xx",
        "    try 1  webserverv2-3  500 in 1.0 ms",
        "    try 2  webserverv2-1  200 in 1.0 ms",
        "webserverv2-1, sidecar, inbound",
        "    mutual TLS, the caller is spiffe://cluster.local/ns/default/sa/proxy",
        "  ✓ AuthorizationPolicy/webserver[1] allows it (split.yaml:9)",
        "webserverv2-1, application",
        "    Webserver V2, 200 in 0.6 ms",
    ]


def test_wide():
    """Where there is room, the reason stands behind each rule."""
    lines = plain(format_call(call(OUTBOUND), 100, Marks()))
    assert "  ✗ VirtualService/webserver[0]  split.yaml:9   header end-user is missing, not tester" in lines
    assert "  ✓ VirtualService/webserver[1]  split.yaml:15  path /v2 begins with /v2" in lines


DEFAULT = {
    "attempts": 2,
    "on": ["connect-failure", "refused-stream"],
    "is_default": True,
    "per_try_timeout_seconds": 0.1,
}


@pytest.mark.parametrize(
    ("explained", "words"),
    [
        (hop(destination=to("v3")), "    to webserver:80, subset v3"),
        (hop(status=503, flags=["NC"], reason="no cluster: a"), "  ✗ 503: no cluster: a (NC)"),
        (hop(status=None, reason="the caller has gone"), "  ✗ no answer: the caller has gone"),
        (hop(status=301, reason="the rule redirects it to /v1"), "    the rule redirects it to /v1"),
        (hop(retries=DEFAULT, tries=[attempt("a-1", 500)]), "refused-stream, each try 0.1 s at most, Istio's default"),
        (
            hop(tries=[attempt(None, None, "the pod was not reached", ["UF"], 2101.0)]),
            "    try 1  no pod  no answer in 2.10 s: the pod was not reached (UF)",
        ),
        (
            hop(direction="inbound", status=403, reason="denied", decided_by=rule(kind="AuthorizationPolicy")),
            "  ✗ 403: denied (split.yaml:9)",
        ),
        (hop(direction="inbound", decided_by=rule(None, kind="EnvoyFilter")), "EnvoyFilter/webserver lets it pass"),
        (
            hop(mirrors=[{"host": "a", "port": 80, "subset": None, "pod": "a-1", "status": 200, "milliseconds": 2}]),
            "a copy to a-1: 200 in 2.0 ms, which nobody sees",
        ),
        (hop(timeout_seconds=0.5), "timeout: 0.5 s for all tries together"),
        (hop(notes=["port 80 of webserver is TCP"]), "    port 80 of webserver is TCP"),
        (
            hop(passed_over=[{"rule": rule(match=each), "because": "path is /"} for each in (0, 1)]),
            "✗ VirtualService/webserver[0].match[1]  split.yaml:9  path is /",
        ),
        (
            hop(passed_over=[{"rule": rule(), "because": "path is /"}] * 2),
            "✗ VirtualService/webserver[0]  split.yaml:9  path is /",
        ),
    ],
)  # fmt: skip
def test_words(explained, words):
    """Words say the cause, not the flag alone."""
    assert words in " ".join(" ".join(plain(format_call(call(explained), 200, Marks()))).split("\n")), explained


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_width(width):
    """No line is wider than the terminal, however long a name is; what is cut goes on in the next line."""
    name = "a-very-long-name-" * 6
    long = hop(
        pod=name, passed_over=[{"rule": rule(0, name), "because": f"header {name} is missing, not '漢字' * 40"}],
        rule=rule(1, name), destination=to(name, 1), tries=[attempt(name, 503, name)],
        mirrors=[{"host": name, "port": 80, "subset": None, "pod": None, "status": 200, "milliseconds": 2}],
        notes=[name],
    )  # fmt: skip
    found = call(long, {**INBOUND, "identity": name}, APPLICATION, url=f"http://{name}/", error=name)
    for lines in (format_call(found, width, Marks()), format_short(found, width, Marks())):
        assert max(width_of(line) for line in plain(lines)) <= width
        assert name in "".join(line.strip() for line in plain(lines)).replace(" ", "")


def test_marks():
    """A terminal that has no check marks gets letters; what somebody else said moves no cursor."""
    lines = plain(format_call(call(hop(rule=rule(), notes=["\x1b[2J"])), 80, ASCII_MARKS))
    assert "  v VirtualService/webserver[0]  split.yaml:9" in lines
    assert "    \\x1b[2J" in lines
    assert all(line.isascii() for line in lines)


def test_no_hops():
    """A call that no Envoy saw says so, with the error."""
    lines = plain(format_call(call(status=None, error="connection refused"), 80, Marks()))
    assert lines[0].endswith("no answer in 4.1 ms")
    assert lines[1:] == ["    connection refused", "no Envoy saw the call"]


def test_short():
    """The short form has a line for each hop at which something was decided."""
    denied = hop(
        direction="inbound",
        pod="webserverv2-1",
        reason="denied by rule 0",
        decided_by=rule(kind="AuthorizationPolicy"),
    )
    lines = plain(format_short(call(OUTBOUND, denied, APPLICATION), 400, Marks()))
    assert lines == [
        "  proxy-1: VirtualService/webserver[1] split.yaml:15 (path /v2 begins with /v2)",
        "    not VirtualService/webserver[0] split.yaml:9 (header end-user is missing, not tester)",
        "    to webserver:80, subset v2 (25 of 100), DestinationRule/webserver",
        "    2 tries: webserverv2-3 500, webserverv2-1 200",
        "  webserverv2-1: denied by rule 0 (split.yaml:9)",
    ]
    missed = hop(passed_over=[{"rule": rule(), "because": "path is /, not /a"}], status=404, reason="no route: a")
    assert plain(format_short(call(missed), 400, Marks())) == [
        "  proxy-1: not VirtualService/webserver[0] split.yaml:9 (path is /, not /a)",
        "    no route: a",
    ]
    assert format_short(call(APPLICATION), 80, Marks()) == ["  no Envoy decided anything"]


@pytest.mark.parametrize(("body", "error", "right"), [("a on b\n", None, "answered"), ("", "refused", "no answer")])
def test_where_http_is_not_spoken(body, error, right):
    """Where HTTP is not spoken, whatever is said is the answer."""
    call = {
        "request": {"id": "x", "method": "CONNECT", "url": "tcp://a:1", "from": "web-1"},
        "answer": {"status": None, "result": None, "milliseconds": 2.0, "error": error, "body": body},
        "hops": [],
    }
    first, second = (click.unstyle(line) for line in format_call(call, 79, ASCII_MARKS))
    assert first.startswith("CONNECT tcp://a:1 from web-1 ")
    assert f" {right} in 2" in first
    assert second.strip() == (error or body.strip())


def test_tcp():
    """Of a call without HTTP it is said whether it was answered, and what was said."""
    program = hop(kind="application", direction=None, pod="mongo-0", status=None, version="mongo v1")
    made = call(program, status=None, url="tcp://mongo:27017")
    made["answer"]["body"] = "mongo v1 on mongo-0\n"
    lines = plain(format_call(made, 80, Marks()))
    assert lines[0].endswith("answered in 4.1 ms")
    assert lines[1:] == ["    mongo v1 on mongo-0", "mongo-0, application", "    mongo v1, answered in 0.6 ms"]
    made["answer"]["body"] = ""
    (line,) = plain(format_call({**made, "hops": []}, 80, Marks()))
    assert line.endswith("no answer in 4.1 ms")
