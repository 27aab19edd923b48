"""A screen of lines with one at the bottom."""

import io

import click
import pyte
import pytest

from meshdemo.console.screen import Screen


class Stream(io.StringIO):
    """A stream that an emulated terminal shows."""

    def __init__(self):
        super().__init__()
        self.screen = pyte.Screen(20, 5)
        self._feed = pyte.Stream(self.screen)

    def write(self, text):
        self._feed.feed(text)
        return super().write(text)


@pytest.fixture
def stream(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "5")
    return Stream()


def picture(columns, rows):
    return [click.style(f"{columns} x {rows}", bold=True), *"abcdef"], "x" * columns


def test_lines_and_bottom(stream):
    """Lines stand at the top, as many as there is room for, and one at the bottom, in full width; nothing scrolls."""
    with Screen(stream) as screen:
        screen.show(picture)
        assert [line.rstrip() for line in stream.screen.display] == ["20 x 5", "a", "b", "c", "x" * 20]
        screen.show(lambda *_: (["one"], "two"))
        assert [line.rstrip() for line in stream.screen.display] == ["one", "", "", "", "two"]


def test_another_size(stream, monkeypatch):
    """A window that has another size is drawn anew, and otherwise left alone."""
    with Screen(stream) as screen:
        screen.show(picture)
        drawn = stream.getvalue()
        screen.look_after()
        assert stream.getvalue() == drawn
        monkeypatch.setenv("LINES", "4")
        screen.look_after()
        assert "20 x 4" in stream.getvalue()


def test_without_colour(stream):
    """Where there is to be no colour, lines have no style."""
    with Screen(stream, color=False) as screen:
        screen.show(picture)
    assert "\x1b[1m" not in stream.getvalue()


def test_the_window_is_given_back(stream):
    """What stood there comes back at the end, and meanwhile, when somebody else needs the window."""
    with Screen(stream) as screen:
        screen.show(picture)
        screen.close()
        assert stream.getvalue().endswith("\x1b[?25h\x1b[?7h\x1b[?1049l")
        before = stream.getvalue()
        screen.show(picture)
        assert stream.getvalue() == before
        screen.open()
        assert "20 x 5" in stream.getvalue()[len(before) :]
    assert stream.getvalue().count("\x1b[?1049h") == stream.getvalue().count("\x1b[?1049l") == 2


def test_a_terminal_that_has_gone():
    """Where nobody reads there is no error."""
    stream = io.StringIO()
    screen = Screen(stream)
    stream.close()
    with screen:
        screen.show(picture)
