"""A stage for lessons that needs neither a lab nor a cluster, and lessons to show on it."""

import dataclasses

from meshdemo.errors import StartError
from meshdemo.lessons.files.reading import EXAMPLE, read_lessons, replace_ports


class StageDouble:
    """Remembers what was shown; the proxy's port is that of a server of the test."""

    where = "on a stage"
    explains = True
    page = None

    def __init__(self, port, say=lambda line: None):
        self.port = port
        self.shown = []
        self.say = say
        self.log = ""
        self.typed_address = "127.0.0.1:3030"
        self.steps = []
        self.keys = []
        self.copies = {}
        self.running = False
        self.judgements = []

    def show(self, lesson):
        self.shown.append(lesson.name)
        lines = lesson.path.read_text().splitlines()
        for number, line in enumerate(lines, 1):
            if "problem" in line:
                raise StartError(f"the file has a problem at {lesson.path.name}:{number}.")
        self.say(f"{lesson.name} is in force")

    def translate(self, command):
        if command[:2] == ("kubectl", "port-forward"):
            return None
        self.running = True
        return replace_ports(command, {3030: self.port})

    def typed(self, command):
        return [word.replace("127.0.0.1:3030", self.typed_address) for word in command]

    def logs(self, command):
        return self.log if command[:2] == ("kubectl", "logs") else None

    def pressed(self):
        return self.keys.pop(0) if self.keys else ""

    def edited(self, lesson):
        copy = self.copies.pop(lesson.file, None)
        return dataclasses.replace(lesson, edited=copy) if copy else lesson

    def judged(self, checks):
        self.judgements.append(checks)

    def step(self):
        for step in self.steps:
            step()

    def why_not(self, lesson):
        return "it takes more than this." if "too much" in lesson.path.read_text() else None

    def why_not_judged(self, command):
        return "nobody is there." if any("nobody" in word for word in command.pipeline[-1]) else None


def write_lessons(folder, **comments):
    """Write lessons into a folder, in order, by their names and comments, and return them."""
    (folder / "istio").mkdir(exist_ok=True)
    (folder / EXAMPLE).write_text("")
    rows = ["### Traffic\n"]
    for name, comment in comments.items():
        rows.append(f"| The lesson {name} | `istio/{name}.yaml` | x |")
        text = "".join(f"# {line}".rstrip() + "\n" for line in comment.strip("\n").splitlines())
        (folder / "istio" / f"{name}.yaml").write_text(text)
    (folder / "README.md").write_text("\n".join(rows))
    return read_lessons(folder)
