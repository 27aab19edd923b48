"""The options of the commands that take manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from meshdemo.lab.options import ManifestOptions
from meshdemo.options import as_one, option
from meshdemo.parameters import WholeNumber

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def _complete_file(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete the name of a file or folder."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


# This gives the command a ManifestOptions called `manifests`.
manifest_options = as_one(
    "manifests",
    ManifestOptions,
    option(
        "-f",
        "--filename",
        "filenames",
        multiple=True,
        metavar="FILE|FOLDER|URL",
        shell_complete=_complete_file,
        help="Kubernetes manifests to run on a real Envoy, as for kubectl apply; - is standard input. Repeatable.",
    ),
    option("-R", "--recursive", is_flag=True, help="Take the files of all folders in a folder that -f names, too."),
    option("-n", "--namespace", metavar="NAME", help="Namespace of objects that name none, instead of default."),
    option(
        "--stand-in",
        "stand_ins",
        multiple=True,
        metavar="WORKLOAD:SETTING=VALUE",
        help="How a workload's stand-in behaves: fail-ratio, status, delay or calls, as in reviews-v2:fail-ratio=0.5. "
        "Repeatable.",
    ),
    option(
        "--skip-invalid",
        is_flag=True,
        help="Go on without objects that cannot be, or are not supported, and name them.",
    ),
    option(
        "--replicas",
        type=WholeNumber(1, 50),
        show_default="3, or with -f as the files say",
        help="Web servers of each version, from 1 to 50; with -f the most pods of each workload.",
    ),
)
