"""The proxy role, in process, with the upstream's answers made up by requests-mock."""

import json
import re

import pytest
import requests
from requests_mock import ANY
from support import OF_THE_PAGE, http_response, replying

from meshdemo.calling.upstream import Upstream
from meshdemo.page.page import PageOptions
from meshdemo.roles import proxy, webserver
from meshdemo.serving import server
from meshdemo.serving.waitress_server import Server

URL = "http://webserver/base"
JSON = {"Accept": "application/json"}


@pytest.fixture
def proxied(call_app):
    """Return a function that sends one request through a proxy of URL."""

    def call(target="/", *, proxy_url=URL, options=None, **request):
        times = iter([10.0, 10.0126])
        app = proxy.create_app(Upstream(proxy_url), timer=lambda: next(times), **(options or {}))
        return call_app(app, target, **request)

    return call


def failed(error, code):
    """Return the JSON form of a call that failed."""
    shape = {"value": None, "status": None, "error": error, "code": code, "milliseconds": 12.6, "headers": None}
    return {**shape, "not passed on": []}


def test_answer(proxied, requests_mock):
    """The upstream's body is shown, and how long it took in whole milliseconds."""
    requests_mock.get(URL, text="Webserver V1")
    response = proxied()
    assert response.text == "Proxying value: Webserver V1 - Took 13 milliseconds"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("upstream", "shown"),
    [("a", b"a"), ("a\n", b"a"), ("a\r\n\n", b"a"), ("\na\nb \n", b"\na\nb ")],
)
def test_line_ends(proxied, requests_mock, upstream, shown):
    """A text ends with one line break; those at the end of the upstream's are taken off, in JSON as well."""
    requests_mock.get(URL, text=upstream, headers={"Content-Type": "text/plain"})
    assert proxied().body == b"Proxying value: " + shown + b" - Took 13 milliseconds\n"
    response = proxied(headers=JSON)
    assert response.json()["value"] == shown.decode()
    assert not response.body.endswith(b"\n")


@pytest.mark.parametrize("body", ["", "\n", "\r\n\n"])
@pytest.mark.parametrize("status", [200, 204, 404, 503])
def test_an_empty_answer(proxied, requests_mock, status, body):
    """The text form says that it is empty, and its status; JSON has both as they are."""
    requests_mock.get(URL, status_code=status, text=body, headers={"Content-Type": "text/plain"})
    assert proxied().text == f"Proxying value: (empty, status {status}) - Took 13 milliseconds"
    document = proxied(headers=JSON).json()
    assert (document["value"], document["status"]) == ("", status)


@pytest.mark.parametrize(
    ("proxy_url", "target", "called"),
    [
        ("http://webserver", "/", "http://webserver/"),
        ("http://webserver", "/x", "http://webserver/x"),
        ("http://webserver/", "/", "http://webserver/"),
        ("http://webserver/", "/x", "http://webserver/x"),
        ("http://webserver/base", "/", "http://webserver/base"),
        ("http://webserver/base/", "/", "http://webserver/base/"),
        ("http://webserver/base", "/x/y", "http://webserver/base/x/y"),
        ("http://webserver/base/", "/x/y/", "http://webserver/base/x/y/"),
        ("http://webserver/base", "/?a=b&c", "http://webserver/base?a=b&c"),
        ("http://webserver/base?k=v", "/x?a=b", "http://webserver/base/x?k=v&a=b"),
        ("http://webserver/\u00e9\u2192?\u2192", "/x", "http://webserver/%C3%A9%E2%86%92/x?%E2%86%92"),
        ("http://webserver:8080/a%2Fb", "/%2fc", "http://webserver:8080/a%2Fb/%2fc"),
    ],
)
def test_url_that_is_called(proxied, requests_mock, proxy_url, target, called):
    """Path and query are appended; a lone slash adds nothing and no slash is doubled."""
    requests_mock.register_uri(ANY, ANY, text="")
    proxied(target, proxy_url=proxy_url)
    assert requests_mock.last_request._request.url == called


@pytest.mark.parametrize(
    "target",
    [
        "@elsewhere/",
        "*",
        "//elsewhere/x",
        "///elsewhere",
        "http://elsewhere/x",
        "https://user@elsewhere:99",
        "\\\\elsewhere\\x",
        "/\\elsewhere",
        ":99/x",
        ".elsewhere/x",
        "?x=@elsewhere",
        "#@elsewhere/",
        "/%0d%0aHost:%20elsewhere",
        "/\r\nHost: elsewhere",
        "/\x00\xff",
        "../../x",
    ],
)
def test_no_target_reaches_another_host(proxied, requests_mock, target):
    """Whatever a client sends as target, the call goes to the upstream's scheme, host and port."""
    requests_mock.register_uri(ANY, ANY, text="")
    assert proxied(target).status == 200
    (call,) = requests_mock.request_history
    assert (call.scheme, call.netloc) == ("http", "webserver")
    assert call._request.url.startswith("http://webserver/base")
    assert call._request.url.isascii()
    assert call._request.url.isprintable()
    assert " " not in call._request.url


def test_method_and_body_go_along(proxied, requests_mock):
    """The upstream gets the same method and body."""
    requests_mock.put(URL, text="stored")
    assert proxied(method="PUT", body=b"\x00data").text.startswith("Proxying value: stored")
    assert requests_mock.last_request.body == b"\x00data"


@pytest.mark.parametrize(("size", "status"), [(1024 * 1024, 200), (1024 * 1024 + 1, 413)])
def test_body_limit(proxied, requests_mock, size, status):
    """A body of 1 MiB goes along, one byte more gets 413 and no call is made."""
    requests_mock.post(URL, text="stored")
    response = proxied(method="POST", body=b"x" * size)
    assert response.status == status
    assert requests_mock.called == (status == 200)
    if status == 413:
        assert response.text == "Error: request body of 1048577 bytes, more than 1 MiB"


# By the system that joins spans by them; `end-user` is what lessons route by.
CROSSING = {
    "Envoy": ["x-request-id", "X-Request-ID"],
    "W3C": ["traceparent", "tracestate", "baggage"],
    "Zipkin": ["b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"],
    "Lightstep": ["x-ot-span-context"],
    "Google Cloud": ["x-cloud-trace-context", "grpc-trace-bin"],
    "SkyWalking": ["sw8"],
    "Datadog": ["x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-sampling-priority"],
    "meshdemo": ["end-user", "End-User"],
}


@pytest.mark.parametrize("name", [name for names in CROSSING.values() for name in names])
def test_tracing_headers_cross(proxied, requests_mock, name):
    """Tracing headers and end-user are copied with their value."""
    requests_mock.get(URL, text="")
    proxied(headers={name: "tester"})
    assert requests_mock.last_request.headers[name] == "tester"


def test_the_calls_of_the_page_have_no_body(proxied, requests_mock):
    """The page calls as a browser does that opens a URL: GET, without a body."""
    requests_mock.get(URL, text="")
    proxied("/ui/calls?rate=1&seconds=1", headers=OF_THE_PAGE)
    assert (requests_mock.last_request.method, requests_mock.last_request.body) == ("GET", None)


def test_nothing_else_crosses(proxied, requests_mock):
    """No cookie, no credential and no empty header reaches the upstream."""
    requests_mock.get(URL, text="")
    sent = {"Cookie": "a=b", "Authorization": "Basic eDp5", "X-Other": "1", "Host": "elsewhere", "End-User": ""}
    proxied(headers=sent)
    received = {name.lower() for name in requests_mock.last_request.headers}
    assert received == {
        "user-agent",
        "accept",
        "connection",
        "via",
        ":path",
    }  # :path is the target, not sent as a header


@pytest.mark.parametrize("connection", ["x-request-id, via, X-TENANT", "close , X-Tenant,VIA,,x-request-id"])
def test_what_connection_names_does_not_cross(proxied, requests_mock, connection):
    """A header that is for one connection ends here, whatever list it is on (RFC 9110, 7.6.1)."""
    requests_mock.get(URL, text="")
    sent = {"Connection": connection, "X-Request-Id": "1", "X-Tenant": "blue", "Via": "1.1 a", "b3": "0", **JSON}
    document = proxied(headers=sent, options={"forward_headers": ["x-tenant"], "name": "here"}).json()
    received = requests_mock.last_request.headers
    assert (received["Via"], received["B3"]) == ("1.1 here", "0")
    assert not {"x-request-id", "x-tenant"} & {name.lower() for name in received}
    assert document["not passed on"] == ["via", "x-request-id", "x-tenant"]


def test_what_was_not_passed_on_is_told(proxied, requests_mock):
    """JSON names the headers that were sent and not passed on, never their values."""
    requests_mock.post(URL, text="")
    own = {"Host": "elsewhere", "Connection": "close", "End-User": "tester", **JSON}
    sent = {
        "User-Agent": "curl/8",
        "Cookie": "session=secret",
        "Authorization": "Basic secret",
        "TE": "trailers",
        **own,
    }
    response = proxied(method="POST", headers=sent, body=b"data")
    assert response.json()["not passed on"] == ["authorization", "cookie", "te", "user-agent"]
    assert b"secret" not in response.body
    assert proxied(method="POST", headers=own).json()["not passed on"] == []


def test_headers_of_the_answer(proxied, requests_mock):
    """JSON has the answer's headers under their usual names, without credentials, each value cut at 1,000."""
    headers = {"server": "istio-envoy", "X-ENVOY-overloaded": "true", "x-long": "y" * 5000, "Location": "/caf\xe9"}
    secret = dict.fromkeys(("Set-Cookie", "set-cookie2", "Authorization", "Cookie", "Proxy-Authorization"), "secret")
    secret |= {"Authentication-Info": "secret", "Proxy-Authentication-Info": "secret"}
    requests_mock.get(URL, status_code=503, text="no", headers={**headers, **secret})
    response = proxied(headers=JSON)
    assert response.json()["headers"] == {
        "Location": "/caf\xe9",
        "Server": "istio-envoy",
        "X-Envoy-Overloaded": "true",
        "X-Long": "y" * 1000,
    }
    assert b"secret" not in response.body


def test_forward_header_adds_to_the_list(proxied, requests_mock):
    """A header that is named crosses too, whatever its case, and the tracing headers still do."""
    requests_mock.get(URL, text="")
    proxied(headers={"X-Tenant": "blue", "b3": "0"}, options={"forward_headers": ["x-TENANT"]})
    assert requests_mock.last_request.headers["X-Tenant"] == "blue"
    assert requests_mock.last_request.headers["B3"] == "0"


# Loops


@pytest.mark.parametrize(
    ("sent", "protocol", "received"),
    [
        (None, "HTTP/1.1", "1.1 here"),
        (None, "HTTP/1.0", "1.0 here"),
        ("1.0 fred, 1.1 p.net (here, 1.1 her)", "HTTP/1.1", "1.0 fred, 1.1 p.net (here, 1.1 her), 1.1 here"),
        ("1.1 here-too", "HTTP/1.1", "1.1 here-too, 1.1 here"),
    ],
)  # fmt: skip
def test_via_is_extended(proxied, requests_mock, sent, protocol, received):
    """The proxy adds the protocol it received and its name to Via (RFC 9110, 7.6.3)."""
    requests_mock.get(URL, text="")
    headers = {"Via": sent} if sent else {}
    assert proxied(headers=headers, protocol=protocol, options={"name": "here"}).text.startswith("Proxying value: ")
    assert requests_mock.last_request.headers["Via"] == received


@pytest.mark.parametrize(
    "via", ["1.1 here", "1.0 fred,1.1 here", "1.1 here (a comment), 1.1 b", "HTTP/2 here", " 1.1\there"]
)
def test_a_request_that_comes_back_is_not_sent_again(proxied, requests_mock, via):
    """A request that names this proxy in Via ends in a sentence, and no call is made."""
    sentence = f"loop: this proxy has sent this request before, so it ends here instead of calling {URL}/x"
    options = {"name": "here"}
    response = proxied("/x", headers={"Via": via}, options=options)
    assert response.text == f"Error: {sentence} - Took 13 milliseconds"
    assert response.status == 200
    assert proxied("/x", headers={"Via": via}, options={**options, "pass_status": True}).status == 508
    document = proxied("/x", headers={"Via": via, **JSON}, options=options).json()
    assert document == failed(sentence, "loop")
    assert not requests_mock.called


@pytest.fixture
def serve():
    """Return a function that serves applications, each made with the URLs of all of them, and gives these URLs."""
    running = []

    def start(*create):
        sockets = [server.bind("127.0.0.1", 0) for _ in create]
        urls = [f"http://127.0.0.1:{listening[0].getsockname()[1]}" for listening in sockets]
        for listening, create_one in zip(sockets, create, strict=True):
            running.append(Server(create_one(urls), listening, 4))
        return urls

    yield start
    for started in running:
        started.close()


def counting(app, targets):
    """Return `app`, which notes the target of each request."""

    def counts(environ, start_response):
        targets.append(environ["REQUEST_URI"])
        return app(environ, start_response)

    return counts


def test_a_chain_of_proxies(serve):
    """Three proxies in a row work, stay on one line, and each is named in Via."""
    urls = serve(
        *[lambda urls, number=number: proxy.create_app(Upstream(urls[number + 1])) for number in range(3)],
        lambda _: webserver.create_app(content="V1", hostname="pod"),
    )
    upstream = Upstream(urls[0])
    text = upstream.call("GET", upstream.url_for("/x"), {}).text
    assert re.fullmatch(
        r"(Proxying value: ){3}V1 requested from /x on pod with code 200( - Took \d+ milliseconds){3}\n", text
    )
    value = json.loads(upstream.call("GET", upstream.url_for("/x"), {"accept": "application/json"}).text)
    for _ in range(3):
        value = value["value"]
    names = value["headers"]["Via"].split(", ")
    assert all(re.fullmatch(r"1\.1 meshdemo-[0-9a-f]{16}", name) for name in names)
    assert len(set(names)) == 3


@pytest.mark.parametrize("length", [1, 2, 3])
def test_proxies_in_a_circle(serve, length):
    """A request goes once around a circle of proxies and ends where it began."""
    targets = []

    def create(number):
        return lambda urls: counting(proxy.create_app(Upstream(urls[(number + 1) % length]), pass_status=True), targets)

    urls = serve(*map(create, range(length)))
    upstream = Upstream(urls[0])
    answer = upstream.call("GET", upstream.url_for("/x"), {})
    assert answer.status == 508
    assert (
        f"Error: loop: this proxy has sent this request before, so it ends here instead of calling {urls[1 % length]}/x"
        in answer.text
    )
    assert targets == ["/x"] * (length + 1)


def test_a_redirect_into_a_circle(serve, tcp_server):
    """An upstream that redirects to the proxy makes no loop either."""
    targets, home = [], []
    backend = tcp_server(lambda conn: replying(http_response(b"", f"Location: {home[0]}/again", status="302 F"))(conn))
    home += serve(lambda _: counting(proxy.create_app(Upstream(backend.url)), targets))
    upstream = Upstream(home[0])
    text = upstream.call("GET", upstream.url_for("/x"), {}).text
    assert text.startswith("Proxying value: Error: loop: ")
    assert targets == ["/x", "/again"]


def test_upstream_cookies_are_not_kept(proxied, requests_mock, call_app):
    """A cookie that the upstream sets does not come back with the next call."""
    requests_mock.get(URL, text="", headers={"Set-Cookie": "session=1"})
    app = proxy.create_app(Upstream(URL))
    assert "set-cookie" not in call_app(app).headers
    call_app(app)
    assert "Cookie" not in requests_mock.last_request.headers


@pytest.mark.parametrize(
    ("content_type", "body", "shown"),
    [
        ("text/plain; charset=latin-1", b"\xe9", "é"),
        ("text/plain; charset=UTF-16LE", b"a\x00", "a"),
        ("text/plain", "é".encode(), "é"),
        ("text/plain", b"\xff", "\ufffd"),
        ("", "é".encode(), "é"),
        ("text/plain; charset=nonsense", "é".encode(), "é"),
        ("text/plain; charset=rot13", b"abc", "abc"),
        ("text/plain; charset=zlib", b"abc", "abc"),
        ("text/plain; charset=undefined", b"abc", "abc"),
        ("text/plain; charset=punycode", b"abc", "abc"),
        ("text/plain; charset=-punycode", b"abc-", "abc-"),
        ("text/plain; charset=unicode-escape", b"\\x41", "\\x41"),
        ("text/plain; charset=.unicode_escape", b"\\x41", "\\x41"),
        ("text/plain; charset=\x00", b"abc", "abc"),
        ("text/plain; charset=utf-8", b"\xc3", "\ufffd"),
    ],
)
def test_body_is_decoded_by_its_charset(proxied, requests_mock, content_type, body, shown):
    """The declared charset counts, else UTF-8, and no byte makes it fail."""
    requests_mock.get(URL, content=body, headers={"Content-Type": content_type})
    assert proxied().text == f"Proxying value: {shown} - Took 13 milliseconds"


def test_json_of_any_depth(proxied, requests_mock):
    """JSON that is nested as deep as can just be written, or too deep, is never an error."""

    def shown(depth):
        requests_mock.get(URL, text="[" * depth + "]" * depth, headers={"Content-Type": "application/json"})
        answer = proxied(headers=JSON)
        assert answer.status == 200
        return answer.text

    low, high = 1, 200_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if '"value": "[' in shown(middle) else (middle, high)
    for depth in range(low - 3, high + 3):
        shown(depth)


@pytest.mark.parametrize("status", [200, 204, 304, 404, 500, 503, 599])
def test_status_is_200_unless_it_is_passed(proxied, requests_mock, status):
    """The page shows failures and is none; with pass_status it has the upstream's status."""
    requests_mock.get(URL, status_code=status, text="")
    assert proxied().status == 200
    assert proxied(options={"pass_status": True}).status == status
    assert proxied(headers=JSON).json()["status"] == status


@pytest.mark.parametrize("status", [101, 199, 600, 999])
def test_a_status_that_no_answer_may_have_is_a_bad_gateway(proxied, requests_mock, status):
    """What cannot be passed on becomes 502."""
    requests_mock.get(URL, status_code=status, text="")
    assert proxied(options={"pass_status": True}).status == 502


@pytest.mark.parametrize(
    ("error", "reason", "code", "status"),
    [
        (requests.ReadTimeout(), "timed out after 30 seconds", "timed out", 504),
        (requests.ConnectTimeout(), "timed out after 30 seconds", "timed out", 504),
        (requests.ConnectionError(ConnectionRefusedError(111, "no")), "connection refused", "connection refused", 502),
        (requests.ConnectionError(ConnectionResetError(104, "no")), "connection reset", "connection reset", 502),
        (requests.ConnectionError(OSError(113, "No route to host")), "no route to host", "call failed", 502),
        (requests.ConnectionError("<object at 0x7f00>"), "the call failed", "call failed", 502),
    ],
)
def test_failure(proxied, requests_mock, error, reason, code, status):
    """A failed call is one line with the reason and the URL; JSON has a code for its kind."""
    requests_mock.get(URL + "/x", exc=error)
    response = proxied("/x")
    assert response.status == 200
    assert response.text == f"Error: {reason} calling http://webserver/base/x - Took 13 milliseconds"
    assert proxied("/x", options={"pass_status": True}).status == status
    document = proxied("/x", headers=JSON).json()
    assert document == failed(f"{reason} calling http://webserver/base/x", code)


def test_a_long_url_is_cut_in_the_reason(proxied, requests_mock):
    """One short line stays short."""
    requests_mock.get(ANY, exc=requests.ConnectTimeout())
    text = proxied("/" + "x" * 5000).text
    assert len(text) < 300
    assert "..." in text


def test_json(proxied, requests_mock):
    """The JSON form nests the upstream's JSON, asks the upstream for it, and keeps fractions of a millisecond."""
    requests_mock.get(URL, json={"content": "Webserver V1"})
    response = proxied(headers=JSON)
    assert response.headers["content-type"] == "application/json"
    assert requests_mock.last_request.headers["Accept"] == "application/json"
    assert response.json() == {
        "value": {"content": "Webserver V1"},
        "status": 200,
        "error": None,
        "code": None,
        "milliseconds": 12.6,
        "headers": {},
        "not passed on": [],
    }


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("text/plain", "{}", "{}"),
        ("application/json", "[1]", [1]),
        ("application/problem+json; charset=utf-8", "null", None),
        ("application/json", "{broken", "{broken"),
        ("application/json", "NaN", "NaN"),
        ("application/json", "1e999", "1e999"),
        ("application/json", '"\\ud800"', "\ud800"),
        ("application/json", "[" * 100_000, "[" * 100_000),
        ("application/json", "9" * 5000, "9" * 5000),
    ],
)
def test_json_value(proxied, requests_mock, content_type, body, value):
    """What is not JSON, or none that can be written again, is shown as text."""
    requests_mock.get(URL, text=body, headers={"Content-Type": content_type})
    response = proxied(headers=JSON)
    assert json.loads(response.body)["value"] == value


def test_json_tells_of_changes(proxied, requests_mock, tmp_path):
    """Where a mesh may change, a header says as of which change an answer is; elsewhere there is none."""
    requests_mock.get(ANY, text="ok")
    file = tmp_path / "changes.json"
    options = {"page_options": PageOptions(changes_file=file)}
    assert "meshdemo-changed" not in proxied(headers=JSON).headers
    assert proxied(headers=JSON, options=options).headers["meshdemo-changed"] == "-"
    file.write_text('[{"time": "2026-01-02T03:04:05Z", "text": "Gateway/a\\nb changed"}]')
    changed = proxied(headers=JSON, options=options).headers["meshdemo-changed"]
    assert changed == "2026-01-02T03:04:05+00:00%20Gateway/a%0Ab%20changed"
    assert "meshdemo-changed" not in proxied(options=options).headers
