"""The kinds of values that options take."""

import click
import pytest

from meshdemo.parameters import POSITIVE_SECONDS, SECONDS, Url


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2.5", 2.5), ("1s", 1), ("500ms", 0.5), ("2m", 120), ("24h", 86400), ("1 s", 1), (".5s", 0.5), ("0", 0)],
)
def test_seconds(text, seconds):
    """A time is a number of seconds, or has its unit."""
    assert SECONDS.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["1d", "s", "1 second", "25h", "-1s", "1,5", "", "nan", "1s2m", "1.s"])
def test_what_is_no_time(text):
    """Anything else is refused, as it was given."""
    with pytest.raises(click.BadParameter, match=f"^'{text}' is not a number of seconds from 0 to 86400, such as"):
        SECONDS.convert(text, None, None)


def test_no_time_at_all_is_not_positive():
    """Zero is zero in every unit."""
    with pytest.raises(click.BadParameter, match="'0ms' is not a number of seconds above 0"):
        POSITIVE_SECONDS.convert("0ms", None, None)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:3030/x", "http://127.0.0.1:3030/x"),
        ("localhost", "http://localhost"),
        ("localhost:3030", "http://localhost:3030"),
        ("localhost/x?y=z", "http://localhost/x?y=z"),
        ("[::1]:3030", "http://[::1]:3030"),
        ("HTTPS://A/B", "https://A/B"),
        ("Http://a", "http://a"),
        ("http://[fe80::1%eth0]:80/%", "http://[fe80::1%25eth0]:80/%"),
        ("http://[fe80::1%25eth0]", "http://[fe80::1%25eth0]"),
        ("http://bücher.example", "http://bücher.example"),
    ],
)
def test_url(text, url):
    """A URL may begin with its host, its scheme in any case; a zone is written as URLs have it."""
    assert Url(is_completed=True).convert(text, None, None) == url


def test_a_url_that_is_not_completed():
    """Where a URL is a setting, it is whole."""
    assert Url().convert("HTTP://a", None, None) == "http://a"
    with pytest.raises(click.BadParameter, match="'webserver:80' does not start with http:// or https://"):
        Url().convert("webserver:80", None, None)


def test_a_port_where_http_is_not_spoken():
    """A host with a port and nothing else may be named where it is allowed."""
    assert Url(allows_tcp=True).convert("tcp://mongo:27017", None, None) == "tcp://mongo:27017"
    for text in ("tcp://mongo", "tcp://mongo:1/x", "tcp://:1"):
        with pytest.raises(click.BadParameter, match="tcp://"):
            Url(allows_tcp=True).convert(text, None, None)
    with pytest.raises(click.BadParameter, match="does not start with"):
        Url().convert("tcp://mongo:27017", None, None)
