"""Stands for kubectl on PATH: remembers its calls in order, and which objects there are, in the folder KUBECTL_STATE.

Files of that folder say how it behaves: `fail` holds lines `PATTERN=MESSAGE`, `slow` holds lines `PATTERN` of calls
that go on until they are ended, or until the file is gone. A forwarded port answers every call with `hello`.

It is started some hundred times, so it imports little: objects stand as `{kind: Service, metadata: {name: web}}`.
"""

import os
import re
import signal
import sys
import time
from pathlib import Path

STATE = Path(os.environ["KUBECTL_STATE"])
GROUPS = {"Deployment": "deployment.apps", "VirtualService": "virtualservice.networking.istio.io"}


def lines_of(name):
    path = STATE / name
    return path.read_text().splitlines() if path.exists() else []


def remember(text):
    with (STATE / "calls").open("a") as file:
        file.write(text + "\n")


def names_of(filename):
    found = re.findall(r"^\{kind: (\w+), metadata: \{name: (\w+)\}\}$", Path(filename).read_text(), re.MULTILINE)
    return [f"{GROUPS.get(kind, kind.lower())}/{name}" for kind, name in found]


def forward(words):
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *arguments):
            pass

    servers = []
    for word in words:
        if ":" in word:
            port = int(word.partition(":")[0] or 0)
            try:
                servers.append(HTTPServer(("127.0.0.1", port), Hello))
            except OSError:
                print(f"Forwarding from [::1]:{port} -> 3030", flush=True)  # as the real one does
                time.sleep(60)
            print(f"Forwarding from 127.0.0.1:{servers[-1].server_port} -> 3030", flush=True)
    servers[0].serve_forever()


def main(arguments):
    scope = []
    while arguments and arguments[0] in ("--context", "--namespace"):
        scope += arguments[:2]
        arguments = arguments[2:]
    call = " ".join(arguments)
    if arguments[0] != "config":
        assert scope == ["--context", "kind-test", "--namespace", "default"], scope
    remember(call)
    signal.signal(signal.SIGTERM, lambda *_: (remember(f"ended: {call}"), os._exit(143)))
    for pattern in lines_of("slow"):
        while re.search(pattern, call) and (STATE / "slow").exists():
            time.sleep(0.02)
    for line in lines_of("fail"):
        pattern, _, message = line.partition("=")
        if re.search(pattern, call):
            print(message.replace("\\n", "\n"), file=sys.stderr)
            return 1
    objects = lines_of("objects")
    verb, rest = arguments[0], [word for word in arguments[1:] if not word.startswith("-")]
    if call == "config current-context":
        print("kind-test")
    elif verb == "apply":
        names = names_of(rest[-1])
        if "--dry-run=client" in arguments:
            print("\n".join(names))
        else:
            (STATE / "objects").write_text("\n".join(dict.fromkeys([*objects, *names])))
    elif verb == "get" and "pods" in arguments:
        print("istio-proxy proxy" if (STATE / "sidecar").exists() else "proxy")
    elif verb == "get":
        print("\n".join(name for name in rest if name in objects))
    elif verb == "delete":
        (STATE / "objects").write_text("\n".join(name for name in objects if name not in rest))
    elif verb == "logs":
        print("GET /x\nGET /y\nGET /x")
    elif verb == "port-forward":
        forward(arguments)
    return 0


sys.exit(main(sys.argv[1:]))
