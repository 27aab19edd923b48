"""The list of lessons and that of exercises."""

from support import ROOT

from meshdemo.lessons.files.reading import Lesson, read_exercises, read_lessons
from meshdemo.lessons.listing import format_exercises, format_list


def test_the_lessons_fit_a_window():
    """All lessons with their groups, numbers and names fit 80 columns, and 24 rows with a prompt."""
    lessons = read_lessons(ROOT / "k8s")
    lines = format_list(lessons, {lesson for lesson in lessons if lesson.name in ("jwt", "egress")})
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 23
    text = "\n".join(lines)
    for lesson in lessons:
        assert f"{lesson.number:>2}{'*' if lesson.name in ('jwt', 'egress') else ' '}{lesson.title} " in text
        assert f" {lesson.name}" in text
    for group in ("Traffic", "Resilience", "Security", "Edge", "Gateway API"):
        assert group in text


def test_lessons_of_ones_own(tmp_path):
    """Any lessons are listed, also one alone, and without a mark where none needs anything."""
    lines = format_list([Lesson(1, "One", tmp_path, "one.yaml", "Mine")], set())
    assert lines[:2] == ["Mine", " 1 One               one"]
    assert "*" not in "".join(lines)


def test_the_exercises():
    """Exercises are listed with what they need."""
    exercises = read_exercises(ROOT / "k8s")
    lines = format_exercises(exercises, set(exercises[5:6]))
    assert [line.split()[-1] for line in lines[:8]] == [exercise.name for exercise in exercises]
    assert lines[5].startswith(" 6*")
    assert max(map(len, lines)) <= 80
