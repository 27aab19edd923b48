"""Which hosts a sidecar knows, and which Sidecar has it refuse calls to others."""

import dataclasses

import pytest
from xray_support import an_object, record, scene_of, workload

from meshdemo.lab.xray.causes import cause_of
from meshdemo.lab.xray.defaults import notes_of
from meshdemo.lab.xray.facts.calls import SIDECAR, Hop
from meshdemo.lab.xray.policies.known_hosts import entry_of, refusal
from meshdemo.lab.xray.silence import silent_hop

POD = "pay-v1-1.payments"
OUTSIDE = {"ports": [{"number": 443, "name": "tls", "protocol": "TLS"}], "resolution": "DNS"}


def sidecar(name="closed", namespace="payments", mode="REGISTRY_ONLY", **more):
    policy = {"outboundTrafficPolicy": {"mode": mode}} if mode else {}
    return an_object("Sidecar", name, {**more, "egress": [{"hosts": ["./*"]}], **policy}, namespace)


def entry(name, host, namespace="payments", **more):
    return an_object("ServiceEntry", name, {"hosts": [host], **OUTSIDE, **more}, namespace)


SELECTING = {"workloadSelector": {"labels": {"app": "pay"}}}
HIDDEN = "Sidecar/closed does not let the sidecar know cart.shop, and lets calls go to known hosts alone"
HIDDEN_FAR = HIDDEN.replace("cart.shop", "far.com")
ALONE = "and Sidecar/closed lets calls go to known hosts alone"
NO_PORT, NO_PORT_81 = (
    f"ServiceEntry/far has no port 80 for far.com, {ALONE}",
    f"the Service cart.shop has no port 81, only 80, {ALONE}",
)
UNKNOWN = "no ServiceEntry names {}, and Sidecar/closed lets calls go to known hosts alone"


def scene(tmp_path, *policies, clusters=("outbound|80||pay.payments.svc.cluster.local",)):
    applications = [*workload("pay", "payments"), *workload("cart")]
    return scene_of(tmp_path, *applications, *policies, envoy=POD, clusters=clusters)


@pytest.mark.parametrize(
    ("host", "port", "policies", "reason", "line"),
    [
        ("cart.shop", 80, [sidecar()], HIDDEN, "egress:"),
        ("cart.shop", 81, [sidecar()], NO_PORT_81, "outboundTrafficPolicy:"),
        ("pay", 80, [sidecar()], None, None),
        ("cart.shop", 80, [], None, None),
        ("cart.shop", 80, [sidecar(mode="ALLOW_ANY")], None, None),
        ("nobody.com", 443, [sidecar()], UNKNOWN.format("nobody.com"), "outboundTrafficPolicy:"),
        # Of several Sidecars one counts.
        ("cart.shop", 80, [sidecar("a", mode=None), sidecar(**SELECTING)], HIDDEN, "egress:"),
        ("cart.shop", 80, [sidecar(), sidecar("z", mode=None, **SELECTING)], None, None),
        ("cart.shop", 80, [sidecar("all", "istio-system"), sidecar("a", mode=None)], None, None),
        ("cart.shop", 80, [sidecar("closed", "istio-system")], HIDDEN, "egress:"),
        ("cart.shop", 80, [sidecar("closed", "istio-system", **SELECTING)], None, None),
        ("far.com", 443, [entry("far", "far.com", "shop"), sidecar()], HIDDEN_FAR, "egress:"),
        ("far.com", 80, [entry("far", "far.com"), sidecar()], NO_PORT, "apiVersion"),
    ],
)
def test_refusals(tmp_path, host, port, policies, reason, line):
    """A call that is refused is told with the Sidecar that has it so, and the line."""
    cause = refusal(POD, host, port, scene(tmp_path, *policies))
    assert cause.reason == reason
    if line is None:
        assert cause.decided_by is None
    else:
        assert (tmp_path / "files.yaml").read_text().splitlines()[cause.decided_by.line - 1].strip().startswith(line)


def test_services_that_are_not_exported(tmp_path):
    """A Service may keep itself from callers, which is no Sidecar's doing."""
    deployment, service = workload("cart")
    service["metadata"]["annotations"] = {"networking.istio.io/exportTo": "."}
    seen = scene_of(tmp_path, *workload("pay", "payments"), deployment, service, sidecar(), envoy=POD)
    cause = refusal(POD, "cart.shop", 80, seen)
    assert cause.reason == "the sidecar does not know cart.shop, and Sidecar/closed lets calls go to known hosts alone"
    assert cause.decided_by.line == line_of(tmp_path, "outboundTrafficPolicy:")


def line_of(folder, text):
    lines = (folder / "files.yaml").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize(
    ("more", "is_seen"),
    [({}, True), ({"exportTo": ["."]}, False), ({"exportTo": ["payments"]}, True), ({"exportTo": ["*"]}, True)],
)
def test_whose_entry_counts(tmp_path, more, is_seen):
    """A ServiceEntry makes its host known where it is exported to."""
    seen = scene_of(tmp_path, *workload("pay", "payments"), entry("far", "*.far.com", "shop", **more))
    assert bool(entry_of("www.far.com", "payments", seen)) is is_seen


def test_where_no_listener_is(tmp_path):
    """A refused call that is not logged, since nothing listens at its port, is explained; one let through is not."""
    closed = scene(tmp_path, sidecar())
    pod = closed.pod(POD)
    for url in ("http://cart.shop/", "http://nobody.com:8765/"):
        assert silent_hop(pod, url, None, closed, is_failed=True).decided_by.name == "closed"
    assert silent_hop(pod, "http://nobody.com:8765/", None, closed, is_failed=False) is None
    opened = scene(tmp_path, sidecar(mode="ALLOW_ANY"))
    assert silent_hop(pod, "http://nobody.com:8765/", None, opened, is_failed=True) is None


def test_where_a_listener_is(tmp_path):
    """A refused call is explained by its record, where others are called at its port."""
    refused = record(POD, routes="80", route="block_all", status=502, details="direct_response", authority="cart.shop")
    cause = cause_of(refused, scene(tmp_path, sidecar()), None, None)
    assert (cause.reason, cause.decided_by.name) == (HIDDEN, "closed")
    cause = cause_of(refused, scene(tmp_path, sidecar("x", mode="ALLOW_ANY")), None, None)
    assert cause.reason == "no route of the sidecar is for cart.shop, and calls to others are refused (REGISTRY_ONLY)"


@pytest.mark.parametrize(
    ("authority", "reason"),
    [
        ("cart.shop:81", "the Service cart.shop has no port 81, only 80"),
        ("nobody.com:81", "no name server knows nobody.com:81"),
    ],
)
def test_a_port_that_others_have(tmp_path, authority, reason):
    """What passes through to a Service's name, since another one has the port, is told by the ports that it has."""
    dropped = record(POD, routes="81", status=503, details="dns_resolution_failure", authority=authority)
    assert cause_of(dropped, scene(tmp_path), None, None).reason == reason


@pytest.mark.parametrize(
    ("authority", "policies", "said"),
    [
        ("cart.shop", [sidecar(mode=None)], "Sidecar/closed does not let the sidecar know cart.shop"),
        ("cart.shop:81", [sidecar(mode=None)], "the Service cart.shop has no port 81, only 80"),
        ("cart.shop:81", [], "the Service cart.shop has no port 81, only 80"),
        ("nobody.com", [sidecar(mode=None)], "nobody.com is no host of the mesh"),
    ],
)
def test_what_passes_through(tmp_path, authority, policies, said):
    """A call that passes through is told with why the sidecar does not know its host."""
    port = authority.partition(":")[2] or "80"
    passed = record(POD, routes=port, route="allow_any", details="via_upstream", authority=authority)
    hop = Hop(SIDECAR, "outbound", POD, "payments", 200, 1.0)
    notes = notes_of(hop, passed, scene(tmp_path, *policies))
    assert list(notes) == [f"{said}: calls pass through (outboundTrafficPolicy ALLOW_ANY)"]
    failed = dataclasses.replace(hop, reason=said)
    (note,) = notes_of(failed, passed, scene(tmp_path, *policies))
    assert note == "calls pass through (outboundTrafficPolicy ALLOW_ANY)"


@pytest.mark.parametrize(
    ("authority", "reason"),
    [
        ("cart.shop:81", "the Service cart.shop has no port 81, only 80"),
        ("cart.shop:80", "no name server knows cart.shop:80"),
        ("nobody.com:81", "no name server knows nobody.com:81"),
    ],
)
def test_names_that_are_looked_up(tmp_path, authority, reason):
    """A Service's name that passes through for its port is not one that nobody knows."""
    details = {"route": "allow_any", "details": "dns_resolution_failure{x}", "authority": authority}
    failed = record(POD, routes=authority.partition(":")[2], status=503, **details)
    assert cause_of(failed, scene(tmp_path), None, None).reason == reason
