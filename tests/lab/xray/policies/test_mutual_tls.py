"""Which PeerAuthentication has a pod take mutual TLS alone."""

import dataclasses

import pytest
from xray_support import an_object, scene_of, workload

from meshdemo.lab.engine import NotInForce
from meshdemo.lab.xray.policies.mutual_tls import strict

STRICT, PERMISSIVE, UNSET = {"mode": "STRICT"}, {"mode": "PERMISSIVE"}, {"mode": "UNSET"}


def peer(name, namespace="shop", mtls=None, app=None, ports=None):
    """Return a PeerAuthentication."""
    spec = {"selector": {"matchLabels": {"app": app}}} if app else {}
    spec |= {"mtls": mtls} if mtls else {}
    spec |= {"portLevelMtls": ports} if ports else {}
    return an_object("PeerAuthentication", name, spec, namespace)


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([], None),
        ([peer("mesh", "istio-system", STRICT)], "mesh"),
        ([peer("other", "elsewhere", STRICT)], None),
        ([peer("mesh", "istio-system", STRICT), peer("own", mtls=STRICT)], "own"),
        ([peer("mesh", "istio-system", STRICT), peer("own", mtls=PERMISSIVE)], None),
        ([peer("mesh", "istio-system", STRICT), peer("own", mtls=UNSET)], "mesh"),
        ([peer("mesh", "istio-system", PERMISSIVE), peer("z", mtls=STRICT, app="cart")], "z"),
        ([peer("own", mtls=STRICT), peer("z", mtls=PERMISSIVE, app="cart")], None),
        ([peer("own", mtls=STRICT), peer("z", mtls=PERMISSIVE, app="catalog")], "own"),
        ([peer("own", mtls=STRICT), peer("z", app="cart")], "own"),
        # One with a selector in the namespace of the mesh is for nobody.
        ([peer("z", "istio-system", STRICT, app="cart")], None),
        # Of several the first counts.
        ([peer("b", mtls=STRICT), peer("a", mtls=PERMISSIVE)], None),
        ([peer("b", mtls=PERMISSIVE), peer("a", mtls=STRICT)], "a"),
        # A port, with a selector alone, has a mode of its own, by the number that the pod has.
        ([peer("z", mtls=STRICT, app="cart", ports={8080: PERMISSIVE})], None),
        ([peer("z", mtls=PERMISSIVE, app="cart", ports={"8080": STRICT})], "z"),
        ([peer("z", mtls=PERMISSIVE, app="cart", ports={80: STRICT})], None),
        ([peer("own", mtls=STRICT), peer("z", app="cart", ports={8080: UNSET})], "own"),
    ],
)
def test_which_counts(tmp_path, policies, expected):
    """A selector counts before a namespace, that before the mesh, and a port before what is said of all."""
    scene = scene_of(tmp_path, *workload("cart"), *policies)
    found = strict(scene.pod("cart-v1-1.shop"), 8080, scene)
    assert (found.name if found else None) == expected


def test_who_is_asked(tmp_path):
    """A pod without a sidecar takes everything, and one where the policy is not in force."""
    policy = peer("own", mtls=STRICT)
    outside = scene_of(tmp_path, *workload("cart", in_mesh=False), policy)
    assert strict(outside.pod("cart-v1-1.shop"), 8080, outside) is None
    inside = scene_of(tmp_path, *workload("cart"), policy)
    (manifest,) = inside.policies("PeerAuthentication")
    refused = NotInForce(manifest.id, "", "only --istiod applies it", needs_istiod=True)
    inside = dataclasses.replace(inside, not_in_force=(refused,))
    assert strict(inside.pod("cart-v1-1.shop"), 8080, inside) is None
