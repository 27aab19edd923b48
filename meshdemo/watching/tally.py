"""Counts what came back: who answered, with what status, how fast, and what the mesh did on the way."""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meshdemo.calling.upstream import Answer, UpstreamError
from meshdemo.escaping import replace_surrogates
from meshdemo.watching.pace import Sample

_TEXT_LENGTH = 300
# What is read of a text to group by; a pattern on a text of 1 MiB, all digits, would take for ever.
_READ_LENGTH = 2000
_MILLISECONDS = re.compile(r"\d+(\.\d+)?( ?ms\b| milliseconds)")
# More than a day, the longest time limit that a proxy takes.
_MOST_MILLISECONDS = 1e8
# The elements of X-Forwarded-Client-Cert, each from one proxy, and the caller's identity in one of them (Envoy, "HTTP
# header manipulation", x-forwarded-client-cert). Quotes may hold commas.
_CLIENT_CERT = re.compile(r'(?:[^,"]|"[^"]*")+')
_IDENTITY = re.compile(r'(?:^|;)\s*URI="?([^;",]+)')


@dataclass
class Count:
    """How many answers there were, and how many of them had a status of 500 or more."""

    answers: int = 0
    failed: int = 0

    def add(self, status: int) -> None:
        """Count one answer."""
        self.answers += 1
        self.failed += status >= 500


@dataclass
class Tally:
    """What came back so far.

    `pods` counts by version and pod, `texts` by status and text what no application signed, `statuses` what the
    application or the mesh answered, `errors` why a proxy got no answer, `unanswered` why this program got none.
    `caller_milliseconds` and `proxy_milliseconds` hold one time per answer. As the web server saw the call: `tries`
    counts by the number of the try, `identities` by whom mutual TLS proved the caller to be, `paths` by path.
    """

    requests: int = 0
    late: int = 0
    pods: dict[str, dict[str, Count]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Count)))
    texts: Counter[tuple[int, str]] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    tries: Counter[int] = field(default_factory=Counter)
    identities: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    caller_milliseconds: array[float] = field(default_factory=lambda: array("d"))
    proxy_milliseconds: array[float] = field(default_factory=lambda: array("d"))

    def add(self, sample: Sample) -> None:
        """Count one sample."""
        self.requests += 1
        self.late += sample.late
        if isinstance(sample.outcome, UpstreamError):
            self.unanswered[_shortened(str(sample.outcome))] += 1
            return
        self.caller_milliseconds.append(sample.seconds * 1000)
        status, seen = sample.outcome.status, _parsed(sample.outcome)
        match seen:  # a proxy's answer, which holds another
            case {"value": _, "status": None, "error": str(reason), "milliseconds": milliseconds} if _is_time(
                milliseconds
            ):
                self.proxy_milliseconds.append(milliseconds)
                self.errors[_shortened(reason)] += 1
                return
            case {"value": value, "status": inner, "error": None, "milliseconds": milliseconds} if _is_time(
                milliseconds
            ) and _is_status(inner):
                self.proxy_milliseconds.append(milliseconds)
                status, seen = inner, value
        self.statuses[status] += 1
        match seen:
            case {"content": str(content), "hostname": str(hostname), "status": _}:
                self.pods[_shortened(content)][_shortened(hostname)].add(status)
                self._add_facts(seen)
            case _:
                self.texts[status, _label(seen)] += 1

    def _add_facts(self, seen: Mapping[str, Any]) -> None:
        """Count what the web server saw of the call, as far as it says so."""
        if isinstance(path := seen.get("path"), str):
            self.paths[_shortened(path)] += 1
        headers = seen.get("headers")
        if not isinstance(headers, dict):
            return
        attempt = headers.get("X-Envoy-Attempt-Count")
        if isinstance(attempt, str) and re.fullmatch(r"[1-9][0-9]{0,3}", attempt):
            self.tries[int(attempt)] += 1
        certificate = headers.get("X-Forwarded-Client-Cert")
        elements = _CLIENT_CERT.findall(certificate) if isinstance(certificate, str) else []
        # The last one is the nearest caller's, which this pod's own sidecar added.
        if elements and (identity := _IDENTITY.search(elements[-1])):
            self.identities[_shortened(identity[1])] += 1


def _is_time(milliseconds: Any) -> bool:
    return type(milliseconds) in (int, float) and 0 <= milliseconds < _MOST_MILLISECONDS


def _is_status(status: Any) -> bool:
    """Tell whether it is a status code by its form (RFC 9110, 15)."""
    return type(status) is int and 100 <= status <= 999


def _parsed(answer: Answer) -> Any:
    """Return the JSON of an answer, or its text; Python would also read NaN and Infinity, which are no JSON."""
    if answer.media_type == "application/json":
        try:
            return json.loads(answer.text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            pass
    return answer.text


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _label(seen: Any) -> str:
    """Return one line to group by: the text without its numbers of milliseconds."""
    try:
        text = seen if isinstance(seen, str) else json.dumps(seen)
    except RecursionError:
        text = "JSON that is nested too deeply"
    text = " ".join(text[:_READ_LENGTH].split())
    return _shortened(_MILLISECONDS.sub(r"N\2", text))


def _shortened(text: str) -> str:
    """Return a text that can be kept and printed: of limited length, without lone surrogates."""
    return replace_surrogates(text if len(text) <= _TEXT_LENGTH else text[:_TEXT_LENGTH] + "...")
