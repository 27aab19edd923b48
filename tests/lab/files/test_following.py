"""Noticing edits, and reading beside everything else."""

import threading

import pytest
from support import wait_until

from meshdemo.lab.files import following
from meshdemo.lab.files.following import BackgroundJob, WatchedFiles


def test_edits_are_noticed_once_they_are_complete(tmp_path):
    """An edit counts when two looks in a row see the same, and is told once; so are files that come and go."""
    path = tmp_path / "a.yaml"
    path.write_text("a")
    files = WatchedFiles([tmp_path])
    assert not files.have_changed()
    path.write_text("ab")
    assert [files.have_changed() for _ in range(3)] == [False, True, False]
    (tmp_path / "b.yaml").write_text("")
    assert [files.have_changed() for _ in range(3)] == [False, True, False]
    path.unlink()
    assert [files.have_changed() for _ in range(3)] == [False, True, False]
    (tmp_path / "readme.txt").write_text("")
    assert [files.have_changed() for _ in range(3)] == [False, False, False]


def test_a_file_that_is_written_while_it_is_read(tmp_path):
    """What was read counts only when the files are still as they were told."""
    path = tmp_path / "a.yaml"
    path.write_text("")
    files = WatchedFiles([path])
    assert files.are_as_reported()
    path.write_text("a")
    assert not files.are_as_reported()
    assert [files.have_changed() for _ in range(2)] == [False, True]
    assert files.are_as_reported()


def test_a_file_that_is_replaced(tmp_path):
    """A file that an editor moves into place counts, though it has the same size."""
    path = tmp_path / "a.yaml"
    path.write_text("a")
    files = WatchedFiles([path])
    (tmp_path / "new").write_text("b")
    (tmp_path / "new").replace(path)
    assert [files.have_changed() for _ in range(3)] == [False, True, False]


def test_files_that_are_to_be_read_again(tmp_path):
    """WatchedFiles count as changed, once, when that is asked for."""
    path = tmp_path / "a.yaml"
    path.write_text("a")
    files = WatchedFiles([path])
    assert not files.have_unreported_changes
    files.read_again()
    assert files.have_unreported_changes
    assert [files.have_changed() for _ in range(2)] == [True, False]


def test_a_file_that_gives_no_answer(tmp_path, monkeypatch):
    """As long as a look at a file does not end, nothing counts as changed, which is said once."""
    monkeypatch.setattr(following, "SILENT_SECONDS", 0.3)
    path, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    path.write_text("a")
    go, lines = threading.Event(), []
    files = WatchedFiles([path], lines.append)
    monkeypatch.setattr(following, "files_of", lambda paths: paths if paths == [other] or go.wait(10) else [])
    path.write_text("ab")
    wait_until(lambda: files.have_changed() or lines, "a line")
    assert not files.have_changed()
    assert lines == [f"{path} gives no answer for 5 s; it is waited for, and edits with it"]
    files.paths = [other]
    wait_until(files.have_changed, "files without it")
    files.paths = [path]
    go.set()
    wait_until(files.have_changed, "the change")
    assert len(lines) == 1


def test_aside():
    """A job's result is there when it is done, once; its error is raised, once."""
    go, aside = threading.Event(), BackgroundJob()
    assert (aside.is_busy, aside.result()) == (False, None)
    aside.begin(lambda: go.wait(10) and "done")
    assert (aside.is_busy, aside.result()) == (True, None)
    go.set()
    assert wait_until(aside.result, "the result") == "done"
    assert (aside.is_busy, aside.result()) == (False, None)
    aside.begin(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        wait_until(aside.result, "the error")
    assert not aside.is_busy
