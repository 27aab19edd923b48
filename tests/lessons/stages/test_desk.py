"""The page's desk: who may use it, what it does, and which scene a lesson has."""

import pytest
from stage_support import write_lessons

from meshdemo.lab.door.door import DoorError
from meshdemo.lessons.stages.desk import Desk, find_scene

POLICY = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: webserver}
spec: {http: [{timeout: 1s}]} # quickly
"""
TURN = {"label": "VirtualService/webserver", "path": "spec.http[0].timeout", "value": 2.5}


@pytest.fixture
def lesson(tmp_path):
    """Return a lesson with a timeout of one second."""
    (lesson,) = write_lessons(tmp_path, one="What it shows.")
    lesson.path.write_text(lesson.path.read_text() + POLICY)
    return lesson


@pytest.fixture
def desk(lesson, tmp_path):
    desk = Desk(tmp_path / "edits")
    desk.show(lesson)
    return desk


def refused(desk, body):
    with pytest.raises(DoorError) as raised:
        desk.answer("", body)
    return raised.value.status


@pytest.mark.parametrize("token", [{}, {"token": ""}, {"token": "x"}, {"token": 1}, {"token": "\u00e9"}])
def test_only_with_the_token(desk, token):
    """Whoever has not got the printed link can neither press keys nor turn numbers."""
    assert refused(desk, {**token, "key": "n"}) == 403
    assert refused(desk, {**token, "numbers": [TURN]}) == 403
    assert desk.pressed() == ""
    assert not desk.edits.exists()


def test_keys(desk):
    """Next, previous and run again come out in order; no other key can be pressed."""
    for key in "npr":
        desk.answer("", {"token": desk.token, "key": key})
    for key in ("q", "e", "u", "", "np", 1, None):
        assert refused(desk, {"token": desk.token, "key": key}) == 400
    assert [desk.pressed() for _ in range(4)] == ["n", "p", "r", ""]


def test_a_number_is_turned_in_a_copy(desk, lesson):
    """The first number makes a copy of the lesson, which is told each time; the lesson's own file stays."""
    own = lesson.path.read_text()
    desk.answer("", {"token": desk.token, "numbers": [TURN]})
    copy = desk.edits / lesson.file
    assert copy.read_text() == own.replace("1s", "2500ms")
    assert lesson.path.read_text() == own
    desk.answer("", {"token": desk.token, "numbers": [{**TURN, "value": 3}]})
    assert copy.read_text() == own.replace("1s", "3s")
    assert [each.name for each in copy.parent.iterdir()] == [copy.name]
    assert [desk.copied() for _ in range(3)] == [copy, copy, None]


@pytest.mark.parametrize(
    ("numbers", "status"),
    [
        ([], 400),
        ([TURN] * 11, 400),
        ("x", 400),
        ([1], 409),
        ([{**TURN, "value": "1"}], 409),
        ([{**TURN, "value": 11}], 409),
        ([{**TURN, "value": float("inf")}], 409),
        ([TURN, {**TURN, "path": "spec"}], 409),
    ],
)
def test_numbers_that_cannot_be(desk, numbers, status):
    """A number that cannot be is refused, and no copy is made."""
    assert refused(desk, {"token": desk.token, "numbers": numbers}) == status
    assert not desk.edits.exists()


def test_files_of_a_person_are_left_alone(lesson):
    """With --folder the files are a person's own, which the page does not touch."""
    desk = Desk(None)
    desk.show(lesson)
    assert refused(desk, {"token": desk.token, "numbers": [TURN]}) == 409


def test_a_folder_that_cannot_be_written(desk, tmp_path):
    """Where no copy can be written that is said."""
    (tmp_path / "edits").write_text("a file")
    assert refused(desk, {"token": desk.token, "numbers": [TURN]}) == 409


@pytest.mark.parametrize(
    ("command", "port", "query"),
    [
        ("meshdemo watch http://127.0.0.1:3030/ -n 9", 3030, "rate=20"),
        ("meshdemo watch http://127.0.0.1:3031/v2 --rate 60", 3031, "path=/v2&rate=60"),
        (
            "meshdemo watch http://127.0.0.1:3030/?a=b --header end-user:a --rate=5",
            3030,
            "path=/?a%3Db&rate=5&header=end-user:a",
        ),
        ("meshdemo watch http://127.0.0.1:8080/ -n 9", 3030, ""),
        ("curl http://127.0.0.1:3031/", 3030, ""),
    ],
)
def test_the_scene_of_a_lesson(tmp_path, command, port, query):
    """The page calls what the lesson's first watch of a proxy calls, at its pace, with its header."""
    (lesson,) = write_lessons(tmp_path, one=f"What it shows.\n\n  {command}")
    found, text = find_scene(lesson)
    assert (found, text.replace("%3F", "?")) == (port, query)
