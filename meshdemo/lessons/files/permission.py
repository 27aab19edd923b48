"""Which commands of a lesson run without being asked for: those that call this machine, and read.

A lesson's file can come from anywhere. What it runs beyond these is shown to the person first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from meshdemo.lessons.files.comment import Command

_LOCAL_URL = re.compile(r"http://(127\.0\.0\.1|localhost)(:\d+)?(/[\w./?=&%+~-]*)?")
# Options by program: those that stand alone, and those that take a value.
_CURL_FLAGS = frozenset(
    "-s -S -sS -i -si -sSi -I -sI -v -sv -f -sf --silent --show-error --include --head --verbose --fail".split()  # noqa: SIM905
)
_CURL_OPTIONS = frozenset({"-H", "--header", "-X", "--request", "-m", "--max-time", "-A", "--user-agent"})
_KUBECTL_FLAGS = frozenset({"-A", "--all-namespaces", "-p", "--previous", "--timestamps", "--show-labels"})
_KUBECTL_OPTIONS = frozenset(
    "-n --namespace -l --selector -c --container -o --output --tail --since --address".split()  # noqa: SIM905
)
_FILTERS = frozenset({"grep", "head", "wc"})


def is_usual(command: Command) -> bool:
    """Tell whether a command is one that lessons run: it calls this machine or the mesh, or reads what is there."""
    first, *rest = command.pipeline
    return _is_usual_first(first) and all(words[0] in _FILTERS and _reads_nothing_else(words) for words in rest)


def _is_usual_first(words: Sequence[str]) -> bool:
    program, *arguments = words
    if program == "meshdemo":
        return arguments[:1] in (["call"], ["watch"])
    if program == "curl":
        plain, is_known = _without_options(arguments, _CURL_FLAGS, _CURL_OPTIONS)
        return is_known and bool(plain) and all(_LOCAL_URL.fullmatch(url) for url in plain)
    if program == "kubectl":
        plain, is_known = _without_options(arguments, _KUBECTL_FLAGS, _KUBECTL_OPTIONS)
        return is_known and plain[:1] in (["logs"], ["port-forward"], ["get"])
    return False


def _without_options(
    arguments: Sequence[str], alone: frozenset[str], with_value: frozenset[str]
) -> tuple[list[str], bool]:
    """Return the arguments that are no options or their values, and whether each option is among those given."""
    plain, rest = [], list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            plain.append(word)
        elif name in with_value:
            value = value if equals else rest.pop(0) if rest else ""
            if value.startswith("@"):  # curl would read a file
                return plain, False
        elif word not in alone:
            return plain, False
    return plain, True


def _reads_nothing_else(words: Sequence[str]) -> bool:
    """Tell whether a program behind a pipe reads that alone: no file, by name or by option."""
    plain = [word for word in words[1:] if not word.startswith("-")]
    options = [word for word in words[1:] if word.startswith("-")]
    most = 1 if words[0] in ("grep", "head") else 0  # a pattern, the number behind -n
    return len(plain) <= most and not any(
        re.match(r"-\w*[frR]|--(file|files0-from|recursive|dereference)", word) for word in options
    )
