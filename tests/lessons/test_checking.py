"""Policies as tests: which files, what is run, what is said of each expectation, and JUnit XML."""

from xml.etree import ElementTree

import click
import pytest
from click.testing import CliRunner
from lab_support import K8S
from stage_support import StageDouble
from support import http_response, replying

from meshdemo.cli import main
from meshdemo.errors import StartError
from meshdemo.lessons import checking
from meshdemo.lessons.running.notes import Notes

WATCH = "#   meshdemo watch http://127.0.0.1:3030/ -n 3 --rate 0"


@pytest.fixture
def check(tcp_server, tmp_path, monkeypatch, capsys):
    """Return a function that checks files, and returns outcomes, printed lines, and what the stage said."""
    monkeypatch.chdir(tmp_path)

    def run(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        stage = StageDouble(tcp_server(replying(http_response(b"hello"))).port)
        spoken = []
        notes = Notes(spoken.append)
        stage.say = notes.say
        outcomes = checking.check(stage, checking.find_files([checking.Path()]), notes)
        return outcomes, capsys.readouterr().out.splitlines(), spoken

    return run


def test_what_is_as_expected(check):
    """Each expectation has its line, and the last line counts them."""
    outcomes, lines, spoken = check(good=f"# About.\n#\n{WATCH} --expect hello=3 --expect p95=..60s\n")
    assert [each.is_met for each in outcomes] == [True]
    assert lines[:2] == ["good.yaml", "   ✓ hello: 3 calls, expected 3"]
    assert lines[-1].startswith("2 passed in ")
    assert lines[-1].endswith(" s (1 file)")
    assert spoken == []


def test_what_is_not_as_expected(check):
    """The place of the command is named, a number of lines below the first, and the others go on."""
    second = "#   meshdemo watch \\\n#     http://127.0.0.1:3030/ -n 1 --expect bye=1\n"
    outcomes, lines, spoken = check(
        bad=f"# About.\n#\n{WATCH} --expect hello=3\n{second}", good=f"{WATCH} --expect hello=3\n"
    )
    assert [each.is_met for each in outcomes] == [False, True]
    assert lines[:4] == [
        "bad.yaml",
        "   ✓ hello: 3 calls, expected 3",
        "   meshdemo watch http://127.0.0.1:3030/ -n 1 --expect bye=1",
        "   ✗ bad.yaml:4: bye: 0 calls, expected 1",
    ]
    assert lines[-1].startswith("2 passed, 1 failed in ")
    assert spoken == ["bad is in force"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#   rm now", "bad.yaml:1: it is not run: a test makes calls, by meshdemo call or meshdemo watch."),
        (f"{WATCH} | head", "bad.yaml:1: it is not run: a test makes calls, by meshdemo call or meshdemo watch."),
        ("# About.\n#   meshdemo up", "bad.yaml:2: it is not run: a test makes"),
        (WATCH, "bad.yaml:1: it expects nothing: add --expect."),
        (f"{WATCH} --expect nonsense", "'nonsense': is not SUBJECT=RANGE"),
        (f"{WATCH} --expect hello=3\nproblem", "bad.yaml:1: the file has a problem at bad.yaml:2."),
        (f"{WATCH} --expect hello=3\ntoo much", "bad.yaml:1: it takes more than this."),
        ("#   meshdemo watch 'http://", "a command of the comment cannot be read: No closing quotation."),
    ],
)
def test_what_cannot_be_checked(check, text, reason):
    """A file that is refused, or expects nothing, or would run something else has failed, with the reason."""
    outcomes, lines, _ = check(bad=f"{text}\n")
    assert [each.is_met for each in outcomes] == [False]
    assert any(reason in line and line.startswith("   ✗ ") for line in lines), lines


def test_nothing_runs_where_one_command_is_not_run(check):
    """What a file would run besides calls is found before anything is applied."""
    _, _, spoken = check(bad=f"{WATCH} --expect hello=3\n#   rm now\n")
    assert spoken == []


def test_files_that_are_no_tests(check):
    """They are named, and a folder with nothing else has not passed."""
    outcomes, lines, _ = check(plain="a: 1\n", words="# Only words.\n")
    assert outcomes == []
    assert lines[:2] == [
        "plain.yaml is no test: the comment that it begins with has no command.",
        "words.yaml is no test: the comment that it begins with has no command.",
    ]
    assert lines[-1].startswith("0 passed in ")


def test_files_of_folders(tmp_path):
    """A folder has those of the folders in it, in order; a file that is named is taken whatever its name."""
    for name in ("b.yml", "a.yaml", "c.txt", "more/d.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    found = checking.find_files([tmp_path / "c.txt", tmp_path, tmp_path / "a.yaml"])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["c.txt", "a.yaml", "b.yml", "more/d.yaml"]
    with pytest.raises(StartError, match=r"empty holds no file that ends in \.yaml or \.yml"):
        (tmp_path / "empty").mkdir()
        checking.find_files([tmp_path / "empty"])
    with pytest.raises(click.UsageError, match="absent is not there"):
        checking.find_files([tmp_path / "absent"])


def test_junit(check, tmp_path):
    """A suite for each file, a case for each expectation, with its place; failures apart from what was not run."""
    outcomes, _, _ = check(
        bad=f"{WATCH} --expect hello=3 --expect bye=1\n", wrong=f"{WATCH} --expect hello=3\nproblem\n"
    )
    checking.write_junit(outcomes, tmp_path / "out.xml")
    bad, wrong = ElementTree.parse(tmp_path / "out.xml").getroot()  # noqa: S314
    assert {name: bad.get(name) for name in ("name", "tests", "failures", "errors")} == {
        "name": "bad.yaml",
        "tests": "2",
        "failures": "1",
        "errors": "0",
    }
    kept, broken = bad
    assert (kept.get("name").endswith(" hello"), kept.get("file"), kept.get("line")) == (True, "bad.yaml", "1")
    assert [each.get("message") for each in broken] == ["bye: 0 calls, expected 1"]
    assert wrong.get("errors") == "1"
    assert wrong.find("testcase/error").get("message") == "the file has a problem at wrong.yaml:2."
    with pytest.raises(StartError, match="cannot be written: no such file or directory"):
        checking.write_junit(outcomes, tmp_path / "absent" / "out.xml")


RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: webserver
spec:
  hosts: [webserver]
  http: [{route: [{destination: {host: webserverv2}}]}]
"""
COMMAND = "#   meshdemo watch http://127.0.0.1:3030/ -n 5 --rate 0 --expect 'Webserver V2=5'"


def test_the_command_in_a_lab(tmp_path):
    """Manifests and policies make a lab; the exit status says whether all is as expected, and JUnit XML is written."""
    (tmp_path / "bad.yaml").write_text(COMMAND + RULE.replace("v2", "v1"))
    (tmp_path / "good.yaml").write_text(COMMAND + RULE)
    junit = tmp_path / "out.xml"
    result = CliRunner().invoke(main, ["check", str(tmp_path), "--junit", str(junit)])
    assert result.exit_code == 1, result.output
    assert f"✗ {tmp_path / 'bad.yaml'}:1: Webserver V2: 0 calls, expected 5" in result.output
    assert "1 passed, 1 failed in " in result.output
    assert junit.read_text().count("<failure") == 1


@pytest.mark.thorough
def test_other_manifests(tmp_path):
    """Policies are applied on top of what -f names, and with all as expected the exit status is 0."""
    (tmp_path / "good.yaml").write_text(COMMAND.replace("Webserver V2", "Another") + RULE)
    example = (K8S / "example.yaml").read_text()
    (tmp_path / "own").write_text(example.replace("Webserver V2", "Another"))
    result = CliRunner().invoke(main, ["check", str(tmp_path), "-f", str(tmp_path / "own")])
    assert result.exit_code == 0, result.output
