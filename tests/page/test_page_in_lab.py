"""The page in a lab: what it shows of what runs there, and what it may change."""

import json
import re
import threading

import pytest
from browser_support import answers, in_browser, wait_until
from samples import ENVOY
from scenes import EVEN, playing
from support import OF_THE_PAGE, get, http_response, replying

from meshdemo.calling.upstream import Upstream
from meshdemo.lab.door.door import Door, DoorError
from meshdemo.page.page import PageOptions
from meshdemo.roles import proxy

TOKEN = "the-token"  # noqa: S105
ORIGIN = {"Host": "127.0.0.1:1", "Origin": "http://127.0.0.1:1"}


def line(number, text, turn=None, *, changed=False):
    return {"number": number, "text": text, "changed": changed, "turn": turn}


def weight(index, value):
    path = f"spec.http[0].route[{index}].weight"
    return {"label": "VirtualService/webserver", "path": path, "value": value, "is_time": False} | {
        "least": 0,
        "most": 100,
        "step": 1,
    }


SCENE = {
    "revision": "1",
    "title": "Lesson 2 of 32: A weighted split",
    "link": "",
    "desk": True,
    "turns": True,
    "files": ["k8s/example.yaml", "k8s/istio/split.yaml"],
    "policies": [
        {
            "label": "VirtualService/webserver",
            "file": "k8s/istio/split.yaml",
            "lines": [
                line(14, "spec:"),
                line(22, "          weight: 75", weight(0, 75), changed=True),
                line(26, "          weight: 25", weight(1, 25)),
                line(
                    26,
                    "        http2MaxRequests: 2",
                    {**weight(0, 2), "path": "spec.trafficPolicy.connectionPool.http.http2MaxRequests"},
                ),
                *(line(number, f"            subset: <b>v{number}</b>") for number in range(27, 60)),
            ],
            "more": False,
        }
    ],
    "changes": ["VirtualService/webserver changed (50 % v1 -> 75 % v1)"],
    "changed_at": "2026-01-02T03:04:05.678+00:00",
    "refusal": None,
    "about": "",
    "checks": [],
    "verdict": "",
}
REFUSAL = {
    "problem": "not applied, the last good state stays: split.yaml, line 22: unknown field 'wieght'",
    "file": "split.yaml",
    "line": 22,
    "lines": [line(21, "            subset: v1"), line(22, "          wieght: 75", changed=True)],
}


RULE = {"kind": "VirtualService", "namespace": "default", "name": "webserver", "rule": 0, "match": None} | {
    "file": "k8s/istio/split.yaml",
    "line": 22,
}
OTHERS = dict.fromkeys(("matched", "retries", "timeout_seconds", "identity", "decided_by", "reason", "version"))
CALL = {
    "request": {"id": "", "method": "GET", "url": "http://webserver/", "from": "proxy-1"},
    "answer": {
        "status": 200,
        "result": 200,
        "milliseconds": 1.5,
        "version": None,
        "error": None,
        "headers": {},
        "body": "",
    },
    "hops": [
        {
            **OTHERS,
            "kind": "sidecar",
            "direction": "outbound",
            "pod": "proxy-1",
            "namespace": "default",
            "status": 200,
            "milliseconds": 1.5,
            "flags": [],
            "rule": RULE,
            "passed_over": [],
            "destination": {"host": "webserver", "port": 80, "subset": "v1", "weight": 75, "of": 100, "policy": None},
            "tries": [],
            "mirrors": [],
            "notes": ["<b>said</b>"],
        }
    ],
}


class Lab:
    """A lab's door, behind which there is no lab: a scene, and what was asked for."""

    def __init__(self, folder):
        self.door = Door(folder)
        for path in ("/scene", "/scene/"):
            self.door.add("GET", path, self._scene)
        self.door.add("POST", "/edit", self._edit)
        self.door.add("GET", "/calls/", self._call)
        self.door.add("POST", "/met", lambda _rest, body: {each: [{**RULE, "label": ""}] for each in body["ids"]})
        self.door.add("POST", "/flags", lambda _rest, body: dict.fromkeys(body, self.flag))
        self.door.open()
        self.env = {"LAB_SOCKET": str(self.door.path)}
        self.edits = []
        self.flag = "NR"
        self._changed = threading.Condition()
        self._shown = SCENE

    def show(self, **others):
        with self._changed:
            self._shown = {**self._shown, **others, "revision": f"{int(self._shown['revision']) + 1}"}
            self._changed.notify_all()

    def _scene(self, seen, _body):
        with self._changed:
            self._changed.wait_for(lambda: self._shown["revision"] != seen, 2)
            return self._shown if self._shown["revision"] != seen else None

    def _call(self, request_id, _body):
        if request_id == "0" * 32:
            raise DoorError(404, "no Envoy here has logged a call with this x-request-id")
        return {**CALL, "request": {**CALL["request"], "id": request_id}}

    def _edit(self, _rest, body):
        if body["token"] != TOKEN:
            raise DoorError(403, "Only the page of the link that the lesson prints can do that.")
        self.edits.append({key: value for key, value in body.items() if key != "token"})
        return {}


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    lab.door.close()


@pytest.fixture
def lab_app(lab):
    return proxy.create_app(Upstream("http://webserver"), page_options=PageOptions(lab_socket=lab.door.path))


def test_the_lab_answers_its_own_page_only(call_app, lab_app, lab):
    """The scene and edits are for requests of the page itself; an edit needs an Origin, too, which is the host."""
    edit = json.dumps({"token": TOKEN, "key": "n"}).encode()
    assert call_app(lab_app, "/ui/scene", headers=OF_THE_PAGE).json()["lab"] == SCENE
    assert call_app(lab_app, "/ui/edit", "POST", {**OF_THE_PAGE, **ORIGIN}, edit).json() == {"lab": {}}
    assert lab.edits.pop() == {"key": "n"}
    for headers in ({}, {"Cookie": OF_THE_PAGE["Cookie"]}, {**OF_THE_PAGE, **ORIGIN, "Origin": "http://foreign"}):
        assert call_app(lab_app, "/ui/scene", headers=headers).status == 403
        assert call_app(lab_app, "/ui/edit", "POST", headers, edit).status == 403
    assert call_app(lab_app, "/ui/edit", "POST", OF_THE_PAGE, edit).status == 403
    assert lab.edits == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/ui/edit", b"", 404),
        ("POST", "/ui/scene", b"{}", 404),
        ("GET", "/ui/scene/../edit", b"", 404),
        ("GET", "/ui/scene/x", b"", 404),
        ("POST", "/ui/edit", b"", 400),
        ("POST", "/ui/edit", b"{", 400),
        ("POST", "/ui/edit", b"1" * 10_001, 413),
        ("POST", "/ui/edit", b'{"token": ""}', 409),
        ("GET", "/ui/calls/x", b"", 404),
    ],
)
def test_what_the_lab_is_not_asked(call_app, lab_app, method, path, body, status):
    """Only what the page needs reaches the lab's door, and what that refuses is told."""
    assert call_app(lab_app, path, method, {**OF_THE_PAGE, **ORIGIN}, body).status == status


def test_the_way_of_a_call(call_app, lab_app):
    """The page gets a call's way in a line, and in full as `meshdemo call` has it; nothing where it is forgotten."""
    way = call_app(lab_app, "/ui/calls/" + "a" * 32, headers=OF_THE_PAGE).json()["lab"]
    assert way["way"].startswith("proxy-1: VirtualService/webserver[0] split.yaml:22 · to webserver:80, subset v1")
    assert way["whole"][1] == "proxy-1, sidecar, outbound"
    assert not any("\x1b" in line for line in way["whole"])
    assert call_app(lab_app, "/ui/calls/" + "0" * 32, headers=OF_THE_PAGE).json() == {"lab": None}
    assert call_app(lab_app, "/ui/calls/" + "a" * 32).status == 403


def test_calls_have_ids_in_a_lab_alone(call_app, lab_app, requests_mock):
    """In a lab each call of the page has an x-request-id, unless the person sends one; elsewhere it has none."""
    requests_mock.get("http://webserver/", text="ok")
    elsewhere = proxy.create_app(Upstream("http://webserver"))

    def ids(app, query=""):
        requests_mock.reset_mock()
        text = call_app(app, "/ui/calls?rate=3&seconds=1" + query, headers=OF_THE_PAGE).text
        samples = [json.loads(each) for each in text.splitlines() if "milliseconds" in each]
        sent = [request.headers.get("x-request-id") for request in requests_mock.request_history]
        return sorted(each.get("id", "") for each in samples), sent

    told, sent = ids(lab_app)
    assert told == sorted(sent)
    assert len(set(told)) == 3
    assert ids(lab_app, "&header=x-request-id:mine") == ([""] * 3, ["mine"] * 3)
    assert ids(elsewhere) == ([""] * 3, [None] * 3)


@pytest.mark.parametrize(
    ("flag", "reason", "failed"),
    [("NR", "no route (NR)", True), ("UH", "404", True), (None, None, False)],
)
def test_the_lab_knows_the_reason(call_app, lab_app, lab, requests_mock, flag, reason, failed):
    """In a lab a reason is what its Envoys have logged, also of a slice's last call; elsewhere it is a guess."""
    requests_mock.get("http://webserver/", status_code=404, headers=ENVOY)
    lab.flag = flag

    def seen(app):
        text = call_app(app, "/ui/calls?rate=2&seconds=1", headers=OF_THE_PAGE).text
        samples = [json.loads(each) for each in text.splitlines() if "milliseconds" in each]
        return [(each["reason"], each["failed"]) for each in samples]

    assert seen(lab_app) == [(reason, failed)] * 2
    if flag == "NR":
        assert seen(proxy.create_app(Upstream("http://webserver"))) == [("probably no route (NR)", True)] * 2
        lab.door.close()
        assert seen(lab_app) == [("probably no route (NR)", True)] * 2


def test_without_a_lab(call_app):
    """Elsewhere, as on a cluster, the page is told of no lab, and there is nothing to ask."""
    app = proxy.create_app(Upstream("http://webserver"))
    assert "data-lab" not in call_app(app, "/ui").text.partition("<style>")[0]
    assert call_app(app, "/ui/scene", headers=OF_THE_PAGE).status == 404


def test_a_lab_that_has_ended(call_app, lab_app, lab):
    """Where the lab's door is shut, that is said in a line."""
    lab.door.path.unlink()
    response = call_app(lab_app, "/ui/scene", headers=OF_THE_PAGE)
    assert (response.status, response.text) == (409, "the lab does not answer: no such file or directory")


@pytest.fixture
def show_lab(lab, program, open_page, tcp_server):
    """Return a function that opens the page of a proxy in the lab."""

    def start(query="", **options):
        backend = tcp_server(playing(EVEN))
        url = program("proxy", "--port", "0", "--host", "127.0.0.1", "--proxy-url", backend.url, env=lab.env).url
        page = open_page(url, query, **options)
        wait_until(lambda: page.is_visible("#lab"), "the lab")
        page.backend = backend
        return page

    return start


def marked(page, where="#policies"):
    return page.locator(f"{where} mark").all_inner_texts()


@in_browser
def test_a_problem_of_the_desk_goes(show_lab, lab, open_page):
    """Why an edit of the page was not made is shown until the file that was refused is mended."""
    page = show_lab("#desk=other", viewport={"width": 1280, "height": 720})
    page.click("#keys button[data-key=n]")
    wait_until(lambda: page.is_visible("#desk-problem"), "why it was not made")
    lab.show(refusal=REFUSAL)
    wait_until(lambda: page.is_visible("#refusal"), "the refusal")
    assert page.is_visible("#desk-problem")
    lab.show(refusal=None)
    wait_until(lambda: not page.is_visible("#desk-problem"), "that it goes")
    open_page.problems.clear()  # the browser's own line about a status of 403


@in_browser
def test_who_calls(show_lab, lab):
    """The picture names whose program makes the calls of the page."""
    page = show_lab(viewport={"width": 1920, "height": 1080})
    port = page.url.split(":")[2].partition("/")[0]
    lab.show(callers={port: "outsider"})
    wait_until(lambda: "outsider" in page.locator("#flows text").all_text_contents(), "who calls")


@in_browser
def test_what_runs_is_shown(show_lab, lab):
    """Title, policies with the changed lines marked, what changed, and a refusal until it is mended, as text."""
    page = show_lab(viewport={"width": 1280, "height": 720})
    assert page.inner_text("#lab-title") == "Lesson 2 of 32: A weighted split"
    assert page.inner_text("#edited") == "VirtualService/webserver changed (50\u00a0% v1 → 75\u00a0% v1)"
    assert [each.strip() for each in marked(page)] == ["weight: 75"]
    assert page.inner_text("#policies h3") == "VirtualService/webserver split.yaml"
    assert "<b>v27</b>" in page.inner_text("#policies")
    assert page.locator("#policies input").count() == 0  # without the token of the printed link
    assert not any(page.is_visible(each) for each in ("#about", "#verdict", "#checks"))
    lab.show(about="What is to be.", verdict="Not mended yet.", checks=[["✓ <b>", True], ["✗ b", False]])
    wait_until(lambda: page.is_visible("#checks"), "the checks")
    assert page.inner_text("#about") == "What is to be."
    assert page.get_attribute("#verdict", "class") == "unmet"
    assert page.locator("#checks .met").all_inner_texts() == ["✓ <b>"]
    assert page.locator("#checks .unmet").all_inner_texts() == ["✗ b"]
    lab.show(refusal=REFUSAL)
    wait_until(lambda: page.is_visible("#refusal"), "the refusal")
    assert REFUSAL["problem"] in page.inner_text("#refusal")
    assert [each.strip() for each in marked(page, "#refusal")] == ["wieght: 75"]
    lab.show(refusal=None, changes=[], policies=[])
    wait_until(lambda: not page.is_visible("#refusal"), "the refusal to go")
    assert not page.is_visible("#edited")
    assert "No policy is in force" in page.inner_text("#policies")


@in_browser
def test_the_desk(show_lab, lab):
    """With the printed link keys lead the lesson, and a slider edits, two weights of a hundred together."""
    page = show_lab(f"#desk={TOKEN}", viewport={"width": 1280, "height": 720})
    assert TOKEN not in page.evaluate("document.documentElement.outerHTML")
    for name in ("Previous", "Run again", "Next"):
        page.click(f"#keys button:has-text('{name}')")
    wait_until(lambda: len(lab.edits) == 3, "the keys")
    assert sorted(edit.pop("key") for edit in lab.edits) == ["n", "p", "r"]
    lab.edits.clear()
    knob = page.locator("#policies input >> nth=0")
    assert knob.get_attribute("aria-label") == "VirtualService/webserver spec.http[0].route[0].weight"
    knob.focus()
    page.keyboard.press("ArrowLeft")
    wait_until(lambda: lab.edits, "the edit")
    paths = [f"spec.http[0].route[{index}].weight" for index in (0, 1)]
    label = "VirtualService/webserver"
    assert lab.edits.pop() == {
        "numbers": [{"label": label, "path": paths[0], "value": 74}, {"label": label, "path": paths[1], "value": 26}]
    }
    assert "weight: 26" in page.inner_text("#policies")
    lab.show(changes=["changed"])
    wait_until(lambda: page.inner_text("#edited") == "changed", "the scene")
    assert page.evaluate("document.activeElement.dataset.turns") == f"{label} {paths[0]}"


@in_browser
def test_why_a_call_went_where_it_went(show_lab):
    """Pointing at an answer shows its way in a fixed place, Enter the whole, Escape neither; rules have counts."""
    page = show_lab("?rate=20", viewport={"width": 1280, "height": 720})
    answers(page, 10)
    page.hover("#dots .fine >> nth=2")
    way = "proxy-1: VirtualService/webserver[0] split.yaml:22 · to webserver:80, subset v1 (75 of 100)"
    wait_until(lambda: page.inner_text("#way").startswith(way), "the way")
    assert not page.is_visible("#whole")
    page.keyboard.press("Tab")
    page.locator("#dots .looked").focus()
    page.keyboard.press("Enter")
    wait_until(lambda: page.is_visible("#whole"), "the whole")
    assert "proxy-1, sidecar, outbound" in page.inner_text("#whole")
    assert "<b>said</b>" in page.inner_text("#whole")
    page.keyboard.press("Escape")
    assert not page.is_visible("#whole")
    page.wait_for_timeout(300)  # what moves below a mouse that rests is not looked at
    assert page.inner_text("#way") == ""
    wait_until(lambda: re.fullmatch(r"\d+", page.locator("[data-place$=':22']").inner_text()), "the count")
    assert re.search(r"VirtualService/webserver\[0\] +split.yaml:22\s+\d+\s+100 %", page.inner_text("#met-rows"))


@in_browser
@pytest.mark.thorough
def test_the_page_follows_the_lesson(show_lab, lab):
    """When the lesson changes the page calls what that one does, and says where its page is if that is another."""
    page = show_lab("?path=/v1")
    answers(page, 5)
    port = page.url.partition("127.0.0.1:")[2].partition("/")[0]
    lab.show(title="By header", link=f"http://127.0.0.1:{port}/ui?rate=50&header=end-user:tester")
    wait_until(lambda: page.input_value("#header") == "end-user:tester", "the header")
    assert page.url.endswith("/ui?rate=50&header=end-user:tester")
    answers(page, 20)
    lab.show(title="Elsewhere", link="http://127.0.0.1:1/ui?rate=30")
    wait_until(lambda: page.is_visible("#elsewhere"), "the link")
    assert page.get_attribute("#elsewhere a", "href") == "http://127.0.0.1:1/ui?rate=30"
    assert page.input_value("#header") == "end-user:tester"


@in_browser
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("width", "height", "scheme"), [(1280, 720, "light"), (1920, 1080, "dark"), (320, 640, "light")]
)
def test_its_place(show_lab, lab, width, height, scheme):
    """It stands beside the stream without scrolling on a screen, and folded above on a phone; axe finds nothing."""
    from axe_playwright_python.sync_playwright import Axe

    page = show_lab(f"?rate=50#desk={TOKEN}", viewport={"width": width, "height": height}, color_scheme=scheme)
    lab.show(refusal=REFUSAL)
    wait_until(lambda: page.is_visible("#refusal"), "the refusal")
    answers(page, 50)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    is_wide = width > 1000
    assert page.is_visible("#policies") == is_wide
    if is_wide:  # a number stands beside its name, though the slider needs room
        heights = page.locator("#policies li > :first-child").evaluate_all(
            "all => all.map((each) => each.clientHeight)"
        )
        assert max(heights) == min(heights)
    page.locator("#dots .fine >> nth=0").scroll_into_view_if_needed()
    top = page.locator("#dots").bounding_box()["y"]
    page.click("#dots .fine >> nth=0")
    wait_until(lambda: page.is_visible("#whole"), "the whole")
    assert page.locator("#dots").bounding_box()["y"] == top  # nothing moves below the pointer
    for selector in (
        ("#lab", "#share", "#dots", "#detail", "#times", "#picture") if is_wide else ("#lab-fold", "#refusal")
    ):
        box = page.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= height, selector
    if not is_wide:
        page.click("#lab-fold summary")
        assert page.is_visible("#policies input >> nth=0")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    result = Axe().run(page, options={"runOnly": {"type": "tag", "values": tags}})
    assert [(each["id"], each["nodes"][0]["html"]) for each in result.response["violations"]] == []


FOREIGN = """<!doctype html><title>nothing</title><body><script>
const target = TARGET;
const asked = ["/ui/scene", "/ui/edit"].flatMap((path) => [
  fetch(target + path, { credentials: "include" }),
  fetch(target + path, { credentials: "include", method: "POST", body: EDIT }),
  fetch(target + path, { credentials: "include", method: "POST", body: EDIT, mode: "no-cors" }),
  fetch(target + path, { credentials: "include", method: "POST", body: EDIT, headers: { "Meshdemo-Page": VALUE } }),
]);
const form = document.body.appendChild(document.createElement("form"));
Object.assign(form, { method: "post", action: target + "/ui/edit", target: "_blank", enctype: "text/plain" });
form.append(Object.assign(document.createElement("input"), { name: EDIT, value: "" }));
form.submit();
Promise.allSettled(asked.map(async (each) => (await each).text())).then((found) => {
  document.title = "read: " + found.map(({ value }) => value ?? "").join("");
});
</script>"""


@in_browser
@pytest.mark.thorough
def test_its_place_with_large_letters(show_lab):
    """With letters for a projector it is folded above the calls, which still fit the screen."""
    page = show_lab("?big", viewport={"width": 1280, "height": 720})
    answers(page, 20)
    assert not page.is_visible("#policies")
    for selector in ("#times", "#picture"):
        box = page.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= 720, selector


@in_browser
@pytest.mark.thorough
def test_a_foreign_page_cannot_edit_or_read(lab, program, browser, tcp_server):
    """A page of another site in the same browser edits nothing and reads nothing, even with the token."""
    backend = tcp_server(replying(http_response(b"ok")))
    target = program("proxy", "--port", "0", "--host", "127.0.0.1", "--proxy-url", backend.url, env=lab.env).url
    edit = json.dumps(json.dumps({"token": TOKEN, "key": "n"}))
    html = FOREIGN.replace("TARGET", repr(target)).replace("EDIT", edit).replace("VALUE", repr("0" * 32)).encode()
    site = tcp_server(replying(http_response(html, "Content-Type: text/html")))
    context = browser.new_context()
    own = context.new_page()
    own.goto(f"{target}/ui#desk={TOKEN}")
    for origin in (f"http://foreign.example:{site.port}", site.url):
        page = context.new_page()
        page.goto(origin)
        wait_until(lambda page=page: page.title() != "nothing", "all that it tries")
        assert page.title() == "read:"
    own.click("#keys button >> nth=0")
    wait_until(lambda: lab.edits, "the own page's edit")
    assert lab.edits == [{"key": "p"}]
    status, _, text = get(own.evaluate("Number(location.port)"), "/ui/scene", **OF_THE_PAGE, Host="rebound.example")
    assert (status, "rebound.example" in text) == (421, True)
    context.close()
