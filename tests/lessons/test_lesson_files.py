"""The lessons: every name that a policy uses exists, and every lesson is explained."""

import itertools
import re
import shlex
import shutil
import subprocess
from fractions import Fraction
from math import comb

import click
import kubernetes_validate
import pytest
import yaml
from support import ROOT, documents, parsed

from meshdemo.console import terminal
from meshdemo.lessons.classroom import pages
from meshdemo.lessons.files.reading import Lesson
from meshdemo.watching.expectations import parse_expectation

K8S = ROOT / "k8s"
LESSONS = sorted([*(K8S / "istio").glob("*.yaml"), *(K8S / "gateway-api").glob("*.yaml")])
IDS = [f"{path.parent.name}/{path.name}" for path in LESSONS]
GUIDE = (K8S / "README.md").read_text()
CURRENT = {
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "Gateway": "networking.istio.io/v1",
    "ServiceEntry": "networking.istio.io/v1",
    "Sidecar": "networking.istio.io/v1",
    "PeerAuthentication": "security.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
    "EnvoyFilter": "networking.istio.io/v1alpha3",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "Deployment": "apps/v1",
    "Service": "v1",
    "ServiceAccount": "v1",
}
OBJECTS = documents(ROOT / "k8s" / "example.yaml")
SERVICES = {each["metadata"]["name"]: each["spec"] for each in OBJECTS if each["kind"] == "Service"}
every_lesson = pytest.mark.parametrize("path", LESSONS, ids=IDS)


def values(node, key):
    """Yield the value of each `key` anywhere below `node`."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(node, list):
        for item in node:
            yield from values(item, key)


def pod_labels(path):
    """Return the labels of all pods that there are with the example and a lesson."""
    deployments = [each for each in OBJECTS + documents(path) if each["kind"] == "Deployment"]
    return [each["spec"]["template"]["metadata"]["labels"] for each in deployments]


def hosts_outside(path):
    """Return the hosts outside the mesh that a lesson makes known, each with the object that does."""
    entries = [each["spec"] for each in documents(path) if each["kind"] == "ServiceEntry"]
    return {host: entry for entry in entries for host in entry["hosts"]}


def test_all_lessons_are_there():
    """Twenty-four lessons for Istio, eight of them for the Gateway API as well."""
    names = {
        folder: {path.stem for path in LESSONS if path.parent.name == folder} for folder in ("istio", "gateway-api")
    }
    assert len(names["istio"]) == 24
    assert names["gateway-api"] == {
        "all-v1", "header", "ingress", "mirror", "path", "redirect", "split", "timeout"
    }  # fmt: skip
    assert names["gateway-api"] < names["istio"]


@every_lesson
def test_objects(path):
    """Kinds have their current API version, mesh policies are called webserver, and Kubernetes' objects are valid."""
    found = documents(path)
    for each in found:
        expected = CURRENT[each["kind"]]
        if path.parent.name == "gateway-api":
            expected = "gateway.networking.k8s.io/v1"
        assert each["apiVersion"] == expected
        assert "namespace" not in each["metadata"]
        if each["apiVersion"] in ("v1", "apps/v1"):
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
        else:
            assert each["metadata"]["name"] == "webserver"
    if path.parent.name == "istio":  # so that applying one lesson undoes another
        assert {"VirtualService", "DestinationRule"} <= {each["kind"] for each in found}


@every_lesson
def test_comment(path):
    """Each file opens with what it shows, a command, a question that a promise answers, what to expect, and why."""
    lesson = Lesson(1, "", K8S, str(path.relative_to(K8S)))
    words = lesson.words()
    assert len(terminal.wrap(words.about, 79, "")) <= 2
    assert any(command.is_watch for command in lesson.commands())
    names = ["Question", "Expect", "Why", "Stays the same", "Mistake", "Try"]
    assert [name for name in words.sections if name not in ("Range", "Lab")] == names
    assert all(len(words.section(name)) == 1 for name in words.sections)
    assert words.question.endswith("?")
    subjects = [subject for command in lesson.commands() for subject in promised_subjects(command)]
    assert words.answer in (None, *subjects)
    assert re.search(r"\b[Ww]ithout (a policy|a route|the Gateway|outlierDetection)\b", words.section("Expect")[0])


def promised_subjects(command):
    """Return what a command's promises are about."""
    words = command.pipeline[-1]
    if not command.is_watch:
        return [shlex.join(words)] if command.output else []
    return [value.rpartition("=")[0] for option, value in itertools.pairwise(words) if option == "--expect"]


@every_lesson
def test_it_fits_a_window(path):
    """In 80 columns and 24 rows no line of a lesson is cut but long words, and no part takes more than three pages."""
    lesson = Lesson(1, "A title", K8S, str(path.relative_to(K8S)))
    words = lesson.words()
    parts = [
        pages.policy_pages(lesson, words, 79, 20, terminal.Marks(), ()),
        [pages.question_page(words, lesson.commands(), "", 79)],
        pages.more_pages(words, 79, 20),
        pages.range_pages(words, 79, 20),
    ]
    for part, most in zip(parts, (2, 1, 1, 1), strict=True):
        assert len(part) <= most
        for line in itertools.chain(*part):
            assert terminal.width_of(click.unstyle(line)) <= 79
        assert all(len(page) <= 20 for page in part)


@every_lesson
def test_hosts_and_ports_exist(path):
    """Each host that a policy names is a Service of the example or a ServiceEntry, each port one of its ports."""
    found = documents(path)
    external = hosts_outside(path)
    services = SERVICES | {each["metadata"]["name"]: each["spec"] for each in found if each["kind"] == "Service"}
    for each in found:
        destinations = [*values(each, "destination"), *values(each, "mirror")]
        for destination in destinations:
            ports = (services | external)[destination["host"]]["ports"]
            port = destination.get("port", {}).get("number", 80)
            assert port in [item.get("port", item.get("number")) for item in ports]
        if each["kind"] == "DestinationRule":
            assert each["spec"]["host"] in services | external
        for authority in values(each, "authority"):
            assert authority in SERVICES
        for hostname in values(each, "hostname"):
            assert hostname in SERVICES
        references = [*values(each, "backendRefs"), *([ref] for ref in values(each, "backendRef"))]
        references += [ref for ref in values(each, "parentRefs") if ref[0].get("kind") == "Service"]
        for reference in itertools.chain(*references):
            assert reference["port"] in [item["port"] for item in SERVICES[reference["name"]]["ports"]]


@every_lesson
def test_hosts_of_virtual_services(path):
    """A VirtualService is for the host that is called; only at a gateway is it for any."""
    for each in documents(path):
        if each["kind"] == "VirtualService":
            at_gateway = each["spec"].get("gateways") == ["webserver"]
            (host,) = each["spec"]["hosts"]
            assert host == "*" if at_gateway else host in {"webserver", *hosts_outside(path)}
            assert at_gateway == any(other["kind"] == "Gateway" for other in documents(path))


@every_lesson
def test_subsets_and_labels_exist(path):
    """Each subset that is used is defined, and each set of labels selects a pod."""
    found = documents(path)
    defined = {subset["name"] for each in found for subsets in values(each, "subsets") for subset in subsets}
    assert {subset for each in found for subset in values(each, "subset")} <= defined
    selections = [subset["labels"] for each in found for subsets in values(each, "subsets") for subset in subsets]
    for kind, field in (("PeerAuthentication", "matchLabels"), ("AuthorizationPolicy", "matchLabels"),
                        ("Sidecar", "labels")):  # fmt: skip
        selections += [labels for each in found if each["kind"] == kind for labels in values(each, field)]
    for selection in selections:
        assert any(selection.items() <= labels.items() for labels in pod_labels(path)), selection


@every_lesson
def test_weights(path):
    """Istio's weights add up to 100; no split is even, since that is what no policy gives."""
    for each in documents(path):
        for routes in [*values(each, "route"), *values(each, "backendRefs")]:
            weights = [route["weight"] for route in routes if "weight" in route]
            if weights:
                assert len(weights) == len(routes) > 1
                assert len(set(weights)) > 1
                assert each["kind"] == "HTTPRoute" or sum(weights) == 100


@every_lesson
def test_pods_of_lessons(path):
    """A Deployment that a lesson brings is as safe as the example's, and its arguments are the real command's."""
    accounts = {each["metadata"]["name"] for each in OBJECTS + documents(path) if each["kind"] == "ServiceAccount"}
    model = next(each for each in OBJECTS if each["kind"] == "Deployment")["spec"]["template"]["spec"]
    taken = {each["metadata"]["name"] for each in OBJECTS}
    for each in documents(path):
        if each["kind"] == "Deployment":
            assert each["metadata"]["name"] not in taken
            spec = each["spec"]["template"]["spec"]
            assert spec["serviceAccountName"] in accounts
            assert spec["securityContext"] == model["securityContext"]
            for container in spec["containers"]:
                assert container["securityContext"] == model["containers"][0]["securityContext"]
                assert container["image"] == model["containers"][0]["image"]
                assert container["ports"][0]["containerPort"] == parsed(container["args"])["port"]
            selectors = [other["spec"]["selector"]["matchLabels"] for other in OBJECTS if other["kind"] == "Deployment"]
            labels = each["spec"]["template"]["metadata"]["labels"]
            assert not any(selector.items() <= labels.items() for selector in selectors)


def test_guide_lists_every_lesson():
    """The guide names each lesson's file, and no file that is not there."""
    assert set(re.findall(r"`((?:istio|gateway-api)/[\w-]+\.yaml)`", GUIDE)) == set(IDS)


def test_kustomization():
    """The kustomization holds the example, and renders where kubectl is installed."""
    document = yaml.safe_load((K8S / "kustomization.yaml").read_text())
    assert document["resources"] == ["example.yaml"]
    if kubectl := shutil.which("kubectl"):
        done = subprocess.run([kubectl, "kustomize", K8S], capture_output=True, text=True, check=True)
        rendered = list(yaml.safe_load_all(done.stdout))
        names = [(each["kind"], each["metadata"]["name"]) for each in rendered]
        assert sorted(names) == sorted((each["kind"], each["metadata"]["name"]) for each in OBJECTS)


# Which lesson promises what of how many calls, with which probability there, and with which without the policy.
DRAWN = [
    ("istio/split", "Webserver V1", 200, Fraction(3, 4), Fraction(1, 2)),
    ("istio/split", "Webserver V2", 200, Fraction(1, 4), Fraction(1, 2)),
    ("istio/abort", "FI", 200, Fraction(1, 2), 0),
    ("istio/delay", "over 2.9s", 100, Fraction(1, 4), 0),
    ("istio/timeout", "UT", 100, Fraction(1, 3), 0),
    ("istio/retries", "500", 300, Fraction(1, 81), Fraction(1, 3)),
    ("istio/retries", "tries>1", 300, Fraction(1, 3), 0),
    ("istio/retries-by-status", "503", 300, Fraction(1, 27), Fraction(1, 3)),
    ("istio/retries-by-status", "tries>1", 300, Fraction(1, 3), 0),
    ("istio/ingress", "Webserver V1", 60, Fraction(1, 2), None),
    ("istio/ingress", "Webserver V2", 60, Fraction(1, 2), None),
    ("gateway-api/split", "Webserver V1", 200, Fraction(3, 4), Fraction(1, 2)),
    ("gateway-api/split", "Webserver V2", 200, Fraction(1, 4), Fraction(1, 2)),
    ("gateway-api/timeout", "UT", 100, Fraction(1, 3), 0),
    ("gateway-api/ingress", "Webserver V1", 60, Fraction(1, 2), None),
    ("gateway-api/ingress", "Webserver V2", 60, Fraction(1, 2), None),
]


def chance_within(least, most, draws, probability):
    """Return how likely it is that so many of `draws` come out, by the binomial distribution, exactly."""
    return sum(
        comb(draws, count) * probability**count * (1 - probability) ** (draws - count)
        for count in range(max(0, int(least)), min(draws, int(most)) + 1)
    )


def expected_range(name, subject, requests):
    """Return the range that a lesson has for a subject, in a watch of so many requests."""
    for command in Lesson(1, "", K8S, f"{name}.yaml").commands():
        words = command.pipeline[-1]
        for option, value in itertools.pairwise(words):
            if option == "--expect" and value.rpartition("=")[0] == subject:
                assert words[words.index("-n") + 1] == str(requests)
                return parse_expectation(value).range
    raise AssertionError(f"{name} promises nothing of {subject}")


@pytest.mark.parametrize(("name", "subject", "requests", "probability", "without"), DRAWN)
def test_ranges_follow_from_the_arithmetic(name, subject, requests, probability, without):
    """A range leaves out less than one run in a thousand, and one without the policy is in it as seldom."""
    found = expected_range(name, subject, requests)
    most = min(found.most, requests)
    assert 1 - chance_within(found.least, most, requests, probability) < Fraction(1, 1000)
    if without is not None:
        assert chance_within(found.least, most, requests, Fraction(without)) < Fraction(1, 1000)


@pytest.mark.parametrize("name", sorted({each[0] for each in DRAWN}))
def test_a_lesson_as_a_whole_fails_seldom(name):
    """Numbers that are drawn on their own fail together less than once in a thousand runs."""
    drawn = [each for each in DRAWN if each[0] == name and each[1] != "Webserver V2"]  # V2 is the rest of V1
    chance = 0
    for _, subject, requests, probability, _ in drawn:
        found = expected_range(name, subject, requests)
        chance += 1 - chance_within(found.least, min(found.most, requests), requests, probability)
    assert chance < Fraction(1, 1000)


def test_the_arithmetic_of_circuit_breaking_and_outlier_detection():
    """Ten calls find a place at least, more than 65 seldom; a sick pod that is left in answers 30 or less seldom."""
    found = expected_range("istio/circuit-breaker", "UO", 200)
    assert (found.least, found.most) == (200 - 65, 200 - 10)
    assert chance_within(0, 9, 65, Fraction(1, 3)) < Fraction(1, 1000)
    found = expected_range("istio/outlier-detection", "Webserver sick", 400)
    assert chance_within(0, found.most, 400, Fraction(1, 7)) < Fraction(1, 1000)
