"""Percentiles, and the histogram."""

import re

import pytest
from samples import report_of, sample, unanswered

from meshdemo.watching import times


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 5), (50.1, 6), (95, 10), (90, 9), (99, 10), (100, 10)])
def test_percentile_is_the_nearest_rank(percent, expected):
    """A percentile is one of the values: the smallest that so many do not exceed."""
    assert times.percentile([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], percent) == expected
    assert times.percentile([4.5], percent) == 4.5


def rows(milliseconds):
    return [tuple(row) for row in times.histogram(sorted(milliseconds))]


def test_histogram_tells_two_groups_apart():
    """A quarter that takes three seconds is a row of its own, and what lies between is empty."""
    shown = rows([3.5] * 75 + [3004.0] * 25)
    assert shown[0] == (2.0, 5.0, 75)
    assert shown[-1] == (2000.0, 5000.0, 25)
    assert [count for *_, count in shown[1:-1]] == [0] * 8


def test_bounds_belong_to_the_row_that_they_begin():
    """Of a range the first number is in it, and the second is not."""
    assert rows([1, 2, 4.999, 5]) == [(1, 2, 1), (2, 5, 2), (5, 10, 1)]


def test_histogram_is_finer_where_times_are_close():
    """One row where all are alike, three rows a decade where ten are enough, and fewer where they are not."""
    assert rows([3, 4]) == [(2, 5, 2)]
    assert [row[0] for row in rows([1, 900])] == [1, 2, 5, 10, 20, 50, 100, 200, 500]
    assert [row[0] for row in rows([1, 2100])] == [1, 3, 10, 30, 100, 300, 1000]


@pytest.mark.parametrize("extreme", [[0.0, 1e12], [0.0], [1e12], [0.05, 86_400_000.0]], ids=str)
def test_histogram_has_ten_rows_at_most(extreme):
    """From nothing to days there are ten rows, and every call is in one of them."""
    shown = rows(extreme)
    assert len(shown) <= 10
    assert sum(count for *_, count in shown) == len(extreme)


def test_histogram_of_nothing():
    """Without an answer there is no histogram and no table."""
    assert times.histogram([]) == []
    assert times.format_times(report_of(unanswered()), 80, 10, "#") == []


def table(milliseconds, width=79, rows=10):
    report = report_of(*[sample("x", seconds=each / 1000) for each in milliseconds])
    return times.format_times(report, width, rows, "#")


def test_histogram_beside_the_percentiles():
    """Both stand side by side, with counts, shares and bars."""
    assert table([0.5] * 3 + [3004.0]) == [
        "time in ms   caller          caller answers   share",
        "median          0.5     0.3 to 1 ms       3  75.0 %  ####################",
        "95 %         3004.0       1 to 3 ms       0   0.0 %",
        "99 %         3004.0      3 to 10 ms       0   0.0 %",
        "maximum      3004.0     10 to 30 ms       0   0.0 %",
        "                       30 to 100 ms       0   0.0 %",
        "                      100 to 300 ms       0   0.0 %",
        "                      300 ms to 1 s       0   0.0 %",
        "                           1 to 3 s       0   0.0 %",
        "                          3 to 10 s       1  25.0 %  ######",
    ]


def test_histogram_below_the_percentiles_where_a_window_is_narrow():
    """No line is longer than the width."""
    lines = table([3.5] * 75 + [3004.0] * 25, 39)
    assert lines[5].split() == ["caller", "answers", "share"]
    assert max(map(len, lines)) <= 39


def test_histogram_of_fewer_rows():
    """Empty rows go first, then neighbours become one, and no call is lost."""
    assert ranges(table([3.5] * 75 + [3004.0] * 25, 45, 2)) == ["2 to 5 ms", "2 to 5 s"]
    assert ranges(table([1, 10, 100, 1000], 45, 2)) == ["1 to 20 ms", "100 ms to 2 s"]
    assert ranges(table([1, 10, 100, 1000], 45, 0)) == []


def ranges(lines):
    """Return the ranges of a histogram that stands below the percentiles."""
    return [re.match(r" *(.*? to \S+ \w+)", line)[1] for line in lines[6:]]


def test_long_times_stay_in_their_column():
    """From 100 s on a time is told in seconds."""
    assert table([86_399_999.0])[1].startswith("median      86400 s")
