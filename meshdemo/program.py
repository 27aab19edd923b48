"""How this program starts itself again: the replicas of the lab, and the commands of the lessons."""

from __future__ import annotations

import sys


def command_line(*arguments: str) -> list[str]:
    """Return the words that run this program.

    The current folder is not on the module path (-P): a `queue.py` that lies there is never run. PYTHONPATH counts.
    """
    return [sys.executable, "-P", "-m", "meshdemo", *arguments]
