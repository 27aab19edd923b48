"""What a page from elsewhere, in the browser of somebody who runs the proxy, cannot do: call, or read answers."""

import pytest
from browser_support import answers, in_browser, wait_until
from scenes import EVEN, playing
from support import OF_THE_PAGE, get, http_response, replying

# Whatever a page can try without the help of its browser's user; what it could read is its title at the end.
FOREIGN = """<!doctype html><title>nothing</title><body><script>
const read = (text) => { document.title = text; };
const target = TARGET;
open(target + "/ui");
open(target + "/ui?rate=100&path=/popup&header=end-user:x");
for (const element of ["img", "iframe", "script", "embed"]) {
  const made = document.body.appendChild(document.createElement(element));
  made.src = target + "/ui/calls?rate=100&seconds=5&path=/" + element;
}
const form = document.body.appendChild(document.createElement("form"));
Object.assign(form, { method: "post", action: target + "/ui/calls", target: "_blank" });
form.submit();
const tried = ["/ui", "/ui/calls?path=/fetch"].flatMap((path) => [
  fetch(target + path, { credentials: "include" }),
  fetch(target + path, { credentials: "include", headers: { "Meshdemo-Page": "0".repeat(32) } }),
  fetch(target + path, { credentials: "include", mode: "no-cors" }),
]);
Promise.allSettled(tried.map(async (each) => (await each).text())).then((found) => {
  read("read: " + found.map(({ value }) => value ?? "").join(""));
});
</script>"""


@in_browser
@pytest.mark.thorough
def test_a_foreign_page_cannot_call_or_read(program, browser, tcp_server):
    """A popup waits for a click; images, frames, forms and scripts of another page make no call and read nothing."""
    requests: list[bytes] = []
    backend = tcp_server(replying(http_response(b"ok"), requests))
    target = program("proxy", "--port", "0", "--host", "127.0.0.1", "--proxy-url", backend.url).url
    html = FOREIGN.replace("TARGET", repr(target)).encode()
    site = tcp_server(replying(http_response(html, "Content-Type: text/html")))
    context = browser.new_context()
    own = context.new_page()
    own.goto(target + "/ui?paused")  # the person has the page, and so its cookie
    for origin in (f"http://foreign.example:{site.port}", site.url):
        page = context.new_page()
        page.goto(origin)
        wait_until(lambda page=page: page.title() != "nothing", "all that it tries")
        assert page.title() == "read:"
        wait_until(lambda: len([each for each in context.pages if "/ui" in each.url]) >= 3, "both popups")
    page.wait_for_timeout(1500)  # in which a page at work has made 15 calls
    # What the form's tab asks for by itself is a picture for its title.
    assert {request.split()[1] for request in requests} <= {b"/favicon.ico"}
    popups = [each for each in context.pages if each.url.startswith(target + "/ui") and "paused" not in each.url]
    states = {each.inner_text("#state") for each in popups if each.locator("#state").count()}
    assert states == {
        "Press Start to call / 10 times a second.",
        "Press Start to call /popup 100 times a second with end-user:x.",
    }
    context.close()


@in_browser
def test_a_link_waits_for_the_first_click(show):
    """A link sets a scene; Start begins its calls, a reload goes on, and another scene in the same tab waits again."""
    page = show(EVEN, "?path=/v2&rate=50", begin=False)
    assert page.inner_text("#state") == "Press Start to call /v2 50 times a second."
    page.fill("#path", "/v1")
    wait_until(lambda: page.inner_text("#state") == "Press Start to call /v1 50 times a second.", "the words")
    page.wait_for_timeout(300)
    assert page.backend.connections == 0
    page.click("#pause")
    assert page.inner_text("#pause") == "Pause"
    answers(page, 5)
    page.reload()
    answers(page, 5)
    page.goto(page.url.replace("v1", "v3"))
    assert page.inner_text("#pause") == "Start"
    assert page.inner_text("#state") == "Press Start to call /v3 50 times a second."


@in_browser
@pytest.mark.thorough
def test_a_name_that_leads_here(program, open_page, tcp_server):
    """A proxy for this machine alone refuses a rebound name, and one for everybody serves any name."""
    backend = tcp_server(playing(EVEN))
    running = program("proxy", "--port", "0", "--proxy-url", backend.url)
    page = open_page(f"http://mesh.example:{running.port}")
    answers(page, 5)
    page.close()
    backend = tcp_server(playing(EVEN))
    running = program("proxy", "--port", "0", "--host", "127.0.0.1", "--proxy-url", backend.url)
    for path in ("/ui", "/ui/calls", "/"):
        status, _, text = get(running.port, path, **OF_THE_PAGE, Host=f"rebound.example:{running.port}")
        assert (status, text) == (
            421,
            f"Only this machine is served here, not rebound.example:{running.port}. Call 127.0.0.1 or localhost, or "
            "start with --host '*'.",
        )
    assert backend.connections == 0
