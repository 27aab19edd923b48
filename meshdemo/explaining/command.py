"""`meshdemo call`: has a running lab make one call, and shows why it went where it went."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from meshdemo import bundled
from meshdemo.console import terminal
from meshdemo.errors import StartError, sentence
from meshdemo.escaping import printable
from meshdemo.explaining.expectations import Expectation, Verdict, judge
from meshdemo.explaining.text import format_call
from meshdemo.lab_socket import LabSocketError, ask, find_sockets

# Longer than the lab gives one call.
_TIMEOUT_SECONDS = 90.0
_LOOPBACK = ("127.0.0.1", "localhost")
_MOST_WIDTH = 120


@dataclass(frozen=True)
class CallOptions:
    """What to call: from `origin`, a pod or workload, None for outside, in the lab of `lab_port`, None for any."""

    url: str
    method: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    origin: str | None = None
    lab_port: int | None = None


def command(options: CallOptions, expectations: Sequence[Expectation], *, as_json: bool) -> int:
    """Make the call and print its explanation; return the exit status."""
    socket = find_lab(options.lab_port, options.url if options.origin is None else None)
    headers = list(options.headers)
    if options.body is not None and not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", "application/x-www-form-urlencoded"))  # as curl says it
    asked = {
        "from": options.origin,
        "method": options.method or ("GET" if options.body is None else "POST"),
        "url": options.url,
        "headers": headers,
        "body": options.body or "",
    }
    try:
        call = ask(socket, "POST", "/call", asked, timeout_seconds=_TIMEOUT_SECONDS)
    except LabSocketError as error:
        raise StartError(sentence(str(error))) from None
    verdicts = judge(expectations, call)
    if as_json:
        shown = {**call, "expectations": [_verdict(each) for each in verdicts]} if expectations else call
        click.echo(json.dumps(shown, indent=2))
    else:
        marks = terminal.marks_for(sys.stdout)
        width = min(terminal.size_of(sys.stdout)[0], _MOST_WIDTH)
        for line in [*format_call(call, width, marks), *_format_verdicts(verdicts, marks)]:
            click.echo(line)
    met = all(each.is_met for each in verdicts)
    return 0 if met and (expectations or call["answer"]["status"] is not None or call["answer"]["body"]) else 1


def find_lab(port: int | None, url: str | None = None) -> Path:
    """Return the socket of a lab: that of `port`, the one that a URL leads to, or the one that there is.

    Raise StartError where it cannot be told which.
    """
    labs: dict[Path, dict[str, Any]] = {}
    for path in find_sockets():
        try:
            labs[path] = ask(path, "GET", "/", timeout_seconds=2)
        except LabSocketError:  # it has just ended
            continue
    if port is not None:
        found = [path for path, lab in labs.items() if lab["port"] == port]
        problem = f"no lab of yours has port {port}"
    else:
        parts = urlsplit(url or "")
        is_here = parts.hostname in _LOOPBACK
        found = [
            path
            for path, lab in labs.items()
            if is_here and any(urlsplit(address["url"]).port == parts.port for address in lab["addresses"])
        ] or list(labs)
        problem = "several labs run: choose one with --lab" if labs else "no lab of yours runs"
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{lab['port']} ({', '.join(map(bundled.shown, lab['files']))})" for lab in labs.values())
    raise StartError(f"{problem}: {known}." if known else "no lab of yours runs: start one with meshdemo up -f.")


def _format_verdicts(verdicts: Sequence[Verdict], marks: terminal.Marks) -> list[str]:
    lines = []
    for each in verdicts:
        mark = click.style(marks.met, fg="green") if each.is_met else click.style(marks.unmet, fg="red")
        seen = "" if each.is_met else f": {', '.join(dict.fromkeys(each.seen)) or 'none'}"
        lines.append(f"{mark} {printable(f'{each.expectation}{seen}')}")
    return ["", *lines] if lines else []


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {"expectation": str(verdict.expectation), "met": verdict.is_met, "seen": list(verdict.seen)}
