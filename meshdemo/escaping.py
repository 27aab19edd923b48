"""What somebody else said, made harmless: for a URL, a header or a log line, and for a terminal."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

# The percent sign among them, so that what is encoded already is not encoded twice.
_VISIBLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_MESSAGE_LENGTH = 2000
# Printable by category, but nothing that one sees (Unicode, DerivedCoreProperties, Default_Ignorable_Code_Point, and
# the blank Braille pattern).
_INVISIBLE = re.compile(
    "[\u2800\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")


def percent_encode(text: str) -> str:
    """Return latin-1 `text` with every byte that is not visible ASCII percent-encoded.

    The result holds no space, no line break and no control character: it cannot forge a log line, a header or a
    second request.
    """
    return quote(text, safe=_VISIBLE_ASCII, encoding="latin-1", errors="replace")


def replace_surrogates(text: str) -> str:
    """Return `text` without lone surrogates, which JSON can name and UTF-8 cannot hold."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def printable(text: str) -> str:
    r"""Return `text` on one line, with each character that one cannot see as an escape such as `\n` or `\u202e`.

    Those are control characters, line breaks, and what changes the direction of text or takes no room; spaces of any
    width become plain ones. The result cannot move a cursor, forge a line, or look like another text by what it hides.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    if character.isprintable() and not _INVISIBLE.match(character):
        return character
    if unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode()


def printable_message(text: str) -> str:
    """Return `text` with its line breaks, each line made printable, and cut where it is endless."""
    cut = text if len(text) <= _MESSAGE_LENGTH else text[:_MESSAGE_LENGTH] + "..."
    return "\n".join(printable(line) for line in cut.split("\n"))
