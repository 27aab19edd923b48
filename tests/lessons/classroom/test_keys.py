"""Single keys, and what becomes of the terminal."""

import os
import pty
import signal
import subprocess
import sys
import termios

from support import wait_until

from meshdemo.lessons.classroom.keys import Keys

PROGRAM = """
from meshdemo.lessons.classroom.keys import Keys
with Keys() as keys:
    print("ready", flush=True)
    while keys.read(0.05) != "q":
        pass
"""


def is_line_by_line(number):
    return bool(termios.tcgetattr(number)[3] & termios.ICANON)


def test_ctrl_z_and_back():
    """While it is stopped the terminal is as the shell had it, and when it goes on single keys are read again."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=terminal, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"ready\n"
        assert not is_line_by_line(terminal)
        for _ in range(2):
            process.send_signal(signal.SIGTSTP)
            assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
            assert is_line_by_line(terminal)
            process.send_signal(signal.SIGCONT)
            wait_until(lambda: not is_line_by_line(terminal), "single keys")
        os.write(controller, b"q")
        assert process.wait(20) == 0
        assert is_line_by_line(terminal)
    finally:
        process.kill()
        process.communicate()
        os.close(controller)
        os.close(terminal)


def test_paused(monkeypatch):
    """Others have the terminal as it was meanwhile, and what was typed there is no key."""
    controller, terminal = pty.openpty()
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with Keys() as keys:
            with keys.paused():
                assert is_line_by_line(terminal)
                os.write(controller, b"x")
            assert not is_line_by_line(terminal)
            assert keys.read(0) == ""
    os.close(controller)
