"""Documents of YAML or JSON as kubectl reads them, and nothing that could eat memory or time."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml._yaml import CParser
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

# Aliases can make a small file a large document, even one without an end. Without any, objects such as those of a
# cluster have a value in ten characters, and compact JSON one in five.
_VALUE_LIMIT = 100_000
_VALUE_LENGTH = 4
_DEPTH_LIMIT = 100
# So many characters count as one value more.
_TEXT_UNIT = 64
_SHOWN_LENGTH = 40
# Of so many texts the nodes are kept.
_REMEMBERED = 4
_JSON = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_MERGE = "tag:yaml.org,2002:merge"
# Go knows no numbers such as 1:30, which are texts to kubectl, and takes y and n for what yes and no are.
_WORDS = {
    "bool": re.compile(r"(y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)\Z"),
    "int": re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)\Z"),
    "float": re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)\Z"
        r"|[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z"
    ),
}


class DocumentError(Exception):
    """What is no document, in words; `line` is where, None where that is not known."""

    def __init__(self, line: int | None, problem: str) -> None:
        super().__init__(problem)
        self.line = line


def shown(value: Any) -> str:
    """Return a value of a file for an error, short whatever it holds."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and abs(value) >= 10**_SHOWN_LENGTH:
        return "a number of very many digits"
    text = repr(value[: _SHOWN_LENGTH + 1]) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "..."


def not_a_string(value: Any) -> str:
    """Say that a value of a file is not a string, and what to do where quotes would make it one."""
    hint = ": put it in quotes" if isinstance(value, (int, float)) else ""
    return f"{shown(value)} is not a string{hint}"


def parse(text: str) -> list[tuple[int, Any]]:
    """Return the documents that are not empty, each with its first line; raise DocumentError.

    They are YAML, or objects of JSON one after the other.
    """
    starts = _json_starts(text)
    if len(starts) > 1:
        parts = [text[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
        lines = [text.count("\n", 0, start) for start in starts]
        # A tab between two values is a space; within a string JSON has none.
        found = [(line, _parse_yaml(part.replace("\t", " "), line)) for line, part in zip(lines, parts, strict=True)]
        return [(line + number, document) for line, documents in found for number, document in documents]
    return _parse_yaml(text, 0)


def compose(text: str) -> Iterator[yaml.Node]:
    """Yield the documents of YAML as nodes, which know where they stand; raise YAMLError, RecursionError."""
    return (node for node in yaml.compose_all(text, _Yaml) if node is not None)  # type: ignore[arg-type]


@functools.lru_cache(_REMEMBERED)
def _composed(text: str) -> tuple[yaml.Node, ...]:
    """Return the documents of YAML as nodes, as far as they can be read. Many of one file are asked for in a row."""
    found: list[yaml.Node] = []
    with contextlib.suppress(yaml.YAMLError, RecursionError, DocumentError):
        found += compose(text)
    return tuple(found)


def last_line(text: str, line: int) -> int:
    """Return the last line, from 1, of the document that begins at a line, or of the whole text."""
    root = next((each for each in _composed(text) if each.start_mark.line + 1 == line), None)
    if root is None:
        return text.count("\n") + 1
    return int(root.end_mark.line + (root.end_mark.column > 0))


def locate(text: str, line: int, kind: str, name: str, path: str) -> tuple[int, int] | None:
    """Return line and column, from 1, of a field such as `spec.http[0].route`, or of the nearest one that is there.

    `line` is where the document begins that is the object, or the list that holds it.
    """
    starts = _json_starts(text)
    before = 0
    for start in starts if len(starts) > 1 else ():
        if text.count("\n", 0, start) + 1 == line:
            text, before = text[start:].replace("\t", " "), line - 1
            break
    root = next((each for each in _composed(text) if each.start_mark.line + 1 + before == line), None)
    if root is None:
        return None
    node = _item(root, kind, name)
    mark, rest = node.start_mark, path
    while rest:
        key, node, rest = _step(node, rest)
        if key is None:
            break
        mark = key.start_mark
    return mark.line + 1 + before, mark.column + 1


def _item(root: yaml.Node, kind: str, name: str) -> yaml.Node:
    """Return the object of a list that has a kind and a name, else what the document is."""
    for item in _values(root).get("items", root).value if "items" in _values(root) else ():
        metadata = _values(item).get("metadata")
        found = _values(metadata).get("name") if metadata else None
        own = _values(item).get("kind")
        if found is not None and found.value == name and (own is None or own.value == kind):
            return item  # type: ignore[no-any-return]
    return root


def _values(node: yaml.Node) -> dict[str, yaml.Node]:
    return {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def _step(node: yaml.Node, path: str) -> tuple[yaml.Node | None, yaml.Node, str]:
    """Return the node that names the first part of a path, what it holds, and the rest; None where it is not there."""
    index = re.match(r"\[(\d+)\]", path)
    if index and isinstance(node, yaml.SequenceNode) and int(index[1]) < len(node.value):
        item = node.value[int(index[1])]
        return item, item, path[index.end() :].removeprefix(".")
    # Keys may hold dots: the longest one that fits is meant.
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    for key, value in sorted(pairs, key=lambda pair: -len(pair[0].value)):
        rest = path.removeprefix(key.value)
        if len(rest) < len(path) and (not rest or rest[0] in ".["):
            return key, value, rest.removeprefix(".")
    return None, node, ""


def _json_starts(text: str) -> list[int]:
    """Return where each object begins, where all of a text is objects of JSON; none otherwise."""
    starts: list[int] = []
    position = _SPACE.match(text, 0).end()  # type: ignore[union-attr]
    try:
        while text.startswith("{", position):
            starts.append(position)
            _, position = _JSON.raw_decode(text, position)
            position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
    except (ValueError, RecursionError):
        return []
    return starts if position == len(text) else []


def _parse_yaml(text: str, before: int) -> list[tuple[int, Any]]:
    """Return the documents of YAML; in errors lines count from `before`."""
    try:
        return _documents(text)
    except DocumentError as error:
        raise DocumentError(error.line + before if error.line else None, str(error)) from None


def _documents(text: str) -> list[tuple[int, Any]]:
    documents: list[tuple[int, Any]] = []
    loader: _Yaml | None = None
    try:
        loader = _Yaml(text)
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                documents.append((node.start_mark.line + 1, loader.construct_document(node)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        # What ends too early is told of the line behind the last one.
        line = min(mark.line, text.count("\n")) + 1 if mark else None
        raise DocumentError(line, f"not YAML: {problem}") from None
    except RecursionError:
        raise DocumentError(None, "not YAML that can be read: it is nested too deeply") from None
    except (ValueError, ArithmeticError, TypeError, AttributeError, LookupError):
        line = loader.line if loader else None  # what a tag promises is not what stands there
        raise DocumentError(line, "not YAML: a value is not of the type it is said to be") from None
    finally:
        if loader:
            loader.dispose()
    most = _most_values(text)
    plain = [(line, _plain(document, line, most)) for line, document in documents]
    return [(line, document) for line, document in plain if document is not None]


def _most_values(text: str) -> int:
    return max(_VALUE_LIMIT, len(text) // _VALUE_LENGTH)


class _Yaml(Composer, CParser, SafeConstructor, Resolver):
    """YAML as kubectl reads it: no dates, no sets, no numbers to the base of 60, no key twice.

    The parser is libyaml, in C, as in kubectl; PyYAML's own takes four times as long or more.
    """

    _count = _merged = 0
    #: The line of the value that is being read, from 1.
    line = 1
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, _WORDS.get(tag.rpartition(":")[2], pattern))
            for tag, pattern in resolvers
            if not tag.endswith((":timestamp", ":value"))
        ]
        for first, resolvers in Resolver.yaml_implicit_resolvers.items()
    }
    bool_values = {**SafeConstructor.bool_values, "y": True, "n": False}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._most = _most_values(text)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        self.line = node.start_mark.line + 1
        return super().construct_object(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._count += 1
        if self._count > self._most:
            raise yaml.composer.ComposerError(None, None, "holds too much", parent.start_mark if parent else None)
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.composer.ComposerError(None, None, "a key is not a string", key.start_mark)
            if key.value in names:
                problem = f"duplicate key {shown(key.value)} (is a `---` missing?)"
                raise DocumentError(key.start_mark.line + 1, problem)
            names.add(key.value)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replace `<<` by what it merges: of the same keys an object's own count, and then the first."""
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for _, value in [pair for pair in node.value if pair[0].tag == _MERGE]:
            for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(each, yaml.MappingNode):
                    raise yaml.constructor.ConstructorError(None, None, "only objects can be merged", each.start_mark)
                self.flatten_mapping(each)
                self._merged += len(each.value)
                if self._merged > self._most:
                    raise yaml.constructor.ConstructorError(None, None, "merges too much", node.start_mark)
                for pair in each.value:
                    merged.setdefault(pair[0].value, pair)
        names = {key.value for key, _ in own}
        node.value = [pair for name, pair in merged.items() if name not in names] + own


for _tag in ("binary", "omap", "pairs", "set", "timestamp"):
    _Yaml.add_constructor(f"tag:yaml.org,2002:{_tag}", _Yaml.construct_undefined)  # type: ignore[type-var]


def _plain(document: Any, line: int, most: int) -> Any:
    """Return a document with strings as keys, and refuse what JSON cannot hold, or more than `most` values of it."""
    left = most

    def spend(amount: int) -> None:
        nonlocal left
        left -= amount
        if left < 0:
            raise DocumentError(line, "holds too much: aliases can repeat a value endlessly")

    def plain(value: Any, depth: int) -> Any:
        spend(1 if depth <= _DEPTH_LIMIT else most)
        if isinstance(value, dict):
            return {counted(_key(key, line)): plain(inner, depth + 1) for key, inner in value.items()}
        if isinstance(value, list):
            return [plain(inner, depth + 1) for inner in value]
        if isinstance(value, str):
            return counted(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise DocumentError(line, f"{value} is not a number that JSON can hold")
        return value

    def counted(text: str) -> str:
        spend(len(text) // _TEXT_UNIT)
        return text

    return plain(document, 0)


def _key(key: Any, line: int) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    if isinstance(key, str) or (isinstance(key, int) and abs(key) < 10**_SHOWN_LENGTH):
        return str(key)
    raise DocumentError(line, f"the key {not_a_string(key)}")
