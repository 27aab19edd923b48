"""Paths as Envoy normalizes them."""

import pytest

from meshdemo.lab.xray.matching.paths import UnknownPathError, normalize

NORMALIZED, MERGED = {"normalize_path": True}, {"merge_slashes": True}


@pytest.mark.parametrize(
    ("path", "manager", "expected"),
    [
        ("/a/../b?c=/../d", NORMALIZED, "/b?c=/../d"),
        ("/a/./b/.", NORMALIZED, "/a/b/"),
        ("/../..", NORMALIZED, "/"),
        ("/%61%7e%2e%2e/%2E%2e/a%2Fb%20", NORMALIZED, "/a%2Fb%20"),
        ("//a//b", NORMALIZED, "//a//b"),
        ("//a//b?c=//", MERGED, "/a/b?c=//"),
        ("/a/../%61", {}, "/a/../%61"),
        ("/a%2Fb", {"path_with_escaped_slashes_action": "KEEP_UNCHANGED"}, "/a%2Fb"),
    ],
)
def test_path(path, manager, expected):
    """Dot segments are resolved, escapes of plain characters undone, slashes merged, each where it is asked for."""
    assert normalize(path, manager) == expected


@pytest.mark.parametrize(
    ("path", "manager"),
    [
        ("/a#b", {}),
        ("*", {}),
        ("/ü", {}),
        ("/a\\b", NORMALIZED),
        ("/a%zz", NORMALIZED),
        ("/a%2fb", {"path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT"}),
    ],
)
def test_unknown(path, manager):
    """What only Envoy can tell is not guessed."""
    with pytest.raises(UnknownPathError):
        normalize(path, manager)
