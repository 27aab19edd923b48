"""Random policies are the same for the same seed, and reach every field that a policy here has."""

import re

import pytest
from generate import Generator
from records import policies

# Objects whose keys are free.
FREE = re.compile(r"(match\.headers|withoutHeaders|match\.queryParams|set|add|abels|selector|endpoints\.ports)$")


def fields(value, place):
    """Return the paths of all fields, without numbers and free keys."""
    if isinstance(value, list):
        return {path for inner in value for path in fields(inner, place)}
    if not isinstance(value, dict):
        return {place}
    if FREE.search(place):
        return {place}
    return {path for key, inner in value.items() for path in fields(inner, f"{place}.{key}")} or {place}


def test_the_same_seed():
    """The same seed makes the same policies, and another makes others."""
    one, other, third = Generator(1), Generator(1), Generator(2)
    policies = [one.policy() for _ in range(20)]
    assert policies == [other.policy() for _ in range(20)]
    assert policies != [third.policy() for _ in range(20)]


def test_names_are_unlike():
    """No two objects of one kind have the same name: the later would replace the earlier."""
    generator = Generator(3)
    for _ in range(300):
        names = [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in generator.policy()]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(("count", "share"), [(300, 0.9), pytest.param(3000, 1, marks=pytest.mark.thorough)])
def test_every_field_is_reached(count, share):
    """Whatever field a recorded policy has, and the quick engine takes, random policies have as well."""
    generator = Generator(5)
    reached = set()
    for _ in range(count):
        for each in generator.policy():
            reached |= fields(each["spec"], each["kind"])
    wanted = set()
    for record in policies().values():
        if not record.refused:
            for each in record.objects:
                wanted |= fields(each["spec"], each["kind"])
    assert len(wanted & reached) >= share * len(wanted), wanted - reached
