"""The logs of each Envoy: to the control plane an entry for each request and each try, and lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from meshdemo.lab.engine import Resource

#: The cluster by which an Envoy reaches the control plane.
CONTROL_PLANE = "meshdemo-control-plane"
#: The tags of an entry: the object that the route comes from, and the name of the RouteConfiguration.
OBJECT_TAG, ROUTES_TAG = "object", "routes"
#: The tag of an entry of a connection: where it was to go, of which Envoy says nothing where it went nowhere.
CLUSTER_TAG = "cluster"
#: How often an Envoy sends what it has logged. Each message costs it, and the lab, more than an entry in it.
FLUSH_SECONDS = 0.1
_LOG = "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"
_TCP_LOG = "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig"
_NO_CHAIN: Resource = {"response_flag_filter": {"flags": ["NR"]}}
_COMMON: Resource = {
    "log_name": "meshdemo",
    "transport_api_version": "V3",
    "grpc_service": {"envoy_grpc": {"cluster_name": CONTROL_PLANE}},
    "buffer_flush_interval": f"{FLUSH_SECONDS}s",
}
# Where Istio writes it into a route (istio.io, pilot/pkg/networking/util, BuildConfigInfoMetadata).
_OBJECT: Resource = {
    "tag": OBJECT_TAG,
    "metadata": {"kind": {"route": {}}, "metadata_key": {"key": "istio", "path": [{"key": "config"}]}},
}
_FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
# What Istio writes of each request where nothing else is said (istio.io, "Envoy Access Logs", default format).
_ISTIO_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% "
    "%ROUTE_NAME%\n"
)
_TEXT_LOG: Resource = {
    "name": "envoy.access_loggers.file",
    "typed_config": {
        "@type": _FILE_LOG,
        "path": "/dev/stdout",
        "log_format": {"text_format_source": {"inline_string": _ISTIO_FORMAT}},
    },
}
# Where a header stands for a part of the request that each entry has anyway.
_PSEUDO = ":"


def with_access_log(value: Any, headers: Iterable[str] = (), *, tries: bool) -> Any:
    """Return a part of a listener whose requests are logged, with their `tries`.

    Beside x-request-id an entry has `headers`, and those in which tokens are looked for.
    Connections that are only passed on are logged, too, and those to a listener that has no filter chain for them.
    """
    if isinstance(value, list):
        return [with_access_log(each, headers, tries=tries) for each in value]
    if not isinstance(value, dict):
        return value
    value = {key: with_access_log(inner, headers, tries=tries) for key, inner in value.items()}
    if str(value.get("@type", "")).endswith(".HttpConnectionManager"):
        routes = value["rds"]["route_config_name"] if "rds" in value else value.get("route_config", {}).get("name", "")
        filters = value.get("http_filters", [])
        value["access_log"] = [*value.get("access_log", []), _access_log(routes, {*headers, *_token_headers(filters)})]
        value["http_filters"] = [_with_upstream_log(each, routes) if tries else each for each in filters]
    elif str(value.get("@type", "")).endswith(".TcpProxy"):
        value["access_log"] = [*value.get("access_log", []), _connection_log(value.get("cluster", ""))]
    elif "filter_chains" in value:
        value["access_log"] = [*value.get("access_log", []), {**_connection_log(), "filter": _NO_CHAIN}]
    return value


def _with_upstream_log(http_filter: Resource, routes: str) -> Resource:
    """Return a filter; where it is the router, each try is logged: on the stream of the requests, for the same tags."""
    router = http_filter.get("typed_config", {})
    if not str(router.get("@type", "")).endswith(".http.router.v3.Router"):
        return http_filter
    logs = [*router.get("upstream_log", []), _access_log(routes, ())]
    return {**http_filter, "typed_config": {**router, "upstream_log": logs}}


def with_text_log(value: Any) -> Any:
    """Return a part of a listener that writes a line for each request or connection, unless a policy has it do so."""
    if isinstance(value, list):
        return [with_text_log(each) for each in value]
    if not isinstance(value, dict):
        return value
    value = {key: with_text_log(inner) for key, inner in value.items()}
    if str(value.get("@type", "")).endswith((".HttpConnectionManager", ".TcpProxy")):
        logs = value.get("access_log", [])
        if not any(each.get("typed_config", {}).get("@type") == _FILE_LOG for each in logs):
            value["access_log"] = [*logs, _TEXT_LOG]
    return value


def matched_headers(routes: Iterable[Resource]) -> Iterator[str]:
    """Yield the names of the headers that routes are chosen by."""
    for configuration in routes:
        for host in configuration.get("virtual_hosts", []):
            for route in host.get("routes", []):
                for condition in route.get("match", {}).get("headers", []):
                    if not condition["name"].startswith(_PSEUDO):
                        yield condition["name"].lower()


def _token_headers(filters: Iterable[Resource]) -> Iterator[str]:
    """Yield the names of the headers in which filters look for tokens."""
    for each in filters:
        for provider in each.get("typed_config", {}).get("providers", {}).values():
            headers, cookies = provider.get("from_headers", []), provider.get("from_cookies", [])
            yield from (header["name"].lower() for header in headers)
            if cookies:
                yield "cookie"
            if not (headers or cookies or provider.get("from_params")):
                yield "authorization"


def _access_log(routes: str, headers: Iterable[str]) -> Resource:
    named: Resource = {"tag": ROUTES_TAG, "literal": {"value": routes}}
    return {
        "name": "meshdemo",
        "typed_config": {
            "@type": _LOG,
            "common_config": {**_COMMON, "custom_tags": [_OBJECT, named] if routes else [_OBJECT]},
            "additional_request_headers_to_log": sorted({"x-request-id", *headers}),
        },
    }


def _connection_log(cluster: str = "") -> Resource:
    tags = [{"tag": CLUSTER_TAG, "literal": {"value": cluster}}] if cluster else []
    return {"name": "meshdemo", "typed_config": {"@type": _TCP_LOG, "common_config": {**_COMMON, "custom_tags": tags}}}
