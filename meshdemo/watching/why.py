"""`watch --why`: one call of each kind, explained by the lab that it went through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from meshdemo.calling.connection import ConnectTo
from meshdemo.console.terminal import Marks, wrap
from meshdemo.errors import StartError, sentence
from meshdemo.escaping import printable
from meshdemo.explaining.text import format_short
from meshdemo.lab_socket import LabSocketError, ask, find_sockets
from meshdemo.watching.tally import Tally

# A pod that calls nobody gets a sidecar for its calls first.
_START_SECONDS = 60.0
_FIND_SECONDS = 2.0
# The last calls may be logged only a little later than the lab waits for.
_ASKS = 2
_LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Explained:
    """A kind of outcome in words, how many calls had it, and the last of them as the lab explains it.

    `call` is None where the lab cannot, and `problem` says why.
    """

    outcome: str
    calls: int
    call: Mapping[str, Any] | None
    problem: str = ""


def find_lab(url: str) -> Path | None:
    """Return the socket of the lab that listens at the port of a URL on this machine; None where there is none."""
    parts = urlsplit(url)
    if parts.hostname not in _LOOPBACK:
        return None
    for path in find_sockets():
        try:
            addresses = ask(path, "GET", "/", timeout_seconds=_FIND_SECONDS)["addresses"]
        except LabSocketError:  # it has ended
            continue
        if any(urlsplit(address["url"]).port == parts.port for address in addresses):
            return path
    return None


def require_lab(url: str) -> Path:
    """Return the same; raise StartError where there is none."""
    path = find_lab(url)
    if path is None:
        raise StartError(f"--why needs a lab of yours that is called at {url}: start one with meshdemo up -f.")
    return path


def find_ways(lab: Path, origin: str, url: str) -> tuple[tuple[ConnectTo, ...], bool]:
    """Return where the program of a pod or workload connects that calls a URL; raise StartError where it cannot.

    Beside that, whether it is a pod: who calls from outside comes to gateways, with certificates that the files made.
    """
    try:
        answer = ask(lab, "POST", "/ways", {"from": origin, "url": url}, timeout_seconds=_START_SECONDS)
    except LabSocketError as error:
        raise StartError(sentence(str(error))) from None
    ways = tuple((host, port, to_host, to_port) for host, port, to_host, to_port in answer["connect_to"])
    return ways, answer["pod"] is not None


def settle(tally: Tally, lab: Path) -> None:
    """Ask the lab for the flags of answers whose reason is a guess; what it does not know stays one."""
    for _ in range(_ASKS):
        if not tally.guesses:
            return
        try:
            flags = ask(lab, "POST", "/flags", list(tally.guesses))
        except LabSocketError:  # it has ended
            return
        for request_id, flag in flags.items():
            tally.decide(request_id, flag)


def explain(tally: Tally, lab: Path) -> list[Explained]:
    """Return each kind of outcome with its last call, the most frequent first."""
    found = []
    for words, kind in sorted(tally.kinds.items(), key=lambda item: -item[1].calls):
        try:
            call, problem = ask(lab, "GET", f"/calls/{kind.request_id}"), ""
        except LabSocketError as error:
            call, problem = None, str(error)
        found.append(Explained(words, kind.calls, call, problem))
    return found


def format_explained(found: Sequence[Explained], width: int, marks: Marks) -> list[str]:
    """Return a heading and a few lines for each."""
    lines = []
    for each in found:
        calls = f"{each.calls} call{'' if each.calls == 1 else 's'}"
        lines += ["", *wrap(printable(f"Why {each.outcome} ({calls}, the last of them):"), width)]
        if each.call:
            lines += format_short(each.call, width, marks)
        else:
            lines += [f"  {line}" for line in wrap(printable(each.problem), width - 2, "")]
    return lines


def explained_to_json(explained: Explained) -> dict[str, Any]:
    """Return the object that `--json` writes."""
    problem = explained.problem or None
    return {"outcome": explained.outcome, "count": explained.calls, "call": explained.call, "problem": problem}
