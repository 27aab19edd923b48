"""Names of rules, and rules by the names of their routes."""

import json

import pytest
import yaml
from lab_support import manifest
from quick_support import cluster_of, http_route

from meshdemo.lab.quick.translation import configure
from meshdemo.lab.xray.facts.naming import Rule, RuleBook, name_rules

TEXT = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: webserver
spec:
  hosts:
    - webserver
  http:
    - name: testers
      match:
        - headers: {end-user: {exact: tester}}
        - uri: {prefix: /test}
          name: path
      route:
        - destination: {host: webserver}
    - route:
        - destination: {host: webserver}
"""
SERVICE = manifest(yaml.safe_load(TEXT))
BOOK = RuleBook([SERVICE], {"file.yaml": TEXT})


def virtual_service(name, http, hosts=("webserver",)):
    metadata, spec = {"name": name}, {"hosts": [*hosts], "http": http}
    return manifest(
        {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": spec}
    )


def test_names():
    """Rules and matches without a name get one, the others keep theirs, and the file's object stays as it is."""
    (named,) = name_rules([SERVICE])
    first, second = named.document["spec"]["http"]
    assert (first["name"], [each["name"] for each in first["match"]]) == ("testers", ["#0", "path"])
    assert second["name"] == "default.webserver#1"
    assert "name" not in SERVICE.document["spec"]["http"][1]


def test_what_is_odd_is_left_for_the_engine():
    """What is no rule, no match or no list stays as it is."""
    for http in (None, {}, [None, 3], [{"match": None}], [{"match": [None]}]):
        odd = virtual_service("odd", http)
        (named,) = name_rules([odd])
        assert [*RuleBook([odd], {})._rules] or not http
        assert type(named.document["spec"]["http"]) is type(http)


@pytest.mark.parametrize(("route", "is_named"), [({"name": "default"}, False), ({"action": "ANY"}, True)])
def test_filters(route, is_named):
    """Where an EnvoyFilter asks for a route by its name, nothing is named; the object is known nevertheless."""
    spec = {"configPatches": [{"applyTo": "HTTP_ROUTE", "match": {"routeConfiguration": {"vhost": {"route": route}}}}]}
    patch = manifest(
        {
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": {"name": "patch"},
            "spec": spec,
        }
    )
    assert (name_rules([SERVICE, patch]) != (SERVICE, patch)) == is_named
    path = f"/apis/networking.istio.io/v1/namespaces/default/virtual-service/{SERVICE.name}"
    found = RuleBook([SERVICE, patch], {}).find("", path)
    assert (found.kind, found.name, found.rule) == ("VirtualService", SERVICE.name, None)


def test_rules_by_route():
    """The name of a route leads to object, rule, match, file and line."""
    place = {"kind": "VirtualService", "namespace": "default", "name": "webserver", "file": "file.yaml"}
    assert BOOK.find("testers.#0") == Rule(**place, rule=0, match=0, line=9, label="testers")
    assert BOOK.find("testers.path") == Rule(**place, rule=0, match=1, line=9, label="testers")
    assert BOOK.find("default.webserver#1") == Rule(**place, rule=1, line=16)
    assert BOOK.find("default") is None
    assert BOOK.find("testers.#0").as_json() == {**place, "rule": 0, "match": 0, "line": 9}


def test_rules_of_one_name():
    """Rules of one name are told apart by the object that Istio names, or by the host of the route."""
    rule = [{"name": "same", "route": []}]
    book = RuleBook([virtual_service("a", rule, ["one"]), virtual_service("b", rule, ["two"])], {})
    assert book.find("same").name == "a"
    path = "/apis/networking.istio.io/v1/namespaces/default/virtual-service/b"
    assert book.find("same", path).name == "b"
    assert book.find("same", hosts=["two"]).name == "b"


def test_rules_of_the_gateway_api():
    """Istio names the routes of an HTTPRoute after it and the number of the rule."""
    rules = [{"matches": [{}, {}]}, {"matches": [{}]}, {"name": "last"}]
    route = manifest(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "r"},
            "spec": {"rules": rules},
        }
    )
    book = RuleBook(name_rules([route]), {})
    found = [book.find(name) for name in ("default.r.0", "default.r.1", "last")]
    assert [(each.rule, each.match, each.label) for each in found] == [(0, None, ""), (1, 0, ""), (2, None, "last")]
    assert book.find("last", match={"prefix": "/"}).match is None


@pytest.mark.parametrize("others", [(), ({"path": {"type": "Exact", "value": "/x"}},)])
def test_matches_of_the_gateway_api(tmp_path, others):
    """Which match of a rule a route comes from is known by what it asks for, however the engine sorts them."""
    matches = [
        {"path": {"value": "/v2"}},
        {"path": {"value": "/v1/"}, "method": "GET"},
        {"path": {"type": "RegularExpression", "value": "/v[0-9]+"}},
        {"path": {"type": "Exact", "value": "/x"}},
        {"headers": [{"name": "End-User", "value": "x"}, {"name": "b", "value": ".*", "type": "RegularExpression"}]},
        {"queryParams": [{"name": "Q", "value": "1"}], "headers": [{"name": "end-user", "value": "x"}]},
        *others,
    ]
    cluster = cluster_of(tmp_path, http_route({"matches": matches, "backendRefs": [{"name": "webserver", "port": 80}]}))
    routes = [
        route
        for configuration in configure(cluster).resources["proxy-1"].routes
        for host in configuration["virtual_hosts"]
        for route in host.get("routes", [])
        if route["name"] == "default.r.0"
    ]
    book = RuleBook(cluster.policies, {})
    found = {
        json.dumps(each["match"], sort_keys=True): book.find("default.r.0", match=each["match"]) for each in routes
    }
    assert {rule.rule for rule in found.values()} == {0}
    numbers = {rule.match for rule in found.values()}
    assert numbers == ({0, 1, 2, 4, 5, None} if others else {*range(6)})
    (exact,) = (rule.match for match, rule in found.items() if json.loads(match).get("path") == "/x")
    assert exact == (None if others else 3)


def test_names_that_are_there_twice():
    """Of rules and matches of one object to which it gives the same name none is named."""
    matches = [{"name": "m", "uri": {"exact": "/a"}}, {"name": "m", "uri": {"exact": "/b"}}]
    book = RuleBook([virtual_service("a", [{"name": "one", "match": matches}, {"name": "x"}, {"name": "x"}])], {})
    assert (book.find("one.m").rule, book.find("one.m").match) == (0, None)
    assert book.find("x").rule is None


def test_delegates():
    """A rule to which another object delegates is found by the names that Istio joins."""
    book = RuleBook(
        [virtual_service("root", [{"delegate": {"name": "child"}}]), virtual_service("child", [{"route": []}], ())], {}
    )
    assert book.find("default.root#0-default.child#0").name == "child"
