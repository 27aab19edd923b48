"""HTTPRoutes, read into the same rules, each with one match, and put in the order of the Gateway API."""

import pytest
from quick_support import http_route

from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.quick.reading.gateways import Listener
from meshdemo.lab.quick.reading.http_route import merge, read_http_route
from meshdemo.lab.quick.rules.hosts import intersection
from meshdemo.lab.quick.rules.model import (
    Cors,
    HeaderChanges,
    Redirect,
    Retry,
    Rewrite,
    Share,
    StringMatch,
)

SERVICES = {f"{name}.default.svc.cluster.local": [80] for name in ("webserver", "webserverv1")}
V1 = {"name": "webserverv1", "port": 80}
V2 = {"name": "webserverv2", "port": 80}


def rules(*written, listeners=(), **more):
    """Return the rules of one route for its first parent, in order."""
    attachments, _ = read_http_route(http_route(*written, **more), listeners, SERVICES)
    return merge(attachments)[0].rules


def path(value, kind="PathPrefix"):
    return {"path": {"type": kind, "value": value}}


def test_order():
    """Exact paths come before prefixes and these before expressions, the longer first; then methods and headers."""
    matches = [
        path("/a+", "RegularExpression"),
        path("/"),
        {"headers": [{"name": "a", "value": "1"}]},
        {"method": "GET"},
        path("/long/"),
        path("/x", "Exact"),
    ]
    found = [rule.matches[0] for rule in rules({"matches": matches, "backendRefs": [V1]})]
    assert [match.path for match in found] == [
        StringMatch("exact", "/x"),
        StringMatch("segments", "/long"),
        StringMatch("prefix", "/"),
        StringMatch("prefix", "/"),
        StringMatch("prefix", "/"),
        StringMatch("regex", "/a+"),
    ]
    assert [bool(match.method) for match in found[2:5]] == [True, False, False]
    assert [len(match.headers) for match in found[2:5]] == [0, 1, 0]


def test_routes_of_one_host_are_one():
    """Rules of several routes for one host are put in one order, that of the route's name where they are equal."""
    attached = []
    for name, matches, backend in (("z", [path("/b")], V1), ("a", [path("/bb"), path("/b")], V2)):
        route = http_route({"matches": matches, "backendRefs": [backend]}, name=name)
        attached += read_http_route(route, (), SERVICES)[0]
    (merged,) = merge(attached)
    assert [(rule.name, rule.matches[0].path.value) for rule in merged.rules] == [
        ("default.a.0", "/bb"),
        ("default.a.0", "/b"),
        ("default.z.0", "/b"),
    ]
    assert merged.hosts == ("webserver.default.svc.cluster.local",)
    assert merged.of_gateway_api


def test_ports_of_the_parent():
    """A parent with a port is for calls of that port, one without for all."""
    parents = [{"group": "", "kind": "Service", "name": "webserver"}]
    assert rules({"backendRefs": [V1]}, parents=parents)[0].matches[0].port == 0
    assert rules({"backendRefs": [V1]})[0].matches[0].port == 80


def test_weights():
    """Backends share by weight, those of 0 get nothing, a lone one needs none, and without any the answer is 500."""
    (rule,) = rules({"backendRefs": [{**V1, "weight": 3}, V2, {**V1, "weight": 0}]})
    assert [target.weight for target in rule.targets] == [3, 1]
    assert [target.weight for target in rules({"backendRefs": [{**V1, "weight": 7}]})[0].targets] == [0]
    for written in ({}, {"backendRefs": [{**V1, "weight": 0}]}):
        assert rules(written)[0].response.status == 500


FILTERS = {
    "changed headers": (
        {
            "type": "RequestHeaderModifier",
            "requestHeaderModifier": {
                "set": [{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "2"}, {"name": "Host", "value": "h"}],
                "remove": ["b"],
            },
        },
        lambda rule: rule.headers.request == HeaderChanges({"x-a": "1"}, removed=("b",), authority="h"),
    ),
    "a prefix that is removed": (
        {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}},
        lambda rule: rule.rewrite == Rewrite(pattern=r"^/a\.b(/?)(.*)", substitution=r"/\2"),
    ),
    "a prefix that is replaced": (
        {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x/"}}},
        lambda rule: rule.rewrite == Rewrite("/x"),
    ),
    "a path that is replaced": (
        {
            "type": "URLRewrite",
            "urlRewrite": {"hostname": "h", "path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}},
        },
        lambda rule: rule.rewrite == Rewrite(pattern="/.*", substitution="/x", authority="h"),
    ),
    "a mirror of a third": (
        {"type": "RequestMirror", "requestMirror": {"backendRef": V2, "fraction": {"numerator": 1, "denominator": 3}}},
        lambda rule: rule.mirrors[0].share == Share(100 / 3),
    ),
    "other origins": (
        {"type": "CORS", "cors": {"allowOrigins": ["https://*.a.com", "http://b.com"], "allowCredentials": True}},
        lambda rule: (
            rule.cors
            == Cors(
                (StringMatch("regex", r"^https://.*\.a\.com$"), StringMatch("exact", "http://b.com")),
                max_age_seconds=5,
                credentials=True,
                forward_unmatched=False,
            )
        ),
    ),
}


@pytest.mark.parametrize(("written", "holds"), FILTERS.values(), ids=FILTERS)
def test_filters(written, holds):
    """A filter becomes what a VirtualService would say."""
    (rule,) = rules({"matches": [path("/a.b")], "filters": [written], "backendRefs": [V1]})
    assert holds(rule), rule


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"scheme": "https"}, Redirect(302, scheme="https")),
        ({"hostname": "h"}, Redirect(302, authority="h", same_port=True)),
        ({"port": 8443, "statusCode": 301}, Redirect(301, port=8443)),
        (
            {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}},
            Redirect(302, path="/x", same_port=True),
        ),
    ],
)
def test_redirects(written, expected):
    """A redirect keeps the port that was called unless it says a port or a scheme."""
    item = {"type": "RequestRedirect", "requestRedirect": written}
    assert rules({"filters": [item]})[0].redirect == expected


CONDITIONS = ("connect-failure", "refused-stream", "unavailable", "cancelled")
TIMES = {
    "the whole call": ({"timeouts": {"request": "2s"}}, 2, None),
    "the backend bounds the whole call": ({"timeouts": {"request": "2s", "backendRequest": "1s"}}, 1, None),
    "each try": (
        {"timeouts": {"request": "2s", "backendRequest": "1s"}, "retry": {"codes": [503]}},
        2,
        Retry(2, CONDITIONS, (503,), 1),
    ),
    "no timeout": ({"timeouts": {"request": "0s"}}, None, None),
    "retries": ({"retry": {"attempts": 5, "backoff": "10ms"}}, None, Retry(5, CONDITIONS, (), None, 0.01)),
}


@pytest.mark.parametrize(("written", "seconds", "retry"), TIMES.values(), ids=TIMES)
def test_times(written, seconds, retry):
    """Without retries `backendRequest` bounds the whole call, with them each try."""
    (rule,) = rules({**written, "backendRefs": [V1]})
    assert (rule.timeout_seconds, rule.retry) == (seconds, retry)


LISTENERS = [
    Listener("g", "any", 80, "*", True),
    Listener("g", "wild", 80, "*.a.com", True),
    Listener("g", "exact", 80, "x.a.com", True),
    Listener("g", "other", 8080, "*", True),
    Listener("g", "tcp", 81, "*", False),
]
PARENTS = {
    "the closest listener of a port": (
        {"port": 80},
        ["x.a.com", "y.a.com", "b.com"],
        ["any b.com", "wild y.a.com", "exact x.a.com"],
    ),
    "a section": ({"sectionName": "other"}, ["b.com"], ["other b.com"]),
    "a listener for other kinds": ({"port": 81}, ["b.com"], []),
    "a section that is not there": ({"sectionName": "none"}, ["b.com"], []),
}


@pytest.mark.parametrize(("parent", "hostnames", "expected"), PARENTS.values(), ids=PARENTS)
def test_listeners(parent, hostnames, expected):
    """A route is attached to listeners that take it, each hostname to the closest one, and else it is said."""
    route = http_route({"backendRefs": [V1]}, parents=[{"name": "g", **parent}], hostnames=hostnames)
    attachments, advice = read_http_route(route, LISTENERS, SERVICES)
    found = []
    for rule_set in (each.rules for each in attachments):
        (listener,) = (each for each in LISTENERS if each.internal_name == rule_set.gateways[0])
        found += [f"{listener.name} {host}" for host in intersection([listener.hostname], rule_set.hosts)]
    assert sorted(found) == sorted(expected)
    assert bool(advice) is not bool(expected)


REFUSED = {
    "a misspelt field": ({"rules": [{"backendRef": [V1]}]}, "did you mean backendRefs"),
    "a Service that is not there": (
        {"parentRefs": [{"group": "", "kind": "Service", "name": "nowhere"}]},
        "no Service has the name 'nowhere', only ",
    ),
    "a Gateway that is not there": (
        {"parentRefs": [{"name": "nowhere"}]},
        "no Gateway of .* has the name 'nowhere', only g",
    ),
    "the same parent twice": (
        {"parentRefs": [{"group": "", "kind": "Service", "name": "webserver", "port": 80}] * 2},
        "is the parent of this route already",
    ),
    "a parent of another kind": (
        {"parentRefs": [{"group": "a.com", "kind": "Foo", "name": "x"}]},
        "'Foo' of 'a.com' is not supported",
    ),
    "a path without a slash": ({"rules": [{"matches": [path("x")]}]}, "'x' is not a path"),
    "a path with dots": ({"rules": [{"matches": [path("/a/../b")]}]}, "has an empty part"),
    "a filter without its field": ({"rules": [{"filters": [{"type": "URLRewrite"}]}]}, "urlRewrite: is missing"),
    "a filter of others": ({"rules": [{"filters": [{"type": "ExtensionRef"}]}]}, "ExtensionRef is not supported"),
    "a filter twice": (
        {"rules": [{"filters": [{"type": "URLRewrite", "urlRewrite": {}}] * 2}]},
        "has the same type twice",
    ),
    "a redirect with backends": (
        {"rules": [{"backendRefs": [V1], "filters": [{"type": "RequestRedirect", "requestRedirect": {}}]}]},
        "RequestRedirect cannot be combined with backendRefs",
    ),
    "a prefix that nothing was matched by": (
        {
            "rules": [
                {
                    "matches": [path("/x", "Exact")],
                    "filters": [
                        {
                            "type": "URLRewrite",
                            "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}},
                        }
                    ],
                }
            ]
        },
        "ReplacePrefixMatch, which goes with exactly one match",
    ),
    "a try that takes longer than the call": (
        {"rules": [{"timeouts": {"request": "1s", "backendRequest": "2s"}}]},
        "is longer than request",
    ),
    "a backend without a port": (
        {"rules": [{"backendRefs": [{"name": "webserver"}]}]},
        r"backendRefs\[0\].port: is missing",
    ),
    "a name twice": ({"rules": [{"name": "a"}, {"name": "a"}]}, "rules: has the same name twice"),
    "a header twice": (
        {"rules": [{"matches": [{"headers": [{"name": "a", "value": "1"}] * 2}]}]},
        "has the same name twice",
    ),
}


@pytest.mark.parametrize(("fields", "problem"), REFUSED.values(), ids=REFUSED)
def test_refused(fields, problem):
    """What the Gateway API refuses, and what is not exact here, is refused with its place."""
    route = http_route({"backendRefs": [V1]})
    route.document["spec"] |= fields
    with pytest.raises(ManifestError, match=problem) as error:
        read_http_route(route, LISTENERS, SERVICES)
    assert str(error.value).startswith("policy.yaml: HTTPRoute/r: spec")


def test_a_port_that_a_parent_lacks():
    """A route for a port that its Service does not have is for no call, and this is said."""
    route = http_route(
        {"backendRefs": [V1]}, parents=[{"group": "", "kind": "Service", "name": "webserver", "port": 81}]
    )
    attachments, (advice,) = read_http_route(route, LISTENERS, SERVICES)
    assert attachments == []
    assert advice.endswith("spec.parentRefs[0].port: not in force: webserver has no port 81, only 80")


def test_a_route_without_parents():
    """A route that names no parent is taken, is for no call, and this is said."""
    attachments, (advice,) = read_http_route(http_route({"backendRefs": [V1]}, parents=()), LISTENERS, SERVICES)
    assert attachments == []
    assert advice.endswith("spec.parentRefs: not in force: it names neither a Service nor a Gateway")
