"""For which hosts a gateway's listener is."""

import pytest

from meshdemo.lab.engine import Resources
from meshdemo.lab.envoy.server_names import hosts_of, takes

MANAGER = {"typed_config": {"rds": {"route_config_name": "http.80"}}}
ROUTES = [
    {"name": "http.80", "virtual_hosts": [{"domains": ["shop.example.com", "shop.example.com:80"]}]},
    {"name": "https.443", "virtual_hosts": [{"domains": ["other.example.com"]}]},
]


@pytest.mark.parametrize(
    ("chain", "hosts"),
    [
        ({"filters": [MANAGER]}, ("shop.example.com",)),
        ({"filter_chain_match": {"server_names": ["a", "*.b"]}, "filters": [MANAGER]}, ("a", "*.b")),
        ({"filters": [MANAGER], "transport_socket": {}}, ("*",)),
        ({"filters": [{"typed_config": {}}]}, ("*",)),
    ],
    ids=["HTTP", "server names", "any server name", "TCP"],
)
def test_hosts(chain, hosts):
    """They are the server names of TLS, else those that its routes are for, else any."""
    assert hosts_of({"filter_chains": [chain, chain]}, Resources(routes=ROUTES)) == hosts


@pytest.mark.parametrize(
    ("host", "best"),
    [
        ("shop.example.com", "shop.example.com"),
        ("SHOP.example.com", "shop.example.com"),
        ("a.example.com", "*.example.com"),
        ("a.b.example.com", "*.b.example.com"),
        ("example.com", None),
    ],
)
def test_what_fits(host, best):
    """A host's own name comes first, then the longest wildcard."""
    assert takes(["*.example.com", "*.b.example.com", "shop.example.com"], host) == best
    assert takes(["*"], host) == "*"
