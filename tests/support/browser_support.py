"""The live page in a real browser: the browser, and what a test reads from the page."""

import functools
import re
import shutil

import pytest
import support

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Names that lead here, as a rebound one does.
    "--host-resolver-rules=MAP *.example 127.0.0.1",
]
# A look takes milliseconds of four processes.
wait_until = functools.partial(support.wait_until, every=0.1)
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: install the package chromium")


def rows(page, table):
    """Return the rows of a table: the first cell's words, and the numbers."""
    script = "rows => rows.map((row) => [...row.cells].map((cell) => cell.innerText.trim()))"
    return {name: numbers for name, *numbers in page.locator(f"#{table}-rows tr").evaluate_all(script)}


def number(text):
    return float(re.search(r"[\d.]+", text)[0])


def shares(page):
    """Return the words for the shares, by name."""
    label = page.get_attribute("#share", "aria-label")
    return dict(re.findall(r"(?:^|; )(.+?) ((?:[\d.]+ %)(?:, of these .*?)?)(?=;|$)", label))


def answers(page, count, seconds=60):
    """Wait until the table tells of so many calls."""
    wait_until(
        lambda: sum(int(cells[0]) for cells in rows(page, "reason").values()) >= count, f"{count} calls", seconds
    )


def pause(page):
    page.click("#pause")
    assert page.inner_text("#pause") == "Resume"
