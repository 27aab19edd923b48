"""Calls that are proposed for the rules of policies: named by what was seen of them."""

import textwrap

import pytest
from click.testing import CliRunner
from proposing_support import policy, read_policies

from meshdemo.cli import main
from meshdemo.errors import StartError
from meshdemo.lessons.files.comment import parse_commands
from meshdemo.lessons.proposing.proposals import Proposal, propose

ANSWER = "directResponse: {status: 200}"
RULES = f"hosts: [cart]\nhttp: [{{match: [{{uri: {{exact: /a}}}}], {ANSWER}}}, {{{ANSWER}}}]"


def rule(number, name="it"):
    return {"kind": "VirtualService", "namespace": "shop", "name": name, "rule": number}


def seen(met, result=200):
    hop = {"kind": "sidecar", "direction": "outbound", "pod": "front-1.shop", "passed_over": [], "reason": None}
    hops = [{**hop, "status": result, "rule": met, "destination": None, "decided_by": None}]
    return {"answer": {"result": result, "error": None}, "hops": hops}


@pytest.fixture
def lines(tmp_path):
    """Return a function that proposes calls for a policy; `make` says what is seen of a URL."""

    def run(text, make):
        manifests, cluster = read_policies(tmp_path, text)
        return list(propose(manifests, cluster.policies, cluster, lambda command: make(command[2])))

    return run


def test_what_was_seen(lines):
    """A call is named met or not met as it was seen, with what it is expected to be."""
    found = lines(policy("VirtualService", RULES), lambda url: seen(rule(0 if url.endswith("/a") else 1)))
    ends = " \\\n#     --expect "
    assert [each.split(ends) for each in found] == [
        [
            f"# VirtualService/it[{number}]: {verdict}\n#   meshdemo call http://cart.shop{path} --from front.shop",
            *expected,
        ]
        for number, verdict, path, expected in (
            (0, "met", "/a", ["status=200", "'rule=VirtualService/it[0]'"]),
            (0, "not met", "/", ["status=200", "'rule=VirtualService/it[1]'"]),
            (1, "met", "/", ["status=200", "'rule=VirtualService/it[1]'"]),
        )
    ]


def test_what_was_not_seen(lines):
    """A rule that no call was seen to meet is named, with what the first call met instead; the others go on."""
    found = lines(policy("VirtualService", RULES), lambda url: seen(rule(1)))
    assert found[0] == (
        "# VirtualService/it[0]: no call is proposed that meets it: "
        "call http://cart.shop/a --from front.shop met VirtualService/it[1] instead (200)."
    )
    assert [each.split("\n")[0] for each in found[1:]] == [
        "# VirtualService/it[0]: not met",
        "# VirtualService/it[1]: met",
    ]


def test_a_call_that_is_not_made(lines):
    """Its reason is said of its rule, and the others go on."""

    def make(url):
        if url.endswith("/a"):
            raise StartError("the lab says no.")
        return seen(rule(1))

    found = lines(policy("VirtualService", RULES), make)
    assert found[0] == "# VirtualService/it[0]: no call is proposed that meets it: the lab says no."
    assert len(found) == 3


def test_what_is_not_chosen(lines):
    """A condition that no call here can choose is named with what came of the call without it."""
    text = policy("VirtualService", f"hosts: [cart]\nhttp: [{{match: [{{scheme: {{exact: https}}}}], {ANSWER}}}]")
    found = lines(text, lambda url: seen(None, 404))
    assert found[0] == (
        "# VirtualService/it[0]: no call is proposed that meets it: no call here chooses scheme, and "
        "call http://cart.shop/ --from front.shop was answered by no rule that is named (404)."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (policy("VirtualService", "hosts: [cart]\ntcp: []"), "VirtualService/it: it has no rule for HTTP, so no call"),
        (policy("AuthorizationPolicy", "action: DENY"), "AuthorizationPolicy/it: it has no rule for HTTP, so no call"),
        (
            policy("AuthorizationPolicy", "action: AUDIT\nselector: {matchLabels: {app: cart}}\nrules: [{}]"),
            "AuthorizationPolicy/it[0]: no call is proposed: AUDIT neither allows nor denies what meets it",
        ),
        (
            policy("VirtualService", "hosts: [cart]\nhttp: [{delegate: {name: child}}]"),
            "VirtualService/it[0]: no call is proposed: it delegates to VirtualService/child.",
        ),
        (
            policy("PeerAuthentication", "mtls: {mode: STRICT}"),
            "no VirtualService, HTTPRoute or AuthorizationPolicy is",
        ),
    ],
)
def test_policies_without_calls(lines, text, sentence):
    """They are named with the reason, and nothing is called."""
    (found,) = lines(text, None)
    assert found.startswith(f"# {sentence}")


def test_what_is_drawn_at_random(lines):
    """The status is not expected of a rule that aborts some of its calls."""
    fault = "fault: {abort: {httpStatus: 555, percentage: {value: 50}}}, route: [{destination: {host: cart}}]"
    (found,) = lines(policy("VirtualService", f"hosts: [cart]\nhttp: [{{{fault}}}]"), lambda url: seen(rule(0), 555))
    assert "--expect 'rule=VirtualService/it[0]'" in found
    assert "status" not in found


def test_a_long_command_is_read_as_it_was_written():
    """It goes on over several lines of the comment, which are read as one command."""
    command = ("meshdemo", "call", "http://webserver/" + "a" * 40, "--from", "proxy", "-H", "end-user: it's")
    text = str(Proposal("x", command, ("status=200", "rule=VirtualService/webserver[0]")))
    assert text.count("\n") == 3
    (found,) = parse_commands([line.removeprefix("#").removeprefix(" ") for line in text.splitlines()])
    assert found.pipeline[0][:-4] == command
    assert found.pipeline[0][-4:] == ("--expect", "status=200", "--expect", "rule=VirtualService/webserver[0]")


@pytest.mark.thorough
def test_what_is_written_holds(tmp_path):
    """The calls that are proposed, before the policy, are a test that passes; a file with a mistake ends nothing."""
    (tmp_path / "a.yaml").write_text("kind: [\n")
    path = tmp_path / "policy.yaml"
    match = "match: [{uri: {prefix: /a}}, {headers: {end-user: {exact: it's}}}]"
    teapot = "fault: {abort: {httpStatus: 418, percentage: {value: 100}}}, route: [{destination: {host: webserver}}]"
    rules = f"hosts: [webserver]\nhttp: [{{{match}, {teapot}}}, {{route: [{{destination: {{host: webserver}}}}]}}]"
    path.write_text(policy("VirtualService", rules, namespace="default"))
    words = ["check", str(tmp_path / "a.yaml"), str(path), "--write"]
    written = CliRunner().invoke(main, words, catch_exceptions=False)
    assert written.exit_code == 1, written.output
    assert "# it is not applied: " in written.stdout, written.output
    assert [line for line in written.stdout.splitlines() if ": met" in line or ": not met" in line] == [
        "# VirtualService/it[0]: met",
        "# VirtualService/it[0]: met",
        "# VirtualService/it[0]: not met",
        "# VirtualService/it[1]: met",
    ]
    own = written.stdout[written.stdout.index(f"# {path}") :]
    path.write_text(textwrap.dedent(own) + path.read_text())
    checked = CliRunner().invoke(main, ["check", str(path)], catch_exceptions=False)
    assert checked.exit_code == 0, checked.output
    assert checked.output.count("\u2713") == 10
