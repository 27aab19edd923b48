"""The lessons: which there are, in which order, and what the comment of each says to type and to expect.

They live in a folder, by default the one that comes with the program (bundled.py): its README.md lists them in order,
and each is a file whose comment comes first.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshdemo.bundled import FOLDER_NAME
from meshdemo.errors import StartError

EXAMPLE = "example.yaml"
_GUIDE = "README.md"
# "### 2. A weighted split: `istio/split.yaml`", and rows "| By header | `gateway-api/header.yaml` | ... |".
_HEADING = re.compile(r"^### \d+\. (?P<title>.+): `(?P<file>[\w/-]+\.yaml)`$", re.MULTILINE)
_ROW = re.compile(r"^\| (?P<title>[^|]+) \| `(?P<file>[\w/-]+\.yaml)` \|", re.MULTILINE)
# "kubectl logs ... | grep --count /mirrored  # 50": a comment behind a command is what it prints.
_COMMAND = re.compile(r"^ {2,}(?P<command>\S.*?)(?:\s+# (?P<output>.+))?$")
_PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+")


@dataclass(frozen=True)
class Command:
    """A command as words, a pipeline as several, and the line that it is to print, where the comment says that."""

    pipeline: tuple[tuple[str, ...], ...]
    output: str | None = None

    @property
    def is_watch(self) -> bool:
        """Return whether it is one whose result can be read."""
        return self.pipeline[-1][:2] == ("meshdemo", "watch")


@dataclass(frozen=True)
class Lesson:
    """A lesson: its place in the order, counted from 1, its title and its file in the folder.

    `edited` is the copy that a person has edited, which counts instead.
    """

    number: int
    title: str
    folder: Path
    file: str
    edited: Path | None = None

    @property
    def path(self) -> Path:
        """Return where it is."""
        return self.edited or self.folder / self.file

    @property
    def name(self) -> str:
        """Return its short name, `split` or `gateway-api/split`."""
        return self.file.removesuffix(".yaml").removeprefix("istio/")

    def comment(self) -> list[str]:
        """Return the lines of its comment, without the marks; raise StartError when it cannot be read."""
        try:
            text = self.path.read_text("utf-8")
        except (OSError, UnicodeError) as error:
            raise StartError(f"{self.path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
        lines = []
        for line in text.splitlines():
            if not line.startswith("#"):
                break
            lines.append(line.removeprefix("#").removeprefix(" ").rstrip())
        return lines

    def commands(self) -> list[Command]:
        """Return the commands of its comment, which are indented; one may go on after a backslash."""
        text = "\n".join(self.comment()).replace("\\\n", " ")
        try:
            return [_parse_command(match) for line in text.splitlines() if (match := _COMMAND.match(line))]
        except ValueError as error:
            raise StartError(f"{self.path}: a command of the comment cannot be read: {error}.") from None


def _parse_command(match: re.Match[str]) -> Command:
    programs: list[list[str]] = [[]]
    for word in shlex.split(match["command"]):
        if word == "|":
            programs.append([])
        else:
            programs[-1].append(word)
    if not all(programs):
        raise ValueError("nothing stands before or behind a |")
    return Command(tuple(map(tuple, programs)), match["output"])


def replace_ports(command: Sequence[str], ports: Mapping[int, int]) -> list[str]:
    """Return a command with other ports on 127.0.0.1, where `ports` has them by those that the lessons name."""
    return [_PORT.sub(lambda match: str(ports.get(int(match[0]), match[0])), word) for word in command]


def read_lessons(folder: Path) -> list[Lesson]:
    """Return the lessons of a folder in order; raise StartError when there are none."""
    guide = folder / _GUIDE
    try:
        text = guide.read_text("utf-8")
    except (OSError, UnicodeError):
        raise StartError(
            f"{folder} holds no lessons: leave out --folder, or name a copy that --copy has made."
        ) from None
    found = [*_HEADING.finditer(text), *_ROW.finditer(text)]
    lessons = [Lesson(number, match["title"].strip(), folder, match["file"]) for number, match in enumerate(found, 1)]
    if not lessons or not (folder / EXAMPLE).is_file():
        raise StartError(f"{guide} lists no lessons beside an {EXAMPLE}: name another folder with --folder.")
    return lessons


def find_lesson(lessons: Sequence[Lesson], name: str) -> Lesson:
    """Return the lesson of a number, name or file; raise StartError when there is none."""
    wanted = name.removesuffix(".yaml").removeprefix(f"{FOLDER_NAME}/")
    for lesson in lessons:
        names = {str(lesson.number), lesson.name, lesson.file.removesuffix(".yaml"), str(lesson.path.with_suffix(""))}
        if wanted in names or (lesson.path.exists() and Path(name).exists() and lesson.path.samefile(name)):
            return lesson
    near = difflib.get_close_matches(wanted, [lesson.name for lesson in lessons], 1)
    hint = f"did you mean {near[0]}?" if near else "meshdemo lesson lists them."
    raise StartError(f"{name!r} is not a lesson: {hint}")
