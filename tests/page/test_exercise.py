"""An exercise, solved from the page alone: in a real browser, by the lab, with `meshdemo lesson` at its terminal."""

import re
import threading

import pytest
from browser_support import in_browser, wait_until
from emulator import Terminal
from support import ROOT


@pytest.fixture
def exercise(tmp_path):
    """Run an exercise in a terminal, in an empty folder, and yield the link that it prints."""
    environment = {"PYTHONPATH": str(ROOT)}
    arguments = ("lesson", "--exercises", "timeout", "--port", "0")
    terminal = Terminal(*arguments, environment=environment, cwd=tmp_path)
    terminal.read(lambda shown: "#desk=" in shown.text, 60)
    (link,) = re.findall(r"http://\S+#desk=\S+", terminal.text)
    # What nobody reads would hold the program up.
    reading = threading.Thread(target=terminal.read, kwargs={"seconds": 300}, daemon=True)
    reading.start()
    yield link
    terminal.process.terminate()
    reading.join(30)
    terminal.close()


@in_browser
@pytest.mark.thorough
def test_an_exercise_is_solved_from_the_page_alone(exercise, browser, tmp_path):
    """The page says what the mesh should do; a slider and Run again mend it, in a copy, and the checks turn green."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(exercise)
    wait_until(lambda: page.is_visible("#about"), "the exercise")
    assert page.inner_text("#about").endswith("so that at most 14 of 100 fail.")
    assert "press Run again" in page.inner_text("#verdict")
    page.click("#keys button:has-text('Run again')")
    wait_until(lambda: page.inner_text("#verdict") == "Not mended yet.", "the checks", 60)
    assert re.match(r"✗ 504: \d\d calls, expected \.\.14", page.locator("#checks .unmet").inner_text())
    page.locator("input[aria-label$='spec.http[0].timeout']").fill("3")
    wait_until(lambda: page.is_visible("#edited") and "timeout" in page.inner_text("#edited"), "the edit")
    assert page.is_hidden("#checks")
    page.click("#keys button:has-text('Run again')")
    wait_until(lambda: page.inner_text("#verdict") == "Mended: all checks are green.", "the checks", 60)
    assert page.locator("#checks .met").count() == 2
    assert "timeout: 3s" in (tmp_path / "meshdemo-lessons" / "exercises" / "timeout.yaml").read_text()
    page.close()
