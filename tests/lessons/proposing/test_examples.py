"""Texts that regular expressions match."""

import re

import pytest

from meshdemo.lessons.proposing.examples import example_of


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("/v2/.*", "/v2/"),
        ("/r/[0-9]{2}", "/r/00"),
        ("^(.*?;)?(user=jason)(;.*)?$", "user=jason"),
        (".*Firefox.*", "Firefox"),
        ("(a|b)+c", "ac"),
        (r"/v\d+\.x/[^/]+", "/v0.x/x"),
        ("(?i)jason", "jason"),
        ("(?P<user>jason)|eve", "jason"),
        ("[a-f]{2,4}?z?", "aa"),
        (r"[]\-]", "]"),
    ],
)
def test_what_is_matched(expression, text):
    """A short text is found that the expression matches as a whole."""
    assert example_of(expression) == text
    assert re.fullmatch(expression, text)


@pytest.mark.parametrize("expression", [r"a\bc", "(a", "[a", "*a", "(?=a)a", r"\pL", "a{500}", "a$b", "(" * 5000])
def test_what_is_not_found(expression):
    """Nothing is said where no text is found: what is not read, is wrong, or matches nothing short."""
    assert example_of(expression) is None
