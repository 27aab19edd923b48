"""What the page shows of the lab: policies with their lines, the last change, and what was refused."""

import threading

import pytest
from lab_support import EXAMPLE, K8S

from meshdemo.lab import quick
from meshdemo.lab.edits.state import Reader
from meshdemo.lab.page_view import FILES, Edit, PageView, Refusal, Subject, describe

SPLIT = (K8S / "istio/split.yaml").read_text()


@pytest.fixture
def state_of(tmp_path):
    """Return a function that returns the state of the example with a policy in a file."""
    file = tmp_path / "policy.yaml"
    reader = Reader([EXAMPLE, file], quick)

    def state(text):
        file.write_text(text)
        return reader.configure(reader.read())

    return state


def marked(document):
    """Return the lines that are marked, with their numbers."""
    return [
        (line["number"], line["text"].strip())
        for policy in document["policies"]
        for line in policy["lines"]
        if line["changed"]
    ]


def test_policies_have_their_lines(state_of):
    """Each policy is there from its spec on, with the numbers of the lines in its file, and nothing is marked."""
    document = describe(state_of(SPLIT), FILES, None, None)
    service, rule = document["policies"]
    assert (service["label"], rule["label"]) == ("VirtualService/webserver", "DestinationRule/webserver")
    lines = SPLIT.splitlines()
    for policy in (service, rule):
        assert policy["lines"][0]["text"] == "spec:"
        assert all(line["text"] == lines[line["number"] - 1] for line in policy["lines"])
        assert all(line["turn"] is None for line in policy["lines"])
    assert rule["lines"][-1]["number"] == len(lines)
    assert marked(document) == []
    assert (document["changes"], document["refusal"]) == ([], None)


def test_an_edit_marks_its_lines(state_of):
    """Lines that differ from before the edit are marked, also where others moved; words say from what to what."""
    before = state_of(SPLIT)
    after = state_of("# moved\n" + SPLIT.replace("weight: 75", "weight: 60").replace("weight: 25", "weight: 40"))
    edit = Edit("2026-01-02T03:04:05.678+00:00", ("VirtualService/webserver changed (75 % v1 -> 60 % v1)",), before)
    document = describe(after, FILES, edit, None)
    numbers = [index for index, line in enumerate(SPLIT.splitlines(), 1) if "weight:" in line]
    assert marked(document) == [(numbers[0] + 1, "weight: 60"), (numbers[1] + 1, "weight: 40")]
    assert document["changes"] == [*edit.texts]
    assert document["changed_at"] == edit.time


def test_a_policy_that_is_new_is_marked_as_a_whole(state_of):
    """Each line of a policy that was not there before is marked, its name among them; comments behind it are none."""
    before = state_of(SPLIT)
    new = SPLIT.replace("name: webserver", "name: other", 1).replace("- webserver", "- webserverv1") + "# end\n\n"
    document = describe(state_of(new), FILES, Edit("", (), before), None)
    assert {text for _, text in marked(document)} >= {"name: other", "spec:"}
    assert not any("end" in line["text"] for policy in document["policies"] for line in policy["lines"])


def test_numbers_can_be_turned_where_that_is_allowed(state_of):
    """A line with a number says which, and what it may be."""
    subject = Subject("A split", "http://127.0.0.1:1/ui", desk=True, turns=True)
    document = describe(state_of(SPLIT), subject, None, None)
    turns = [line["turn"] for policy in document["policies"] for line in policy["lines"] if line["turn"]]
    assert [turn["value"] for turn in turns] == [75, 25]
    assert {turn["label"] for turn in turns} == {"VirtualService/webserver"}
    assert (document["title"], document["link"]) == (subject.title, subject.link)


def test_a_refusal_has_its_line(state_of):
    """What was refused is there in words, with the lines around the one that is wrong."""
    refusal = Refusal("not applied: ...", "policy.yaml", 3, "1\n2\n3\n4\n5\n6\n")
    found = describe(state_of(SPLIT), FILES, None, refusal)["refusal"]
    assert found["problem"] == "not applied: ..."
    assert [(line["number"], line["changed"]) for line in found["lines"]] == [
        (number, number == 3) for number in range(1, 6)
    ]
    assert describe(state_of(SPLIT), FILES, None, Refusal("why"))["refusal"]["lines"] == []


def test_hostile_files_stay_short(state_of):
    """Whatever a file holds, a page gets a bounded number of short lines without control characters."""
    long = SPLIT.replace("hosts:", "hosts: # \u202e" + "x" * 5000)
    subsets = "".join(f"    - name: s{number}\n      labels: {{version: v1}}\n" for number in range(1000))
    document = describe(state_of(long + subsets), FILES, None, None)
    lines = [line["text"] for policy in document["policies"] for line in policy["lines"]]
    assert len(lines) == 400
    assert document["policies"][-1]["more"]
    assert all(len(line) < 250 and "\u202e" not in line for line in lines)


def test_readers_wait_for_another_scene(state_of):
    """Who has seen a scene gets the next one as soon as it is shown, and nothing where there is none for a while."""
    view, state = PageView(), state_of(SPLIT)
    assert view.get("", 0) is None
    view.show(state, FILES, None, None)
    first = view.get("", 0)
    view.show(state, FILES, None, None)
    assert view.get(first["revision"], 0) is None
    found = []
    reader = threading.Thread(target=lambda: found.append(view.get(first["revision"], 20)))
    reader.start()
    view.show(state, FILES, None, Refusal("why"))
    reader.join(20)
    assert found[0]["refusal"]["problem"] == "why"
    assert found[0]["revision"] != first["revision"]
