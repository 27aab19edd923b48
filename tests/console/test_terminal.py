"""Text for a terminal."""

import io

import pytest

from meshdemo.console import terminal


@pytest.mark.parametrize(("text", "width"), [("", 0), ("abc", 3), ("日本", 4), ("e\u0301", 1), ("ｱ", 1), ("👋", 2)])
def test_width(text, width):
    """Wide characters take two columns, combining ones none."""
    assert terminal.width_of(text) == width


@pytest.mark.parametrize(
    ("text", "width", "end", "middle"),
    [
        ("abcdefgh", 8, "abcdefgh", "abcdefgh"),
        ("abcdefgh", 5, "abcd…", "ab…gh"),
        ("abcdefgh", 1, "…", "…"),
        ("日本日本", 5, "日本…", "日…本"),
        ("日本日本", 4, "日…", "日…"),
        ("e\u0301e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301…", "e\u0301…e\u0301"),
    ],
)
def test_cut(text, width, end, middle):
    """A text is cut at its end or in its middle, and never takes more columns, whatever it holds."""
    assert terminal.cut(text, width, "…") == end
    assert terminal.cut(text, width, "…", middle=True) == middle
    assert max(map(terminal.width_of, (end, middle))) <= width


def test_pad():
    """A text is filled by columns, not by characters."""
    assert terminal.pad("日本", 6) == "日本  "


@pytest.mark.parametrize("width", [1, 2, 3, 5, 10, 40])
def test_wrap(width):
    """Lines are broken between words, words where they must be, and nothing is lost."""
    text = "answered at try 1: 203, spiffe://cluster.local/ns/default 日本語"
    lines = terminal.wrap(text, max(width, 2))
    assert all(terminal.width_of(line) <= max(width, 4) for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_wrap_between_words():
    """What follows the first line is indented."""
    assert terminal.wrap("one two three four", 10) == ["one two", "  three", "  four"]
    assert terminal.wrap("short", 10) == ["short"]
    assert terminal.wrap("in  two  columns", 8) == ["in  two", "  column", "  s"]


@pytest.mark.parametrize(("encoding", "bar"), [("utf-8", "█"), ("ascii", "#"), ("latin-1", "#"), ("cp437", "#")])
def test_marks(encoding, bar):
    """A terminal that lacks one of the characters gets letters for all."""
    marks = terminal.marks_for(io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert marks.bar == bar
    assert (marks.met == "✓") == (bar == "█")


def test_size_without_a_terminal(monkeypatch):
    """A pipe has the size that the environment tells, or 80 and 24."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("LINES", raising=False)
    monkeypatch.setattr("os.get_terminal_size", lambda *_: (_ for _ in ()).throw(OSError))
    assert terminal.size_of(io.StringIO()) == terminal.size_of(None) == (80, 24)
    monkeypatch.setenv("COLUMNS", "50")
    assert terminal.size_of(io.StringIO()) == (50, 24)
