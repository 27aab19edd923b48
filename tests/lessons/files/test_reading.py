"""The lessons as the program reads them: their order, their names, and the commands of their comments."""

import pytest
from support import ROOT

from meshdemo.errors import StartError
from meshdemo.lessons.files.comment import Command
from meshdemo.lessons.files.reading import find_lesson, ports_of, read_lessons, replace_ports

GUIDE = """# Lessons

### Traffic

| lesson | file | what it shows |
| --- | --- | --- |
| All at once | `istio/first.yaml` | all |
| One by one | `istio/second.yaml` | one |

### Gateway API

| lesson | file | how it differs |
| --- | --- | --- |
| One by one | `gateway-api/second.yaml` | in its name |
"""
COMMENT = r"""# What it shows.
#
#   kubectl port-forward service/proxy 8080:80
#   meshdemo watch http://127.0.0.1:3030/ -n 5 \
#     --expect 'Webserver V1=5'
#   kubectl logs --selector app=webserver | grep --count /x  # 5
#
# Expect this, and no command: `kubectl get pods`.
kind: VirtualService
# Not the comment any more:
#   rm everything
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("istio", "gateway-api"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").write_text(GUIDE)
    (tmp_path / "example.yaml").touch()
    for name in ("istio/first.yaml", "istio/second.yaml", "gateway-api/second.yaml"):
        (tmp_path / name).write_text(COMMENT)
    return tmp_path


def test_order_and_names(folder):
    """The guide gives order, titles and groups; a name is short, but says when it is the Gateway API's."""
    lessons = read_lessons(folder)
    assert [(lesson.number, lesson.title, lesson.name, lesson.group) for lesson in lessons] == [
        (1, "All at once", "first", "Traffic"),
        (2, "One by one", "second", "Traffic"),
        (3, "One by one", "gateway-api/second", "Gateway API"),
    ]
    assert lessons[2].path == folder / "gateway-api" / "second.yaml"


def test_the_lessons_of_the_repository():
    """Every lesson's file is there, has a title of its own kind, and a command whose result can be judged."""
    lessons = read_lessons(ROOT / "k8s")
    assert len({lesson.path for lesson in lessons}) == len(lessons)
    for lesson in lessons:
        assert any(command.is_watch for command in lesson.commands()), lesson.file


@pytest.mark.parametrize(
    "name", ["2", "second", "second.yaml", "istio/second", "istio/second.yaml", "k8s/istio/second.yaml", "{folder}"]
)
def test_find(folder, name):
    """A lesson is found by number, name, and file, from the folder or from anywhere."""
    lessons = read_lessons(folder)
    assert find_lesson(lessons, name.format(folder=folder / "istio" / "second.yaml")) is lessons[1]


def test_find_by_a_path_from_here(folder, monkeypatch):
    """A path that leads to the file from the current folder finds it, whatever it looks like."""
    monkeypatch.chdir(folder / "istio")
    lessons = read_lessons(folder)
    assert find_lesson(lessons, "../gateway-api/second.yaml") is lessons[2]


def test_an_unknown_lesson(folder):
    """What is no lesson is named, with the lesson that it may mean, or how to list them."""
    for name, hint in (("secnd", "did you mean second?"), ("3rd", "meshdemo lesson lists them.")):
        with pytest.raises(StartError) as caught:
            find_lesson(read_lessons(folder), name)
        assert str(caught.value) == f"{name!r} is not a lesson: {hint}"


@pytest.mark.parametrize("missing", ["README.md", "example.yaml"])
def test_a_folder_without_lessons(folder, missing):
    """Without the guide or the example a folder holds no lessons, and the message says what to do."""
    (folder / missing).unlink()
    with pytest.raises(StartError, match="--folder"):
        read_lessons(folder)


def test_a_guide_without_lessons(folder):
    """A README that lists none is one of another project."""
    (folder / "README.md").write_text("# Something else\n")
    with pytest.raises(StartError, match="lists no lessons"):
        read_lessons(folder)


def test_comment_and_commands(folder):
    """Commands are what is indented in the first comment: continued, in pipelines, with the output that is promised."""
    lesson = read_lessons(folder)[0]
    assert lesson.comment()[0] == "What it shows."
    assert "rm everything" not in str(lesson.commands())
    assert lesson.commands() == [
        Command((("kubectl", "port-forward", "service/proxy", "8080:80"),), line=3),
        Command(
            (("meshdemo", "watch", "http://127.0.0.1:3030/", "-n", "5", "--expect", "Webserver V1=5"),),
            line=4,
        ),
        Command((("kubectl", "logs", "--selector", "app=webserver"), ("grep", "--count", "/x")), "5", 6),
    ]
    assert [command.is_watch for command in lesson.commands()] == [False, True, False]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("meshdemo watch 'http://127.0.0.1/", "No closing quotation"),
        ("kubectl logs |", "nothing stands before or behind a |"),
        ("| grep x", "nothing stands before or behind a |"),
    ],
)
def test_a_command_that_cannot_be_read(folder, command, words):
    """A command without sense is reported in one line with its file."""
    (folder / "istio" / "first.yaml").write_text(f"#   {command}\n")
    with pytest.raises(StartError, match=rf"first\.yaml: a command of the comment cannot be read: {words}") as caught:
        read_lessons(folder)[0].commands()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"# \xff\n"], ids=["not there", "not UTF-8"])
def test_a_lesson_that_cannot_be_read(folder, content):
    """A file that is not there, or no text, is reported in one line."""
    path = folder / "istio" / "first.yaml"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(StartError, match=r"first\.yaml cannot be read: "):
        read_lessons(folder)[0].comment()


def test_replace_ports():
    """Only ports of 127.0.0.1 that are known are replaced."""
    command = ["watch", "http://127.0.0.1:3030/3030", "http://127.0.0.1:9/", "-n", "3030"]
    assert replace_ports(command, {3030: 4040}) == ["watch", "http://127.0.0.1:4040/3030", *command[2:]]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("meshdemo watch -n 5 --rate=0 --why", "http://127.0.0.1:4040/"),
        ("meshdemo watch --keep-alive localhost:3030/x -n 5", "localhost:4040/x"),
        ("meshdemo watch --header a:b http://elsewhere/", "http://elsewhere/"),
        ("meshdemo call localhost:3030", "localhost:4040"),
        ("curl -s http://127.0.0.1:3030/", "http://127.0.0.1:4040/"),
    ],
)
def test_where_a_command_calls(command, expected):
    """A machine has two names for itself, and a watch without a URL calls it, too."""
    words = replace_ports(command.split(), {3030: 4040})
    assert expected in words
    assert len(words) == len(command.split()) + (command.split()[-1] == "--why")
    assert ports_of(command.split()) == ({3030} if "4040" in expected else set())
