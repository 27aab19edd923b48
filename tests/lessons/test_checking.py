"""Policies as tests: which files, what is run, what is said of each expectation, and JUnit XML."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import click
import pytest
from click.testing import CliRunner
from lab_support import K8S
from stage_support import StageDouble
from support import http_response, replying

from meshdemo.cli import main
from meshdemo.errors import StartError
from meshdemo.lab.cluster.options import ReadOptions
from meshdemo.lab.cluster.stand_ins import Behaviour
from meshdemo.lessons import checking, outcomes
from meshdemo.lessons.running.notes import Notes
from meshdemo.lessons.stages import lab_stage

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
        found = checking.check(stage, checking.find_files([checking.Path()]), notes)
        return found, capsys.readouterr().out.splitlines(), spoken

    return run


def test_what_is_as_expected(check):
    """Each expectation has its line, and the last line counts them."""
    found, lines, spoken = check(good=f"# About.\n#\n{WATCH} --expect hello=3 --expect p95=..60s\n")
    assert [not each.has_failed for each in found] == [True]
    assert lines[:2] == ["good.yaml", "   ✓ hello: 3 calls, expected 3"]
    assert lines[-1].startswith("2 passed in ")
    assert lines[-1].endswith(" s (1 file)")
    assert spoken == []


def test_what_is_not_as_expected(check):
    """The place of the command is named, a number of lines below the first, and the others go on."""
    second = "#   meshdemo watch \\\n#     http://127.0.0.1:3030/ -n 1 --expect bye=1\n"
    found, lines, spoken = check(
        bad=f"# About.\n#\n{WATCH} --expect hello=3\n{second}", good=f"{WATCH} --expect hello=3\n"
    )
    assert [not each.has_failed for each in found] == [False, True]
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
    found, lines, _ = check(bad=f"{text}\n")
    assert [not each.has_failed for each in found] == [False]
    assert any(reason in line and line.startswith("   ✗ ") for line in lines), lines


def test_nothing_runs_where_one_command_is_not_run(check):
    """What a file would run besides calls is found before anything is applied."""
    _, _, spoken = check(bad=f"{WATCH} --expect hello=3\n#   rm now\n")
    assert spoken == []


def test_files_that_are_no_tests(check):
    """They are named, and a folder with nothing else has not passed."""
    found, lines, _ = check(plain="a: 1\n", words="# Only words.\n")
    assert found == []
    assert lines[:2] == [
        "plain.yaml is no test: the comment that it begins with has no command.",
        "words.yaml is no test: the comment that it begins with has no command.",
    ]
    assert lines[-1].startswith("0 passed in ")


def test_what_is_not_judged(check, tmp_path):
    """What nobody can tell is marked, and has neither passed nor failed; nothing else is no success."""
    nobody = "#   meshdemo watch http://nobody/ --expect hello=3"
    found, lines, _ = check(mixed=f"{WATCH} --expect hello=3\n{nobody}\n")
    assert lines[-4:-2] == [
        "   meshdemo watch http://nobody/ --expect hello=3",
        "   - mixed.yaml:2: not judged: nobody is there.",
    ]
    assert lines[-1].startswith("1 passed, 1 not judged in ")
    assert outcomes.is_passed(found)
    (tmp_path / "mixed.yaml").unlink()
    found, _, _ = check(alone=f"{nobody}\n")
    assert not outcomes.is_passed(found)


@pytest.mark.parametrize(
    "words", ["-f x.yaml", "-n shop", "--stand-in a:delay=2", "--skip-invalid", "--replicas 2", "--istiod", "--write"]
)
def test_what_is_for_the_lab(tmp_path, words):
    """A cluster has its own application and its own control plane."""
    (tmp_path / "a.yaml").write_text("")
    result = CliRunner().invoke(main, ["check", str(tmp_path), "--cluster", *words.split()])
    assert result.exit_code == 2
    assert f"--cluster cannot be combined with {words.split()[0]}, which is for the lab" in result.output


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


def test_calls_are_written_for_each_file(tmp_path, capsys):
    """A file that cannot be applied is named with the reason, and the others go on."""
    stage = StageDouble(0)
    stage.files = SimpleNamespace(manifests=(), cluster=SimpleNamespace(policies=()))
    texts = {"a": "problem", "b": "too much", "c": "# Fine."}
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    files = [tmp_path / f"{name}.yaml" for name in texts]
    assert not checking.write_commands(stage, files, Notes(lambda line: None))
    assert capsys.readouterr().out.splitlines() == [
        f"# {files[0]}",
        "# it is not applied: the file has a problem at a.yaml:1.",
        f"# {files[1]}",
        "# it is not applied: it takes more than this.",
        f"# {files[2]}",
        "# no VirtualService, HTTPRoute or AuthorizationPolicy is in it",
    ]
    assert checking.write_commands(stage, files[2:], Notes(lambda line: None))


# The attributes that Jenkins takes (xunit-plugin, junit-10.xsd).
ALLOWED = {
    "testsuite": {"name", "file", "time", "tests", "failures", "errors", "skipped"},
    "testcase": {"name", "classname"},
}


def test_junit(check, tmp_path):
    """A suite for each file, a case for each expectation, with its place; failures apart from what was not run."""
    found, _, _ = check(bad=f"{WATCH} --expect hello=3 --expect bye=1\n", wrong=f"{WATCH} --expect hello=3\nproblem\n")
    target = tmp_path / "new" / "out.xml"
    outcomes.write_junit(found, target)
    bad, wrong = ElementTree.parse(target).getroot()  # noqa: S314
    assert {name: bad.get(name) for name in ("name", "tests", "failures", "errors")} == {
        "name": "bad.yaml",
        "tests": "2",
        "failures": "1",
        "errors": "0",
    }
    kept, broken = bad
    assert kept.get("name") == "hello=3: meshdemo watch http://127.0.0.1:3030/ -n 3 --rate 0"
    assert [(each.get("message"), each.text) for each in broken] == [("bad.yaml:1: bye: 0 calls, expected 1",) * 2]
    for element in (bad, wrong, *bad, *wrong):
        assert set(element.keys()) <= ALLOWED[element.tag]
    assert wrong.get("errors") == "1"
    assert wrong.find("testcase/error").get("message") == ("wrong.yaml:1: the file has a problem at wrong.yaml:2.")
    with pytest.raises(StartError, match="cannot be written: "):
        outcomes.write_junit(found, target / "out.xml")


RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: webserver
spec:
  hosts: [webserver]
  http: [{route: [{destination: {host: webserverv2}}]}]
"""
SHOP = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews}
spec:
  replicas: 3
  selector: {matchLabels: {app: reviews}}
  template:
    metadata: {labels: {app: reviews}}
    spec: {containers: [{name: reviews, image: "reviews:1"}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec: {containers: [{name: client, image: "client:1"}]}
---
apiVersion: v1
kind: Service
metadata: {name: broken}
spec: {selector: {app: broken}, ports: [{port: 123456}]}
"""
CALL = "#   meshdemo call --from client http://reviews:9080/"
RULE_OF_REVIEWS = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews}}]}]
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


def test_options_of_manifests(tmp_path, monkeypatch):
    """How manifests are read can be said as for `up`."""
    readings = []

    def make_stage(_engine, options, _say, manifests):
        readings.append((options.reading, manifests))
        return StageDouble(0)

    monkeypatch.setattr(lab_stage, "LabStage", make_stage)
    (tmp_path / "policy.yaml").write_text("# No test.\n")
    words = "-f a.yaml,b.yaml -n shop --stand-in reviews:status=503 --skip-invalid --replicas 2"
    result = CliRunner().invoke(main, ["check", str(tmp_path / "policy.yaml"), *words.split()])
    assert result.exit_code == 1, result.output
    behaviour = Behaviour({"status": "503"})
    paths = [checking.Path("a.yaml"), checking.Path("b.yaml")]
    assert readings == [(ReadOptions("shop", 2, {"reviews": behaviour}, skip_invalid=True), paths)]


@pytest.mark.parametrize(
    ("manifests", "reason"),
    [
        ("{kind: Service, apiVersion: v1, metadata: {name: own}}", "own.yaml, line 1, column 1: Service/own: spec: "),
        ("kind: Service\nmetadata: {name: own", "own.yaml, line 2: not YAML: "),
        (SHOP.replace("name: http", "name: tcp"), "is not for http"),
    ],
    ids=["a field", "no YAML", "only for --istiod"],
)
def test_manifests_that_cannot_be(tmp_path, manifests, reason):
    """What is wrong whichever policy is tested is said once, and nothing is tested."""
    (tmp_path / "own.yaml").write_text(manifests.replace("123456", "80"))
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(COMMAND + RULE)
    files = [str(tmp_path / f"{name}.yaml") for name in "ab"]
    result = CliRunner().invoke(main, ["check", *files, "-f", str(tmp_path / "own.yaml")])
    assert result.exit_code == 1
    assert re.search(reason, result.output)
    assert result.output.count("Error: ") == 1
    assert "a.yaml" not in result.output


@pytest.mark.thorough
def test_stand_ins_and_invalid_objects(tmp_path):
    """Stand-ins behave as they are told, what is invalid is left out of the manifests, and never of the policy."""
    (tmp_path / "shop.yaml").write_text(SHOP)
    (tmp_path / "good.yaml").write_text(f"{CALL} --expect pod=reviews-1 --expect status=503\n{RULE_OF_REVIEWS}")
    (tmp_path / "bad.yaml").write_text(f"{CALL} --expect status=503\n{RULE_OF_REVIEWS.replace('http:', 'htp:')}")
    (tmp_path / "secure.yaml").write_text(
        f"{CALL} --expect status=403\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        "metadata: {name: nobody}\nspec: {}\n"
    )
    (tmp_path / "front.yaml").write_text(f"#   meshdemo watch --expect 200=100\n{RULE_OF_REVIEWS}")
    words = "--stand-in reviews:status=503 --skip-invalid --replicas 1"
    files = [str(tmp_path / f"{name}.yaml") for name in ("good", "bad", "secure", "front")]
    result = CliRunner().invoke(main, ["check", *files, "-f", str(tmp_path / "shop.yaml"), *words.split()])
    assert result.exit_code == 1, result.output
    assert "2 passed, 3 failed in " in result.output
    assert "front.yaml:1: 127.0.0.1:3030 is nothing of the lab, from outside there is nothing" in result.output
    assert "spec.htp: unknown field, did you mean http?" in result.output
    assert "secure.yaml: AuthorizationPolicy/nobody: only --istiod applies it" in result.output


@pytest.mark.thorough
def test_other_manifests(tmp_path):
    """Policies are applied on top of what -f names, and with all as expected the exit status is 0."""
    (tmp_path / "good.yaml").write_text(COMMAND.replace("Webserver V2", "Another") + RULE)
    example = (K8S / "example.yaml").read_text()
    (tmp_path / "own").write_text(example.replace("Webserver V2", "Another"))
    result = CliRunner().invoke(main, ["check", str(tmp_path), "-f", str(tmp_path / "own")])
    assert result.exit_code == 0, result.output
