"""Who let a request in at a pod or gateway, or did not, by what its Envoy logged."""

import dataclasses

import pytest
from xray_support import an_object, record, scene_of, workload

from meshdemo.lab.quick.precedence import find_not_in_force
from meshdemo.lab.xray.causes import try_reason
from meshdemo.lab.xray.defaults import notes_of
from meshdemo.lab.xray.facts.calls import GATEWAY, SIDECAR, Hop
from meshdemo.lab.xray.policies.admission import admission_of, https_redirect, without_effect

POD, SELECTOR = "cart-v1-1.shop", {"selector": {"matchLabels": {"app": "cart"}}}
NONE = "rbac_access_denied_matched_policy[none]"


def authorization(name, action="ALLOW", namespace="shop", selects=SELECTOR, **metadata):
    spec = {"action": action, "rules": [{"to": [{"operation": {"paths": ["/x"]}}]}], **selects}
    return an_object("AuthorizationPolicy", name, spec, namespace, **metadata)


def tokens(name, *rules):
    rules = [{"issuer": f"https://{number}", "jwks": "{}", **rule} for number, rule in enumerate(rules)]
    return an_object("RequestAuthentication", name, {**SELECTOR, "jwtRules": rules})


def inbound(envoy=POD, **fields):
    return record(envoy, routes="inbound|8080||", **fields)


DRY = authorization("dry", annotations={"istio.io/dry-run": "true"})
TARGET = {"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "api"}]}
API = an_object(
    "Gateway",
    "api",
    {"gatewayClassName": "istio", "listeners": [{"name": "http", "port": 8888, "protocol": "HTTP"}]},
    group="gateway.networking.k8s.io",
)
REDIRECT = {
    "port": {"number": 80, "name": "http", "protocol": "HTTP"},
    "hosts": ["*/shop.example.com"],
    "tls": {"httpsRedirect": True},
}
PLAIN = {"port": {"number": 80, "name": "plain", "protocol": "HTTP"}, "hosts": ["other.example.com"]}
PUBLIC = an_object(
    "Gateway",
    "public",
    {"selector": {"istio": "ingressgateway"}, "servers": [PLAIN, REDIRECT]},
    "istio-system",
    "networking.istio.io",
)
INGRESS = {"selector": {"matchLabels": {"istio": "ingressgateway"}}}


@pytest.mark.parametrize(
    ("policies", "envoy", "reason"),
    [
        ([authorization("a"), authorization("b")], POD, "no rule of AuthorizationPolicy/a and AuthorizationPolicy/b"),
        # What is tried, what audits, what denies, and what is for others allows nothing.
        ([DRY, authorization("audit", "AUDIT"), authorization("deny", "DENY"), authorization("z")], POD, "z"),
        ([authorization("a", selects=TARGET), authorization("z"), API], POD, "z"),
        ([authorization("a", selects=TARGET), authorization("z"), API], "api-istio.shop", "a"),
        ([authorization("a", namespace="istio-system", selects=INGRESS), PUBLIC], "istio-ingressgateway", "a"),
        ([DRY], POD, None),
    ],
)
def test_denied(tmp_path, policies, envoy, reason):
    """Where no rule allows a request, the policies that could have are named, at gateways, too."""
    scene = scene_of(tmp_path, *workload("cart"), *policies)
    envoy = next((each.name for each in scene.cluster.gateways if each.name.startswith(envoy)), envoy)
    cause = admission_of(inbound(envoy, details=NONE), scene)
    if reason is None:
        assert (cause.reason, cause.decided_by) == ("denied: no policy allows it", None)
        return
    named = reason if " " in reason else f"no rule of AuthorizationPolicy/{reason}"
    assert cause.reason == f"denied: {named} allows it"
    assert cause.decided_by.name == named.split("/")[1].split()[0]


def test_let_in(tmp_path):
    """The rule that let a request in is named, and none of a policy that audits."""
    scene = scene_of(tmp_path, *workload("cart"), authorization("a"), authorization("audit", "AUDIT"))
    allowed = admission_of(inbound(allowed_by="ns[shop]-policy[a]-rule[0]"), scene)
    assert (allowed.reason, allowed.decided_by.name, allowed.decided_by.rule) == (None, "a", 0)
    assert admission_of(inbound(allowed_by="ns[shop]-policy[audit]-rule[0]"), scene).decided_by is None


def test_policies_without_effect(tmp_path):
    """Policies that decide nothing are said with why, and that every caller may where none does."""
    scene = scene_of(tmp_path, *workload("cart"), DRY, authorization("audit", "AUDIT"))
    lines = [
        "AuthorizationPolicy/dry decides nothing: it is a dry run (istio.io/dry-run)",
        "AuthorizationPolicy/audit decides nothing: its action is AUDIT",
    ]
    assert list(without_effect(POD, scene)) == lines
    hop = Hop(SIDECAR, "inbound", POD, "shop", 200, 1.0)
    assert list(notes_of(hop, inbound(is_tls=True), scene)) == [
        *lines,
        "no AuthorizationPolicy decides: every caller may",
    ]


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/", {"authorization": "Bearer abc"}, "usual"),
        ("/?access_token=abc", {}, "usual"),
        ("/", {"x-token": "abc"}, "special"),
        ("/?t=", {}, "special"),
        ("/", {"cookie": "a=1; tok=abc"}, "special"),
        ("/", {"authorization": "Basic abc", "x-token": "abc"}, "special"),
        ("/?t=1", {"authorization": "Bearer abc"}, None),
    ],
)
def test_refused_tokens(tmp_path, path, headers, expected):
    """A refused token is told with the policy that reads it; where several could, they are all said, and none named."""
    special = {"fromHeaders": [{"name": "X-Token"}], "fromParams": ["t"], "fromCookies": ["tok"]}
    scene = scene_of(tmp_path, *workload("cart"), tokens("special", special), tokens("usual", {}))
    cause = admission_of(inbound(path=path, headers=headers, details="jwt_authn_access_denied{Jwt_is_expired}"), scene)
    assert (cause.decided_by.name if cause.decided_by else None) == expected
    candidates = ", by RequestAuthentication/special or RequestAuthentication/usual"
    assert cause.reason == f"token refused: Jwt is expired{'' if expected else candidates}"


def limit(name, context):
    value = {"name": "envoy.filters.http.local_ratelimit"}
    patch = {"applyTo": "HTTP_FILTER", "match": {"context": context}, "patch": {"value": value}}
    return an_object("EnvoyFilter", name, {"workloadSelector": {"labels": {"app": "cart"}}, "configPatches": [patch]})


def test_rate_limits(tmp_path):
    """An EnvoyFilter that limits the calls of that direction is named, and of several none."""
    limited = inbound(details="local_rate_limited", flags=("RL",), status=429)
    out, into, others = limit("a", "SIDECAR_OUTBOUND"), limit("b", "SIDECAR_INBOUND"), limit("c", "ANY")
    assert admission_of(limited, scene_of(tmp_path, *workload("cart"), out, into)).decided_by.name == "b"
    several = admission_of(limited, scene_of(tmp_path, *workload("cart"), into, others))
    assert several.decided_by is None
    assert several.reason.endswith(", by EnvoyFilter/b or EnvoyFilter/c")


@pytest.mark.parametrize(
    ("fields", "is_named"),
    [
        ({}, True),
        ({"authority": "shop.example.com:8080"}, True),
        ({"authority": "other.example.com"}, False),
        ({"routes": "http.81"}, False),
        ({"route": "shop.shop#0"}, False),
        ({"status": 308}, False),
    ],
)
def test_redirects_to_https(tmp_path, fields, is_named):
    """A redirect that a Gateway asks for is told with its line, and one of a rule is not taken for it."""
    scene = scene_of(tmp_path, PUBLIC)
    (gateway,) = scene.cluster.gateways
    answer = {"status": 301, "details": "direct_response", "routes": "http.80", "authority": "shop.example.com"}
    cause = https_redirect(record(gateway.name, **{**answer, **fields}), scene)
    assert bool(cause.reason) is is_named
    if is_named:
        line = (tmp_path / "files.yaml").read_text().splitlines()[cause.decided_by.line - 1]
        assert (cause.reason, line.strip()) == (
            "Gateway/public redirects it to https (httpsRedirect)",
            "httpsRedirect: true",
        )


@pytest.mark.parametrize(("host", "is_said"), [("shop.example.com:8080", True), ("example.com", False)])
def test_a_gateway_that_is_not_there(tmp_path, host, is_said):
    """Where no rule is for a host, the VirtualService is told that is for it and whose gateway does not exist."""
    lost = an_object("VirtualService", "lost", {"hosts": ["*.example.com"], "gateways": ["public"], "http": []})
    scene = scene_of(tmp_path, PUBLIC, lost)
    scene = dataclasses.replace(scene, not_in_force=tuple(find_not_in_force(scene.cluster)))
    (gateway,) = scene.cluster.gateways
    hop = Hop(GATEWAY, None, gateway.name, gateway.namespace, 404, 1.0)
    seen = record(gateway.name, details="route_not_found", authority=host, path="/")
    reason = "VirtualService/lost is not in force: there is no Gateway shop/public"
    assert list(notes_of(hop, seen, scene)) == [
        f"no rule at this gateway is for {host}/",
        *([reason] if is_said else []),
    ]


@pytest.mark.parametrize(
    ("details", "words"),
    [(NONE, "denied by the pod's sidecar"), ("jwt_authn_access_denied{x}", "token refused by the pod's sidecar")],
)
def test_tries_that_were_refused(details, words):
    """A try that the pod's sidecar refused is told so, and the hop of that one has the reason."""
    assert try_reason(record("a", is_try=True), inbound(details=details)) == words
