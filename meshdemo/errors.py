"""What ends a command in one line."""


class StartError(Exception):
    """What was asked for cannot start or go on; `str()` is one line for a person, and the exit status is 1."""


def sentence(text: str) -> str:
    """Return a text with a full stop at its end, unless it ends with a mark already."""
    return text if text.endswith((".", "?", "!")) else f"{text}."
