"""The files that come with the program: the lessons, their guide, and the example."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from meshdemo.errors import StartError

#: What the folder is called in a clone, and so in the commands that the README and the lessons show.
FOLDER_NAME = "k8s"


def folder() -> Path:
    """Return where they are: in the package where that is installed, at the top of the clone where it is not."""
    package = Path(__file__).resolve().parent
    inside = package / FOLDER_NAME
    return inside if inside.is_dir() else package.parent / FOLDER_NAME


def find(path: Path) -> Path | None:
    """Return the manifest that a path such as `istio/split.yaml` or `k8s/example.yaml` means; None where it means none.

    It does where nothing here has the name that it begins with.
    """
    if path.is_absolute() or path.suffix != ".yaml" or os.path.lexists(path.parts[0]):
        return None
    inside = path.relative_to(FOLDER_NAME) if path.parts[0] == FOLDER_NAME else path
    found = folder() / inside
    return found if ".." not in inside.parts and found.is_file() else None


def shown(path: str) -> str:
    """Return a path as a person reads it: that of a file that comes with meshdemo as `find` takes it."""
    whole = Path(path)
    return str(whole.relative_to(folder().parent)) if whole.is_relative_to(folder()) else path


def copy(source: Path, target: Path) -> None:
    """Copy a folder of lessons to one that is not there yet; raise StartError when that cannot be."""
    try:
        target.mkdir(parents=True)
        for path in sorted(source.rglob("*")):
            if path.is_dir():
                (target / path.relative_to(source)).mkdir()
            else:
                shutil.copyfile(path, target / path.relative_to(source))  # not the mode: it is to be edited
    except FileExistsError:
        raise StartError(f"{target} exists already: name a folder that does not.") from None
    except OSError as error:
        raise StartError(f"{error.filename}: {(error.strerror or str(error)).lower()}.") from None
