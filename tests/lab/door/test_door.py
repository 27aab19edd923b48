"""The lab's door: what other programs of this user ask, and what they get."""

import threading

import pytest

from meshdemo.lab.door.door import Door, DoorError
from meshdemo.lab_socket import LabSocketError, ask


@pytest.fixture
def door(tmp_path):
    opened = Door(tmp_path)
    opened.open()
    yield opened
    opened.close()


def test_only_the_user_may_open_it(door):
    """The socket is the user's alone."""
    assert door.path.stat().st_mode & 0o777 == 0o600


def test_questions_and_answers(door):
    """A path is answered with JSON, and one that ends with a slash for all below it."""
    door.add("POST", "/call", lambda rest, body: [rest, body])
    door.add("GET", "/calls/", lambda rest, body: [rest, body])
    assert ask(door.path, "POST", "/call", {"é": 1}) == ["", {"é": 1}]
    assert ask(door.path, "GET", "/calls/a%20b?c") == ["a b", None]


def test_what_is_refused(door):
    """An unknown path, and what the lab refuses, are told in the lab's words."""

    def refuse(_rest, _body):
        raise DoorError(404, "no pod is called x")

    door.add("GET", "/calls/", refuse)
    with pytest.raises(LabSocketError, match=r"^no pod is called x$"):
        ask(door.path, "GET", "/calls/1")
    for method, target in (("GET", "/"), ("POST", "/calls/1"), ("GET", "/calls/1/2"), ("GET", "/calls/")):
        with pytest.raises(LabSocketError, match=rf"^the lab has no {method} {target}$"):
            ask(door.path, method, target)


def test_a_defect_ends_nothing(door):
    """An error of the lab itself is told as one, and the next question is answered."""
    door.add("GET", "/bad", lambda _rest, _body: 1 / 0)
    door.add("GET", "/good", lambda _rest, _body: 1)
    with pytest.raises(LabSocketError, match=r"please report it: ZeroDivisionError"):
        ask(door.path, "GET", "/bad")
    assert ask(door.path, "GET", "/good") == 1


def test_a_lab_that_does_not_answer(door, tmp_path):
    """A lab that hangs, and one that is gone, are told in one line."""
    never = threading.Event()
    door.add("GET", "/slow", lambda _rest, _body: never.wait(5))
    with pytest.raises(LabSocketError, match=r"^the lab gave no answer for 0\.1 s$"):
        ask(door.path, "GET", "/slow", timeout_seconds=0.1)
    never.set()
    with pytest.raises(LabSocketError, match=r"^the lab does not answer: no such file"):
        ask(tmp_path / "other", "GET", "/")
