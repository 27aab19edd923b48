"""The numbers of policies: which are found, what they may be, and the file with another one."""

import pytest

from meshdemo.lab.files.numbers import find_numbers, format_time, replace_number

POLICY = """\
# A comment stays.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: webserver
spec:
  http:
    - fault: {delay: {fixedDelay: 3s, percentage: {value: 25.5}}}
      timeout: 500ms # of all tries
      retries:
        attempts: 2
        perTryTimeout: "1s"
      route:
        - destination: {host: webserver, port: {number: 80}}
          weight: 100
---
apiVersion: v1
kind: Service
metadata: {name: webserver}
spec: {weight: 3}
---
"""
PATHS = {
    "spec.http[0].fault.delay.fixedDelay": (8, 3.0, True),
    "spec.http[0].fault.delay.percentage.value": (8, 25.5, False),
    "spec.http[0].timeout": (9, 0.5, True),
    "spec.http[0].retries.attempts": (11, 2.0, False),
    "spec.http[0].retries.perTryTimeout": (12, 1.0, True),
    "spec.http[0].route[0].weight": (15, 100.0, False),
}


def test_what_is_found():
    """Weights, percentages, delays, timeouts and attempts of policies are found, and no other number of a file."""
    numbers = find_numbers(POLICY)
    assert {each.path: (each.line, each.value, each.is_time) for each in numbers} == PATHS
    assert {each.label for each in numbers} == {"VirtualService/webserver"}


@pytest.mark.parametrize(
    ("path", "value", "before", "after"),
    [
        ("spec.http[0].route[0].weight", 7.0, "weight: 100\n", "weight: 7\n"),
        ("spec.http[0].timeout", 1.5, "timeout: 500ms #", "timeout: 1500ms #"),
        ("spec.http[0].retries.perTryTimeout", 2.0, '"1s"', '"2s"'),
        ("spec.http[0].fault.delay.percentage.value", 0, "25.5}", "0}"),
    ],
)
def test_another_number(path, value, before, after):
    """Only the number itself is another one; quotes, comments and line ends stay."""
    assert replace_number(POLICY, "VirtualService/webserver", path, value) == POLICY.replace(before, after)
    lines = POLICY.replace("\n", "\r\n")
    assert replace_number(lines, "VirtualService/webserver", path, value) == lines.replace(
        before.replace("\n", "\r\n"), after.replace("\n", "\r\n")
    )


@pytest.mark.parametrize(
    ("label", "path", "value", "words"),
    [
        ("VirtualService/webserver", "spec.http[0].route[0].weight", 101, "is from 0 to 100, not 101"),
        ("VirtualService/webserver", "spec.http[0].route[0].weight", float("nan"), "not nan"),
        ("VirtualService/webserver", "spec.http[0].timeout", 0, "is from 0.05 to 10, not 0"),
        ("VirtualService/webserver", "spec.http[1].timeout", 1, "has no number at spec.http[1].timeout any more"),
        ("Service/webserver", "spec.weight", 1, "has no number at spec.weight any more"),
    ],
)
def test_what_is_refused(label, path, value, words):
    """A number that cannot be, or that is not there, is refused in words."""
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        replace_number(POLICY, label, path, value)


def test_a_number_beyond_the_usual_keeps_its_place():
    """The range reaches to what a file has."""
    (number,) = [each for each in find_numbers(POLICY.replace("500ms", "1m")) if each.path.endswith(".timeout")]
    assert (number.least, number.most, number.value) == (0.05, 60, 60)


def test_an_alias_counts_once():
    """What an alias repeats is one number."""
    text = POLICY.replace("weight: 100", "weight: &share 100\n        - {weight: *share}")
    assert sum(each.path.endswith("weight") for each in find_numbers(text)) == 1


@pytest.mark.parametrize("text", ["", "{", "a: &a [*a]", "- weight: 1", "x\t: [", "apiVersion: [istio.io/]\nkind: a"])
def test_what_has_no_numbers(text):
    """A text that is no policy, or not YAML, has none."""
    assert find_numbers(text) == []


def test_times():
    """A time has no fraction."""
    assert [format_time(seconds) for seconds in (0.05, 1, 2.5, 60)] == ["50ms", "1s", "2500ms", "60s"]
