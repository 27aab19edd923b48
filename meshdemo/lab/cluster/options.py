"""How manifests are read, beyond what stands in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshdemo.lab.cluster.stand_ins import Behaviour
from meshdemo.lab.files.kinds import NAMESPACE


@dataclass(frozen=True)
class ReadOptions:
    """How manifests are read.

    Objects that name no namespace are in `namespace`. Each workload has at most `replicas` pods; None: as many as the
    files say, or as a machine is for. `stand_ins` says by workload how stand-ins behave, whatever annotations say.
    With `skip_invalid` objects that cannot be are left out.
    """

    namespace: str = NAMESPACE
    replicas: int | None = None
    stand_ins: Mapping[str, Behaviour] = field(default_factory=dict)
    skip_invalid: bool = False


DEFAULT_OPTIONS = ReadOptions()
