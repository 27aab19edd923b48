"""Permissions that ask for the port of a connection."""

from meshdemo.lab.envoy.permissions import with_port


def test_a_permission_for_a_port():
    """It holds at the port of the pod that has this number, wherever that is on loopback, and at no other."""
    rules = {"and_rules": {"rules": [{"destination_port": 8080}, {"not_rule": {"destination_port": 81}}]}}
    always, never = {"any": True}, {"not_rule": {"any": True}}
    assert with_port([rules], 8080) == [{"and_rules": {"rules": [always, {"not_rule": never}]}}]
    assert with_port([rules], 81) == [{"and_rules": {"rules": [never, {"not_rule": always}]}}]


def test_what_asks_for_no_port():
    """Everything else stays as it is."""
    others = {"url_path": {"path": {"exact": "/"}}, "ports": [{"port_value": 8080, "destination_port": 1}], "n": None}
    assert with_port(others, 8080) == others
