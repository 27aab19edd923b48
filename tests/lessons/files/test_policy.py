"""A policy for people: cut, numbered, in columns, and what an edit has changed in it."""

import click
import pytest
from support import ROOT

from meshdemo.console.terminal import Marks
from meshdemo.lessons.files.policy import changed_lines, cut_policy, describe_changes, excerpt, pages_of

SPLIT = (ROOT / "k8s" / "istio" / "split.yaml").read_text()


def lesson(name):
    return (ROOT / "k8s" / f"{name}.yaml").read_text()


def lines_of(policy):
    return [[line.text for line in each] for each in policy.objects]


def test_what_matters():
    """Metadata and versions are left out, the numbers are those of the file."""
    policy = cut_policy(SPLIT)
    assert [each[0] for each in lines_of(policy)] == ["kind: VirtualService", "kind: DestinationRule"]
    text = "\n".join(map("\n".join, lines_of(policy)))
    assert "metadata" not in text
    assert "apiVersion" not in text
    lines = SPLIT.splitlines()
    assert all(lines[line.number - 1] == line.text for each in policy.objects for line in each)


@pytest.mark.parametrize(
    ("name", "kinds", "others"),
    [
        ("istio/abort", ["VirtualService"], []),
        ("istio/sticky", ["DestinationRule"], []),
        ("istio/mutual-tls", ["PeerAuthentication"], ["ServiceAccount outsider", "Deployment outsider"]),
        ("istio/ingress", ["Gateway", "VirtualService"], []),
    ],
)
def test_what_does_not_matter(name, kinds, others):
    """A policy that changes nothing is left out, and so are subsets that nobody uses; other objects are named."""
    policy = cut_policy(lesson(name))
    assert [each[0].removeprefix("kind: ") for each in lines_of(policy)] == kinds
    assert policy.others == others
    assert all("subsets:" not in text for each in lines_of(policy) for text in each)


def test_the_whole_policy():
    """Of an exercise all policies are shown, since any line may be the wrong one."""
    kinds = [each[0] for each in lines_of(cut_policy(lesson("istio/sticky"), whole=True))]
    assert kinds == ["kind: VirtualService", "kind: DestinationRule"]


def test_columns():
    """Two objects stand beside each other where they do not fit below each other, and no line is too wide."""
    policy = cut_policy(SPLIT)
    (page,) = pages_of(policy, 79, 17, Marks())
    assert click.unstyle(page[0]).split() == ["20", "kind:", "VirtualService", "38", "kind:", "DestinationRule"]
    assert len(pages_of(policy, 79, 30, Marks())[0]) == 25
    narrow = pages_of(policy, 40, 10, Marks())
    assert len(narrow) == 3
    assert max(len(click.unstyle(line)) for page in narrow for line in page) <= 40


def test_long_lines_are_cut():
    """A line that does not fit the window is cut, and says so."""
    (page,) = pages_of(cut_policy("kind: A\nspec:\n  a: " + "x" * 100), 40, 10, Marks())
    assert click.unstyle(page[2]) == "  3    a: " + "x" * 29 + "…"


def test_changes():
    """An edit is told field by field with its line, and its lines are marked."""
    edited = (
        SPLIT.replace("weight: 75", "weight: 0").replace("subset: v2", "subset: v3").replace("    - webserver\n", "")
    )
    assert describe_changes(SPLIT, edited) == [
        "line 25: - webserver removed",
        "line 30: weight 75 -> 0",
        "line 33: subset v2 -> v3",
    ]
    assert changed_lines(SPLIT, edited) == {30, 33}
    (page,) = pages_of(cut_policy(edited), 79, 17, Marks(), {30, 33})
    assert [click.unstyle(line)[:5] for line in page if ">" in click.unstyle(line)[:5]] == [" 30> ", " 33> "]


def test_changes_of_other_kinds():
    """Lines that come, that become a comment, or that hold what no terminal should see are told, too."""
    assert describe_changes("a:\n", "a:\n  b: 1\n") == ["line 2: b: 1 added"]
    assert describe_changes("a: 1\n", "# a: 1\n") == ["line 1: a: 1 -> # a: 1"]
    assert describe_changes("a: 1\n", "a: \x1b[2J\n") == ["line 1: a 1 -> \\x1b[2J"]
    assert describe_changes("a: 1\n", "a: 1\n") == []


def test_excerpt():
    """Lines around a place are as many as there is room for, also at both ends of a file."""
    text = "".join(f"{number}\n" for number in range(1, 21))
    assert [line.number for line in excerpt(text, 10, 5)] == [8, 9, 10, 11, 12]
    assert [line.number for line in excerpt(text, 1, 3)] == [1, 2, 3]
    assert [line.number for line in excerpt(text, 20, 3)] == [18, 19, 20]
    assert [line.number for line in excerpt("a", 9, 3)] == [1]
