"""The whole application on this machine: six web servers, a service in front of them, and the proxy."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from meshdemo.calling.upstream import Upstream
from meshdemo.page.page import PageOptions
from meshdemo.roles import proxy, webserver
from meshdemo.roles.webserver import Faults
from meshdemo.serving import server, wsgi
from meshdemo.serving.server import ServeOptions
from meshdemo.serving.waitress_server import Server

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

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


def create_web_servers(replicas: int, faults: Faults, *, access_log: bool) -> list[WSGIApplication]:
    """Return `replicas` web servers of each version, named `webserverv1-1` and so on."""
    servers = []
    for deployment, content in VERSIONS.items():
        for number in range(1, replicas + 1):
            hostname = f"{deployment}-{number}"
            app = webserver.create_app(content=content, hostname=hostname, faults=faults)
            servers.append(wsgi.with_access_log(app, hostname) if access_log else app)
    return servers


def run(serving: ServeOptions, *, replicas: int, faults: Faults, started: Callable[[int, int], object]) -> None:
    """Serve the whole application, all but the proxy on loopback; `started` is told its and the service's port."""
    sockets = server.bind(serving.host, serving.port)
    service = create_service(create_web_servers(replicas, faults, access_log=serving.access_log))
    service_port = Server(service, server.bind(server.LOOPBACK, 0), serving.threads).port
    upstream = Upstream(f"http://{server.LOOPBACK}:{service_port}")
    app = proxy.create_app(upstream, page_options=PageOptions(max(1, serving.threads // 2)))
    if server.is_loopback(serving.host):
        app = wsgi.with_local_names(app)
    server.serve(app, "proxy", sockets, serving, lambda port: started(port, service_port))
