"""VirtualServices, read into rules."""

import pytest
from quick_support import to, virtual_service

from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.quick.reading.virtual_service import read_virtual_service
from meshdemo.lab.quick.rules.model import (
    Abort,
    Cors,
    Delay,
    DirectResponse,
    Fault,
    Match,
    Redirect,
    Retry,
    Rewrite,
    Share,
    StringMatch,
)

EXACT = StringMatch("exact", "a")


def rule(**fields):
    """Return what is read of one rule."""
    (found,) = read_virtual_service(virtual_service(to(**fields))).rules
    return found


def test_hosts_and_gateways():
    """Hosts are completed, Gateways get their namespace, and without Gateways sidecars apply the rules."""
    found = read_virtual_service(virtual_service(to(), hosts=["webserver", "a.example.com"], gateways=["g", "mesh"]))
    assert found.hosts == ("webserver.default.svc.cluster.local", "a.example.com")
    assert found.gateways == ("default/g", "mesh")
    assert read_virtual_service(virtual_service(to())).gateways == ("mesh",)
    assert read_virtual_service(virtual_service(to(), exportTo=["."])).is_private


def test_match():
    """Each condition is read by its kind, headers in order of their names."""
    (match,) = rule(
        match=[
            {
                "name": "n",
                "uri": {"prefix": "/x"},
                "ignoreUriCase": True,
                "headers": {"b": {}, "a": {"exact": "a"}},
                "withoutHeaders": {"c": {"regex": "*"}},
                "queryParams": {"q": {"regex": "x+"}},
                "method": {"exact": "a"},
                "authority": {"exact": "a"},
                "scheme": {"exact": "a"},
                "port": 80,
                "gateways": ["g"],
                "sourceLabels": {"app": "proxy"},
                "sourceNamespace": "default",
            }
        ]
    ).matches
    assert match == Match(
        path=StringMatch("prefix", "/x"),
        ignore_case=True,
        headers=(("a", EXACT), ("b", StringMatch("present"))),
        without_headers=(("c", StringMatch("present")),),
        parameters=(("q", StringMatch("regex", "x+")),),
        method=EXACT,
        authority=EXACT,
        scheme=EXACT,
        port=80,
        gateways=("default/g",),
        source_labels={"app": "proxy"},
        source_namespace="default",
        name="n",
    )


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, True),
        ({"uri": {"prefix": "/"}}, True),
        ({"uri": {"regex": ".*"}}, True),
        ({"uri": {"prefix": ""}}, False),
        ({"uri": {"exact": "/"}}, False),
        ({"method": {"exact": "GET"}}, False),
        ({"queryParams": {"q": {}}}, False),
    ],
)
def test_catch_all(match, expected):
    """A match that every call is like is known as such, by the path `/` and nothing else."""
    (found,) = rule(match=[match]).matches
    assert found.is_catch_all is expected


ACTIONS = {
    "redirect to a path": ("redirect", {"uri": "/x"}, Redirect(301, path="/x")),
    "redirect to the port that was called": (
        "redirect",
        {"derivePort": "FROM_REQUEST_PORT", "redirectCode": 308},
        Redirect(308, same_port=True),
    ),
    "redirect with all": (
        "redirect",
        {"prefixRewrite": "/x", "authority": "a", "scheme": "https", "port": 8443},
        Redirect(301, prefix="/x", authority="a", scheme="https", port=8443),
    ),
    "a text": ("directResponse", {"status": 418, "body": {"string": "tea"}}, DirectResponse(418, "tea")),
    "bytes": ("directResponse", {"status": 200, "body": {"bytes": "aGk="}}, DirectResponse(200, None, "aGk=")),
    "no body": ("directResponse", {"status": 204}, DirectResponse(204)),
}


@pytest.mark.parametrize(("name", "value", "expected"), ACTIONS.values(), ids=ACTIONS)
def test_answers(name, value, expected):
    """A rule may answer by itself instead of sending calls on."""
    (found,) = read_virtual_service(virtual_service({name: value})).rules
    assert expected in (found.redirect, found.response)
    assert not found.targets


PARTS = {
    "no attempts": ("retries", {}, Retry(0)),
    "conditions and codes": (
        "retries",
        {"attempts": 3, "retryOn": "5xx,503", "perTryTimeout": "2s", "backoff": "25ms"},
        Retry(3, ("5xx",), (503,), 2, 0.025),
    ),
    "where retries go": (
        "retries",
        {"attempts": 1, "retryIgnorePreviousHosts": False, "retryRemoteLocalities": True},
        Retry(1, other_hosts=False, other_localities=True),
    ),
    "a rewritten path": ("rewrite", {"uri": "/x", "authority": "a"}, Rewrite("/x", authority="a")),
    "a rewritten pattern": (
        "rewrite",
        {"uriRegexRewrite": {"match": "/(.*)", "rewrite": r"/x/\1"}},
        Rewrite(pattern="/(.*)", substitution=r"/x/\1"),
    ),
    "a delay of no calls": ("fault", {"delay": {"fixedDelay": "2s"}}, Fault(Delay(2, Share(0, is_whole=True)))),
    "a delay of a whole share": (
        "fault",
        {"delay": {"fixedDelay": "2s", "percent": 5}},
        Fault(Delay(2, Share(5, is_whole=True))),
    ),
    "an abort of no calls": ("fault", {"abort": {"httpStatus": 503}}, Fault(abort=Abort(503))),
    "an abort of some calls": (
        "fault",
        {"abort": {"httpStatus": 503, "percentage": {"value": 33.3}}},
        Fault(abort=Abort(503, Share(33.3))),
    ),
    "other origins": (
        "corsPolicy",
        {"allowOrigins": [{"exact": "a"}], "allowMethods": ["GET"], "maxAge": "2m", "unmatchedPreflights": "IGNORE"},
        Cors((EXACT,), ("GET",), max_age_seconds=120, forward_unmatched=False),
    ),
    "other origins as they were written before": ("corsPolicy", {"allowOrigin": ["a"]}, Cors((EXACT,))),
}
ATTRIBUTES = {"retries": "retry", "corsPolicy": "cors"}


@pytest.mark.parametrize(("name", "value", "expected"), PARTS.values(), ids=PARTS)
def test_parts_of_a_rule(name, value, expected):
    """What a rule says beside its destinations is read with Istio's defaults."""
    assert getattr(rule(**{name: value}), ATTRIBUTES.get(name, name)) == expected


MIRRORS = {
    "all calls": ({"mirror": {"host": "a"}}, [100]),
    "a share": ({"mirror": {"host": "a"}, "mirrorPercentage": {"value": 12.5}}, [12.5]),
    "a share as it was written before": ({"mirror": {"host": "a"}, "mirrorPercent": 7}, [7]),
    "none": ({"mirror": {"host": "a"}, "mirrorPercentage": {"value": 0}}, []),
    "several": (
        {"mirrors": [{"destination": {"host": "a"}}, {"destination": {"host": "b"}, "percentage": {"value": 3}}]},
        [100, 3],
    ),
}


@pytest.mark.parametrize(("fields", "shares"), MIRRORS.values(), ids=MIRRORS)
def test_mirrors(fields, shares):
    """Copies are of all calls unless a share is said, and 0 % is none."""
    assert [mirror.share.percent for mirror in rule(**fields).mirrors] == shares


REFUSED = {
    "no hosts": ({"hosts": []}, "spec.hosts: is missing.*istiod"),
    "every host in the mesh": ({"hosts": ["*"]}, r"spec.hosts\[0\]: '\*' is not allowed"),
    "hosts that overlap": ({"hosts": ["*.a.com", "b.a.com"], "gateways": ["g"]}, "covered by another"),
    "no rules": ({"http": []}, "spec.http: is missing"),
    "routes of TCP": ({"tcp": [{}]}, "spec.tcp: is not supported"),
    "a misspelt field": ({"http": [to(timout="1s")]}, r"http\[0\].timout: unknown field, did you mean timeout\?"),
    "a wrong weight beside a misspelt one": (
        {"http": [{"route": [{"destination": {"host": "a"}, "wieght": 1}, {"destination": {"host": "b"}}]}]},
        "did you mean weight",
    ),
    "weights of 0": ({"http": [{"route": [{"destination": {"host": h}} for h in "ab"]}]}, "weights that are all 0"),
    "no destination": ({"http": [{}]}, r"route: is missing"),
    "a redirect with a destination": ({"http": [to(redirect={"uri": "/"})]}, "redirect: cannot be combined with route"),
    "a fault with a redirect": (
        {"http": [{"redirect": {"uri": "/"}, "fault": {"abort": {"httpStatus": 500}}}]},
        "cannot be combined with redirect",
    ),
    "a redirect to nowhere": ({"http": [{"redirect": {}}]}, "redirect.uri: is missing"),
    "a status that is none": ({"http": [{"directResponse": {"status": 9999}}]}, "9999 is not from 200 to 599"),
    "a percentage of 500": (
        {"http": [to(fault={"abort": {"httpStatus": 500, "percentage": {"value": 500}}})]},
        r"fault.abort.percentage.value: 500 is not from 0 to 100",
    ),
    "a condition for retries that is none": (
        {"http": [to(retries={"attempts": 1, "retryOn": "5xxx"})]},
        "'5xxx' is neither",
    ),
    "retries without attempts": ({"http": [to(retries={"retryOn": "5xx"})]}, "turns retries off"),
    "a group that is not there": (
        {"http": [to(rewrite={"uriRegexRewrite": {"match": "/x", "rewrite": r"\1"}})]},
        r"\\1 is not a group",
    ),
    "the Host header twice": (
        {"http": [to(rewrite={"authority": "a"}, headers={"request": {"set": {"host": "b"}}})]},
        "sets the Host header",
    ),
    "a claim of a token": (
        {"http": [to(match=[{"headers": {"@request.auth.claims.sub": {}}}])]},
        "is not supported by the quick engine",
    ),
    "a delegate": ({"http": [{"delegate": {"name": "x"}}]}, "delegate: is not supported by the quick engine"),
    "a timeout of nothing": ({"http": [to(timeout="0s")]}, "'0s' is not a duration of at least"),
}


@pytest.mark.parametrize(("fields", "problem"), REFUSED.values(), ids=REFUSED)
def test_refused(fields, problem):
    """What Istio refuses, and what is not exact here, is refused with its place."""
    written = virtual_service(to())
    written.document["spec"] |= fields
    with pytest.raises(ManifestError, match=problem) as error:
        read_virtual_service(written)
    assert str(error.value).startswith("policy.yaml: VirtualService/webserver: spec")
