"""The lab as a stage of lessons: what it says that it cannot show."""

import pytest
from quick_support import cluster_of
from support import ROOT

from meshdemo.lab.command import choose_engine
from meshdemo.lab.lab import LabOptions
from meshdemo.lessons.lab_stage import LabStage, selected_logs
from meshdemo.lessons.reading import find_lesson, read_lessons

LESSONS = read_lessons(ROOT / "k8s")


def why_not(engine, name):
    return LabStage(engine, LabOptions(), print).why_not(find_lesson(LESSONS, name))


@pytest.mark.parametrize("name", ["mutual-tls", "authorization", "rate-limit", "locality", "tls-origination"])
def test_what_takes_istiod(name):
    """The quick engine says of a lesson that it does not show as it is that Istio's own control plane does."""
    assert "--istiod applies it" in why_not(choose_engine(istiod=False), name)


@pytest.mark.parametrize("name", ["split", "gateway-api/split", "ingress", "mirror"])
def test_what_the_quick_engine_shows(name):
    """Of all other lessons it says nothing."""
    assert why_not(choose_engine(istiod=False), name) is None


def test_istiod_shows_all(built_istiod):
    """Istio's own control plane shows every lesson."""
    engine = choose_engine(istiod=True)
    assert not any(LabStage(engine, LabOptions(), print).why_not(lesson) for lesson in LESSONS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ["proxy-1", *(f"webserverv{version}-{number}" for version in (1, 2) for number in (1, 2, 3))]),
        ("deployment/proxy", ["proxy-1"]),
        ("-c istio-proxy deployment/proxy", ["proxy-1/istio-proxy"]),
        ("-l version=v2 --container=istio-proxy", [f"webserverv2-{number}/istio-proxy" for number in (1, 2, 3)]),
        ("--selector version=v2,app=webserver", [f"webserverv2-{number}" for number in (1, 2, 3)]),
    ],
)
def test_whose_logs(tmp_path, words, expected):
    """`kubectl logs` shows the pods that it names, and with `-c istio-proxy` their sidecars."""
    assert selected_logs(["kubectl", "logs", *words.split()], cluster_of(tmp_path).pods) == expected
