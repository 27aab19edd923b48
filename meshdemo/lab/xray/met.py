"""Which rules and policies each of many calls met, for those who count them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from meshdemo.lab.xray.facts.naming import Rule
from meshdemo.lab.xray.facts.records import Record, Records
from meshdemo.lab.xray.facts.scene import Scene
from meshdemo.lab.xray.joining import rules_met

# Records that are alike met the same; there are as many kinds of them as rules, reasons and hosts.
_MOST_KINDS = 1000


class MetRules:
    """Tells what calls met, by their x-request-ids. `scene` gives what stands there, which `state` tells apart."""

    def __init__(self, records: Records, scene: Callable[[], Scene], state: Callable[[], object]) -> None:
        self._records = records
        self._scene = scene
        self._state = state
        self._known: tuple[object, dict[tuple[Any, ...], tuple[Rule, ...]]] = (None, {})

    def of(self, request_ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """Return for each call that was seen the rules that it met, as docs/reference.md describes a rule."""
        state = self._state()
        if self._known[0] is not state or len(self._known[1]) > _MOST_KINDS:
            self._known = (state, {})
        known = self._known[1]
        scene: Scene | None = None
        met: dict[str, list[dict[str, Any]]] = {}
        for request_id in request_ids:
            rules: dict[Rule, None] = {}
            records = [each for each in self._records.of(request_id) if not each.is_try]
            for record in records:
                kind = _kind_of(record)
                if kind not in known:
                    scene = scene or self._scene()
                    known[kind] = rules_met(record, scene)
                rules |= dict.fromkeys(known[kind])
            if records:
                met[request_id] = [{**rule.as_json(), "label": rule.label} for rule in rules]
        return met


def _kind_of(record: Record) -> tuple[Any, ...]:
    """Return what two records have in common that met the same."""
    own = (record.envoy, record.routes, record.route, record.object, record.cluster, record.authority)
    sent = (record.path, *record.headers.items()) if "jwt" in record.details else ()
    return (record.is_inbound, *own, record.flags, record.details, record.allowed_by, sent)
