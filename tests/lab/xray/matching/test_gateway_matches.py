"""Which match of a rule of the Gateway API a route of an Envoy is."""

import pytest

from meshdemo.lab.xray.matching.gateway_matches import find_match

REGEX = "RegularExpression"


def string(**matcher):
    return {"string_match": matcher}


@pytest.mark.parametrize(
    ("match", "route"),
    [
        ({}, {"prefix": "/"}),
        ({"path": {"type": "PathPrefix", "value": "/a/"}}, {"path_separated_prefix": "/a", "case_sensitive": True}),
        ({"path": {"type": "Exact", "value": "/a/"}}, {"path": "/a/"}),
        ({"path": {"type": REGEX, "value": "/a.*"}}, {"safe_regex": {"regex": "/a.*"}}),
        ({"method": "GET"}, {"prefix": "/", "headers": [{"name": ":method", **string(exact="GET")}]}),
        (
            {"headers": [{"name": "End-User", "value": "a"}, {"name": "b", "value": "*", "type": REGEX}]},
            {
                "prefix": "/",
                "headers": [{"name": "b", "present_match": True}, {"name": "end-user", **string(exact="a")}],
            },
        ),
        (
            {"queryParams": [{"name": "Q", "value": "a|b", "type": REGEX}]},
            {"prefix": "/", "query_parameters": [{"name": "Q", **string(safe_regex={"regex": "a|b"})}]},
        ),
    ],
)
def test_http(match, route):
    """A match of an HTTPRoute is found among others by all that it asks for."""
    others = [{"path": {"value": "/other"}}, {"headers": [{"name": "end-user", "value": "a"}]}]
    assert find_match("HTTPRoute", [*others, match], route) == 2
    assert find_match("HTTPRoute", others, route) is None
    assert find_match("HTTPRoute", [match, match], route) is None


@pytest.mark.parametrize(
    ("match", "route"),
    [
        ({}, {"prefix": "/"}),
        ({"method": {"service": "s", "method": "m"}}, {"path": "/s/m"}),
        ({"method": {"service": "s"}}, {"path_separated_prefix": "/s"}),
        ({"method": {"method": "m"}}, {"safe_regex": {"regex": "/[^/]+/m"}}),
        ({"method": {"type": REGEX, "service": "s.*", "method": "m"}}, {"safe_regex": {"regex": "/s.*/m"}}),
        ({"method": {"type": REGEX, "service": "s"}}, {"safe_regex": {"regex": "/s/.+"}}),
        (
            {"method": {"service": "s"}, "headers": [{"name": "a", "value": "b"}]},
            {"path_separated_prefix": "/s", "headers": [{"name": "a", **string(exact="b")}]},
        ),
    ],
)
def test_grpc(match, route):
    """A match of a GRPCRoute is found by service, method and headers."""
    others = [{"method": {"service": "other"}}, {"headers": [{"name": "c", "value": "d"}]}]
    assert find_match("GRPCRoute", [*others, match], route) == 2
    assert find_match("GRPCRoute", others, route) is None


@pytest.mark.parametrize(
    "more",
    [
        {"dynamic_metadata": []},
        {"headers": [{"name": "a", "present_match": True, "invert_match": True}]},
        {"headers": [{"name": "a", **string(prefix="b")}]},
    ],
)
def test_what_no_match_becomes(more):
    """A route with conditions that the Gateway API does not know is that of no match."""
    assert find_match("HTTPRoute", [{}], {"prefix": "/", **more}) is None
