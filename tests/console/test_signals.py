"""Signals that interrupt whatever the program does."""

import os
import signal

import pytest

from meshdemo.console import signals


@pytest.fixture(autouse=True)
def as_before():
    """Put the handlers back as they were."""
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
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


@pytest.mark.parametrize("ignored", [False, True])
def test_others(ignored):
    """Others raise as well where that is asked for, but for one that is ignored, as after nohup."""
    if ignored:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.raising(signal.SIGHUP):
        if ignored:
            os.kill(os.getpid(), signal.SIGHUP)
        else:
            with pytest.raises(signals.Signalled):
                os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_held():
    """A signal that arrives in the middle does at the end what it would have done, and ones that are ignored do not."""
    done = []
    with pytest.raises(signals.Signalled) as caught, signals.raising(), signals.held():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("all of it")
    assert done == ["all of it"]
    assert caught.value.number == signal.SIGINT
    with signals.held():
        os.kill(os.getpid(), signal.SIGINT)
