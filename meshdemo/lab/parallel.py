"""Doing several things at once that wait most of the time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence


def in_parallel(jobs: Sequence[Callable[[], object]]) -> None:
    """Call all jobs, each in a thread, and return when all have ended; then raise what the first of them raised.

    A signal interrupts the waiting, not the jobs: their threads hold nothing up when the program ends.
    """
    errors: dict[int, BaseException] = {}

    def run(index: int, job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:
            errors[index] = error

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[min(errors)]
