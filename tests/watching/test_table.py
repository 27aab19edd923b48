"""The result as a table: in windows of any size, with whatever servers say."""

import re

import pytest
from samples import ENVOY, proxied, report_of, sample, unanswered, web

from meshdemo.console.terminal import ASCII_MARKS, Marks, width_of
from meshdemo.watching.sentences import format_progress
from meshdemo.watching.table import format_table

OVERFLOW = "upstream connect error or disconnect/reset before headers. reset reason: overflow"
IDENTITY = "URI=spiffe://cluster.local/ns/default/sa/proxy"


def lines_of(shown, columns=80, rows=None, marks=Marks(), running=False):  # noqa: B008
    """Return the table without colours, and check that it fits."""
    lines = [re.sub(r"\x1b\[\d+m", "", line) for line in format_table(shown, (columns, rows), marks, running=running)]
    assert all(line.isprintable() for line in lines), lines
    assert max(map(width_of, lines)) < columns, lines
    assert rows is None or len(lines) < rows, lines
    return lines


def pods(count):
    return [sample(proxied(web(f"V{number % 2}", f"webserverv{number % 2}-7d4b9c6f5-{number:05}"))) for number in
            range(count) for _ in range(3)]  # fmt: skip


EVIL = "\x1b[2J\x9b31m\nforged row   99   99.0 %\u202e\u200b\ud800宽宽"
EVERYTHING = [
    *pods(6),
    *[
        sample(proxied(web("V1", X_Envoy_Attempt_Count=str(tried), X_Forwarded_Client_Cert=IDENTITY)))
        for tried in (1, 2, 3)
    ],
    sample(proxied(web(EVIL, EVIL, path=EVIL, X_Forwarded_Client_Cert=f"URI={EVIL}"))),
    sample(proxied(OVERFLOW, status=503, headers=ENVOY)),
    sample(proxied("upstream request timeout", status=504, headers=ENVOY), seconds=1.003),
    sample(proxied(EVIL, status=599)),
    sample(proxied(None, None, EVIL)),
    unanswered(EVIL),
    sample("x" * 400, seconds=86_000),
]
EXPECT = ["V1=3..", "V0=50%..60%", f"name {EVIL}=0", "median=..1ms", "UO=1"]


def test_who_fails_stands_out():
    """The pod that fails stands out, by a number and by the letter x in its bar."""
    shown = report_of(*[sample(proxied(web(hostname=name, status=code), status=code))
                        for name, code in [("good", 200)] * 6 + [("sick", 500)] * 2])  # fmt: skip
    lines = lines_of(shown)
    assert re.fullmatch(r"V1 +8 +100\.0 % +2 +█{21}x{8}", lines[1])
    assert re.fullmatch(r"  good +6 +75\.0 % +- +█{22}", lines[2])
    assert re.fullmatch(r"  sick +2 +25\.0 % +2 +x{7}", lines[3])
    assert "\x1b[31m" in "\n".join(format_table(shown, (80, None), Marks()))


def test_answers_of_the_mesh_are_named():
    """What the mesh answered stands there with its flag and its meaning, an unknown text as it is."""
    texts = [(503, OVERFLOW), (504, "upstream request timeout"), (404, ""), (503, "who knows\n")]
    lines = lines_of(report_of(*[sample(proxied(text, status=status, headers=ENVOY)) for status, text in texts]))
    (start,) = [at for at, line in enumerate(lines) if re.fullmatch("other answers +calls +share", line)]
    assert [re.sub(r" {2,}.*", "", line) for line in lines[start + 1 : start + 5]] == [
        "503 overflow (UO): a limit of the connection pool",
        "504 timeout (UT): the route's or a try's time ran out",
        "404 probably no route (NR): no rule of the mesh fits the call",
        "503 who knows",
    ]


def test_the_heading_says_mesh_only_where_all_reasons_are_known():
    """Beside versions, answers whose reasons are all the mesh's stand below a heading that says so."""
    for text, heading in ((OVERFLOW, "answered by the mesh itself"), ("who knows", "other answers")):
        shown = report_of(sample(proxied(web())), sample(proxied(text, status=503, headers=ENVOY)))
        assert any(line.startswith(heading) for line in lines_of(shown))


def test_answers_with_the_same_meaning_are_one_row():
    """Texts that mean the same are counted together, and the most frequent meaning is the first."""
    texts = ["Jwt is expired", "Jwt is expired", "Jwt verification fails", "Jwt is missing", "Jwt is missing", "x", "x"]
    rows = [
        line
        for line in lines_of(report_of(*[sample(text, status=401, headers=ENVOY) for text in texts]))
        if "401 " in line
    ][1:]
    assert [re.sub(r" {2,}", "  ", row) for row in rows] == [
        "401 token refused (JWT): expired, forged, for others  3  42.9 %",
        "401 no token (JWT): the call needs one and has none  2  28.6 %",
        "401 x  2  28.6 %",
    ]


def test_many_statuses():
    """Where a window is too low for all statuses, failures among the rest are the letter x."""
    answers = [sample(web(status=status), status=status) for status in (*range(200, 210), *range(500, 510))]
    rest = [line for line in lines_of(report_of(*answers), 80, 14) if line.startswith("and ")]
    assert len(rest) == 1
    assert re.fullmatch(r"and 18 more +18 +90\.0 % {10}█+x+", rest[0])


def test_what_the_web_server_saw():
    """Tries, identities and another path are told in words."""
    certificate = {"X_Forwarded_Client_Cert": IDENTITY}
    answers = [sample(web(path="/", X_Envoy_Attempt_Count=str(tried), **certificate)) for tried in (1, 1, 2, 3)]
    lines = lines_of(report_of(*answers, path="/v2"))
    assert "answered at try 1: 2, 2: 1, 3: 1" in lines
    assert "mutual TLS in 4 of 4 calls: spiffe://cluster.local/ns/default/sa/proxy" in lines
    assert "asked for /v2, the web server saw /: 4" in lines
    assert not [line for line in lines_of(report_of(sample(web()))) if re.match("answered at|mutual|asked", line)]


def test_expectations():
    """Each is shown with what was seen, what was expected, and a mark that is a letter where there are no others."""
    shown = report_of(*pods(4), unanswered(), expect=["V1=6", "unanswered=0", "V0=..10%", "median=9ms..11ms"])
    assert lines_of(shown)[-6:-2] == [
        "✓ V1                6  expected 6",
        "✗ unanswered        1  expected 0",
        "✗ V0           46.2 %  expected ..10%",
        "✓ median      10.0 ms  expected 9ms..11ms",
    ]
    assert [line[0] for line in lines_of(shown, marks=ASCII_MARKS)[-6:-2]] == ["v", "x", "x", "v"]
    assert [line[0] for line in lines_of(shown, running=True)[-6:-2]] == [" "] * 4


def test_server_text_cannot_forge_a_row():
    """Whatever a server says is visible, on one line, in every table."""
    text = "\n".join(lines_of(report_of(*EVERYTHING, expect=EXPECT), columns=200))
    assert text.count(r"\x1b[2J\x9b31m") == 8
    assert not re.search(r"^ *forged", text, re.MULTILINE)


REPORTS = [
    report_of(*samples, expect=expect, is_interrupted=True)
    for samples in ([], pods(3), pods(40), EVERYTHING, [*pods(40), *EVERYTHING])
    for expect in ([], EXPECT)
]


@pytest.mark.parametrize("columns", [31, 39, 40, 41, 55, 60, 72, 79, 80, 81, 100, 132, 300])
@pytest.mark.parametrize("rows", [None, 8, 12, 24, 50])
def test_it_fits_every_window(columns, rows):
    """No line is as wide as the window, and there are fewer lines than rows: nothing wraps, nothing scrolls."""
    for shown in REPORTS:
        assert any(" requests" in line for line in lines_of(shown, columns, rows))


def test_pods_that_do_not_fit_are_one_line():
    """Of 40 pods as many as fit are shown, and the others are added up; the whole has all of them."""
    shown = report_of(*pods(40))
    lines = lines_of(shown, 80, 24)
    rest = [re.match(r"  and (\d+) more +(\d+)", line) for line in lines]
    (first, second) = [match for match in rest if match]
    pods_shown = sum("-7d4b9c6f5-" in line for line in lines)
    assert pods_shown + int(first[1]) + int(second[1]) == 40
    assert int(first[2]) == int(first[1]) * 3
    assert pods_shown >= 6
    assert sum("-7d4b9c6f5-" in line for line in lines_of(shown)) == 40


def test_what_is_expected_is_never_left_out():
    """In a window that is too low, expectations and the last line stay."""
    lines = lines_of(report_of(*EVERYTHING, expect=EXPECT), 80, 8)
    assert [line[0] for line in lines[-6:-1]] == ["✓", "✗", "✓", "✗", "✓"]
    assert " requests in 2.0 s" in lines[-1]


def test_many_texts_are_one_line():
    """Of a thousand different texts the most frequent are shown, and the others are added up."""
    lines = lines_of(report_of(*[sample(f"text {number}") for number in range(1000)]))
    assert len([line for line in lines if line.startswith("200 text")]) == 20
    assert [line for line in lines if re.fullmatch(r"and 980 more +980 +98\.0 %", line)]


def test_how_it_ended():
    """The last lines tell what is under way, what was not counted, and what began late."""
    assert lines_of(report_of(*pods(1)))[-1] == "3 requests in 2.0 s, 1.5 a second"
    running = report_of(*pods(1), planned=10, under_way=4)
    assert lines_of(running, running=True)[-1] == (
        "3 of 10 requests in 2.0 s, 1.5 a second, 4 under way; Ctrl+C ends it"
    )
    stopped = report_of(*pods(1), planned=10, under_way=4, is_interrupted=True)
    assert lines_of(stopped)[-1] == "Stopped early: 4 calls were under way and not counted."
    stopped = report_of(*pods(1), planned=None, under_way=1, is_interrupted=True)
    assert lines_of(stopped)[-1] == "Stopped early: 1 call was under way and not counted."
    assert lines_of(report_of(*pods(1), is_interrupted=True))[-1] == "Stopped early."
    assert lines_of(report_of(*pods(1), stopped_seconds=12.04))[-1] == (
        "This program was stopped for 12.0 s, which count in no time and no pace."
    )
    odd = report_of(*pods(1), change="9999-99-99T\x1b[2J forged")
    assert lines_of(odd)[-1] == r"A new count since 9999-99-99T\x1b[2J forged."
    late = report_of(sample("x", late=True), sample("x"))
    assert lines_of(late)[-2].startswith("1 of them started late, with all places taken")


def test_nothing():
    """Ctrl+C before the first answer is no mistake."""
    assert lines_of(report_of()) == ["0 requests in 2.0 s, 0.0 a second"]


def test_progress():
    """The counts so far stand on one line."""
    samples = [
        *pods(2),
        sample(proxied(OVERFLOW, status=503, headers=ENVOY)),
        sample(proxied(None, None, "x")),
        unanswered(),
    ]
    assert format_progress(report_of(*samples, planned=20)) == (
        "9 of 20 requests  V0 3  V1 3  503 1  errors 1  unanswered 1"
    )
    assert format_progress(report_of(sample(web(EVIL)))).isprintable()
