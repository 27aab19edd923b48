"""Regular expressions are evaluated where RE2 and Python agree, and in no long time."""

import time

import pytest

from meshdemo.lab.xray.matching.regular_expressions import full_match


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (".*", "", True),
        ("/v[1-3]/.+", "/v2/a", True),
        ("/v[1-3]/.+", "/v4/a", False),
        ("a|bc", "ab", False),
        ("(a|b)c", "bc", True),
        ("(?:ab)+", "abab", True),
        (r"\d{3}", "123", True),
        (r"\d{3}", "١٢٣", False),
        (r"^a\.b$", "a.b", True),
        ("a+?b??", "aa", True),
        ("(?i)Tester", "tESTER", True),
        ("[^a-c.]x", "dx", True),
        (r"[\w-]+", "a-b_c", True),
        ("ü.", "üx", True),
    ],
)
def test_match(pattern, text, matches):
    """An expression that both read alike has to match the whole text."""
    assert full_match(pattern, text) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        r"\pN", r"(?P<a>b)", "(?=a)", "(?s).", r"a\1", "a**", "a++", "*a", "[[:alpha:]]", "[a&&b]", "(a", "a)", "a{,3}",
        r"\Qa\E", r"\x41", r"\b", "(a+)+b", "(a|b)*c", "(?i)ü", "[b-a]", "[]a]", "^*", "a{2000}", ".*" * 30,
    ],
)  # fmt: skip
def test_unknown(pattern):
    """What one of them reads otherwise, or what may take long, is left alone."""
    assert full_match(pattern, "a" * 40) is None


def test_time():
    """The worst that is evaluated takes no long time."""
    started = time.process_time()
    assert full_match(".*.*b", "a" * 99) is False
    assert full_match(".*.*b", "a" * 5000) is None
    assert time.process_time() - started < 1
