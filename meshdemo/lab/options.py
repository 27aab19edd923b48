"""What somebody asks of manifests at the command line, for the commands that take them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ManifestOptions:
    """Which manifests, and how they are read, each as it was typed.

    `filenames` are values of `-f`, with `recursive` the folders in their folders count as well. `namespace` is that of
    objects that name none, `stand_ins` are values of `--stand-in`. With `skip_invalid` objects that cannot be are left
    out. `replicas` bounds the pods of each workload.
    """

    filenames: tuple[str, ...] = ()
    recursive: bool = False
    namespace: str | None = None
    stand_ins: tuple[str, ...] = ()
    skip_invalid: bool = False
    replicas: int | None = None
