"""`meshdemo lesson` as a command: which lessons, on which stage, for a person or for a script."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import click

from meshdemo import bundled
from meshdemo.console import signals, terminal
from meshdemo.errors import StartError
from meshdemo.lessons import listing
from meshdemo.lessons.classroom import classroom, editing
from meshdemo.lessons.files.reading import EXAMPLE, Lesson, find_lesson, read_exercises, read_lessons
from meshdemo.lessons.running import promises
from meshdemo.lessons.running.notes import Notes

if TYPE_CHECKING:
    from meshdemo.lessons.stages.cluster_stage import ClusterStage
    from meshdemo.lessons.stages.lab_stage import LabStage
    from meshdemo.lessons.stages.stage import Stage

AnyStage = TypeVar("AnyStage", bound="LabStage | ClusterStage")

# Where edits are kept, so that the lessons stay as they are.
_EDITS = Path("meshdemo-lessons")


@dataclass(frozen=True)
class LessonOptions:
    """What was asked for: a lesson or all of them, where they are, and where they are shown."""

    name: str | None
    everything: bool
    check: bool
    folder: Path | None
    copy_to: Path | None
    istiod: bool
    cluster: bool
    port: int
    exercises: bool = False


def run_lessons(options: LessonOptions) -> int:
    """Run what was asked for, and return the exit status; raise StartError or UsageError in one line."""
    if options.copy_to:
        _copy(options, options.copy_to)
        return 0
    if options.cluster and options.istiod:
        raise click.UsageError("--cluster cannot be combined with --istiod: a cluster has its own control plane.")
    if options.name is not None and options.everything:
        raise click.UsageError("--all cannot be combined with the name of a lesson.")
    if options.everything and not options.check:
        raise click.UsageError("--all needs --check: it runs one lesson after the other.")
    if options.check and options.name is None and not options.everything:
        raise click.UsageError("--check needs the name of a lesson, or --all.")
    lessons = _read(options.folder, exercises=options.exercises)
    if options.name is None and not options.everything:
        _list(lessons)
        return 0
    chosen = lessons if options.name is None else [find_lesson(lessons, options.name)]
    with_keys = not options.check and terminal.is_terminal(sys.stdin) and terminal.is_terminal(sys.stdout)
    try:
        if with_keys:
            _teach(options, chosen[0])
            return 0
        notes = Notes(functools.partial(click.echo, err=True))
        with _stage(options, lessons, notes) as stage:
            return 0 if promises.check(stage, chosen, notes) else 1
    except signals.Signalled as signalled:
        return 128 + signalled.number


def _teach(options: LessonOptions, first: Lesson | None) -> None:
    """Show lessons to a person, with Istio's own control plane from the lesson on for which that is asked for."""
    notes = Notes(functools.partial(click.echo, err=True))
    while first:
        lessons = _read(options.folder, exercises=options.exercises)
        with _stage(options, lessons, notes) as stage:
            first = classroom.Classroom(stage, lessons, notes, None if options.folder else _EDITS).teach(first)
        options = dataclasses.replace(options, istiod=True)


def _read(named: Path | None, *, exercises: bool) -> list[Lesson]:
    """Return the lessons or the exercises; of these the copies count that a person has edited."""
    if not exercises:
        return read_lessons(folder_of(named))
    found = read_exercises(folder_of(named))
    return found if named else [editing.with_copy(exercise, _EDITS) for exercise in found]


def names_of(named: Path | None, *, exercises: bool) -> list[str]:
    """Return the names of all lessons of a folder, or of all exercises, for a shell to complete."""
    try:
        return [lesson.name for lesson in _read(named, exercises=exercises)]
    except StartError:
        return []


def folder_of(named: Path | None) -> Path:
    """Return the folder of the lessons: the one that is named, else k8s here, else the one that comes with meshdemo."""
    if named:
        return named
    here = Path(bundled.FOLDER_NAME)
    return here if (here / EXAMPLE).is_file() else bundled.folder()


def _copy(options: LessonOptions, target: Path) -> None:
    """Copy the lessons to where they can be edited, and say how to run them there."""
    if options.name is not None or options.everything or options.check:
        raise click.UsageError("--copy cannot be combined with running lessons: run them afterwards, with --folder.")
    source = folder_of(options.folder)
    read_lessons(source)
    bundled.copy(source, target)
    click.echo(f"{source} was copied to {target}. Its lessons run with --folder {target}.")


def _list(lessons: list[Lesson]) -> None:
    need_istiod: set[Lesson] = set()
    try:
        from meshdemo.lessons.stages.lab_stage import needs_istiod

        need_istiod = {lesson for lesson in lessons if needs_istiod(lesson)}
    except ImportError:
        pass  # the lab is not installed, and what a lesson needs of it is of no use
    format_list = listing.format_exercises if lessons[0].is_exercise else listing.format_list
    click.echo("\n".join(format_list(lessons, need_istiod)))


def _stage(options: LessonOptions, lessons: list[Lesson], notes: Notes) -> AbstractContextManager[Stage]:
    """Return where lessons are to be shown, which ends afterwards."""
    if options.cluster:
        return ending(open_cluster(lessons[0].folder, options.port, notes))
    return ending(_lab_stage(options, lessons, notes))


@contextmanager
def ending(stage: AnyStage) -> Iterator[AnyStage]:
    """Yield a stage, and end it afterwards, also after a signal, which raises Signalled."""
    try:
        with signals.raising(signal.SIGHUP):
            yield stage
    finally:
        stage.close()


def open_cluster(folder: Path | None, port: int, notes: Notes) -> ClusterStage:
    """Return the cluster as a stage for the lessons of a folder, None for policies; ask a person before."""
    from meshdemo.lessons.stages.cluster_stage import ClusterStage

    stage = ClusterStage(folder, port, notes.say)
    click.echo(stage.plan())
    if terminal.is_terminal(sys.stdin) and terminal.is_terminal(sys.stdout):
        click.confirm("Go on?", abort=True)
    return stage


def _lab_stage(options: LessonOptions, lessons: list[Lesson], notes: Notes) -> LabStage:
    command, lab_stage = import_lab("meshdemo lesson")
    engine = command.choose_engine(istiod=options.istiod)
    stage: LabStage = lab_stage.LabStage(
        engine,
        lab_stage.LabOptions(options.port, access_log=True),
        notes.say,
        count=len(lessons),
        edits=None if options.folder else _EDITS,
    )
    return stage


def import_lab(what: str) -> tuple[ModuleType, ModuleType]:
    """Return the lab's commands and its stage; raise StartError where the packages that they need are not installed."""
    try:
        return importlib.import_module("meshdemo.lab.command"), importlib.import_module(
            "meshdemo.lessons.stages.lab_stage"
        )
    except ImportError as error:
        raise StartError(
            f"{what} needs the package {error.name}, which the extra `lab` brings: from a clone of meshdemo, "
            "pip install '.[lab]'."
        ) from None
