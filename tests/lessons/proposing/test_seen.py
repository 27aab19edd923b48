"""What the explanation of a call says of one rule."""

import pytest

from meshdemo.lessons.proposing.seen import MET, NOT_MET, Target, describe, expectations, failure_of, judge

RULE = {"kind": "VirtualService", "namespace": "shop", "name": "a", "rule": 1}
POLICY = {"kind": "AuthorizationPolicy", "namespace": "shop", "name": "a", "rule": 1}


def hop(direction="outbound", kind="sidecar", **others):
    default = {"rule": None, "decided_by": None, "passed_over": [], "destination": None, "reason": None, "status": 200}
    return {"kind": kind, "direction": direction, "pod": "cart-1", **default, **others}


def call(*hops, result=200, error=None):
    return {"answer": {"result": result, "error": error}, "hops": list(hops)}


@pytest.mark.parametrize(
    ("hops", "verdict"),
    [
        ([hop(rule=RULE)], MET),
        ([hop(None, kind="gateway", rule=RULE)], MET),
        ([hop(rule={**RULE, "rule": 2})], NOT_MET),
        ([hop(passed_over=[{"rule": RULE}])], NOT_MET),
        ([hop(rule={**RULE, "rule": 0})], None),
        ([hop(rule={**RULE, "name": "b"})], None),
        ([hop(rule={**RULE, "namespace": "pay"})], None),
        ([hop()], None),
        ([hop("inbound", rule=RULE)], None),
        ([hop(rule=RULE, kind="application", direction=None)], None),
        ([hop(rule={**RULE, "name": "b"}), hop(rule={**RULE, "rule": 2})], None),
        ([], None),
    ],
)
def test_a_rule_of_routes(hops, verdict):
    """It was met where a hop took it, and not met where it was passed over, or a later one of its policy was taken."""
    assert judge(call(*hops), Target("VirtualService", "shop", "a", 1), ()) == verdict


DENIED = {"status": 403, "reason": "denied: no rule of AuthorizationPolicy/b allows it"}


@pytest.mark.parametrize(
    ("found", "of_deny", "of_allow"),
    [
        ({"decided_by": POLICY, "reason": "denied by rule 1", "status": 403}, MET, MET),
        ({}, NOT_MET, None),
        ({"decided_by": {**POLICY, "rule": None}, **DENIED}, NOT_MET, NOT_MET),
        ({"decided_by": {**POLICY, "name": "b"}}, NOT_MET, None),
        ({"decided_by": {**POLICY, "name": "b"}, "status": 403, "reason": "denied by rule 1"}, None, None),
        (
            {"decided_by": {**POLICY, "kind": "RequestAuthentication"}, "reason": "token refused", "status": 401},
            None,
            None,
        ),
        ({"pod": "other-1"}, None, None),
        ({"direction": "outbound"}, None, None),
    ],
)
def test_a_rule_that_judges(found, of_deny, of_allow):
    """DENY comes first, so what goes on did not meet it; of ALLOW that is known where nothing allows the call."""
    seen = call(hop(**{"direction": "inbound", **found}))
    for action, verdict in (("DENY", of_deny), ("ALLOW", of_allow)):
        assert judge(seen, Target("AuthorizationPolicy", "shop", "a", 1, action), ["cart-1"]) == verdict


def test_what_is_said_of_a_call():
    """What it met instead is named, and why the mesh answered it itself."""
    assert describe(call(hop(rule=RULE))) == "met VirtualService/a[1] instead (200)"
    nobody = call(hop(), result=None, error="connection refused")
    assert describe(nobody) == "was answered by no rule that is named (no answer, connection refused)"
    assert failure_of(call(hop(reason="no cluster"), result=503)) == " (503: no cluster)"
    assert failure_of(call(hop(reason="fault", decided_by=RULE), result=503)) == ""
    assert failure_of(call(hop(reason="redirected"), result=301)) == ""


def test_what_is_expected():
    """What was seen is expected, but for what is drawn at random."""
    to = {"subset": "v2", "weight": None, "of": None}
    seen = call(hop(rule=RULE, destination=to))
    assert expectations(seen) == ["status=200", "rule=VirtualService/a[1]", "subset=v2"]
    assert expectations(seen, {("VirtualService", "shop", "a", 1)}) == ["rule=VirtualService/a[1]", "subset=v2"]
    to.update(weight=25, of=100)
    assert expectations(seen) == ["rule=VirtualService/a[1]"]
    to.update(weight=100)
    assert expectations(seen) == ["status=200", "rule=VirtualService/a[1]", "subset=v2"]
    assert expectations(call(hop("inbound", decided_by=POLICY), result=None)) == [
        "status=none",
        "decided-by=AuthorizationPolicy/a[1]",
    ]
