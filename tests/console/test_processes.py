"""Ending processes."""

import subprocess
import sys

from meshdemo.console import processes


def start(code):
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_process_that_heeds(monkeypatch):
    """A process is asked to end, and its streams are closed."""
    process = start("import time; print('ready', flush=True); time.sleep(60)")
    processes.end_process(process)
    assert process.returncode == -15
    assert process.stdin.closed
    assert process.stdout.closed


def test_a_process_that_ignores(monkeypatch):
    """A process that does not end when it is asked to is ended by force."""
    monkeypatch.setattr(processes, "_GRACE_SECONDS", 0.1)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    process = start(code)
    processes.end_process(process)
    assert process.returncode == -9


def test_a_process_that_has_ended():
    """A process that has ended keeps its status."""
    process = start("print('ready')")
    process.wait()
    processes.end_process(process)
    assert process.returncode == 0
