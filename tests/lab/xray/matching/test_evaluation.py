"""Why routes passed a request over: by each condition that an engine writes, in words, or not at all."""

from dataclasses import replace

import pytest

from meshdemo.lab.xray.matching.evaluation import Evaluation, Request, evaluate

HEADERS = (("End-User", "bob"), ("x", "1"), ("x", "2"), ("cookie", "user=bob"), ("X-Token", "t0p"), ("none", ""))
REQUEST = Request("GET", "Webserver:80", "/v1/a?q=1&r", HEADERS)


def string(**matcher):
    return {"string_match": matcher}


def header(name, **more):
    return {"prefix": "/", "headers": [{"name": name, **more}]}


def parameter(name, **more):
    return {"prefix": "/", "query_parameters": [{"name": name, **more}]}


def configuration(*matches, domains=("webserver",), **more):
    routes = [{"name": str(number), "match": match} for number, match in enumerate(matches)]
    host = {"name": "host", "domains": list(domains), "routes": routes}
    return {"name": "80", "virtual_hosts": [host], "ignore_port_in_host_matching": True, **more}


@pytest.mark.parametrize(
    ("match", "words"),
    [
        ({"path": "/v2"}, "path is /v1/a, not /v2"),
        ({"prefix": "/v2"}, "path /v1/a does not begin with /v2"),
        ({"prefix": "/V2", "case_sensitive": False}, "path /v1/a does not begin with /V2 in any case"),
        ({"path_separated_prefix": "/v"}, "path /v1/a is not /v or below it"),
        ({"safe_regex": {"regex": "/v[2-9].*"}}, "path /v1/a does not match /v[2-9].*"),
        (header("missing", **string(exact="1")), "header missing is missing, not 1"),
        (header("missing", **string(prefix="t")), "header missing is missing: it has to begin with t"),
        (header("missing", present_match=True), "header missing is missing"),
        (header("end-user", **string(exact="tester")), "header end-user is bob, not tester"),
        (header("end-user", **string(exact="BOB")), "header end-user is bob, not BOB"),
        (header("none", **string(exact="tester")), "header none is '', not tester"),
        (header("end-user", **string(suffix="ster")), "header end-user bob does not end with ster"),
        (
            header("end-user", **string(contains="x", ignore_case=True)),
            "header end-user bob does not contain x in any case",
        ),
        (header("end-user", **string(safe_regex={"regex": "a|b"})), "header end-user bob does not match a|b"),
        (header("end-user", present_match=True, invert_match=True), "header end-user is there"),
        (
            header("end-user", invert_match=True, **string(exact="bob")),
            "header end-user is bob, which this rule leaves out",
        ),
        (
            header(
                "missing", invert_match=True, treat_missing_header_as_empty=True, **string(safe_regex={"regex": ".*"})
            ),
            "header missing is missing, which this rule leaves out",
        ),
        (header("missing", invert_match=True, **string(exact="1")), "header missing is missing"),
        (header("cookie", **string(exact="user=tester")), "header cookie is there, and its value does not fit"),
        (header("X-TOKEN", **string(exact="secret")), "header X-TOKEN is there, and its value does not fit"),
        (header(":method", **string(exact="POST")), "method is GET, not POST"),
        (header(":authority", **string(prefix="shop")), "host Webserver:80 does not begin with shop"),
        (header(":scheme", **string(exact="https")), "scheme is http, not https"),
        (parameter("q", **string(exact="2")), "query parameter q is 1, not 2"),
        (parameter("r", **string(exact="2")), "query parameter r is '', not 2"),
        (parameter("s", **string(exact="2")), "query parameter s is missing, not 2"),
        (parameter("s", present_match=True), "query parameter s is missing"),
    ],
)
def test_reason(match, words):
    """What failed first is said, with what the request had; a secret's value is not."""
    found = evaluate(configuration(match, {"prefix": "/"}), REQUEST, secret=["x-token"])
    assert found == Evaluation("host", 1, (words,), "it takes every request")


@pytest.mark.parametrize(
    ("match", "words"),
    [
        ({"path": "/v1/a"}, "path is /v1/a"),
        ({"prefix": "/v1"}, "path /v1/a begins with /v1"),
        ({"path": "/V1/a", "case_sensitive": False}, "path is /v1/a"),
        ({"path_separated_prefix": "/v1"}, "path /v1/a is /v1 or below it"),
        ({"safe_regex": {"regex": "/v[12]/."}}, "path /v1/a matches /v[12]/."),
        (header("END-USER", **string(exact="bob")), "header END-USER is bob"),
        (
            header("missing", invert_match=True, treat_missing_header_as_empty=True, **string(exact="1")),
            "header missing is missing",
        ),
        (header("x", **string(safe_regex={"regex": ".*"})), "header x '1,2' matches .*"),
        (
            {**header("x", present_match=True), **parameter("q", **string(exact="1"))},
            "header x is there, query parameter q is 1",
        ),
    ],
)
def test_met(match, words):
    """What a route asked for, and found, is said as well."""
    assert evaluate(configuration(match), REQUEST) == Evaluation("host", 0, (), words)


def test_no_route():
    """Where no route fits, each is told with its reason; where no host fits there is nothing to tell."""
    found = evaluate(configuration({"path": "/a"}, {"path": "/b"}), REQUEST)
    assert found == Evaluation("host", None, ("path is /v1/a, not /a", "path is /v1/a, not /b"))
    assert evaluate(configuration({"path": "/a"}, domains=["elsewhere"]), REQUEST) == Evaluation(None, None, ())


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("a.example.com", "exact"),
        ("A.example.com:8080", "exact"),
        ("b.example.com", "end"),
        ("c.b.example.com", "longer end"),
        (".example.com", "all"),
        ("shop.example.org", "beginning"),
        ("elsewhere", "all"),
    ],
)
def test_virtual_host(authority, name):
    """The exact name comes first, then the longest end, then the longest beginning, then the one for all."""
    domains = {
        "all": ["*"], "beginning": ["shop.*", "sh*"], "end": ["*.example.com"], "longer end": ["*.b.example.com"],
        "exact": ["a.example.com"],
    }  # fmt: skip
    hosts = [{"name": key, "domains": value, "routes": [{"match": {"prefix": "/"}}]} for key, value in domains.items()]
    found = evaluate(configuration(virtual_hosts=hosts), Request("GET", authority, "/"))
    assert found.virtual_host == name


def test_port_of_host():
    """A port counts as part of the name unless the configuration says otherwise."""
    routes = configuration({"prefix": "/"}, ignore_port_in_host_matching=False)
    assert evaluate(routes, Request("GET", "webserver:80", "/")).virtual_host is None


@pytest.mark.parametrize(
    "match",
    [
        {"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 50}}},
        {"prefix": "/", "dynamic_metadata": [{}]},
        {"connect_matcher": {}},
        {"safe_regex": {"regex": r"/v\p{N}"}},
        header("end-user", range_match={"start": 1}),
        header("end-user", **string(custom={})),
        header("end-user", string_match={}),
        header("x", **string(exact="1")),
        header("x-request-id", **string(prefix="1")),
        header("x-forwarded-for", present_match=True),
        header("missing", present_match=True, treat_missing_header_as_empty=True),
        header("end-user", **string(safe_regex={"regex": "b"}, ignore_case=True)),
        parameter("q", present_match=False),
    ],
)
def test_silence(match):
    """Nothing is said where something decides that only Envoy can tell."""
    assert evaluate(configuration(match, {"prefix": "/"}), REQUEST) is None


@pytest.mark.parametrize(
    ("routes", "manager"),
    [
        (configuration({"prefix": "/"}, vhds={}), {}),
        (configuration({"prefix": "/"}), {"strip_any_host_port": True}),
        (configuration(virtual_hosts=[{"name": "host", "domains": ["*"], "require_tls": "ALL"}]), {}),
    ],
)
def test_silence_about_hosts(routes, manager):
    """Nor is anything said where the hosts are found in another way."""
    assert evaluate(routes, REQUEST, manager) is None


def test_path_of_manager():
    """Paths are compared as the connection manager normalizes them."""
    routes, request = configuration({"prefix": "/v2"}), Request("GET", "webserver", "/a/../v2")
    assert evaluate(routes, request, {"normalize_path": True}).route == 0
    assert evaluate(routes, request).route is None


def test_long_value():
    """What a request has is cut where it is long."""
    found = evaluate(configuration({"path": "/"}), Request("GET", "webserver", "/" + "a" * 1000))
    assert found.passed_over == (f"path is /{'a' * 79}..., not /",)


ADDED = [{"header": {"key": "End-User", "value": "1"}}]


@pytest.mark.parametrize(
    "changes",
    [
        {"request_headers_to_add": ADDED},
        {"request_headers_to_remove": ["END-USER"]},
        {"route": {"host_rewrite_literal": "elsewhere"}},
        {"route": {"weighted_clusters": {"clusters": [{"name": "a"}, {"name": "b", "request_headers_to_add": ADDED}]}}},
    ],
)
def test_logged_request(changes):
    """Of a request as it was logged nothing is said where the route has changed what a condition asked for."""
    routes = configuration(header("end-user", **string(exact="tester")), {"prefix": "/"})
    routes["virtual_hosts"][0]["routes"][1] |= changes
    assert evaluate(routes, REQUEST).route == 1
    assert evaluate(routes, replace(REQUEST, is_logged=True)) is None
    routes["virtual_hosts"][0]["routes"][1] |= {"request_headers_to_add": [], "request_headers_to_remove": ["b"]}
    routes["virtual_hosts"][0]["routes"][1]["route"] = {"cluster": "a"}
    assert evaluate(routes, replace(REQUEST, is_logged=True)).route == 1
