"""`meshdemo lesson` and `meshdemo check`: commands that stand in the comments of files, run and judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshdemo.cli.manifests import manifest_options
from meshdemo.options import cluster_option, istiod_option, option, port_option

if TYPE_CHECKING:
    from meshdemo.lab.options import ManifestOptions


def _complete_lesson(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of lessons, or of exercises, that begin so."""
    from meshdemo.lessons.command import names_of

    names = names_of(ctx.params.get("folder"), exercises=bool(ctx.params.get("exercises")))
    return [name for name in names if name.startswith(incomplete)]


@click.command("lesson")
@click.argument("name", required=False, shell_complete=_complete_lesson)
@option("--all", "everything", is_flag=True, help="Run all lessons, one after the other; needs --check.")
@option("--check", is_flag=True, help="Print what holds, and exit with 1 if anything does not.")
@option("--exercises", is_flag=True, help="Show broken meshes to mend instead of lessons.")
@option(
    "--folder",
    type=click.Path(path_type=Path),
    show_default="k8s if it is here, otherwise the lessons that come with meshdemo",
    help="Where the lessons are.",
)
@option(
    "--copy",
    "copy_to",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Copy the lessons to a new folder, to edit them there and run them with --folder.",
)
@istiod_option
@cluster_option
@port_option
@click.pass_context
def lesson_command(
    ctx: click.Context,
    /,
    name: str | None,
    everything: bool,
    check: bool,
    exercises: bool,
    folder: Path | None,
    copy_to: Path | None,
    istiod: bool,
    cluster: bool,
    port: int,
) -> None:
    """Run the lesson NAME, and check what it promises.

    NAME is a number, a name such as split, or a file; without it the lessons are listed. On a terminal, keys lead to
    the next and the previous lesson, run the lesson again, or open it in an editor.

    Exits with 0 if every expectation is met, and with 1 otherwise.
    """
    from meshdemo.lessons.command import LessonOptions, run_lessons

    ctx.exit(run_lessons(LessonOptions(name, everything, check, folder, copy_to, istiod, cluster, port, exercises)))


@click.command("check")
@click.argument("policies", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="POLICY...")
@manifest_options
@istiod_option
@cluster_option
@option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write the result as JUnit XML to this file.")
@option("--write", is_flag=True, help="Propose calls for the rules of the policies, for a person to read and keep.")
@click.pass_context
def check_command(
    ctx: click.Context,
    /,
    policies: tuple[Path, ...],
    manifests: ManifestOptions,
    istiod: bool,
    cluster: bool,
    junit: Path | None,
    write: bool,
) -> None:
    """Run the calls that the comments of policies hold, and check what they expect.

    A POLICY is a file, or a folder of files. The comment that it begins with holds the commands, indented by two
    spaces: meshdemo call and meshdemo watch with --expect. Each file is applied in a lab on top of the manifests, in
    place of the one before. Without -f the manifests are the example.

    Exits with 0 if every expectation is met, and with 1 otherwise.
    """
    from meshdemo.lessons.checking import CheckOptions, check_policies

    ctx.exit(check_policies(CheckOptions(policies, manifests, istiod, junit, write, cluster)))
