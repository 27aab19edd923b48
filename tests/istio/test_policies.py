"""The quick engine makes the same of each policy as Istio's own control plane did, or refuses it by name."""

import pytest
from meaning import differences
from records import (
    NO_POLICY,
    ROOT,
    VERSION_FILE,
    Record,
    apply_changes,
    find_changes,
    format_record,
    invalid,
    parse_records,
    policies,
    quick_meaning,
    read_records,
    recorded_meaning,
    refused_field,
)

from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.quick.rules.refusing import RefusalError

POLICIES = policies()
INVALID = invalid()


@pytest.mark.parametrize("name", POLICIES)
def test_policy(name):
    """What the quick engine makes of a policy is what Istio makes of it, or it is refused as the list says."""
    expected = POLICIES[name].refused
    try:
        actual = quick_meaning(POLICIES[name])
    except ManifestError as error:
        assert isinstance(error, RefusalError)
        assert refused_field(error) == expected
    else:
        assert expected is None, "it is applied now: run record.py"
        assert differences(recorded_meaning(name), actual) == []


@pytest.mark.parametrize("name", INVALID)
def test_what_istio_refuses(name):
    """What Istio refuses is refused by the quick engine as well."""
    with pytest.raises(ManifestError, match=r": "):
        quick_meaning(INVALID[name])


def test_records_are_complete():
    """Each policy has changes or says nothing new, each lesson its record, each refusal of Istio its reason."""
    lessons = {f"{path.parent.name}/{path.name}" for path in (ROOT / "k8s").glob("[!e]*/*.yaml")}
    assert {each.lesson for each in POLICIES.values()} == {None, *lessons}
    assert all(each.objects or each.lesson or each.name == NO_POLICY for each in POLICIES.values())
    assert all(each.reason and not each.changes for each in INVALID.values())
    names = [each.name for records in read_records().values() for each in records]
    assert len(names) == len(set(names)) == len(POLICIES) + len(INVALID)
    assert len(POLICIES) >= 150
    assert VERSION_FILE.read_text().startswith("Istio 1.")


@pytest.mark.parametrize(
    ("base", "value"),
    [
        ({"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 2}),
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 1, "e": []}}),
        ({"a": {"b": {}}}, {"a": {"b": {"c": [{"d": 1}]}}}),
        ({"a": [1, 2]}, {"a": {"b": 1}}),
    ],
)
def test_changes(base, value):
    """Changes make of the one what the other is."""
    assert apply_changes(base, find_changes(base, value)) == value


def test_changes_are_small():
    """What stands at one place of a meaning is one change, whatever else is new or has gone."""
    base = {"proxy-1": {"clusters": {"a": {"timeout": 1, "name": "a"}, "b": {}}}}
    value = {"proxy-1": {"clusters": {"a": {"timeout": 2, "name": "a"}}, "routes": {"80": {"hosts": {"a": {}}}}}}
    assert list(find_changes(base, value)) == [
        (["proxy-1", "clusters", "a", "timeout"], 2),
        (["proxy-1", "clusters", "b"], None),
        (["proxy-1", "routes", "80"], {"hosts": {"a": {}}}),
    ]


def test_lines():
    """A record is the same after it was written and read."""
    records = [
        Record("one", [{"kind": "VirtualService"}], refused="spec", changes=((["proxy-1", "a"], None), (["b"], [1]))),
        Record("two", [], lesson="istio/split.yaml"),
        Record("three", [{"kind": "Gateway"}], reason="Ünknown"),
    ]
    assert list(parse_records("".join(f"{line}\n" for each in records for line in format_record(each)))) == records
