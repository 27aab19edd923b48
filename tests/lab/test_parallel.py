"""Doing several things at once."""

import threading

import pytest

from meshdemo.lab.parallel import in_parallel


def test_all_at_once():
    """All jobs run at the same time, and all have ended on return."""
    barrier, done = threading.Barrier(5), []
    in_parallel([lambda: (barrier.wait(10), done.append(1)) for _ in range(5)])
    assert len(done) == 5
    in_parallel([])


def test_errors():
    """The error of the first job that has one is raised, after all have ended."""
    done = []

    def fail(text):
        raise ValueError(text)

    with pytest.raises(ValueError, match=r"^b$"):
        in_parallel([lambda: done.append(1), lambda: fail("b"), lambda: fail("c"), lambda: done.append(1)])
    assert len(done) == 2
