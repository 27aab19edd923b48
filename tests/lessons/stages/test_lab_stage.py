"""The lab as a stage of lessons: what it says that it cannot show, and what the page may do there."""

import dataclasses
import http.client
import json
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from quick_support import cluster_of
from support import OF_THE_PAGE, ROOT, wait_until

from meshdemo.lab.command import choose_engine
from meshdemo.lab.lab import LabOptions
from meshdemo.lessons.files.reading import find_lesson, read_exercises, read_lessons
from meshdemo.lessons.stages import lab_stage
from meshdemo.lessons.stages.lab_stage import LabStage, selected_logs

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


def test_what_the_page_says_of_an_exercise():
    """It says what the mesh should do, and what became of the calls; of a lesson the checks alone."""
    stage = LabStage(choose_engine(istiod=False), LabOptions(), print, count=8)
    checks = [("✓ 504: 3 calls, expected ..14", True), ("✗ over 1.9s: 1 calls, expected 0", False)]
    exercise, lesson = find_lesson(read_exercises(ROOT / "k8s"), "timeout"), find_lesson(LESSONS, "timeout")
    verdicts = []
    for judged in ((), None, checks, checks[:1], [*checks[:1], ("You ended it.", None)]):
        stage.judged(judged)
        verdicts.append(stage._subject(exercise).verdict.partition(" ")[0])
        assert stage._subject(exercise).checks == tuple(judged or ())
    assert verdicts == ["Edit", "The", "Not", "Mended:", "Not"]
    assert stage._subject(exercise).verdict.startswith("Not judged: ")
    assert stage._subject(lesson).checks[0] == checks[0]
    assert stage._subject(lesson).verdict == ""


class LabDouble:
    """A lab that runs at once, with a proxy at port 4000; `followed` are the paths that it was told to follow."""

    door = SimpleNamespace(add=lambda *_: None)
    problem, is_settled, port = None, True, 4000
    state = SimpleNamespace(files=SimpleNamespace(left_out=()))

    def __init__(self, paths, *_):
        self.followed = [paths]
        self.subjects = []

    def addresses(self):
        return [SimpleNamespace(port=4000, gateway_port=None)]

    def follow(self, paths, subject):
        self.followed.append(paths)
        self.subjects.append(subject)

    def rename(self, subject):
        self.subjects.append(subject)

    def start(self):
        pass

    step = stop = start


@pytest.fixture
def stage(monkeypatch, tmp_path):
    """Return a stage whose lab is a double."""
    monkeypatch.setattr(lab_stage, "Lab", LabDouble)
    return LabStage(choose_engine(istiod=False), LabOptions(), print, count=len(LESSONS), edits=tmp_path / "edits")


def test_ports_of_gateways(stage, monkeypatch):
    """Port 80 is 8080 where no gateway has that number itself, and of two gateways the first is meant."""

    def translated(*numbers):
        found = [SimpleNamespace(port=5000 + index, gateway_port=number) for index, number in enumerate(numbers)]
        monkeypatch.setattr(LabDouble, "addresses", lambda self: found)
        return stage.translate(["meshdemo", "watch", "http://127.0.0.1:8080/"])[2]

    stage.show(find_lesson(LESSONS, "split"))
    assert translated(None, 80, 80) == "http://127.0.0.1:5001/"
    for numbers in ((None, 8080, 80), (None, 80, 8080)):
        assert translated(*numbers) == f"http://127.0.0.1:{5000 + numbers.index(8080)}/"


def test_a_copy_that_has_gone(stage, tmp_path):
    """What is said of the lesson that is shown needs no file, since its copy may have gone by then."""
    copy = tmp_path / "split.yaml"
    split = find_lesson(LESSONS, "split")
    copy.write_text(split.text())
    stage.show(dataclasses.replace(split, edited=copy))
    copy.unlink()
    stage.judged([("made", True)])
    stage.step()
    assert stage.page.startswith("http://127.0.0.1:4000/ui?rate=20#desk=")
    assert stage._lab.subjects[-1].link == "http://127.0.0.1:4000/ui?rate=20"


@pytest.mark.thorough
def test_the_desk_of_the_page(tmp_path):
    """The page's keys reach the classroom; its numbers are in force within a second, in a copy that is told once."""
    said = []
    stage = LabStage(
        choose_engine(istiod=False), LabOptions(0), said.append, count=len(LESSONS), edits=tmp_path / "edits"
    )
    try:
        stage.show(find_lesson(LESSONS, "split"))
        link = urlsplit(stage.page)
        assert (link.path, link.query) == ("/ui", "rate=20")
        for command in ("meshdemo watch --from=proxy http://webserver/", "meshdemo call http://webserver/"):
            assert stage.translate(command.split()) == [*command.split(), "--lab", str(link.port)]
        token = link.fragment.removeprefix("desk=")

        def ask(path, method="GET", value=None):
            connection = http.client.HTTPConnection("127.0.0.1", link.port, timeout=20)
            headers = {**OF_THE_PAGE, "Origin": f"http://127.0.0.1:{link.port}"}
            connection.request(method, f"/ui{path}", json.dumps(value) if value else None, headers)
            answer = connection.getresponse()
            text = answer.read()
            connection.close()
            return json.loads(text)["lab"] if answer.status == 200 else text.decode()

        def wait_for(condition, what):
            def look():
                stage.step()
                return condition()

            return wait_until(look, what)

        scene = wait_for(lambda: ask("/scene"), "the scene")
        assert scene["title"] == f"Lesson 2 of {len(LESSONS)}: Weighted split"
        assert scene["callers"] == {str(link.port): "proxy"}
        turns = [line["turn"] for policy in scene["policies"] for line in policy["lines"] if line["turn"]]
        assert [turn["value"] for turn in turns] == [75, 25]
        for key in "nr":
            assert ask("/edit", "POST", {"token": token, "key": key}) == {}
        assert [stage.pressed() for _ in range(3)] == ["n", "r", ""]
        numbers = [
            {**{name: turn[name] for name in ("label", "path")}, "value": value}
            for turn, value in zip(turns, (0, 100), strict=True)
        ]
        assert "Only the page of the link" in ask("/edit", "POST", {"token": "x", "numbers": numbers})
        began = time.monotonic()
        assert ask("/edit", "POST", {"token": token, "numbers": numbers}) == {}
        wait_for(lambda: any("in force" in line for line in said), "the edit")
        assert time.monotonic() - began < 1
        scene = ask("/scene")
        assert scene["changes"] == ["VirtualService/webserver changed (75 % v1 -> 0 % v1, 25 % v2 -> 100 % v2)"]
        assert sum(line["changed"] for policy in scene["policies"] for line in policy["lines"]) == 2
        edited = stage.edited(find_lesson(LESSONS, "split"))
        assert edited.edited == tmp_path / "edits" / "istio" / "split.yaml"
        assert stage.edited(edited) is edited
    finally:
        stage.close()
