"""The exercises: each is broken as it says, and mended by a small edit, which stands only here."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from support import ROOT, in_tiers

from meshdemo.lessons.files.comment import parse_commands
from meshdemo.lessons.files.permission import is_usual
from meshdemo.lessons.files.reading import read_exercises
from meshdemo.lessons.stages.lab_stage import needs_istiod

FOLDER = ROOT / "k8s"
EXERCISES = {exercise.name: exercise for exercise in read_exercises(FOLDER)}
# What to replace by what.
SOLUTIONS = {
    "subset": ("version: V2", "version: v2"),
    "host": ("    - proxy\n", "    - webserver\n"),
    "order": (
        re.compile(r"(    - route:\n(?:      .*\n)+)(    - match:\n(?:      .*\n)+)"),
        r"\2\1",
    ),
    "retry": ("retryOn: gateway-error", "retryOn: 5xx"),
    "header": ("http://webserver]", "http://webserver, --forward-header, team]"),
    "strict": ("mode: STRICT", "mode: PERMISSIVE"),
    "deny": ("    - to:\n", "      to:\n"),
    "timeout": ("timeout: 300ms\n      retries", "timeout: 3s\n      retries"),
}
# The expectation that says how it is broken, with what is seen then.
BROKEN = {
    "subset": r"✗ Webserver V2: 0 calls, expected 100",
    "host": r"✗ Webserver V1: [2-7]\d calls, expected 100",
    "order": r"✗ Webserver V2: 0 calls, expected 50\n   ✓ Webserver V1: 50 calls",
    "retry": r"✗ 500: \d\d+ calls, expected \.\.11",
    "header": r"✗ Webserver V2: 0 calls, expected 50\n   ✓ Webserver V1: 50 calls",
    "strict": r"✗ 200: 0 calls, expected 20\n   ✓ identity spiffe://cluster.local/ns/default/sa/proxy: 20 calls",
    "deny": r"✗ 200: 0 calls, expected 20\n   ✓ RBAC: 20 calls, expected 20\n   ✗ 200: 0 calls, expected 20",
    "timeout": r"✗ 504: \d\d calls, expected \.\.14\n   ✓ over 1\.9s: 0 calls",
}
# What the last hint, a call, says of that.
SAYS = {
    "subset": "no pod of webserver has the labels of subset v2, version=V2",
    "host": "VirtualService/webserver is for calls to proxy, not to webserver",
    "order": "takes every call",
    "retry": "retries: up to 3 on gateway-error",
    "header": "header team is missing, not blue",
    "strict": "webserver takes mutual TLS alone: PeerAuthentication/webserver is STRICT",
    "deny": "denied by rule 0 of AuthorizationPolicy/webserver",
    "timeout": "timeout: 0.3 s for all tries together",
}
# What the quick engine refuses instead of showing it.
REFUSED = "nothing behind webserver has the labels 'version=V2'"
ONLY_ISTIOD = {"strict", "deny"}


def mended(name):
    """Return the text of an exercise with its solution."""
    old, new = SOLUTIONS[name]
    text = EXERCISES[name].text()
    if isinstance(old, str):
        assert text.count(old) == 1
        return text.replace(old, new)
    return old.sub(new, text)


def with_hint(name):
    """Return the text of an exercise with the call of its last hint as one more command, and what that says."""
    call = EXERCISES[name].hints[-1].strip("`")
    comment, objects = EXERCISES[name].text().split("apiVersion", 1)
    return f"{comment}#   {call} | grep --count {shlex.quote(SAYS[name])}  # 1\napiVersion{objects}"


def says(name, output):
    """Tell whether an exercise is broken as it says, and its last hint says so."""
    return re.search(BROKEN[name], output) and f"✓ grep --count {shlex.quote(SAYS[name])}: 1, expected 1" in output


@pytest.mark.parametrize("name", EXERCISES)
def test_what_an_exercise_says(name):
    """It says in at most two lines what the mesh should do, and has checks, hints and an explained call."""
    exercise = EXERCISES[name]
    words = exercise.words()
    assert len(words.about) <= 2 * 79
    assert words.sections == {}
    assert all(map(is_usual, exercise.commands()))
    assert any(command.is_watch for command in exercise.commands())
    assert len(exercise.hints) >= 3
    (call,) = parse_commands([f"  {exercise.hints[-1].strip('`')}"])
    assert call.pipeline[0][:2] == ("meshdemo", "call")
    assert mended(name) != exercise.text()
    assert bool(needs_istiod(exercise)) is (name in ONLY_ISTIOD)


def test_all_files_are_listed():
    """The guide of the exercises lists each file, and the kustomization none."""
    files = {path.stem for path in (FOLDER / "exercises").glob("*.yaml")}
    assert files == set(EXERCISES) == set(SOLUTIONS) == set(BROKEN)
    assert len(files) == 8
    assert "exercises" not in (FOLDER / "kustomization.yaml").read_text()


@pytest.fixture
def check(tmp_path):
    """Return a function that runs exercises in a hurry, as they came or mended, and returns status and output.

    They are copies such as `e` makes.
    """

    def run(names, *options, is_mended):
        copies = tmp_path / "meshdemo-lessons" / "exercises"
        copies.mkdir(parents=True, exist_ok=True)
        for name in EXERCISES:
            text = mended(name) if is_mended else with_hint(name)
            hurried = re.sub(r"^(#   meshdemo watch .*)$", r"\1 --rate 100", text, flags=re.MULTILINE)
            (copies / f"{name}.yaml").write_text(hurried)
        command = ["lesson", "--exercises", *names, "--check", "--port", "0", *options]
        done = subprocess.run(
            [sys.executable, "-m", "meshdemo", *command],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "120"},
            timeout=300,
        )
        assert "Traceback" not in done.stderr, shlex.join(command)
        assert "(meshdemo-lessons/exercises/" in done.stdout
        return done.returncode, done.stdout

    return run


@pytest.mark.parametrize("name", in_tiers([name for name in EXERCISES if name not in ONLY_ISTIOD], 4))
def test_with_the_quick_engine(check, name):
    """It is broken as it says, or refused with its place; and its solution is green."""
    status, output = check([name], is_mended=False)
    assert status == 1
    assert REFUSED in output if name == "subset" else says(name, output), output
    status, output = check([name], is_mended=True)
    assert status == 0, output


@pytest.mark.istiod
@pytest.mark.thorough
def test_with_istio_itself(check, built_istiod):
    """Each is broken on Istio as it says, and its solution is green there."""
    status, output = check(["--all"], "--istiod", is_mended=False)
    assert status == 1
    for exercise, outcome in zip(EXERCISES, re.split(r"^\d\. ", output, flags=re.MULTILINE)[1:], strict=True):
        assert says(exercise, outcome), output
    status, output = check(["--all"], "--istiod", is_mended=True)
    assert status == 0, output
