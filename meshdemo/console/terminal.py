"""Text for a terminal: printable text measured in columns, cut, filled and wrapped.

A column is what a terminal gives one narrow character: wide ones of East Asian scripts take two, combining marks none
(Unicode Standard Annex 11, "East Asian Width").
"""

from __future__ import annotations

import os
import shutil
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TextIO


@dataclass(frozen=True)
class Marks:
    """The characters that draw a table."""

    bar: str = "█"
    met: str = "✓"
    unmet: str = "✗"
    ellipsis: str = "…"


ASCII_MARKS = Marks(bar="#", met="v", unmet="x", ellipsis="..")


def marks_for(stream: TextIO | None) -> Marks:
    """Return the marks that the encoding of `stream` has."""
    marks = Marks()
    try:
        "".join(vars(marks).values()).encode((stream and stream.encoding) or "ascii")
    except (LookupError, UnicodeEncodeError):
        return ASCII_MARKS
    return marks


def width_of(text: str) -> int:
    """Return how many columns a printable `text` takes."""
    return len(text) if text.isascii() else sum(map(_character_width, text))


@lru_cache(4096)
def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int, ellipsis: str = "", *, middle: bool = False) -> str:
    """Return a printable `text` in at most `width` columns; where it is cut, at end or middle, is `ellipsis`."""
    if width_of(text) <= width:
        return text
    ellipsis = ellipsis[:width]
    left = width - len(ellipsis)
    tail = _beginning(text[::-1], left // 2)[::-1] if middle else ""
    while tail and not _character_width(tail[0]):  # it belongs to a character that is cut
        tail = tail[1:]
    return _beginning(text, left - width_of(tail)) + ellipsis + tail


def _beginning(text: str, width: int) -> str:
    for end, character in enumerate(text):
        width -= _character_width(character)
        if width < 0:
            return text[:end]
    return text


def pad(text: str, width: int) -> str:
    """Return a printable `text` filled with spaces up to `width` columns."""
    return text + " " * (width - width_of(text))


def wrap(text: str, width: int, indent: str = "  ") -> list[str]:
    """Return a printable `text` as lines of at most `width` columns, broken at words; all but the first indented."""
    lines, line = [], ""
    for word in text.split(" "):
        candidate = f"{line} {word}" if line.strip() else line + word
        if width_of(candidate) <= width:
            line = candidate
            continue
        if line.strip():
            lines.append(line.rstrip(" "))
            line = indent
        while width_of(line + word) > width:
            piece = _beginning(word, width - len(line)) or word[:1]
            lines.append(line + piece)
            word, line = word[len(piece) :], indent
        line += word
    return [*lines, line]


def size_of(stream: TextIO | None) -> tuple[int, int]:
    """Return columns and rows of the terminal behind `stream`; of none, those of the environment, or 80 and 24."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno()) if stream else (0, 0)
    except (OSError, ValueError):
        columns = rows = 0
    if not columns or not rows:
        columns, rows = shutil.get_terminal_size()
    return columns, rows


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether `stream` is a terminal that knows how to move its cursor."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False
