"""A text that a regular expression matches, for the expressions that policies have.

It knows what RE2 and Python's module write alike: plain characters, escapes, classes, groups, alternatives and
repetitions (RE2, "Syntax"). A text is returned only if the expression matches it as a whole.
"""

from __future__ import annotations

import re

# What stands for the classes of characters: letters are in most of them.
_ESCAPES = {"d": "0", "w": "x", "s": " ", "D": "x", "W": "-", "S": "x"}
_NAMED = "x0-/ "
_REPETITION = re.compile(r"(?:\*|\+|\?|\{(?P<least>\d+)(?:,\d*)?\})\??")
_LONGEST = 200


def example_of(expression: str) -> str | None:
    """Return a short text that a regular expression matches as a whole, None where none is found."""
    reader = _Reader(expression.removeprefix("(?i)"))
    try:
        text = reader.alternatives()
        is_matched = len(text) <= _LONGEST and re.fullmatch(expression, text) is not None
    except (_UnknownError, re.error, RecursionError):
        return None
    return text if is_matched else None


class _UnknownError(Exception):
    """Something that is not read here."""


class _Reader:
    """Reads an expression from its beginning, and makes a text on the way."""

    def __init__(self, expression: str) -> None:
        self._text = expression
        self._at = 0

    def alternatives(self) -> str:
        """Return a text for what stands up to the end of the group: the first alternative that has any."""
        texts = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            texts.append(self._sequence())
        return next(filter(None, texts), "")

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _sequence(self) -> str:
        parts = []
        while self._next() not in ("", "|", ")"):
            piece = self._piece()
            repeated = _REPETITION.match(self._text, self._at)
            if not repeated:
                parts.append(piece)
                continue
            self._at = repeated.end()
            optional = repeated[0][0] in "*?"
            parts.append("" if optional else piece * int(repeated["least"] or 1))
        return "".join(parts)

    def _piece(self) -> str:
        character = self._next()
        self._at += 1
        if character == "(":
            return self._group()
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escape()
        if character in "*+?{":
            raise _UnknownError
        return {".": "x", "^": "", "$": ""}.get(character, character)

    def _group(self) -> str:
        if self._next() == "?":
            start = re.compile(r"\?(?::|P?<\w+>)").match(self._text, self._at)
            if not start:
                raise _UnknownError
            self._at = start.end()
        text = self.alternatives()
        if self._next() != ")":
            raise _UnknownError
        self._at += 1
        return text

    def _escape(self) -> str:
        character = self._next()
        self._at += 1
        if character.isalnum() and character not in _ESCAPES:
            raise _UnknownError
        return _ESCAPES.get(character, character)

    def _class(self) -> str:
        found = re.compile(r"\^?\]?(?:\\.|[^\]\\])*\]").match(self._text, self._at)
        if not found:
            raise _UnknownError
        self._at = found.end()
        own = f"[{found[0]}"
        first = found[0].lstrip("^\\")[:1]
        return next((each for each in (first, *_NAMED) if re.fullmatch(own, each)), "")
