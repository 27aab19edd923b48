"""What rules ask of calls, and the calls that meet that or do not."""

import shlex

import pytest
from proposing_support import policy, read_policies

from meshdemo.lessons.proposing.conditions import NoValueError, choose
from meshdemo.lessons.proposing.places import places_of
from meshdemo.lessons.proposing.proposals import command_of
from meshdemo.lessons.proposing.reading import delegate_of, find_root, rules_of


@pytest.fixture
def calls(tmp_path):
    """Return a function that gives the call that meets the first rule, and the one that misses its first condition."""

    def run(text):
        (manifest, *_), cluster = read_policies(tmp_path, text)
        conditions = rules_of(manifest)[0][0]
        place = places_of(manifest, cluster)[0]
        return [words(conditions, place, missed) for missed in (None, conditions[0])]

    def words(conditions, place, missed):
        try:
            command = command_of(next(choose(conditions, place, missed)))
        except NoValueError as problem:
            return str(problem)
        return shlex.join(command[2:]).replace("http://cart.shop", "").replace(" --from front.shop", "")

    return run


@pytest.mark.parametrize(
    ("match", "met", "not_met"),
    [
        ("{uri: {exact: /v2}}", "/v2", "/"),
        ("{uri: {prefix: /v2}}", "/v2", "/"),
        ("{uri: {prefix: /}}", "/", "every call to the Service cart.shop here meets uri: prefix /"),
        ("{uri: {regex: '/v2/.+'}}", "/v2/x", "/"),
        ("{uri: {regex: '/v2/(?!x)'}}", "no value is known for the regular expression /v2/(?!x)", "/"),
        ("{uri: {exact: '/a b%20c'}}", "/a%20b%20c", "/"),
        ("{method: {exact: POST}}", "/ -X POST", "/"),
        ("{method: {exact: GET}}", "/", "/ -X POST"),
        ("{authority: {exact: cart}}", "/ -H 'Host: cart'", "/"),
        ("{authority: {prefix: cart}}", "/", "/ -H 'Host: elsewhere.example'"),
        ("{headers: {End-User: {exact: it's}}}", "/ -H 'end-user: it'\"'\"'s'", "/"),
        ("{headers: {end-user: {}}}", "/ -H 'end-user: x'", "/"),
        ("{withoutHeaders: {end-user: {}}}", "/", "/ -H 'end-user: x'"),
        ("{withoutHeaders: {end-user: {exact: me}}}", "/", "/ -H 'end-user: me'"),
        ("{queryParams: {a: {exact: 'b c&d'}}}", "'/?a=b%20c%26d'", "/"),
        ("{sourceNamespace: pay}", "/ --from pay.pay", "/"),
        ("{sourceLabels: {app: pay}}", "/ --from pay.pay", "/"),
        (
            "{sourceLabels: {app: nobody}}",
            "no workload here that can call the Service cart.shop meets sourceLabels app: nobody",
            "/",
        ),
        ("{port: 80}", "/", "every call to the Service cart.shop here meets port: 80"),
        ("{port: 81}", "the Service cart.shop has no port for HTTP that meets port: 81", "/"),
        ("{gateways: [mesh]}", "/", "every call to the Service cart.shop here meets gateways: mesh"),
        ("{uri: {exact: /v2}, headers: {a: {exact: b}}}", "/v2 -H 'a: b'", "/ -H 'a: b'"),
        ("{scheme: {exact: https}, uri: {exact: /v2}}", "/v2", "/"),
    ],
)
def test_a_match_of_a_virtual_service(calls, match, met, not_met):
    """A call meets all conditions of a match, and another one all but the first."""
    text = policy("VirtualService", f"hosts: [cart]\nhttp: [{{match: [{match}], directResponse: {{status: 200}}}}]")
    assert calls(text) == [met, not_met]


@pytest.mark.parametrize(
    ("match", "met", "not_met"),
    [
        ("{path: {value: /v2}}", "/v2", "/"),
        ("{path: {type: Exact, value: /v2}, method: PUT}", "/v2 -X PUT", "/ -X PUT"),
        ("{headers: [{name: A, value: b}]}", "/ -H 'a: b'", "/"),
        ("{headers: [{type: RegularExpression, name: a, value: 'b+'}]}", "/ -H 'a: b'", "/"),
        ("{queryParams: [{name: C, value: d}]}", "'/?C=d'", "/"),
    ],
)
def test_a_match_of_a_route(calls, match, met, not_met):
    """The Gateway API's conditions are told by their types."""
    parent = "parentRefs: [{group: '', kind: Service, name: cart, port: 80}]"
    text = policy("HTTPRoute", f"{parent}\nrules: [{{matches: [{match}], backendRefs: [{{name: cart, port: 80}}]}}]")
    assert calls(text) == [met, not_met]


@pytest.mark.parametrize(
    ("rule", "met", "not_met"),
    [
        ("to: [{operation: {paths: ['/admin*'], methods: [DELETE]}}]", "/admin -X DELETE", "/ -X DELETE"),
        ("to: [{operation: {paths: ['*.php']}}]", "/.php", "/"),
        ("to: [{operation: {paths: ['/a/{*}/b/{**}']}}]", "/a/x/b/x", "/"),
        ("to: [{operation: {paths: ['/a/*/b']}}]", "'/a/*/b'", "/"),
        ("to: [{operation: {notPaths: ['/']}}]", "/neither-this", "/"),
        ("to: [{operation: {notMethods: [GET, POST]}}]", "/ -X PUT", "/"),
        ("to: [{operation: {hosts: ['a.example*']}}]", "/ -H 'Host: a.example'", "/"),
        (
            "to: [{operation: {ports: ['8080']}}]",
            "/",
            "every call to the Service cart.shop here meets ports: 8080",
        ),
        ("from: [{source: {namespaces: [pay]}}]", "/ --from pay.pay", "/"),
        ("from: [{source: {namespaces: ['p*']}}]", "/ --from pay.pay", "/"),
        ("from: [{source: {notNamespaces: [shop]}}]", "/ --from pay.pay", "/"),
        ("from: [{source: {principals: ['cluster.local/ns/pay/sa/pay']}}]", "/ --from pay.pay", "/"),
        ("from: [{source: {principals: ['*']}}]", "/", "/ --from batch.legacy"),
        ("from: [{source: {serviceAccounts: [front]}}]", "/", "/ --from pay.pay"),
        ("from: [{source: {serviceAccounts: [pay/pay]}}]", "/ --from pay.pay", "/"),
        ("when: [{key: 'request.headers[X-Role]', values: [guest]}]", "/ -H 'x-role: guest'", "/"),
        ("when: [{key: 'request.headers[x-role]', notValues: [guest]}]", "/", "/ -H 'x-role: guest'"),
        ("when: [{key: source.namespace, values: [pay]}]", "/ --from pay.pay", "/"),
        ("when: [{key: 'request.auth.claims[iss]', values: [me]}]", "/", "/"),
        (
            "from: [{source: {namespaces: [pay]}}]\nto: [{operation: {paths: [/a]}}]",
            "/a --from pay.pay",
            "/a",
        ),
    ],
)
def test_a_rule_of_an_authorization_policy(calls, rule, met, not_met):
    """Who calls is chosen as the sources say, and the rest as the operations and headers do."""
    rule = "".join(f"\n    {line}" for line in rule.splitlines()).strip()
    text = policy("AuthorizationPolicy", f"selector: {{matchLabels: {{app: cart}}}}\nrules:\n  - {rule}")
    assert calls(text) == [met, not_met]


def test_sources_and_operations(tmp_path):
    """Each source and each operation is in one of the alternatives."""
    rules = (
        "rules: [{from: [{source: {namespaces: [pay]}}], to: [{operation: {paths: [/a]}}, {operation: {paths: [/b]}}]}]"
    )
    (manifest,), _ = read_policies(tmp_path, policy("AuthorizationPolicy", rules))
    assert [[each.words for each in found] for found in rules_of(manifest)[0]] == [
        ["namespaces: pay", "paths: /a"],
        ["namespaces: pay", "paths: /b"],
    ]


def test_what_no_call_chooses(tmp_path):
    """Fields that are not known here are conditions of their own."""
    rules = "rules: [{from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}], when: [{key: source.ip, values: [10.0.0.1]}]}]"
    (manifest,), _ = read_policies(tmp_path, policy("AuthorizationPolicy", rules))
    assert [(each.part, each.words) for each in rules_of(manifest)[0][0]] == [
        ("other", "remoteIpBlocks"),
        ("other", "source.ip values: 10.0.0.1"),
    ]


def test_a_delegate(tmp_path):
    """A VirtualService without hosts is called as the one says that delegates to it."""
    root = "hosts: [a.example.com]\ngateways: [edge]\nhttp: [{match: [{uri: {prefix: /a}}], delegate: {name: child}}]"
    child = "http: [{match: [{method: {exact: PUT}}], directResponse: {status: 200}}]"
    text = policy("VirtualService", root, name="root") + policy("VirtualService", child, name="child")
    (first, second), cluster = read_policies(tmp_path, text)
    assert delegate_of(first, 0) == "child"
    assert delegate_of(second, 0) is None
    found, before = find_root(second, cluster.policies)
    assert found is not None
    assert found.name == "root"
    assert [each.words for each in before[0]] == ["uri: prefix /a"]
    assert find_root(first, cluster.policies) == (None, [[]])
