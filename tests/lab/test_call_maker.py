"""Calls that the lab makes: what TLS asks for."""

import pytest

from meshdemo.lab.call_maker import _read_wish, _server_name


@pytest.mark.parametrize(
    ("url", "host", "name"),
    [
        ("https://shop.example.com/", None, "shop.example.com"),
        ("https://127.0.0.1:8443/", "shop.example.com", "shop.example.com"),
        ("https://a.example.com/", "shop.example.com:443", "shop.example.com"),
        ("https://127.0.0.1:8443/", None, ""),
        ("https://[::1]:8443/", None, ""),
        ("https://a.example.com/", "127.0.0.1:8443", ""),
        ("https://a.example.com/", "x y", ""),
        ("https://a.example.com/", f"{'a' * 64}.example.com", ""),
    ],
)
def test_server_names(url, host, name):
    """TLS asks for the name in the Host header, else that of the URL; an address, or what is no name, is not sent."""
    wish = _read_wish({"url": url, "headers": [["Host", host]] if host else []})
    assert _server_name(wish, url.split("/")[2]) == name
