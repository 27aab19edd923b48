"""What the Envoys log, as data."""

import threading

from meshdemo.lab.envoy.xds.messages import api
from meshdemo.lab.xray.facts.records import Record, Records, read_connection, read_record

LOG = api("envoy.data.accesslog.v3.accesslog_pb2")
SERVICE = api("envoy.service.accesslog.v3.als_pb2")


def entry(request_id="1", kind="DownstreamEnd", status=200):
    made = LOG.HTTPAccessLogEntry()
    common = made.common_properties
    common.access_log_type = LOG.AccessLogType.Value(kind)
    common.start_time.FromMilliseconds(1500)
    common.duration.FromMicroseconds(2500)
    common.upstream_remote_address.socket_address.address = "127.0.0.1"
    common.upstream_remote_address.socket_address.port_value = 20001
    common.response_flags.upstream_connection_failure = True
    common.response_flags.unauthorized_details.reason = 1
    common.route_name = "testers"
    common.time_to_first_upstream_tx_byte.FromMicroseconds(400)
    common.time_to_last_upstream_rx_byte.FromMicroseconds(1900)
    common.upstream_cluster = "outbound|80||webserver.default.svc.cluster.local to 10.96.0.3:80"
    common.custom_tags["routes"] = "80"
    common.custom_tags["object"] = "/apis/x"
    made.request.request_id = request_id
    made.request.request_method = 1
    made.request.path = "/new"
    made.request.original_path = "/v2?x=1"
    made.request.request_headers["end-user"] = "tester"
    if status:
        made.response.response_code.value = status
    return made


def message(*entries):
    """Return what an Envoy sends of some entries."""
    made = SERVICE.StreamAccessLogsMessage()
    made.http_logs.log_entry.extend(entries)
    return made.SerializeToString()


def test_an_entry():
    """An entry has all that an explanation needs, with Envoy's own short names for what went wrong."""
    found = read_record("proxy-1", entry())
    assert (found.envoy, found.is_try, found.method, found.path) == ("proxy-1", False, "GET", "/v2?x=1")
    assert found.cluster == "outbound|80||webserver.default.svc.cluster.local"
    assert (found.routes, found.route, found.object) == ("80", "testers", "/apis/x")
    assert (found.flags, found.status) == (("UF", "UAEX"), 200)
    assert (found.started, found.milliseconds, found.upstream) == (1.5, 2.5, "127.0.0.1:20001")
    assert found.upstream_milliseconds == 1.5
    assert found.headers == {"end-user": "tester"}
    assert not found.is_inbound


def test_a_try_that_nobody_answered():
    """A try is told from a request, and no answer from a status."""
    found = read_record("proxy-1", entry(kind="UpstreamEnd", status=0))
    assert found.is_try
    assert found.status is None


def test_the_oldest_goes():
    """So many requests are kept, and no more."""
    records = Records(2)
    for number in "123":
        records.hear("proxy-1", message(entry(number)))
    kept = [records.wait(number, bool, settle_seconds=0, seconds=0) for number in "123"]
    assert [len(each) for each in kept] == [0, 1, 1]


def test_what_nobody_reads():
    """Of what nobody asks for so much is kept, and no more; what somebody has asked for stays."""
    size = len(message(entry("1"), entry("2")))
    records = Records(most_bytes=2 * size)
    records.hear("proxy-1", message(entry("0")))
    assert len(records.of("0")) == 1
    for pair in ("12", "34", "56"):
        records.hear("proxy-1", message(*map(entry, pair)))
    assert [len(records.of(number)) for number in "0123456"] == [1, 0, 0, 1, 1, 1, 1]


def test_a_request_that_is_traced():
    """An Envoy that samples a request for traces marks its id; whoever knows the id without the mark finds it."""
    sent, marked = (f"00000000-0000-{digit}000-8000-000000000000" for digit in "49")
    records = Records()
    records.hear("proxy-1", message(entry(marked), entry("9" * 15)))
    assert [len(records.of(each)) for each in (sent, marked, "9" * 15)] == [1, 1, 1]
    assert len(records.wait(sent, bool, settle_seconds=0, seconds=0)) == 1


def test_a_request_by_its_connection():
    """A request whose x-request-id nobody knows is found by the caller's end of its connection."""
    records = Records()
    made = entry("by-the-gateway")
    made.common_properties.downstream_direct_remote_address.socket_address.address = "127.0.0.1"
    made.common_properties.downstream_direct_remote_address.socket_address.port_value = 40001
    records.hear("gateway", message(made))
    assert records.id_of("127.0.0.1:40001") == "by-the-gateway"
    assert records.id_of("127.0.0.1:40002") is None


def test_waiting():
    """Who waits gets what comes until nothing more does, or what there is when the time is over."""
    records = Records()
    threading.Timer(0.02, lambda: records.hear("proxy-1", message(entry()))).start()
    (found,) = records.wait("1", bool, settle_seconds=0.01, seconds=5)
    assert isinstance(found, Record)
    assert records.wait("1", lambda found: len(found) == 2, settle_seconds=0, seconds=0.01) == [found]


def connection(downstream, upstream_local):
    """Return the entry of a connection from one port of loopback, which goes on by another one."""
    made = LOG.TCPAccessLogEntry()
    common = made.common_properties
    for address, port in (
        (common.downstream_direct_remote_address, downstream),
        (common.upstream_local_address, upstream_local),
    ):
        address.socket_address.address, address.socket_address.port_value = "127.0.0.1", port
    common.connection_termination_details = "rbac_access_denied_matched_policy[none]"
    common.response_flags.no_route_found = True
    common.custom_tags["cluster"] = "BlackHoleCluster"
    return made


def test_a_connection():
    """An entry of a connection has Envoy's reason for its end, and nothing of HTTP."""
    found = read_connection("mongo-0", connection(40001, 40002))
    assert (found.details, found.flags) == ("rbac_access_denied_matched_policy[none]", ("NR",))
    assert found.cluster == "BlackHoleCluster"
    assert (found.downstream, found.upstream_local, found.status) == ("127.0.0.1:40001", "127.0.0.1:40002", None)


def test_following_a_connection():
    """A connection is followed from the caller's end, from Envoy to Envoy, until all is there or time is over."""
    records = Records()

    def hear(envoy, downstream, upstream_local):
        made = SERVICE.StreamAccessLogsMessage()
        made.tcp_logs.log_entry.append(connection(downstream, upstream_local))
        records.hear(envoy, made.SerializeToString())

    def follow(count, seconds):
        return records.wait_connection("127.0.0.1:1", lambda found: len(found) == count, seconds=seconds)

    hear("mongo-0", 2, 3)
    hear("other", 7, 8)
    assert follow(1, 0) == []
    threading.Timer(0.02, hear, ("shop-1", 1, 2)).start()
    assert [each.envoy for each in follow(2, 5)] == ["shop-1", "mongo-0"]
    hear("mongo-0", 3, 1)
    assert len(follow(9, 0.01)) == 3
