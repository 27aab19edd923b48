"""What a stage has to do: a lesson is applied there, and its commands are run as they are meant there.

There are two: the lab (lab_stage.py) and a cluster (cluster_stage.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from meshdemo.errors import StartError
from meshdemo.lessons.files.comment import Command
from meshdemo.lessons.files.reading import Lesson


class UnusableStageError(StartError):
    """The stage itself cannot be, whatever is shown there."""


class Stage(Protocol):
    """Where lessons are applied."""

    #: What is said of it at the start of each lesson, such as "in the lab".
    where: str
    #: Whether it explains what `meshdemo call` does.
    explains: bool

    @property
    def page(self) -> str | None:
        """Return the address of the live page with the scene of the lesson, once there is one."""

    def show(self, lesson: Lesson) -> None:
        """Apply a lesson in place of the one before, and return when it is in force; raise StartError."""

    def translate(self, command: Sequence[str]) -> list[str] | None:
        """Return a command of a lesson as it is run here; None for one that the stage has seen to."""

    def typed(self, command: Sequence[str]) -> list[str]:
        """Return a command of a lesson with the ports of this place, as a person would type it here."""

    def logs(self, command: Sequence[str]) -> str | None:
        """Return what `kubectl logs` would print, where the stage itself knows that."""

    def pressed(self) -> str:
        """Return a key that was pressed elsewhere than at the terminal, else nothing."""

    def edited(self, lesson: Lesson) -> Lesson:
        """Return the lesson with its copy where that was edited elsewhere since the last time, else as it is."""

    def judged(self, checks: Sequence[tuple[str, bool | None]] | None) -> None:
        """Take what the lesson's calls were judged by, in words and whether it is met, None while they run.

        Whether it is met is None where the calls were cut short.

        Who looks elsewhere than at the terminal is shown it.
        """

    def step(self) -> None:
        """Look after everything; to be called many times a second."""

    def why_not(self, lesson: Lesson) -> str | None:
        """Return why a lesson cannot be shown here, None when it can."""

    def why_not_judged(self, command: Command) -> str | None:
        """Return why nobody can tell here whether a command meets what it expects, None where one can."""
