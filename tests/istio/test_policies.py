"""The quick engine makes the same of each policy as Istio's own control plane did, or refuses it by name."""

import pytest
from meaning import differences
from records import (
    HINT,
    REASONS,
    RECORDS,
    REFUSED,
    apply_patch,
    format_json,
    invalid,
    make_patch,
    policies,
    quick_meaning,
    read_lines,
    read_record,
    refused_field,
)

from meshdemo.lab.files.manifests import ManifestError

POLICIES = policies()
INVALID = invalid()


@pytest.mark.parametrize("name", POLICIES)
def test_policy(name):
    """What the quick engine makes of a policy is what Istio makes of it, or it is refused as the list says."""
    expected = read_lines(REFUSED).get(name)
    try:
        actual = quick_meaning(POLICIES[name])
    except ManifestError as error:
        assert HINT in str(error)
        assert refused_field(error) == expected
    else:
        assert expected is None, "it is applied now: run record.py"
        assert differences(read_record(name), actual) == []


@pytest.mark.parametrize("name", INVALID)
def test_what_istio_refuses(name):
    """What Istio refuses is refused by the quick engine as well."""
    with pytest.raises(ManifestError, match=r": "):
        quick_meaning(INVALID[name])


def test_records_are_complete():
    """Each policy has its record and each record its policy; so have the reasons and the list of what is refused."""
    assert {path.stem for path in RECORDS.glob("*.json")} == set(POLICIES)
    assert set(read_lines(REASONS)) == set(INVALID)
    assert set(read_lines(REFUSED)) <= set(POLICIES)
    assert len(POLICIES) >= 150
    assert (RECORDS / "version.txt").read_text().startswith("Istio 1.")


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
def test_patch(base, value):
    """A patch makes of the one what the other is."""
    assert apply_patch(base, make_patch(base, value)) == value


def test_format_json():
    """What fits on a line stands on one, and all of it is JSON."""
    value = {"short": {"a": [1, 2]}, "long": [{"b": "x" * 60}, {"c": "y" * 60}]}
    assert format_json(value).splitlines() == [
        "{",
        ' "short": {"a": [1, 2]},',
        ' "long": [',
        f'  {{"b": "{"x" * 60}"}},',
        f'  {{"c": "{"y" * 60}"}}',
        " ]",
        "}",
    ]
