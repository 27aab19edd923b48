"""Writing ports as Envoy's listeners, with what of Istio's defaults makes a difference to a call."""

from __future__ import annotations

from typing import Any

from meshdemo.lab.quick.envoy.words import ADS, CORS, FAULT, FAULT_TYPE, TYPE, address

_FILTERS = (
    # Faults come before the router, and so before its retries and timeout.
    (FAULT, FAULT_TYPE),
    (CORS, f"{TYPE}envoy.extensions.filters.http.cors.v3.Cors"),
    ("envoy.filters.http.router", f"{TYPE}envoy.extensions.filters.http.router.v3.Router"),
)
_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
# Of a gateway alone (gateway.go, buildGatewayConnectionManager): it is the first to see a client.
_AT_THE_EDGE = {
    "server_name": "istio-envoy",
    "use_remote_address": True,
    "forward_client_cert_details": "SANITIZE_SET",
    "set_current_client_cert_details": {"subject": True, "cert": True, "dns": True, "uri": True},
}


def listener(port: int, route_name: str, *, is_gateway: bool) -> dict[str, Any]:
    """Return the listener of a port, whose routes are found by name (listener.go, buildHTTPConnectionManager)."""
    name = f"0.0.0.0_{port}"
    manager: dict[str, Any] = {
        "@type": TYPE + _MANAGER,
        "stat_prefix": f"outbound_{name};",
        "rds": {"config_source": ADS, "route_config_name": route_name},
        "http_filters": [{"name": filter_, "typed_config": {"@type": kind}} for filter_, kind in _FILTERS],
        "stream_idle_timeout": "0s",
        "use_remote_address": False,
        "proxy_100_continue": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "normalize_path": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        **(_AT_THE_EDGE if is_gateway else {}),
    }
    return {
        "name": name,
        "address": address("0.0.0.0", port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
        "traffic_direction": "OUTBOUND",
    }
