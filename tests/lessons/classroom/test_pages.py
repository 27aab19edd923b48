"""What a lesson shows, page by page."""

import shlex

import click
import pytest
from support import ROOT

from meshdemo.console.terminal import Marks
from meshdemo.lessons.classroom import pages
from meshdemo.lessons.files.comment import Command, Words, parse_commands
from meshdemo.lessons.files.reading import Lesson, read_exercises, read_lessons
from meshdemo.lessons.running.promises import Result, Verdict

SPLIT = next(lesson for lesson in read_lessons(ROOT / "k8s") if lesson.name == "split")
WATCH = SPLIT.commands()[0]
V1 = Verdict("Webserver V1", "130..170", 150.0, "calls", True)
V2 = Verdict("Webserver V2", "30..70", 50.0, "calls", True)
REPORT = {
    "requests": 200,
    "interrupted": False,
    "versions": [{"content": "Webserver V1", "count": 150}, {"content": "Webserver V2", "count": 40}],
    "others": [
        {"status": 503, "text": "x", "reason": "abort: by a fault rule", "flag": "FI", "guessed": False, "count": 10}
    ],
    "errors": {},
    "unanswered": {},
}


def text_of(found):
    return "\n".join(click.unstyle(line) for page in found for line in page)


def result_text(results, guess="", changes=(), words=None, lesson=SPLIT):
    words = words or lesson.words()
    return text_of(pages.result_pages(lesson, words, results, guess, changes, 79, 20, Marks()))


def test_the_question_gives_nothing_away():
    """The question is shown with the guess so far and the calls, but not with what is expected."""
    page = pages.question_page(SPLIT.words(), SPLIT.commands(), "4", 79)
    text = text_of([page])
    assert "How many of 200 calls does version 2 answer?" in text
    assert "Your guess: 4_" in text
    assert "  meshdemo watch http://127.0.0.1:3030/ -n 200\n" in text + "\n"
    assert "130" not in text


def test_a_result():
    """Who answered stands there with a bar, each promise with its mark, and the guess beside what it was about."""
    text = result_text([Result(WATCH, [V1, V2], REPORT)], "60")
    assert "  Webserver V1                         150   75.0 %  ██████████████████\n" in text
    assert "  503 abort (FI)                        10    5.0 %  █\n" in text
    assert "✓ Webserver V1: 150 calls, expected 130..170\n" in text
    assert "✓ Webserver V2: 50 calls, expected 30..70; you guessed 60\n" in text
    assert text.index("Expect about") < text.index("Why\n")


def test_reasons_that_are_guessed():
    """What is only probable stands in a row of its own, which says so where there is room."""
    denied = {"status": 403, "text": "x", "reason": "denied: authorization does not allow this call", "flag": "RBAC"}
    others = [{**denied, "guessed": guessed, "count": count} for guessed, count in ((False, 19), (True, 1))]
    text = result_text([Result(WATCH, [], {**REPORT, "versions": [], "others": others})])
    assert "  403 denied (RBAC)  " in text
    assert "  403 probably denied (RBAC)  " in text


def test_a_long_promise_is_not_cut():
    """A promise that has no room in one line goes on in the next."""
    long = Verdict("rule", "VirtualService/webserver[1]", ", ".join(["VirtualService/webserver[1]"] * 2), "", True)
    text = result_text([Result(WATCH, [long], REPORT)])
    assert (
        "✓ rule: VirtualService/webserver[1], VirtualService/webserver[1], expected\n  VirtualService/webserver[1]"
        in text
    )


def test_a_result_in_a_narrow_window():
    """No line is wider than the window."""
    found = pages.result_pages(SPLIT, SPLIT.words(), [Result(WATCH, [V1, V2], REPORT)], "60", [], 39, 9, Marks())
    assert max(len(click.unstyle(line)) for page in found for line in page) <= 39


def test_the_first_promise_answers_a_question_that_names_none():
    """Without a name in the question, the guess is beside the first promise."""
    assert "170; you guessed 1" in result_text([Result(WATCH, [V1, V2], REPORT)], "1", words=Words())


def test_the_result_of_an_edit():
    """What was changed stands first, and that what is expected is the lesson's."""
    missed = Verdict("Webserver V1", "130..170", 0.0, "calls", False)
    text = result_text([Result(WATCH, [missed], REPORT)], changes=["line 31: weight 75 -> 0", "b", "c", "d"])
    assert text.startswith("You changed line 31: weight 75 -> 0, b, c and more.\n")
    assert "What is expected is what the lesson shows without your change." in text
    assert "without your change" not in result_text([Result(WATCH, [V1], REPORT)], changes=["a"])


def test_the_result_of_an_exercise():
    """An exercise is mended when all checks are green, and says what helps until then."""
    exercise = read_exercises(ROOT / "k8s")[0]
    missed = Verdict("200", "200", 150.0, "calls", False)
    assert result_text([Result(WATCH, [V1], REPORT)], lesson=exercise).endswith("Mended: all checks are green.")
    assert "Not mended yet" in result_text([Result(WATCH, [V1, missed], REPORT)], ["a"], lesson=exercise)


def test_a_result_that_was_cut_short():
    """What was seen until then is shown without a mark, and nothing is said to be mended or not."""
    missed = Verdict("200", "200", 150.0, "calls", False)
    exercise = read_exercises(ROOT / "k8s")[0]
    for lesson, verdict in ((SPLIT, missed), (exercise, missed), (exercise, V1)):
        results = [Result(WATCH, [V1], REPORT), Result(WATCH, [verdict], REPORT, was_ended=True)]
        text = result_text(results, lesson=lesson, changes=["a"])
        assert (
            f"- {verdict.subject}: 150 calls, expected {verdict.range}\nYou ended it after 200 calls: nothing" in text
        )
        assert not any(word in text for word in ("✗", "ended yet", "Mended", "without your change"))
    assert text.endswith("Not judged: r makes all calls, and checks them.")
    assert "You ended it: nothing is judged." in result_text([Result(WATCH, was_ended=True)])


def test_what_a_command_prints():
    """What another command prints is shown in its first lines, and what the stage has seen to is not."""
    (command,) = parse_commands(["  kubectl get pods"])
    text = result_text([Result(command, output="1\n\x1b[2J\n" + "3\n" * 9), Result(Command((("kubectl", "x"),)))])
    assert text.startswith("$ kubectl get pods\n1\n\\x1b[2J\n3\n3\n3\n3\n\n")
    assert "kubectl x" not in text


def test_pack():
    """Blocks stand together while there is room; one that is longer than a page goes on on the next."""
    assert pages.pack([["a"], ["b", "c"], ["d"]], 4) == [["a", "", "b", "c"], ["d"]]
    assert pages.pack([["a", "b", "c"]], 2) == [["a", "b"], ["c"]]
    assert pages.pack([], 2) == []


@pytest.mark.parametrize("problem", ["k8s/a.yaml, line 31, column 3: x", "a.yaml:31:3: x"])
def test_a_refused_edit(problem):
    """What is wrong is followed by the lines around the place, of which one is marked."""
    page = pages.refused_page(SPLIT, SPLIT.words(), problem, 79, 10, Marks())
    assert click.unstyle(page[0]) == f"Error: {problem}"
    assert [line for line in map(click.unstyle, page) if "weight: 75" in line] == [" 31>           weight: 75"]
    assert len(page) <= 10
    assert len(pages.refused_page(SPLIT, SPLIT.words(), "no place", 79, 10, Marks())) == 1


def test_header():
    """The lesson stands on the left and the stage on the right, which is cut first."""
    lesson = Lesson(2, "A title", ROOT, "istio/x.yaml")
    assert click.unstyle(pages.header(lesson, "in the lab", 30)) == "2. A title          in the lab"
    assert click.unstyle(pages.header(lesson, "in the lab", 15)) == "2. A title  in "


def test_hints():
    """Hints are numbered; an explained call has a page of its own, with its lines as they are."""
    assert pages.hint_pages(["One.", "Two."], [], 79, 20) == [["Hints", "", "1. One.", "", "2. Two."]]
    assert pages.hint_pages(["One."], ["$ meshdemo call", "  in"], 79, 20) == [["$ meshdemo call", "  in"]]


def test_a_command_in_a_narrow_window():
    """A command that is too long is broken between its words, so that it can be copied."""
    command = "meshdemo watch --expect 'Webserver V1=1' --expect 'Webserver V2=2' --expect \"a b\""
    lines = pages.fit_command(command, 30)
    assert max(map(len, lines)) <= 30
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == shlex.split(command)
    assert pages.fit_command(command, 200) == [command]
    assert pages.fit_command("x" * 50, 30) == ["x" * 50]
