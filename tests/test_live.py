"""The live page, in a real browser in front of a real application."""

import re
import shutil
import signal

import pytest
from support import Program, free_port, get, http_response, replying, wait_until

from meshdemo import live, proxy
from meshdemo.upstream import Upstream

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: install the package chromium")


def test_the_page_is_served_under_a_strict_policy(call_app):
    """One file without any other source, and a policy that allows its own script and style by their hashes."""
    app = proxy.create_app(Upstream("http://webserver"))
    response = call_app(app, "/ui")
    assert response.status == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "connect-src 'self'" in policy
    assert not re.search(r"(src|href)=|@import|url\(|innerHTML|\son\w+=|style=", response.text)
    assert "http://" not in response.text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("path", ["/ui/", "/ui2", "/UI", "//ui"])
def test_no_other_path_is_the_page(call_app, requests_mock, path):
    """Only /ui itself is not proxied."""
    requests_mock.get("http://webserver" + path, text="from upstream")
    assert "from upstream" in call_app(proxy.create_app(Upstream("http://webserver")), path).text


def test_the_page_is_made_once():
    """The file is read once, not for each request."""
    assert live.page() is live.page()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens the page of a proxy; at the end nothing may have gone wrong in it."""
    contexts, problems = [], []

    def start(url, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(url + "/ui")
        return page

    start.problems = problems
    yield start
    for context in contexts:
        context.close()
    assert problems == []


def faster(page):
    """Choose the highest pace, by keyboard."""
    page.focus("#rate")
    page.keyboard.press("End")
    assert page.inner_text("#rate-shown") == "50"


def rows(page, table):
    """Return the rows of a table: the first cell's words, and the numbers."""
    return {
        row.locator("th").inner_text().strip(): [cell.strip() for cell in row.locator("td").all_inner_texts()]
        for row in page.locator(f"#{table} tr").all()
    }


def answers(page):
    return sum(int(cells[0]) for cells in rows(page, "statuses").values())


@in_browser
def test_both_versions_appear_with_their_shares(program, open_page):
    """Dots, bar and table show both versions at about a half each, and all six pods; a clear begins anew."""
    page = open_page(program("up", "--port", "0").url)
    faster(page)
    wait_until(lambda: page.inner_text("#window") == "200", "200 answers", 60)
    page.click("#pause")
    share = page.get_attribute("#share", "aria-label")
    shares = dict(re.findall(r"(Webserver V\d) ([\d.]+) %", share))
    assert set(shares) == {"Webserver V1", "Webserver V2"}
    assert all(30 < float(value) < 70 for value in shares.values())  # 50, give or take 5.6 standard deviations
    table = wait_until(lambda: len(found := rows(page, "pods")) == 8 and found, "six pods and two versions")
    assert {name.split()[-1] for name in table} == {
        "V1",
        "V2",
        *(f"webserverv{v}-{n}" for v in (1, 2) for n in (1, 2, 3)),
    }
    assert page.locator("#dots .v0").count() > 0
    assert page.locator("#dots .v1").count() > 0
    assert page.locator("#dots .fail").count() == 0
    assert re.fullmatch(r"[\d.]+ ms", page.inner_text("#median"))
    page.click("#clear")
    wait_until(lambda: page.inner_text("#window") == "0", "the clear")
    assert page.locator("#dots li").count() == 0


@in_browser
def test_failures_show(program, open_page):
    """The path of failures, chosen by a click, shows squares with a cross, statuses, and the pods that fail."""
    page = open_page(program("up", "--port", "0", "--fail-ratio", "0.5").url)
    page.click("[data-path='/failsometimes']")
    wait_until(lambda: page.locator("#dots .fail").count() > 3, "failures")
    assert "✕" in page.locator("#dots .fail").first.inner_text()
    wait_until(lambda: "500" in rows(page, "statuses"), "the status")
    assert any(cells[2].isdigit() for cells in rows(page, "pods").values())
    page.hover("#dots li:nth-child(3) button")
    before = page.inner_text("#detail")
    page.wait_for_timeout(300)
    assert page.inner_text("#detail") == before  # it stays although answers go on to come
    page.locator("#dots .fail").first.hover()
    assert "requested from /failsometimes on webserverv" in page.inner_text("#detail")
    assert "(500, " in page.inner_text("#detail")


@in_browser
def test_answers_by_keyboard(program, open_page):
    """One Tab reaches the answers, arrow keys move between them, and each reads as its exact text."""
    page = open_page(program("up", "--port", "0").url)
    wait_until(lambda: page.locator("#dots li").count() > 5, "answers")
    page.click("#pause")
    page.focus("#clear")
    page.keyboard.press("Tab")
    focused = "document.activeElement.getAttribute('aria-label')"
    first = page.evaluate(focused)
    assert re.match(r"Webserver V\d requested from / on webserverv\d-\d with code 200 \(200, ", first)
    assert page.inner_text("#detail") == first
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('li').previousElementSibling !== null")
    assert page.inner_text("#detail") == page.evaluate(focused)
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.closest('#dots') !== null")


@in_browser
def test_the_header_reaches_the_web_server(program, open_page, tcp_server):
    """The header that is typed goes out with each call, and one that cannot be is refused with a word."""
    requests = []
    backend = tcp_server(replying(http_response(b"ok"), requests))
    page = open_page(program("proxy", "--port", "0", "--proxy-url", backend.url).url)
    page.fill("#header-name", "end-user")
    page.fill("#header-value", "tester")
    wait_until(lambda: any(b"end-user: tester\r\n" in request for request in requests), "the header")
    page.fill("#header-name", "not a name")
    wait_until(lambda: "not a header" in page.inner_text("#problem"), "the word")
    page.fill("#header-name", "")
    page.fill("#path", "/healthz")
    wait_until(lambda: "answered by the proxy itself" in page.inner_text("#problem"), "the word")
    page.fill("#path", "//elsewhere/x")
    wait_until(lambda: any(request.startswith(b"GET //elsewhere/x ") for request in requests), "the typed path")
    assert "dashed" not in page.inner_text("#statuses")


@in_browser
def test_pause_stops_the_calls(program, open_page, tcp_server):
    """While paused nothing is called; afterwards it goes on."""
    backend = tcp_server(replying(http_response(b"ok")))
    page = open_page(program("proxy", "--port", "0", "--proxy-url", backend.url).url)
    wait_until(lambda: backend.connections > 3, "calls")
    page.click("#pause")
    assert page.inner_text("#pause") == "Resume"
    page.wait_for_timeout(300)  # what was under way has ended
    before = backend.connections
    page.wait_for_timeout(1000)
    assert backend.connections == before
    page.click("#pause")
    wait_until(lambda: backend.connections > before, "calls to go on")


@in_browser
def test_a_hostile_answer_is_text(program, open_page):
    """What looks like HTML or script in an answer is shown, not run."""
    hostile = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    web = program("webserver", "--port", "0", "--content", hostile)
    page = open_page(program("proxy", "--port", "0", "--proxy-url", web.url).url)
    wait_until(lambda: page.locator("#dots li").count() > 3, "answers")
    page.locator("#dots button").first.hover()
    assert hostile in page.inner_text("#detail")
    assert hostile in " ".join(rows(page, "pods"))
    assert hostile in page.get_attribute("#share", "aria-label")
    assert page.title() == "meshdemo"
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1


@in_browser
def test_answers_without_an_application_and_errors(program, open_page):
    """A call that found nobody is an exclamation mark with its reason in the table."""
    url = f"http://127.0.0.1:{free_port()}"
    page = open_page(program("proxy", "--port", "0", "--proxy-url", url).url)
    wait_until(lambda: page.locator("#dots .error").count() > 2, "errors")
    assert page.locator("#dots .error").first.inner_text() == "!"
    wait_until(
        lambda: any(name.startswith(f"connection refused calling {url}") for name in rows(page, "statuses")),
        "the reason",
    )


@in_browser
def test_the_proxy_goes_away_and_comes_back(open_page):
    """When the proxy is gone the page says so, and goes on by itself once it is back."""
    first = Program("up", "--port", "0", "--drain-seconds", "0")
    second = None
    try:
        page = open_page(first.url)
        wait_until(lambda: page.locator("#dots li").count() > 3, "answers")
        first.signal(signal.SIGINT)
        first.wait_for_end()
        wait_until(lambda: "does not answer" in page.inner_text("#state"), "the word")
        second = Program("up", "--port", str(first.port))
        before = page.locator("#dots li").count()
        wait_until(lambda: page.inner_text("#state") == "calling", "the page to recover")
        wait_until(lambda: page.locator("#dots li").count() > before, "answers to go on")
    finally:
        first.close()
        if second:
            second.close()
    # The browser itself reports the failed connections as errors of the network.
    assert all("ERR_" in problem for problem in open_page.problems)
    open_page.problems.clear()


@in_browser
def test_in_the_background_it_slows_down(program, open_page, tcp_server):
    """With the tab hidden there is at most about one call a second, and calls never pile up."""
    backend = tcp_server(replying(http_response(b"ok")))
    page = open_page(program("proxy", "--port", "0", "--proxy-url", backend.url).url)
    faster(page)
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true })")
    page.wait_for_timeout(300)
    before = backend.connections
    page.wait_for_timeout(2000)
    assert backend.connections - before <= 4


@in_browser
def test_slow_answers_do_not_pile_up(program, open_page):
    """However slow the upstream is, no more calls are under way than a browser has connections."""
    up = program("up", "--port", "0", "--slow-ratio", "1", "--delay", "30", "--access-log")
    page = open_page(up.url)
    page.click("[data-path='/slowsometimes']")
    faster(page)
    page.wait_for_timeout(2000)
    assert page.evaluate("underWay") <= 6
    assert get(up.port, "/healthz")[0] == 200


@in_browser
def test_accessibility(program, open_page):
    """Axe finds nothing by WCAG 2.2 AA with all kinds of answers, light and dark, wide and narrow."""
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(program("up", "--port", "0", "--fail-ratio", "0.5").url)
    page.click("[data-path='/failsometimes']")
    wait_until(lambda: page.locator("#dots .fail").count() > 3, "failures")
    for made_up in (
        {"status": 503, "content": None, "pod": None, "text": "fault filter abort", "error": None, "milliseconds": 1},
        {"status": None, "content": None, "pod": None, "text": "refused", "error": "refused", "milliseconds": 1},
    ):
        page.evaluate("(sample) => add(sample)", made_up)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    for width, scheme in ((1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(300)
        result = Axe().run(page, options={"runOnly": {"type": "tag", "values": tags}})
        assert [(each["id"], each["nodes"][0]["html"]) for each in result.response["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@in_browser
def test_the_page_is_usable_without_motion_or_colour(program, open_page):
    """Forced colours keep every answer apart: by shape or by mark."""
    up = program("up", "--port", "0", "--fail-ratio", "1")
    page = open_page(up.url, forced_colors="active", reduced_motion="reduce")
    page.click("[data-path='/failsometimes']")
    wait_until(lambda: page.locator("#dots .fail").count() > 3, "failures")
    assert page.evaluate("getComputedStyle(document.querySelector('#dots .fail')).borderRadius") == "3.2px"
    assert page.locator("#dots .fail").first.inner_text().startswith("✕")
