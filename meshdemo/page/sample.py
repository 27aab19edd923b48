"""What the live page shows of one answer: who gave it, whether it failed and why, and what a mesh said on the way."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meshdemo.answers import read_proxied, shorten
from meshdemo.reasons import Origin, Reason, confirm, find_reason

#: Tells by x-request-id with which flag an Envoy answered a call itself, empty for one without a flag, None where no
#: Envoy did; calls of which it knows nothing yet are left out.
AskFlags = Callable[[Sequence[str]], "Mapping[str, str | None]"]

_TEXT_LENGTH = 200
# How often somebody is asked for the flags of guesses, and how old one may become; an Envoy says what it logs
# every 100 ms.
_ASK_SECONDS, _MOST_SECONDS = 0.1, 1.0


def make_sample(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of the proxy's answer (its JSON form), each text on one line and cut.

    `version` and `pod` are None where no application signed, and then `text` is what was answered. `reason` and
    `explanation` say why a call failed that no application answered, `guessed` whether another server may have answered
    so, too. `attempt` is which try it was, and `caller` the identity by which mutual TLS knew the proxy, where a mesh
    told the application.
    """
    outcome = read_proxied(document)
    sample = {
        "version": outcome.version,
        "pod": outcome.pod,
        "path": outcome.path,
        "status": outcome.status,
        "failed": outcome.is_failed,
        "milliseconds": document["milliseconds"],
        "attempt": outcome.attempt,
        "caller": outcome.identity,
        "text": outcome.text if outcome.version is None else None,
        "reason": None,
        "explanation": None,
        "guessed": False,
    }
    if outcome.status is None:
        sample |= {"reason": outcome.error_code or outcome.error, "text": outcome.error}
    elif outcome.version is None and outcome.is_failed:
        reason = outcome.reason
        sample |= _explained(outcome.status, outcome.text, reason) | {"guessed": bool(reason and reason.is_guess)}
    return {name: _one_line(value) if isinstance(value, str) else value for name, value in sample.items()}


def _start_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


class Guesses:
    """Samples whose reason is a guess, until it is known what an Envoy has logged of their calls.

    `ask` may take its time: `start` has it work beside whoever makes the calls.
    """

    def __init__(self, ask: AskFlags, start: Callable[[Callable[[], None]], None] = _start_thread) -> None:
        self._ask = ask
        self._start = start
        self._held: list[tuple[float, dict[str, Any]]] = []
        self._known: dict[str, str | None] = {}
        self._asking = threading.Semaphore()
        #: When `settle` has something to do, in seconds.
        self.due = math.inf

    def __len__(self) -> int:
        return len(self._held)

    def add(self, sample: dict[str, Any], now: float) -> None:
        """Keep a sample, which has an `id`, for some time; `now` is in seconds."""
        self._held.append((now, sample))
        self.due = min(self.due, now + _ASK_SECONDS)

    def settle(self, now: float) -> list[dict[str, Any]]:
        """Return those that are known by now, put right, and those that nobody knows after a second, as they are.

        Each says for how long it was kept, as `held_milliseconds`.
        """
        ids = [sample["id"] for _, sample in self._held if sample["id"] not in self._known]
        if ids and self._asking.acquire(blocking=False):
            try:
                self._start(lambda: self._learn(ids))
            except RuntimeError:  # there are too many threads: who asks later may have more luck
                self._asking.release()
        settled, held = [], []
        for since, sample in self._held:
            if sample["id"] in self._known:
                settled.append(_put_right(sample, self._known.pop(sample["id"])))
            elif now > since + _MOST_SECONDS:
                settled.append(sample)
            else:
                held.append((since, sample))
                continue
            settled[-1]["held_milliseconds"] = round((now - since) * 1000)
        self._held = held
        self.due = now + _ASK_SECONDS if held else math.inf
        return settled

    def _learn(self, request_ids: Sequence[str]) -> None:
        try:
            self._known.update(self._ask(request_ids))
        finally:
            self._asking.release()


def _put_right(sample: Mapping[str, Any], flag: str | None) -> dict[str, Any]:
    """Return a sample whose reason is a guess with what an Envoy has logged: an application's own 404 is no failure."""
    status, text = sample["status"], sample["text"]
    guess = find_reason(status, text, Origin.ENVOY)
    failed = status >= 500 or flag is not None
    reason = confirm(guess, flag, status) if guess and flag else None
    explained = _explained(status, text, reason) if failed else {"reason": None, "explanation": None}
    return {**sample, **explained, "failed": failed, "guessed": False}


def _explained(status: int, text: str, reason: Reason | None) -> dict[str, Any]:
    return {
        "reason": reason.label if reason else f"{status} {text}".strip(),
        "explanation": reason and reason.explanation,
    }


def _one_line(text: str) -> str:
    return shorten(" ".join(text.split()), _TEXT_LENGTH, "…")
