"""What a running Envoy says about itself, asked through its admin interface."""

from __future__ import annotations

import http.client
import json
import re
import socket
import urllib.parse
from pathlib import Path
from typing import Any

_SECONDS = 2
_UPDATES = {"clusters": "cluster_manager.cds", "listeners": "listener_manager.lds"}
_DUMPS = {"clusters": "dynamic_active_clusters", "listeners": "dynamic_listeners", "routes": "dynamic_route_configs"}


class Admin:
    """The admin interface of one Envoy: a Unix socket, where no other user of this machine reaches it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def is_live(self) -> bool:
        """Return whether Envoy has all that it needs, and takes calls."""
        return self._ask("/ready").startswith("LIVE")

    def taken(self, kind: str) -> str:
        """Return the version of the newest `clusters` or `listeners` that were accepted, empty for none."""
        found = re.search(r'version_text: "(.*)"', self._stats(rf"^{re.escape(_UPDATES[kind])}\.version_text$"))
        return found[1] if found else ""

    def taken_endpoints(self) -> set[str]:
        """Return the versions of the endpoints that were accepted, whichever cluster they are of."""
        return set(re.findall(r'version_text: "(.*)"', self._stats(r"^cluster\..*\.version_text$")))

    def rejected(self) -> int:
        """Return how many updates of any kind have been rejected."""
        text = self._stats(r"(\.cds|\.lds|\.rds\..*|^cluster\..*)\.update_rejected$")
        return sum(int(number) for number in re.findall(r"update_rejected: (\d+)$", text, re.MULTILINE))

    def active(self, kind: str) -> dict[str, str]:
        """Return the version of each of the `clusters`, `listeners` or `routes` that are in force, by name."""
        try:
            configs = json.loads(self._ask(f"/config_dump?resource={_DUMPS[kind]}")).get("configs", [])
        except ValueError:
            return {}  # where there are none, Envoy answers with a sentence
        versions = {}
        for entry in configs:
            state = entry.get("active_state") if kind == "listeners" else entry
            if state:
                versions[_name(entry)] = str(state.get("version_info", ""))
        return versions

    def _stats(self, pattern: str) -> str:
        return self._ask("/stats?filter=" + urllib.parse.quote(pattern))

    def _ask(self, path: str) -> str:
        """Return what it answers, empty while it does not."""
        connection = _Connection(self.path)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _name(entry: dict[str, Any]) -> str:
    """Return the name of the resource in an entry of Envoy's config_dump."""
    for part in ("cluster", "route_config"):
        if part in entry:
            return str(entry[part]["name"])
    return str(entry["name"])
