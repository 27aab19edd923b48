"""Run everything for a long while and compare memory, threads and open files: `python tests/bench/soak.py`.

Starts a web server, an upstream with odd habits, and a proxy in front of each, the second with kept connections. Sends
mixed traffic at a steady pace for ten minutes, and prints what the processes hold after the first minute and at the
end. Exits 1 when a request was lost or got another answer than its own, when memory has grown by more than a tenth, or
when there are more threads or open files. The result of one run is kept in tests/bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import socket
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from bench import meshdemo, running

from meshdemo.calling.upstream import Upstream, UpstreamError

LEAVE = "leave"
#: What a client does, in turn: which proxy, method, path and query, headers, body, and what its answer has to hold.
MIX = [
    ("plain", "GET", "/", {}, b"", "requested from / on"),
    ("odd", "GET", "/interim/{number}", {}, b"", "own answer to /interim/{number} "),
    ("plain", "GET", "/failsometimes", {"accept": "application/json"}, b"", '"path": "/failsometimes"'),
    ("odd", "POST", "/redirect/{number}", {}, b"x" * 1000, "own answer to /interim/{number} "),
    ("plain", "POST", "/echo?x=%2f", {"x-request-id": "soak"}, b"x" * 100_000, "requested from /echo on"),
    ("odd", "GET", "/loop/{number}", {}, b"", "Error: loop: "),
    ("plain", "GET", "/slowsometimes", {}, b"", "requested from /slowsometimes on"),
    ("plain", LEAVE, "/slowsometimes", {}, b"", ""),
    ("odd", LEAVE, "/interim/{number}", {}, b"", ""),
    ("plain", "HEAD", "/", {}, b"", ""),
    ("odd", "GET", "/too-much/{number}", {}, b"", "own answer to /too-much/{number} "),
    ("plain", "POST", "/too-large", {}, b"x" * 1_100_000, "Error: request body of 1100000 bytes"),
    ("plain", "GET", "/ui", {}, b"", "</html>"),
    ("plain", "GET", "/" + "long" * 2000, {"end-user": "tester"}, b"", "requested from /longlong"),
]


class OddUpstream(BaseHTTPRequestHandler):
    """Answers after interim answers, redirects, sends the caller back to its proxy, or sends more than its answer."""

    protocol_version = "HTTP/1.1"
    proxy_url = ""  # known once the proxy runs

    def handle_one_request(self):
        with contextlib.suppress(OSError):  # the proxy may close
            super().handle_one_request()

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        _, kind, number = self.path.split("/")
        locations = {"redirect": f"/interim/{number}", "loop": f"{self.proxy_url}/back/{number}"}
        body = b"" if kind in locations else f"own answer to {self.path} ".encode()
        if kind == "interim":
            for status in (100, 103, 102):
                self.send_response_only(status)
                self.end_headers()
        self.send_response_only(302 if kind in locations else 200)
        if kind in locations:
            self.send_header("Location", locations[kind])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body + b"HTTP/1.1 200 OK\r\n\r\nextra" * (kind == "too-much"))

    def do_POST(self):
        self.do_GET()


def held(pid):
    """Return the resident memory in megabytes, the number of threads and that of open files (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {
        "memory, MB": int(fields["VmRSS"].split()[0]) / 1024,
        "threads": int(fields["Threads"]),
        "open files": files,
    }


def send_and_leave(url, target):
    """Send a request and close the connection without waiting for its answer."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), 10) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())


def traffic(urls, pace, until, outcomes):
    """Send the mix at a pace with eight clients until a time; count the statuses and the failures."""
    numbers, lock, started = itertools.count(), threading.Lock(), time.monotonic()

    def client():
        upstreams = {(name, kept): Upstream(urls[name], keep_alive=kept) for name in urls for kept in (False, True)}
        while True:
            with lock:
                number = next(numbers)
            due = started + number / pace
            if due >= until:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            name, method, target, headers, body, expected = MIX[number % len(MIX)]
            target, expected = target.replace("{number}", str(number)), expected.replace("{number}", str(number))
            upstream = upstreams[name, number % 3 > 0]
            try:
                if method == LEAVE:
                    send_and_leave(urls[name], target)
                    outcome = "left"
                else:
                    answer = upstream.call(method, upstream.url_for(*target.split("?")), headers, body)
                    outcome = str(answer.status) if expected in answer.text else f"{expected!r} not in {answer.text!r}"
            except (OSError, UpstreamError) as error:
                outcome = str(error)
            with lock:
                outcomes[outcome] += 1

    clients = [threading.Thread(target=client) for _ in range(8)]
    for thread in clients:
        thread.start()
    return clients


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pace", type=float, default=50.0, help="requests a second")
    chosen = parser.parse_args()
    outcomes = Counter()
    odd_upstream = ThreadingHTTPServer(("127.0.0.1", 0), OddUpstream)
    odd_upstream.daemon_threads = True
    threading.Thread(target=odd_upstream.serve_forever, daemon=True).start()
    odd_url = f"http://127.0.0.1:{odd_upstream.server_port}"
    with (
        running(meshdemo("webserver", "--delay", "0.2")) as (web, web_port),
        running(meshdemo("proxy", "--proxy-url", f"http://127.0.0.1:{web_port}")) as (plain, plain_port),
        running(meshdemo("proxy", "--keep-alive", "--proxy-url", odd_url)) as (odd, odd_port),
    ):
        urls = {"plain": f"http://127.0.0.1:{plain_port}", "odd": f"http://127.0.0.1:{odd_port}"}
        OddUpstream.proxy_url = urls["odd"]
        clients = traffic(urls, chosen.pace, time.monotonic() + 60 * chosen.minutes, outcomes)
        time.sleep(min(60.0, 30 * chosen.minutes))
        roles = {"web server": web.pid, "proxy": plain.pid, "proxy with kept connections": odd.pid}
        before = {role: held(pid) for role, pid in roles.items()}
        for thread in clients:
            thread.join()
        time.sleep(1)
        after = {role: held(pid) for role, pid in roles.items()}
    print(f"{sum(outcomes.values())} requests in {chosen.minutes:g} minutes: {dict(outcomes.most_common())}")
    print("| | after a minute | at the end |\n| --- | --- | --- |")
    bad = set(outcomes) - {"200", "413", "left"}
    for role, first in before.items():
        for what, value in after[role].items():
            print(f"| {role}: {what} | {first[what]:.4g} | {value:.4g} |")
            if value > first[what] * (1.1 if what.startswith("memory") else 1):
                bad.add(f"{role}: {what}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
