"""Lessons at a terminal: what is shown step by step, and what the keys do."""

import dataclasses
import functools
import os
import pty
import re
import sys
import time

import pytest
from stage_support import StageDouble, write_lessons
from support import ROOT, http_response, replying

from meshdemo.lab.command import choose_engine
from meshdemo.lab.lab import LabOptions
from meshdemo.lessons.classroom import keys as lesson_keys
from meshdemo.lessons.classroom.classroom import Classroom
from meshdemo.lessons.files.reading import find_lesson, read_lessons
from meshdemo.lessons.running import promises
from meshdemo.lessons.running.notes import Notes
from meshdemo.lessons.stages.lab_stage import LabStage

WATCH = "  meshdemo watch http://127.0.0.1:3030/ -n 3 --rate 0 --expect hello=3"
# What the line of keys says before the calls, after them, and at the end of a lesson.
CALLS, ON, END = "Enter make the calls", "Enter go on", "Enter next  "
REFUSED = "e edit  r try again"


@pytest.fixture
def teach(tcp_server, tmp_path, monkeypatch, capfd):
    """Return a function that teaches lessons, and presses keys when their texts have been shown; None hangs up."""

    def run(keys, *meanwhile, **comments):
        controller, terminal = pty.openpty()
        stage = run.make_stage()
        shown = []
        rest = list(keys)
        deadline = time.monotonic() + 40

        def press():
            output, errors = capfd.readouterr()
            shown.append(output + errors)
            assert time.monotonic() < deadline, f"waiting for {rest} at " + "".join(shown)[-2000:]
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
        lessons = [
            dataclasses.replace(each, hints=run.hints) for each in run.lessons or write_lessons(tmp_path, **comments)
        ]
        with os.fdopen(terminal) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            run.returned = Classroom(stage, lessons, notes, run.edits).teach(lessons[0])
        hang_up()
        assert not rest, "".join(shown)
        output, errors = capfd.readouterr()
        return stage, re.sub(r"\x1b\[[0-9;]*m", "", "".join([*shown, output, errors]))

    run.edits = tmp_path / "mine"
    run.hints = ()
    run.lessons = ()
    run.make_stage = lambda: StageDouble(tcp_server(replying(http_response(b"hello"))).port)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    return run


LESSON = f"""What it shows.

{WATCH}

Question: how many of 3?

Expect this.

Why: because.

Stays the same: that.

Range: 1 + 2 = 3."""


def test_the_steps(teach):
    """One step follows the other: about, question and guess, calls, result with guess and why, more, the arithmetic."""
    keys = [("What it shows.", "\n"), ("Your guess: _", "2"), ("Your guess: 2_", " "), ("Because.", "\n")]
    stage, shown = teach([*keys, ("What stays the same", "\n"), (END, "q")], one=LESSON)
    places = [
        shown.index(text)
        for text in (
            "1. The lesson one",
            "on a stage",
            "What it shows.",
            "How many of 3?",
            "Your guess: 2_",
            "✓ hello: 3 calls, expected 3; you guessed 2",
            "Expect this.",
            "Because.",
            "That.",
            "How the range was computed",
            END,
        )
    ]
    assert places == sorted(places)
    assert stage.shown == ["one"]
    assert "--expect" not in shown.split("Your guess: 2_")[0]


def test_commands_have_the_ports_of_the_stage(teach):
    """Question, result and hint show the commands with the ports of this place."""

    def move(stage):
        stage.typed_address = "127.0.0.1:4200"

    teach.hints = ("`meshdemo call http://127.0.0.1:3030/ --lab 1`",)
    keys = [("What it shows.", "\n"), ("guess: _", "\n"), ("Because.", "h"), ("$ meshdemo call", "x"), ("", "q")]
    _, shown = teach(keys, move, one=LESSON)
    assert "$ meshdemo watch http://127.0.0.1:4200/ -n 3" in shown
    assert "$ meshdemo call http://127.0.0.1:4200/ --lab 1" in shown
    assert "3030" not in shown


def test_what_became_of_it_is_shown_elsewhere(teach):
    """The stage is told when the calls begin, and by what they were judged; nothing where a key ended them."""
    stage, _ = teach([(CALLS, "\n"), (END, "q")], one=WATCH)
    assert stage.judgements == [None, [("✓ hello: 3 calls, expected 3", True)]]
    endless = "  meshdemo watch http://127.0.0.1:3030/ -n 0 --expect hello=0"
    stage, _ = teach([(CALLS, "\n"), ("$ meshdemo", "q")], one=endless)
    assert stage.judgements == [None, []]


def test_back(teach):
    """`b` goes back a step, and a guess can be taken back, too; nothing is before the first step."""
    keys = [(CALLS[:6], "b"), ("", "\n"), ("guess: _", "1"), ("guess: 1_", "\x7f"), ("guess: _", "b"), (ON, "q")]
    stage, shown = teach(keys, one=LESSON)
    assert "Because." not in shown
    assert stage.shown == ["one"]


def test_the_keys(teach):
    """`n` and `p` lead around, a number to its lesson, `r` runs again, other keys and arrows do nothing, `q` ends."""
    keys = [(CALLS, key) for key in ("n", "p", "p", "N")]
    keys += [(CALLS, "2"), ("lesson 2_", "\n"), (CALLS, "9"), ("lesson 9_", "\n"), (CALLS, "r"), (END, "x")]
    stage, _ = teach([*keys, ("", "\x1b[C"), ("", "q")], one=WATCH, two=WATCH, three=WATCH)
    assert stage.shown == ["one", "two", "one", "three", "one", "two", "two"]


def test_at_the_end_of_a_lesson_comes_the_next(teach):
    """Enter leads on from the last step, also where a lesson has no words."""
    stage, _ = teach([(CALLS, "\n"), (END, "\n"), (CALLS, "q")], one=WATCH, two="Two.")
    assert stage.shown == ["one", "two"]


def test_a_key_ends_what_runs(teach):
    """A person need not wait for the end of a command: a key leads on at once, and Enter shows what was seen so far."""
    endless = "  meshdemo watch http://127.0.0.1:3030/ -n 0 --expect hello=0"
    keys = [(CALLS, "\n"), ("$ meshdemo", "n"), (CALLS, "p"), (CALLS, "\n"), (" requests", "\n"), ("Enter next", "q")]
    stage, shown = teach(keys, one=endless, two="Two.")
    assert stage.shown == ["one", "two", "one"]
    assert "- hello: " in shown
    assert "✗" not in shown
    assert re.search(r"You ended it after \d+ calls: nothing is judged\.", shown)
    assert stage.judgements[-1][0][1] is None


def test_a_key_ends_a_plain_command(teach):
    """Any command that runs is ended by a key."""
    keys = [(CALLS, "\n"), ("Run it?", "y"), ("$ sleep", "n"), (CALLS, "q")]
    stage, _ = teach(keys, one="  sleep 60", two="Two.")
    assert stage.shown == ["one", "two"]


def test_a_key_ends_a_call(teach, monkeypatch):
    """Enter while a call is made that expects something is no error: it says nothing yet, and what follows runs."""
    monkeypatch.setattr(promises.running, "finish", lambda stage, words, look, **_: look(30) and ("", ""))
    call = "  meshdemo call http://127.0.0.1:3030/ --expect status=200"
    _, shown = teach([(CALLS, "\n\n"), ("You ended it: nothing is judged.", "q")], one=call)
    assert "Error" not in shown
    assert "$ meshdemo call http://127.0.0.1:3030/" in shown
    assert "--expect" not in shown


def test_a_command_that_lessons_do_not_run(teach, tmp_path):
    """What no lesson runs is shown and asked for first."""
    comment = f"  touch {tmp_path}/made\n  touch {tmp_path}/not"
    _, shown = teach([(CALLS, "\n"), ("Run it?", "y"), ("Run it?", "x"), (END, "q")], one=comment)
    assert "wants to run this" in shown
    assert (tmp_path / "made").exists()
    assert not (tmp_path / "not").exists()


def test_ctrl_c_in_the_editor(teach, monkeypatch):
    """Ctrl+C in the editor is the editor's alone."""
    monkeypatch.setenv("VISUAL", "sh -c 'kill -INT $PPID; sleep 0.2; echo x >> $0'")
    stage, _ = teach([(CALLS, "e"), (END, "q")], one=WATCH)
    assert stage.shown == ["one", "one"]


def test_edit(teach, monkeypatch, tmp_path):
    """`e` opens a copy in the editor; what was changed is said, marked and run, and where it is at the end."""
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "sed -i s/hello=3/hello=4/")
    stage, shown = teach([(CALLS, "e"), (END, "q")], one=WATCH)
    copy = tmp_path / "mine" / "istio" / "one.yaml"
    assert stage.shown == ["one", "one"]
    assert "You changed line 1: " in shown
    assert "✗ hello: 3 calls, expected 4" in shown
    assert shown.rstrip("\n").endswith(f"it is in {copy}")
    assert "your edit of one: line 1: " in shown
    assert "hello=3" in (tmp_path / "istio" / "one.yaml").read_text()
    assert "hello=4" in copy.read_text()


def test_a_copy_that_was_emptied(teach, monkeypatch):
    """Of many changes only the first are said at the end."""
    monkeypatch.setenv("VISUAL", "sed -i d")
    _, shown = teach([("What it shows.", "e"), ("u undo", "q")], one=LESSON)
    assert re.search(r"your edit of one: .*, and \d+ more; it is in ", shown.replace("\n", " "))


def test_edit_a_file_of_ones_own(teach, monkeypatch, tmp_path):
    """Where the files are the person's own, they are edited themselves."""
    teach.edits = None
    monkeypatch.setenv("VISUAL", "sed -i s/hello=3/hello=4/")
    _, shown = teach([(CALLS, "e"), (END, "q")], one=WATCH)
    assert "expected 4" in shown
    assert "your edit" not in shown
    assert "hello=4" in (tmp_path / "istio" / "one.yaml").read_text()


def test_an_edit_that_changes_nothing(teach, monkeypatch, tmp_path):
    """An editor that leaves all as it is is no reason to run again, and leaves no copy; Enter does it all the same."""
    monkeypatch.setenv("VISUAL", "true")
    stage, shown = teach([(CALLS, "e"), ("Nothing was changed in", "\n"), (END, "q")], one=WATCH)
    assert stage.shown == ["one", "one"]
    assert not (tmp_path / "mine").exists()
    assert "your edit" not in shown


def test_an_editor_that_fails(teach, monkeypatch):
    """An editor that ends with a status other than 0 has it said."""
    monkeypatch.setenv("VISUAL", "sh -c 'exit 3'")
    _, shown = teach([(CALLS, "e"), ("Nothing was changed in", "q")], one=WATCH)
    assert "the editor ended with status 3." in re.sub(r"\x1b\[[0-9;]*H", " ", shown)


def test_nothing_to_take_back(teach):
    """Where there is no edit to take back, `b` leads back, and a number to its lesson, as anywhere."""
    nothing = "There is no edit to take back."
    keys = [(CALLS, "u"), (nothing, "b"), (CALLS, "u"), (nothing, "2"), ("lesson 2_", "\n"), (CALLS, "q")]
    stage, _ = teach(keys, one=WATCH, two=WATCH)
    assert stage.shown == ["one", "two"]


def test_an_edit_that_is_refused(teach, monkeypatch):
    """A refused edit is shown with its line, the editor is offered, and `u` takes it back."""
    monkeypatch.setenv("VISUAL", "sed -i '$ a problem'")
    stage, shown = teach([(CALLS, "e"), ("e edit  u undo", "u"), (END, "q")], one=f"{WATCH}\n\nSome.\nMore.")
    assert "Error: the file has a problem at one.yaml:5." in shown
    assert "  5> problem" in shown
    assert stage.shown == ["one", "one", "one"]


def test_take_the_edit_back(teach, monkeypatch, tmp_path):
    """`u` goes back to the lesson as it came, and does nothing where there is no edit."""
    monkeypatch.setenv("VISUAL", "sed -i s/hello=3/hello=4/")
    keys = [(CALLS, "u"), ("There is no edit to take back.", "e"), ("expected 4", "u"), ("expected 3", "q")]
    _, shown = teach(keys, one=WATCH)
    assert "your edit" not in shown
    assert not (tmp_path / "mine").exists()


class LabOfALesson(LabStage):
    """A lab that runs `steps` meanwhile, as the double does."""

    def __init__(self, edits):
        self.say = print
        self.steps = []
        super().__init__(choose_engine(istiod=False), LabOptions(0), lambda line: self.say(line), count=1, edits=edits)

    def step(self):
        for step in self.steps:
            step()
        super().step()


@pytest.mark.thorough
def test_take_an_edit_back_in_a_lab(teach, monkeypatch, tmp_path):
    """A lab shows the lesson as it came once its edit, which was in force, is taken back."""
    monkeypatch.setenv("VISUAL", "sed -i 's/weight: 75/weight: 0/;s/weight: 25/weight: 100/'")
    lesson = find_lesson(read_lessons(ROOT / "k8s"), "split")
    short = lesson.text().replace("-n 200", "-n 20 --rate 0").replace("=130..170", "=1..20")
    teach.lessons = write_lessons(tmp_path, one="")
    teach.lessons[0].path.write_text(short)
    (tmp_path / "example.yaml").write_text((ROOT / "k8s/example.yaml").read_text())
    teach.make_stage = lambda: LabOfALesson(teach.edits)
    stage, shown = teach([(" 75", "e"), ("V1: 0 calls, expected 1..20", "u"), ("expected 1..20", "q")])
    stage.close()
    assert "V1: 0 calls" not in shown.rpartition("It is being applied")[2]
    assert not (tmp_path / "mine").exists()


def test_a_file_that_has_gone(teach, monkeypatch, tmp_path):
    """A lesson whose file is deleted while it is shown says so, and the keys lead on."""
    monkeypatch.setenv("VISUAL", "rm")
    stage, shown = teach([(CALLS, "e"), ("r try again", "n"), (CALLS, "q")], one=WATCH, two="Two.")
    assert "Error:" in shown
    assert stage.shown == ["one", "two"]


def test_a_file_that_goes_before_the_calls(teach, tmp_path):
    """A lesson whose file is deleted before its calls are made says so, and the keys lead on."""

    def delete(stage):
        if stage.shown == ["one"]:
            (tmp_path / "istio" / "one.yaml").unlink(missing_ok=True)

    keys = [("What it shows.", "\n"), ("r try again", "n"), (CALLS, "q")]
    stage, shown = teach(keys, delete, one=LESSON, two="Two.")
    assert "Error:" in shown
    assert stage.shown == ["one", "two"]


def test_a_folder_that_cannot_be_written(teach, monkeypatch, tmp_path):
    """Where no copy can be made, that is said, and nothing is edited."""
    (tmp_path / "mine").write_text("")
    monkeypatch.setenv("VISUAL", "false")
    stage, shown = teach([(CALLS, "e"), (REFUSED, "q")], one="One.")
    assert "cannot be written: " in shown
    assert stage.shown == ["one"]


@pytest.mark.parametrize("editor", ["no-such-editor", "'"])
def test_an_editor_that_cannot_be_started(teach, monkeypatch, editor):
    """An editor that is not there is said, and the lesson waits for another key."""
    monkeypatch.setenv("VISUAL", editor)
    stage, shown = teach([(CALLS, "e"), ("Set EDITOR.", "q")], one="One.")
    assert "cannot be started" in shown
    assert stage.shown == ["one"]


def test_a_lesson_with_a_problem(teach):
    """What is wrong is said, and the keys lead on."""
    stage, shown = teach([(REFUSED, "n"), (CALLS, "q")], one="problem", two="Two.")
    assert "Error: the file has a problem" in shown
    assert stage.shown[-1] == "two"


def test_hints(teach):
    """Each `h` gives one hint more, the last of them what a call says."""
    teach.hints = ("Look.", "`meshdemo call 127.0.0.1:1 --lab 1`")
    keys = [(CALLS, "h"), ("1. Look.", "h"), ("$ meshdemo call", "x"), (CALLS, "q")]
    _, shown = teach(keys, one="One.")
    assert "no lab of yours " in shown


def test_hints_for_what_is_refused(teach):
    """With a file that is refused no call is made, since that would be one without it."""
    teach.hints = ("Look.", "`meshdemo call 127.0.0.1:1 --lab 1`")
    keys = [("h hint", "h"), ("1. Look.", "x"), ("h hint", "h"), ("1. Look.", "x"), ("h hint", "q")]
    _, shown = teach(keys, one="problem")
    assert "meshdemo call" not in shown
    assert "next hint" not in shown


def test_a_lesson_that_needs_istiod(teach):
    """A lesson that the engine cannot show offers the one that can."""
    stage, shown = teach([("it takes more than this.", "x"), ("", "i")], one="too much", two="Two.")
    assert "i go on with --istiod" in shown
    assert stage.shown == []
    assert teach.returned.name == "one"


def test_what_a_pipeline_prints(teach):
    """The output of another command is shown with its check mark."""
    comment = "  kubectl port-forward service/x 1:2\n  kubectl logs x | grep --count /x  # 0"
    _, shown = teach([(CALLS, "\n"), (END, "q")], one=comment)
    assert "$ kubectl logs x | grep --count /x" in shown
    assert "✓ grep --count /x: 0, expected 0" in shown


def test_what_the_stage_says_has_a_line(teach):
    """The last word of the stage stands above the keys, and is gone at the end."""
    _, shown = teach([(CALLS, "q")], one="One.")
    assert "one is in force" in shown
    assert shown.endswith("\x1b[?1049l")


def test_the_terminal_is_as_before(teach, monkeypatch):
    """After the last key the terminal has its echo, its lines and its former screen again."""
    import termios

    modes = []
    real = termios.tcsetattr

    def remember(number, when, mode):
        modes.append(mode[3] & (termios.ECHO | termios.ICANON))
        real(number, when, mode)

    monkeypatch.setattr(lesson_keys.termios, "tcsetattr", remember)
    _, shown = teach([(CALLS, "q")], one="One.")
    assert modes[-1] == termios.ECHO | termios.ICANON
    assert shown.endswith("\x1b[?25h\x1b[?7h\x1b[?1049l")


def test_a_terminal_that_goes(teach):
    """When the terminal hangs up, that is the end."""
    assert teach([(CALLS, None)], one="One.")[0].shown == ["one"]


def test_keys_of_the_page(teach):
    """What is pressed on the page leads on like a key of the terminal."""

    def press(stage):
        if stage.shown == ["one"] and not stage.keys:
            stage.keys.append("n")

    stage, _ = teach([("2. The lesson two", "q")], press, one=LESSON, two=LESSON)
    assert stage.shown == ["one", "two"]


def test_an_edit_of_the_page(teach):
    """A copy that the page has edited is the lesson from then on: it runs again with it, and is named at the end."""
    copy = teach.edits / "istio" / "one.yaml"

    def edit(stage):
        if stage.shown == ["one"] and not copy.exists():
            copy.parent.mkdir(parents=True)
            copy.write_text("".join(f"# {line}".rstrip() + "\n" for line in LESSON.splitlines()) + "weight: 3\n")
            stage.copies["istio/one.yaml"] = copy
            stage.keys.append("r")

    stage, shown = teach([("You changed", "q")], edit, one=LESSON)
    assert stage.shown == ["one", "one"]
    assert f"it is in {copy}" in shown
    assert "weight: 3" in shown.rpartition("your edit of one")[2]


def test_an_edit_of_the_page_is_seen_at_once(teach, tmp_path):
    """The terminal shows an edit of the page without a key, what the stage says, and that it can be taken back."""
    copy = teach.edits / "istio" / "one.yaml"
    policy = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nspec:\n  weight: "

    def edit(stage):
        own = tmp_path / "istio" / "one.yaml"
        if stage.shown == ["one"] and not copy.exists():
            own.write_text(f"{own.read_text()}{policy}75\n")
            copy.parent.mkdir(parents=True)
            copy.write_text(own.read_text().replace("75", "61"))
            stage.copies["istio/one.yaml"] = copy
            stage.say("61 is in force")

    _, shown = teach([("u undo", "q")], edit, one=WATCH)
    assert "61 is in force" in shown
    assert "weight: 61" in re.sub(r"\x1b\[[0-9;]*H", " ", shown).partition("u undo")[0]


def test_results_from_before_an_edit_of_the_page(teach):
    """Above what was seen before an edit of the page stands that it was before."""
    copy = teach.edits / "istio" / "one.yaml"

    def edit(stage):
        if len(stage.judgements) == 2 and not copy.exists():
            copy.parent.mkdir(parents=True)
            copy.write_text("# Edited.\n")
            stage.copies["istio/one.yaml"] = copy

    _, shown = teach([(CALLS, "\n"), ("since these calls: r makes them again", "q")], edit, one=WATCH)
    assert "u undo" in shown


def test_what_the_stage_says_is_not_cut_for_its_time(teach):
    """Where the stage's last word is too long for its line, its time is left out."""
    line = f"VirtualService/webserver changed ({'x' * 38} end)"

    def say(stage):
        if stage.shown and not stage.judgements:
            stage.judgements.append("said")
            stage.say(f"20:10:53 {line}")

    _, shown = teach([("x end)", "q")], say, one=WATCH)
    assert line in shown
    assert "20:10:53" not in shown
