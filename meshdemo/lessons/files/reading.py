"""The lessons and the exercises: which there are, in which order and group.

They live in a folder, by default the one that comes with the program (bundled.py): its README.md lists the lessons in
tables, one for each group, and each is a file whose comment comes first. The exercises have a folder of their own in
it, whose README.md lists them with their hints.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshdemo.bundled import FOLDER_NAME
from meshdemo.errors import StartError
from meshdemo.lessons.files.comment import Command, Words, parse_commands, parse_words

EXAMPLE = "example.yaml"
_GUIDE = "README.md"
_EXERCISES = "exercises"
# "### Traffic", and below it rows "| Weighted split | `istio/split.yaml` | ... |".
_HEADING = re.compile(r"^### (?P<title>[^`\n]+)$")
_ROW = re.compile(r"^\| (?P<title>[^|]+) \| `(?P<file>[\w/-]+\.yaml)` \|")
# "### Nobody answers: `subset.yaml`", and below it hints, "1. Look at ...".
_EXERCISE = re.compile(r"^### (?P<title>.+): `(?P<file>[\w-]+\.yaml)`$")
_HINT = re.compile(r"^\d+\. (?P<hint>.+)$")
# A port of this machine.
_PORT = re.compile(r"(?:(?<=\b127\.0\.0\.1:)|(?<=\blocalhost:))\d+")
# What `meshdemo watch` calls without a URL, and its options without a value.
_WATCHED_URL = "http://127.0.0.1:3030/"
_WATCH_FLAGS = frozenset({"--keep-alive", "--no-keep-alive", "--why", "--json"})


@dataclass(frozen=True)
class Lesson:
    """A lesson or an exercise: its place in the order, counted from 1, its title, its file in the folder, its group.

    `hints` are those of an exercise. `edited` is the copy that a person has edited, which counts instead.
    """

    number: int
    title: str
    folder: Path
    file: str
    group: str = ""
    hints: tuple[str, ...] = ()
    edited: Path | None = None

    @property
    def path(self) -> Path:
        """Return where it is."""
        return self.edited or self.folder / self.file

    @property
    def name(self) -> str:
        """Return its short name, `split` or `gateway-api/split`."""
        return self.file.removesuffix(".yaml").removeprefix("istio/").removeprefix(f"{_EXERCISES}/")

    @property
    def is_exercise(self) -> bool:
        """Return whether it is one to be mended."""
        return self.file.startswith(f"{_EXERCISES}/")

    def text(self) -> str:
        """Return what the file holds; raise StartError when it cannot be read."""
        try:
            return self.path.read_text("utf-8")
        except (OSError, UnicodeError) as error:
            raise StartError(f"{self.path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None

    def comment(self) -> list[str]:
        """Return the lines of its comment, without the marks; raise StartError when it cannot be read."""
        lines = []
        for line in self.text().splitlines():
            if not line.startswith("#"):
                break
            lines.append(line.removeprefix("#").removeprefix(" ").rstrip())
        return lines

    def words(self) -> Words:
        """Return what its comment says."""
        return parse_words(self.comment())

    def commands(self) -> list[Command]:
        """Return the commands of its comment; raise StartError for one that cannot be read."""
        try:
            return parse_commands(self.comment())
        except ValueError as error:
            raise StartError(f"{self.path}: a command of the comment cannot be read: {error}.") from None


def replace_ports(command: Sequence[str], ports: Mapping[int, int]) -> list[str]:
    """Return a command with other ports of this machine, where `ports` has them by those that the lessons name."""
    words = _with_url(command)
    return [_PORT.sub(lambda match: str(ports.get(int(match[0]), match[0])), word) for word in words]


def ports_of(command: Sequence[str]) -> set[int]:
    """Return the ports of this machine that a command names."""
    return {int(port) for word in _with_url(command) for port in _PORT.findall(word)}


def _with_url(command: Sequence[str]) -> list[str]:
    """Return a command with the URL that it calls, also where that is the default of `meshdemo watch`."""
    words = list(command)
    rest = iter(words[2:] if words[:2] == ["meshdemo", "watch"] else ["other"])
    for word in rest:
        if not word.startswith("-"):
            return words
        has_value_behind = word not in _WATCH_FLAGS and (len(word) == 2 or (word[:2] == "--" and "=" not in word))
        next(rest, None) if has_value_behind else None
    return [*words, _WATCHED_URL]


def read_lessons(folder: Path) -> list[Lesson]:
    """Return the lessons of a folder in order; raise StartError when there are none."""
    guide = folder / _GUIDE
    try:
        text = guide.read_text("utf-8")
    except (OSError, UnicodeError):
        raise StartError(
            f"{folder} holds no lessons: leave out --folder, or name a copy that --copy has made."
        ) from None
    lessons: list[Lesson] = []
    group = ""
    for line in text.splitlines():
        if match := _HEADING.match(line):
            group = match["title"]
        elif match := _ROW.match(line):
            lessons.append(Lesson(len(lessons) + 1, match["title"].strip(), folder, match["file"], group))
    if not lessons or not (folder / EXAMPLE).is_file():
        raise StartError(f"{guide} lists no lessons beside an {EXAMPLE}: name another folder with --folder.")
    return lessons


def read_exercises(folder: Path) -> list[Lesson]:
    """Return the exercises of a folder in order; raise StartError when there are none."""
    guide = folder / _EXERCISES / _GUIDE
    try:
        text = guide.read_text("utf-8")
    except (OSError, UnicodeError):
        raise StartError(f"{folder} holds no exercises: leave out --folder, or name a newer copy.") from None
    exercises: list[Lesson] = []
    for section in re.split(r"^(?=### )", text, flags=re.MULTILINE)[1:]:
        heading, *lines = section.splitlines()
        if match := _EXERCISE.match(heading):
            hints = tuple(hint["hint"] for line in lines if (hint := _HINT.match(line)))
            file = f"{_EXERCISES}/{match['file']}"
            exercises.append(Lesson(len(exercises) + 1, match["title"], folder, file, "", hints))
    return exercises


def find_lesson(lessons: Sequence[Lesson], name: str) -> Lesson:
    """Return the lesson of a number, name or file; raise StartError when there is none."""
    wanted = name.removesuffix(".yaml").removeprefix(f"{FOLDER_NAME}/")
    for lesson in lessons:
        names = {str(lesson.number), lesson.name, lesson.file.removesuffix(".yaml"), str(lesson.path.with_suffix(""))}
        if wanted in names or (lesson.path.exists() and Path(name).exists() and lesson.path.samefile(name)):
            return lesson
    kind, option = ("an exercise", " --exercises") if lessons[0].is_exercise else ("a lesson", "")
    near = difflib.get_close_matches(wanted, [lesson.name for lesson in lessons], 1)
    hint = f"did you mean {near[0]}?" if near else f"meshdemo lesson{option} lists them."
    raise StartError(f"{name!r} is not {kind}: {hint}")
