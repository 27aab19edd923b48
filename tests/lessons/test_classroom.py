"""Lessons at a terminal: what is shown, and what the keys do."""

import functools
import os
import pty
import shlex
import sys

import pytest
from stage_support import StageDouble, write_lessons
from support import http_response, replying

from meshdemo.lessons import classroom
from meshdemo.lessons.classroom import Classroom, fit, list_lessons
from meshdemo.lessons.notes import Notes

WATCH = "  meshdemo watch http://127.0.0.1:3030/ -n 3 --rate 0 --expect hello=3"
PROMPT = "n next   p previous   r run again   e edit   u take the edit back   q quit"


@pytest.fixture
def teach(tcp_server, tmp_path, monkeypatch, capfd):
    """Return a function that teaches lessons, and presses keys when their texts have been shown; None hangs up."""

    def run(keys, *meanwhile, **comments):
        controller, terminal = pty.openpty()
        stage = StageDouble(tcp_server(replying(http_response(b"hello"))).port)
        shown = []
        rest = list(keys)

        def press():
            output, errors = capfd.readouterr()
            shown.append(output + errors)
            if rest and rest[0][0] in "".join(shown[run.seen :]):
                run.seen = len(shown)
                key = rest.pop(0)[1]
                os.write(controller, key.encode()) if key else hang_up()

        def hang_up():
            if not run.hung_up:
                os.close(controller)
                run.hung_up = True

        run.seen, run.hung_up = 0, False
        stage.steps.append(press)
        stage.steps += [functools.partial(each, stage) for each in meanwhile]
        notes = Notes(print)
        stage.say = notes.say
        lessons = write_lessons(tmp_path, **comments)
        with os.fdopen(terminal) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            Classroom(stage, lessons, notes, run.edits).teach(lessons[0])
        hang_up()
        assert not rest
        output, errors = capfd.readouterr()
        return stage, "".join([*shown, output, errors])

    run.edits = None
    monkeypatch.setenv("COLUMNS", "80")
    return run


def test_what_is_shown(teach):
    """What to expect comes first, then the command with its check mark, then why, and then the keys."""
    _, shown = teach([(PROMPT, "q")], one=f"What it shows.\n\n{WATCH}\n\nExpect this.\n\nWhy: because.")
    places = [
        shown.index(text)
        for text in (
            "1. The lesson one",
            "on a stage",
            "What it shows.",
            "Expect this.",
            "one is in force",
            "$ meshdemo watch http://127.0.0.1:",
            "✓ hello  3  expected 3",
            "Why: because.",
            PROMPT,
        )
    ]
    assert places == sorted(places)


def test_the_keys(teach):
    """`n` and `p` lead around, `r` runs again, other keys and arrows do nothing, `q` ends."""
    keys = [(PROMPT, key) for key in ("n", "p", "p", "n", "N", "r")]
    stage, _ = teach([*keys, (PROMPT, "x"), ("", "\x1b[C"), ("", "q")], one="One.", two="Two.", three="Three.")
    assert stage.shown == ["one", "two", "one", "three", "one", "two", "two"]


def test_a_key_ends_what_runs(teach):
    """A person need not wait for the end of a command: a key leads on at once, and what was seen is shown."""
    endless = "  meshdemo watch http://127.0.0.1:3030/ -n 0 --expect hello=3"
    stage, shown = teach([("$ meshdemo", "n"), (PROMPT, "q")], one=f"{endless}\n\nWhy: because.", two="Two.")
    assert stage.shown == ["one", "two"]
    assert "Why: because." not in shown


def test_a_key_ends_a_plain_command(teach):
    """Any command that runs is ended by a key."""
    stage, _ = teach([("$ sleep", "n"), (PROMPT, "q")], one="  sleep 60", two="Two.")
    assert stage.shown == ["one", "two"]


def test_ctrl_c_in_the_editor(teach, monkeypatch, tmp_path):
    """Ctrl+C in the editor is the editor's alone."""
    monkeypatch.setenv("VISUAL", "sh -c 'kill -INT $PPID; sleep 0.2'")
    stage, _ = teach([(PROMPT, "e"), (PROMPT, "q")], one="One.")
    assert stage.shown == ["one", "one"]


def test_edit(teach, monkeypatch, tmp_path):
    """`e` opens the file in the editor of the environment, and runs the lesson as it is then."""
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "sed -i s/One/Changed/")
    stage, shown = teach([(PROMPT, "e"), (PROMPT, "q")], one="One.")
    assert stage.shown == ["one", "one"]
    assert "Changed." in shown


def test_edit_a_copy(teach, monkeypatch, tmp_path):
    """Where the files are not the person's own, a copy is edited and runs; what was edited is said at the end."""
    teach.edits = tmp_path / "mine"
    monkeypatch.setenv("VISUAL", "sed -i s/One/Changed/")
    _, shown = teach([(PROMPT, "e"), (PROMPT, "q")], one="One.")
    copy = tmp_path / "mine" / "istio" / "one.yaml"
    assert f"You edit a copy, {copy}" in shown
    assert "Changed." in shown
    assert shown.endswith(f"your edit of one: {copy}\n")
    assert "One." in (tmp_path / "istio" / "one.yaml").read_text()
    assert "Changed." in copy.read_text()


def test_a_copy_from_before(teach, monkeypatch, tmp_path):
    """A copy that an earlier run has left is edited further, and that is said."""
    teach.edits = tmp_path / "mine"
    copy = tmp_path / "mine" / "istio" / "one.yaml"
    copy.parent.mkdir(parents=True)
    copy.write_text("# From before.\n")
    monkeypatch.setenv("VISUAL", "true")
    _, shown = teach([(PROMPT, "e"), (PROMPT, "q")], one="One.")
    assert f"You edit your copy from before, {copy}" in shown
    assert "From before." in shown


def test_take_the_edit_back(teach, monkeypatch, tmp_path):
    """`u` goes back to the lesson as it came, and does nothing where there is no edit."""
    teach.edits = tmp_path / "mine"
    monkeypatch.setenv("VISUAL", "sed -i s/One/Changed/")
    stage, shown = teach([(PROMPT, "u"), (PROMPT, "e"), (PROMPT, "u"), (PROMPT, "q")], one="One.")
    assert "There is no edit to take back." in shown
    assert stage.shown == ["one", "one", "one"]
    assert shown.count("Changed.") == 1
    assert "your edit" not in shown
    assert not (tmp_path / "mine").exists()


def test_take_one_of_two_edits_back(teach, monkeypatch, tmp_path):
    """`u` leaves the other copies, and what else is in their folder."""
    teach.edits = tmp_path / "mine"
    monkeypatch.setenv("VISUAL", "true")
    keys = [(PROMPT, "e"), (PROMPT, "n"), (PROMPT, "e"), (PROMPT, "u"), (PROMPT, "q")]
    _, shown = teach(keys, one="One.", two="Two.")
    assert [each.name for each in (tmp_path / "mine" / "istio").iterdir()] == ["one.yaml"]
    assert "your edit of two" not in shown


def test_a_folder_that_cannot_be_written(teach, monkeypatch, tmp_path):
    """Where no copy can be made, that is one line, and nothing is edited."""
    (tmp_path / "mine").write_text("")
    teach.edits = tmp_path / "mine"
    monkeypatch.setenv("VISUAL", "sed -i s/One/Changed/")
    stage, shown = teach([(PROMPT, "e"), (PROMPT, "q")], one="One.")
    assert "cannot be written: " in shown
    assert stage.shown == ["one"]


@pytest.mark.parametrize("editor", ["no-such-editor", "'"])
def test_an_editor_that_cannot_be_started(teach, monkeypatch, editor):
    """An editor that is not there is one line, and the lesson waits for another key."""
    monkeypatch.setenv("VISUAL", editor)
    stage, shown = teach([(PROMPT, "e"), (PROMPT, "q")], one="One.")
    (line,) = [line for line in shown.splitlines() if "Error: " in line]
    assert "cannot be started" in line
    assert "Set EDITOR." in line
    assert stage.shown == ["one"]


@pytest.mark.parametrize(
    ("comment", "words"),
    [("problem", "Error: the file has a problem."), ("too much", "it takes more than this.")],
)
def test_a_lesson_that_cannot_be_shown(teach, comment, words):
    """What is wrong is said, and the keys lead on."""
    stage, shown = teach([(PROMPT, "n"), (PROMPT, "q")], one=comment, two="Two.")
    assert words in shown
    assert stage.shown[-1] == "two"


def test_what_a_pipeline_prints(teach):
    """The output of another command is shown with its check mark; one that the stage has seen to is done."""
    comment = "  kubectl port-forward service/x 1:2\n  kubectl logs x | grep --count /x  # 0"
    _, shown = teach([(PROMPT, "q")], one=comment)
    assert "$ kubectl port-forward service/x 1:2\n(done)\n" in shown
    assert "$ kubectl logs x | grep --count /x\n0\n   ✓ grep --count /x: 0, expected 0\n" in shown


def test_what_the_stage_says_waits_for_the_end_of_a_table(teach):
    """Lines of the stage come before or after a command that draws, never in its table."""
    said = []

    def say_while_it_runs(stage):
        if stage.running and not said:
            said.append("a pod was replaced")
            stage.say(*said)

    command = "  meshdemo watch http://127.0.0.1:3030/ -n 3 --rate 3 --expect hello=3"
    _, shown = teach([(PROMPT, "q")], say_while_it_runs, one=command)
    assert said
    assert shown.index("3 requests in") < shown.index(*said) < shown.index(PROMPT)


def test_the_terminal_is_as_before(teach, monkeypatch):
    """After the last key, and when something goes wrong, the terminal has its echo and its lines again."""
    import termios

    modes = []
    real = termios.tcsetattr

    def remember(number, when, mode):
        modes.append(mode[3] & (termios.ECHO | termios.ICANON))
        real(number, when, mode)

    monkeypatch.setattr(classroom.Keys.__exit__.__globals__["termios"], "tcsetattr", remember)
    teach([(PROMPT, "q")], one="One.")
    assert modes[-1] == termios.ECHO | termios.ICANON


def test_a_terminal_that_goes(teach):
    """When the terminal hangs up, that is the end."""
    assert teach([(PROMPT, None)], one="One.")[0].shown == ["one"]


def test_fit():
    """Paragraphs flow into the window, and a command that is too long can still be copied."""
    command = "meshdemo watch --expect 'Webserver V1=1' --expect 'Webserver V2=2' --expect \"a b\""
    comment = ["Some words that", "go on here.", "", f"  {command}", "", "End."]
    lines = fit(comment, 30)
    assert max(map(len, lines)) <= 30
    assert lines[0] == "Some words that go on here."
    assert lines[1] == ""
    assert lines[-2:] == ["", "End."]
    assert len(lines[2:-2]) > 2
    assert shlex.split("\n".join(lines[2:-2]).replace("\\\n", "")) == shlex.split(command)
    assert fit(comment, 200)[2] == f"  {command}"
    assert fit(["  " + "x" * 50], 30) == ["  " + "x" * 50]


def test_list(tmp_path, capsys):
    """The list names each lesson with its number, and what it needs."""
    lessons = write_lessons(tmp_path, one="One.", second="Two.")
    list_lessons(lessons, {lessons[1]: "it takes more"})
    assert capsys.readouterr().out.splitlines()[:2] == [
        "  1  The lesson one     one",
        "  2  The lesson second  second                    --istiod",
    ]
