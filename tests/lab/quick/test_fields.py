"""What values of Istio's fields may be, and what is said of those that may not."""

import pytest
from quick_support import EXAMPLE

from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.manifests import Loader
from meshdemo.lab.files.schema import refuse_empty
from meshdemo.lab.quick import configure
from meshdemo.lab.quick.reading import fields as kinds
from meshdemo.lab.quick.reading.fields import HostName, MilliDuration, Percent, Regex, Some, Unsupported
from meshdemo.lab.quick.rules.model import HeaderChanges, Headers, StringMatch
from meshdemo.lab.quick.rules.refusing import RefusalError

REGEXES = [
    "/a|/b",
    "(?i)x.*",
    "(?i:x)y",
    "^/v[0-9]{1,3}(/.*)?$",
    r"\d+\.\d+",
    r"[^\]\[a-z]+?",
    r"(?P<name>[-\w.]+)@x",
    "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "(a{500}|b{900})c{1000}",
    "[]a]",
    "",
]
NO_REGEXES = {
    "looks ahead": "a(?=b)",
    "looks behind": "(?<!a)b",
    "refers back": r"(a)\1",
    "refers back by name": "(?P<a>x)(?P=a)",
    "is possessive": "a++",
    "is atomic": "(?>a)",
    "has a comment": "(?#x)a",
    "is open": "(a",
    "is a lone repetition": "*",
    "repeats too often": "a{1001}",
    "repeats too often in all": "(x(a{100})b){11}",
    "has a range backwards": "[b-a]",
    "is too long": "a" * 1025,
    "has an escape that only Python knows": r"\Z",
}


@pytest.mark.parametrize("text", REGEXES[:-1])
def test_regular_expressions_of_re2(text):
    """What RE2 takes is taken."""
    assert Regex().parse(text, "x") == text


@pytest.mark.parametrize("text", [*NO_REGEXES.values(), REGEXES[-1]], ids=[*NO_REGEXES, "is empty"])
def test_no_regular_expressions_of_re2(text):
    """What RE2 refuses, or may mean otherwise than Python, is refused with its place."""
    with pytest.raises(ManifestError, match=r"^x: "):
        Regex().parse(text, "x")


@pytest.mark.parametrize(("text", "seconds"), [("1ms", 0.001), ("1.5s", 1.5), ("1h1m1s", 3661), ("0.25s", 0.25)])
def test_durations(text, seconds):
    """Durations are whole milliseconds, as Go writes them."""
    assert MilliDuration().parse(text, "x") == seconds


@pytest.mark.parametrize("text", ["0s", "0.5ms", "1.0001s", "-1s", "5", "soon", ""])
def test_no_durations(text):
    """What is less than a millisecond, finer or no duration is refused."""
    with pytest.raises(ManifestError, match=r"^x: "):
        MilliDuration().parse(text, "x")


@pytest.mark.parametrize("value", [-1, 100.5, 0.00001, "5", True])
def test_no_percentages(value):
    """A share is 0, or from 0.0001 to 100."""
    with pytest.raises(ManifestError, match=r"^x: "):
        Percent().parse(value, "x")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("webserver", "webserver.default.svc.cluster.local"),
        ("a.example.com", "a.example.com"),
        ("*.example.com", "*.example.com"),
        ("*", "*"),
        ("webserver.default", "webserver.default"),
    ],
)
def test_hosts(text, host):
    """A name without a dot is completed, and nothing else is."""
    assert HostName(wildcard=True).parse(text, "x") == host


@pytest.mark.parametrize("text", ["", "a b", "-a.com", "a..b", "*a*", "a/b", "x" * 256])
def test_no_hosts(text):
    """What is no name of a host is refused."""
    with pytest.raises(ManifestError, match=r"^x: "):
        HostName(wildcard=True).parse(text, "x")


def test_refusals_say_what_does_it():
    """What Istio takes and this engine does not is refused with the words that lead on; harmless values are not."""
    assert Unsupported((False,)).parse(False, "x") is False
    for kind, value in ((Unsupported(), 1), (Some(known=("HTTP",)), "TLS")):
        with pytest.raises(ManifestError, match=r"is not supported by the quick engine: --istiod applies it, or says"):
            kind.parse(value, "x")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (kinds.STRING_MATCH, {"exact": "a"}, StringMatch("exact", "a")),
        (kinds.STRING_MATCH, {}, StringMatch("present")),
        (kinds.PATH_MATCH, {"prefix": ""}, StringMatch("prefix")),
        (kinds.STRING_MATCH_OR_PRESENT, {"regex": "*"}, StringMatch("present")),
    ],
)
def test_string_matches(kind, value, expected):
    """A condition is one of three, and none means that there has to be something."""
    assert kind.parse(value, "x") == expected


@pytest.mark.parametrize("value", [{"prefix": ""}, {"exact": "a", "prefix": "b"}, {"regex": "*"}])
def test_no_string_matches(value):
    """An empty prefix, two conditions and an expression that is none are refused."""
    with pytest.raises(ManifestError, match=r"^x\."):
        kinds.STRING_MATCH.parse(value, "x")


def test_header_changes():
    """Host among the request's headers is what the authority becomes, and is no header that is set."""
    value = {
        "request": {"set": {"Host": "h", "b": "2", "a": "100%%"}, "remove": ["c"]},
        "response": {"add": {"d": "4"}},
    }
    changes = HeaderChanges({"a": "100%%", "b": "2"}, removed=("c",), authority="h")
    assert kinds.ROUTE_HEADERS.parse(value, "x") == Headers(changes, HeaderChanges(added={"d": "4"}))


@pytest.mark.parametrize(
    "value",
    [
        {"request": {"set": {":method": "GET"}}},
        {"request": {"remove": ["Host"]}},
        {"response": {"set": {"host": "h"}}},
        {"request": {"set": {"host": "a"}, "add": {":authority": "b"}}},
        {"request": {"set": {"a b": "1"}}},
        {"request": {"set": {"a": "1\n2"}}},
        {"request": {"set": {"a": "50%"}}},
        {"request": {"set": {"a": "%NO_SUCH%"}}},
    ],
    ids=[
        "a pseudo header",
        "the Host header removed",
        "the Host header of a response",
        "the Host header twice",
        "a name with a space",
        "a value of two lines",
        "a lone percent sign",
        "an unknown variable",
    ],
)
def test_no_header_changes(value):
    """What Istio or Envoy would refuse among changes of headers is refused."""
    with pytest.raises(ManifestError, match=r"^x\."):
        kinds.ROUTE_HEADERS.parse(value, "x")


def test_the_host_twice():
    """Two values for the host are an error of a route, as to Istio, and unsupported for one of its destinations."""
    value = {"request": {"set": {"host": "a"}, "add": {":authority": "b"}}}
    problem = r"^x.request.set: sets host, which is set already, to 'b'"
    with pytest.raises(ManifestError, match=problem) as error:
        kinds.ROUTE_HEADERS.parse(value, "x")
    assert not isinstance(error.value, RefusalError)
    with pytest.raises(RefusalError, match=problem):
        kinds.DESTINATION_HEADERS.parse(value, "x")


POLICY = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: webserver}
spec:
  hosts: [webserver]
  http:
    - match:
        - gateways: [mesh]
          uri:
            prefix: /a
      route:
        - destination:
            host: webserver
          weight: 75
        - destination:
            host: webserverv2
            port:
              number: 80
          weight: 25
      retries:
        attempts: 2
        retryOn: 5xx
      fault:
        delay:
          fixedDelay: 1s
          percentage:
            value: 5
      mirror:
        host: webserverv1
"""


def edited(lines, number):
    """Yield a policy with a line commented out, emptied, and with all that stands below it commented out."""
    line = lines[number]
    depth = len(line) - len(line.lstrip())
    end = number + 1
    while end < len(lines) and len(lines[end]) - len(lines[end].lstrip()) > depth:
        end += 1
    yield [*lines[:number], "#" + line, *lines[number + 1 :]]
    yield [*lines[:number], line.partition(":")[0] + ":\n", *lines[number + 1 :]]
    yield [*lines[: number + 1], *("#" + below for below in lines[number + 1 : end]), *lines[end:]]


def test_lines_commented_out(tmp_path):
    """Whatever lines of a policy are commented out or emptied, the policy is taken or refused at a field."""
    lines = POLICY.splitlines(keepends=True)
    path = tmp_path / "policy.yaml"
    example = Loader([EXAMPLE]).load()[0]
    outcomes = set()
    for number in range(4, len(lines)):
        for text in map("".join, edited(lines, number)):
            path.write_text(text)
            try:
                configure(read_cluster([*example, *Loader([path]).load()[0]]))
            except ManifestError as error:
                outcomes.add(error.place.removeprefix(f"{path}: VirtualService/webserver: "))
            else:
                outcomes.add("taken")
    assert {"taken", "spec.http[0].retries", "spec.http[0].route[0].weight", "spec.http[0].mirror"} <= outcomes


EMPTY = {
    "a field": ("VirtualService", {"retries": None}, "spec.retries"),
    "an item": ("AuthorizationPolicy", {"rules": [None]}, r"spec.rules\[0\]"),
    "a field of an item": ("VirtualService", {"http": [{"match": None}]}, r"spec.http\[0\].match"),
    "what may be empty elsewhere": ("VirtualService", {"delay": {"percent": None}}, "spec.delay.percent"),
    "the rules of another kind": ("AuthorizationPolicy", {"rules": None}, "spec.rules"),
}


@pytest.mark.parametrize(("kind", "spec", "place"), EMPTY.values(), ids=EMPTY)
def test_fields_without_a_value(kind, spec, place):
    """A field or an item that is empty is refused, as the definitions of Istio refuse it."""
    with pytest.raises(ManifestError, match=f"^{place}: is empty: give it a value, or remove it$"):
        refuse_empty(spec, "spec", kind)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("DestinationRule", {"trafficPolicy": {"retryBudget": {"percent": None}}}),
        ("VirtualService", {"http": [{"retries": {"retryIgnorePreviousHosts": None}}]}),
        ("HTTPRoute", {"rules": None}),
        ("HTTPRoute", {"rules": [{"matches": [{"path": {"type": None}}], "backendRefs": [{"weight": None}]}]}),
    ],
)
def test_fields_that_may_be_without_a_value(kind, spec):
    """A field that may be null, or that has a default, may be empty."""
    refuse_empty(spec, "spec", kind)


@pytest.mark.parametrize("name", ["Host", "host", ":authority"])
def test_the_host_cannot_be_removed(name):
    """A request without its host is none, so that it cannot be removed."""
    with pytest.raises(ManifestError, match=r"^x.request.remove: .* is a header that cannot be changed here$"):
        kinds.ROUTE_HEADERS.parse({"request": {"remove": [name]}}, "x")
