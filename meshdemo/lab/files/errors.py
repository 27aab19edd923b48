"""What is wrong in manifests: one error or several, each with its place, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from meshdemo.escaping import printable_message

# Of errors that one hint is for, and that have one reason, so many are told with their places.
_MOST_ALIKE = 3
# Of names that there are instead, so many are told.
_MOST_NAMES = 10


class ManifestError(Exception):
    """Something in a manifest that cannot be, or is not supported here; `str()` begins with its place.

    `hint` says what to do about it. `line` and `column`, from 1, are those of the field, once `Loader.locate` has found
    it in the `file`.
    """

    def __init__(self, place: str, problem: str, hint: str = "") -> None:
        super().__init__(place, problem, hint)
        self.place = place
        self.problem = problem
        self.hint = hint
        self.file: str | None = None
        self.line: int | None = None
        self.column: int | None = None

    def __str__(self) -> str:
        place = self.place
        if self.file is not None and self.line is not None:
            place = f"{self.file}, line {self.line}, column {self.column}{place.removeprefix(self.file)}"
        return printable_message(": ".join(filter(None, (place, self.problem, self.hint))))

    @property
    def errors(self) -> tuple[ManifestError, ...]:
        """Return each error of several, of one itself."""
        return (self,)


class NoObjectError(ManifestError):
    """A document that does not look as if it was to be an object: it says neither what it is nor what it holds."""


class SeveralError(ManifestError):
    """Several errors, each a line of `str()`, and the hint that all of them have in a last one.

    With such a hint nobody mends them one by one: of many that have the same reason the first few are lines.
    """

    def __init__(self, errors: Sequence[ManifestError]) -> None:
        super().__init__(errors[0].place, errors[0].problem, errors[0].hint)
        self._errors = tuple(errors)

    def __str__(self) -> str:
        hints = {error.hint for error in self._errors}
        if len(hints) > 1 or not self.hint:
            return "\n".join(map(str, self._errors))
        alike: dict[str, list[ManifestError]] = {}
        for error in self._errors:
            alike.setdefault(error.problem, []).append(error)
        shown = {id(error) for errors in alike.values() for error in errors[:_MOST_ALIKE]}
        lines = [str(error).removesuffix(f": {self.hint}") for error in self._errors if id(error) in shown]
        more = {printable_message(problem): len(errors) - _MOST_ALIKE for problem, errors in alike.items()}
        lines += [f"and {count} more: {problem}" for problem, count in more.items() if count > 0]
        return "\n".join([*lines, f"for each of these: {self.hint}"])

    @property
    def errors(self) -> tuple[ManifestError, ...]:
        return self._errors


@contextmanager
def collecting(errors: list[ManifestError]) -> Iterator[None]:
    """Add what is raised to `errors`, so that the others are found as well."""
    try:
        yield
    except ManifestError as error:
        errors += error.errors


def raise_all(errors: Sequence[ManifestError]) -> None:
    """Raise errors, several at once; do nothing where there are none."""
    if errors:
        raise errors[0] if len(errors) == 1 else SeveralError(errors)


def only_these(word: str, known: Sequence[str]) -> str:
    """Return which names there are instead of `word`, the first ten, and the one that may have been meant."""
    more = ", ..." if len(known) > _MOST_NAMES else ""
    return f"only {', '.join(known[:_MOST_NAMES])}{more}{suggestion(word, known)}" if known else "there is none"


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean X?` for a word that is nearly one of `known`, else nothing."""
    lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word.lower(), lower, 1, 0.7)
    return f", did you mean {lower[near[0]]}?" if near else ""
