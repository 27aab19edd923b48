"""What both roles share: targets, answers, probes, the access log."""

import io
import re

import pytest

from meshdemo.serving import wsgi


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("/", ("/", ""), id="a lone slash"),
        pytest.param("/a?b=c?d", ("/a", "b=c?d"), id="the first question mark begins the query"),
        pytest.param("/a%2Fb%2f/../%zz", ("/a%2Fb%2f/../%zz", ""), id="percent-encoding and dots are left alone"),
        pytest.param("//other/x", ("//other/x", ""), id="two slashes are a path, not a host"),
        pytest.param("http://other:80/x?y", ("/x", "y"), id="the absolute form loses its host"),
        pytest.param("http://other", ("/", ""), id="the absolute form without a path"),
        pytest.param("http://other?y", ("/", "y"), id="the absolute form with only a query"),
        pytest.param("/x?u=http://other/y", ("/x", "u=http://other/y"), id="an address in the query"),
        pytest.param("x?u=http://other/y", ("x", "u=http://other/y"), id="an address in the query, no leading slash"),
        pytest.param("*", ("*", ""), id="the asterisk form"),
        pytest.param("@other/x", ("@other/x", ""), id="no leading slash"),
    ],
)
def test_split_target(target, expected):
    """A request target is split into path and query as they were sent."""
    assert wsgi.split_target(target) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("application/*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("text/html, application/json;q=0.5", True),
        ("application/json;q=0", False),
        ("application/json;q=much", False),
        ("application/json;q=5", False),
        ("application/json;q=1.5", False),
        ("application/json;q=1.000", True),
        ("application/json;q=1.0000", False),
        ("text/plain;q=0.9, application/json;q=1.9", False),
        ("text/plain, application/json;q=0.5", False),
        ("text/plain;q=0.4, application/json;q=0.5", True),
        ("application/jsonp", False),
    ],
)
def test_wants_json(call_app, accept, expected):
    """JSON is for requests that name it and do not prefer plain text."""
    asked = []

    def app(environ, start_response):
        asked.append(wsgi.wants_json(environ))
        return wsgi.answer(environ, start_response, 200, "")

    call_app(app, headers={"Accept": accept})
    assert asked == [expected]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 205, 304, 404, 500, 599])
def test_answer_has_the_body_that_its_status_and_method_allow(call_app, method, status):
    """HEAD, 204, 205 and 304 have no body, other texts end with a line break; HEAD has the length of GET."""

    def app(environ, start_response):
        return wsgi.answer(environ, start_response, status, "hé\r\n\n")

    response = call_app(app, method=method)
    bodiless = status in (204, 205, 304)
    assert response.body == (b"" if bodiless or method == "HEAD" else b"h\xc3\xa9\n")
    assert response.headers.get("content-length") == {204: None, 205: "0", 304: None}.get(status, "4")
    assert response.headers.get("content-type") == (None if status in (204, 304) else "text/plain; charset=utf-8")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"


def test_answer_survives_what_utf_8_cannot_encode(call_app):
    """A command line may hold bytes that are no text; they become question marks."""

    def app(environ, start_response):
        return wsgi.answer(environ, start_response, 200, "a\udcffb")

    assert call_app(app).text == "a?b"


def test_status_line_without_a_known_phrase():
    """A code that no standard names is still a status."""
    assert wsgi.status_line(599) == "599 Unknown"
    assert wsgi.status_line(404) == "404 Not Found"


def test_probes_answer_in_front_of_the_application(call_app):
    """The probes never reach the application; readiness follows, liveness does not."""
    ready = [True]

    def never(environ, start_response):
        raise AssertionError("the application was called")

    app = wsgi.with_probes(never, lambda: ready[0])
    assert (call_app(app, "/healthz").status, call_app(app, "/readyz?x").status) == (200, 200)
    ready[0] = False
    assert (call_app(app, "/healthz").status, call_app(app, "/readyz").status) == (200, 503)
    for other in ("/healthz/", "//healthz", "/%68ealthz", "/HEALTHZ"):
        with pytest.raises(AssertionError, match="was called"):
            call_app(app, other)


HERE = ["localhost", "LocalHost:80", "mesh.localhost.", "127.1.2.3:9", "[::1]:3030", ""]
ELSEWHERE = ["a.example", "127.0.0.1.a.example:3030", "localhost.a", "notlocalhost", "10.0.0.1", "[::2]", "127.0.0.1:a"]


@pytest.mark.parametrize(("host", "status"), [*((host, 200) for host in HERE), *((host, 421) for host in ELSEWHERE)])
def test_names_of_this_machine(call_app, host, status):
    """What only this machine reaches answers to localhost and loopback addresses, and to no other name."""
    app = wsgi.with_local_names(lambda environ, start: wsgi.answer(environ, start, 200, "ok"))
    assert call_app(app, headers={"Host": host}).status == status


@pytest.mark.parametrize(
    ("path", "status"), [("/ui", 421), ("/ui/calls", 421), ("http://a/ui", 421), ("/", 200), ("/ui2", 200)]
)
def test_only_some_paths_need_a_name_of_this_machine(call_app, path, status):
    """Paths elsewhere answer to any name."""
    app = wsgi.with_local_names(lambda environ, start: wsgi.answer(environ, start, 200, "ok"), "/ui/")
    assert call_app(app, path, headers={"Host": "webserver"}).status == status


def logged_line(call_app, target="/", **request):
    stream = io.StringIO()
    times = iter([1.0, 1.0123])

    def app(environ, start_response):
        return wsgi.answer(environ, start_response, 500, "")

    call_app(wsgi.with_access_log(app, "proxy", stream, timer=lambda: next(times)), target, **request)
    return stream.getvalue()


def test_access_log_line(call_app):
    """A line has time, role, client, method, path, status, milliseconds and request id, in this order."""
    line = logged_line(call_app, "/a?secret=1", method="POST", headers={"X-Request-Id": "id-1"})
    stamp, rest = line.split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert rest == "proxy 192.0.2.1 POST /a 500 12.3ms id-1\n"
    assert logged_line(call_app).endswith(" 500 12.3ms\n")


@pytest.mark.parametrize(
    "target", ["/a\nforged", "/a\r\nforged", "/a\x0bforged", "/a\x85forged", "/a\x1b[2Jforged", "/a forged"]
)
def test_a_path_cannot_forge_a_log_line(call_app, target):
    """Whatever a path or a request id holds, the log has one line of visible ASCII with the same fields."""
    line = logged_line(call_app, target, headers={"X-Request-Id": target})
    assert line.count("\n") == 1
    assert re.fullmatch(r"[\x20-\x7e]+", line.rstrip("\n"))
    assert len(line.split()) == 8
