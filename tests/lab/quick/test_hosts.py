"""Comparing the names of hosts."""

import pytest

from meshdemo.lab.quick.rules.hosts import intersection, matches, specificity, subset_of


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [("a.b.c", "a.b.c"), ("a.b.c", "*.b.c"), ("*.b.c", "*.c"), ("*.b.c", "*.b.c"), ("*.b.c", "*"), ("a", "*")],
)
def test_names_within_others(narrow, wide):
    """A name is within itself, and within each wildcard that ends as it does."""
    assert subset_of(narrow, wide)
    assert subset_of(wide, narrow) == (narrow == wide)
    assert matches(narrow, wide) and matches(wide, narrow)
    assert intersection([narrow], [wide]) == intersection([wide], [narrow]) == [narrow]


@pytest.mark.parametrize(("one", "other"), [("a.b", "c.b"), ("a.b", "*.c"), ("*.a.b", "*.c"), ("*.c", "*.a.b")])
def test_names_beside_others(one, other):
    """Names that end otherwise have no host in common."""
    assert not subset_of(one, other)
    assert not matches(one, other)
    assert intersection([one], [other]) == []


def test_the_more_specific_name():
    """A whole name comes before a wildcard, and the longer before the shorter."""
    assert sorted(["*", "*.b.c", "a.c", "*.c", "a.b.c"], key=specificity) == ["a.b.c", "a.c", "*.b.c", "*.c", "*"]
