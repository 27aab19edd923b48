"""Ports on loopback, each chosen once for what is to listen there."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable

from meshdemo.errors import StartError
from meshdemo.serving import server

# Below the ports that systems hand out by themselves (32768 on Linux, 49152 on macOS).
_RANGE = range(20000, 32000)


class PortBook:
    """Chooses a free port for each thing that is to listen, and remembers it."""

    def __init__(self, generator: random.Random | None = None) -> None:
        self._random = generator or random.Random()
        self._chosen: dict[Hashable, int] = {}
        self._claimed: set[Hashable] = set()

    def get(self, key: Hashable) -> int:
        """Return the port of `key`, the same each time."""
        if key not in self._chosen:
            self._chosen[key] = self._free(self._random.sample(_RANGE, 200))
        return self._chosen[key]

    def wish(self, key: Hashable, wanted: int) -> int:
        """Return the port of `key`: `wanted` when it is free, else the next one that is."""
        if key not in self._chosen:
            self._chosen[key] = self._free(range(wanted, min(wanted + 1000, 65536)))
        return self._chosen[key]

    def claim(self, key: Hashable, port: int) -> int:
        """Return `port` for `key`, any for 0; raise StartError when it cannot be had. It is never another."""
        self._claimed.add(key)
        if not port:
            return self.get(key)
        (listening,) = server.bind("127.0.0.1", port)
        listening.close()
        self._chosen[key] = port
        return port

    def release(self, key: Hashable) -> None:
        """Forget the port of `key`."""
        self._chosen.pop(key, None)

    def lose(self, port: int) -> bool:
        """Forget a port that somebody else took before it was used; return whether another is chosen in its place."""
        keys = [key for key, chosen in self._chosen.items() if chosen == port and key not in self._claimed]
        for key in keys:
            self.release(key)
        return bool(keys)

    def _free(self, candidates: Iterable[int]) -> int:
        taken = set(self._chosen.values())
        for port in candidates:
            if port in taken:
                continue
            try:
                (listening,) = server.bind("127.0.0.1", port)
            except StartError:
                continue
            listening.close()
            return port
        raise StartError("no port is free on 127.0.0.1: end what is running there.")
