"""Reading fields by a table: unknown names first, then values, each with its place."""

import pytest
from lab_support import manifest

from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.schema import (
    Anything,
    Boolean,
    Duration,
    Integer,
    List,
    Map,
    Number,
    Object,
    Refused,
    Text,
    read,
)

SCHEMA = Object(
    {
        "host": Text(),
        "port": Integer(1, 65535),
        "inner": Object({"flag": Boolean()}),
        "items": List(Object({"name": Text()}, ("name",))),
        "labels": Map(Text()),
        "later": Refused("a cluster does"),
        "whatever": Anything(),
    },
    ("host",),
)


def fields(spec):
    document = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec}
    return read(manifest(document), SCHEMA)


def refusal(spec):
    with pytest.raises(ManifestError) as caught:
        fields(spec)
    return str(caught.value)


def test_what_is_there_and_what_is_not():
    """A missing field is None, a missing list or map is empty, null counts as missing, and `given` tells."""
    found = fields({"host": "a", "port": None, "labels": {"x": "y"}})
    assert (found["host"], found["port"], found["inner"], found["items"]) == ("a", None, None, [])
    assert found["labels"] == {"x": "y"}
    assert found.given == {"host", "labels"}
    assert found.place == "file.yaml: Service/a: spec"
    assert str(found.error("host", "is odd")) == "file.yaml: Service/a: spec.host: is odd"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"port": "x", "hots": "a"}, "spec.hots: unknown field, did you mean host?"),
        ({"port": "x", "items": [{"nam": 1}]}, "spec.items[0].nam: unknown field, did you mean name?"),
        ({}, "spec.host: is missing"),
        ({"host": ""}, "spec.host: is missing"),
        ({"host": 5}, "spec.host: 5 is not a string: put it in quotes"),
        ({"host": "a", "port": 0}, "spec.port: 0 is not from 1 to 65535"),
        ({"host": "a", "port": True}, "spec.port: True is not a whole number"),
        ({"host": "a", "inner": {"flag": "yes"}}, "spec.inner.flag: 'yes' is not true or false"),
        ({"host": "a", "inner": []}, "spec.inner: a list is not an object"),
        ({"host": "a", "items": [{}]}, "spec.items[0].name: is missing"),
        ({"host": "a", "items": {}}, "spec.items: an object is not a list"),
        ({"host": "a", "labels": {"x": 1}}, "spec.labels.x: 1 is not a string: put it in quotes"),
        ({"host": "a", "later": 1}, "spec.later: is not supported here: a cluster does"),
        ({"host": 1, "port": "x"}, "spec.host: 1 is not a string: put it in quotes"),
        ({"port": "x", "host": 1}, "spec.port: 'x' is not a whole number"),
        ("text", "spec: 'text' is not an object"),
        (None, "spec: is missing"),
    ],
)
def test_refusals(spec, words):
    """The first problem is told with its place, unknown fields before all values, values in the order of the file."""
    assert refusal(spec).endswith(words)


def test_whole_numbers():
    """A number without a fraction is a whole number, as in JSON."""
    assert fields({"host": "a", "port": 80.0})["port"] == 80


@pytest.mark.parametrize(("text", "seconds"), [("1.5s", 1.5), ("1m30s", 90), ("100ms", 0.1), ("1h", 3600), ("0", 0)])
def test_durations(text, seconds):
    """Durations are Go's, in seconds."""
    assert Duration().parse(text, "here") == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["1", "soon", "-1s", 5, "1s" * 1000, "1s 2s", ""])
def test_what_is_no_duration(value):
    """Everything else is none."""
    with pytest.raises(ManifestError, match="is not a duration"):
        Duration().parse(value, "here")


def test_texts_and_numbers():
    """A text may have choices or a pattern, a number a range."""
    with pytest.raises(ManifestError, match="'b' is not one of a, c"):
        Text(("a", "c")).parse("b", "here")
    with pytest.raises(ManifestError, match="'b' is not the letter a"):
        Text(pattern="a", rule="the letter a").parse("b", "here")
    with pytest.raises(ManifestError, match="2 is not from 0 to 1"):
        Number(0, 1).parse(2, "here")
    assert Number(0, 1).parse(1, "here") == 1.0
