"""Policies in words: with their values, whatever stands in them, and what an edit has changed."""

import copy

import pytest
from lab_support import K8S, manifest
from records import read_records
from support import documents

from meshdemo.lab.words.differences import describe_change
from meshdemo.lab.words.wording import describe


def virtual_service(*rules):
    return _policy("networking.istio.io/v1", "VirtualService", {"hosts": ["webserver"], "http": list(rules)})


def http_route(rule):
    return _policy("gateway.networking.k8s.io/v1", "HTTPRoute", {"rules": [rule]})


def _policy(version, kind, spec):
    return manifest({"apiVersion": version, "kind": kind, "metadata": {"name": "webserver"}, "spec": spec})


def to(host, **more):
    return {"route": [{"destination": {"host": host}}], **more}


def words(policy):
    return "; ".join(map(str, describe(policy)))


MATCHES = {
    "a header": ({"headers": {"end-user": {"exact": "tester"}}}, "end-user=tester"),
    "the beginning of a path and a method": (
        {"uri": {"prefix": "/a"}, "method": {"exact": "GET"}},
        "path /a* and method=GET",
    ),
    "a pattern": ({"uri": {"regex": "/a.*"}}, "path ~/a.*"),
    "a header that is there": ({"headers": {"x": {}}}, "x"),
    "no header": ({"withoutHeaders": {"x": {"prefix": "a"}}}, "not x=a*"),
    "a parameter and a port": ({"queryParams": {"q": {"exact": "1"}}, "port": 80}, "?q=1 and port 80"),
    "a caller": (
        {"sourceLabels": {"app": "proxy"}, "sourceNamespace": "shop", "gateways": ["mesh"]},
        "from app=proxy and from namespace shop and at mesh",
    ),
    "gateways beside a path": ({"gateways": ["mesh"], "uri": {"prefix": "/"}}, "path /* and at mesh"),
}


@pytest.mark.parametrize(("match", "condition"), MATCHES.values(), ids=MATCHES)
def test_conditions(match, condition):
    """A match is told with its values; a match of every call makes the others needless."""
    assert words(virtual_service(to("v1", match=[match]))) == f"if {condition}: v1"
    assert words(virtual_service(to("v1", match=[match, {}]))) == "v1"


ACTIONS = {
    "retries": (
        to("a", retries={"attempts": 2, "retryOn": "5xx", "perTryTimeout": "0.3s"}),
        "a, retries 2 on 5xx, 0.3 s each",
    ),
    "no retries": (to("a", retries={"attempts": 0}), "a, no retries"),
    "a delay": (to("a", fault={"delay": {"fixedDelay": "2s", "percentage": {"value": 0.5}}}), "a, delay 0.5 % by 2 s"),
    "an abort of nothing": (to("a", fault={"abort": {"httpStatus": 503}}), "a, abort 0 % with 503"),
    "a mirror": (to("a", mirror={"host": "b"}, mirrorPercentage={"value": 5}), "a, 5 % mirrored to b"),
    "mirrors": (to("a", mirrors=[{"destination": {"host": "b", "subset": "v2"}}]), "a, 100 % mirrored to v2"),
    "a redirect": ({"redirect": {"authority": "b", "uri": "/c", "scheme": "https"}}, "redirect 301 to https://b/c"),
    "a redirect to a port": ({"redirect": {"port": 81, "redirectCode": 302}}, "redirect 302 to :81"),
    "an answer": ({"directResponse": {"status": 503}}, "answered with 503"),
    "a delegate": ({"delegate": {"name": "reviews"}}, "delegated to reviews"),
    "a rewritten path": (to("a", rewrite={"uri": "/b", "authority": "c"}), "a, path becomes /b, host becomes c"),
    "a path rewritten by a pattern": (
        to("a", rewrite={"uriRegexRewrite": {"match": "/b(.*)", "rewrite": "/c"}}),
        "a, path /b(.*) becomes /c",
    ),
    "headers": (
        to("a", headers={"request": {"set": {"x": "1"}, "add": {"z": "2"}}, "response": {"remove": ["y"]}}),
        "a, set request header x=1, add request header z=2, remove response header y",
    ),
    "weights that are all 0": (
        {"route": [{"destination": {"host": "a"}, "weight": 0}, {"destination": {"host": "b"}}]},
        "a",
    ),
}


@pytest.mark.parametrize(("rule", "expected"), ACTIONS.values(), ids=ACTIONS)
def test_actions(rule, expected):
    """What a rule does is told with its values."""
    assert words(virtual_service(rule)) == expected


def test_the_gateway_api():
    """A rule of an HTTPRoute is told like one of a VirtualService."""
    rule = {
        "matches": [{"path": {"value": "/v2"}, "headers": [{"name": "x", "value": "1"}], "method": "GET"}],
        "filters": [{"type": "RequestMirror", "requestMirror": {"percent": 20, "backendRef": {"name": "c"}}}],
        "timeouts": {"request": "2s", "backendRequest": "500ms"},
        "retry": {"attempts": 3, "codes": [500, 503]},
        "backendRefs": [{"name": "a", "weight": 9}, {"name": "b"}],
    }
    assert words(http_route(rule)) == (
        "if path /v2 and below and method GET and x=1: 90 % a, 10 % b, 20 % mirrored to c, timeout 2 s, "
        "retries 3 on 500, 503, 500 ms each"
    )


def header(name, value):
    return [{"name": name, "value": value}]


FILTERS = {
    "RequestHeaderModifier": (
        {"set": header("x", "1"), "add": header("y", "2"), "remove": ["z"]},
        "set request header x=1, add request header y=2, remove request header z",
    ),
    "ResponseHeaderModifier": ({"set": header("x", "1")}, "set response header x=1"),
    "RequestRedirect": (
        {
            "scheme": "https",
            "hostname": "b",
            "port": 81,
            "path": {"type": "ReplaceFullPath", "replaceFullPath": "/c"},
            "statusCode": 301,
        },
        "redirect 301 to https://b:81, path becomes /c",
    ),
    "URLRewrite": (
        {"hostname": "b", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}},
        "host becomes b, the path's beginning becomes /",
    ),
    "CORS": ({}, "CORS"),
}


@pytest.mark.parametrize(("kind", "values", "expected"), [(kind, *each) for kind, each in FILTERS.items()], ids=FILTERS)
def test_filters_of_the_gateway_api(kind, values, expected):
    """A filter is told with its values."""
    field = "urlRewrite" if kind == "URLRewrite" else kind[0].lower() + kind[1:]
    rule = {"filters": [{"type": kind, field: values}], "backendRefs": [{"name": "a"}]}
    assert words(http_route(rule)) == f"a, {expected}"


def test_connections():
    """Rules for TCP and TLS are told like those for HTTP, and so are methods of gRPC."""
    share = [
        {"destination": {"host": "a", "subset": each}, "weight": weight} for each, weight in (("v1", 8), ("v2", 2))
    ]
    spec = {
        "tls": [{"match": [{"sniHosts": ["a.example.com"], "port": 443}], **to("a")}],
        "tcp": [{"match": [{"port": 9000}], "route": share}],
    }
    policy = _policy("networking.istio.io/v1", "VirtualService", spec)
    assert words(policy) == "if TLS for a.example.com and port 443: a; if port 9000: 80 % v1, 20 % v2"
    route = {
        "rules": [{"matches": [{"method": {"service": "shop.Cart", "method": "Add"}}], "backendRefs": [{"name": "a"}]}]
    }
    assert words(_policy("gateway.networking.k8s.io/v1", "GRPCRoute", route)) == "if method shop.Cart/Add: a"
    route = {"rules": [{"backendRefs": [{"name": "a"}]}]}
    assert words(_policy("gateway.networking.k8s.io/v1", "TCPRoute", route)) == "a"


def test_sidecars():
    """A Sidecar is told with the hosts that it lets pods know."""
    spec = {
        "workloadSelector": {"labels": {"app": "web"}},
        "egress": [{"hosts": ["./*", "istio-system/*"]}],
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
    }
    policy = _policy("networking.istio.io/v1", "Sidecar", spec)
    assert words(policy) == "knows ./*, istio-system/*, REGISTRY_ONLY, for app=web"


def test_security():
    """A policy for callers is told with whom it is for, by labels or as its target, and mutual TLS with each port."""
    modes = {"selector": {"matchLabels": {"app": "web"}}, "portLevelMtls": {8080: {"mode": "DISABLE"}, 81: {}}}
    policy = _policy("security.istio.io/v1", "PeerAuthentication", {**modes, "mtls": {"mode": "STRICT"}})
    assert words(policy) == "STRICT, DISABLE at port 8080, UNSET at port 81, for app=web"
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "api"}
    policy = _policy("security.istio.io/v1", "AuthorizationPolicy", {"targetRefs": [target, {**target, "name": "b"}]})
    assert words(policy) == "ALLOW, nothing, for Gateway/api, Gateway/b"


CHANGES = {
    "weights": (
        virtual_service(
            {"route": [{"destination": {"host": "v1"}, "weight": 3}, {"destination": {"host": "v2"}, "weight": 1}]}
        ),
        virtual_service(
            {"route": [{"destination": {"host": "v1"}, "weight": 1}, {"destination": {"host": "v2"}, "weight": 9}]}
        ),
        "75 % v1 -> 10 % v1, 25 % v2 -> 90 % v2",
    ),
    "a condition": (
        virtual_service(to("a", match=[{"uri": {"exact": "/b"}}])),
        virtual_service(to("a")),
        "path /b -> every call",
    ),
    "one more action": (virtual_service(to("a")), virtual_service(to("a", timeout="1s")), "timeout 1 s added"),
    "one rule less": (virtual_service(to("a"), to("b")), virtual_service(to("b")), "a removed"),
    "what has no words": (
        virtual_service(to("a", corsPolicy={"maxAge": "1s"})),
        virtual_service(to("a", corsPolicy={"maxAge": "2s"})),
        "spec.http[0].corsPolicy.maxAge 1s -> 2s",
    ),
    "an object without words": (
        _policy("v1", "Service", {"a": 1, "b": 1, "c": 1, "d": 1}),
        _policy("v1", "Service", {"a": 2, "b": 2, "c": 2, "d": 2, "e": True}),
        "spec.a 1 -> 2, spec.b 1 -> 2, spec.c 1 -> 2, and 2 more",
    ),
    "a Secret": (_policy("v1", "Secret", {"a": "x"}), _policy("v1", "Secret", {"a": "y"}), "spec.a changed"),
}


@pytest.mark.parametrize(("before", "after", "expected"), CHANGES.values(), ids=CHANGES)
def test_changes(before, after, expected):
    """A change is told as from and to, a Secret's without its values."""
    assert describe_change(before, after) == expected


def _places(value):
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from _places(inner)


@pytest.mark.parametrize("file", read_records())
def test_whatever_stands_there(file):
    """Every policy that is recorded and every lesson has words, and so it has when any of its fields is empty."""
    for record in read_records()[file]:
        for document in documents(K8S / record.lesson) if record.lesson else record.objects:
            whole, odd = manifest(document), copy.deepcopy(document)
            describe(whole)
            for holder, key in list(_places(odd.get("spec"))):
                good = holder[key]
                for bad in (None, {}, [], "", 0, [None], {"a": None}):
                    holder[key] = bad
                    describe(manifest(odd))
                describe_change(whole, manifest(odd))
                holder[key] = good
