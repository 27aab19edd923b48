"""For each rule of a policy a call that was seen to meet it and one that was seen not to, or why there is none."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from meshdemo.errors import StartError, sentence
from meshdemo.explaining.words import Object
from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lessons.proposing.behind_gateways import behind_gateways
from meshdemo.lessons.proposing.conditions import Condition, NoValueError, Wish, choose
from meshdemo.lessons.proposing.places import NoPlaceError, Place, places_of
from meshdemo.lessons.proposing.reading import KINDS, delegate_of, find_root, rules_of
from meshdemo.lessons.proposing.seen import MET, NOT_MET, Target, describe, expectations, failure_of, judge, target_of

_WIDTH = 100
# How many calls are made to find one.
_MOST_CALLS = 6
# What stands in a path and in a query as it is: an escape is one already.
_SAFE_IN_PATH = "/%:@!$&'()*+,;=~"
_SAFE_IN_QUERY = "/:@!$'()*,;~"

#: Makes the call of a command, and returns its explanation; raises StartError where there is none.
Make = Callable[[Sequence[str]], Object]


@dataclass(frozen=True)
class Proposal:
    """A call as a command without expectations, what it is expected to be, and which rule it is about."""

    title: str
    command: tuple[str, ...]
    expected: tuple[str, ...]

    def __str__(self) -> str:
        return f"# {self.title}\n{format_command(self.command, self.expected)}"


def propose(manifests: Sequence[Manifest], policies: Iterable[Manifest], cluster: Cluster, make: Make) -> Iterator[str]:
    """Yield lines of a comment: calls for the rules of manifests, and a sentence for each rule without one.

    `policies` are all that are applied.
    """
    random = {key for each in policies for key in _random_rules(each)}
    known = [each for each in manifests if (each.group, each.kind) in KINDS]
    if not known:
        yield "# no VirtualService, HTTPRoute or AuthorizationPolicy is in it"
    for manifest in known:
        for line in _Search(manifest, cluster, make, random).lines():
            yield line if line.startswith("#") else f"# {sentence(line)}"


def format_command(command: Sequence[str], expected: Sequence[str]) -> str:
    """Return a call with what it expects, as the comment of a file has it, an expectation a line where it is long."""
    parts = [shlex.join(command), *(shlex.join(("--expect", each)) for each in expected)]
    line = f"#   {' '.join(parts)}"
    return line if len(line) <= _WIDTH else "#   " + " \\\n#     ".join(parts)


def command_of(wish: Wish) -> tuple[str, ...]:
    """Return the command that makes a call."""
    place, port = wish.place, wish.port
    host = place.host if port.number == {"http": 80, "https": 443}[port.scheme] else f"{place.host}:{port.number}"
    query = "&".join(
        f"{quote(name, safe=_SAFE_IN_QUERY)}={quote(value, safe=_SAFE_IN_QUERY)}" for name, value in wish.query
    )
    url = f"{port.scheme}://{host}{quote(wish.path, safe=_SAFE_IN_PATH)}{'?' if query else ''}{query}"
    authority = wish.authority or (place.authority if place.authority != place.host else "")
    headers = [("Host", authority)] * bool(authority) + list(wish.headers)
    return (
        "meshdemo",
        "call",
        url,
        *(("--from", wish.caller.workload) if wish.caller else ()),
        *(("-X", wish.method) if wish.method != "GET" else ()),
        *(part for name, value in headers for part in ("-H", f"{name}: {value}")),
    )


class _Search:
    """Looks for calls for the rules of one policy."""

    def __init__(self, manifest: Manifest, cluster: Cluster, make: Make, random: set[tuple[Any, ...]]) -> None:
        self._manifest = manifest
        self._cluster = cluster
        self._make = make
        self._random = random
        self._made: dict[tuple[str, ...], Object | str] = {}

    def lines(self) -> Iterator[str]:
        """Yield proposals as lines of a comment, and sentences without their full stop."""
        manifest = self._manifest
        label = f"{manifest.kind}/{manifest.name}"
        rules = rules_of(manifest)
        if not rules:
            yield f"{label}: it has no rule for HTTP, so no call is proposed"
            return
        root, before = find_root(manifest, self._cluster.policies)
        try:
            places = places_of(root or manifest, self._cluster)
            places += behind_gateways(places, self._cluster) if manifest.kind == "AuthorizationPolicy" else ()
        except NoPlaceError as problem:
            yield f"{label}: {problem}, so no call is proposed"
            return
        for number, rule in enumerate(rules):
            target = target_of(manifest, number)
            if target.action not in ("", "ALLOW", "DENY"):
                yield f"{target.title}: no call is proposed: {target.action} neither allows nor denies what meets it"
                continue
            if delegate := delegate_of(manifest, number):
                yield f"{target.title}: no call is proposed: it delegates to VirtualService/{delegate}"
                continue
            alternatives = [[*first, *conditions] for first in before for conditions in rule]
            for conditions in alternatives:
                yield self._find(target, MET, places, [(conditions, None)])
            if all(rule):
                missing = [(alternatives[0], each) for each in rule[0]]
                yield self._find(target, NOT_MET, places, missing)

    def _find(
        self,
        target: Target,
        wanted: str,
        places: Sequence[Place],
        tries: Sequence[tuple[Sequence[Condition], Condition | None]],
    ) -> str:
        """Return a call for which was seen what is wanted, else a sentence on why there is none."""
        reasons: dict[str, None] = {}
        seen: list[str] = []
        wishes = itertools.chain.from_iterable(
            _chosen(conditions, place, missed, reasons) for conditions, missed in tries for place in places
        )
        for wish in itertools.islice(wishes, _MOST_CALLS):
            command = command_of(wish)
            call = self._call(command)
            if isinstance(call, str):
                reasons[call] = None
            elif judge(call, target, wish.place.pods) == wanted:
                expected = tuple(expectations(call, self._random))
                return str(Proposal(f"{target.title}: {wanted}{failure_of(call)}", command, expected))
            else:
                seen.append(f"{shlex.join(command[1:])} {describe(call)}")
        verb = "meets it" if wanted == MET else "does not meet it"
        others = [each.words for conditions, _ in tries for each in conditions if each.part == "other"]
        asked = f"no call here chooses {', '.join(dict.fromkeys(others))}, and " if others else ""
        return f"{target.title}: no call is proposed that {verb}: {asked}{[*seen, *reasons][0]}"

    def _call(self, command: tuple[str, ...]) -> Object | str:
        """Return the explanation of a call, or why there is none; each is made once."""
        if command not in self._made:
            try:
                self._made[command] = self._make(command)
            except StartError as error:
                self._made[command] = str(error).rstrip(".")
        return self._made[command]


def _chosen(
    conditions: Sequence[Condition], place: Place, missed: Condition | None, reasons: dict[str, None]
) -> Iterator[Wish]:
    """Yield calls, and keep the reason where there are none."""
    try:
        yield from itertools.islice(choose(conditions, place, missed), 2)
    except NoValueError as problem:
        reasons[str(problem)] = None


def _random_rules(manifest: Manifest) -> Iterator[tuple[Any, ...]]:
    """Yield the rules of a VirtualService that abort some of the calls, drawn at random."""
    rules = manifest.spec.get("http") if manifest.kind == "VirtualService" else None
    for number, rule in enumerate(rules or ()):
        abort = (rule.get("fault") or {}).get("abort") or {}
        share = (abort.get("percentage") or {}).get("value", 0)
        if abort and 0 < share < 100:
            yield manifest.kind, manifest.namespace, manifest.name, number
