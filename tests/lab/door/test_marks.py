"""What the page is told of edits."""

import json
import re

from meshdemo.lab.door.marks import ChangeMarks


def test_marks(tmp_path):
    """The file is there from the start, holds each edit with its time, and no more than the last hundred."""
    marks = ChangeMarks(tmp_path / "changes.json")
    assert json.loads(marks.path.read_text()) == []
    marks.add(["Service/a added", "Service/b removed"])
    found = json.loads(marks.path.read_text())
    assert [each["text"] for each in found] == ["Service/a added", "Service/b removed"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found[0]["time"])
    marks.add([str(number) for number in range(150)])
    assert [each["text"] for each in json.loads(marks.path.read_text())] == [str(number) for number in range(50, 150)]
    assert [path.name for path in tmp_path.iterdir()] == ["changes.json"]
