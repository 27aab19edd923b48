"""What the live page shows of the lab: the policies in force, what was changed last, and what was refused."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from difflib import SequenceMatcher
from typing import Any

from meshdemo.escaping import printable
from meshdemo.lab.edits.state import State
from meshdemo.lab.files import documents
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.files.numbers import find_numbers
from meshdemo.lab.files.sources import shown_path

# What is shown of the files: a page is for reading.
_LINES = 400
_LINE_LENGTH = 200
# How many lines stand around a line that was refused.
_AROUND = 2


@dataclass(frozen=True)
class Subject:
    """What runs in the lab: a title, the link of a lesson's scene, two permissions, and what became of the lesson.

    The page may press the keys of the `desk`, and `turns` numbers. `about` says what a mesh should do that is to be
    mended. `checks` are what the lesson's calls were judged by, each with whether it is met, None for what is not
    judged, and `verdict` sums up.
    """

    title: str = ""
    link: str = ""
    desk: bool = False
    turns: bool = False
    about: str = ""
    checks: tuple[tuple[str, bool | None], ...] = ()
    verdict: str = ""


#: What has no title of its own.
FILES = Subject()


@dataclass(frozen=True)
class Edit:
    """The last change of the files: when, what it did in words, and the state before it, None for a new subject."""

    time: str
    texts: tuple[str, ...]
    before: State | None


@dataclass(frozen=True)
class Refusal:
    """Why the files as they are now are not in force; `text` is that of the refused file, where it is known."""

    problem: str
    file: str | None = None
    line: int | None = None
    text: str = ""


class PageView:
    """What is shown at a moment, for several readers, who may wait until it is another."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shown: tuple[object, ...] = ()
        self._document: dict[str, Any] = {"revision": ""}

    def show(self, state: State, subject: Subject, edit: Edit | None, refusal: Refusal | None) -> None:
        """Show something; nothing is done where it is what is shown."""
        shown = (state, subject, edit, refusal)
        if len(shown) == len(self._shown) and all(one is other for one, other in zip(shown, self._shown, strict=True)):
            return
        document = describe(state, subject, edit, refusal)
        revision = hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]
        with self._changed:
            self._shown, self._document = shown, {"revision": revision, **document}
            self._changed.notify_all()

    def get(self, seen: str, seconds: float) -> dict[str, Any] | None:
        """Return what is shown as soon as its revision is not the one that was seen, or None after some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._document["revision"] != seen, seconds)
            return self._document if self._document["revision"] != seen else None


def describe(state: State, subject: Subject, edit: Edit | None, refusal: Refusal | None) -> dict[str, Any]:
    """Return the object of `GET /scene`; docs/reference.md says what the page shows of it."""
    texts = dict(state.files.cluster.texts)
    return {
        **asdict(subject),
        "files": list(texts),
        "policies": _policies(state, edit, turns=subject.turns),
        "changes": list(edit.texts) if edit else [],
        "changed_at": edit.time if edit else None,
        "refusal": _refusal(refusal),
    }


def now_as_text() -> str:
    """Return the time as the page reads it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _policies(state: State, edit: Edit | None, *, turns: bool) -> list[dict[str, Any]]:
    """Return the documents that hold policies, each with its lines; those that the edit changed are marked."""
    left = _LINES
    found = []
    before = {manifest.id: manifest for manifest in edit.before.files.manifests} if edit and edit.before else {}
    for manifest in _one_for_each_document(state.cluster.policies):
        text = dict(state.files.cluster.texts).get(shown_path(manifest.path), "")
        lines = _lines_of(text, manifest)
        changed: set[int] = set()
        former = before.get(manifest.id)
        if edit and edit.before and (former is None or former.document != manifest.document):
            former_text = dict(edit.before.files.cluster.texts).get(shown_path(former.path), "") if former else ""
            changed = _changed_lines(_lines_of(former_text, former) if former else [], lines)
        numbers = {number.line: number for number in find_numbers(text)} if turns else {}
        skipped = _boilerplate(manifest, lines, changed)
        described = [
            {
                "number": number,
                "text": _cut(line),
                "changed": index in changed,
                "turn": _turn(numbers[number]) if number in numbers else None,
            }
            for index, (number, line) in enumerate(lines)
            if index >= skipped
        ]
        file = shown_path(manifest.path)
        found.append({"label": manifest.label, "file": file, "lines": described[:left], "more": len(described) > left})
        left = max(0, left - len(described))
    return found


def _one_for_each_document(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return the manifests without those that stand in the same document, a list, as one before."""
    return list({(manifest.path, manifest.line): manifest for manifest in reversed([*manifests])}.values())[::-1]


def _lines_of(text: str, manifest: Manifest) -> list[tuple[int, str]]:
    """Return the lines of an object's document with their numbers, without comments at its end."""
    last = documents.last_line(text, manifest.line)
    lines = list(enumerate(text.splitlines(), 1))[manifest.line - 1 : last]
    while lines and (not lines[-1][1].strip() or lines[-1][1].lstrip().startswith("#")):
        lines.pop()
    return lines


def _boilerplate(manifest: Manifest, lines: Sequence[tuple[int, str]], changed: set[int]) -> int:
    """Return how many lines at the beginning say no more than kind and name, which stand above them."""
    metadata = manifest.document.get("metadata") or {}
    found = [index for index, (_, line) in enumerate(lines) if line.startswith("spec:")]
    is_plain = isinstance(metadata, dict) and metadata.keys() <= {"name", "namespace"}
    return found[0] if found and is_plain and all(index >= found[0] for index in changed) else 0


def _changed_lines(before: Sequence[tuple[int, str]], after: Sequence[tuple[int, str]]) -> set[int]:
    """Return the indexes of lines that are others than before."""
    old, new = [text for _, text in before], [text for _, text in after]
    operations = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return {index for kind, _, _, start, end in operations if kind != "equal" for index in range(start, end)}


def _turn(number: Any) -> dict[str, Any]:
    names = ("label", "path", "value", "is_time", "least", "most", "step")
    return {name: getattr(number, name) for name in names}


def _refusal(refusal: Refusal | None) -> dict[str, Any] | None:
    if refusal is None:
        return None
    lines = list(enumerate(refusal.text.splitlines(), 1)) if refusal.line else []
    around = [
        {"number": number, "text": _cut(text), "changed": number == refusal.line, "turn": None}
        for number, text in lines
        if abs(number - (refusal.line or 0)) <= _AROUND
    ]
    return {"problem": refusal.problem, "file": refusal.file, "line": refusal.line, "lines": around}


def _cut(line: str) -> str:
    line = printable(line.replace("\t", " ").rstrip())
    return line if len(line) <= _LINE_LENGTH else f"{line[:_LINE_LENGTH]} ..."
