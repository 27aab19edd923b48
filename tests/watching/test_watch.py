"""`meshdemo watch`: a whole run, and the command."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import click
import pytest
from samples import web
from support import COMMANDS, DEADLINE_SECONDS, ROOT, free_port, http_response, read_request, replying, wait_until

from meshdemo.watching import command as watch
from meshdemo.watching.expectations import parse_expectation
from meshdemo.watching.report import to_json

UTF8 = {"PYTHONUTF8": "1"}
FIELDS = {
    "url", "requests", "answered", "failed", "late", "seconds", "rate", "versions", "others", "statuses", "errors",
    "unanswered", "tries", "identities", "paths", "not_passed_on", "times", "histogram", "path", "planned", "under_way",
    "stopped_seconds", "change", "why",
    "interrupted", "problem", "expectations",
}  # fmt: skip


def failing_every(number, failure=lambda connection: None):
    """Return a behaviour that answers, but closes each connection whose number is a multiple without an answer."""
    seen = []

    def behave(connection):
        while read_request(connection):
            seen.append(1)
            if len(seen) % number == 0:
                return failure(connection)
            connection.sendall(http_response(b"ok"))

    return behave


def result_of(url, *expect, **options):
    settings = watch.WatchOptions(url, rate=options.pop("rate", 0), **options)
    return watch.run(settings, [parse_expectation(text) for text in expect])


# A run


@pytest.mark.parametrize(
    ("options", "planned"),
    [({}, 100), ({"requests": 7}, 7), ({"requests": 0}, 0), ({"duration_seconds": 5}, 0),
     ({"duration_seconds": 5, "requests": 7}, 7)],
)  # fmt: skip
def test_how_many(options, planned):
    """There are 100 requests where nothing is said, and no limit where only a duration is."""
    assert watch.WatchOptions("http://a/", **options).planned == planned


def test_a_header_that_is_given_twice(tcp_server):
    """Both values are sent, as one list (RFC 9110, 5.3)."""
    seen = []
    url = tcp_server(replying(http_response(b"ok"), seen)).url
    result_of(url, requests=1, headers=(("end-user", "1"), ("End-User", "2"), ("x", "3")))
    assert b"\r\nend-user: 1, 2\r\nx: 3\r\n" in seen[0]


def test_result(tcp_server):
    """The result has every field, is JSON, and the expectations are judged."""
    body = json.dumps(web("V1", "pod-1", path="/x", X_Envoy_Attempt_Count="2")).encode()
    url = tcp_server(replying(http_response(body, "Content-Type: application/json"))).url + "/x?y=1"
    result = result_of(url, "V1=20", "failed=1..", requests=20)
    assert to_json(result).keys() == FIELDS
    assert (result.path, result.planned, result.tries) == ("/x", 20, {2: 20})
    assert [verdict.met for verdict in result.verdicts] == [True, False]
    assert watch.exit_status(result) == 1


def test_fields_in_the_readme():
    """The reference describes each field of the object, and no other."""
    section = (ROOT / "docs" / "reference.md").read_text().split("### JSON")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == FIELDS


@pytest.mark.parametrize(
    ("expect", "status"),
    [
        ([], 1),
        (["answered=1.."], 0),
        (["unanswered=..50%"], 0),
        (["unanswered=0"], 1),
        (["answered=1..", "nobody=1"], 1),
    ],
)
def test_exit_status(tcp_server, expect, status):
    """Without an expectation an unanswered call is a failure; with some, they alone decide."""
    result = result_of(tcp_server(failing_every(4)).url, *expect, requests=20, concurrency=1)
    assert result.unanswered
    assert result.problem is None
    assert watch.exit_status(result) == status


def test_first_call_unanswered_ends_it():
    """Where nothing answers, no other call is made, and expectations do not change that."""
    url = f"http://127.0.0.1:{free_port()}/"
    result = result_of(url, "nobody=0", requests=1000)
    assert result.requests == 1
    assert result.problem == f"connection refused calling {url}. Is meshdemo up running?"
    assert watch.exit_status(result) == 1


def test_first_call_may_be_unanswered_where_that_is_expected():
    """An expectation that allows unanswered calls lets the watch go on."""
    result = result_of(f"http://127.0.0.1:{free_port()}/", "unanswered=100%", requests=20)
    assert result.problem is None
    assert result.unanswered.popitem()[1] == 20
    assert watch.exit_status(result) == 0


def test_https_on_a_port_for_http_ends_at_once(tcp_server):
    """A server that waits for a request while the client waits for its handshake is found out."""
    url = tcp_server(replying(http_response(b"ok"))).url
    started = time.monotonic()
    result = result_of(url.replace("http", "https"), requests=1000)
    assert result.problem == f"This port speaks HTTP, not HTTPS: use {url}"
    assert time.monotonic() - started < 10  # the time limit of a call is 30 s


def test_a_slow_first_call_goes_on_where_unanswered_calls_are_expected(tcp_server):
    """A handshake that hangs is not looked into, and the call ends at its own time limit."""
    url = tcp_server(replying(http_response(b"ok"))).url.replace("http", "https")
    result = result_of(url, "unanswered=100%", requests=1, timeout_seconds=1.3)
    assert (result.problem, result.requests, watch.exit_status(result)) == (None, 1, 0)
    (reason,) = result.unanswered
    assert reason.startswith("timed out after 1.3 seconds")


# The command


def run(*args, **options):
    return subprocess.run([sys.executable, "-m", "meshdemo", "watch", *args], capture_output=True, text=True,
                          encoding="utf-8", cwd=ROOT, timeout=60, **options)  # fmt: skip


def test_in_a_pipe(program):
    """Piped, the result is a plain table of 79 columns; 300 calls see both versions and all pods."""
    up = program("up", "--port", "0", "--fail-ratio", "0.5")
    done = run(up.url + "/failsometimes", "--requests", "300", "--rate", "150")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert 1 <= len(done.stderr.splitlines()) <= 4
    assert re.match(r"\d+ of 300 requests  Webserver V1 \d+  Webserver V2 \d+  500 \d+\n", done.stderr)
    assert max(map(len, done.stdout.splitlines())) <= 79
    blocks = done.stdout.split("\n\n")
    assert [re.split(r"  |\n", block)[0] for block in blocks[:3]] == ["version and pod", "status", "time in ms"]
    rows = {line.split("  ")[0].strip() or line.split()[0]: line.split() for line in blocks[0].splitlines()[1:]}
    assert {f"webserverv{v}-{n}" for v in (1, 2) for n in (1, 2, 3)} < set(rows)
    assert re.match(r"300 requests in \d\.\d s, 1\d\d\.\d a second\n", blocks[-1])
    statuses = dict(line.split()[:2] for line in blocks[1].splitlines()[1:])
    assert 105 <= int(statuses["500"]) <= 195  # 150, give or take 5.2 standard deviations


def test_json(program):
    """With --json the result is one object, also for a web server without a proxy."""
    server = program("webserver", "--port", "0", "--content", "V7")
    done = run(server.url, "-n", "20", "--rate", "0", "--json", "--expect", "V7=100%", "--expect", "median=..1ms")
    document = json.loads(done.stdout)
    assert document["answered"] == document["requests"] == 20
    assert [version["content"] for version in document["versions"]] == ["V7"]
    assert document["times"]["proxy"] is None
    assert document["expectations"][0] == {
        "subject": "V7", "range": "100%", "seen": 1.0, "unit": "share", "met": True, "did_you_mean": None,
    }  # fmt: skip


def test_json_is_always_json(tcp_server):
    """Whatever a server says, the object is JSON, holds no control character, and names what was said."""
    texts = ['{"value": "x", "status": 200, "error": null, "milliseconds": %s}' % ("1" * 401),
             '{"content": "\\u001b[2J\\ud800\\u007f", "hostname": "\\u202e", "status": NaN}',
             '{"content": "\\u001b[2J\\ud800\\u007f", "hostname": "\\u202e", "status": 200}']  # fmt: skip
    answers = []

    def behave(connection):
        while read_request(connection):
            answers.append(1)
            body = texts[len(answers) % 3].encode()
            connection.sendall(http_response(body, "Content-Type: application/json"))

    done = run(tcp_server(behave).url, "-n", "30", "--rate", "0", "--json")
    assert done.returncode == 0, done.stderr

    def refuse(constant):
        raise AssertionError(constant)

    document = json.loads(done.stdout, parse_constant=refuse)
    assert document["versions"][0]["content"] == "\x1b[2J\N{REPLACEMENT CHARACTER}\x7f"
    assert sum(other["count"] for other in document["others"]) == 20
    assert all(character == "\n" or " " <= character < "\x7f" for character in done.stdout)


def test_control_characters_of_a_server(tcp_server):
    """Neither tables nor errors let a server move the cursor or forge a line."""
    evil = "\x1b[2J\nforged 99\u202e"
    done = run(tcp_server(replying(http_response(evil.encode()))).url, "-n", "3", "--rate", "0")
    assert r"200 \x1b[2J forged 99\u202e" in done.stdout
    redirect = http_response(b"", "Location: ftp://\x1b[2J", status="302 Found")
    done = run(tcp_server(replying(redirect)).url, "-n", "3", "--rate", "0")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: redirect to")
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_nobody_answers():
    """What is wrong and what to do is said in one line on standard error, and the exit status is 1."""
    url = f"http://127.0.0.1:{free_port()}"
    done = run(url)
    assert done.returncode == 1
    assert done.stderr == f"Error: connection refused calling {url}/. Is meshdemo up running?\n"
    assert done.stdout == ""
    done = run(url, "--json")
    assert json.loads(done.stdout)["problem"] == f"connection refused calling {url}/. Is meshdemo up running?"
    assert done.returncode == 1


def test_failures_of_the_upstream_are_answers(program):
    """A proxy whose upstream is away answers; the exit status is 0 and the reason is in the table."""
    front = program("proxy", "--port", "0", "--proxy-url", f"http://127.0.0.1:{free_port()}")
    done = run(front.url, "--requests", "3", "--rate", "0")
    assert done.returncode == 0
    assert "the proxy got no answer" in done.stdout
    assert "connection refused calling" in done.stdout


def test_expectations_of_the_command(tcp_server):
    """Each is shown, met or not, and one that is not met makes the exit status 1."""
    url = tcp_server(replying(http_response(b"ok"))).url
    done = run(url, "-n", "10", "--rate", "0", "--expect", "200=10", "--expect", "ok=5..", env=UTF8)
    assert done.returncode == 0
    assert "✓ 200  10  expected 10\n✓ ok   10  expected 5..\n" in done.stdout
    done = run(url, "-n", "10", "--rate", "0", "--expect", "ok=5..", "--expect", "errors=1",
               env={"PYTHONIOENCODING": "ascii"})  # fmt: skip
    assert done.returncode == 1
    assert "v ok      10  expected 5..\nx errors   0  expected 1\n" in done.stdout


def test_did_you_mean(tcp_server):
    """An expectation whose name was not seen says which one nearly was."""
    body = json.dumps(web("Webserver V1", "pod-1")).encode()
    url = tcp_server(replying(http_response(body, "Content-Type: application/json"))).url
    done = run(url.removeprefix("http://"), "-n", "3", "--rate", "0", "--expect", "Webserver v1=3", env=UTF8)
    assert done.returncode == 1
    assert "✗ Webserver v1  0  expected 3, did you mean Webserver V1?\n" in done.stdout


def test_a_header_that_is_not_passed_on(program):
    """What --header sends and the proxy drops is named once, with what to do."""
    up = program("up", "--port", "0")
    done = run(up.url, "-n", "5", "--rate", "0", "--header", "x-tenant:7", "--header", "end-user:tester")
    assert done.stdout.count("x-tenant") == 1
    assert "\nnot passed on by the proxy: x-tenant (see its --forward-header)\n" in done.stdout


@pytest.mark.parametrize(
    ("options", "env", "coloured"),
    [
        ((), {}, False),
        (("--color", "always"), {}, True),
        (("--color=always",), {"NO_COLOR": "1"}, True),
        (("--color", "never"), {}, False),
    ],
)
def test_color_in_a_pipe(tcp_server, options, env, coloured):
    """In a pipe there is colour only where it is asked for."""
    url = tcp_server(replying(http_response(b"ok"))).url
    done = run(url, "-n", "2", "--rate", "0", "--expect", "ok=2", *options, env={**UTF8, **env})
    assert ("\x1b[32m" in done.stdout) is coloured


def test_without_a_url():
    """The proxy of `meshdemo up` is called."""
    context = COMMANDS["watch"].make_context("watch", [])
    assert context.params["url"] == "http://127.0.0.1:3030/"


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_reader_that_has_seen_enough(tcp_server, options):
    """In `watch | head` the end of the reader ends it in silence."""
    source, sink = os.pipe()
    command = [sys.executable, "-m", "meshdemo", "watch", tcp_server(replying(http_response(b"ok"))).url, "-n", "5"]
    watching = subprocess.Popen([*command, *options], stdout=sink, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(sink)
    os.close(source)
    _, errors = watching.communicate(timeout=20)
    assert watching.returncode == 1
    assert not re.search("Traceback|Error|written|Broken", errors)


def test_wrong_expectation():
    """An expectation that is none is a usage error in one line, which names the part, before any call is made."""
    done = run("http://127.0.0.1:9/", "--expect", "Webserver V1=5..7%")
    assert done.returncode == 2
    assert done.stderr == (
        "Error: Invalid value for '--expect': 'Webserver V1=5..7%': the ends of '5..7%' have different units: "
        "give both the same one.\n"
    )


def test_late_requests_are_told(tcp_server):
    """Where concurrency runs out, the table says how many requests began late."""

    def behave(connection):
        while read_request(connection):
            time.sleep(0.2)
            connection.sendall(http_response(b"slow"))

    done = run(tcp_server(behave).url, "--requests", "6", "--rate", "100", "-c", "1")
    assert re.search(r"4 of them started late, with all places taken", done.stdout)


def test_duration_of_the_command(tcp_server):
    """With --duration calls are made for so many seconds."""
    done = run(tcp_server(replying(http_response(b"ok"))).url, "--duration", "0.5", "--rate", "20", "--json")
    document = json.loads(done.stdout)
    assert 2 <= document["requests"] <= 10
    assert document["planned"] is None


@pytest.mark.parametrize(
    ("number", "handler"),
    [(signal.SIGINT, signal.SIG_DFL), (signal.SIGINT, signal.SIG_IGN), (signal.SIGTERM, signal.SIG_DFL)],
    ids=["Ctrl+C", "Ctrl+C to a job in the background", "SIGTERM"],
)
def test_stopped_in_a_pipe(tcp_server, number, handler):
    """Ctrl+C ends an endless watch with the result so far, and says what was under way and not counted."""
    seen = []

    def behave(connection):
        while read_request(connection):
            seen.append(1)
            if len(seen) % 10 == 5:
                time.sleep(20)
            connection.sendall(http_response(b"hello"))

    watching = subprocess.Popen(
        [sys.executable, "-m", "meshdemo", "watch", tcp_server(behave).url, "-n", "0", "--rate", "100"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )  # fmt: skip
    wait_until(lambda: len(seen) >= 28, "the watch")
    watching.send_signal(number)
    stdout, stderr = watching.communicate(timeout=20)
    assert watching.returncode == 0
    assert "Traceback" not in stderr
    assert re.search(r"^\d+ requests in .*\nStopped early: [3-9] calls were under way and not counted\.$", stdout, re.M)


@pytest.mark.thorough  # real seconds; test_pace.py has the same with a stop that is only told of
def test_a_stop_of_the_process_is_left_out(tcp_server):
    """While it is stopped no call is due: the pace goes on where it was, and no time counts the stop."""
    seen = []

    def behave(connection):
        while read_request(connection):
            seen.append(time.monotonic())
            if len(seen) % 10 == 5:
                time.sleep(0.3)  # one call at least is under way
            connection.sendall(http_response(b"hello"))

    watching = subprocess.Popen(
        [sys.executable, "-m", "meshdemo", "watch", tcp_server(behave).url, "-n", "40", "--rate", "20", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    wait_until(lambda: len(seen) >= 15, "the watch")
    watching.send_signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    time.sleep(1.5)  # the behaviour is about real time
    goes_on_at = time.monotonic()
    watching.send_signal(signal.SIGCONT)
    stdout, _ = watching.communicate(timeout=20)
    document = json.loads(stdout)
    assert document["requests"] == document["answered"] == 40
    assert 1.4 <= document["stopped_seconds"] < 2.0
    assert document["times"]["caller"]["maximum"] < 1400
    assert document["seconds"] < 3.5
    assert len([at for at in seen if goes_on_at <= at < goes_on_at + 0.5]) <= 14  # 10 by the pace, not 40
    assert not [at for at in seen if stopped_at + 0.1 < at < goes_on_at]


def test_a_change_of_the_mesh_begins_a_new_count(program, tcp_server, tmp_path):
    """A watch without an end counts anew when the lab has changed something, and says so; others count on."""
    changes = tmp_path / "changes.json"
    changes.write_text("[]")
    answers = [http_response(f"from {name}".encode(), "Content-Type: text/plain") for name in ("before", "after")]
    seen, begun = [], set()

    def behave(connection):
        while request := read_request(connection):
            begun.add(b"bounded" in request)
            seen.append(changes.read_text() != "[]")
            connection.sendall(answers[seen[-1]])

    front = program("proxy", "--port", "0", "--proxy-url", tcp_server(behave).url, "--changes-file", str(changes))
    command = [sys.executable, "-m", "meshdemo", "watch", "--rate", "50"]
    endless, bounded = (
        subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
        for options in ((front.url, "-n", "0"), (f"{front.url}/bounded", "-n", "1000", "--json"))
    )
    wait_until(lambda: len(begun) == 2 and len(seen) >= 30, "both")
    changed = tmp_path / "changes.new"
    changed.write_text('[{"time": "2026-01-02T03:04:05.678Z", "text": "VirtualService/webserver changed"}]')
    changed.replace(changes)
    wait_until(lambda: sum(seen) >= 20, "the answers after the change")
    for watching in (endless, bounded):
        watching.send_signal(signal.SIGINT)
    table, document = endless.communicate(timeout=20)[0], json.loads(bounded.communicate(timeout=20)[0])
    assert re.search(r"^A new count since \d\d:04:05: VirtualService/webserver changed\.$", table, re.MULTILINE)
    assert "200 from after" in table
    assert "before" not in table
    assert document["change"] is None
    assert [other["text"] for other in document["others"]] != ["from after"]


def test_ctrl_c_does_not_wait_for_answers(tcp_server):
    """Ctrl+C ends a watch although nothing has been answered, and would not be for a minute."""
    server = tcp_server(lambda connection: connection.recv(1) and server.closing.wait(60))
    watching = subprocess.Popen(
        [sys.executable, "-m", "meshdemo", "watch", server.url, "-n", "0", "--rate", "100", "--timeout", "60"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    wait_until(lambda: server.connections, "the first call")
    watching.send_signal(signal.SIGINT)
    stdout, _ = watching.communicate(timeout=DEADLINE_SECONDS)
    assert watching.returncode == 0
    assert stdout.startswith("0 requests in ")
    assert stdout.endswith("Stopped early: 1 call was under way and not counted.\n")


def test_full_disk(tcp_server, monkeypatch):
    """A result that cannot be written is an error in one line."""

    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    options = watch.WatchOptions(tcp_server(replying(http_response(b"hello"))).url, requests=2, rate=0)
    with pytest.raises(click.ClickException, match=r"^The result cannot be written: no space left on device\.$"):
        watch.command(options, [], as_json=True)


def test_closed_streams(tcp_server):
    """Neither a closed standard error nor one that nobody reads changes the result."""
    url = tcp_server(replying(http_response(b"hello"))).url
    command = f"exec '{sys.executable}' -m meshdemo watch {url} -n 25"
    done = subprocess.run(["sh", "-c", f"{command} 2>&-"], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "200 hello" in done.stdout
