"""Standard streams that never hold anybody up."""

import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import DEADLINE_SECONDS, ROOT, free_port, get, is_refused, wait_until

from meshdemo.console.streams import WAITING_LIMIT_BYTES, Writer

LOST = rb"meshdemo: (\d+) earlier lines are lost, since nobody took them\n"


@pytest.fixture
def pipe():
    """Return both ends of a pipe."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as reader, os.fdopen(writing, "wb", 0) as writer:
        yield reader, writer


def read_until(reader, ending):
    data = b""
    while not data.endswith(ending):
        data += reader.read(65536)
    return data


def test_lines_come_at_once_and_in_order(pipe):
    """A line that is written can be read, without anything else happening; lines of several threads stay whole."""
    reader, end = pipe
    writer = Writer(end.fileno())
    writer.write("héllo\n")
    assert read_until(reader, b"\n") == "héllo\n".encode()

    def write(name):
        for number in range(200):
            writer.write(f"{name} {number} end\n")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "abcd"))
        writer.write("last\n")
    lines = read_until(reader, b"last\n").decode().splitlines()
    for name in "abcd":
        own = [line for line in lines if line.startswith(name)]
        assert own == [f"{name} {number} end" for number in range(200)]


@pytest.mark.parametrize("blocking", [True, False], ids=["a pipe", "a pipe that does not block"])
def test_what_nobody_reads_is_counted(pipe, blocking):
    """Writing returns at once when nobody reads; what finds no room is counted, and said when there is room again."""
    reader, end = pipe
    os.set_blocking(end.fileno(), blocking)
    writer = Writer(end.fileno())
    lines = [f"{number} {'x' * 1000}\n" for number in range(3 * WAITING_LIMIT_BYTES // 1000)]
    for line in lines:
        writer.write(line)
    started = time.monotonic()
    writer.finish(started + 0.2)
    assert 0.1 < time.monotonic() - started < 5
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_until, reader, b"again\n")
        writer.finish(time.monotonic() + DEADLINE_SECONDS)
        writer.write("again\n")
        data = reading.result(DEADLINE_SECONDS)
    kept = re.findall(rb"^\d+", data, re.MULTILINE)
    assert kept == sorted(kept, key=int)
    assert len(kept) * 1000 > 0.9 * WAITING_LIMIT_BYTES
    assert len(kept) + sum(map(int, re.findall(LOST, data))) == len(lines)


def test_what_cannot_be_written_is_counted(tmp_path):
    """A file that takes nothing costs the lines; their number comes first when it takes something again."""
    full = os.open("/dev/full", os.O_WRONLY)
    writer = Writer(full)
    for number in range(3):
        writer.write(f"lost {number}\n")
        writer.finish(time.monotonic() + 20)
    good = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(good, full)
    writer.write("kept\n")
    writer.finish(time.monotonic() + 20)
    os.close(good)
    os.close(full)
    assert (tmp_path / "log").read_bytes() == b"kept\nmeshdemo: 3 earlier lines are lost, since nobody took them\n"


# Whole programs


STREAMS = {
    "standard error is closed": "2>&-",
    "standard output is closed": ">&-",
    "all three are closed": "<&- >&- 2>&-",
    "both are full": ">/dev/full 2>/dev/full",
}


@pytest.fixture
def start():
    """Return a function that starts a role on a free port with streams as a shell opens them, and gives both."""
    processes = []

    def run(role, redirections="", **streams):
        port = free_port()
        command = [sys.executable, "-m", "meshdemo", role, "--port", str(port), "--drain-seconds", "0", "--access-log"]
        if role == "proxy":
            command += ["--proxy-url", "http://127.0.0.1:9/"]
        line = f"exec {shlex.join(command)} {redirections}"
        processes.append(subprocess.Popen(["bash", "-c", line], cwd=ROOT, **streams))
        wait_until(lambda: processes[-1].poll() is not None or not is_refused(port), "the role to listen")
        return processes[-1], port

    yield run
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("redirections", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("role", ["webserver", "proxy", "up"])
def test_streams_that_take_nothing(start, role, redirections):
    """Each role answers as ever and ends with 0, whatever became of its streams."""
    process, port = start(role, redirections)
    assert [get(port, f"/{number}")[0] for number in range(20)] == [200] * 20
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0


@pytest.fixture
def full_pipe():
    """Return the writing end of a pipe that is full, and that nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, bytes(65536))
    os.set_blocking(writing, True)
    yield writing
    os.close(reading)
    os.close(writing)


# So many that their lines fill what a pipe and a buffer of Python would take, and for the second tier some more.
@pytest.mark.parametrize(
    ("role", "count"),
    [
        ("webserver", 400),
        *(pytest.param(role, 2000, marks=pytest.mark.thorough) for role in ("webserver", "up")),
        ("up", 100),
    ],
)
def test_streams_that_nobody_reads(start, role, count, full_pipe):
    """Pipes that are full before the role starts hold up neither its start, nor its requests, nor its end."""
    process, port = start(role, stdout=full_pipe, stderr=full_pipe)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    for _ in range(count):
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.status == 200
        response.read()
    connection.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0


def test_a_watch_whose_errors_nobody_reads(full_pipe):
    """Progress that nobody reads does not hold up a watch, which ends by itself with its result."""
    command = [
        sys.executable,
        "-m",
        "meshdemo",
        "watch",
        "http://127.0.0.1:9/",
        "-n",
        "30",
        "--expect",
        "unanswered=30",
    ]
    done = subprocess.run(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=full_pipe, cwd=ROOT, timeout=DEADLINE_SECONDS
    )
    assert (done.returncode, json.loads(done.stdout)["requests"]) == (0, 30)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["proxy", "--help"]])
def test_a_full_disk(words):
    """What cannot be printed ends in one line."""
    command = shlex.join([sys.executable, "-m", "meshdemo", *words])
    done = subprocess.run(["bash", "-c", f"exec {command} >/dev/full"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "Error: what is to be written: no space left on device.\n")


def test_the_last_lines_are_there(program):
    """After SIGTERM the log has a line for each request that was answered, in order."""
    web = program("webserver", "--port", "0", "--drain-seconds", "0")
    for number in range(50):
        get(web.port, f"/{number}")
    web.signal(signal.SIGTERM)
    code, log = web.wait_for_end()
    assert code == 0
    assert re.findall(r"GET (\S+) 200", log) == [f"/{number}" for number in range(50)]
