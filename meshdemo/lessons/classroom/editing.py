"""Edits of lessons: copies in a folder of the person's, the editor, and the way back."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

from meshdemo.console import signals
from meshdemo.errors import StartError
from meshdemo.lessons.files.policy import describe_changes
from meshdemo.lessons.files.reading import Lesson
from meshdemo.lessons.running import running
from meshdemo.lessons.stages.stage import Stage


def with_copy(lesson: Lesson, folder: Path) -> Lesson:
    """Return the lesson with the copy of it that a person has edited before, as it is where there is none."""
    copy = folder / lesson.file
    return dataclasses.replace(lesson, edited=copy) if copy.is_file() else lesson


def make_copy(lesson: Lesson, folder: Path | None) -> Lesson:
    """Return the lesson with a file that may be edited: a copy in `folder`; without one, its own.

    A copy from before is taken as it is. Raise StartError where there can be none.
    """
    if folder is None or lesson.edited:
        return lesson
    copy = folder / lesson.file
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists():
            shutil.copyfile(lesson.path, copy)
    except OSError as error:
        raise StartError(f"{copy} cannot be written: {error.strerror}.") from None
    return dataclasses.replace(lesson, edited=copy)


def run_editor(path: Path, stage: Stage) -> int:
    """Return the status with which the person's editor has ended; raise StartError where there is none."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with signals.unheeded(signal.SIGINT):  # Ctrl+C is the editor's
        try:
            process = subprocess.Popen([*shlex.split(editor), str(path)])
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StartError(f"the editor {editor!r} cannot be started: {reason}. Set EDITOR.") from None
        running.wait_for(stage, process, running.pause)
        return process.returncode


def take_back(lesson: Lesson, folder: Path) -> Lesson:
    """Return the lesson as it came, and remove its copy, and the folders that are empty then. Raise StartError."""
    if lesson.edited:
        try:
            lesson.edited.unlink(missing_ok=True)
        except OSError as error:
            raise StartError(f"{lesson.edited} cannot be removed: {error.strerror}.") from None
        for parent in lesson.edited.parents:
            if parent.is_relative_to(folder):
                with contextlib.suppress(OSError):  # other copies are in it
                    parent.rmdir()
    return dataclasses.replace(lesson, edited=None)


def changes_of(lesson: Lesson) -> list[str]:
    """Return what a person has changed in a lesson, an entry for each line; none where its file has gone."""
    try:
        return describe_changes(dataclasses.replace(lesson, edited=None).text(), lesson.text()) if lesson.edited else []
    except StartError:
        return []
