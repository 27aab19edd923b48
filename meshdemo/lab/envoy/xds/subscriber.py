"""One Envoy as the control plane sees it: what it is to have, what it was sent, and what it said to that."""

from __future__ import annotations

import queue
from dataclasses import dataclass, field
from typing import Any

from meshdemo.lab.envoy.xds.messages import URLS, Snapshot

EMPTY: Snapshot = {kind: {} for kind in URLS}
#: The kinds of which each response holds all that there are.
COMPLETE = ("clusters", "listeners")


@dataclass
class Subscription:
    """What an Envoy asks for of one kind, and what it was sent of it."""

    names: frozenset[str]
    sent: dict[str, Any] = field(default_factory=dict)
    nonce: str = ""
    is_answered: bool = True
    #: Whether it is not waited for (see `ControlPlane.wait`).
    is_put_off: bool = False


class Stream:
    """One connection of an Envoy. Responses are put into a queue, from which gRPC takes them; None ends it."""

    def __init__(self) -> None:
        self.responses: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.subscriptions: dict[str, Subscription] = {}


class Subscriber:
    """One Envoy as the control plane sees it, whether it is connected or not."""

    def __init__(self, key: str, name: str) -> None:
        self.key = key
        self.name = name
        self.offered = EMPTY
        #: Whether that is a step of a change: it holds what the former state needs, which nobody may ask for any more.
        self.is_between = False
        #: Why it has refused what it was sent last, by kind.
        self.refusals: dict[str, str] = {}
        #: Whether it did not answer in time; it is not waited for until it does.
        self.is_silent = False
        self.stream: Stream | None = None

    @property
    def is_connected(self) -> bool:
        """Return whether it has a stream."""
        return self.stream is not None

    @property
    def is_current(self) -> bool:
        """Return whether it has acknowledged all that it is to have."""
        if self.stream is None or self.refusals:
            return False
        for kind, offered in self.offered.items():
            subscription = self.stream.subscriptions.get(kind)
            if subscription is None:
                is_missing = (bool(offered) and not self.is_between) or kind in COMPLETE
            else:
                is_missing = not (kind in COMPLETE or self.is_between or offered.keys() <= subscription.names)
            if is_missing or (subscription and not (subscription.is_answered or subscription.is_put_off)):
                return False
        return True
