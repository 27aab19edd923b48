"""Name resolution: bounded in time and in threads, whatever the system's resolver does."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import http_response, replying, wait_until

from meshdemo.calling import resolver
from meshdemo.calling.upstream import Upstream, UpstreamError


@pytest.fixture
def hanging_resolver(monkeypatch, tcp_server):
    """Let the resolver hang for names, and return what lets it go on: every name is then a sound upstream."""
    release, before = threading.Event(), threading.active_count()
    port = tcp_server(replying(http_response(b"ok"))).port

    def getaddrinfo(host, *args, flags=0, **options):
        if flags == socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not an address")
        release.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(resolver.socket, "getaddrinfo", getaddrinfo)
    yield release
    release.set()
    wait_until(lambda: threading.active_count() <= before + 1, "the resolver's threads to end")


def sentence(timeout_seconds):
    """Return the sentence of a call that fails."""
    target = Upstream("http://slow.example", timeout_seconds=timeout_seconds)
    with pytest.raises(UpstreamError) as caught:
        target.call("GET", target.url_for("/"), {})
    return str(caught.value)


def test_slow_name_resolution_counts(hanging_resolver):
    """The resolver's time is part of the call's."""
    started = time.monotonic()
    assert sentence(0.3) == "timed out after 0.3 seconds calling http://slow.example/"
    assert time.monotonic() - started < 5


def test_a_hanging_resolver_holds_few_threads(hanging_resolver):
    """Past a number of look-ups that nobody waits for any more, a call times out at once; later all is well again."""
    before = threading.active_count()
    target = Upstream("http://slow.example", timeout_seconds=0.05)
    with ThreadPoolExecutor(16) as pool:
        errors = [pool.submit(target.call, "GET", target.url_for("/"), {}).exception for _ in range(400)]
        sentences = {str(error(20)) for error in errors}
    assert sentences == {"timed out after 0.05 seconds calling http://slow.example/"}
    assert threading.active_count() - before <= resolver.ABANDONED_LIMIT + 16
    started = time.monotonic()
    assert sentence(60) == "timed out after 60 seconds calling http://slow.example/"
    assert time.monotonic() - started < 20
    hanging_resolver.set()
    wait_until(lambda: threading.active_count() <= before, "the look-ups to end")
    assert target.call("GET", target.url_for("/"), {}).text == "ok"


def test_many_look_ups_at_once_are_no_hanging_resolver(hanging_resolver):
    """More calls at once than look-ups may be left behind all get their answer from a resolver that is slow."""
    target = Upstream("http://slow.example")
    with ThreadPoolExecutor(2 * resolver.ABANDONED_LIMIT) as pool:
        calls = [pool.submit(target.call, "GET", target.url_for("/"), {}) for _ in range(2 * resolver.ABANDONED_LIMIT)]
        hanging_resolver.set()
        assert {call.result(20).text for call in calls} == {"ok"}


def test_no_thread_for_a_look_up(monkeypatch):
    """Where no thread can be started, the sentence says so."""

    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert sentence(9) == "no thread could be started to look up the name calling http://slow.example/"
