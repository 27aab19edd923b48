"""Where the program begins, as `meshdemo` and as `python -m meshdemo`: with what has to be so before anything else.

Nothing is imported here that takes time: Ctrl+C is to end the program silently from its first moments on.
"""

import gc
import os
import signal


def main() -> None:
    """Run the command line."""
    # Also where the program that started this one ignores Ctrl+C, as a shell does for its jobs in the background.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from meshdemo.console import streams

    streams.open_missing()
    # What is imported stays: to look for garbage in it takes 5 % of the time that a web server needs to start.
    gc.disable()
    from meshdemo.cli import main as command

    gc.freeze()
    gc.enable()
    try:
        command(prog_name="meshdemo")
    except OSError as error:
        streams.exit_if_disk_is_full(error)


if __name__ == "__main__":
    main()
