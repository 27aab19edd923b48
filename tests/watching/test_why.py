"""`watch --why`: one call of each kind, explained by the lab that it went through."""

import json
import re
import socket
from contextlib import suppress
from dataclasses import replace

import pytest
from click.testing import CliRunner
from samples import ENVOY, proxied, sample, web
from support import http_response, replying

from meshdemo.cli import main
from meshdemo.console.terminal import Marks
from meshdemo.errors import StartError
from meshdemo.lab.door.door import Door, DoorError
from meshdemo.reasons import format_answer
from meshdemo.watching import command as watch
from meshdemo.watching import why
from meshdemo.watching.report import to_json
from meshdemo.watching.tally import Kind, Tally

HOP = {
    "kind": "sidecar", "direction": "outbound", "pod": "proxy-1", "status": 200, "flags": [], "reason": None,
    "rule": None, "matched": None, "passed_over": [], "destination": None, "tries": [], "mirrors": [],
    "identity": None, "decided_by": None, "notes": ["any pod, by Istio's default"],
}  # fmt: skip


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Return the door of a lab, with the paths that were asked for; what it says of itself comes from the test."""
    door = Door(tmp_path)
    door.asked = []

    def explain(request_id, _body):
        door.asked.append(request_id)
        return {"request": {"id": request_id}, "answer": {}, "hops": [HOP]}

    door.add("GET", "/calls/", explain)
    door.open()
    monkeypatch.setattr(why, "find_sockets", lambda: [tmp_path / "gone", door.path])
    yield door
    with suppress(OSError):  # a test has closed it
        door.close()


def listens_at(door, url):
    door.add("GET", "/", lambda _rest, _body: {"addresses": [{"name": "service/proxy", "url": url}]})


def test_one_call_of_each_kind(lab, tcp_server, capsys):
    """Each kind is explained by its last call, behind the table; each call has an id of its own."""
    seen = []
    body = json.dumps(proxied(web("Webserver V1"))).encode()
    url = tcp_server(replying(http_response(body, "Content-Type: application/json"), seen)).url
    listens_at(lab, url)
    options = watch.WatchOptions(url, requests=3, rate=0, concurrency=1, explains=True)
    watch.print_report(watch.run(options))
    ids = [re.search(rb"x-request-id: (\S+)\r\n", request)[1].decode() for request in seen]
    assert len(set(ids)) == 3
    assert lab.asked == [ids[-1]]
    assert capsys.readouterr().out.endswith(
        "\nWhy 200 Webserver V1 (3 calls, the last of them):\n  proxy-1: any pod, by Istio's default\n"
    )


def test_json(lab, tcp_server):
    """The object has each kind with its call, and an empty list without --why; where no lab is, calls have no ids."""
    seen = []
    body = json.dumps(proxied("", 404, headers=ENVOY)).encode()
    url = tcp_server(replying(http_response(body, "Content-Type: application/json"), seen)).url
    listens_at(lab, url)
    (found,) = to_json(watch.run(watch.WatchOptions(url, requests=1, explains=True)))["why"]
    assert found == {
        "outcome": "404 probably no route (NR): no rule of the mesh fits the call", "count": 1, "problem": None,
        "call": {"request": {"id": lab.asked[0]}, "answer": {}, "hops": [HOP]},
    }  # fmt: skip
    seen.clear()
    lab.close()
    assert to_json(watch.run(watch.WatchOptions(url, requests=1)))["why"] == []
    assert b"x-request-id" not in seen[0]


def test_kinds(lab):
    """The most frequent kind comes first; of one that the lab does not know, its own words are shown."""

    def refuse(request_id, _body):
        raise DoorError(404, f"no Envoy has logged {request_id}")

    lab.add("GET", "/calls/", refuse)
    found = why.explain(Tally(kinds={"a": Kind(1, "1"), "b\x1b": Kind(2, "2")}), lab.path)
    assert why.format_explained(found, 80, Marks()) == [
        "", "Why b\\x1b (2 calls, the last of them):", "  no Envoy has logged 2",
        "", "Why a (1 call, the last of them):", "  no Envoy has logged 1",
    ]  # fmt: skip


def test_a_call_through_a_gateway():
    """A gateway gives a call an id of its own, by which it is known behind it: the web server has seen that one."""
    tally = Tally()
    tally.add(replace(sample(proxied(web("V1", X_Request_Id="theirs"))), request_id="mine"))
    assert tally.kinds == {"200 V1": Kind(1, "theirs")}


NO_ROUTE = "404 probably no route (NR): no rule of the mesh fits the call"


@pytest.mark.parametrize(
    ("flag", "outcome", "failed"),
    [
        ("NR", NO_ROUTE.replace("probably ", ""), 2),
        ("RBAC", "404", 2),
        ("", "404", 2),
        (None, "404", 0),
        ("unknown", NO_ROUTE, 2),
    ],
)
def test_flags(lab, flag, outcome, failed):
    """What a text leaves open the lab's Envoys have logged; an application's own 404 is no failure."""
    lab.add("POST", "/flags", lambda _rest, body: dict.fromkeys(body, flag) if flag != "unknown" else {})
    tally = Tally()
    for number in range(2):
        tally.add(replace(sample(proxied("", 404, headers=ENVOY)), request_id=str(number)))
    assert tally.failed == 2
    why.settle(tally, lab.path)
    assert {format_answer(*text): (count.answers, count.failed) for text, count in tally.texts.items()} == {
        outcome: (2, failed)
    }
    assert {words: kind.calls for words, kind in tally.kinds.items()} == {outcome: 2}
    assert tally.failed == failed


def test_flags_that_come_a_little_later(lab):
    """What is logged only after the lab has waited for it is asked for once more."""
    asked = []
    lab.add("POST", "/flags", lambda _rest, body: asked.append(body) or dict.fromkeys(body[:1], "NR"))
    tally = Tally()
    for number in range(2):
        tally.add(replace(sample(proxied("", 404, headers=ENVOY)), request_id=str(number)))
    why.settle(tally, lab.path)
    assert asked == [["0", "1"], ["1"]]
    assert tally.guesses == {}


def test_flags_of_a_lab_that_has_ended(lab):
    """A lab that does not answer leaves the guesses as they are."""
    tally = Tally()
    tally.add(replace(sample(proxied("", 404, headers=ENVOY)), request_id="1"))
    lab.close()
    why.settle(tally, lab.path)
    assert list(tally.kinds) == [NO_ROUTE]


@pytest.mark.parametrize("url", ["http://example.com/", "http://127.0.0.1:{port}/"])
def test_no_lab(lab, url):
    """Where no lab is called, one sentence says what --why needs, and no call is made."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = url.format(port=held.getsockname()[1])
        listens_at(lab, "http://127.0.0.1:1/")
        with pytest.raises(StartError) as caught:
            watch.run(watch.WatchOptions(url, explains=True))
    assert str(caught.value) == (f"--why needs a lab of yours that is called at {url}: start one with meshdemo up -f.")


def test_an_id_of_ones_own():
    """An x-request-id that all calls would share cannot be combined with it."""
    result = CliRunner().invoke(main, ["watch", "127.0.0.1:1", "--why", "--header", "X-Request-Id:1"])
    assert result.exit_code == 2
    assert "cannot be combined" in result.output
