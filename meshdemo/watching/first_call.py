"""What the first call of a watch shows: whether it is worth going on, and if not, why and what to do.

Where it is not clear whether a port speaks HTTP or HTTPS, one more call is made to see.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from meshdemo.calling.connection import origin_of
from meshdemo.calling.failures import Code
from meshdemo.calling.upstream import Answer, Upstream, UpstreamError
from meshdemo.page.page import PATH

_PROBE_SECONDS = 1.0


def find_problem(url: str, outcome: Answer | UpstreamError) -> str | None:
    """Return what is wrong with the first call to `url` and what to do, in sentences; None where it was answered."""
    if isinstance(outcome, UpstreamError):
        redirected = origin_of(outcome.url) != origin_of(url)
        led = f"{url} redirects there." if redirected else None
        hint = _hint(outcome.url if redirected else url, outcome.code)
        hint = None if redirected and outcome.code is Code.REFUSED else hint
        return " ".join(filter(None, [f"{outcome}.", led, hint]))
    parts = urlsplit(url)
    if parts.path == PATH and outcome.media_type == "text/html" and "meshdemo" in outcome.text:
        return f"{url} is the live page, not an answer. Use {parts.scheme}://{parts.netloc}/ instead."
    return None


def find_problem_of_wait(url: str) -> str | None:
    """Return what is wrong where the first call takes long: a TLS handshake with a server that waits for a request."""
    return _hint_at_other_scheme(url) if urlsplit(url).scheme == "https" else None


def _hint(url: str, code: Code) -> str | None:
    """Return what to do about a call that was not answered."""
    parts = urlsplit(url)
    if code is Code.REFUSED:
        if not _is_loopback(parts.hostname or ""):
            return "Is the server running?"
        return "Is meshdemo up running?" if parts.port else "Is meshdemo up running? Its port is 3030 by default."
    if code is Code.NAME:
        if _is_of_service(parts.hostname or ""):
            return "The name of a Service is known only inside its cluster."
        return "In a lab, --from outside finds gateways by their hosts."
    if parts.scheme == "https" and code in (Code.RESET, Code.CLOSED) and _is_loopback(parts.hostname or ""):
        return "A gateway may want TLS to ask for its host: in a lab, call it by that with --from outside."
    doubtful = {"https": (Code.TLS,), "http": (Code.CLOSED, Code.RESET, Code.ANSWER)}
    return _hint_at_other_scheme(url) if code in doubtful[parts.scheme] else None


def _hint_at_other_scheme(url: str) -> str | None:
    """Return a hint where the port answers the other scheme, found out by one call."""
    parts = urlsplit(url)
    names = {"http": "HTTP", "https": "HTTPS"}
    (other,) = names.keys() - {parts.scheme}
    other_url = parts._replace(scheme=other).geturl()
    if not _speaks_scheme_of(other_url):
        return None
    return f"This port speaks {names[other]}, not {names[parts.scheme]}: use {other_url}"


def _speaks_scheme_of(url: str) -> bool:
    """Tell whether a call is answered, or comes as far as a certificate that is not accepted."""
    upstream = Upstream(url, timeout_seconds=_PROBE_SECONDS)
    try:
        upstream.call("GET", upstream.url_for("/"), {})
    except UpstreamError as error:
        return error.code is Code.CERTIFICATE
    return True


def _is_of_service(host: str) -> bool:
    """Tell whether a name may be that of a Service: NAME, NAME.NAMESPACE or NAME.NAMESPACE.svc and so on."""
    labels = host.split(".")
    return len(labels) <= 2 or labels[2] == "svc"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
