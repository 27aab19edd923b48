"""Why a call failed, for a person: what the libraries raise, in a few words."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from enum import StrEnum

import requests
import urllib3

from meshdemo.calling.connection import EarlyAnswerError
from meshdemo.calling.response import ProtocolSwitchError, TooLargeError


class Code(StrEnum):
    """The kinds of failures that a program may tell apart; the words for a person say more."""

    TIMEOUT = "timed out"
    LOOP = "loop"
    REDIRECT = "bad redirect"
    NAME = "name not found"
    REFUSED = "connection refused"
    TLS = "TLS problem"
    CERTIFICATE = "certificate not accepted"
    CLOSED = "connection closed"
    RESET = "connection reset"
    ANSWER = "broken answer"
    TOO_LARGE = "answer too large"
    OTHER = "call failed"


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and every exception that it wraps; libraries keep the real one some levels down."""
    pending, seen = [error], set()
    while pending:
        cause = pending.pop(0)
        if id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            wrapped = (getattr(cause, "reason", None), cause.__cause__, cause.__context__, *cause.args)
            pending += [inner for inner in wrapped if isinstance(inner, BaseException)]


def is_timeout(error: BaseException) -> bool:
    """Tell whether time ran out."""
    return any(isinstance(cause, _TIMEOUTS) for cause in causes(error))


def explain(error: BaseException) -> tuple[Code, str]:
    """Return what went wrong, as a code and in a few words for a person."""
    for kinds, code, reason in _REASONS:
        for cause in causes(error):
            if isinstance(cause, kinds) and (text := reason if isinstance(reason, str) else reason(cause)):
                return code, text
    return Code.OTHER, "the call failed"


def _tls_reason(error: BaseException) -> str:
    detail = getattr(error, "verify_message", None) or str(getattr(error, "reason", None) or "handshake failed")
    return f"TLS problem ({detail.replace('_', ' ').lower()})"


def _system_reason(error: BaseException) -> str:
    """Return what the system says of its own error; libraries derive theirs from OSError, too, without a text."""
    return (getattr(error, "strerror", None) or "").lower()


def _cut_off_reason(error: BaseException) -> str:
    """Return what to say where urllib3 finds no next chunk, which it tells in words only."""
    return "connection closed in the middle of the answer" if "prematurely" in str(error) else ""


def _form_reason(error: BaseException) -> str:
    """Return what is wrong with the form of an answer; http.client has no class of its own for too many headers."""
    return "answer with more than 100 headers" if "100 headers" in str(error) else "not an HTTP answer"


_TIMEOUTS = (TimeoutError, urllib3.exceptions.TimeoutError, requests.Timeout)
#: What may be raised for a call that went wrong; anything else is a mistake in this program.
FAILURES = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
    TooLargeError,
    ProtocolSwitchError,
    EarlyAnswerError,
)
# The first line that fits any of an error's causes, and has something to say, gives code and reason.
_REASONS: tuple[
    tuple[type[BaseException] | tuple[type[BaseException], ...], Code, str | Callable[..., str]],
    ...,
] = (
    (TooLargeError, Code.TOO_LARGE, "answer larger than 1 MiB"),
    (ProtocolSwitchError, Code.ANSWER, "answer 101, a change of protocol that was not asked for,"),
    (EarlyAnswerError, Code.ANSWER, "answer that came before the request"),
    ((socket.gaierror, UnicodeError, requests.exceptions.InvalidURL), Code.NAME, "name not found"),
    (ConnectionRefusedError, Code.REFUSED, "connection refused"),
    (ssl.SSLCertVerificationError, Code.CERTIFICATE, _tls_reason),
    (ssl.SSLError, Code.TLS, _tls_reason),
    (http.client.RemoteDisconnected, Code.CLOSED, "connection closed without an answer"),
    ((ConnectionResetError, ConnectionAbortedError, BrokenPipeError), Code.RESET, "connection reset"),
    (urllib3.exceptions.InvalidChunkLength, Code.ANSWER, "answer with broken chunks"),
    (
        (http.client.IncompleteRead, urllib3.exceptions.IncompleteRead),
        Code.CLOSED,
        "connection closed in the middle of the answer",
    ),
    (urllib3.exceptions.DecodeError, Code.ANSWER, "answer that cannot be decompressed"),
    (urllib3.exceptions.ProtocolError, Code.CLOSED, _cut_off_reason),
    (http.client.LineTooLong, Code.ANSWER, "answer with a line of more than 64 KiB"),
    (http.client.HTTPException, Code.ANSWER, _form_reason),
    (OSError, Code.OTHER, _system_reason),
    (
        (
            urllib3.exceptions.ProtocolError,
            urllib3.exceptions.InvalidHeader,
            requests.exceptions.InvalidHeader,
            requests.exceptions.ChunkedEncodingError,
        ),
        Code.ANSWER,
        "not an HTTP answer",
    ),
    (ValueError, Code.ANSWER, "answer with broken chunks"),  # of a negative size: everything else has its own class
)
