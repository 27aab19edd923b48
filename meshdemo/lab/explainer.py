"""Calls explained: those that the lab makes for somebody who asks, and those that came through."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from meshdemo.lab.call_maker import SETTLE_SECONDS, TCP, CallMaker, Made
from meshdemo.lab.door.door import Door, DoorError
from meshdemo.lab.envoy.endpoints import HOST
from meshdemo.lab.quick.precedence import find_not_in_force
from meshdemo.lab.ways import Ways
from meshdemo.lab.xray.completeness import is_complete, may_go_on
from meshdemo.lab.xray.connections import connection_hops, explain_connection, is_followed
from meshdemo.lab.xray.facts.calls import Call, Hop
from meshdemo.lab.xray.facts.records import MOST_CALLS, Record
from meshdemo.lab.xray.facts.scene import Place, Scene
from meshdemo.lab.xray.joining import join, outcome_of
from meshdemo.lab.xray.met import MetRules
from meshdemo.reasons import Origin, find_origin

if TYPE_CHECKING:
    from meshdemo.lab.lab import Lab

_MOST_FLAGS = 1000
_COMPLETE_SECONDS = 1.0
# An answer that came through an Envoy is logged, however busy the machine is.
_CERTAIN_SECONDS = 10.0


class Explainer:
    """Explains the calls of one lab, and makes those that are asked for at its door."""

    def __init__(self, lab: Lab, door: Door) -> None:
        self._lab = lab
        ways = Ways(lab)
        self._maker = CallMaker(lab, ways)
        door.add("POST", "/call", lambda _rest, body: self.call(body).as_json())
        door.add("POST", "/ways", lambda _rest, body: ways.of(body))
        door.add("POST", "/flags", lambda _rest, body: self.flags(body))
        door.add("GET", "/calls/", lambda rest, _body: self.seen(rest).as_json())
        met = MetRules(lab.records, self._scene, lambda: lab.state)
        door.add("POST", "/met", lambda _rest, body: met.of(_read_ids(body)))

    def call(self, body: Any) -> Call:
        """Make a call, `{"from", "method", "url", "headers", "body"}`, and return it explained; raise DoorError."""
        made = self._maker.make(body)
        if urlsplit(made.call.url).scheme == TCP:
            scene = self._scene()
            return explain_connection(made.call, self._connections(made.local, scene), scene)
        explained = self._explained(made.call)
        return explained if explained.status is not None else self._with_end(explained, made)

    def seen(self, request_id: str) -> Call:
        """Return a call that came through, explained; raise DoorError for one that did not, or long ago."""
        # A try may be logged before its request.
        records = self._records_of(request_id, lambda found: any(not each.is_try for each in found), _COMPLETE_SECONDS)
        requests = sorted((each for each in records if not each.is_try), key=lambda each: each.started)
        if not requests:
            raise DoorError(404, f"no Envoy here has logged a call with the x-request-id {request_id}")
        first = requests[0]
        origin = None if first.is_inbound or self._scene().is_gateway(first.envoy) else first.envoy
        url = f"http://{first.authority}{first.path}"
        call = Call(request_id, first.method, url, origin, first.status, first.milliseconds)
        return self._explained(call)

    def flags(self, request_ids: Any) -> dict[str, str | None]:
        """Return by x-request-id with which flag an Envoy answered a call itself, empty for one without a flag.

        It is None where no Envoy did; calls that none has logged, or not all of them, are left out. Raise DoorError.
        """
        if not isinstance(request_ids, list) or not all(isinstance(each, str) for each in request_ids):
            raise DoorError(400, "flags are asked for by a list of x-request-ids")
        scene, found, begun = self._scene(), {}, time.monotonic()
        for request_id in request_ids[:_MOST_FLAGS]:
            # What was called just now, or came to a pod and is not yet known to have left another, may still be logged.
            records = self._records_of(
                request_id, lambda records: any(map(_is_sent, records)), begun + SETTLE_SECONDS - time.monotonic()
            )
            if records:
                records = self._records_of(
                    request_id,
                    lambda records: is_complete(records, scene),
                    begun + _CERTAIN_SECONDS - time.monotonic(),
                )
            if is_complete(records, scene):
                call = join(Call(request_id, "GET", "http://elsewhere/", None, None, 0.0), records, scene)
                hop = next((hop for hop in call.hops if hop.reason), None)
                found[request_id] = _flag_of(hop) if hop else None
        return found

    def _records_of(self, request_id: str, is_enough: Callable[[list[Record]], bool], seconds: float) -> list[Record]:
        return self._lab.records.wait(request_id, is_enough, settle_seconds=0, seconds=seconds)

    def _explained(self, call: Call) -> Call:
        scene = self._scene()

        def wait(settle_seconds: float) -> list[Record]:
            return self._lab.records.wait(
                call.id,
                lambda found: is_complete(found, scene),
                settle_seconds=settle_seconds,
                seconds=_CERTAIN_SECONDS if _came_through_an_envoy(call) else _COMPLETE_SECONDS,
            )

        records = wait(0)
        if may_go_on(records, call.origin, scene):
            records = wait(SETTLE_SECONDS)
        return join(call, records, scene)

    def _with_end(self, call: Call, made: Made) -> Call:
        """Return a call that nobody answered with who closed its connection, where its caller spoke TLS itself."""
        scene = self._scene()
        if any(hop.reason for hop in call.hops) or urlsplit(call.url).scheme != "https":
            return call
        records = self._connections(made.local, scene)
        hops = connection_hops(call, records, scene, made.server_name)
        return dataclasses.replace(call, hops=(*call.hops, *(hop for hop in hops if hop.reason)))

    def _connections(self, local: str, scene: Scene) -> list[Record]:
        """Return what the Envoys logged of a connection by which no HTTP went."""
        return self._lab.records.wait_connection(
            local, lambda found: is_followed(found, scene), seconds=_COMPLETE_SECONDS if local else 0
        )

    def _scene(self) -> Scene:
        state, places = self._lab.state, {}
        for pod in self._lab.pods.present:
            for number, port in pod.ports.inbound.items():
                places[f"{HOST}:{port}"] = Place(pod.pod.name, number, is_program=False)
            for number, port in pod.ports.apps.items():
                places[f"{HOST}:{port}"] = Place(pod.pod.name, number, is_program=True)
        for each in self._lab.outside.gateway_ports(state):
            places[f"{HOST}:{each.port}"] = Place(each.gateway, each.number, is_program=False, hosts=each.hosts)
        not_in_force = (*state.configuration.not_in_force, *find_not_in_force(state.cluster))
        entrances = {
            port: [(pod.name, number) for pod, number in entrance.endpoints]
            for entrance, port in self._lab.outside.public_ports(state.cluster)
        }
        secret = _secret_headers(state.cluster.pods)
        return Scene(state.cluster, state.configuration, places, entrances, not_in_force, secret)


def _is_sent(record: Record) -> bool:
    """Return whether it is of a request that left a pod, or came through a gateway."""
    return not record.is_try and not record.is_inbound


def _read_ids(body: Any) -> list[str]:
    """Return the x-request-ids that somebody asks for; raise DoorError."""
    match body:
        case {"ids": [*ids]} if len(ids) <= MOST_CALLS and all(isinstance(each, str) for each in ids):
            return ids
    raise DoorError(400, f"ids is a list of x-request-ids, {MOST_CALLS} at most")


def _came_through_an_envoy(call: Call) -> bool:
    """Return whether the answer shows that: by its headers, or by those that the application got or passes on."""
    outcome = outcome_of(call)
    origins = [find_origin({name.lower(): value for name, value in call.headers})]
    if outcome:
        origins.append(outcome.origin)
    return any(each is not Origin.ELSEWHERE for each in origins) or bool(outcome and outcome.attempt)


def _flag_of(hop: Hop) -> str:
    """Return the flag by which the reasons of answers are known (meshdemo/reasons.py)."""
    own = {"denied": "RBAC", "token refused": "JWT"}
    named = (flag for words, flag in own.items() if (hop.reason or "").startswith(words))
    return next(named, None) or next(iter(hop.flags), "")


def _secret_headers(pods: Any) -> frozenset[str]:
    """Return the names of the headers that `--forward-header` names, in small letters: they may hold what is secret."""
    names: set[str] = set()
    for container in (container for pod in pods for container in pod.containers):
        pairs = zip(container.args, container.args[1:], strict=False)
        names |= {value.lower() for option, value in pairs if option == "--forward-header"}
        names |= {arg.partition("=")[2].lower() for arg in container.args if arg.startswith("--forward-header=")}
        names |= set(dict(container.environment).get("FORWARD_HEADERS", "").lower().split())
    return frozenset(names)
