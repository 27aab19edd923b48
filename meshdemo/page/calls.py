"""The calls that the live page shows: made by the proxy at a steady pace, one JSON line for each answer.

A browser opens no more than six connections to a host, so it cannot call 100 times a second itself. It asks for a slice
of a few seconds instead, and for the next one as that ends: whoever leaves, or stops the proxy, waits for no more than
the calls of one slice.
"""

from __future__ import annotations

import json
import queue
import re
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from meshdemo.escaping import percent_encode
from meshdemo.page.sample import AskFlags, Guesses, make_sample
from meshdemo.serving import wsgi

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

RATE_LIMIT = 100
SECONDS_LIMIT = 5
#: Calls under way for all pages together: what two pages need at full rate while answers take two seconds.
CALL_LIMIT = 400

#: What a page asks the proxy to observe: path, query and headers in, the object of the proxy's JSON form out.
Observe = Callable[[str, str, Mapping[str, str]], Mapping[str, Any]]
#: What was changed lately, newest last: objects for the page, the same object as long as nothing is new.
Changes = Callable[[], "list[dict[str, Any]]"]

# None where a call ended by a mistake in this program.
Samples = queue.SimpleQueue["dict[str, Any] | None"]

# How often a stream looks for changes, and for a client that has gone, in seconds.
_LOOK_SECONDS = 0.25
_HEADERS = [
    ("Content-Type", "application/x-ndjson"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
]
_ID = "x-request-id"
# What a header's value may hold (RFC 9110, 5.5), as WSGI has it.
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class RequestError(Exception):
    """A slice that cannot be had; `str()` is one line for a person."""


@dataclass(frozen=True)
class Slice:
    """Calls to one path, `rate` a second for `seconds`; path, query and headers hold each byte as one character."""

    path: str
    query: str
    headers: Mapping[str, str]
    rate: int
    seconds: int


def parse_slice(query: str, header_names: Collection[str], own_path: str) -> Slice:
    """Return what the query of a request asks for, or raise RequestError.

    The rules are those of a request to the proxy itself: of headers only `header_names` cross, and `own_path`, what is
    below it, and the probes are not passed on.
    """
    # In latin-1, since a path and a header are bytes to WSGI, which need not be text.
    fields = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True, encoding="latin-1").items()}
    target = fields.get("path", "/").strip().partition("#")[0]
    path, query = wsgi.split_target(target if target.startswith("/") else f"/{target}")
    if path in (own_path, *wsgi.PROBE_PATHS) or path.startswith(own_path + "/"):
        raise RequestError(f"The proxy answers {percent_encode(path)} itself. Choose another path.")
    return Slice(
        path,
        query,
        _parse_header(fields.get("header", ""), header_names),
        _parse_number(fields, "rate", 10, RATE_LIMIT),
        _parse_number(fields, "seconds", 2, SECONDS_LIMIT),
    )


def _parse_number(fields: Mapping[str, str], name: str, default: int, limit: int) -> int:
    text = fields.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= limit:
        shown = percent_encode(text[:40]) or "empty"
        raise RequestError(f"The {name} is {shown}. Give a whole number from 1 to {limit}.")
    return int(text)


def _parse_header(text: str, names: Collection[str]) -> dict[str, str]:
    if not text.strip():
        return {}
    name, colon, value = (part.strip() for part in text.partition(":"))
    shown = percent_encode(name[:100])
    if not colon or not name or not _HEADER_VALUE.fullmatch(value):
        raise RequestError(f"{shown} is not a header. Give name and value, such as end-user:tester.")
    if name.lower() not in names:
        raise RequestError(f"The proxy does not pass on {shown}. Start it with --forward-header {shown}.")
    return {name.lower(): value} if value else {}


class Calls:
    """Makes slices of calls and streams their answers, as a WSGI application; bounded for all pages together.

    Each of at most `stream_limit` streams holds a thread of the server, and each call one of its own. `ask_flags` asks
    the lab, None where there is none: then each call has an x-request-id of its own, which its sample has as `id`, and
    the reasons of samples are not guessed.
    """

    def __init__(
        self,
        observe: Observe,
        header_names: Collection[str],
        changes: Changes,
        *,
        own_path: str,
        stream_limit: int,
        call_limit: int = CALL_LIMIT,
        ask_flags: AskFlags | None = None,
    ) -> None:
        self._observe = observe
        self._header_names = header_names
        self._own_path = own_path
        self._stream_limit = stream_limit
        self._call_limit = call_limit
        self._streams = threading.Semaphore(stream_limit)
        self._calls = threading.Semaphore(call_limit)
        self.ask_flags = ask_flags
        self.changes = changes

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with the stream, or with a sentence about why there is none."""
        if environ["REQUEST_METHOD"] != "GET":
            return wsgi.answer(environ, start_response, 405, "Use GET to make calls.", ("Allow", "GET"))
        try:
            asked = parse_slice(wsgi.raw_target(environ)[1], self._header_names, self._own_path)
        except RequestError as error:
            return wsgi.answer(environ, start_response, 400, str(error))
        if not self._streams.acquire(blocking=False):
            sentence = f"Other pages keep the proxy busy (limit of streams: {self._stream_limit}). Pause one of them."
            return wsgi.answer(environ, start_response, 503, sentence, ("Retry-After", "1"))
        start_response("200 OK", _HEADERS.copy())
        return _Stream(self, asked)

    def release_stream(self) -> None:
        """Take note that a stream has ended."""
        self._streams.release()

    def begin(self, asked: Slice, samples: Samples) -> str | None:
        """Begin one call, whose sample goes to `samples` in any case; return None, or why it cannot be begun."""
        if not self._calls.acquire(blocking=False):
            return f"{self._call_limit} calls are in progress, which is the limit."

        def call() -> None:
            sample = None
            begun_at = datetime.now(UTC).isoformat()
            own = {_ID: secrets.token_hex(16)} if self.ask_flags else {}
            try:
                sample = make_sample(self._observe(asked.path, asked.query, {**own, **asked.headers}))
                sample["begun_at"] = begun_at
                if own and _ID not in asked.headers:
                    sample["id"] = own[_ID]
            finally:
                self._calls.release()
                samples.put(sample)

        try:
            threading.Thread(target=call, daemon=True).start()
        except RuntimeError:
            self._calls.release()
            return "This machine cannot start more threads for calls."
        return None


class _Stream:
    """The lines of one slice: samples, and four times a second how many calls were begun, which shows that it lives.

    `{"limit": ...}` says once why calls are left out, `{"changes": [...]}` what was changed in the mesh.
    """

    def __init__(self, calls: Calls, asked: Slice) -> None:
        self._calls = calls
        self._asked = asked
        self._closed = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._calls.release_stream()

    def __iter__(self) -> Iterator[bytes]:
        asked = self._asked
        samples: Samples = queue.SimpleQueue()
        started = look_at = time.monotonic()
        due_count = begun = under_way = 0
        changes: list[dict[str, Any]] = []
        limit = None
        guesses = Guesses(self._calls.ask_flags) if self._calls.ask_flags else None
        while due_count < asked.rate * asked.seconds or under_way or guesses:
            now = time.monotonic()
            if guesses and now >= guesses.due:
                yield from map(_line, guesses.settle(now))
            if now >= look_at:
                look_at = now + _LOOK_SECONDS
                yield _line({"begun": begun})
                begun = 0
                if (latest := self._calls.changes()) != changes:
                    changes = latest
                    now_text = datetime.now(UTC).isoformat()
                    yield _line({"changes": changes, "now": now_text})
            while due_count < asked.rate * asked.seconds and started + due_count / asked.rate <= now:
                due_count += 1
                reason = self._calls.begin(asked, samples)
                begun += reason is None
                under_way += reason is None
                if reason and not limit:
                    limit = reason
                    yield _line({"limit": limit})
            due = started + due_count / asked.rate if due_count < asked.rate * asked.seconds else look_at
            try:
                wait_until = min(due, look_at, guesses.due if guesses else look_at)
                sample = samples.get(timeout=max(0.0, wait_until - time.monotonic()))
            except queue.Empty:
                continue
            under_way -= 1
            if sample and sample["guessed"] and "id" in sample and guesses is not None:
                guesses.add(sample, time.monotonic())
            elif sample:
                yield _line(sample)
        yield _line({"begun": begun})


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"
