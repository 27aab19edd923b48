"""Signals that interrupt whatever the program does."""

import os
import signal

import pytest

from meshdemo.lab import signals


@pytest.fixture(autouse=True)
def as_before():
    """Put the handlers back as they were."""
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_a_signal_raises(number):
    """A signal raises where the program is, is remembered, and those after the end are ignored."""
    with pytest.raises(signals.Signalled) as caught, signals.raising() as arrived:
        os.kill(os.getpid(), number)
    assert caught.value.number == number == arrived.number
    os.kill(os.getpid(), number)
    with pytest.raises(signals.Signalled):
        arrived.check()


def test_no_signal():
    """Without one nothing is raised."""
    with signals.raising() as arrived:
        arrived.check()
    assert arrived.number is None
