"""The control plane's own account of an Envoy: whether it has all that it is to have."""

import stat

from meshdemo.lab.envoy.xds.control_plane import ControlPlane
from meshdemo.lab.envoy.xds.subscriber import Stream, Subscriber, Subscription


def test_what_only_the_former_state_needs():
    """In a step of a change nobody has to ask for what the new state does not need; at its end for all else."""
    subscriber = Subscriber("pod-1", "a-1")
    assert not subscriber.is_current
    subscriber.stream = Stream()
    subscriber.stream.subscriptions = {
        "clusters": Subscription(frozenset()),
        "listeners": Subscription(frozenset()),
        "secrets": Subscription(frozenset({"new"})),
    }
    assert subscriber.is_current
    subscriber.offered = {**subscriber.offered, "secrets": {"old": 1, "new": 2}}
    assert not subscriber.is_current
    subscriber.is_between = True
    assert subscriber.is_current
    subscriber.stream.subscriptions["secrets"].is_answered = False
    assert not subscriber.is_current


def test_the_socket(tmp_path):
    """Nobody but the user may open it."""
    plane = ControlPlane(tmp_path)
    try:
        status = (tmp_path / "control-plane").stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert status.st_mode & 0o077 == 0
    finally:
        plane.close()
