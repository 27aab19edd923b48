"""The list of all lessons, in groups, two beside each other, and that of all exercises."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

from meshdemo.console import terminal
from meshdemo.escaping import printable
from meshdemo.lessons.files.reading import Lesson

_NEEDS_ISTIOD = "*"
# In columns: the title and the name of a lesson on the left, and on the right.
_LEFT, _RIGHT = (17, 17), (16, 20)


def format_list(lessons: Sequence[Lesson], need_istiod: Collection[Lesson]) -> list[str]:
    """Return the lines of the list, which fits 80 columns and 24 rows for the lessons that come with the program."""
    groups = [list(group) for _, group in itertools.groupby(lessons, lambda lesson: lesson.group)]
    sides: tuple[list[str], list[str]] = ([], [])
    rows = sum(len(group) + 2 for group in groups)
    for group in groups:
        is_left = not sides[1] and len(sides[0]) + len(group) // 2 < rows / 2
        side, widths = (sides[0], _LEFT) if is_left else (sides[1], _RIGHT)
        side += [group[0].group, *(_format_row(each, *widths, is_marked=each in need_istiod) for each in group), ""]
    width = 2 + max((terminal.width_of(line) for line in sides[0]), default=0)
    beside = itertools.zip_longest(*(side[:-1] for side in sides), fillvalue="")
    lines = [f"{terminal.pad(left, width)}{right}".rstrip() for left, right in beside]
    mark = f"{_NEEDS_ISTIOD} needs --istiod. " if need_istiod else ""
    return [
        *lines,
        "",
        f"{mark}meshdemo lesson NUMBER or NAME runs one of them, --all --check",
        "all of them; meshdemo lesson --exercises lists broken meshes to mend.",
    ]


def _format_row(lesson: Lesson, title_width: int, name_width: int, *, is_marked: bool) -> str:
    mark = _NEEDS_ISTIOD if is_marked else " "
    title = terminal.pad(terminal.cut(printable(lesson.title), title_width), title_width)
    return terminal.pad(f"{lesson.number:>2}{mark}{title} {printable(lesson.name)}", 4 + title_width + name_width)


def format_exercises(exercises: Sequence[Lesson], need_istiod: Collection[Lesson]) -> list[str]:
    """Return the lines of the list of exercises."""
    lines = [_format_row(each, 40, 20, is_marked=each in need_istiod).rstrip() for each in exercises]
    mark = f"{_NEEDS_ISTIOD} needs --istiod. " if need_istiod else ""
    return [*lines, "", f"{mark}meshdemo lesson --exercises NUMBER or NAME runs one of them."]
