"""From records to one call: which hop came after which, and what each of them did."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from meshdemo.answers import Outcome, read_document
from meshdemo.lab.xray.causes import cause_of, try_reason
from meshdemo.lab.xray.defaults import notes_of
from meshdemo.lab.xray.facts.calls import APPLICATION, GATEWAY, SIDECAR, Call, Hop, Mirror, Try
from meshdemo.lab.xray.facts.naming import Rule
from meshdemo.lab.xray.facts.records import Record
from meshdemo.lab.xray.facts.relations import is_mirror, is_of, lasted
from meshdemo.lab.xray.facts.scene import Scene, target_of
from meshdemo.lab.xray.routes import Route
from meshdemo.lab.xray.silence import caller_of, passing_hop, silent_hop

# What an Envoy says of an answer that it only passes on.
_ANSWERED = "via_upstream"


def join(call: Call, records: Sequence[Record], scene: Scene) -> Call:
    """Return a call with its hops in order; the last try of each counts, what came of the others is said of them."""
    joined = _Joined(records, scene)
    outcome = outcome_of(call)
    hops: list[Hop] = []
    for record in joined.requests:
        if joined.is_aside(record):
            continue
        if not hops and call.origin is None and not record.is_inbound and not scene.is_gateway(record.envoy):
            hops.append(_application(record.envoy, call.status, call.milliseconds, scene))
        hops.append(joined.hop(record))
        hops += joined.applications(record)
    if hops and hops[0].direction == "inbound" and call.origin:
        passing = passing_hop(call.origin, call.url, scene)
        hops[:0] = [dataclasses.replace(passing, status=call.status, milliseconds=call.milliseconds)] if passing else []
    _add_silent(hops, call, outcome, scene)
    hops = _with_words_of_applications(hops, outcome)
    version, result = (outcome.version, outcome.status) if outcome else (None, call.status)
    error = call.error or (outcome.error if outcome else None)
    return dataclasses.replace(call, hops=tuple(hops), version=version, result=result, error=error)


def _add_silent(hops: list[Hop], call: Call, outcome: Outcome | None, scene: Scene) -> None:
    """Add what is to be said of a call that the last Envoy did not log, and the application that answered it."""
    entrance = scene.entrances.get(urlsplit(call.url).port or 80, ())
    caller = caller_of(hops, call.origin, entrance, scene)
    if caller is None:
        return
    is_first = call.origin is not None and not hops
    result = outcome.status if outcome else call.status
    port = next((number for name, number in entrance if name == caller.name), None) if call.origin is None else None
    silent = silent_hop(caller, call.url if is_first else None, port, scene, is_failed=result is None)
    if silent is None:
        return
    if silent.kind == APPLICATION and hops:
        hops[-1] = dataclasses.replace(hops[-1], reason=silent.reason, decided_by=silent.decided_by, notes=silent.notes)
    else:
        hops.append(dataclasses.replace(silent, status=result, milliseconds=call.milliseconds))
    if outcome and outcome.pod and outcome.pod not in {hop.pod for hop in hops}:
        hops.append(_application(outcome.pod, result, outcome.proxy_milliseconds or call.milliseconds, scene))


def rules_met(record: Record, scene: Scene) -> tuple[Rule, ...]:
    """Return the rule that a request met at one Envoy, and whose word decided there, where that is another.

    They are for all requests of a kind, so whichever match of them it was.
    """
    found = Route(record, scene)
    decided_by = cause_of(record, scene, found.rule, found.route).decided_by
    rules = (dataclasses.replace(rule, match=None) for rule in (found.rule, decided_by) if rule)
    return tuple(dict.fromkeys(rules))


class _Joined:
    """The records of one call, and which of them belong together."""

    def __init__(self, records: Sequence[Record], scene: Scene) -> None:
        self._scene = scene
        self.requests = sorted((each for each in records if not each.is_try), key=lambda each: each.started)
        self._tries = sorted((each for each in records if each.is_try), key=lambda each: each.started)
        self._doors = {(each.downstream, each.local): each for each in self.requests if each.is_inbound}

    def tries(self, request: Record) -> list[Record]:
        """Return the tries of a request in order."""
        return [each for each in self._tries if is_of(each, request)]

    def applications(self, request: Record) -> list[Hop]:
        """Return the program that a request came to, if any."""
        if request.is_inbound:
            status = request.status if request.details == _ANSWERED else None
            upstream, milliseconds = request.upstream, request.upstream_milliseconds
        else:
            tries = self.tries(request)
            if not tries:
                return []
            upstream, status, milliseconds = tries[-1].upstream, tries[-1].status, tries[-1].milliseconds
        place = self._scene.places.get(upstream)
        if place is None or not place.is_program:
            return []
        return [_application(place.pod, status, milliseconds, self._scene)]

    def is_aside(self, request: Record) -> bool:
        """Return whether it came by a mirrored copy, or by a try after which another one was made."""
        for each in self._tries:
            if (each.upstream_local, each.upstream) != (request.downstream, request.local) or not request.is_inbound:
                continue
            if not lasted(each, request):
                continue
            owner = next((other for other in self.requests if is_of(each, other)), None)
            return owner is None or self.tries(owner)[-1] is not each
        return False

    def hop(self, record: Record) -> Hop:
        """Return what one Envoy did."""
        scene = self._scene
        found = Route(record, scene)
        cause = cause_of(record, scene, found.rule, found.route)
        tries = tuple(self._try(each) for each in self.tries(record))
        is_gateway = scene.is_gateway(record.envoy)
        is_inbound = record.is_inbound
        hop = Hop(
            kind=GATEWAY if is_gateway else SIDECAR,
            direction=None if is_gateway else "inbound" if is_inbound else "outbound",
            pod=record.envoy,
            namespace=scene.namespace(record.envoy),
            status=record.status,
            milliseconds=record.milliseconds,
            flags=record.flags,
            reason=cause.reason,
            rule=found.rule,
            matched=found.matched,
            passed_over=found.passed_over,
            destination=None if is_inbound else found.destination,
            retries=None if is_inbound else found.retries,
            timeout_seconds=None if is_inbound else found.timeout_seconds,
            tries=() if is_inbound else tries,
            mirrors=tuple(self._mirrors(record)),
            identity=record.peer_identity or None,
            decided_by=cause.decided_by,
        )
        return dataclasses.replace(hop, notes=tuple(notes_of(hop, record, scene, found.route)))

    def _try(self, record: Record) -> Try:
        door = self._doors.get((record.upstream_local, record.upstream))
        return Try(
            pod=self._pod(record.upstream),
            status=record.status,
            flags=record.flags,
            milliseconds=record.milliseconds,
            reason=try_reason(record, door if door and lasted(record, door) else None),
        )

    def _pod(self, upstream: str) -> str | None:
        place = self._scene.places.get(upstream)
        return place.pod if place else upstream or None

    def _mirrors(self, request: Record) -> Iterable[Mirror]:
        """Yield the copies of a request."""
        for each in self._tries:
            target = target_of(each.cluster)
            if target and is_mirror(each, request):
                pod = self._pod(each.upstream)
                yield Mirror(target.host, target.port, target.subset, pod, each.status, each.milliseconds)


def _application(pod: str, status: int | None, milliseconds: float, scene: Scene) -> Hop:
    return Hop(APPLICATION, None, pod, scene.namespace(pod), status, milliseconds)


def _with_words_of_applications(hops: Sequence[Hop], outcome: Outcome | None) -> list[Hop]:
    """Return the hops with what applications say of themselves: the version of the last, what proxies drop."""
    found = list(hops)
    if outcome is None:
        return found
    for index in range(len(found) - 1, -1, -1):
        hop = found[index]
        # A pod knows itself by its name within its namespace.
        names = (hop.pod, hop.pod.removesuffix(f".{hop.namespace}")) if hop.pod else ()
        if hop.kind == APPLICATION and outcome.pod in names:
            found[index] = dataclasses.replace(found[index], version=outcome.version)
            break
    dropped = sorted(outcome.not_passed_on - {"accept-encoding", "accept", "user-agent", "x-request-id"})
    own = [name for name in dropped if not name.startswith(("x-forwarded-", "x-envoy-"))]
    for index, hop in enumerate(found[:-1]):
        if hop.kind == APPLICATION and own:
            found[index] = dataclasses.replace(hop, notes=(*hop.notes, f"does not pass on {', '.join(own)}"))
            break
    return found


def outcome_of(call: Call) -> Outcome | None:
    """Return what the answer says of itself where it is an object of this program's applications."""
    try:
        document = json.loads(call.body)
    except (ValueError, RecursionError):
        return None
    return read_document(call.status or 0, document) if isinstance(document, dict) else None
