"""The live page, in a real browser in front of upstreams whose answers are known."""

import itertools
import json
import re
import signal
from datetime import UTC, datetime

import pytest
from browser_support import answers, in_browser, number, pause, rows, shares, wait_until
from scenes import CALLER, EVEN, OVERFLOW, SCENES, by_mesh, playing, signed, slow, v
from support import Program, free_port, get, http_response, in_tiers, replying

from meshdemo.calling.upstream import Upstream
from meshdemo.page.page import read_page
from meshdemo.roles import proxy

SMALLEST_LETTERS = """() => {
    const holdsText = (node) => node.nodeType === 3 && node.textContent.trim();
    const sizes = [...document.querySelectorAll('main *')]
        .filter((element) => [...element.childNodes].some(holdsText) || element.matches('input'))
        .map((element) => parseFloat(getComputedStyle(element).fontSize));
    return Math.min(...sizes);
}"""


def test_the_page_is_served_under_a_strict_policy(call_app):
    """One file without any other source, and a policy that allows its own script and style by their hashes."""
    app = proxy.create_app(Upstream("http://webserver"))
    response = call_app(app, "/ui?rate=50&big")
    assert response.status == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "connect-src 'self'" in policy
    assert not re.search(r"(src|href)=(?!\"data:image)|@import|url\(|innerHTML|\son\w+=|style=", response.text)
    assert "http://" not in response.text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("path", ["/ui2", "/UI", "//ui"])
def test_no_other_path_is_the_page(call_app, requests_mock, path):
    """Only /ui and what is below it are not proxied."""
    requests_mock.get("http://webserver" + path, text="from upstream")
    assert "from upstream" in call_app(proxy.create_app(Upstream("http://webserver")), path).text


@pytest.mark.parametrize(
    ("target", "location"),
    [("/ui/", "/ui"), ("/ui/?rate=5&path=%2fx", "/ui?rate=5&path=%2fx"), ("/ui/?\r\nX: y", "/ui?%0D%0AX:%20y")],
)
def test_a_slash_behind_the_page(call_app, target, location):
    """/ui/ leads to /ui, with its query."""
    response = call_app(proxy.create_app(Upstream("http://webserver")), target)
    assert (response.status, response.headers["location"]) == (308, location)


@pytest.mark.parametrize("path", ["/ui//", "/ui/x", "/ui/calls/"])
def test_nothing_else_is_below_the_page(call_app, requests_mock, path):
    """Below /ui the proxy answers itself, and says so."""
    response = call_app(proxy.create_app(Upstream("http://webserver")), path)
    assert (response.status, response.text) == (404, f"There is nothing at {path}. See /ui.")
    assert not requests_mock.called


def test_the_page_is_made_once():
    """The file is read once, not for each request."""
    assert read_page() is read_page()


def luminance(colour):
    """Return the relative luminance of #rrggbb (WCAG 2.2, 'relative luminance')."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """Return the contrast of two colours, from 1 to 21, which needs no hue to be seen."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_colours_keep_apart_without_hue():
    """In light and dark the first two versions differ by lightness alone, as do the stripes of a failure."""
    html, _ = read_page()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6});", block)) for block in re.findall(r":root \{(.*?)\}", html, re.S)
    )
    for colours in (light, light | dark):
        assert contrast(colours["v0"], colours["v1"]) > 2
        assert contrast(colours["fail"], colours["fail-gap"]) > 4.5
        assert all(contrast(colours[f"v{slot}"], colours["card"]) > 2.5 for slot in range(8))
        assert all(contrast(colours[f"v{slot}"], colours[f"on-v{slot}"]) > 4.5 for slot in range(8))


@in_browser
def test_both_versions_appear_with_their_shares(program, open_page):
    """The whole application shows both versions at about a half each, and all six pods; a clear begins anew."""
    page = open_page(program("up", "--port", "0").url, "?rate=100")
    answers(page, 200)
    pause(page)
    found = shares(page)
    assert set(found) == {"Webserver V1", "Webserver V2"}
    assert all(30 < number(value) < 70 for value in found.values())  # 50, give or take 5.6 standard deviations
    table = rows(page, "pod")
    pods = {f"{'abc'[n - 1]}  webserverv{version}-{n}" for version in (1, 2) for n in (1, 2, 3)}
    assert {re.sub(r"\s+", "  ", name) for name in table} == {"Webserver  V1", "Webserver  V2", *pods}
    assert page.inner_text("#answered") == "100 %"
    assert page.inner_text("#failed") == "0 %"
    assert re.fullmatch(r"[\d.]+ ms", page.inner_text("#median"))
    assert page.locator("#dots .fail").count() == 0
    page.click("#clear")
    wait_until(lambda: page.get_attribute("#share", "aria-label") == "no answers yet", "the clear")
    assert page.locator("#dots .fine").count() == 0


@in_browser
def test_failures_are_loud(show):
    """A third that fails is a red figure, hatched in the segment of each version, and red squares in the stream."""
    page = show(SCENES["third failing"], "?rate=100")
    answers(page, 180)
    pause(page)
    assert 30 < number(page.inner_text("#failed")) < 37
    assert number(page.inner_text("#answered")) + number(page.inner_text("#failed")) == pytest.approx(100, abs=0.2)
    assert page.locator(".figure.bad #failed").count() == 1
    assert page.locator(".figure.bad #answered").count() == 0
    assert all(re.fullmatch(r"[\d.]+ %, of these 3[\d.]+ % failed", words) for words in shares(page).values())
    script = "() => [...document.querySelectorAll('#share .segment > div')].map((each) => each.offsetWidth)"
    widths = page.evaluate(script)
    assert len(widths) == 4
    assert all(bad / (fine + bad) == pytest.approx(1 / 3, abs=0.05) for fine, bad in (widths[:2], widths[2:]))
    assert page.inner_text("#dots .fail >> nth=0").startswith("✕")
    assert rows(page, "reason").keys() == {"200", "500"}


@in_browser
def test_answers_of_the_mesh_are_segments_of_their_own(show):
    """What the mesh answers stands beside the versions under its reason, which the table explains."""
    page = show([*SCENES["overflow"], by_mesh(429, "quite odd")], "?rate=100")
    answers(page, 110)
    pause(page)
    assert list(shares(page)) == ["Webserver V1", "Webserver V2", "429 quite odd", "overflow (UO)"]
    assert number(shares(page)["overflow (UO)"]) == pytest.approx(400 / 11, abs=4)
    assert page.locator("#share .segment.mesh").count() == 2
    assert "overflow (UO): a limit of the connection pool" in rows(page, "reason")
    assert {name.split()[-1] for name in rows(page, "pod") if "Webserver" in name} == {"V1", "V2"}


@in_browser
@pytest.mark.thorough
def test_a_reason_is_not_cut_where_there_is_room(show):
    """In the picture a long reason goes on in a second line where its box is high enough, else its middle is cut."""
    faults = [by_mesh(503, "fault filter abort")] * 6
    page = show([*EVEN, *faults], "?rate=50", viewport={"width": 920, "height": 700})
    answers(page, 40)
    texts = page.locator("#flows text").all_text_contents()
    assert "fault injected (FI)" in " ".join(texts)
    assert "fault injected (FI)" not in texts
    page.set_viewport_size({"width": 340, "height": 700})
    wait_until(lambda: "…" in "".join(page.locator("#flows text").all_text_contents()), "the other width")


@in_browser
def test_nothing_answered_is_said_in_words(show):
    """When every call fails the state says so with the reason, and the figures turn."""
    page = show(SCENES["all dead"])
    wait_until(lambda: page.inner_text("#state") == "Every call fails: no healthy pod (UH).", "the words")
    assert (page.inner_text("#answered"), page.inner_text("#failed")) == ("0 %", "100 %")
    assert page.locator(".figure.bad").count() == 2
    assert list(shares(page).items()) == [("no healthy pod (UH)", "100 %")]


@in_browser
def test_a_dead_upstream(program, open_page):
    """A call that found nobody is an exclamation mark with its reason."""
    url = f"http://127.0.0.1:{free_port()}"
    page = open_page(program("proxy", "--port", "0", "--proxy-url", url).url)
    wait_until(lambda: page.inner_text("#state") == "Every call fails: connection refused.", "the words")
    assert page.locator("#dots .fail >> nth=0").inner_text() == "!"
    assert f"connection refused: connection refused calling {url}/" in rows(page, "reason")


@in_browser
def test_slow_answers_look_slow(show):
    """A ring grows with the time of an answer, and the figure of the slowest turns."""
    page = show([v(1, 1), v(1, 2), slow(v(1, 3), 1.0)], "?rate=20")
    answers(page, 60)
    pause(page)
    rings = page.locator("#dots .fine").evaluate_all(
        """all => all.map((each) =>
            [each.textContent, parseFloat(getComputedStyle(each.firstChild, '::after').borderTopWidth)])"""
    )
    assert all(width >= 5 for letter, width in rings if letter == "c")
    assert sum(width > 4 for letter, width in rings if letter != "c") < len(rings) / 10
    assert page.locator(".figure.slow #p95").count() == 1
    assert number(page.inner_text("#p95")) == pytest.approx(1, abs=0.3)
    assert page.locator(".figure.slow #median").count() == 0


@in_browser
@pytest.mark.thorough
def test_the_ring_of_a_slow_failure_stays_in_its_place(show):
    """The ring of a failure is no larger than its square, whoever answered, so that none is cut at its neighbours."""
    page = show([slow(v(1, 1, 500), 0.3), slow(by_mesh(504, "upstream request timeout"), 0.3)], "?rate=20")
    answers(page, 6)
    sizes = page.locator("#dots .fail span").evaluate_all(
        "all => all.map((each) => ['::after', null].map((part) => parseFloat(getComputedStyle(each, part).width)))"
    )
    assert len(sizes) >= 6
    assert all(0 < ring <= square for ring, square in sizes)


@in_browser
def test_all_speak_of_one_window(show):
    """Figures, shares, stream and tables count the same calls of the same seconds, and say which."""
    played = [v(9, 1)]
    page = show(played, "?rate=50&window=5")
    answers(page, 20)
    played[:] = [*SCENES["overflow"], *SCENES["third failing"]]
    answers(page, 100)
    wait_until(lambda: "Webserver V9" not in shares(page), "the first answers to leave the window")
    pause(page)
    assert page.inner_text("#share-title").endswith("in the last 5 s")
    assert page.inner_text("#pods-title").endswith("in the last 5 s")
    assert page.inner_text("#reasons-title").endswith("in the last 5 s")
    reasons, table = rows(page, "reason"), rows(page, "pod")
    total = sum(int(cells[0]) for cells in reasons.values())
    assert not any("V9" in name for name in table)
    versions = {name: cells for name, cells in table.items() if name.startswith("Webserver")}
    pods = {name: cells for name, cells in table.items() if not name.startswith("Webserver")}
    overflow = int(reasons["overflow (UO): a limit of the connection pool"][0])
    for found in (versions, pods):
        assert sum(int(cells[0]) for cells in found.values()) + overflow == total
    failed = overflow + int(reasons["500"][0])
    assert sum(int(cells[2]) for cells in versions.values()) + overflow == failed
    assert number(page.inner_text("#failed")) == pytest.approx(100 * failed / total, abs=0.06)
    assert all(shares(page)[name].startswith(cells[1]) for name, cells in versions.items())


@in_browser
@pytest.mark.thorough
def test_the_window_can_be_chosen(show):
    """A shorter window forgets what is older."""
    played = [v(9, 1)]
    page = show(played, "?rate=20&window=30")
    answers(page, 10)
    played[:] = SCENES["mirrored"]
    wait_until(lambda: page.inner_text("#share-title").endswith("in the last 8 s"), "eight seconds")
    assert "Webserver V9" in shares(page)
    page.select_option("#window", "5")
    wait_until(lambda: "Webserver V9" not in shares(page), "the first answers to leave the window", 15)
    assert page.inner_text("#share-title").endswith("in the last 5 s")
    assert "window=5" in page.url


@in_browser
def test_a_change_of_policy_shows(program, open_page, tcp_server, tmp_path):
    """A change is a mark with time and object in stream, chart and title, and the window begins there."""
    file = tmp_path / "changes"
    played = [v(1, 1)]
    backend = tcp_server(lambda connection: playing(played)(connection))
    url = program("proxy", "--port", "0", "--proxy-url", backend.url, env={"CHANGES_FILE": str(file)}).url
    page = open_page(url, "?rate=100")
    answers(page, 100)
    assert not page.is_visible("#change")
    played[0] = v(2, 1)
    text = "VirtualService/webserver changed, <b>"
    (tmp_path / "new").write_text(json.dumps([{"time": datetime.now(UTC).isoformat(), "text": text}]))
    (tmp_path / "new").replace(file)
    wait_until(lambda: page.is_visible("#change"), "the mark")
    wait_until(lambda: list(shares(page)) == ["Webserver V2"], "only the answers of afterwards", 5)
    assert re.fullmatch(rf"since \d\d:\d\d:\d\d {re.escape(text)}", page.inner_text("#change"))
    wait_until(lambda: page.locator("#dots .change").count() == 1, "the mark in the stream")
    assert re.fullmatch(rf"\d\d:\d\d:\d\d {re.escape(text)}", page.get_attribute("#dots .change", "aria-label"))
    labels, inside = page.evaluate(
        """() => {
            const labels = [...document.querySelectorAll('#chart text.label')];
            const chart = document.querySelector('#chart').getBoundingClientRect();
            const isInside = ({ left, right }) => chart.left <= left && right <= chart.right + 1;
            const boxes = labels.map((each) => each.getBoundingClientRect());
            return [labels.map((each) => each.textContent), boxes.map(isInside)];
        }"""
    )
    assert text.replace(" ", "") in "".join(labels).replace(" ", "")
    assert all(inside)
    page.reload()
    answers(page, 20)
    assert text in page.inner_text("#change")
    assert page.locator("#dots .change").count() == 0  # it came before the page


@in_browser
def test_what_happened_to_a_call(show):
    """Pointing at an answer freezes the stream with a sign, and tells all in a fixed place; leaving goes on."""
    tried = {"X-Envoy-Attempt-Count": "3", "X-Forwarded-Client-Cert": f"By=x;URI={CALLER}"}
    page = show([v(1, 2, 500, **tried), by_mesh(503, OVERFLOW)])
    wait_until(lambda: page.locator("#dots .fail").count() > 3, "answers")
    assert not page.is_visible("#frozen")
    place = page.locator("#detail").bounding_box()
    page.hover("#dots button >> nth=3")  # from here on nothing moves
    page.hover("#dots .version >> nth=0")
    told = page.inner_text("#detail").split("\n")
    for words in ("Webserver V1", "webserverv1-2", "/", "500", "3", CALLER, "answered by the application"):
        assert words in told
    assert re.fullmatch(r"[\d.]+ ms", told[-1])
    assert page.inner_text("#frozen-text").startswith("Frozen")
    labels = page.locator("#dots button").evaluate_all("all => all.map((each) => each.ariaLabel)")
    wait_until(lambda: re.search(r", (\d+ newer|all new)$", page.inner_text("#frozen-text")), "more answers")
    assert page.locator("#dots button").evaluate_all("all => all.map((each) => each.ariaLabel)") == labels
    page.hover("#dots .mesh >> nth=0")
    told = page.inner_text("#detail").split("\n")
    assert "overflow (UO): a limit of the connection pool" in told
    assert page.locator("#detail").bounding_box() == place
    page.hover("#answered")
    assert not page.is_visible("#frozen")
    wait_until(
        lambda: page.locator("#dots button").first.get_attribute("aria-label") != labels[0], "the stream to go on"
    )


@in_browser
def test_what_happened_to_a_call_by_keyboard(show):
    """One Tab reaches the answers, arrow keys move between them and never leave what is seen, Escape goes on."""
    page = show(EVEN, "?rate=50")
    wait_until(lambda: page.locator("#dots .fine").count() > 60, "answers")
    page.focus("#clear")
    page.keyboard.press("Tab")
    focused = "document.activeElement.getAttribute('aria-label')"
    first = page.evaluate(focused)
    assert re.fullmatch(r"Webserver V\d, pod webserverv\d-\d, path /, status 200, took [\d.]+ ms", first)
    assert page.is_visible("#frozen")
    assert "webserverv" in page.inner_text("#detail")
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "End", "ArrowRight", "ArrowDown", "Home", "ArrowUp"):
        page.keyboard.press(key)
        box = page.evaluate("JSON.stringify(document.activeElement.getBoundingClientRect())")
        frame = page.locator("#dots").bounding_box()
        assert frame["y"] - 1 <= json.loads(box)["top"] <= frame["y"] + frame["height"] - 30
        assert page.evaluate("document.activeElement.closest('#dots') !== null")
    assert page.evaluate(focused) == first
    page.keyboard.press("Escape")
    assert not page.is_visible("#frozen")
    page.wait_for_timeout(1500)
    assert page.evaluate("document.activeElement.closest('#dots') !== null")
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.closest('#dots') !== null")


@in_browser
def test_what_happened_to_a_call_by_touch(show):
    """A tap freezes until the button says go on."""
    page = show(EVEN, viewport={"width": 390, "height": 844}, has_touch=True)
    wait_until(lambda: page.locator("#dots .fine").count() > 10, "answers")
    page.locator("#dots .fine >> nth=4").tap()
    page.wait_for_selector("#frozen", state="visible")
    assert "webserverv" in page.inner_text("#detail")
    page.tap("h1")
    assert page.is_visible("#frozen")
    page.tap("#go-on")
    page.wait_for_selector("#frozen", state="hidden")
    assert "webserverv" not in page.inner_text("#detail")


@in_browser
def test_colours_belong_to_names(show):
    """Versions 1 and 2 have the first two colours, whoever answers first and whatever else does."""
    odd = signed("Webserver sick", "sick-1", 500)
    page = show([odd, odd, odd, v(2, 1), signed("Hello", "h"), v(1, 1)])
    script = """all => all.map((each) =>
        [each.querySelector('p').firstChild.data, /\\bv(\\d)\\b/.exec(each.className)[1]])"""

    def slots():
        return dict(page.locator("#share .segment").evaluate_all(script))

    answers(page, 12)
    wait_until(lambda: len(slots()) == 4, "all of them")
    first = slots()
    assert (first["Webserver V1"], first["Webserver V2"]) == ("0", "1")
    assert len(set(first.values())) == 4
    page.reload()
    answers(page, 12)
    wait_until(lambda: slots() == first, "the same colours")


@in_browser
@pytest.mark.thorough
def test_twenty_versions(show):
    """Each of twenty versions has its row and segment, those too narrow for a name are in the legend, and it fits."""
    page = show(
        [signed(f"Version {n}", f"pod-{n}") for n in range(1, 21)], "?rate=50", viewport={"width": 1280, "height": 720}
    )
    wait_until(lambda: len(shares(page)) == 20, "all")
    assert [name for name in rows(page, "pod") if name.startswith("Version")] == [f"Version {n}" for n in range(1, 21)]
    assert re.search(r"and \d+ more, see the table", page.inner_text("#legend"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.evaluate("document.querySelector('#times').getBoundingClientRect().bottom") <= 720


@in_browser
@pytest.mark.parametrize("names", [["even", "sick pod"], pytest.param(list(SCENES), marks=pytest.mark.thorough)])
def test_scenes_are_told_apart_without_reading(show, names):
    """Scenes differ in what is seen without a letter: coloured parts, red parts, and tiles that turned."""
    seen = {}
    for name in names:
        page = show(SCENES[name], "?rate=80", viewport={"width": 1280, "height": 720})
        answers(page, 80)
        # A busy machine may make any of them slow for a while, and a slow answer comes after others.
        wait_until(
            lambda page=page, is_slow=name == "slow": bool(page.locator("#figures .slow").count()) == is_slow, name, 60
        )
        pause(page)
        # In one go, since the page may draw anew between two.
        parts = page.evaluate(
            """() => [...document.querySelectorAll('#share .segment > div')].map((each) =>
                [each.className, Math.round(20 * each.offsetWidth / document.querySelector('#share').offsetWidth)])"""
        )
        tiles = page.locator("#figures > div").evaluate_all("all => all.map((each) => each.className)")
        boxes = page.locator("#flows rect").evaluate_all("all => all.map((each) => each.getAttribute('class'))")
        seen[name] = (parts, tiles, boxes)
        page.context.close()
    for (one, first), (other, second) in itertools.combinations(seen.items(), 2):
        assert first != second, f"{one} looks like {other}"
    assert any("wrong" in each for each in seen["sick pod"][2])


RIBBONS = """() => {
    const ends = [];
    for (const ribbon of document.querySelectorAll('#flows .flow')) {
        const [x1, y1, , , , , x2, y2, bottom] = ribbon.getAttribute('d').match(/-?[\\d.]+(e-?\\d+)?/g).map(Number);
        ends.push([x1, y1, y1 + bottom - y2], [x2, y2, bottom]);
    }
    const boxes = [...document.querySelectorAll('#flows rect')].map((box) =>
        ['x', 'y', 'width', 'height'].map((name) => Number(box.getAttribute(name))));
    return [ends, boxes];
}"""


@in_browser
@pytest.mark.parametrize(
    "played",
    in_tiers(
        [
            SCENES["split"],
            [v(1, 1)],
            [v(version, pod) for version in (1, 2) for pod in range(1, 7)],
            SCENES["sick pod"],
            [*[v(1, 1)] * 19, v(2, 1), by_mesh(503, OVERFLOW)],
        ],
        4,
    ),
    ids=["75 to 25", "one pod", "12 pods", "a sick pod", "a thin ribbon"],
)
def test_ribbons_end_within_boxes(show, played):
    """In the picture no ribbon is thicker than the box at either of its ends, or hangs over."""
    page = show(played, "?rate=100", viewport={"width": 1280, "height": 720})
    answers(page, 60)
    pause(page)
    ends, boxes = page.evaluate(RIBBONS)
    assert ends
    for x, top, bottom in ends:
        assert any(
            left - 1 <= x <= left + width + 1 and y - 0.5 <= top and bottom <= y + height + 0.5
            for left, y, width, height in boxes
        ), (x, top, bottom, boxes)


@in_browser
def test_pods_that_do_not_answer_any_more(show):
    """A version and its pods that answered a while ago, and now do not, stay in the picture, grey."""
    played = [*SCENES["even"] * 5, *[v(1, 1)] * 1000]
    page = show(played, "?rate=50&window=5", viewport={"width": 1280, "height": 720})
    wait_until(lambda: len(shares(page)) == 2, "both versions")
    wait_until(lambda: list(shares(page)) == ["Webserver V1"], "only one version in the window")
    quiet = page.locator("#flows text.quiet").all_text_contents()
    assert quiet == ["b webserverv1-2", "c webserverv1-3"] + [f"{'abc'[n]} webserverv2-{n + 1}" for n in range(3)] + [
        "Webserver V2"
    ]
    assert page.locator("#flows rect.quiet").count() == len(quiet)


@in_browser
@pytest.mark.parametrize(
    ("width", "height", "query", "letters"),
    [
        (1280, 720, "", 14),
        (1280, 720, "&big", 18),
        pytest.param(1920, 1080, "", 18, marks=pytest.mark.thorough),
        pytest.param(1920, 1080, "&big", 18, marks=pytest.mark.thorough),
    ],
)
def test_the_first_screen(show, width, height, query, letters):
    """Controls, figures, shares, stream, times and picture fit without scrolling, in letters that can be read."""
    played = [*SCENES["overflow"], *SCENES["third failing"], v(1, 1, **{"X-Forwarded-Client-Cert": f"URI={CALLER}"})]
    page = show(played, "?rate=100" + query, viewport={"width": width, "height": height})
    answers(page, 60)
    page.hover("#dots .fail >> nth=0")
    for selector in ("#figures", "#share", "#dots", "#detail", "#times", "#picture"):
        box = page.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= height, selector
        assert box["x"] + box["width"] <= width, selector
    assert page.locator("#controls").bounding_box()["height"] <= height / 10
    assert page.locator(".figure").count() == 5
    clipped = "all => all.filter((each) => each.scrollWidth > each.clientWidth + 1).map((each) => each.textContent)"
    assert page.locator(".figure, .figure b").evaluate_all(clipped) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(SMALLEST_LETTERS) >= letters
    assert page.locator("#flows rect").count() >= 4


@in_browser
def test_a_phone(show):
    """On a phone all stands in the same order in one column, nothing is cut, and the controls unfold."""
    page = show(SCENES["overflow"], "?rate=60", viewport={"width": 360, "height": 740})
    answers(page, 60)
    tops = [
        page.locator(each).bounding_box()["y"]
        for each in ("#controls", "#figures", "#share", "#dots", "#times", "#picture", "#pods")
    ]
    assert tops == sorted(tops)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#controls").bounding_box()["height"] < 74
    assert not page.is_visible("#path")
    words = page.inner_text("#legend") + page.inner_text("#share")
    assert all(name in words for name in ("Webserver V1", "Webserver V2", "overflow (UO)"))
    cut = """all => all.filter((each) => getComputedStyle(each).visibility !== 'hidden'
        && each.getBoundingClientRect().right > each.closest('.segment').getBoundingClientRect().right + 1).length"""
    assert page.locator(".segment p").evaluate_all(cut) == 0
    page.click("#unfold")
    for selector in ("#rate", "#path", "#header", "#window", "#clear"):
        assert page.is_visible(selector)
    assert page.get_attribute("#unfold", "aria-expanded") == "true"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@in_browser
def test_a_name_that_does_not_fit_any_more(show):
    """On a phone a share that becomes too narrow for its name moves nothing: there is room for two in the legend."""
    played = [v(1, 1), v(1, 1), v(2, 1)]
    page = show(played, "?rate=100", viewport={"width": 320, "height": 640})
    wait_until(lambda: page.locator("#legend li").count() == 1, "one name in the legend")
    top = page.locator("#dots").bounding_box()["y"]
    played[:] = [v(1, 1), v(2, 1)]
    wait_until(lambda: page.locator("#legend li").count() == 2, "two of them")
    assert page.locator("#dots").bounding_box()["y"] == pytest.approx(top, abs=1)


@in_browser
def test_the_address_holds_the_scene(program, open_page, tcp_server):
    """Rate, path, header, window and size come from the address; what is changed goes there, and a reload keeps it."""
    requests = []
    backend = tcp_server(replying(http_response(b"ok"), requests))
    url = program("proxy", "--port", "0", "--proxy-url", backend.url).url
    page = open_page(url, "?rate=50&path=/a%3Fb=c&header=end-user:tester&window=30&big")
    wait_until(lambda: requests, "a call")
    assert page.inner_text("#state") == "Calling /a?b=c with end-user:tester"
    assert requests[0].startswith(b"GET /a?b=c ")
    assert b"end-user: tester\r\n" in requests[0]
    assert page.input_value("#rate") == page.inner_text("#rate-shown") == "50"
    assert page.input_value("#window") == "30"
    page.fill("#path", "//elsewhere/x")
    wait_until(lambda: any(request.startswith(b"GET //elsewhere/x ") for request in requests), "the typed path")
    page.click("#unfold")
    page.fill("#header", "")
    page.focus("#rate")
    page.keyboard.press("Home")
    address = "/ui?rate=1&path=//elsewhere/x&window=30&big"
    wait_until(lambda: page.evaluate("location.href").endswith(address), "the address")
    page.reload()
    assert page.input_value("#path") == "//elsewhere/x"
    assert (page.input_value("#header"), page.input_value("#rate")) == ("", "1")
    assert page.evaluate("document.documentElement.className") == "big"
    wait_until(lambda: requests[-1].startswith(b"GET //elsewhere/x ") and b"end-user" not in requests[-1], "calls")
    assert not [request for request in requests if b"favicon" in request]
    pause(page)
    page.reload()
    assert page.inner_text("#state") == "Paused."


@in_browser
def test_what_cannot_be_called_is_said(show, open_page):
    """What the proxy refuses is said in its words, and calls go on once it is put right."""
    page = show(EVEN)
    for control, text, words in (
        ("#header", "not a name", "not%20a%20name is not a header."),
        ("#header", "cookie:x", "The proxy does not pass on cookie."),
        ("#path", "/healthz", "The proxy answers /healthz itself."),
    ):
        page.fill(control, text)
        wait_until(lambda words=words: words in page.inner_text("#problem"), words)
        assert page.inner_text("#state") == "No calls are made."
        page.fill(control, "/" if control == "#path" else "")
        wait_until(lambda: page.inner_text("#state") == "Calling /", "calls")
        assert not page.is_visible("#problem")
        page.click("#clear")
        answers(page, 3)
    assert all("400 (Bad Request)" in problem for problem in open_page.problems)
    open_page.problems.clear()


@in_browser
def test_behind_a_gateway_that_adds_a_prefix(program, open_page):
    """The page asks for its calls below its own address, whatever stands before it."""
    url = program("up", "--port", "0").url
    page = open_page(url)
    page.route("**/demo/**", lambda route: route.continue_(url=route.request.url.replace("/demo/", "/")))
    page.goto(url + "/demo/ui")
    answers(page, 10)


@in_browser
@pytest.mark.thorough
def test_the_rate_is_reached_while_answers_take_two_seconds(show):
    """Forty calls a second are made although each takes two seconds, and the page says no less."""
    page = show([slow(v(1, 1))], "?rate=40")
    wait_until(lambda: page.inner_text("#share-title").endswith("in the last 8 s"), "eight seconds", 40)
    script = "() => [...document.querySelectorAll('#pace, #pace-of')].map((each) => each.innerText)"

    def is_reached():
        pace, words = page.evaluate(script)
        return number(pace) >= 36 and words == "calls a second"

    wait_until(is_reached, "the rate", 60)
    wait_until(lambda: page.locator(".missed").count() == 0, "nothing to be missed")


@in_browser
def test_what_limits_the_rate_is_said(show):
    """When calls never end the page says how many were made of those requested, and what holds them back."""
    page = show([slow(v(1, 1), 60)], "?rate=100")
    wait_until(lambda: "400 calls are in progress, which is the limit." in page.inner_text("#state"), "the words", 60)
    wait_until(lambda: page.inner_text("#pace-of") == "of 100 requested", "the request", 60)


@in_browser
@pytest.mark.thorough
def test_a_class_of_pages(program, open_page, tcp_server):
    """A page too many says what limits it; the proxy goes on."""
    backend = tcp_server(replying(http_response(b"ok")))
    running = program("proxy", "--port", "0", "--proxy-url", backend.url, "--threads", "2")
    pages = [open_page(running.url) for _ in range(3)]
    wait_until(
        lambda: any(
            "Other pages keep the proxy busy (limit of streams: 1)" in page.inner_text("#state") for page in pages
        ),
        "the words",
    )
    assert get(running.port, "/x")[0] == 200
    for page in pages:
        page.close()
    assert all("503 (Service Unavailable)" in problem for problem in open_page.problems)
    open_page.problems.clear()


@in_browser
@pytest.mark.thorough
def test_without_motion_places_are_filled_in_turn(show):
    """Where motion is not wanted an answer stays where it is, and the newest is underlined."""
    page = show([signed(f"Version {n % 7}", f"pod-{n}") for n in range(60)], reduced_motion="reduce")
    script = "all => all.map((each) => each.ariaLabel)"
    wait_until(lambda: page.locator("#dots .fine").count() >= 5, "answers")
    before = page.locator("#dots button").evaluate_all(script)
    count = sum(label is not None for label in before)
    wait_until(lambda: page.locator("#dots .fine").count() >= count + 10, "more answers")
    after = page.locator("#dots button").evaluate_all(script)
    filled = [index for index, label in enumerate(before) if label]
    assert [after[index] for index in filled] == [before[index] for index in filled]
    assert page.locator("#dots .newest").count() == 1
    assert "underlined" in page.inner_text("#dots-title")


@in_browser
def test_pause_stops_the_calls(show):
    """While paused nothing is called and nothing moves; afterwards it goes on."""
    page = show(EVEN)
    answers(page, 5)
    pause(page)

    def calls_in_half_a_second():
        before = page.backend.connections
        page.wait_for_timeout(500)
        return page.backend.connections - before

    wait_until(lambda: not calls_in_half_a_second(), "what is under way to end")
    before, told = page.backend.connections, page.inner_text("main")
    page.wait_for_timeout(1500)
    assert page.backend.connections == before
    assert page.inner_text("main") == told
    page.click("#pause")
    wait_until(lambda: page.backend.connections > before, "calls to go on")


@in_browser
def test_a_hostile_answer_is_text(show):
    """What looks like HTML or script in an answer is shown, not run."""
    hostile = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    page = show([signed(hostile, hostile, path=hostile), by_mesh(500, hostile), by_mesh(200, hostile)])
    answers(page, 9)
    page.locator("#dots .version").first.hover()
    assert hostile in page.inner_text("#detail")
    assert hostile in " ".join(rows(page, "pod"))
    assert f"500 {hostile}" in " ".join(rows(page, "reason"))
    assert hostile in page.get_attribute("#share", "aria-label")
    assert page.title() == "meshdemo"
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1


@in_browser
def test_the_proxy_goes_away_and_comes_back(open_page):
    """When the proxy is gone the page says so, and goes on by itself once it is back."""
    first = Program("up", "--port", "0", "--drain-seconds", "0")
    second = None
    try:
        page = open_page(first.url)
        answers(page, 3)
        first.signal(signal.SIGINT)
        first.wait_for_end()
        wait_until(lambda: "does not answer" in page.inner_text("#state"), "the word")
        second = Program("up", "--port", str(first.port))
        wait_until(lambda: page.inner_text("#state") == "Calling /", "the page to recover")
        page.click("#clear")
        answers(page, 3)
        page.close()
    finally:
        first.close()
        if second:
            second.close()
    # The browser itself reports the failed connections as errors of the network.
    assert all("ERR_" in problem for problem in open_page.problems)
    open_page.problems.clear()


@in_browser
@pytest.mark.thorough
def test_in_the_background_it_slows_down(show):
    """With the tab hidden there is about one call a second."""
    page = show(EVEN, "?rate=100")
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true })")

    def calls_in_a_second():
        before = page.backend.connections
        page.wait_for_timeout(1000)
        return page.backend.connections - before

    wait_until(lambda: calls_in_a_second() <= 2, "about one call a second")


@in_browser
def test_it_holds_what_it_shows_and_no_more(show):
    """Twenty thousand different versions, pods and reasons leave a bounded number of rows, parts and answers."""
    page = show(EVEN)
    answers(page, 3)
    pause(page)
    page.evaluate("""() => {
        const hour = 3600e3;
        for (let n = 0; n < 5000; n += 1) {
            takeChanges([{ time: new Date(n * 1000).toISOString(), text: `change ${n}` }], new Date(n * 1000 + hour));
        }
        const common = { path: "/", text: null, explanation: null, attempt: null, caller: null };
        for (let n = 0; n < 10000; n += 1) {
            add({ ...common, version: `Version ${n}`, pod: `pod-${n}`, status: 200, failed: false, reason: null,
                begun_at: new Date(2e12 + n).toISOString(), milliseconds: 1 + n % 3000 });
            add({ ...common, version: null, pod: null, status: 503, failed: true, reason: `reason ${n}`,
                milliseconds: 1 });
            began(1);
        }
        pausedAt = performance.now();
        draw();
    }""")
    assert page.evaluate("[samples.length, names.size, entries.length <= places.length]") == [6000, 64, True]
    assert page.locator("tr").count() < 130
    assert page.locator("#share .segment").count() <= 42
    assert page.locator("*").count() < 1500
    assert "others" in shares(page)


@in_browser
@pytest.mark.thorough
def test_it_does_not_grow(show):
    """At full speed the parts of the page, and what it remembers, stay as many once the window is full."""
    page = show(SCENES["third failing"], "?rate=100&window=5")
    wait_until(lambda: page.inner_text("#share-title").endswith("in the last 5 s"), "the window to be full", 40)
    size = "[document.querySelectorAll('*').length, samples.length, begun.length, entries.length, names.size]"
    first = page.evaluate(size)
    page.wait_for_timeout(4000)
    assert all(later <= before * 1.3 + 10 for before, later in zip(first, page.evaluate(size), strict=True))


@in_browser
@pytest.mark.parametrize(
    "looks",
    [
        [(1280, "light"), (360, "dark")],
        pytest.param([(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")], marks=pytest.mark.thorough),
    ],
)
def test_accessibility(show, looks):
    """Axe finds nothing by WCAG 2.2 AA with all kinds of answers, light and dark, wide and narrow, frozen or not."""
    from axe_playwright_python.sync_playwright import Axe

    tried = {"X-Envoy-Attempt-Count": "2", "X-Forwarded-Client-Cert": f"URI={CALLER}"}
    played = [*SCENES["third failing"], *SCENES["overflow"], slow(v(1, 1, **tried)), by_mesh(200, "Hello")]
    page = show(played, "?rate=60")
    answers(page, 60)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    page.click("#dots .fail >> nth=0")
    assert page.is_visible("#frozen")
    for width, scheme in looks:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        if width == 360 and page.inner_text("#unfold") == "More":
            page.click("#unfold")
        page.wait_for_timeout(300)
        result = Axe().run(page, options={"runOnly": {"type": "tag", "values": tags}})
        assert [(each["id"], each["nodes"][0]["html"]) for each in result.response["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@in_browser
def test_the_page_is_usable_without_colour(show):
    """Forced colours keep every answer apart: by shape and by mark."""
    page = show([v(1, 1), v(1, 2, 500), by_mesh(503, OVERFLOW)], forced_colors="active")
    answers(page, 12)
    pause(page)
    corner = "each => getComputedStyle(each.firstChild).borderTopLeftRadius"
    assert page.eval_on_selector("#dots .fail", corner) == "3.2px"
    assert page.eval_on_selector("#dots .fine", corner) == "50%"
    assert {each[0] for each in page.locator("#dots .fail").all_inner_texts()} == {"✕"}
    assert "✕" in page.inner_text("#share .part")
