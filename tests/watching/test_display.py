"""What is shown while a watch runs, in a terminal that an emulator draws."""

import io
import re
import signal

import pytest
from emulator import Terminal
from samples import report_of, sample
from support import http_response, in_tiers, read_request, replying

from meshdemo.console import terminal as terminal_module
from meshdemo.watching.display import ProgressLine, Screen

FINAL = re.compile(r"^\d+ requests in ", re.MULTILINE)


class Clock:
    """Time that passes only when told to."""

    now = 100.0

    def __call__(self):
        return self.now


class Window(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self):
        return True

    def fileno(self):
        raise OSError


@pytest.fixture
def terminal():
    """Return a function that starts a command in a terminal."""
    terminals = []

    def start(*args, **options):
        terminals.append(Terminal(*args, **options))
        return terminals[-1]

    yield start
    for each in terminals:
        each.close()


@pytest.fixture
def pods(tcp_server):
    """Return a function that starts a server which answers as so many pods, two versions of them, in turn."""

    def start(count):
        answers = []

        def behave(connection):
            while read_request(connection):
                number = len(answers)
                answers.append(number)
                pod = f"webserverv{number % 2 + 1}-7d4b9c6f5-{number % count:05}"
                body = f'{{"content": "Webserver V{number % 2 + 1}", "hostname": "{pod}", "status": 200}}'
                connection.sendall(http_response(body.encode(), "Content-Type: application/json"))

        return tcp_server(behave).url

    return start


def test_screen_is_drawn_five_times_a_second():
    """However often something changes, the table is drawn every 0.2 s at most."""
    clock, window = Clock(), Window()
    with Screen(window, clock) as screen:
        for _ in range(1000):
            screen.show(lambda: report_of(sample("x")))
            clock.now += 0.002
    assert window.getvalue().count("\x1b[1;1H") == 9


def test_drawing_takes_a_small_part_of_the_time():
    """Where there is so much to count that drawing takes long, it is done less often."""
    clock, window = Clock(), Window()

    def count():
        clock.now += 1.0
        return report_of(sample("x"))

    with Screen(window, clock) as screen:
        for _ in range(1000):
            screen.show(count)
            clock.now += 0.1
    assert 9 <= window.getvalue().count("\x1b[1;1H") <= 11


def test_window_that_changes_is_drawn_soon(monkeypatch):
    """However long drawing takes, a window of another size gets a table that fits it after 0.2 s."""
    clock, window, size = Clock(), Window(), [80, 24]
    monkeypatch.setattr(terminal_module, "size_of", lambda _: tuple(size))

    def count():
        clock.now += 1.0
        return report_of(sample("x"))

    with Screen(window, clock) as screen:
        clock.now += 0.2
        screen.show(count)
        size[0] = 60
        clock.now += 0.2
        screen.show(count)
        clock.now += 0.2
        screen.show(count)
    assert window.getvalue().count("\x1b[1;1H") == 2


def test_progress_is_written_once_a_second():
    """Where there is no terminal, a line a second is written, cut to the width, and nothing moves a cursor."""
    clock, stream = Clock(), io.StringIO()
    with ProgressLine(stream, clock) as line:
        for _ in range(100):
            line.show(
                lambda: report_of(*[sample(f"t{number}", status=400 + number) for number in range(50)], planned=99)
            )
            clock.now += 0.05
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert all(len(each) <= 79 and each.isprintable() and each.startswith("50 of 99 requests  400 1") for each in lines)


def test_progress_on_a_terminal_is_one_line():
    """On a terminal each line replaces the last one, and at the end it is gone."""
    clock, window = Clock(), Window()
    with ProgressLine(window, clock) as line:
        for _ in range(60):
            line.show(lambda: report_of(sample("x")))
            clock.now += 0.05
    assert "\n" not in window.getvalue()
    assert window.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize("failure", [BrokenPipeError, OSError, ValueError])
def test_nobody_reads(failure):
    """A closed or broken stream does not end the watch."""

    class Broken(Window):
        def write(self, text):
            raise failure

    clock = Clock()
    for display in (Screen(Broken(), clock), ProgressLine(Broken(), clock), ProgressLine(None, clock)):
        with display:
            clock.now += 10
            display.show(lambda: report_of(sample("x")))


@pytest.mark.parametrize(("count", "columns"), in_tiers([(40, 40), (40, 60), (40, 80), (3, 80), (3, 60), (3, 40)], 3))
def test_live_table(terminal, pods, columns, count):
    """The table is redrawn in place and ends as the final one: no line reaches the edge, and nothing scrolls away."""
    shown = terminal("watch", pods(count), "-n", "120", "--rate", "80", "--expect", "Webserver V1=60", columns=columns)
    shown.read()
    assert shown.process.wait(20) == 0
    assert shown.screen.scrolled == 0
    live = [frame for frame in shown.frames if any("Ctrl+C" in line for line in frame)]
    assert 1 <= len(live) <= 40
    for frame in live:
        assert frame[0].startswith("version and pod")
        assert max(map(len, frame)) < columns
    assert shown.lines[0].startswith("version and pod")
    assert max(map(len, shown.lines)) < columns
    assert FINAL.search(shown.text)
    assert "✓ Webserver V1  60  expected 60" in shown.lines
    if count == 40:
        assert re.search(r"and \d+ more |0 pods\)", shown.text)


def test_window_that_changes(terminal, pods):
    """While the window becomes smaller and larger, the table follows it, and nothing wraps or scrolls."""
    shown = terminal("watch", pods(40), "-n", "0", "--rate", "60", columns=100, rows=40)

    for columns, rows in ((80, 24), (60, 20), (40, 30), (120, 12), (100, 40)):
        shown.resize(columns, rows)
        before = len(shown.output)
        shown.read(lambda each, before=before: each.output[before:].count(b"\x1b[1;1H") >= 3)
        lines = [line for line in shown.lines if line]
        assert lines[0].startswith("version and pod"), shown.text
        assert "Ctrl+C" in shown.text
        assert max(map(len, lines)) < columns
        assert len(lines) < rows
        assert shown.screen.scrolled == 0
    shown.process.terminate()
    shown.read()
    assert shown.process.wait(20) == 0
    assert "Stopped early" in shown.text


def test_what_stood_there_comes_back(terminal, tcp_server):
    """The live table is on the alternate screen, with automatic margins off; both are undone, also by Ctrl+C."""
    shown = terminal("watch", tcp_server(replying(http_response(b"hello"))).url, "-n", "0")
    shown.read(lambda each: b"hello" in each.output)
    shown.process.send_signal(signal.SIGINT)
    shown.read()
    assert shown.process.wait(20) == 0
    assert shown.output.count(b"\x1b[?1049h") == shown.output.count(b"\x1b[?1049l") == 1
    assert shown.output.index(b"\x1b[?7l") < shown.output.index(b"\x1b[?7h")
    final = shown.output.partition(b"\x1b[?1049l")[2]
    assert b"200 hello" in final
    assert b"\x1b[" not in re.sub(rb"\x1b\[\d+m", b"", final)


def test_ctrl_z(terminal, tcp_server):
    """Stopped, it leaves the terminal as it was; when it goes on, the table is drawn anew."""
    shown = terminal("watch", tcp_server(replying(http_response(b"hello"))).url, "-n", "0")
    shown.read(lambda each: b"hello" in each.output)
    shown.process.send_signal(signal.SIGTSTP)
    shown.read(lambda each: b"\x1b[?1049l" in each.output)
    # In a session of its own the kernel stops no process by SIGTSTP, so that it goes on at once.
    shown.read(lambda each: each.output.count(b"\x1b[?1049h") == 2)
    shown.process.send_signal(signal.SIGINT)
    shown.read()
    assert shown.process.wait(20) == 0
    assert shown.output.count(b"\x1b[?1049h") == shown.output.count(b"\x1b[?1049l") == 2


def test_dumb_terminal(terminal, tcp_server):
    """A terminal that cannot move its cursor gets lines of progress and the table."""
    shown = terminal("watch", tcp_server(replying(http_response(b"hello"))).url, "-n", "30", term="dumb")
    shown.read()
    assert b"\x1b" not in re.sub(rb"\x1b\[\d+m", b"", shown.output)
    assert FINAL.search(shown.text)


def test_json_on_a_terminal(terminal, tcp_server):
    """With --json nothing but the object stays on the screen."""
    url = tcp_server(replying(http_response(b"hello"))).url
    shown = terminal("watch", url, "-n", "30", "--json", rows=200)
    shown.read()
    assert b"\x1b[?1049h" not in shown.output
    assert shown.text.startswith("{")
    assert shown.text.endswith("}")


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {}])
def test_no_color(terminal, pods, monkeypatch, env):
    """With NO_COLOR neither the live table nor the last one is coloured, and both are drawn."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    shown = terminal("watch", pods(3), "-n", "30", "--rate", "60", "--expect", "Webserver V1=15")
    shown.read()
    assert FINAL.search(shown.text)
    assert shown.output.count(b"\x1b[1;1H") >= 1
    assert bool(re.search(rb"\x1b\[\d+m", shown.output)) is not bool(env)
