"""The live page at `/ui`: one HTML file, and the policy that lets nothing but its own script and style run."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

#: The path of the page; the proxy passes everything else on.
PATH = "/ui"


@cache
def page() -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the page and its headers."""
    html = files("meshdemo").joinpath("live.html").read_text("utf-8")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash_of(html, 'script')}",
            f"style-src {_hash_of(html, 'style')}",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ]
    )
    return html, (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", policy),
        ("Referrer-Policy", "no-referrer"),
    )


def _hash_of(html: str, tag: str) -> str:
    """Return the source expression for the only element of a kind (Content Security Policy Level 3, 2.3.1)."""
    (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
