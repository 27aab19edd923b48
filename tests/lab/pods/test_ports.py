"""Ports on loopback that are chosen once."""

import random
import socket

import pytest

from meshdemo.errors import StartError
from meshdemo.lab.pods.ports import PortBook


def test_a_port_stays_until_it_is_given_back():
    """A key has one port, no two have the same, and a port that was given back may be another's."""
    ports = PortBook(random.Random(1))
    assert ports.get("a") == ports.get("a")
    assert len({ports.get(number) for number in range(200)}) == 200
    first = ports.get("a")
    ports.release("a")
    assert ports.wish("b", first) == first


def test_wishes():
    """A wish is granted where the port is free, else the next one is."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        taken = busy.getsockname()[1]
        ports = PortBook()
        found = ports.wish("a", taken)
        assert found > taken
        assert ports.wish("a", taken) == found
        assert ports.wish("b", taken) > found


def test_claims():
    """A port that is asked for is had or refused; 0 is any."""
    ports = PortBook()
    assert ports.claim("any", 0) > 0
    with socket.create_server(("127.0.0.1", 0)) as busy:
        with pytest.raises(StartError, match="is already in use"):
            ports.claim("front", busy.getsockname()[1])
        port = busy.getsockname()[1]
    assert ports.claim("front", port) == port == ports.get("front")


def test_what_somebody_else_took():
    """A port that is lost is chosen again, unless it was claimed; one that nobody chose is not known."""
    ports = PortBook()
    lost = ports.get("a")
    assert ports.lose(lost)
    assert not ports.lose(lost)
    for claimed in (ports.claim("front", 0), ports.claim("another", lost)):
        assert not ports.lose(claimed)
    assert ports.get("another") == lost != ports.get("a")
