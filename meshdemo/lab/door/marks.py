"""What the page of each proxy shows of edits: a file that the lab writes and every proxy reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

_MOST = 100


class ChangeMarks:
    """The last edits, as `[{"time": "2026-01-02T03:04:05.678Z", "text": "VirtualService/webserver changed"}]`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._marks: list[dict[str, str]] = []
        self.add([])

    def add(self, texts: Sequence[str]) -> None:
        """Write what has changed now after what has changed before."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._marks = [*self._marks, *({"time": now, "text": text} for text in texts)][-_MOST:]
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(self._marks))
        temporary.replace(self.path)
