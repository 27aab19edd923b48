"""Whether more may come of a call, by what the Envoys have logged of it so far."""

import dataclasses
from types import SimpleNamespace

import pytest

from meshdemo.lab.xray.completeness import is_complete, may_go_on
from meshdemo.lab.xray.facts.records import Record
from meshdemo.lab.xray.facts.scene import Place

CALLER, DOOR, PROGRAM, ENTRY = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"
EMPTY = {
    field.name: "" if field.type == "str" else 0
    for field in dataclasses.fields(Record)
    if field.type in ("str", "int", "float")
}
CALLS = {"proxy-1": True, "web-1": False, "chain-1": True}


class FakeScene:
    """A scene with pods that call and pods that do not, and routes with copies."""

    def __init__(self, pod="web-1", shares=()):
        self.places = {DOOR: Place(pod, 80, is_program=False), PROGRAM: Place(pod, 80, is_program=True)}
        policies = [{"runtime_fraction": {"default_value": {"numerator": share}}} for share in shares]
        self._routes = {"virtual_hosts": [{"routes": [{"name": "r", "route": {"request_mirror_policies": policies}}]}]}

    def routes(self, _envoy, _name):
        return self._routes

    def is_gateway(self, name):
        return name.startswith("gateway")

    def pod(self, name):
        return SimpleNamespace(calls=CALLS[name]) if name in CALLS else None


def record(**fields):
    given = {"headers": {}, "flags": (), "status": 200, "is_try": False, "is_tls": False, "started": 10.0}
    return Record(**{**EMPTY, **given, "milliseconds": 5.0, "details": "via_upstream", "route": "r", **fields})


def sent(envoy="proxy-1", **fields):
    return record(envoy=envoy, routes="80", downstream=CALLER, local=ENTRY, **{"tries": 1, **fields})


def tried(upstream=DOOR, envoy="proxy-1", **fields):
    ends = {"downstream": CALLER, "local": ENTRY, "upstream": upstream, "upstream_local": "127.0.0.1:9"}
    return record(envoy=envoy, is_try=True, **{**ends, **fields})


def taken(envoy="web-1", **fields):
    ends = {"downstream": "127.0.0.1:9", "local": DOOR}
    return record(envoy=envoy, routes="inbound|80||", **{**ends, "upstream": PROGRAM, **fields})


WHOLE = [sent(), tried(), taken()]
COPY = tried(upstream=PROGRAM, downstream="")


@pytest.mark.parametrize(
    ("records", "shares", "expected"),
    [
        ([], (), False),
        ([tried()], (), False),
        ([sent()], (), False),
        ([sent(), tried()], (), False),
        (WHOLE, (), True),
        ([sent(), tried(status=None)], (), True),
        ([sent(), tried(PROGRAM)], (), True),
        ([sent(details="direct_response", tries=0)], (), True),
        (WHOLE, (100,), False),
        ([*WHOLE, COPY], (100,), True),
        (WHOLE, (50,), True),
    ],
)
def test_what_is_complete(records, shares, expected):
    """Each request that went on has a try, each try a request where a sidecar took it, each certain copy a try."""
    assert is_complete(records, FakeScene(shares=shares)) is expected


@pytest.mark.parametrize(
    ("records", "origin", "scene", "expected"),
    [
        (WHOLE, "proxy-1", FakeScene(), False),
        ([sent(), tried(PROGRAM)], "proxy-1", FakeScene(), False),
        ([sent("gateway"), tried(envoy="gateway"), taken()], None, FakeScene(), False),
        ([sent(details="direct_response", tries=0)], "proxy-1", FakeScene(), False),
        ([*WHOLE, COPY], "proxy-1", FakeScene(shares=(100,)), False),
        # The first hop is not there, or what a program has called is among it.
        ([taken()], "proxy-1", FakeScene(), True),
        (WHOLE, None, FakeScene(), True),
        ([*WHOLE, sent("chain-1", details="direct_response", tries=0)], "proxy-1", FakeScene(), True),
        # A try is missing, or was given up while a sidecar had it.
        ([sent(tries=2), tried(), taken()], "proxy-1", FakeScene(), True),
        ([sent(status=504, details="response_timeout"), tried(status=None)], "proxy-1", FakeScene(), True),
        # It went to the address of a Service, or to a gateway.
        ([sent(), tried("127.0.0.1:8")], "proxy-1", FakeScene(), True),
        # Nobody knows whether a copy was made, nor what a program calls.
        (WHOLE, "proxy-1", FakeScene(shares=(50,)), True),
        ([sent(), tried(), taken("chain-1")], "proxy-1", FakeScene("chain-1"), True),
        ([sent(), tried(PROGRAM)], "proxy-1", FakeScene("chain-1"), True),
    ],
)
def test_whether_more_may_come(records, origin, scene, expected):
    """Only where the way is known from its first hop to its last nothing more is waited for."""
    assert is_complete(records, scene)
    assert may_go_on(records, origin, scene) is expected
