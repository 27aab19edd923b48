"""One call where no lab explains it, as on a cluster: a watch of one call, judged by what its answer says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshdemo.errors import StartError, sentence
from meshdemo.explaining.expectations import Expectation, judge, parse_expectation
from meshdemo.lessons.files.comment import Command
from meshdemo.lessons.running import promises
from meshdemo.lessons.running.promises import Result, call_verdict
from meshdemo.lessons.stages.stage import Stage

# What an answer says of itself.
_JUDGED = ("status", "pod", "version")


def run(stage: Stage, command: Command) -> Result:
    """Make the call of a command, and return what became of what it expects; raise StartError where it is not made."""
    watch, expectations = _as_watch(command.pipeline[-1])
    judged = [each for each in expectations if each.subject in _JUDGED]
    others = tuple(str(each) for each in expectations if each.subject not in _JUDGED)
    if not judged:
        return Result(command, not_judged=others)
    report = promises.run(stage, Command((tuple(watch),))).report
    verdicts = [
        call_verdict(str(each.expectation), each.seen, met=each.is_met) for each in judge(judged, _call(report))
    ]
    return Result(command, verdicts, not_judged=others)


def _as_watch(words: Sequence[str]) -> tuple[list[str], list[Expectation]]:
    """Return the watch that makes the same call, and what the call is expected to be."""
    watch, expectations = ["meshdemo", "watch", "-n", "1"], []
    rest = iter(words[2:])
    for word in rest:
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in ("--expect", "-H", "--header"):
            value = value if equals else next(rest, "")
            if name != "--expect":
                watch += ["--header", value]
                continue
            try:
                expectations.append(parse_expectation(value))
            except ValueError as error:
                raise StartError(sentence(f"{value!r}: {error}")) from None
        elif word.startswith("-"):
            raise StartError(f"{name} is for calls in a lab: on a cluster a call is a GET, with headers.")
        else:
            watch.append(word)
    return watch, expectations


def _call(report: dict[str, Any]) -> dict[str, Any]:
    """Return what a watch of one call reports, as far as expectations of a call ask for it (see Call.as_json)."""
    version = next(iter(report["versions"]), None)
    answer = {"result": next(iter(report["statuses"]), None), "version": version and version["content"], "body": ""}
    hops = [{"pod": version["pods"][0]["hostname"], "version": version["content"]}] if version else []
    return {"request": {"url": report["url"]}, "answer": answer, "hops": hops}
