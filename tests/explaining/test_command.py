"""`meshdemo call`: which lab is asked for what, and what is printed."""

import json

import pytest
from click.testing import CliRunner

from meshdemo.cli import main
from meshdemo.explaining import command
from meshdemo.lab.door.door import Door, DoorError
from meshdemo.lab.xray.facts.calls import Call, Hop

CALL = Call(
    "1",
    "GET",
    "http://webserver/v2",
    "proxy-1",
    200,
    1.5,
    result=200,
    version="Webserver V2",
    hops=(Hop("application", None, "webserverv2-1", "default", 200, 1.0, version="Webserver V2"),),
)


@pytest.fixture
def labs(tmp_path, monkeypatch):
    """Run two doors that answer as labs do, and keep what they are asked."""
    doors, asked = [], []
    for port in (3030, 3040):
        folder = tmp_path / str(port)
        folder.mkdir()
        door = Door(folder)
        lab = {
            "port": port,
            "files": [f"{port}.yaml"],
            "pods": [],
            "addresses": [{"name": "a", "url": f"http://127.0.0.1:{port}/"}],
        }
        door.add("GET", "/", lambda _rest, _body, lab=lab: lab)
        door.add("POST", "/call", lambda _rest, body, port=port: answer(port, body))
        door.open()
        doors.append(door)

    def answer(port, body):
        asked.append((port, body))
        if body["from"] == "nobody":
            raise DoorError(404, "there is no pod or workload nobody, only proxy")
        return CALL.as_json()

    monkeypatch.setattr(command, "find_sockets", lambda: [door.path for door in doors])
    yield doors, asked
    for door in doors:
        door.close()


def call(*args, **options):
    return CliRunner().invoke(main, ["call", *args], **options)


def test_a_call(labs):
    """The lab that an address leads to is asked, and its explanation printed."""
    result = call("127.0.0.1:3040/v2", "-H", "End-User: tester")
    assert result.exit_code == 0
    assert result.output.startswith("GET http://webserver/v2 from proxy-1")
    assert "Webserver V2, 200 in 1.0 ms" in result.output
    headers = [["end-user", "tester"]]
    asked = {"from": None, "method": "GET", "url": "http://127.0.0.1:3040/v2", "headers": headers, "body": ""}
    assert labs[1] == [(3040, asked)]


def test_a_body(labs):
    """A body is sent as curl sends it, but for files: a call in somebody else's lesson reads none."""
    form = [["content-type", "application/x-www-form-urlencoded"]]
    for text in ("x", "", "@/etc/hosts"):
        assert call("http://a/", "--lab", "3030", "--from", "proxy", "-d", text).exit_code == 0
        _, asked = labs[1].pop()
        assert (asked["method"], asked["body"], asked["headers"]) == ("POST", text, form)
    call("http://a/", "--lab", "3030", "-X", "PUT", "-d", "{}", "-H", "content-type: application/json")
    assert labs[1][0][1]["method"] == "PUT"
    assert labs[1][0][1]["headers"] == [["content-type", "application/json"]]


def test_expectations(labs):
    """What is expected is shown with marks, and the status is 1 when something is not met."""
    args = ("http://a/", "--lab", "3030", "--from", "proxy")
    good = call(*args, "--expect", "status=200", "--expect", "pod=webserverv2-*")
    assert good.exit_code == 0
    assert good.output.endswith("\n✓ status=200\n✓ pod=webserverv2-*\n")
    bad = call(*args, "--expect", "subset=v1", "--expect", "status=403")
    assert bad.exit_code == 1
    assert bad.output.endswith("\n✗ subset=v1: none\n✗ status=403: 200\n")
    shown = json.loads(call(*args, "--json", "--expect", "status=403").output)
    assert shown["expectations"] == [{"expectation": "status=403", "met": False, "seen": ["200"]}]
    assert {name: value for name, value in shown.items() if name != "expectations"} == CALL.as_json()


def test_what_no_tcp_call_can_meet(labs):
    """An expectation that cannot hold at tcp:// is a mistake in the command, and no call is made."""
    result = call("tcp://mongo:27017", "--lab", "3030", "--expect", "status=200")
    assert result.exit_code == 2
    assert "--expect 'status=200': the status of tcp:// is answered or none." in " ".join(result.output.split())
    assert labs[1] == []


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("http://a/", "--lab", "1"), "no lab of yours has port 1: 3030 (3030.yaml), 3040 (3040.yaml)."),
        (("http://a/", "--from", "x"), "several labs run: choose one with --lab: 3030 (3030.yaml), 3040 (3040.yaml)."),
        (
            ("http://a/", "--from", "nobody", "--lab", "3030"),
            "there is no pod or workload nobody, only proxy.",
        ),
    ],
)
def test_what_cannot_be_called(labs, args, problem):
    """What is wrong is told in one line, with what there is."""
    result = call(*args)
    assert (result.exit_code, result.output) == (1, f"Error: {problem}\n")
    assert not [port for port, body in labs[1] if body["from"] != "nobody"]


def test_no_lab(monkeypatch, tmp_path):
    """Without a lab it is said how one is started; a socket that nobody serves is none."""
    monkeypatch.setattr(command, "find_sockets", lambda: [tmp_path / "lab"])
    result = call("http://127.0.0.1:3030/")
    assert (result.exit_code, result.output) == (1, "Error: no lab of yours runs: start one with meshdemo up -f.\n")


def test_a_bad_expectation():
    """An expectation that cannot be is a usage error."""
    result = call("http://a/", "--expect", "stats=1")
    assert result.exit_code == 2
    assert "'stats=1': 'stats' is none of status, " in result.output
