"""The calls of the live page: what may be asked for, the pace, and the limits."""

import http.client
import json
import re
import signal
import threading
import time

import pytest
from support import OF_THE_PAGE, http_response, read_request, replying, wait_until

from meshdemo.calling.upstream import Upstream
from meshdemo.page.calls import Calls, RequestError, Slice, parse_slice
from meshdemo.page.page import PageOptions, read_changes
from meshdemo.roles import proxy

NAMES = frozenset({"end-user", "x-request-id"})


def lines(response):
    return [json.loads(line) for line in response.text.splitlines() if line]


def samples(response):
    return [line for line in lines(response) if "milliseconds" in line]


@pytest.fixture
def ask(call_app):
    """Return a function that calls an application as the page does."""

    def call(app, target, headers=(), **options):
        return call_app(app, target, headers={**OF_THE_PAGE, **dict(headers)}, **options)

    return call


@pytest.fixture
def page_app(requests_mock):
    requests_mock.get("http://webserver/", json={"content": "V1", "hostname": "pod", "path": "/", "status": 200})
    return proxy.create_app(Upstream("http://webserver"), page_options=PageOptions(stream_limit=1))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("", Slice("/", "", {}, 10, 2), id="nothing said"),
        pytest.param("path=%2Fx%3Fa%3Db&rate=100&seconds=5", Slice("/x", "a=b", {}, 100, 5), id="a path with a query"),
        pytest.param("path=x", Slice("/x", "", {}, 10, 2), id="a path without its slash"),
        pytest.param(
            "path=%2F%252f%2F..", Slice("/%2f/..", "", {}, 10, 2), id="percent-encoding stays as it was typed"
        ),
        pytest.param("path=//elsewhere/x", Slice("//elsewhere/x", "", {}, 10, 2), id="a path that looks like a host"),
        pytest.param("path=%2F%C3%A9%23x", Slice("/\xc3\xa9", "", {}, 10, 2), id="bytes beyond ASCII, and a fragment"),
        pytest.param("header=End-User%3A+me", Slice("/", "", {"end-user": "me"}, 10, 2), id="a header"),
        pytest.param("header=end-user:", Slice("/", "", {}, 10, 2), id="a header without a value"),
        pytest.param("header=+", Slice("/", "", {}, 10, 2), id="no header"),
    ],
)
def test_what_is_asked_for(query, expected):
    """Path, query, header, rate and length come from the query, the path as bytes."""
    assert parse_slice(query, NAMES, "/ui") == expected


@pytest.mark.parametrize(
    ("query", "words"),
    [
        pytest.param("rate=0", "The rate is 0. Give a whole number from 1 to 100.", id="no calls"),
        pytest.param("rate=101", "from 1 to 100", id="too many calls"),
        pytest.param("rate=1e2", "The rate is 1e2.", id="not a whole number"),
        pytest.param("rate=%0Aforged", "The rate is %0Aforged.", id="a line break in a number"),
        pytest.param("seconds=6", "from 1 to 5", id="too long"),
        pytest.param("seconds=", "The seconds is empty.", id="an empty number"),
        pytest.param("path=/ui/calls", "The proxy answers /ui/calls itself.", id="the page's own path"),
        pytest.param("path=healthz?x", "The proxy answers /healthz itself.", id="a probe"),
        pytest.param(
            "header=cookie:a", "does not pass on cookie. Start it with --forward-header", id="a header that stays"
        ),
        pytest.param("header=nonsense", "nonsense is not a header.", id="a header without a colon"),
        pytest.param("header=:x", "is not a header.", id="a header without a name"),
        pytest.param("header=end-user:a%0D%0Ahost:b", "end-user is not a header.", id="a line break in a header"),
    ],
)
def test_what_is_refused(ask, page_app, query, words):
    """What cannot be called is refused in a sentence that says which value it is."""
    with pytest.raises(RequestError):
        parse_slice(query, NAMES, "/ui")
    response = ask(page_app, "/ui/calls?" + query)
    assert response.status == 400
    assert words in response.text
    assert len(response.text.splitlines()) == 1


def test_a_slice(ask, page_app):
    """A slice holds a line for each call, and says how many were begun; nobody takes it for another kind of file."""
    response = ask(page_app, "/ui/calls?rate=20&seconds=1")
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert [line["pod"] for line in samples(response)] == ["pod"] * 20
    assert sum(line.get("begun", 0) for line in lines(response)) == 20


def test_calls_carry_what_any_call_through_the_proxy_carries(ask, page_app, requests_mock):
    """The chosen header and the wish for JSON cross, and nothing of the page's own request."""
    headers = {"X-Request-Id": "of the page", "Accept": "*/*"}
    ask(page_app, "/ui/calls?rate=1&seconds=1&header=end-user:tester", headers=headers)
    sent = {name.lower(): value for name, value in requests_mock.last_request.headers.items()}
    assert (sent["end-user"], sent["accept"]) == ("tester", "application/json")
    assert not sent.keys() & {"cookie", "x-request-id"}


@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_only_get_makes_calls(ask, page_app, requests_mock, method):
    """Another method is refused, and calls nobody."""
    response = ask(page_app, "/ui/calls", method=method)
    assert (response.status, response.headers["allow"]) == (405, "GET")
    assert not requests_mock.called


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Cookie": OF_THE_PAGE["Cookie"]}, id="an image"),
        pytest.param({"Meshdemo-Page": OF_THE_PAGE["Meshdemo-Page"]}, id="a script that invents a value"),
        pytest.param({**OF_THE_PAGE, "Meshdemo-Page": "1" * 32}, id="another value"),
        pytest.param({"Cookie": "meshdemo-page=", "Meshdemo-Page": ""}, id="an empty value"),
        pytest.param({**OF_THE_PAGE, "Host": "a:3030", "Origin": "http://b:3030"}, id="another host"),
        pytest.param({**OF_THE_PAGE, "Host": "a:3030", "Origin": "http://a"}, id="another port"),
        pytest.param({**OF_THE_PAGE, "Host": "a:3030", "Origin": "null"}, id="a frame without an origin"),
    ],
)
def test_no_other_page_makes_calls(call_app, page_app, requests_mock, headers):
    """A request of another page, which could otherwise multiply its own, is refused."""
    response = call_app(page_app, "/ui/calls", headers=headers)
    assert (response.status, response.text) == (403, "Only the proxy's own page can make calls. Reload it.")
    assert not requests_mock.called


def test_the_page_makes_calls_with_the_value_that_it_was_given(call_app, page_app):
    """The value of the page and that of its cookie are the same, at any host, and a second page keeps the first's."""
    page = call_app(page_app, "/ui")
    (value,) = re.findall('<meta name="meshdemo" content="([0-9a-f]{32})"', page.text)
    assert page.headers["set-cookie"] == f"meshdemo-page={value}; SameSite=Lax; HttpOnly"
    own = {"Cookie": f"x=y; meshdemo-page={value}", "Meshdemo-Page": value}
    for origin in ({}, {"Host": "mesh.example", "Origin": "https://mesh.example"}):
        assert call_app(page_app, "/ui/calls?rate=1&seconds=1", headers={**own, **origin}).status == 200
    assert f'content="{value}"' in call_app(page_app, "/ui", headers={"Cookie": own["Cookie"]}).text
    assert f'content="{value}"' not in call_app(page_app, "/ui").text


def test_slow_answers_do_not_slow_the_pace(ask, tcp_server):
    """With answers that take as long as the slice, all calls of a second are under way at once."""
    most, under_way, lock = 0, 0, threading.Lock()
    all_arrived = threading.Event()

    def behave(connection):
        nonlocal most, under_way
        read_request(connection)
        with lock:
            under_way += 1
            most = max(most, under_way)
            if under_way == 100:
                all_arrived.set()
        all_arrived.wait(20)
        connection.sendall(http_response(b"ok"))
        with lock:
            under_way -= 1

    app = proxy.create_app(Upstream(tcp_server(behave).url))
    assert len(samples(ask(app, "/ui/calls?rate=100&seconds=1"))) == 100
    assert most == 100


def test_calls_under_way_are_bounded(ask):
    """Past the limit calls are left out, which a line says once, and those under way still bring their answers."""
    release = threading.Event()
    answer = {"value": "ok", "status": 200, "error": None, "milliseconds": 1.0}

    def observe(path, query, headers):
        release.wait(20)
        return answer

    calls = Calls(observe, NAMES, list, own_path="/ui", stream_limit=1, call_limit=3)
    threading.Timer(1.2, release.set).start()
    response = ask(calls, "/ui/calls?rate=20&seconds=1")
    limits = [line["limit"] for line in lines(response) if "limit" in line]
    assert limits == ["3 calls are in progress, which is the limit."]
    assert len(samples(response)) == 3
    assert sum(line.get("begun", 0) for line in lines(response)) == 3
    assert len(samples(ask(calls, "/ui/calls?rate=2&seconds=1"))) == 2


def test_streams_are_bounded(ask, page_app):
    """A stream too many is refused with a sentence; one that ended, or was never read, makes room."""
    environ_app_results = []

    def hold(environ, start_response):
        environ_app_results.append(page_app(environ, start_response))
        return [b""]

    ask(hold, "/ui/calls?rate=1&seconds=1")
    response = ask(page_app, "/ui/calls?rate=1&seconds=1")
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    assert response.text == "Other pages keep the proxy busy (limit of streams: 1). Pause one of them."
    environ_app_results[0].close()
    environ_app_results[0].close()
    assert len(samples(ask(page_app, "/ui/calls?rate=1&seconds=1"))) == 1
    assert ask(page_app, "/ui/calls?rate=1&seconds=1").status == 200


def test_a_client_that_leaves_stops_the_calls(program, tcp_server):
    """Soon after the page is closed no call is begun any more, and its stream makes room for another."""
    backend = tcp_server(replying(http_response(b"ok")))
    port = program("proxy", "--port", "0", "--proxy-url", backend.url).port
    for _ in range(40):  # more than there may be at the same time
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/ui/calls?rate=1&seconds=5", headers=OF_THE_PAGE)
        response = connection.getresponse()
        assert response.status in (200, 503)
        response.read1()
        response.close()
        connection.close()

    def no_call_comes():
        before = backend.connections
        time.sleep(1.2)  # at one call a second
        return backend.connections == before

    wait_until(no_call_comes, "the calls to end", 4.5)  # before the 5 s that were asked for
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/ui/calls?rate=1&seconds=1", headers=OF_THE_PAGE)
    assert connection.getresponse().status == 200
    connection.close()


def test_a_stopped_proxy_finishes_its_slices(program, tcp_server):
    """After SIGTERM a slice ends with all its answers, and the process with it."""
    backend = tcp_server(replying(http_response(b"ok")))
    running = program("proxy", "--port", "0", "--proxy-url", backend.url, "--drain-seconds", "0")
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    connection.request("GET", "/ui/calls?rate=10&seconds=2", headers=OF_THE_PAGE)
    response = connection.getresponse()
    running.signal(signal.SIGTERM)
    text = response.read().decode()
    connection.close()
    assert text.count('"milliseconds"') == 20
    assert running.wait_for_end()[0] == 0


def test_changes_are_told(ask, requests_mock, tmp_path):
    """What the file says reaches the page at once, and again when it is replaced."""
    requests_mock.get("http://webserver/", text="ok")
    file = tmp_path / "changes"
    file.write_text(json.dumps([{"time": "2026-11-25T14:02:07.123Z", "text": "VirtualService/webserver changed"}]))
    app = proxy.create_app(Upstream("http://webserver"), page_options=PageOptions(changes_file=file))

    def replace():
        new = tmp_path / "new"
        new.write_text(json.dumps([{"time": "2026-11-25T14:03:07Z", "text": "second"}]))
        new.replace(file)

    threading.Timer(0.4, replace).start()
    found = [line for line in lines(ask(app, "/ui/calls?rate=2&seconds=2")) if "changes" in line]
    assert [[change["text"] for change in line["changes"]] for line in found] == [
        ["VirtualService/webserver changed"],
        ["second"],
    ]
    assert found[0]["changes"][0]["time"] == "2026-11-25T14:02:07.123000+00:00"
    assert found[0]["now"].endswith("+00:00")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "[1]",
        '[{"time": "yesterday", "text": "x"}]',
        '[{"text": "x"}]',
        "null",
        '[{"time": "0001-01-01T00:00:00+23:59", "text": "x"}]',
        "[" * 100_000,
    ],
    ids=range(9),
)
def test_a_broken_file_of_changes_is_none(tmp_path, text):
    """The page goes on without changes when the file is missing or is none."""
    file = tmp_path / "changes"
    assert read_changes(file) == []
    file.write_text(text)
    assert read_changes(file) == []
    assert read_changes(None) == []


def test_a_mistake_in_a_call_ends_its_stream(ask):
    """A call that ends by a mistake of this program counts as ended."""
    seen = []

    def observe(path, query, headers):
        raise KeyError("a mistake")

    calls = Calls(observe, NAMES, list, own_path="/ui", stream_limit=1)
    hook, threading.excepthook = threading.excepthook, seen.append
    try:
        assert samples(ask(calls, "/ui/calls?rate=2&seconds=1")) == []
        wait_until(lambda: len(seen) == 2, "both mistakes")
    finally:
        threading.excepthook = hook
