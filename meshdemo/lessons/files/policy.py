"""The policy of a lesson for people: cut to what matters, with the numbers of its lines.

The file is read as lines, not as YAML, since its lines are what is shown, and an edit may be no YAML at all.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import click

from meshdemo.console import terminal
from meshdemo.console.terminal import Marks
from meshdemo.escaping import printable

# What a policy is about: named below it, not shown; a policy that changes nothing is neither.
_SURROUNDINGS = frozenset({"Deployment", "Service", "ServiceAccount"})
_KIND = re.compile(r"kind: (\w+)")
_NAME = re.compile(r"  name: (\S+)")
# A VirtualService with nothing but these leads every call to its host, as none at all does.
_PLAIN = re.compile(r" *-? *(?:hosts|http|route|destination|spec):|\s*(?:- |host: )[\w.-]+$")
_YAML = re.compile(
    r"(?P<indent>\s*(?:- )*)(?P<key>[^\s:#\"'][^:#\"']*:(?= |$))?(?P<value>[^#]*|.*?)(?P<comment>(?<=\s)#.*|^\s*#.*)?$"
)
# In columns: between two columns of lines, and what the number of a line takes.
_GAP = 2
_NUMBER_WIDTH = 5


@dataclass(frozen=True)
class Line:
    """A line of a file with its number, counted from 1."""

    number: int
    text: str


@dataclass(frozen=True)
class Policy:
    """What is shown of a file: the lines of each policy, and the names of the other objects."""

    objects: list[list[Line]]
    others: list[str]


def cut_policy(text: str, *, whole: bool = False) -> Policy:
    """Return what matters of a file; with `whole` that is all policies as they are, without what they are about."""
    shown, others = [], []
    documents = list(_documents(text))
    uses_subsets = any(re.match(r"\s*(?:- )?subset:", line.text) for lines in documents for line in lines)
    for lines in documents:
        kind = next((match[1] for line in lines if (match := _KIND.match(line.text))), "")
        body = [line for line in _without_metadata(lines) if not line.text.startswith("apiVersion:")]
        if not whole and kind == "DestinationRule" and not uses_subsets:
            body = _without_block(body, "  subsets:")
        matters = whole or not _is_plain(kind, body)
        if kind not in _SURROUNDINGS and matters:
            shown.append(body)
        elif kind in _SURROUNDINGS:
            name = next((match[1] for line in lines if (match := _NAME.match(line.text))), "")
            others.append(f"{kind} {name}".strip())
    return Policy(shown, others)


def _documents(text: str) -> Iterator[list[Line]]:
    """Yield the lines of each object, without the comment at the beginning of the file."""
    lines = [Line(number, line.rstrip()) for number, line in enumerate(text.splitlines(), 1)]
    while lines and lines[0].text.startswith("#"):
        lines.pop(0)
    document: list[Line] = []
    for line in [*lines, Line(0, "---")]:
        if line.text != "---":
            document.append(line)
        elif any(each.text for each in document):
            yield document
            document = []


def _without_metadata(lines: Sequence[Line]) -> list[Line]:
    return _without_block(lines, "metadata:")


def _without_block(lines: Sequence[Line], opening: str) -> list[Line]:
    """Return lines without one that reads `opening`, and without what belongs to it."""
    depth = len(opening) - len(opening.lstrip())
    kept, is_inside = [], False
    for line in lines:
        if line.text.rstrip() == opening:
            is_inside = True
            continue
        if is_inside and line.text.strip() and len(line.text) - len(line.text.lstrip()) <= depth:
            is_inside = False
        if not is_inside:
            kept.append(line)
    return kept


def _is_plain(kind: str, body: Sequence[Line]) -> bool:
    """Tell whether an object changes nothing: a rule for all calls to the host itself, a host without settings."""
    rest = [line.text for line in body if not _KIND.match(line.text) and line.text.strip()]
    return kind in ("VirtualService", "DestinationRule") and all(_PLAIN.match(text) for text in rest)


def pages_of(policy: Policy, columns: int, rows: int, marks: Marks, changed: Collection[int] = ()) -> list[list[str]]:
    """Return the policy as pages of at most so many columns and rows, in two columns where one does not do.

    Lines whose numbers are in `changed` are marked.
    """
    also = [terminal.cut(f"     also: {_join(policy.others)}", columns, marks.ellipsis)] if policy.others else []
    room = max(1, rows - len(also))
    lines = [line for each in policy.objects for line in [*each, None]][:-1]
    half = (columns - _GAP) // 2
    fits = all(terminal.width_of(printable(line.text)) + _NUMBER_WIDTH <= half for line in lines if line)
    if len(lines) <= room or not fits:
        pages = [[format_line(line, columns, marks, changed) for line in each] for each in _chunks(lines, room)]
    else:
        columns_of_lines = list(_columns(policy, lines, room))
        formatted = [[format_line(line, half, marks, changed) for line in each] for each in columns_of_lines]
        pages = [_beside(formatted[index : index + 2], half) for index in range(0, len(formatted), 2)]
    return [*pages[:-1], (pages[-1] if pages else []) + also]


def _join(others: Sequence[str]) -> str:
    """Return objects by their names: `VirtualService and DestinationRule webserver, Deployment outsider`."""
    kinds: dict[str, list[str]] = {}
    for each in others:
        kind, _, name = each.partition(" ")
        kinds.setdefault(name, []).append(kind)
    return ", ".join(f"{' and '.join(each)} {name}".rstrip() for name, each in kinds.items())


def _chunks(lines: Sequence[Line | None], room: int) -> list[Sequence[Line | None]]:
    return [lines[start : start + room] for start in range(0, len(lines), room)]


def _columns(policy: Policy, lines: Sequence[Line | None], room: int) -> list[Sequence[Line | None]]:
    """Return lines as columns: one object in each where two objects have room so, else one column after the other."""
    if len(policy.objects) == 2 and all(len(each) <= room for each in policy.objects):
        return list(policy.objects)
    return _chunks(lines, room)


def _beside(sides: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return columns as the lines of one page."""
    lines = []
    for cells in itertools.zip_longest(*sides, fillvalue=""):
        padding = " " * (width + _GAP - terminal.width_of(click.unstyle(cells[0])))
        lines.append(padding.join(cells) if cells[-1] and len(cells) > 1 else cells[0])
    return lines


def format_line(line: Line | None, width: int, marks: Marks, changed: Collection[int]) -> str:
    """Return a line with its number, marked where that is in `changed`."""
    if line is None:
        return ""
    is_changed = line.number in changed
    number = click.style(
        f"{line.number:>3}{'>' if is_changed else ' '} ", fg="yellow" if is_changed else None, dim=not is_changed
    )
    text = terminal.cut(printable(line.text), width - _NUMBER_WIDTH, marks.ellipsis)
    return number + _highlight(text, bold=is_changed)


def _highlight(text: str, *, bold: bool) -> str:
    match = _YAML.match(text)
    if not match:
        return text
    parts = [(match["key"], "cyan"), (match["value"], None), (match["comment"], "green")]
    return match["indent"] + "".join(click.style(part, fg=colour, bold=bold or None) for part, colour in parts if part)


def excerpt(text: str, number: int, rows: int) -> list[Line]:
    """Return so many lines of a file around the one with a number."""
    lines = [Line(index, line) for index, line in enumerate(text.splitlines(), 1)]
    start = max(0, min(number - 1 - rows // 2, len(lines) - rows))
    return lines[start : start + rows]


def changed_lines(before: str, after: str) -> set[int]:
    """Return the numbers of the lines of `after` that `before` does not have there."""
    return {new + 1 for _, _, start, end in _changes(before, after) for new in range(start, end)}


def describe_changes(before: str, after: str) -> list[str]:
    """Return what an edit has changed, line by line: `line 22: weight 75 -> 0`."""
    old, new = before.splitlines(), after.splitlines()
    said = []
    for old_start, old_end, start, end in _changes(before, after):
        removed, added = old[old_start:old_end], new[start:end]
        if len(removed) == len(added):
            pairs = zip(range(start + 1, end + 1), removed, added, strict=True)
            said += [f"line {number}: {_describe_change(one.strip(), other.strip())}" for number, one, other in pairs]
        else:
            said += [
                f"line {old_start + index}: {line.strip()} removed"
                for index, line in enumerate(removed, 1)
                if line.strip()
            ]
            said += [
                f"line {start + index}: {line.strip()} added" for index, line in enumerate(added, 1) if line.strip()
            ]
    return [printable(each) for each in said]


def _describe_change(before: str, after: str) -> str:
    """Return a line that has become another; only the values where the field is the same."""
    name, colon, value = before.partition(": ")
    other_name, _, other_value = after.partition(": ")
    if colon and name == other_name:
        return f"{name.removeprefix('- ')} {value} -> {other_value}"
    return f"{before or 'an empty line'} -> {after or 'an empty line'}"


def _changes(before: str, after: str) -> list[tuple[int, int, int, int]]:
    matcher = SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    return [codes[1:] for codes in matcher.get_opcodes() if codes[0] != "equal"]
