"""YAML as kubectl reads it, and nothing that could eat memory or time."""

import pytest

from meshdemo.lab.files import documents
from meshdemo.lab.files.documents import DocumentError, locate, parse, shown


def only(text):
    ((_, document),) = parse(text)
    return document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("0x1f", 31),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("yes", True),
        ("y", True),
        ("N", False),
        ("yy", "yy"),
        ("~", None),
        ("2026-13-45", "2026-13-45"),
        ("2026-01-02", "2026-01-02"),
        ("1:30", "1:30"),
        ("=", "="),
        ("'1'", "1"),
    ],
)
def test_scalars(text, value):
    """Numbers, truth values and texts are those of kubectl; dates and times are texts."""
    found = only(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_documents_and_lines():
    """Several documents come with their first lines, empty ones not at all; JSON is YAML."""
    assert parse('---\na: 1\n---\n---\n# nothing\n---\n{"b": [1]}\n') == [(2, {"a": 1}), (7, {"b": [1]})]


def test_keys_are_texts():
    """Keys that JSON would have as texts become texts."""
    assert only("2: a\ntrue: b\nc: d") == {"2": "a", "true": "b", "c": "d"}


def test_aliases_and_merges():
    """Aliases and merges work, also where a merged object says otherwise itself."""
    assert only("a: &a {x: 1}\nb: *a") == {"a": {"x": 1}, "b": {"x": 1}}
    text = "b: &b {a: 1}\nd: {e: {x: &x {<<: *b, a: 2}}}\nu: {<<: *x}"
    assert only(text)["u"] == {"a": 2}
    assert only("a: {<<: [{x: 1, u: 1}, {x: 2, z: 2}], u: 3}")["a"] == {"x": 1, "u": 3, "z": 2}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: [", 1, "not YAML"),
        ("a: 1\na: 2", 2, "duplicate key 'a'"),
        ("b: 1\n? [a]\n: b", 2, "a key is not a string"),
        ("a: !!int abc", 1, "is not of the type it is said to be"),
        ("a: !!binary x", 1, "could not determine a constructor"),
        ("a: {<<: 5}", 1, "only objects can be merged"),
        ("a: &a [*a]", 1, "holds too much"),
        ("- .inf", 1, "inf is not a number that JSON can hold"),
        ("[1, " * 101 + "1" + "]" * 101, 1, "holds too much"),
        pytest.param("[" + "1, " * 100_000 + "1]", 1, "holds too much", marks=pytest.mark.thorough),
        ("[" * 1500, 1, "exceeded maximum nesting depth"),
        ("a: \0", None, "control characters are not allowed"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_what_is_refused(text, line, words):
    """What is no document, or too much of one, is refused with its line."""
    with pytest.raises(DocumentError, match=words) as caught:
        parse(text)
    assert caught.value.line == line


def test_many_values(monkeypatch):
    """Values count without any alias, too, before they become objects."""
    monkeypatch.setattr(documents, "_VALUE_LIMIT", 1000)
    with pytest.raises(DocumentError, match=r"holds too much$"):
        parse("[" + "1, " * 1000 + "1]")


def test_a_large_file(monkeypatch):
    """What is read out of a large cluster is no more than its text has room for."""
    monkeypatch.setattr(documents, "_VALUE_LIMIT", 100)
    text = "items:\n" + "- {kind: Pod, metadata: {name: web}}\n" * 100
    assert len(only(text)["items"]) == 100
    monkeypatch.setattr(documents, "_VALUE_LENGTH", 40)
    with pytest.raises(DocumentError, match="holds too much"):
        parse(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "an object"),
        ([1], "a list"),
        ("a", "'a'"),
        (10**5000, "a number of very many digits"),
        ("x" * 10**6, "'" + "x" * 39 + "..."),
        (True, "True"),
    ],
    ids=["object", "list", "text", "large number", "long text", "truth"],
)
def test_shown(value, text):
    """A value is shown in short, whatever it is."""
    assert shown(value) == text


def test_objects_of_json_one_after_the_other():
    """Objects of JSON follow each other as programs write them, with or without space and tabs between."""
    assert parse('{"a": 1}\n{\n\t"b": [2]}{"c": {}}\n') == [(1, {"a": 1}), (2, {"b": [2]}), (3, {"c": {}})]


def test_a_mistake_behind_an_object_of_json():
    """What is wrong in a later object has its line."""
    with pytest.raises(DocumentError, match="duplicate key 'a'") as error:
        parse('{"b": 1}\n\n{"a": 1,\n"a": 2}')
    assert error.value.line == 4
    with pytest.raises(DocumentError, match="not YAML"):
        parse('{"b": 1}\n{"a": }')


OBJECTS = """# a comment
kind: Service
metadata: {name: a, labels: {app.kubernetes.io/name: x}}
---
kind: List
items:
  - kind: Service
    metadata: {name: a}
    spec:
      ports:
        - port: 80
        - port: x
  - metadata: {name: b}
    spec: {ports: 5}
"""


@pytest.mark.parametrize(
    ("line", "name", "path", "expected"),
    [
        (2, "a", "", (2, 1)),
        (2, "a", "metadata.labels.app.kubernetes.io/name", (3, 30)),
        (5, "a", "spec.ports[1].port", (12, 11)),
        (5, "a", "spec.ports[1].targetPort", (12, 11)),
        (5, "a", "spec.ports[7]", (10, 7)),
        (5, "b", "spec.ports", (14, 12)),
        (3, "a", "spec", None),
    ],
)
def test_where_a_field_stands(line, name, path, expected):
    """Line and column of a field are found, of what is nearest where it is missing."""
    assert locate(OBJECTS, line, "Service", name, path) == expected


def test_where_a_field_stands_in_json():
    """In objects of JSON that follow each other, too."""
    text = '{"kind": "A"}\n{\n\t"kind": "B",\n\t"spec": {"x": 1}}'
    assert locate(text, 2, "B", "", "spec.x") == (4, 11)


def test_places_in_a_long_file(monkeypatch):
    """A file is read once for the places of all its objects, those before one that cannot be read among them."""
    read = []
    compose = documents.yaml.compose_all
    monkeypatch.setattr(documents.yaml, "compose_all", lambda *given: read.append(1) or compose(*given))
    text = "".join(f"kind: A\nmetadata: {{name: a{number}}}\n---\n" for number in range(20)) + "kind: [broken\n"
    for number in range(20):
        line = 3 * number + 1
        assert documents.locate(text, line, "A", f"a{number}", "metadata") == (line + 1, 1)
        assert documents.last_line(text, line) == line + 1
    assert documents.locate(text, 61, "A", "b", "kind") is None
    assert len(read) == 1
