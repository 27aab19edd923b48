"""A real browser, and the page in it."""

import pytest
from browser_support import ARGUMENTS, CHROMIUM
from scenes import playing


@pytest.fixture(scope="session")
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

    def start(url, query="", *, begin=True, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(url + "/ui" + query)
        if begin and page.inner_text("#pause") == "Start":
            page.click("#pause")
        return page

    start.problems = problems
    yield start
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def show(program, open_page, tcp_server):
    """Return a function that opens the page in front of an upstream that plays the given answers."""

    def start(answers, query="", env=None, **options):
        backend = tcp_server(playing(answers))
        page = open_page(program("proxy", "--port", "0", "--proxy-url", backend.url, env=env).url, query, **options)
        page.backend = backend
        return page

    return start
