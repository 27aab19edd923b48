"""The observer: its pace, its tally, and the command in a pipe and on a terminal."""

import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest
from support import ROOT, free_port, http_response, read_request, replying

from meshdemo import report
from meshdemo.upstream import Answer, Upstream, UpstreamError
from meshdemo.watch import Sample, Tally, Watch


def web(content="V1", hostname="pod-1", status=200):
    return {"content": content, "path": "/", "hostname": hostname, "status": status, "headers": {}}


def sample(document, status=200, seconds=0.01, late=False):
    """Return a Sample of a JSON answer, or of a text."""
    if isinstance(document, str):
        return Sample(seconds, late, Answer(status, document, "text/plain"))
    return Sample(seconds, late, Answer(status, json.dumps(document), "application/json"))


def proxied(value, status=200, error=None, milliseconds=2.5):
    return {"value": value, "status": status, "error": error, "milliseconds": milliseconds}


def tally_of(*samples):
    tally = Tally()
    for each in samples:
        tally.add(each)
    return tally


def test_tally_of_a_proxy():
    """Behind a proxy the web server's facts count, with the status that the upstream had."""
    tally = tally_of(
        sample(proxied(web())),
        sample(proxied(web(status=500), status=500)),
        sample(proxied(web("V2", "pod-9"))),
        sample(proxied("fault filter abort", status=503)),
        sample(proxied(None, status=None, error="connection refused calling http://webserver/")),
    )
    assert tally.pods["V1"]["pod-1"].answers == 2
    assert tally.pods["V1"]["pod-1"].failed == 1
    assert tally.pods["V2"]["pod-9"].failed == 0
    assert tally.texts == {(503, "fault filter abort"): 1}
    assert tally.statuses == {200: 2, 500: 1, 503: 1}
    assert tally.errors == {"connection refused calling http://webserver/": 1}
    assert not tally.unanswered
    assert list(tally.proxy_milliseconds) == [2.5] * 5
    assert len(tally.caller_milliseconds) == 5


def test_tally_of_a_web_server():
    """Without a proxy the web server is counted the same, and a gateway's own answer has no pod."""
    tally = tally_of(sample(web(status=500), status=500), sample("no healthy upstream", status=503))
    assert tally.pods["V1"]["pod-1"].failed == 1
    assert tally.texts == {(503, "no healthy upstream"): 1}
    assert not tally.proxy_milliseconds


def test_tally_of_text():
    """Any other text is grouped without its numbers of milliseconds, on one line of limited length."""
    texts = ["Took 12 milliseconds", "Took 7 milliseconds", "in 1.5 ms or 3ms", "two\nlines", "x" * 500, "room 12"]
    labels = [label for _, label in tally_of(*map(sample, texts)).texts]
    assert labels == ["Took N milliseconds", "in N ms or Nms", "two lines", "x" * 100 + "...", "room 12"]


@pytest.mark.parametrize(
    "document",
    [
        {"value": 1, "status": "x", "error": None, "milliseconds": 1},
        {"value": 1, "status": None, "error": None, "milliseconds": 1},
        {"value": 1, "status": 200, "error": None, "milliseconds": "soon"},
        {"content": "x"},
        [1],
        None,
    ],
)
def test_json_of_somebody_else_is_text(document):
    """An object that only looks like a proxy's is counted by its text."""
    assert tally_of(sample(document)).texts == {(200, json.dumps(document)): 1}


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 5), (50.1, 6), (95, 10), (90, 9), (99, 10), (100, 10)])
def test_percentile_is_the_nearest_rank(percent, expected):
    """A percentile is one of the values: the smallest that so many do not exceed."""
    assert report.percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == expected
    assert report.percentile([4.5], percent) == 4.5


def test_object():
    """Every count and percentile is in the object."""
    tally = tally_of(
        *[sample(proxied(web(hostname=f"pod-{number % 2}")), seconds=number / 1000) for number in range(1, 4)],
        Sample(1, True, UpstreamError("connection refused", "http://a/")),
    )
    assert report.as_object(tally, "http://a/", 2.0) == {
        "url": "http://a/",
        "requests": 4,
        "answered": 3,
        "late": 1,
        "seconds": 2.0,
        "rate": 2.0,
        "versions": [
            {
                "content": "V1",
                "count": 3,
                "share": 0.75,
                "failed": 0,
                "pods": [
                    {"hostname": "pod-0", "count": 1, "share": 0.25, "failed": 0},
                    {"hostname": "pod-1", "count": 2, "share": 0.5, "failed": 0},
                ],
            }
        ],
        "others": [],
        "statuses": {"200": 3},
        "errors": {},
        "unanswered": {"connection refused calling http://a/": 1},
        "times": {
            "caller": {"median": 2.0, "p95": 3.0, "p99": 3.0, "maximum": 3.0},
            "proxy": {"median": 2.5, "p95": 2.5, "p99": 2.5, "maximum": 2.5},
        },
    }


def test_object_and_text_of_nothing():
    """Ctrl+C before the first answer is no mistake."""
    empty = report.as_object(Tally(), "http://a/", 0.0)
    assert empty["times"] == {"caller": None, "proxy": None}
    assert report.as_text(empty, 4) == "0 requests in 0.0 s, 0.0 a second"


def test_text_shows_who_fails():
    """The pod that fails stands out, by a number and by the letter x in its bar."""
    tally = tally_of(*[sample(proxied(web(hostname=name, status=code), status=code))
                       for name, code in [("good", 200)] * 6 + [("sick", 500)] * 2])  # fmt: skip
    text = report.as_text(report.as_object(tally, "http://a/", 1.0), 4)
    lines = re.sub(r"\x1b\[\d+m", "", text).splitlines()
    assert re.fullmatch(r"V1 +8 +100\.0 % +2 +█{30}x{10}", lines[1])
    assert re.fullmatch(r"  good +6 +75\.0 % +- +█{30}", lines[2])
    assert re.fullmatch(r"  sick +2 +25\.0 % +2 +x{10}", lines[3])


def slow_server(seconds):
    def behave(connection):
        while read_request(connection):
            time.sleep(seconds)
            connection.sendall(http_response(b"slow"))

    return behave


def test_pace_is_an_open_loop(tcp_server):
    """Answers that take 0.4 s do not delay the next request: 20 of them, 50 a second, take hardly longer than one."""
    watch = Watch(Upstream(tcp_server(slow_server(0.4)).url), headers={}, requests=20, rate=50, concurrency=20)
    started = time.monotonic()
    samples = list(watch)
    assert 0.75 <= time.monotonic() - started < 3
    assert len(samples) == 20
    assert all(0.39 < each.seconds < 2 for each in samples)


def test_times_count_from_when_a_request_was_due(tcp_server):
    """With one place, a request that has to wait for it counts its wait, and is late."""
    watch = Watch(Upstream(tcp_server(slow_server(0.2)).url), headers={}, requests=4, rate=100, concurrency=1)
    samples = sorted(watch, key=lambda each: each.seconds)
    assert [each.late for each in samples] == [False, True, True, True]
    assert samples[-1].seconds > 0.7


def test_connections_and_headers(tcp_server):
    """Each request has its connection unless they are kept; headers go out, and JSON is asked for."""
    requests = []
    server = tcp_server(replying(http_response(b"ok"), requests))
    for keep_alive, connections in ((False, 5), (True, 6)):
        upstream = Upstream(server.url + "/path", keep_alive=keep_alive)
        list(Watch(upstream, headers={"end-user": "tester"}, requests=5, rate=0, concurrency=1))
        assert server.connections == connections
    assert all(each.startswith(b"GET /path HTTP/1.1\r\n") for each in requests)
    assert all(b"end-user: tester\r\n" in each and b"accept: application/json\r\n" in each for each in requests)


def test_it_goes_on_until_nobody_asks_for_more(tcp_server):
    """Zero requests means no end; when the iteration stops, so do the requests."""
    server = tcp_server(replying(http_response(b"ok")))
    watch = Watch(Upstream(server.url), headers={}, requests=0, rate=0, concurrency=2)
    assert len(list(itertools.islice(watch, 300))) == 300
    time.sleep(0.2)
    stopped = server.connections
    time.sleep(0.3)
    assert server.connections == stopped


# The command


def run(*args, **options):
    return subprocess.run([sys.executable, "-m", "meshdemo", "watch", *args], capture_output=True, text=True,
                          encoding="utf-8", cwd=ROOT, timeout=60, **options)  # fmt: skip


def test_in_a_pipe(program):
    """Piped, the result is a plain table and nothing else is written; 300 calls see both versions and all pods."""
    up = program("up", "--port", "0", "--fail-ratio", "0.5")
    done = run(up.url + "/failsometimes", "--requests", "300", "--rate", "150")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    blocks = done.stdout.split("\n\n")
    assert [block.split("  ")[0].split("\n")[0] for block in blocks] == [
        "version and pod", "status", "time in milliseconds", blocks[-1].split("\n")[0],
    ]  # fmt: skip
    rows = {line.split("  ")[0].strip() or line.split()[0]: line.split() for line in blocks[0].splitlines()[1:]}
    assert {f"webserverv{v}-{n}" for v in (1, 2) for n in (1, 2, 3)} < set(rows)
    assert re.match(r"300 requests in \d\.\d s, 1\d\d\.\d a second", blocks[-1])
    statuses = dict(line.split()[:2] for line in blocks[1].splitlines()[1:])
    assert 105 <= int(statuses["500"]) <= 195  # 150, give or take 5.2 standard deviations


def test_json(program):
    """With --json the result is one object, also for a web server without a proxy."""
    server = program("webserver", "--port", "0", "--content", "V7")
    done = run(server.url, "--requests", "20", "--rate", "0", "--json")
    document = json.loads(done.stdout)
    assert document["answered"] == document["requests"] == 20
    assert [version["content"] for version in document["versions"]] == ["V7"]
    assert document["times"]["proxy"] is None


def test_exit_status_when_nobody_answers():
    """A request without an answer is named, and the exit status is 1."""
    url = f"http://127.0.0.1:{free_port()}"
    done = run(url, "--requests", "3", "--rate", "0")
    assert done.returncode == 1
    assert f"connection refused calling {url}/" in done.stdout
    assert "Traceback" not in done.stderr


def test_failures_of_the_upstream_are_answers(program):
    """A proxy whose upstream is away answers; the exit status is 0 and the reason is in the table."""
    front = program("proxy", "--port", "0", "--proxy-url", f"http://127.0.0.1:{free_port()}")
    done = run(front.url, "--requests", "3", "--rate", "0")
    assert done.returncode == 0
    assert "the proxy got no answer" in done.stdout
    assert "connection refused calling" in done.stdout


def test_late_requests_are_told(tcp_server):
    """Where concurrency runs out, the table says how many requests began late."""
    done = run(tcp_server(slow_server(0.2)).url, "--requests", "6", "--rate", "100", "--concurrency", "1")
    assert re.search(r"5 of them began late, since all 1 places were taken", done.stdout)


def test_ctrl_c_in_a_pipe(tcp_server):
    """Ctrl+C ends an endless watch with the result so far, without a traceback."""
    server = tcp_server(replying(http_response(b"hello")))
    watching = subprocess.Popen(
        [sys.executable, "-m", "meshdemo", "watch", server.url, "--requests", "0", "--rate", "100", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    while server.connections < 20:
        time.sleep(0.02)
    watching.send_signal(signal.SIGINT)
    stdout, stderr = watching.communicate(timeout=20)
    assert watching.returncode == 0
    assert "Traceback" not in stderr
    assert json.loads(stdout)["requests"] >= 15


def test_on_a_terminal(program):
    """On a terminal a progress bar shows the counts so far, and the table follows it, with colour."""
    up = program("up", "--port", "0", "--fail-ratio", "1")
    master, slave = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-m", "meshdemo", "watch", up.url + "/failsometimes", "--requests", "40", "--rate", "40"],
        stdout=slave, stderr=slave, cwd=ROOT, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(slave)
    output = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # the other end has closed
            break
        if not data:
            break
        output += data
    os.close(master)
    assert watching.wait(20) == 0
    shown = output.decode()
    assert re.search(r"\[#+-*\]", shown)
    assert re.search(r"Webserver V1 \d+  Webserver V2 \d+  500 \d+", shown)
    assert "version and pod" in shown
    assert "\x1b[31m" in shown
