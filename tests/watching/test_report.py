"""The result of a watch as JSON."""

import json

from samples import BEHIND_ENVOY, ENVOY, proxied, report_of, sample, unanswered, web

from meshdemo.watching.report import to_json


def test_json():
    """Each field has its meaning, shares are of all requests from 0 to 1, and times are in milliseconds."""
    shown = to_json(
        report_of(
            *[sample(proxied(web(hostname=f"pod-{number % 2}")), seconds=number / 1000) for number in range(1, 4)],
            sample(proxied("no healthy upstream", status=503, headers=ENVOY), seconds=0.004),
            unanswered(),
            planned=None,
            expect=["V1=50%..70%"],
        )
    )
    assert shown == {
        "url": "http://a/",
        "path": "/",
        "planned": None,
        "requests": 5,
        "answered": 4,
        "failed": 2,
        "late": 0,
        "under_way": 0,
        "interrupted": False,
        "problem": None,
        "seconds": 2.0,
        "stopped_seconds": 0.0,
        "rate": 2.5,
        "change": None,
        "why": [],
        "versions": [
            {
                "content": "V1",
                "count": 3,
                "share": 0.6,
                "failed": 0,
                "pods": [
                    {"hostname": "pod-0", "count": 1, "share": 0.2, "failed": 0},
                    {"hostname": "pod-1", "count": 2, "share": 0.4, "failed": 0},
                ],
            }
        ],
        "others": [
            {
                "status": 503,
                "text": "no healthy upstream",
                "flag": "UH",
                "reason": "no healthy pod: no pod takes traffic",
                "guessed": False,
                "count": 1,
                "share": 0.2,
            }
        ],
        "statuses": {"200": 3, "503": 1},
        "errors": {},
        "unanswered": {"connection refused calling http://a/": 1},
        "tries": {},
        "identities": {},
        "paths": {"/": 3},
        "not_passed_on": [],
        "times": {
            "caller": {"median": 2.0, "p95": 4.0, "p99": 4.0, "maximum": 4.0},
            "proxy": {"median": 2.5, "p95": 2.5, "p99": 2.5, "maximum": 2.5},
        },
        "histogram": [
            {"from": 1.0, "to": 2.0, "count": 1, "share": 0.2},
            {"from": 2.0, "to": 5.0, "count": 3, "share": 0.6},
        ],
        "expectations": [
            {
                "subject": "V1",
                "range": "50%..70%",
                "seen": 0.6,
                "unit": "share",
                "met": True,
                "did_you_mean": None,
            }
        ],
    }
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_expectations():
    """What was seen is in the unit of the range."""
    samples = [sample(web()), sample(web(hostname="pod-2"))]
    shown = to_json(report_of(*samples, expect=["V1=2", "pods=3", "median=..2s", "v1=1", "V1=..1%"]))
    assert [(each["seen"], each["unit"], each["met"], each["did_you_mean"]) for each in shown["expectations"]] == [
        (2, "calls", True, None),
        (2, "pods", False, None),
        (10.0, "ms", True, None),
        (0, "calls", False, "V1"),
        (1.0, "share", False, None),
    ]


def test_reasons_are_known_or_guessed():
    """The same text has a reason where an Envoy was there, a guessed one from behind it, and none elsewhere."""
    texts = [sample("RBAC: access denied", 403, headers=headers) for headers in (ENVOY, BEHIND_ENVOY, {}, {})]
    shown = to_json(report_of(*texts))
    assert [(each["flag"], each["guessed"], each["count"]) for each in shown["others"]] == [
        (None, None, 2),
        ("RBAC", False, 1),
        ("RBAC", True, 1),
    ]
    assert shown["failed"] == 2


def test_only_own_headers_are_missed():
    """Of what a proxy did not pass on, what was sent with --header is told."""
    answer = sample(proxied(web(), not_passed_on=["user-agent", "x-tenant"]))
    assert report_of(answer, header_names=["x-tenant", "end-user"]).not_passed_on == ["x-tenant"]
