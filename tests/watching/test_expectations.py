"""Expectations: their grammar, and what they are judged by."""

import re

import pytest
from samples import ENVOY, proxied, sample, tally_of, unanswered, web
from support import ROOT

from meshdemo.watching.expectations import judge, parse_expectation

OVERFLOW = "upstream connect error or disconnect/reset before headers. reset reason: overflow"
IDENTITY = "spiffe://cluster.local/ns/default/sa/proxy"

TALLY = tally_of(
    *[sample(proxied(web("Webserver V1", "pod-1", X_Envoy_Attempt_Count="1"))) for _ in range(10)],
    *[sample(proxied(web("Webserver V2", "pod=2", X_Envoy_Attempt_Count="3"))) for _ in range(3)],
    sample(proxied(web("Webserver V2", "pod-3", path="/v2", X_Forwarded_Client_Cert=f"URI={IDENTITY}"))),
    sample(proxied(web("errors", "pod-4", 500), status=500), seconds=3.0),
    sample(proxied(OVERFLOW, status=503, headers=ENVOY)),
    sample(proxied("teapot", status=418)),
    sample(proxied(None, None, "connection refused")),
    unanswered(),
    unanswered(),
)


def verdict(text):
    (judged,) = judge([parse_expectation(text)], TALLY)
    return judged


@pytest.mark.parametrize(
    ("subject", "seen"),
    [
        ("Webserver V1", 10),
        ("Webserver V2", 4),
        ("pod-1", 10),
        ("pod=2", 3),
        ("nobody", 0),
        ("teapot", 1),
        ("name errors", 1),
        ("200", 14),
        ("500", 1),
        ("404", 0),
        ("UO", 1),
        ("UT", 0),
        ("answered", 18),
        ("unanswered", 2),
        ("errors", 1),
        ("failed", 5),
        ("identity", 1),
        (f"identity {IDENTITY}", 1),
        ("identity spiffe://other", 0),
        ("tries>1", 3),
        ("tries > 2", 3),
        ("tries>3", 0),
        ("over 2.9s", 1),
        ("over 1ms", 18),
        ("path /v2", 1),
        ("path /nowhere", 0),
        ("pods", 4),
    ],
)
def test_what_is_counted(subject, seen):
    """Each subject counts the calls that the reference says, and a single number is all that is allowed."""
    assert verdict(f"{subject}={seen}").seen == seen
    assert verdict(f"{subject}={seen}").met
    assert not verdict(f"{subject}={seen + 1}").met


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("Webserver V1=9..10", True),
        ("Webserver V1=10..11", True),
        ("Webserver V1=..9", False),
        ("Webserver V1=..10", True),
        ("Webserver V1=10..", True),
        ("Webserver V1=11..", False),
        (" Webserver V1 = 5 .. 15 ", True),
        ("Webserver V1=50%", True),
        ("Webserver V1=50%..50.0%", True),
        ("Webserver V1=50.1%..", False),
        ("unanswered=..10%", True),
        ("median=10ms", True),
        ("median=9ms..11 ms", True),
        ("maximum=3s", True),
        ("maximum=2.9s..3.1s", True),
        ("maximum=2900ms..3.1s", True),
        ("p95=..1s", False),
        ("p99=..3000ms", True),
    ],
)
def test_ranges(text, met):
    """Both ends belong to a range, either may be open, and a share is one of all requests."""
    assert verdict(text).met is met


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Webserver V1", "is not SUBJECT=RANGE"),
        ("=5", "is not SUBJECT=RANGE"),
        ("V1=", "'' is not a range"),
        ("V1=..", "'..' is not a range"),
        ("V1=many", "'many' is not a number"),
        ("V1=5...7", "'.7' is not a number"),
        ("V1=5-7", "'5-7' is not a number"),
        ("V1=-5", "'-5' is not a number"),
        ("V1=\u0665", "'\u0665' is not a number"),
        ("V1=1e3", "'1e3' is not a number"),
        ("V1=nan", "'nan' is not a number"),
        (f"V1={'9' * 400}", "is not a number"),
        ("V1=1.5", "'1.5' is not a whole number"),
        ("V1=7..5", "in '7..5' the first end is larger"),
        ("V1=5..7%", "'5..7%' have different units"),
        ("V1=..101%", "'101%' is more than 100 %"),
        ("V1=5ms", "'5ms' is a time"),
        ("pods=50%", "'50%' is a share of calls, but pods are counted"),
        ("median=5", "median is a time: give '5' a unit"),
        ("median=5%", "median is a time"),
        ("p90=..5ms", "which median, p95, p99 and maximum have, but 'p90' is counted"),
        ("error=0", "'error' is not 'errors'; a version or pod of that name is 'name error'"),
        ("unanswerd=0", "'unanswerd' is not 'unanswered'"),
        ("Failed=0", "'Failed' is not 'failed'"),
        ("tries>=2=0", "'tries>=2' is not 'tries>1'"),
        ("over 3=0", "'over 3' is not 'over 1s'"),
    ],
    ids=lambda value: value[:30],
)
def test_wrong_ones_name_the_part(text, part):
    """What is not an expectation is refused, with the part that is wrong and what to write instead."""
    with pytest.raises(ValueError, match=re.escape(part)):
        parse_expectation(text)


def test_reference():
    """Each subject and each range of the reference is one."""
    section = (ROOT / "docs" / "reference.md").read_text().split("### Expectations")[1].split("### JSON")[0]
    subjects, ranges = (re.findall(r"^\| (`.*?) \|", part, re.MULTILINE) for part in section.split("| range |"))
    subjects, ranges = (
        [name for cell in cells for name in re.findall("`(.*?)`", cell)] for cells in (subjects, ranges)
    )
    assert len(subjects) >= 20
    assert len(ranges) >= 7
    for text in ranges:
        counted = not text.endswith("s")
        assert parse_expectation(f"{'V1' if counted else 'median'}={text}").range.text == text
    for subject in subjects:
        is_time = subject in ("median", "p95", "p99", "maximum")
        assert parse_expectation(f"{subject}={'..5s' if is_time else '5'}").subject == subject


@pytest.mark.parametrize("text", ["V1=10%..", "median=..5s", "maximum=0ms.."])
def test_nothing_seen_meets_no_share_and_no_time(text):
    """Without a request there is no share, without an answer no time; counts are 0."""
    assert not judge([parse_expectation(text)], tally_of())[0].met
    assert judge([parse_expectation("V1=0")], tally_of())[0].met


@pytest.mark.parametrize(
    ("subject", "meant"),
    [
        ("Webserver v1", "Webserver V1"),
        ("webserver V2", "Webserver V2"),
        ("name POD-3", "pod-3"),
        ("Webserver V1", None),
        ("teapots", None),
        ("Something else", None),
        ("FI", None),
    ],
)
def test_did_you_mean(subject, meant):
    """Where nothing of that name was seen, the version or pod that is nearly so is named; never for words."""
    assert verdict(f"{subject}=1..").did_you_mean == meant


def test_nothing_is_meant_where_none_was_expected():
    """An expectation that is met needs no hint."""
    assert verdict("Webserver v1=0").did_you_mean is None


def test_what_is_expected_itself_is_not_meant():
    """A name that another expectation has is not taken for a mistyped one: with weights 0 and 100 nothing is."""
    tally = tally_of(sample(proxied(web("Webserver V2", "pod-2"))))
    expected = [parse_expectation(text) for text in ("Webserver V1=1..", "Webserver V2=1")]
    assert [each.did_you_mean for each in judge(expected, tally)] == [None, None]
    assert judge(expected[:1], tally)[0].did_you_mean == "Webserver V2"


@pytest.mark.parametrize(
    ("text", "allows"),
    [("unanswered=..5", True), ("unanswered=1%..", True), ("unanswered=0", False), ("errors=5", False)],
)
def test_unanswered_calls_may_be_expected(text, allows):
    """Only an expectation about unanswered calls allows some."""
    assert parse_expectation(text).allows_unanswered is allows
