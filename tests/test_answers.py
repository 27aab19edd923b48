"""What one answer says of itself; the live page and `watch` say the same of it."""

import json

import pytest
from samples import BEHIND_ENVOY, ENVOY, proxied, web

from meshdemo.answers import Outcome, read_answer, read_proxied
from meshdemo.calling.upstream import Answer
from meshdemo.page.sample import make_sample
from meshdemo.reasons import Origin

SPIFFE = "spiffe://cluster.local/ns/default/sa/"


def read(document, status=200, headers=None):
    """Return what a JSON answer, or a text, says of itself."""
    text, kind = (document, "text/plain") if isinstance(document, str) else (json.dumps(document), "application/json")
    return read_answer(Answer(status, text, kind, headers or {}))


def identity(certificate):
    return read(web(X_Forwarded_Client_Cert=certificate)).identity


def test_an_application():
    """Version, pod, path, try, identity and id come from what the web server says, the status from the answer."""
    headers = {"X_Envoy_Attempt_Count": "2", "X_Forwarded_Client_Cert": f"URI={SPIFFE}proxy", "X_Request_Id": "1"}
    assert read(proxied(web("V1", "pod-1", path="/x", **headers), 503)) == Outcome(
        503, "V1", "pod-1", "/x", 2, f"{SPIFFE}proxy", "1", proxy_milliseconds=2.5
    )


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [
        ("", None),
        ("Hash=4a;Subject=b", None),
        ("By=spiffe://b;Hash=0;URI=spiffe://a", "spiffe://a"),
        ("by=spiffe://b;uri=spiffe://a", "spiffe://a"),
        ("By=b;URI=spiffe://gateway,By=b2;URI=spiffe://proxy", "spiffe://proxy"),
        ("By=b;URI=spiffe://gateway,By=b2;Hash=1", None),
        ('Subject="CN=a,URI=evil"', None),
        ('Subject="CN=a;URI=evil";URI=spiffe://a', "spiffe://a"),
        ('URI=spiffe://a;Subject="x,URI=evil"', "spiffe://a"),
        (r'Subject="CN=\",URI=evil\";URI=evil";URI=spiffe://a', "spiffe://a"),
        ('Subject="O=1,URI=evil",By=b;URI="spiffe://a;b,c=\\"d\\""', 'spiffe://a;b,c="d"'),
        ('URI=spiffe://a;Subject="never closed, URI=evil', "spiffe://a"),
        ('Subject="never closed;URI=evil', None),
        ("By=b; URI=spiffe://a", "spiffe://a"),
        ("URI=", None),
        ("SURI=evil", None),
    ],
)
def test_identity(certificate, expected):
    """It is the URI of the last element, by Envoy's grammar, whatever stands between quotes."""
    assert identity(certificate) == expected


@pytest.mark.parametrize(
    "certificate",
    ['"' * 200_001, "," * 200_000 + "URI", '\\"' * 100_000, '"\\' * 100_000, 'a="' + "\\" * 200_001, ";=" * 100_000],
    ids=lambda value: value[:6],
)
def test_identity_of_a_hostile_header_takes_no_time(certificate):
    """However long a header is, and whatever its quotes are, it is read in one go."""
    assert identity(certificate) is None


def test_several_proxies_in_a_row():
    """What the last proxy got is what counts, with its headers, and the first one's time."""
    inner = proxied("no healthy upstream", 503, headers=ENVOY, milliseconds=1, not_passed_on=["Cookie"])
    outcome = read(proxied(proxied(inner, 200), 200, milliseconds=9, headers=BEHIND_ENVOY))
    assert (outcome.status, outcome.reason.flag, outcome.proxy_milliseconds) == (503, "UH", 9)
    assert outcome.not_passed_on == {"cookie"}
    lost = read(proxied({**proxied(None, None, "timed out calling http://x/", 1), "code": "timed out"}, 200))
    assert (lost.status, lost.error, lost.error_code) == (None, "timed out calling http://x/", "timed out")
    assert lost.is_failed
    assert lost.proxy_milliseconds == 2.5


def test_endless_nesting_ends():
    """A tower of proxies is read through up to some height, and is a text above it."""
    tower = web()
    for _ in range(30):
        tower = proxied(tower)
    assert read(tower).version is None
    assert read(tower).status == 200


def test_origin_is_that_of_the_innermost_answer():
    """An Envoy between two proxies says nothing of the application's own answer."""
    assert read("denied", 403, ENVOY).origin is Origin.ENVOY
    assert read(proxied("no such page", 404, headers={}), 200, ENVOY).origin is Origin.ELSEWHERE
    assert not read(proxied("no such page", 404, headers={}), 200, ENVOY).is_failed
    assert read(proxied("no such page", 404, headers=BEHIND_ENVOY)).origin is Origin.BEHIND_ENVOY


@pytest.mark.parametrize("headers", [None, 5, [], "server", {"Server": 5}, {"Server": None}], ids=str)
def test_headers_of_any_form(headers):
    """What is no object of texts says nothing of an Envoy."""
    assert read({**proxied("", 404), "headers": headers}).origin is Origin.ELSEWHERE


DOCUMENTS = {
    "application": proxied(web(X_Forwarded_Client_Cert="By=b;URI=spiffe://gateway,By=b2;URI=spiffe://proxy")),
    "failing application": proxied(web(status=500), 500),
    "application's 404": proxied(web(status=404), 404),
    "quoted subject": proxied(web(X_Forwarded_Client_Cert='Subject="CN=a,URI=evil"')),
    "try": proxied(web(X_Envoy_Attempt_Count="3")),
    "two proxies": proxied(proxied(web("V2", "pod-2"), 500)),
    "mesh": proxied("RBAC: access denied", 403, headers=ENVOY),
    "plain empty 404": proxied("", 404),
    "plain text 403": proxied("RBAC: access denied", 403),
    "no answer": proxied(None, None, "connection refused calling http://a/"),
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_page_and_watch_agree(document):
    """The page's sample and what `watch` reads of the same answer say the same, failures included."""
    shown, outcome = make_sample(document), read(document)
    assert (shown["version"], shown["pod"], shown["status"]) == (outcome.version, outcome.pod, outcome.status)
    assert (shown["attempt"], shown["caller"]) == (outcome.attempt, outcome.identity)
    assert shown["failed"] == outcome.is_failed
    assert read_proxied(document) == outcome
