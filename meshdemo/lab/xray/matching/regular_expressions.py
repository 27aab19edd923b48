"""Regular expressions on which RE2, which Envoy has, and Python agree, and which take no long time here.

RE2 knows neither backtracking nor what needs it; Python's module knows other classes and another syntax at the edges.
What both read alike is listed here, and all else is left alone.
"""

from __future__ import annotations

import functools
import re

# One piece of an expression that both know: a class of plain characters and ranges, an escape, a group or its end, an
# anchor, a repetition, a plain character.
_CLASS = r"\[\^?(?:\\[dwsDWS.\-\]\[\\^/+*?|(){}$]|[^\\\]\[&~|\-]-[^\\\]\[&~|\-]|[^\\\]\[&~|\-]|-(?=\]))+\]"
_ESCAPE = r"\\[dwsDWS.\-\[\]\\^$/+*?|(){}]"
_REPETITION = r"[*+?]\??|\{\d{1,3}(?:,\d{0,3})?\}\??"
_PIECE = re.compile(
    rf"(?P<one>{_CLASS}|{_ESCAPE}|[^\\\[\](){{}}*+?|^$])|(?P<open>\((?:\?:)?)(?!\?)|(?P<close>\))|(?P<edge>[\^$|])"
    rf"|(?P<repeated>{_REPETITION})"
)
_IGNORE_CASE = "(?i)"
# Python tries one way after the other: how many it may have to try at most, a small part of a second.
_MOST_STEPS = 1_000_000


def full_match(pattern: str, text: str) -> bool | None:
    """Return whether an expression matches a whole text; None where only RE2 itself can tell."""
    ignores_case = pattern.startswith(_IGNORE_CASE)
    plain = pattern.removeprefix(_IGNORE_CASE)
    if ignores_case and not (plain.isascii() and text.isascii()):
        return None
    branches = _count_branches(plain)
    if branches is None or (len(text) + 1) ** branches > _MOST_STEPS or "\n" in text:
        return None
    try:
        compiled = re.compile(plain, re.ASCII | (re.IGNORECASE if ignores_case else 0))
    except re.error:
        return None
    return compiled.fullmatch(text) is not None


@functools.lru_cache(1024)
def _count_branches(pattern: str) -> int | None:
    """Return how many repetitions and alternatives an expression has; None where they are nested, or it is not plain.

    What is repeated has to have none within: else the time may grow with a power of two.
    """
    branches, position = 0, 0
    starts: list[int] = []  # how many branches there were where each open group began
    within = 0  # how many the piece before has
    can_repeat = False
    while position < len(pattern):
        piece = _PIECE.match(pattern, position)
        if piece is None:
            return None
        kind = piece.lastgroup
        if kind == "repeated":
            if not can_repeat or within:
                return None
            branches += 1
        elif kind == "open":
            starts.append(branches)
        elif kind == "close":
            if not starts:
                return None
            within = branches - starts.pop()
        elif piece[0] == "|":
            branches += 1
        if kind == "one":
            within = 0
        can_repeat = kind in ("one", "close")
        position = piece.end()
    return None if starts else branches
