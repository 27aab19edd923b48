"""One Envoy with a configuration that stays as it is: what it listens on, by name."""

import json
import subprocess
from contextlib import contextmanager

import requests
from support import wait_until

from meshdemo.lab.envoy.xds.messages import program

TYPE = "type.googleapis.com/"


def at(port):
    """Return an address on loopback."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def listener(name, routes, filters=(), **manager):
    """Return a listener at a port of its own with a route configuration, filters before the router, and settings."""
    kinds = [*filters, ("router", "router.v3.Router")]
    typed = {
        "@type": f"{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "a",
        "route_config": {**routes, "validate_clusters": False},
        "http_filters": [
            {
                "name": f"envoy.filters.http.{each}",
                "typed_config": {"@type": f"{TYPE}envoy.extensions.filters.http.{path}"},
            }
            for each, path in kinds
        ],
        **manager,
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": typed}]}
    return {"name": name, "address": at(0), "filter_chains": [chain]}


@contextmanager
def static_envoy(folder, listeners, clusters=()):
    """Run an Envoy, and give the ports of its listeners by their names."""
    # As Istio starts its sidecars: by default Envoy refuses long regular expressions.
    flags = {"re2.max_program_size.error_level": "32768"}
    whole = {
        "admin": {"address": at(0)},
        "static_resources": {"listeners": list(listeners), "clusters": list(clusters)},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": flags}]},
    }
    (folder / "envoy.json").write_text(json.dumps(whole))
    address = folder / "admin"
    command = [program(), "-c", str(folder / "envoy.json"), "--admin-address-path", str(address)]
    command += ["--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: _is_live(address) or process.poll() is not None, "Envoy starts")
        assert process.poll() is None, (folder / "log").read_text()
        url = f"http://{address.read_text()}"
        statuses = requests.get(f"{url}/listeners?format=json", timeout=5).json()["listener_statuses"]
        yield {each["name"]: each["local_address"]["socket_address"]["port_value"] for each in statuses}
    finally:
        process.kill()
        process.wait()


def _is_live(address):
    """Tell whether Envoy says that it listens."""
    try:
        return "LIVE" in requests.get(f"http://{address.read_text()}/ready", timeout=5).text
    except (OSError, requests.RequestException):
        return False
