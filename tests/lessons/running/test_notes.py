"""Lines that are held back."""

from meshdemo.lessons.running.notes import Notes


def test_lines_are_held_back():
    """Lines wait until the terminal is free, and then come in order; those that were taken do not."""
    written = []
    notes = Notes(written.append)
    notes.say("before")
    with notes.held():
        notes.say("first")
        with notes.held() as lines:
            notes.say("taken")
            lines.clear()
            notes.say("second")
        assert written == ["before"]
    notes.say("after")
    assert written == ["before", "first", "second", "after"]
