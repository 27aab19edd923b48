"""What sidecars and gateways write of requests, with pods where ports on loopback stand, and the rule behind each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from meshdemo.lab.envoy.endpoints import HOST
from meshdemo.lab.pods.pod import RunningPod
from meshdemo.lab.xray.facts.naming import Rule, RuleBook

_ADDRESS = re.compile(rf"{re.escape(HOST)}:(\d+)")


class RequestLog:
    """Passes lines on. `pods` returns those that take calls; `book`, once it is set, finds rules by their routes."""

    def __init__(self, log: Callable[[str, str], object], pods: Callable[[], Mapping[str, RunningPod]]) -> None:
        self._log = log
        self._pods = pods
        self.book: RuleBook | None = None

    def write(self, source: str, line: str) -> None:
        """Take a line that one of them has written; the name of its route is the last word."""
        rule = self.book.find(line.rpartition(" ")[2]) if self.book else None
        ports = {
            port: f"{pod.pod.name}:{number}"
            for pod in self._pods().values()
            for listening in (pod.ports.apps, pod.ports.inbound)
            for number, port in listening.items()
        }
        named = _ADDRESS.sub(lambda found: ports.get(int(found[1]), found[0]), line)
        self._log(source, f"{named} {_place(rule)}" if rule else named)


def _place(rule: Rule) -> str:
    number = "" if rule.rule is None else f"[{rule.rule}]"
    return f"{rule.kind}/{rule.name}{number} {rule.file}:{rule.line}"
