"""What somebody expects of one call: `rule=VirtualService/webserver[1]`, read and judged.

An expectation is a subject, an equals sign and a value, in which `*` stands for any characters.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from meshdemo.explaining.words import Object, is_tcp, name_rule

# Subjects that may be named without the number of the rule.
_OF_RULES = ("rule", "decided-by")
# What a call can be where HTTP is not spoken, and what Envoys know of one there.
_TCP_STATUSES = ("answered", "none")
_OF_TCP = ("status", "pod", "version", "decided-by", "subset", "identity")


@dataclass(frozen=True)
class Expectation:
    """What is wanted of a subject."""

    subject: str
    value: str

    def __str__(self) -> str:
        return f"{self.subject}={self.value}"

    def fits(self, text: str) -> bool:
        """Return whether a text is what is wanted."""
        return bool(re.fullmatch(".*".join(map(re.escape, self.value.split("*"))), text, re.DOTALL))


@dataclass(frozen=True)
class Verdict:
    """An expectation, and what was seen: nothing, one value, or several that are one each hop's."""

    expectation: Expectation
    seen: tuple[str, ...]

    @property
    def is_met(self) -> bool:
        """Whether one of what was seen is what was expected."""
        numberless = [each.partition("[")[0] for each in self.seen if self.expectation.subject in _OF_RULES]
        return any(map(self.expectation.fits, (*self.seen, *numberless)))


def parse_expectation(text: str) -> Expectation:
    """Return the expectation that a text means, or raise ValueError, which names the part that is wrong."""
    subject, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not subject or not value:
        raise ValueError("is not SUBJECT=VALUE, such as status=403")
    if subject not in SUBJECTS:
        close = difflib.get_close_matches(subject, SUBJECTS, 1, 0.6)
        hint = f", did you mean {close[0]!r}" if close else ""
        raise ValueError(f"{subject!r} is none of {', '.join(SUBJECTS)}{hint}")
    return Expectation(subject, value)


def check_for_tcp(expectations: Sequence[Expectation]) -> None:
    """Raise ValueError for an expectation that no call to tcp:// can meet."""
    for each in expectations:
        if each.subject not in _OF_TCP:
            raise ValueError(f"{str(each)!r}: of tcp:// there is only {', '.join(_OF_TCP)}")
        if each.subject == "status" and not any(map(each.fits, _TCP_STATUSES)):
            raise ValueError(f"{str(each)!r}: the status of tcp:// is {' or '.join(_TCP_STATUSES)}")


def judge(expectations: Sequence[Expectation], call: Object) -> list[Verdict]:
    """Return what became of each expectation."""
    return [Verdict(each, tuple(SUBJECTS[each.subject](call))) for each in expectations]


def _status(call: Object) -> Iterator[str]:
    answer = call["answer"]
    if answer["result"] is not None:
        yield str(answer["result"])
    else:
        yield "answered" if is_tcp(call) and answer["body"] else "none"


def _pods(call: Object) -> Iterator[str]:
    """Yield the pod whose program answered, else the one whose sidecar or gateway did; nothing where nobody did."""
    if call["hops"] and (call["answer"]["result"] is not None or call["answer"]["body"]):
        signed = [hop for hop in call["hops"] if hop["version"]]
        yield (signed or call["hops"])[-1]["pod"]


def _version(call: Object) -> Iterator[str]:
    if call["answer"]["version"]:
        yield call["answer"]["version"]


def _rules(field: str) -> Callable[[Object], Iterator[str]]:
    """Return what yields the rule of each hop."""

    def find(call: Object) -> Iterator[str]:
        for hop in call["hops"]:
            if rule := hop[field]:
                yield name_rule(rule)

    return find


def _tries(call: Object) -> Iterator[str]:
    counts = [
        len(hop["tries"]) for hop in call["hops"] if hop["direction"] != "inbound" and hop["kind"] != "application"
    ]
    if counts:
        yield str(counts[-1])


def _subsets(call: Object) -> Iterator[str]:
    for hop in call["hops"]:
        if hop["destination"] and hop["destination"]["subset"]:
            yield hop["destination"]["subset"]


def _identities(call: Object) -> Iterator[str]:
    for hop in call["hops"]:
        if hop["identity"]:
            yield hop["identity"]


SUBJECTS: dict[str, Callable[[Object], Iterator[str]]] = {
    "status": _status,
    "pod": _pods,
    "version": _version,
    "rule": _rules("rule"),
    "decided-by": _rules("decided_by"),
    "tries": _tries,
    "subset": _subsets,
    "identity": _identities,
}
