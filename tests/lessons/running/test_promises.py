"""What lessons promise: run, compared, reported."""

import os
import subprocess

import pytest
from stage_support import StageDouble, write_lessons
from support import http_response, replying

from meshdemo.lessons.files.comment import Command
from meshdemo.lessons.running import promises
from meshdemo.lessons.running.notes import Notes

WATCH = "  meshdemo watch http://127.0.0.1:3030/ -n 3 --rate 0"


@pytest.fixture
def stage(tcp_server):
    return StageDouble(tcp_server(replying(http_response(b"hello"))).port)


@pytest.fixture
def check(stage, tmp_path, capsys):
    """Return a function that checks lessons, and returns whether all is well, what was printed, and on which stream."""

    def run(**comments):
        spoken = []
        notes = Notes(spoken.append)
        stage.say = notes.say
        held = promises.check(stage, write_lessons(tmp_path, **comments), notes)
        return held, capsys.readouterr().out.splitlines(), spoken

    return run


def test_a_promise_that_is_kept(check):
    """Each expectation is a line with a mark, what was seen, and its range; what the stage said is not of interest."""
    held, lines, spoken = check(one=f"{WATCH} --expect hello=3 --expect 'p95=..60s'")
    assert held
    assert lines[:2] == ["1. The lesson one (istio/one.yaml)", "   ✓ hello: 3 calls, expected 3"]
    assert lines[2].startswith("   ✓ p95: ")
    assert lines[2].endswith(" ms, expected ..60s")
    assert spoken == []


def test_a_promise_that_is_broken(check):
    """The line with what was seen has a cross, and what the stage said meanwhile is shown."""
    held, lines, spoken = check(one=f"{WATCH} --expect hello=3 --expect bye=1..2")
    assert not held
    assert lines[1:] == ["   ✓ hello: 3 calls, expected 3", "   ✗ bye: 0 calls, expected 1..2"]
    assert spoken == ["one is in force"]


CALL = Command((("meshdemo", "call", "http://127.0.0.1:3030/", "--expect", "status=200"),))


def test_a_call_is_explained(stage, monkeypatch):
    """Of a call the expectations are judged, and the explanation is shown."""
    hop = {"kind": "sidecar", "direction": "outbound", "pod": "proxy-1", "status": 200, "notes": ["any pod"]}
    hop |= dict.fromkeys(("rule", "reason", "destination", "decided_by", "identity"))
    report = {"hops": [{**hop, "passed_over": [], "tries": [], "mirrors": []}]}
    report["expectations"] = [{"expectation": "status=200", "met": True, "seen": ["200"]}]
    monkeypatch.setattr(promises, "explain", lambda *arguments: report)
    result = promises.run(stage, CALL)
    assert result.verdicts == [promises.Verdict("status", "200", "200", "", True)]
    assert result.output == "  proxy-1: any pod"


def test_a_call_where_nobody_can_explain_it(stage, monkeypatch):
    """On a cluster a call is left out."""
    monkeypatch.setattr(stage, "translate", lambda _command: None)
    assert promises.run(stage, CALL) == promises.Result(CALL)


def test_several_lessons_end_with_a_summary(check):
    """After several lessons their outcomes are counted, and those that are not as promised are listed."""
    held, lines, _ = check(
        good=f"{WATCH} --expect hello=3",
        bad=f"{WATCH} --expect hello=4",
        absent="too much",
        wrong="problem",
    )
    assert not held
    assert lines[-4:] == [
        "",
        "as promised: 1, not: 2, cannot be shown here: 1",
        "  not as promised: 2. The lesson bad (istio/bad.yaml)",
        "  not as promised: 4. The lesson wrong (istio/wrong.yaml)",
    ]
    assert "   - it takes more than this." in lines
    assert "   ✗ the file has a problem at wrong.yaml:1." in lines


@pytest.mark.parametrize(
    ("comment", "line"),
    [
        ("nothing to type", "   ✗ its comment has no command with --expect"),
        (WATCH, "   ✗ its comment has no command with --expect"),
        ("  rm now", "   ✗ it runs rm now: run it at a terminal, where it asks first."),
        ("  meshdemo watch 'http://", "cannot be read: No closing quotation."),
        (f"{WATCH} --expect nonsense", "'nonsense': is not SUBJECT=RANGE"),
        ("  meshdemo watch http://127.0.0.1:9/ --expect hello=3", "connection refused"),
    ],
    ids=["no command", "no promise", "unusual", "unbalanced quotes", "no expectation", "nobody answers"],
)
def test_a_lesson_that_cannot_be_checked(check, comment, line):
    """A lesson without a promise, or with a command that cannot be run, is not as promised, and says why in a line."""
    held, lines, _ = check(one=comment)
    assert not held
    assert len(lines) == 2
    assert line in lines[1]


def test_nothing_but_lessons_that_cannot_be_shown_is_no_success(check):
    """Where nothing could be shown, nothing was proven."""
    assert not check(one="too much")[0]


@pytest.mark.parametrize(("log", "seen", "met"), [("/x\n/y\n/x\n", "2", True), ("/x\n", "1", False)])
def test_what_a_pipeline_prints(check, stage, monkeypatch, log, seen, met):
    """What a pipeline prints is compared with what stands behind it; here the stage itself knows the log."""
    monkeypatch.setattr(promises, "_OUTPUT_SECONDS", 0.2)
    stage.log = log
    held, lines, _ = check(one="  kubectl port-forward service/x 1:2\n  kubectl logs x | grep --count /x  # 2")
    assert held is met
    assert lines[1:] == [f"   {'✓' if met else '✗'} grep --count /x: {seen}, expected 2"]


def test_what_is_logged_later_counts(check, stage):
    """A line that comes a moment after the answer is waited for."""
    stage.steps.append(lambda: setattr(stage, "log", "/x\n"))
    assert check(one="  kubectl logs x | grep --count /x  # 1")[0]


def test_the_stage_is_looked_after_while_a_command_runs(check, stage):
    """A command that takes its time does not keep the stage from being looked after."""
    steps = []
    stage.steps.append(lambda: steps.append(1))
    check(one="  meshdemo watch http://127.0.0.1:3030/ -n 3 --rate 3 --expect hello=3")
    assert len(steps) > 3


def test_a_command_is_ended_with_everything(check, stage):
    """When a signal interrupts, the command that runs is ended, too."""
    started = []

    def interrupt():
        started.extend(started or watches_under_way())
        if started:
            raise KeyboardInterrupt

    stage.steps.append(interrupt)
    with pytest.raises(KeyboardInterrupt):
        check(one="  meshdemo watch http://127.0.0.1:3030/ -n 0 --expect hello=3")
    assert started
    assert not watches_under_way()


def watches_under_way():
    """Return the processes that this one has started and that have not ended."""
    listing = subprocess.run(["ps", "-eww", "-o", "ppid=,stat=,args="], capture_output=True, text=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    return [row[2] for row in rows if row[0] == str(os.getpid()) and "Z" not in row[1] and "meshdemo watch" in row[2]]
