"""The log that each Envoy sends."""

from meshdemo.lab.envoy.xds.access_log import matched_headers, with_access_log, with_text_log

TYPE = "type.googleapis.com/envoy.extensions."
ROUTER = f"{TYPE}filters.http.router.v3.Router"


def test_access_logs():
    """Requests and tries are logged, on one stream, beside what a policy wants, with routes and what these look at."""
    manager = {
        "@type": "type.googleapis.com/x.HttpConnectionManager",
        "access_log": [{"name": "a"}],
        "rds": {"route_config_name": "80"},
        "http_filters": [{"name": "b"}, {"typed_config": {"@type": ROUTER}}],
    }
    found = with_access_log([manager], ["end-user"], tries=True)[0]
    first, log = found["access_log"]
    assert first == {"name": "a"}
    assert log["typed_config"]["additional_request_headers_to_log"] == ["end-user", "x-request-id"]
    tags = log["typed_config"]["common_config"]["custom_tags"]
    assert {"tag": "routes", "literal": {"value": "80"}} in tags
    other, router = found["http_filters"]
    assert other == {"name": "b"}
    (of_tries,) = router["typed_config"]["upstream_log"]
    assert of_tries["typed_config"]["common_config"] == log["typed_config"]["common_config"]
    assert of_tries["typed_config"]["additional_request_headers_to_log"] == ["x-request-id"]
    assert manager["access_log"] == [{"name": "a"}]
    (without,) = with_access_log([manager], tries=False)
    assert without["http_filters"] == manager["http_filters"]
    assert len(without["access_log"]) == 2


def test_headers_with_tokens():
    """The headers in which tokens are looked for are logged: of no other is it known which rule read one."""
    providers = {
        "a": {"from_headers": [{"name": "X-Token"}], "from_params": ["t"]},
        "b": {"from_cookies": ["c"]},
        "c": {"from_params": ["t"]},
    }
    for found, expected in ((providers, ["cookie", "x-token"]), ({"d": {}}, ["authorization"])):
        tokens = {"typed_config": {"providers": found}}
        manager = {"@type": "type.googleapis.com/x.HttpConnectionManager", "http_filters": [tokens]}
        (log,) = with_access_log(manager, tries=False)["access_log"]
        assert log["typed_config"]["additional_request_headers_to_log"] == sorted([*expected, "x-request-id"])


def test_connections():
    """What is only passed on is logged as a connection, and so is one that no filter chain of a listener is for."""
    proxy = {"@type": "type.googleapis.com/x.TcpProxy", "cluster": "BlackHoleCluster"}
    listener = {"filter_chains": [{"filters": [{"typed_config": proxy}]}], "access_log": [{"name": "a"}]}
    found = with_access_log(listener, tries=False)
    first, log = found["access_log"]
    assert first == {"name": "a"}
    assert log["filter"] == {"response_flag_filter": {"flags": ["NR"]}}
    (of_proxy,) = found["filter_chains"][0]["filters"][0]["typed_config"]["access_log"]
    (tag,) = of_proxy["typed_config"]["common_config"]["custom_tags"]
    assert tag == {"tag": "cluster", "literal": {"value": "BlackHoleCluster"}}
    assert log["typed_config"]["common_config"]["custom_tags"] == []
    assert of_proxy["typed_config"]["@type"].endswith(".TcpGrpcAccessLogConfig")
    assert "filter" not in of_proxy


def test_matched_headers():
    """Routes are chosen by headers, and by what is told of each request anyway."""
    match = {"headers": [{"name": "End-User"}, {"name": ":method"}]}
    routes = [{"virtual_hosts": [{"name": "a"}, {"routes": [{"match": match}, {"match": {"prefix": "/"}}]}]}]
    assert list(matched_headers(routes)) == ["end-user"]


def test_text_logs():
    """Requests and connections are written as Istio does it, once also where a policy asks for it."""
    asked = {"typed_config": {"@type": f"{TYPE}access_loggers.file.v3.FileAccessLog", "path": "/dev/stdout"}}
    manager = {"@type": "type.googleapis.com/x.HttpConnectionManager", "access_log": [{"name": "a"}]}
    proxy = {"@type": "type.googleapis.com/x.TcpProxy"}
    first, second, third = with_text_log([manager, proxy, {**proxy, "access_log": [asked]}])
    assert first["access_log"][0] == {"name": "a"}
    assert first["access_log"][1:] == second["access_log"]
    (log,) = second["access_log"]
    assert log["typed_config"]["path"] == "/dev/stdout"
    assert third["access_log"] == [asked]
