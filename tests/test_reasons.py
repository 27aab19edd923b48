"""What an answer of the mesh means, from its status and its text."""

import re

import pytest

from meshdemo.reasons import REASONS, Origin, find_origin, find_reason, format_answer

RESET = "upstream connect error or disconnect/reset before headers. "


@pytest.mark.parametrize(
    ("status", "text", "flag"),
    [
        (503, RESET + "reset reason: overflow", "UO"),
        (503, RESET + "retried and the latest reset reason: overflow", "UO"),
        (503, RESET + "reset reason: connection failure", "UF"),
        (503, RESET + "reset reason: local connection failure", "UF"),
        (503, RESET + "reset reason: connection timeout", "UF"),
        (
            503,
            RESET + "retried and the latest reset reason: remote connection failure, transport failure reason: "
            "delayed connect error: Connection refused",
            "UF",
        ),
        (
            503,
            RESET + "reset reason: remote connection failure, transport failure reason: TLS_error:|268435581:SSL "
            "routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end",
            "UF",
        ),
        (503, RESET + "reset reason: connection termination", "UC"),
        (503, RESET + "reset reason: remote reset", "UR"),
        (503, RESET + "reset reason: remote refused stream reset", "UR"),
        (503, RESET + "reset reason: local reset", "LR"),
        (502, RESET + "reset reason: protocol error", "UPE"),
        (503, "no healthy upstream", "UH"),
        (503, "no healthy upstream\n", "UH"),
        (503, "DNS resolution failure", "DF"),
        (504, "upstream request timeout", "UT"),
        (408, "stream timeout", "SI"),
        (504, "stream timeout", "SI"),
        (503, "fault filter abort", "FI"),
        (418, "fault filter abort", "FI"),
        (403, "RBAC: access denied", "RBAC"),
        (401, "Jwt is missing", "JWT"),
        (401, "Jwt is expired", "JWT"),
        (401, "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections", "JWT"),
        (401, "Jwks doesn't have key to match kid or alg from Jwt", "JWT"),
        (403, "Audiences in Jwt are not allowed", "JWT"),
        (429, "local_rate_limited", "RL"),
        (503, "envoy overloaded", "OM"),
        (404, "", "NR"),
        (503, "", "NC"),
    ],
)
def test_flag(status, text, flag):
    """Each text of Envoy has the flag that Envoy writes to its access log."""
    reason = find_reason(status, text, Origin.ENVOY)
    assert reason.flag == flag
    assert f"({flag}): " in format_answer(status, text, reason)
    assert find_reason(status, text, Origin.ELSEWHERE) is None


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (200, ""),
        (404, "no such page"),
        (503, "sorry, no healthy upstream"),
        (500, "no healthy upstream"),
        (200, "upstream request timeout"),
        (403, "access denied"),
        (503, RESET + "reset reason: something new"),
        (401, "Jwtism"),
    ],
)
def test_unknown(status, text):
    """What Envoy does not say, or not with this status, keeps its text."""
    assert find_reason(status, text, Origin.ENVOY) is None
    assert format_answer(status, text, None) == f"{status} {text}".rstrip()


def test_words():
    """A reason is a status, a name, a flag and an explanation."""
    overflow = RESET + "reset reason: overflow"
    shown = format_answer(503, overflow, find_reason(503, overflow, Origin.ENVOY))
    assert shown == "503 overflow (UO): a limit of the connection pool"


def test_a_guess_is_called_probable():
    """An empty text fits more than one cause, and what came from behind the nearest Envoy may be anybody's."""
    assert format_answer(404, "", find_reason(404, "", Origin.ENVOY)).startswith("404 probably no route (NR): ")
    denied = find_reason(403, "RBAC: access denied", Origin.BEHIND_ENVOY)
    assert denied.label == "probably denied (RBAC)"
    assert not find_reason(403, "RBAC: access denied", Origin.ENVOY).is_guess


def test_an_empty_answer_from_behind_an_envoy_is_an_empty_answer():
    """An application may have nothing to say; that it does not exist is said by the nearest Envoy alone."""
    assert find_reason(404, "", Origin.BEHIND_ENVOY) is None
    assert find_reason(503, "", Origin.BEHIND_ENVOY) is None


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ({}, Origin.ELSEWHERE),
        ({"server": "nginx"}, Origin.ELSEWHERE),
        ({"server": "meshdemo", "x-enveloped": "1"}, Origin.ELSEWHERE),
        ({"server": "envoy"}, Origin.ENVOY),
        ({"server": "istio-envoy", "date": "now"}, Origin.ENVOY),
        ({"x-envoy-overloaded": "true"}, Origin.ENVOY),
        ({"server": "envoy", "x-envoy-upstream-service-time": "3"}, Origin.BEHIND_ENVOY),
        ({"server": "uvicorn", "x-envoy-upstream-service-time": "3"}, Origin.BEHIND_ENVOY),
    ],
    ids=str,
)
def test_origin(headers, origin):
    """Whether an Envoy was there, and made the answer or passed it on, is told by headers alone."""
    assert find_origin(headers) is origin


def test_tls_failure_is_told_from_a_refused_connection():
    """One flag stands for both, and the words say which it was."""
    failure = RESET + "reset reason: remote connection failure, transport failure reason: "
    assert find_reason(503, failure + "TLS_error:|1:SSL routines:OPENSSL_internal:X", Origin.ENVOY).name == "TLS failed"
    assert (
        find_reason(503, failure + "delayed connect error: Connection refused", Origin.ENVOY).name
        == "connection failed"
    )


def test_each_line_is_plain_data():
    """Flags are what Envoy's access log has, no line is there twice, and each fits a table of 79 columns."""
    for reason in REASONS:
        assert re.fullmatch("[A-Z]{2,4}", reason.flag)
        assert not reason.explanation.endswith(".")
        assert len(format_answer(503, "", reason._replace(is_guess=True))) <= 63
    assert len({(reason.status, reason.pattern) for reason in REASONS}) == len(REASONS)
