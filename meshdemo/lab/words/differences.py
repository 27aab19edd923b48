"""What an edit has changed in a policy, from and to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher

from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.words.terms import Words, leaves
from meshdemo.lab.words.wording import describe

_MOST_DIFFERENCES = 3


def describe_change(before: Manifest, after: Manifest) -> str:
    """Return what an edit has changed, as `75 % v1 -> 10 % v1`."""
    old, new = describe(before), describe(after)
    if len(old) == len(new):
        differences = [each for pair in zip(old, new, strict=True) for each in _differences_of_words(*pair)]
    else:
        differences = list(_differences([str(each) for each in old], [str(each) for each in new]))
    if not differences:
        differences = list(_differences_of_fields(before, after))
    more = [f"and {len(differences) - _MOST_DIFFERENCES} more"] if len(differences) > _MOST_DIFFERENCES else []
    return ", ".join(differences[:_MOST_DIFFERENCES] + more)


def _differences_of_words(old: Words, new: Words) -> Iterator[str]:
    if old.condition != new.condition:
        yield f"{old.condition or 'every call'} -> {new.condition or 'every call'}"
    yield from _differences(old.parts, new.parts)


def _differences(old: Iterable[str], new: Iterable[str]) -> Iterator[str]:
    """Yield what was replaced, removed and added in a list of texts."""
    old, new = list(old), list(new)
    for kind, start, end, new_start, new_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        removed, added = old[start:end], new[new_start:new_end]
        if kind == "replace" and len(removed) == len(added):
            yield from (f"{one} -> {other}" for one, other in zip(removed, added, strict=True))
        elif kind == "replace":
            yield f"{' and '.join(removed)} -> {' and '.join(added)}"
        elif kind == "delete":
            yield from (f"{one} removed" for one in removed)
        elif kind == "insert":
            yield from (f"{one} added" for one in added)


def _differences_of_fields(before: Manifest, after: Manifest) -> Iterator[str]:
    """Yield the fields that differ, with their values but for those of Secrets."""
    is_secret = after.kind == "Secret"
    old, new = (dict(leaves(each.document, "")) for each in (before, after))
    for path in dict.fromkeys((*old, *new)):
        if path not in new:
            yield f"{path} removed"
        elif path not in old:
            yield f"{path} added" if is_secret else f"{path} {new[path]} added"
        elif old[path] != new[path]:
            yield f"{path} changed" if is_secret else f"{path} {old[path]} -> {new[path]}"
