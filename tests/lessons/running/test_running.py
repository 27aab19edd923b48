"""Programs that a lesson runs."""

import subprocess
import time

import pytest
from stage_support import StageDouble

from meshdemo.errors import StartError
from meshdemo.lessons.running import running


@pytest.fixture
def stage():
    return StageDouble(3030)


def output_of(stage, *pipeline, look=running.pause):
    return running.output_of(stage, [tuple(words.split()) for words in pipeline], look)


def test_programs_run_side_by_side(stage):
    """A program that goes on for ever ends when the one behind it has read enough."""
    started = time.monotonic()
    assert output_of(stage, "yes", "head -3") == "y\ny\ny\n"
    assert time.monotonic() - started < 20


def test_what_the_stage_knows(stage):
    """A log that the stage knows is read by the next program, or is all there is."""
    stage.log = "one\ntwo\n" * 100_000
    assert output_of(stage, "kubectl logs x", "head -1") == "one\n"
    assert output_of(stage, "kubectl logs x", "grep --count two") == "100000\n"
    assert output_of(stage, "kubectl logs x") == stage.log


def test_what_the_stage_has_seen_to(stage):
    """A command that the stage has seen to prints nothing."""
    assert output_of(stage, "kubectl port-forward service/x 1:2") is None


def test_output_without_end(stage):
    """A program that prints without end is ended, and named."""
    with pytest.raises(StartError, match=r"^yes prints more than 1 MiB\.$"):
        output_of(stage, "yes")


def test_a_program_that_is_not_installed(stage):
    """A program that is not there is named, and those before it are ended."""
    with pytest.raises(StartError, match="no-such-program is not installed"):
        output_of(stage, "yes", "no-such-program now")


def test_somebody_ends_it(stage):
    """Who does not want to wait for the end gets what has been printed until then."""
    steps = []
    stage.steps.append(lambda: steps.append(1))
    looks = iter([False, False, True])
    assert output_of(stage, "sleep 60", look=lambda seconds: next(looks)) == ""
    assert len(steps) >= 3


def test_wait_for_ends_what_runs(stage):
    """A program is ended when somebody says so."""
    process = running.start(["sleep", "60"])
    running.wait_for(stage, process, lambda seconds: True)
    assert process.returncode == -15


def test_finish(stage):
    """What a program writes to both streams is returned apart."""
    assert running.finish(stage, ["sh", "-c", "echo out; echo err >&2"]) == ("out\n", "err\n")


def test_standard_input_of_a_program_is_empty(stage):
    """A program that reads its standard input does not take the keys of the person."""
    process = running.start(["cat"], stdout=subprocess.PIPE)
    assert process.communicate(timeout=20)[0] == b""
