"""The guard: nothing that the lab has started outlives it, however it ends."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support import wait_until

from meshdemo.errors import StartError
from meshdemo.lab.pods.guard import Guard

# Starts a process in the guard's group, writes a file into its folder, and says what they are.
SCRIPT = """
import subprocess, sys, time
from meshdemo.lab.pods.guard import Guard
guard = Guard()
(guard.folder / "file").write_text("x")
sleep = "import signal, time; signal.signal(15, lambda *_: 0); time.sleep(600)"
null = subprocess.DEVNULL
child = subprocess.Popen([sys.executable, "-c", sleep], process_group=guard.group, stdout=null, stderr=null)
print(guard.folder, child.pid, guard._process.pid, guard.group, flush=True)
time.sleep(600)
"""


def lives(pid):
    """Return whether a process is there, and no zombie."""
    listing = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(listing) and not listing.startswith("Z")


@pytest.fixture
def lab():
    """Run something like a lab; give it, its folder, and the ids of its child, its guard and the group's leader."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    folder, *pids = process.stdout.readline().split()
    yield process, Path(folder), [int(pid) for pid in pids]
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_folder_for_its_user_alone():
    """The folder is private, tells whose it is, has a short path, and goes with the guard."""
    guard = Guard()
    try:
        assert guard.folder.name.startswith("meshdemo-")
        assert guard.folder.is_dir()
        assert guard.folder.stat().st_mode & 0o077 == 0
        assert len(str(guard.folder)) < 80
    finally:
        guard.close()
    assert not guard.folder.exists()
    assert not lives(guard.group)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
def test_the_lab_ends(lab, number):
    """When the lab ends, also by SIGKILL, no process and no folder is left."""
    process, folder, pids = lab
    assert all(lives(pid) for pid in pids)
    process.send_signal(number)
    process.wait(10)
    wait_until(lambda: not folder.exists() and not any(lives(pid) for pid in pids), "nothing to be left")


def test_the_guard_is_killed(lab):
    """When the guard itself is killed, all that the lab has started ends."""
    _, _, (child, guard, group) = lab
    os.kill(guard, signal.SIGKILL)
    wait_until(lambda: not lives(child) and not lives(group), "all to end")


def test_a_lab_that_ends_at_once():
    """A lab that is killed while its guard starts leaves nothing either."""
    with tempfile.TemporaryDirectory(prefix="lab-", dir="/tmp") as folder:
        for _ in range(10):
            script = f"import os, tempfile; tempfile.tempdir = {folder!r}\n" + (
                "import subprocess\nfrom meshdemo.lab.pods import guard\n"
                "start = subprocess.Popen\n"
                "guard.subprocess.Popen = lambda *a, **k: (start(*a, **k), os.kill(os.getpid(), 9))\n"
                "guard.Guard()"
            )
            done = subprocess.run([sys.executable, "-c", script], capture_output=True)
            assert done.returncode == -9
        wait_until(lambda: not list(Path(folder).iterdir()), "the folders to go")
        wait_until(lambda: folder not in processes(), "the guards to end")


def processes():
    return subprocess.run(["ps", "-ww", "-e", "-o", "args="], capture_output=True, text=True).stdout


def test_no_place_for_a_folder(monkeypatch, tmp_path):
    """Where no folder can be made that is said."""
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")
    with pytest.raises(StartError, match="cannot make a folder in /proc/none"):
        Guard()
