"""The whole application on this machine: six web servers, a service in front of them, and the proxy."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from meshdemo import proxy, server, webserver, wsgi
from meshdemo.upstream import Upstream
from meshdemo.waitress_server import Server

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LOOPBACK = "127.0.0.1"
#: What each version says, by the name of its Deployment, as in k8s/example.yaml.
VERSIONS = {"webserverv1": "Webserver V1", "webserverv2": "Webserver V2"}


def create_service(
    endpoints: Sequence[WSGIApplication], choose: Callable[[Sequence[Any]], Any] = random.choice
) -> WSGIApplication:
    """Return an application that hands each request to one of `endpoints`, as a Service does without a mesh."""

    def service(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        endpoint: WSGIApplication = choose(endpoints)
        return endpoint(environ, start_response)

    return service


def create_web_servers(replicas: int, *, access_log: bool, **options: Any) -> list[WSGIApplication]:
    """Return `replicas` web servers of each version, named `webserverv1-1` and so on; `options` are the role's."""
    servers = []
    for deployment, content in VERSIONS.items():
        for number in range(1, replicas + 1):
            hostname = f"{deployment}-{number}"
            app = webserver.create_app(content=content, hostname=hostname, **options)
            servers.append(wsgi.with_access_log(app, hostname) if access_log else app)
    return servers


def run(
    *,
    port: int,
    replicas: int,
    threads: int,
    drain_seconds: float,
    access_log: bool,
    started: Callable[[int, int], object],
    **options: Any,
) -> None:
    """Serve the whole application on loopback until a signal; `started` is told the proxy's and the service's port."""
    sockets = server.bind(LOOPBACK, port)
    service = create_service(create_web_servers(replicas, access_log=access_log, **options))
    service_port = Server(service, server.bind(LOOPBACK, 0), threads).port
    app = proxy.create_app(Upstream(f"http://{LOOPBACK}:{service_port}"), page_stream_limit=max(1, threads // 2))
    if access_log:
        app = wsgi.with_access_log(app, "proxy")
    server.serve(
        app, sockets, threads=threads, drain_seconds=drain_seconds, started=lambda port: started(port, service_port)
    )
