"""What somebody else said, made harmless."""

import pytest

from meshdemo.escaping import percent_encode, printable, printable_message, replace_surrogates


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
def test_printable(text, shown):
    """What one cannot see is an escape, and everything else is as it was."""
    assert printable(text) == shown


def test_no_character_is_dangerous():
    """Of all characters there are, none can move a cursor, end a line or change a direction."""
    shown = printable("".join(map(chr, range(0x110000))))
    assert shown.isprintable()
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


def test_message():
    """Of a message the line breaks stay, no other control character reaches the terminal, and none is without end."""
    assert printable_message("a\x1b[31m\nb\u202e") == "a\\x1b[31m\nb\\u202e"
    assert len(printable_message("x" * 10**6)) < 3000


def test_percent_encode():
    """What is not visible ASCII is percent-encoded, and what is encoded already stays as it is."""
    assert percent_encode("/a%20b \r\n\xff") == "/a%20b%20%0D%0A%FF"


def test_replace_surrogates():
    """Halves of characters, which UTF-8 cannot hold, are replaced."""
    assert replace_surrogates("a\ud800b") == "a\ufffdb"
