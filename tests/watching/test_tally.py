"""What a watch counts, whatever servers say."""

import json

import pytest
from samples import ENVOY, proxied, sample, tally_of, unanswered, web

from meshdemo.calling.upstream import Answer
from meshdemo.watching.pace import Sample
from meshdemo.watching.report import make_report, to_json


def json_sample(text):
    """Return a Sample of an answer that calls itself JSON."""
    return Sample(0.01, False, Answer(200, text, "application/json"))


def texts_of(tally):
    """Return how often each status and text was counted that no application signed."""
    return {(text.status, text.text): count.answers for text, count in tally.texts.items()}


def test_tally_of_a_proxy():
    """Behind a proxy the web server's facts count, with the status that the upstream had."""
    tally = tally_of(
        sample(proxied(web())),
        sample(proxied(web(status=500), status=500)),
        sample(proxied(web("V2", "pod-9"))),
        sample(proxied("fault filter abort", status=503, headers=ENVOY)),
        sample(proxied(None, status=None, error="connection refused calling http://webserver/")),
    )
    assert tally.pods["V1"]["pod-1"].answers == 2
    assert tally.pods["V1"]["pod-1"].failed == 1
    assert tally.pods["V2"]["pod-9"].failed == 0
    assert texts_of(tally) == {(503, "fault filter abort"): 1}
    assert {status: count.answers for status, count in tally.statuses.items()} == {200: 2, 500: 1, 503: 1}
    assert tally.failed == 3
    assert tally.errors == {"connection refused calling http://webserver/": 1}
    assert not tally.unanswered
    assert list(tally.proxy_milliseconds) == [2.5] * 5
    assert len(tally.caller_milliseconds) == 5


def test_tally_of_a_web_server():
    """Without a proxy the web server is counted the same, and a gateway's own answer has no pod."""
    tally = tally_of(sample(web(status=500), status=500), sample("no healthy upstream", status=503), unanswered())
    assert tally.pods["V1"]["pod-1"].failed == 1
    assert texts_of(tally) == {(503, "no healthy upstream"): 1}
    assert tally.unanswered == {"connection refused calling http://a/": 1}
    assert not tally.proxy_milliseconds


def test_tally_of_text():
    """Any other text is grouped without its numbers of milliseconds and its line end, on one line of limited length."""
    texts = ["Took 12 milliseconds", "Took 7 milliseconds\n", "in 1.5 ms or 3ms", "two\nlines", "x" * 500, "room 12"]
    labels = [label for _, label in texts_of(tally_of(*map(sample, texts)))]
    assert labels == ["Took N milliseconds", "in N ms or Nms", "two lines", "x" * 300 + "...", "room 12"]


def test_long_texts_take_no_time():
    """A text of 1 MiB, all digits, is shortened before a pattern looks for numbers in it."""
    (label,) = texts_of(tally_of(sample("1" * 1024 * 1024)))
    assert label == (200, "1" * 300 + "...")


@pytest.mark.parametrize(
    "document",
    [
        {"value": 1, "status": "x", "error": None, "milliseconds": 1},
        {"value": 1, "status": None, "error": None, "milliseconds": 1},
        {"value": 1, "status": True, "error": None, "milliseconds": 1},
        {"value": 1, "status": 12345, "error": None, "milliseconds": 1},
        {"value": 1, "status": 200, "error": None, "milliseconds": "soon"},
        {"value": 1, "status": 200, "error": None, "milliseconds": True},
        {"value": 1, "status": 200, "error": None, "milliseconds": -1},
        {"content": "x"},
        {"content": ["x"], "hostname": "y", "status": 200},
        {"content": "x", "hostname": None, "status": 200},
        [1],
        None,
    ],
    ids=json.dumps,
)
def test_json_of_somebody_else_is_text(document):
    """An object that only looks like a proxy's or a web server's is counted by its text."""
    assert texts_of(tally_of(sample(document))) == {(200, json.dumps(document)): 1}


@pytest.mark.parametrize(
    "number",
    ["1" * 401, "1" * 5000, "1e999", "NaN", "Infinity", "-Infinity", "100000000"],
    ids=["401 digits", "5,000 digits", "1e999", "NaN", "Infinity", "-Infinity", "more than a day"],
)
def test_numbers_that_are_none_or_too_large_are_texts(number):
    """Milliseconds that no clock shows make the whole answer a text, and JSON of the result stays JSON."""
    text = '{"value": "x", "status": 200, "error": null, "milliseconds": ' + number + "}"
    tally = tally_of(json_sample(text))
    assert not tally.proxy_milliseconds
    ((status, label),) = texts_of(tally)
    assert status == 200
    assert label.startswith('{"value": "x", "status": 200')
    json.dumps(to_json(make_report(tally, url="http://a/", seconds=1.0)), allow_nan=False)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"value": ' + "[" * 900 + "]" * 900 + "}", "[" * 400 + "]" * 400])
def test_deep_nesting_is_text(text):
    """However deeply JSON is nested, it is counted, and nothing fails."""
    for outer in (text, '{"value": ' + text + ', "status": 200, "error": null, "milliseconds": 1}'):
        assert sum(texts_of(tally_of(json_sample(outer))).values()) == 1


def test_lone_surrogates_are_replaced():
    """JSON can name half a character, which no encoding has."""
    tally = tally_of(json_sample(r'{"content": "a\ud800", "hostname": "\udfffb", "status": 200}'))
    assert list(tally.pods) == ["a\N{REPLACEMENT CHARACTER}"]
    assert list(tally.pods["a\N{REPLACEMENT CHARACTER}"]) == ["\N{REPLACEMENT CHARACTER}b"]


def test_failed():
    """A call failed that got no answer, a 5xx, or a 4xx from the mesh, and no other."""
    failed = [
        unanswered(),
        sample(proxied(None, None, "connection refused")),
        sample(proxied(web(status=503), 503)),
        sample("broken", 502),
        sample(proxied("RBAC: access denied", 403, headers=ENVOY)),
        sample("", 404, headers=ENVOY),
        sample("go away", 418, headers=ENVOY),
    ]
    fine = [sample("not here", 404), sample("", 404), sample(proxied(web(status=404), 404)), sample(web())]
    assert tally_of(*failed).failed == len(failed)
    assert tally_of(*fine).failed == 0


def test_headers_that_were_not_passed_on():
    """Their names are kept, in small letters, from every proxy on the way."""
    inner = proxied(web(), not_passed_on=["User-Agent"])
    assert tally_of(sample(proxied(inner, not_passed_on=["x-tenant"]))).not_passed_on == {"user-agent", "x-tenant"}


def test_what_the_web_server_saw():
    """Tries, the caller's identity and the path are counted from what the web server says arrived."""
    spiffe = "spiffe://cluster.local/ns/default/sa/"
    certificate = f'By={spiffe}webserver;Hash=4a;Subject="CN=a,O=b";URI={spiffe}proxy'
    tally = tally_of(
        sample(proxied(web(X_Envoy_Attempt_Count="1", X_Forwarded_Client_Cert=certificate))),
        sample(proxied(web(X_Envoy_Attempt_Count="3", X_Forwarded_Client_Cert=f"{certificate},By=x;URI={spiffe}edge"))),
        sample(web(path="/v2", X_Forwarded_Client_Cert="Hash=4a;Subject=b")),
    )
    assert tally.tries == {1: 1, 3: 1}
    assert tally.identities == {f"{spiffe}proxy": 1, f"{spiffe}edge": 1}
    assert tally.paths == {"/": 2, "/v2": 1}


@pytest.mark.parametrize(
    "headers",
    [
        None,
        "X-Envoy-Attempt-Count",
        {"X-Envoy-Attempt-Count": "0"},
        {"X-Envoy-Attempt-Count": "99999999999"},
        {"X-Envoy-Attempt-Count": 2},
        {"X-Envoy-Attempt-Count": "\u0661", "X-Forwarded-Client-Cert": 5},
        {"X-Forwarded-Client-Cert": ""},
        {"X-Forwarded-Client-Cert": '"' * 100_000},
        {"X-Forwarded-Client-Cert": "," * 100_000 + "URI"},
    ],
    ids=lambda value: str(value)[:60],
)
def test_headers_of_somebody_else(headers):
    """What is no number of a try and no identity is not counted, and the answer is."""
    tally = tally_of(sample({"content": "V1", "hostname": "pod-1", "status": 200, "path": 7, "headers": headers}))
    assert tally.pods["V1"]["pod-1"].answers == 1
    assert not tally.tries
    assert not tally.identities
    assert not tally.paths
