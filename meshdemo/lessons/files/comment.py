"""What the comment at the beginning of a lesson's file says: its commands, and words for who reads them.

Commands are indented. A paragraph that begins with `Question:`, `Expect`, `Why:` and so on is a section; one that
begins with none of them belongs to the section before it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

# "kubectl logs ... | grep --count /mirrored  # 50": a comment behind a command is what it prints.
_COMMAND = re.compile(r"^ {2,}(?P<command>\S.*?)(?:\s+# (?P<output>.+))?$")
_SECTION = re.compile(r"(?P<name>Question|Why|Stays the same|Mistake|Try|Range|Lab): (?P<text>.*)")
_EXPECT = "Expect"
# "How many of 200 calls does version 2 answer? [Webserver V2]": the promise that answers it, where it is not the first.
_ANSWER = re.compile(r"(?P<question>.*?) *\[(?P<subject>[^\]]+)\]")


@dataclass(frozen=True)
class Command:
    """A command as words, a pipeline as several, and the line that it is to print, where the comment says that.

    `line` is where it begins in the comment, from 1.
    """

    pipeline: tuple[tuple[str, ...], ...]
    output: str | None = None
    line: int = 0

    @property
    def is_call(self) -> bool:
        """Return whether it makes one call, and explains it."""
        return self.pipeline[-1][:2] == ("meshdemo", "call")

    @property
    def is_watch(self) -> bool:
        """Return whether it is one whose result can be read."""
        return self.pipeline[-1][:2] == ("meshdemo", "watch")


@dataclass(frozen=True)
class Words:
    """What a lesson says: what it is about, and its sections by their names, each as paragraphs.

    `answer` is the subject of the promise that answers the question, None for the first promise.
    """

    about: str = ""
    sections: dict[str, list[str]] = field(default_factory=dict)
    answer: str | None = None

    def section(self, name: str) -> list[str]:
        """Return the paragraphs of a section, none where the lesson has no such section."""
        return self.sections.get(name, [])

    @property
    def question(self) -> str:
        """Return the question, empty where there is none."""
        return " ".join(self.section("Question"))


def parse_words(lines: Sequence[str]) -> Words:
    """Return what a comment says but for its commands."""
    sections: dict[str, list[str]] = {"": []}
    name = ""
    for paragraph in _paragraphs(lines):
        if match := _SECTION.match(paragraph):
            name, paragraph = match["name"], match["text"][:1].upper() + match["text"][1:]
        elif paragraph.startswith(f"{_EXPECT} "):
            name = _EXPECT
        sections.setdefault(name, []).append(paragraph)
    answer = None
    if sections.get("Question") and (match := _ANSWER.fullmatch(sections["Question"][-1])):
        sections["Question"][-1], answer = match["question"], match["subject"]
    return Words(" ".join(sections.pop("")), sections, answer)


def _paragraphs(lines: Sequence[str]) -> list[str]:
    paragraphs, words = [], []
    for line in [*lines, ""]:
        if line and not line[0].isspace():
            words.append(line)
        elif words:
            paragraphs.append(" ".join(words))
            words = []
    return paragraphs


def parse_commands(lines: Sequence[str]) -> list[Command]:
    """Return the commands of a comment; one may go on after a backslash. Raise ValueError for one without sense."""
    commands, begun, text = [], 1, ""
    for number, line in enumerate(lines, 1):
        text += line
        if line.endswith("\\"):
            text = text.removesuffix("\\") + " "
            continue
        if match := _COMMAND.match(text):
            commands.append(_parse_command(match, begun))
        begun, text = number + 1, ""
    return commands


def _parse_command(match: re.Match[str], line: int) -> Command:
    programs: list[list[str]] = [[]]
    for word in shlex.split(match["command"]):
        if word == "|":
            programs.append([])
        else:
            programs[-1].append(word)
    if not all(programs):
        raise ValueError("nothing stands before or behind a |")
    return Command(tuple(map(tuple, programs)), match["output"], line)
