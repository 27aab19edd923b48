"""Text for a terminal."""

import io

import pytest

from meshdemo import terminal


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Webserver V1 äöü 日本 👋", "Webserver V1 äöü 日本 👋"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\nb\r\nc\td", r"a\nb\r\nc\td"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("\u2028\u2029\x85", r"\u2028\u2029\x85"),
        ("1\u202e23\u2066", r"1\u202e23\u2066"),
        ("V1\u200b\u00ad\ufeff", r"V1\u200b\xad\ufeff"),
        ("V1\u3164\ufe0f\u2800\U000e0101", r"V1\u3164\ufe0f\u2800\U000e0101"),
        ("\ud800\ue000", r"\ud800\ue000"),
        ("a\u00a0b\u3000c", "a b c"),
        ("e\u0301", "e\u0301"),
    ],
    ids=["what one sees", "escapes", "line breaks", "C1 and DEL", "other line breaks", "directions", "no width",
         "invisible", "halves and private ones", "spaces", "combining"],
)  # fmt: skip
def test_visible(text, shown):
    """What one cannot see is an escape, and everything else is as it was."""
    assert terminal.visible(text) == shown


def test_no_character_is_dangerous():
    """Of all characters there are, none can move a cursor, end a line or change a direction."""
    shown = terminal.visible("".join(map(chr, range(0x110000))))
    assert shown.isprintable()
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


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
