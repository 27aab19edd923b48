"""Calls that are proposed for the rules of policies."""

import textwrap

import pytest
from click.testing import CliRunner
from lab_support import EXAMPLE

from meshdemo.cli import main
from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.files.manifests import Loader
from meshdemo.lessons import proposing
from meshdemo.lessons.files.comment import parse_commands

HEAD = "apiVersion: {}\nkind: {}\nmetadata:\n  name: it\nspec:\n"
VIRTUAL_SERVICE = HEAD.format("networking.istio.io/v1", "VirtualService") + "  hosts: [webserver]\n"
ROUTE = "      route: [{destination: {host: webserver}}]\n"
HTTP_ROUTE = HEAD.format("gateway.networking.k8s.io/v1", "HTTPRoute") + (
    "  parentRefs: [{group: '', kind: Service, name: webserver, port: 80}]\n"
)
AUTHORIZATION = HEAD.format("security.istio.io/v1", "AuthorizationPolicy") + "  action: DENY\n"


@pytest.fixture
def propose(tmp_path):
    """Return a function that proposes calls for a policy on top of the example, as words or as sentences."""

    def run(text):
        path = tmp_path / "policy.yaml"
        path.write_text(text)
        manifests, _ = Loader([EXAMPLE, path]).load()
        found = proposing.propose([each for each in manifests if each.path == path], read_cluster(manifests))
        return [
            each if isinstance(each, str) else (each.title, " ".join(each.command[2:]).replace(" --from proxy", ""))
            for each in found
        ]

    return run


@pytest.mark.parametrize(
    ("match", "met", "not_met"),
    [
        ("{uri: {exact: /v2}}", "http://webserver/v2", "http://webserver/neither-this"),
        ("{uri: {prefix: /v2}}", "http://webserver/v2", "http://webserver/neither-this"),
        ("{uri: {regex: '/v[.]?2.*'}}", None, "http://webserver/neither-this"),
        ("{uri: {regex: '/v2/.*'}}", "http://webserver/v2/x", "http://webserver/neither-this"),
        ("{method: {exact: POST}}", "http://webserver/ -X POST", "http://webserver/"),
        ("{method: {exact: GET}}", "http://webserver/", "http://webserver/ -X POST"),
        ("{headers: {end-user: {exact: me}}}", "http://webserver/ -H end-user: me", "http://webserver/"),
        ("{headers: {end-user: {}}}", "http://webserver/ -H end-user: x", "http://webserver/"),
        ("{withoutHeaders: {end-user: {}}}", "http://webserver/", "http://webserver/ -H end-user: x"),
        ("{queryParams: {a: {exact: b}}}", "http://webserver/?a=b", "http://webserver/"),
        (
            "{uri: {exact: /v2}, headers: {a: {exact: b}}}",
            "http://webserver/v2 -H a: b",
            "http://webserver/neither-this -H a: b",
        ),
    ],
)
def test_rules_of_a_virtual_service(propose, match, met, not_met):
    """A call meets all conditions of a match, and another one all but the first."""
    first, second = propose(f"{VIRTUAL_SERVICE}  http:\n    - match: [{match}]\n{ROUTE}")
    if met is None:
        assert first == "VirtualService/it[0]: no call is proposed for the regular expression /v[.]?2.*."
    else:
        assert first == ("VirtualService/it[0]: met", met)
    assert second == ("VirtualService/it[0]: not met", not_met)


def test_a_rule_that_takes_all(propose):
    """There is no call that does not meet it."""
    assert propose(f"{VIRTUAL_SERVICE}  http:\n    -\n{ROUTE}") == [("VirtualService/it[0]: met", "http://webserver/")]


def test_a_host_that_is_not_here(propose):
    """That nothing calls it is said."""
    text = f"{VIRTUAL_SERVICE}  http:\n    -\n{ROUTE}".replace("[webserver]", "[elsewhere.example]")
    assert propose(text) == ["VirtualService/it: nothing here calls elsewhere.example."]


def test_rules_of_a_route(propose):
    """The Gateway API's conditions are told by their types."""
    matches = (
        "[{path: {value: /v2}, method: PUT}, {headers: [{name: a, value: b}]}, {queryParams: [{name: c, value: d}]}]"
    )
    backend = "      backendRefs: [{name: webserverv2, port: 80}]\n"
    assert propose(f"{HTTP_ROUTE}  rules:\n    - matches: {matches}\n{backend}") == [
        ("HTTPRoute/it[0]: met", "http://webserver/v2 -X PUT"),
        ("HTTPRoute/it[0]: met", "http://webserver/ -H a: b"),
        ("HTTPRoute/it[0]: met", "http://webserver/?c=d"),
        ("HTTPRoute/it[0]: not met", "http://webserver/neither-this -X PUT"),
    ]


def test_rules_of_an_authorization_policy(propose):
    """Paths and methods of operations make calls to a Service whose pods the policy selects."""
    rules = "  rules: [{to: [{operation: {paths: ['/admin*'], methods: [DELETE]}}]}]\n"
    selector = "  selector: {matchLabels: {app: webserver}}\n"
    assert propose(AUTHORIZATION + selector + rules) == [
        ("AuthorizationPolicy/it[0]: met", "http://webserver/adminx -X DELETE"),
        ("AuthorizationPolicy/it[0]: not met", "http://webserver/neither-this -X DELETE"),
    ]


def test_what_is_expected():
    """What was seen is expected, but for what is drawn at random."""
    rule = {"kind": "VirtualService", "name": "a", "rule": 1}
    hop = {"direction": "outbound", "rule": rule, "decided_by": None}
    call = {"answer": {"result": 200}, "hops": [{**hop, "destination": {"subset": "v2", "weight": None, "of": None}}]}
    assert proposing.expectations(call) == ["status=200", "rule=VirtualService/a[1]", "subset=v2"]
    call["hops"][0]["destination"].update(weight=25, of=100)
    assert proposing.expectations(call) == ["status=200", "rule=VirtualService/a[1]"]
    denied = {"direction": "inbound", "rule": None, "decided_by": {**rule, "kind": "AuthorizationPolicy"}}
    assert proposing.expectations({"answer": {"result": None}, "hops": [denied]}) == [
        "status=none",
        "decided-by=AuthorizationPolicy/a[1]",
    ]


def test_a_long_command_is_read_as_it_was_written():
    """It goes on over several lines of the comment, which are read as one command."""
    proposal = proposing.Proposal("x", "proxy", "http://webserver/" + "a" * 40, "GET", (("end-user", "it's"),))
    text = proposing.format_command(proposal, ["status=200", "rule=VirtualService/webserver[0]"])
    assert text.count("\n") == 2
    (command,) = parse_commands([line.removeprefix("#").removeprefix(" ") for line in text.splitlines()])
    assert list(command.pipeline[0][:-4]) == proposal.command
    assert command.pipeline[0][-4:] == ("--expect", "status=200", "--expect", "rule=VirtualService/webserver[0]")


@pytest.mark.thorough
def test_what_is_written_holds(tmp_path):
    """The calls that are proposed, put before the policy, are a test that passes."""
    policy = tmp_path / "policy.yaml"
    http = f"""\
  http:
    - match: [{{uri: {{prefix: /a}}}}, {{headers: {{end-user: {{exact: it's}}}}}}]
      fault: {{abort: {{httpStatus: 418, percentage: {{value: 100}}}}}}
{ROUTE}    -
{ROUTE}"""
    policy.write_text(VIRTUAL_SERVICE + http)
    written = CliRunner().invoke(main, ["check", str(policy), "--write"], catch_exceptions=False)
    assert written.exit_code == 0, written.output
    policy.write_text(textwrap.dedent(written.stdout) + policy.read_text())
    checked = CliRunner().invoke(main, ["check", str(policy)], catch_exceptions=False)
    assert checked.exit_code == 0, checked.output
    assert checked.output.count("\u2713") == 10
