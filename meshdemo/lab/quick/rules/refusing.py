"""The ways to refuse what Istio takes: what only --istiod applies, and what leads nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshdemo.lab.files.documents import shown
from meshdemo.lab.files.errors import ManifestError, SeveralError, only_these

#: How a refusal ends of what Istio takes, and this engine does not do exactly.
ISTIOD = "--istiod applies it, or says why Istio does not"


class RefusalError(ManifestError):
    """What Istio takes, and this engine does not."""


class UnsupportedError(RefusalError):
    """What this engine does not do exactly, and --istiod does."""


class _SeveralUnsupportedError(SeveralError, UnsupportedError):
    """Several parts of files that this engine does not do exactly."""


class _SeveralRefusalError(SeveralError, RefusalError):
    """Several parts of files that Istio takes, and this engine does not."""


class MissingError(RefusalError):
    """A name of what is not there: Istio takes it, and then calls fail."""


def refused(place: str, problem: str = "is not supported by the quick engine") -> UnsupportedError:
    """Return the error for what Istio takes, and this engine does not do."""
    return UnsupportedError(place, problem, ISTIOD)


def raise_all(errors: Sequence[ManifestError]) -> None:
    """Raise what was refused, several at once, each once; do nothing where nothing was."""
    errors = list({str(each): each for each in errors}.values())
    if len(errors) == 1:
        raise errors[0]
    if errors:
        kinds = {RefusalError: _SeveralRefusalError, UnsupportedError: _SeveralUnsupportedError}
        several = SeveralError
        for kind, made in kinds.items():
            several = made if all(isinstance(each, kind) for each in errors) else several
        raise several(errors)


def missing(place: str, problem: str, name: str, known: Iterable[str]) -> MissingError:
    """Return the error for a name that nothing has, with the names that there are."""
    names = sorted(set(known))
    return MissingError(place, f"{problem} {shown(name)}, {only_these(name, names)}")
