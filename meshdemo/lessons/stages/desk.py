"""What the live page may do to a lesson: press keys of the terminal, and turn the numbers of a copy.

Its requests come through the lab's door, in threads of that; what they lead to is done where the lesson is shown.
"""

from __future__ import annotations

import hmac
import queue
import secrets
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from meshdemo.lab.door.door import DoorError
from meshdemo.lab.files.numbers import replace_number
from meshdemo.lessons.files.reading import Lesson

_KEYS = frozenset("npr")
#: Where the first proxy listens, as the lessons name it; the others follow, and gateways come much later.
FRONT = 3030
_GATEWAYS = 8000
# What `meshdemo watch` calls a second by default.
_RATE = "20"
# As many as two weights, and some more.
_MOST_NUMBERS = 10


class Desk:
    """The page's desk for one lesson after the other; `edits` is the folder for copies, None where none are made.

    Without one, as with --folder, the files are a person's own, and the page does not touch them.
    """

    def __init__(self, edits: Path | None) -> None:
        self.edits = edits
        #: What the link that is printed ends in: who has it may use the desk.
        self.token = secrets.token_urlsafe(8)
        self._lesson: Lesson | None = None
        self._lock = threading.Lock()
        self._pressed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._copied: queue.SimpleQueue[Path] = queue.SimpleQueue()

    def show(self, lesson: Lesson) -> None:
        """Take note which lesson is shown from now on."""
        with self._lock:
            self._lesson = lesson

    def pressed(self) -> str:
        """Return the next key that the page has pressed, else nothing."""
        return "" if self._pressed.empty() else self._pressed.get()

    def copied(self) -> Path | None:
        """Return the copy of the lesson that is shown when its numbers were turned, once each time."""
        return None if self._copied.empty() else self._copied.get()

    def answer(self, _rest: str, body: Any) -> dict[str, Any]:
        """Do what the page asks for, `{"token", "key"}` or `{"token", "numbers": [{"label", "path", "value"}]}`."""
        match body:
            case {"token": str(token)} if hmac.compare_digest(token.encode(), self.token.encode()):
                pass
            case _:
                raise DoorError(403, "Only the page of the link that the lesson prints can do that.")
        match body:
            case {"key": str(key)} if key in _KEYS:
                self._pressed.put(key)
            case {"numbers": [_, *_] as numbers} if len(numbers) <= _MOST_NUMBERS:
                self._turn(numbers)
            case _:
                raise DoorError(400, "An edit has a key or numbers.")
        return {}

    def _turn(self, numbers: list[Any]) -> None:
        """Write numbers into the copy of the lesson that is shown; the lab follows that, and judges it."""
        with self._lock:
            lesson = self._lesson
            if lesson is None or self.edits is None:
                raise DoorError(409, "The files of this lesson are your own: edit them with your editor.")
            copy = lesson.edited or self.edits / lesson.file
            source = copy if copy.exists() else lesson.path
            try:
                text = source.read_bytes().decode("utf-8")
                for number in numbers:
                    match number:
                        case {"label": str(label), "path": str(path), "value": int() | float() as value}:
                            text = replace_number(text, label, path, value)
                        case _:
                            raise ValueError("a number has a label, a path and a value")
                _write(copy, text)
            except ValueError as error:
                raise DoorError(409, f"{source}: {error}.") from None
            except OSError as error:
                raise DoorError(409, f"{copy} cannot be written: {error.strerror}.") from None
            self._copied.put(copy)


def _write(path: Path, text: str) -> None:
    """Write a file at once, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(text.encode("utf-8"))
    if path.exists():
        shutil.copymode(path, temporary)
    temporary.replace(path)


def find_scene(lesson: Lesson) -> tuple[int, str]:
    """Return the port that a lesson's first watch of a proxy calls, and the query of the page that calls the same."""
    for command in lesson.commands():
        if not command.is_watch:
            continue
        options = _options(command.pipeline[-1])
        url = urlsplit(next((word for word in command.pipeline[-1] if word.startswith("http://")), ""))
        port = url.port or 0
        if FRONT <= port < _GATEWAYS:
            path = (url.path or "/") + (f"?{url.query}" if url.query else "")
            fields = {"path": path, "rate": options.get("rate", _RATE), "header": options.get("header", "")}
            defaults = {"path": "/", "header": ""}
            return port, urlencode(
                {name: text for name, text in fields.items() if text != defaults.get(name)}, safe="/:"
            )
    return FRONT, ""


def _options(words: Sequence[str]) -> dict[str, str]:
    """Return the options of a command with their values, `--rate 60` or `--rate=60`."""
    options: dict[str, str] = {}
    for index, word in enumerate(words):
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            options.setdefault(name, value if equals else " ".join(words[index + 1 : index + 2]))
    return options
