"""What ends a command in one line."""


class StartError(Exception):
    """What was asked for cannot start or go on; `str()` is one line for a person, and the exit status is 1."""
