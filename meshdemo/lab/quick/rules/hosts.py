"""Comparing the names of hosts, maybe with a wildcard as their first part (pkg/config/host/name.go of Istio)."""

from __future__ import annotations

from collections.abc import Iterable


def is_wildcard(host: str) -> bool:
    """Return whether a name stands for many."""
    return host.startswith("*")


def matches(first: str, second: str) -> bool:
    """Return whether two names have a host in common (Name.Matches)."""
    if is_wildcard(first) and is_wildcard(second):
        return first[1:].endswith(second[1:]) or second[1:].endswith(first[1:])
    return subset_of(first, second) or subset_of(second, first)


def subset_of(first: str, second: str) -> bool:
    """Return whether all hosts of the first name are among those of the second (Name.SubsetOf)."""
    if not is_wildcard(second):
        return first == second
    if is_wildcard(first):
        return first[1:].endswith(second[1:])
    return first.endswith(second[1:])


def intersection(first: Iterable[str], second: Iterable[str]) -> list[str]:
    """Return what two lists of names have in common, each time the narrower name (Names.Intersection)."""
    found: dict[str, None] = {}
    second = list(second)
    for one in first:
        for other in second:
            if subset_of(one, other):
                found[one] = None
            elif subset_of(other, one):
                found[other] = None
    return list(found)


def specificity(host: str) -> tuple[bool, int, str]:
    """Return a sort key by which the more specific name comes first (MoreSpecific)."""
    return is_wildcard(host), -len(host), host
