"""The pace of a watch: an open loop, after a first call alone."""

import itertools
import threading
import time

import pytest
from support import http_response, read_request, replying, wait_until

from meshdemo.calling.upstream import Upstream
from meshdemo.watching.pace import Watch


def slow_server(seconds):
    def behave(connection):
        while read_request(connection):
            time.sleep(seconds)
            connection.sendall(http_response(b"slow"))

    return behave


def test_pace_is_an_open_loop(tcp_server):
    """Answers that take 0.4 s do not delay the next request: 20 of them, 50 a second, take hardly longer than two."""
    watch = Watch(Upstream(tcp_server(slow_server(0.4)).url), headers={}, requests=20, rate=50, concurrency=20)
    started = time.monotonic()
    samples = list(watch)
    assert 1.1 <= time.monotonic() - started < 4
    assert len(samples) == 20
    assert all(0.39 < each.seconds < 2 for each in samples)


def test_times_count_from_when_a_request_was_due(tcp_server):
    """With one place, a request that has to wait for it counts its wait, and is late; the second has no such wait."""
    watch = Watch(Upstream(tcp_server(slow_server(0.2)).url), headers={}, requests=5, rate=100, concurrency=1)
    samples = sorted(watch, key=lambda each: each.seconds)
    assert [each.late for each in samples] == [False, False, True, True, True]
    assert samples[-1].seconds > 0.7


def test_first_call_is_made_alone(tcp_server):
    """No other call begins before the first has ended, and none is late for it."""
    together, most, release = [], [], threading.Event()

    def behave(connection):
        while read_request(connection):
            together.append(connection)
            most.append(len(together))
            if len(most) == 1:
                release.wait(10)
            together.remove(connection)
            connection.sendall(http_response(b"ok"))

    server = tcp_server(behave)
    watch = Watch(Upstream(server.url), headers={}, requests=8, rate=100, concurrency=8)
    polled = watch.poll(0.1)
    assert [next(polled) for _ in range(3)] == [None] * 3
    assert (len(most), watch.under_way) == (1, 1)
    release.set()
    samples = [each for each in polled if each]
    assert len(samples) == 8
    assert samples[0].seconds > 0.25 > samples[1].seconds


def test_connections_and_headers(tcp_server):
    """Each request has its connection unless they are kept; headers go out, and JSON is asked for."""
    requests = []
    server = tcp_server(replying(http_response(b"ok"), requests))
    for keep_alive, connections in ((False, 5), (True, 6)):
        upstream = Upstream(server.url + "/path", keep_alive=keep_alive)
        list(Watch(upstream, headers={"end-user": "tester"}, requests=5, rate=0, concurrency=1))
        assert server.connections == connections
    assert all(each.startswith(b"GET /path HTTP/1.1\r\n") for each in requests)
    assert all(b"end-user: tester\r\n" in each and b"accept: application/json\r\n" in each for each in requests)


def test_it_goes_on_until_nobody_asks_for_more(tcp_server):
    """Zero requests means no end; when the iteration stops, so do the requests."""
    server = tcp_server(replying(http_response(b"ok")))
    watch = Watch(Upstream(server.url), headers={}, requests=0, rate=0, concurrency=2)
    assert len(list(itertools.islice(watch, 300))) == 300
    watch.stop()
    most = server.connections + watch.under_way
    time.sleep(0.3)
    assert server.connections <= most


def test_duration_ends_it(tcp_server):
    """Calls are due for as long as the duration: at 50 a second some 25 in half a second."""
    server = tcp_server(replying(http_response(b"ok")))
    watch = Watch(Upstream(server.url), headers={}, requests=0, rate=50, concurrency=64, duration_seconds=0.5)
    assert 5 <= len(list(watch)) <= 25  # fewer on a busy machine, never more


def test_no_call_begins_after_the_duration(tcp_server):
    """Calls that found all places taken until then are not made; the first always is."""
    server = tcp_server(slow_server(0.4))
    watch = Watch(Upstream(server.url), headers={}, requests=0, rate=100, concurrency=2, duration_seconds=0.5)
    assert len(list(watch)) <= 3
    watch = Watch(Upstream(server.url), headers={}, requests=0, rate=0, concurrency=2, duration_seconds=1e-9)
    assert len(list(watch)) == 1


@pytest.mark.parametrize("rate", [1e-12, 5e-324])
def test_a_call_that_is_due_in_ages_is_waited_for(tcp_server, rate):
    """A pace may be slower than threads can wait for."""
    watch = Watch(
        Upstream(tcp_server(replying(http_response(b"ok"))).url), headers={}, requests=2, rate=rate, concurrency=1
    )
    samples = watch.poll(0.3)
    assert next(samples)
    assert [next(samples), next(samples)] == [None, None]
    watch.stop()


def test_requests_and_duration_together(tcp_server):
    """What is reached first ends the watch."""
    server = tcp_server(replying(http_response(b"ok")))
    watch = Watch(Upstream(server.url), headers={}, requests=7, rate=100, concurrency=4, duration_seconds=60)
    assert len(list(watch)) == 7


def test_a_stop_counts_as_no_time(tcp_server):
    """Calls during which the process was stopped have no time and are not late; the pace goes on where it was."""
    server = tcp_server(replying(http_response(b"ok")))
    watch = Watch(Upstream(server.url), headers={}, requests=0, rate=100, concurrency=64)
    samples = (each for each in watch.poll(0.05) if each)
    before = list(itertools.islice(samples, 10))
    wait_until(lambda: server.connections >= 40, "calls that nobody looks at, as in a stop")
    connections = server.connections
    watch.leave_out_stop()
    assert watch.stopped_seconds >= 0.2
    during = list(itertools.islice(samples, connections - 10))
    assert sum(each.seconds is None for each in during) >= 20
    assert not any(each.late for each in during if each.seconds is None)
    after = list(itertools.islice(samples, 64 + 10))[64:]  # behind those that were waiting then
    watch.stop()
    assert all(each.seconds is not None for each in before + after)


def test_going_on_without_a_stop_changes_nothing(tcp_server):
    """SIGCONT alone is no stop: what is shorter than 0.2 s is a busy machine."""
    watch = Watch(
        Upstream(tcp_server(replying(http_response(b"ok"))).url), headers={}, requests=5, rate=0, concurrency=1
    )
    for _ in watch.poll(0.05):
        watch.leave_out_stop()
    assert not 0 < watch.stopped_seconds < 0.2


def test_what_is_under_way_is_known(tcp_server):
    """After it was stopped no call begins, and those that have begun and not ended are a number."""
    release, asked = threading.Event(), []

    def behave(connection):
        while read_request(connection):
            asked.append(1)
            if len(asked) > 3:
                release.wait(20)
            connection.sendall(http_response(b"ok"))

    watch = Watch(Upstream(tcp_server(behave).url), headers={}, requests=0, rate=0, concurrency=5)
    samples = watch.poll(0.05)
    answered = list(itertools.islice((each for each in samples if each), 3))
    wait_until(lambda: len(asked) == 8, "five calls under way")
    assert (len(answered), watch.stop(), watch.under_way) == (3, [], 5)
    release.set()
    assert len(asked) == 8


def test_samples_that_nobody_took_are_handed_out(tcp_server):
    """Calls that end after the last look are counted, not lost."""
    server = tcp_server(replying(http_response(b"ok")))
    watch = Watch(Upstream(server.url), headers={}, requests=6, rate=0, concurrency=3)
    samples = watch.poll(None)
    next(samples)
    next(samples)
    wait_until(lambda: server.connections == 6, "six calls")
    rest = []
    wait_until(lambda: rest.extend(watch.stop()) or len(rest) == 4, "their ends")
    assert watch.under_way == 0
