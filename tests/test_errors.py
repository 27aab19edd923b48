"""What ends a command in one line."""

import pytest

from meshdemo.errors import sentence


@pytest.mark.parametrize("text", ["it is not there.", "did you mean this?", "only a, b, ..."])
def test_sentences(text):
    """A full stop is put where no mark ends a text already."""
    assert sentence(text) == text
    assert sentence("it is not there") == "it is not there."
