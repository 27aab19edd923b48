"""Whether all is there that the Envoys log of a call, and whether more may come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meshdemo.lab.engine import Resource
from meshdemo.lab.xray.facts.records import Record
from meshdemo.lab.xray.facts.relations import is_mirror, is_of
from meshdemo.lab.xray.facts.scene import Scene
from meshdemo.lab.xray.routes import find_by_name

# What an Envoy says of an answer that it only passes on.
_ANSWERED = "via_upstream"
_WHOLE = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}


def is_complete(records: Sequence[Record], scene: Scene) -> bool:
    """Return whether all is there that the Envoys log of a request, as far as its records can tell.

    Each request that left a pod has its tries, and each try that a sidecar took is a request there.
    """
    requests = [each for each in records if not each.is_try]
    tries = [each for each in records if each.is_try]
    doors = {(each.downstream, each.local) for each in requests}
    for request in requests:
        went_on = request.details == _ANSWERED and not request.is_inbound
        if went_on and not any(is_of(each, request) for each in tries):
            return False
        if sum(is_mirror(each, request) for each in tries) < sum(share == 1 for share in _mirrored(request, scene)):
            return False
    for each in tries:
        place = scene.places.get(each.upstream)
        if place and not place.is_program and each.status and (each.upstream_local, each.upstream) not in doors:
            return False
    return bool(requests)


def may_go_on(records: Sequence[Record], origin: str | None, scene: Scene) -> bool:
    """Return whether Envoys may log more of a call that is answered, though its records are complete.

    What a program calls by itself is not known before it is logged, nor which requests of a share are copied.
    """
    requests = [each for each in records if not each.is_try]
    tries = [each for each in records if each.is_try]
    sent = [each for each in requests if not each.is_inbound]
    if not any(each.envoy == origin if origin else scene.is_gateway(each.envoy) for each in sent):
        return True  # the first hop may still be on its way
    for request in sent:
        if request.envoy != origin and not scene.is_gateway(request.envoy):
            return True
        if sum(is_of(each, request) for each in tries) != request.tries:
            return True
        if any(share < 1 for share in _mirrored(request, scene)):
            return True
    places = [(scene.places.get(each.upstream), each.status) for each in tries]
    if not all(place and (place.is_program or status) for place, status in places):
        return (
            True  # it went on to an address of which more is not known, or a sidecar may have taken what was given up
        )
    reached = {each.envoy for each in requests if each.is_inbound} | {place.pod for place, _ in places if place}
    return any(pod.calls for pod in map(scene.pod, reached) if pod)


def _mirrored(request: Record, scene: Scene) -> Iterator[float]:
    """Yield for each copy of a request that its route asks for the share of requests that are copied, at most 1."""
    configuration = None if request.is_inbound else scene.routes(request.envoy, request.routes)
    route: Resource | None = find_by_name(configuration, request)[1] if configuration else None
    for policy in ((route or {}).get("route") or {}).get("request_mirror_policies", []):
        share = (policy.get("runtime_fraction") or {}).get("default_value") or {}
        yield int(share.get("numerator", 0)) / _WHOLE[share.get("denominator", "HUNDRED")]
