"""The explanation of one call as text: for `meshdemo call` in full, for `meshdemo watch --why` in a few lines.

It reads the object that the lab gives (docs/reference.md, "The object of a call"). What a server or a file says goes
through `printable` before it becomes a line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from meshdemo.console import terminal
from meshdemo.console.terminal import Marks
from meshdemo.escaping import printable
from meshdemo.explaining.words import (
    Object,
    explain_decision,
    format_answer,
    format_destination,
    format_milliseconds,
    format_place,
    format_retries,
    format_try,
    is_tcp,
    name_rule,
)

_INDENT, _DEEPER = "    ", "      "
_LEAST_WIDTH = 40
# Of the rules that a call passed, how many the short form names.
_MOST_PASSED_OVER = 3


def format_call(call: Object, width: int, marks: Marks) -> list[str]:
    """Return the lines that explain a call in full, none wider than `width` columns."""
    writer = _Writer(max(_LEAST_WIDTH, width), marks)
    writer.head(call)
    for hop in call["hops"]:
        writer.hop(hop)
    # A pod outside the mesh connects by itself.
    if not (call["hops"] or is_tcp(call)):
        writer.add("no Envoy saw the call")
    return writer.lines


def format_short(call: Object, width: int, marks: Marks, indent: str = "  ") -> list[str]:
    """Return a few lines for each hop at which something was decided."""
    writer = _Writer(max(_LEAST_WIDTH, width), marks)
    for hop in call["hops"]:
        first, *rest = *_short_parts(hop), ""
        if first:
            writer.add(f"{indent}{hop['pod']}: {first}", deeper=indent * 3)
        for part in filter(None, rest):
            writer.add(f"{indent * 2}{part}", deeper=indent * 3)
    return writer.lines or [f"{indent}no Envoy decided anything"]


def _short_parts(hop: Object) -> Iterator[str]:
    if hop["kind"] == "application" and not hop["reason"]:
        return
    if hop["rule"]:
        yield _with_words(hop["rule"], hop.get("matched"))
    yield from (f"not {_with_words(each['rule'], each['because'])}" for each in hop["passed_over"][:_MOST_PASSED_OVER])
    if hop["destination"] and hop["direction"] != "inbound":
        yield f"to {format_destination(hop['destination'])}"
    tries = hop["tries"]
    if len(tries) > 1 or any(each["status"] is None or each["status"] >= 500 for each in tries):
        yield f"{len(tries)} {'try' if len(tries) == 1 else 'tries'}: " + ", ".join(
            f"{each['pod'] or 'no pod'} {format_answer(each['status'])}" for each in tries
        )
    elif hop["mirrors"]:
        yield "copied to " + ", ".join(each["pod"] or each["host"] for each in hop["mirrors"])
    if decision := explain_decision(hop):
        yield decision
    if hop["direction"] == "inbound" and hop["identity"]:
        yield f"from {hop['identity']}"
    yield from hop.get("notes", ())


def _with_words(rule: Object, words: str | None) -> str:
    return " ".join(filter(None, (name_rule(rule), format_place(rule), f"({words})" if words else "")))


class _Writer:
    """Lines of limited width."""

    def __init__(self, width: int, marks: Marks) -> None:
        self.lines: list[str] = []
        self._width = width
        self._marks = marks
        self._without_status = format_answer(None)

    def add(self, text: str, *, deeper: str = _DEEPER, met: bool | None = None) -> None:
        """Add a text, wrapped; `met` puts a check mark or a cross before it."""
        first = text[: len(text) - len(text.lstrip(" "))]
        text = printable(text.strip(" "))
        mark = "" if met is None else f"{self._marks.met if met else self._marks.unmet} "
        wrapped = terminal.wrap(mark + text, self._width - len(first), deeper[len(first) :])
        lines = [first + line for line in wrapped]
        if mark:
            coloured = click.style(mark, fg="green" if met else "red", bold=True)
            lines[0] = lines[0].replace(mark, coloured, 1)
        self.lines += lines

    def head(self, call: Object) -> None:
        """Add who called what, and what came of it."""
        request, answer = call["request"], call["answer"]
        origin = f" from {request['from']}" if request["from"] else ""
        left = printable(f"{request['method']} {request['url']}{origin}")
        status = answer["result"]
        # Where HTTP is not spoken there is no status, and whatever is said is the answer.
        is_answered = is_tcp(call) and bool(answer["body"])
        self._without_status = "answered" if is_answered else format_answer(None)
        came = format_answer(status) if status is not None else self._without_status
        right = f"{came} in {format_milliseconds(answer['milliseconds'])}"
        room = self._width - terminal.width_of(left)
        style = "green" if is_answered or (status is not None and status < 400) else "red"
        coloured = click.style(right, fg=style, bold=True)
        if room > len(right):
            self.lines.append(f"{left}{' ' * (room - len(right))}{coloured}")
        else:
            self.add(left, deeper=_INDENT)
            self.lines.append(f"{_INDENT}{coloured}")
        for line in answer["body"].splitlines() if is_answered else ():
            self.add(f"{_INDENT}{line}")
        if answer.get("error"):
            self.add(f"{_INDENT}{answer['error']}")

    def hop(self, hop: Object) -> None:
        """Add what one hop did with the call."""
        direction = f", {hop['direction']}" if hop["kind"] == "sidecar" else ""
        self.add(f"{hop['pod']}, {hop['kind']}{direction}", deeper=_INDENT)
        if hop["kind"] == "application":
            version = f"{hop['version']}, " if hop.get("version") else ""
            came = self._without_status if hop["status"] is None else format_answer(hop["status"])
            self.add(f"{_INDENT}{version}{came} in {format_milliseconds(hop['milliseconds'])}")
            self._decision(hop)
        elif hop["direction"] == "inbound":
            self._inbound(hop)
        else:
            self._outbound(hop)
        for note in hop.get("notes", ()):
            self.add(f"{_INDENT}{note}")

    def _outbound(self, hop: Object) -> None:
        self._rules(hop)
        if hop["destination"]:
            self.add(f"{_INDENT}to {format_destination(hop['destination'])}")
        if hop.get("retries") and (hop["tries"] or hop["reason"]):
            self.add(_INDENT + format_retries(hop["retries"]))
        if hop.get("timeout_seconds"):
            self.add(f"{_INDENT}timeout: {hop['timeout_seconds']:g} s for all tries together")
        for number, each in enumerate(hop["tries"], 1):
            self.add(_INDENT + format_try(number, each))
        self._decision(hop)
        for copy in hop["mirrors"]:
            target = copy["pod"] or f"{copy['host']}:{copy['port']}"
            came = f"{format_answer(copy['status'])} in {format_milliseconds(copy['milliseconds'])}"
            self.add(f"{_INDENT}a copy to {target}: {came}, which nobody sees")

    def _inbound(self, hop: Object) -> None:
        if hop["identity"]:
            self.add(f"{_INDENT}mutual TLS, the caller is {hop['identity']}")
        self._rules(hop)
        self._decision(hop)

    def _decision(self, hop: Object) -> None:
        words = explain_decision(hop)
        if hop["reason"] and (hop["status"] is None or hop["status"] >= 400):
            self.add(f"  {format_answer(hop['status'])}: {words}", met=False)
        elif hop["reason"]:
            self.add(f"{_INDENT}{words}")
        elif words:
            self.add(f"  {words}", met=True)

    def _rules(self, hop: Object) -> None:
        """Add the rules that were looked at, in columns where there is room for them."""
        rows = [(each["rule"], each["because"], False) for each in hop["passed_over"]]
        if hop["rule"]:
            rows.append((hop["rule"], hop.get("matched") or "", True))
        names = _name_rows([rule for rule, _, _ in rows])
        places = [printable(format_place(rule)) for rule, _, _ in rows]
        name_width, place_width = (max(map(terminal.width_of, column), default=0) for column in (names, places))
        before = 4 + name_width + 2 + place_width + 2
        longest = max((terminal.width_of(printable(words)) for _, words, _ in rows), default=0)
        for (_, words, met), name, place in zip(rows, names, places, strict=True):
            if before + longest <= self._width:
                cells = f"{terminal.pad(name, name_width)}  {terminal.pad(place, place_width)}  {words}"
                self.add(f"  {cells.rstrip()}", met=met)
            else:
                self.add(f"  {name}  {place}".rstrip(), met=met)
                if words:
                    self.add(_DEEPER + words)


def _name_rows(rules: Sequence[Object]) -> list[str]:
    """Return the names of rules, with the number of the match where a rule has several."""
    names = [name_rule(rule) for rule in rules]
    return [
        printable(f"{name}.match[{match}]" if match is not None and (match or names.count(name) > 1) else name)
        for name, match in zip(names, (rule.get("match") for rule in rules), strict=True)
    ]
