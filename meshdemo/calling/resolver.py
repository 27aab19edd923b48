"""Name resolution within a time: the system's resolver takes no timeout and cannot be stopped, so a thread waits."""

from __future__ import annotations

import errno
import queue
import socket
import threading
from typing import Any

#: How many look-ups may go on that no caller waits for any more, each in a thread that cannot be stopped.
ABANDONED_LIMIT = 32
_abandoned: set[threading.Thread] = set()
_abandoned_lock = threading.Lock()


def resolve(host: str, port: int, seconds: float) -> list[Any]:
    """Return what socket.getaddrinfo does for TCP, and raise its errors, or TimeoutError after `seconds`.

    An address needs no thread, which would take 0.25 ms of a call's 1 ms. Past ABANDONED_LIMIT the resolver is taken
    to hang, and TimeoutError comes at once; so there are never more threads than that and one for each caller.
    """
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass  # a name
    with _abandoned_lock:
        _abandoned.difference_update([thread for thread in _abandoned if not thread.is_alive()])
        if len(_abandoned) >= ABANDONED_LIMIT:
            raise TimeoutError
    results: queue.SimpleQueue[list[Any] | OSError | UnicodeError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            results.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            results.put(error)

    thread = threading.Thread(target=look_up, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        raise OSError(errno.ENOMEM, "no thread could be started to look up the name") from None
    try:
        result = results.get(timeout=max(0.0, seconds))
    except queue.Empty:
        with _abandoned_lock:
            _abandoned.add(thread)
        raise TimeoutError from None
    if isinstance(result, Exception):
        raise result
    return result
