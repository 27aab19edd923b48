"""Runs the commands of a lesson while its stage is looked after."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from threading import Thread
from typing import IO

from meshdemo.console.processes import end_process
from meshdemo.errors import StartError
from meshdemo.lessons.stages.stage import Stage
from meshdemo.program import command_line

_STEP_SECONDS = 0.05
_LAST_WORDS_SECONDS = 5.0
_OUTPUT_LIMIT_BYTES = 1024 * 1024

#: Waits as many seconds, and returns whether what runs is to be ended.
Look = Callable[[float], bool]


def pause(seconds: float) -> bool:
    """Wait, where nobody is there who could end what runs."""
    time.sleep(seconds)
    return False


def start(
    command: Sequence[str],
    *,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program; raise StartError when it is not installed."""
    words = list(command)
    if words[0] == "meshdemo":
        words = command_line(*words[1:])
    elif shutil.which(words[0]) is None:
        raise StartError(f"{words[0]} is not installed, which the lesson runs: {shlex.join(command)}")
    return subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=stderr)


def wait_for(stage: Stage, process: subprocess.Popen[bytes], look: Look) -> None:
    """Look after the stage until a process has ended; end it when `look` says so."""
    try:
        while process.poll() is None:
            stage.step()
            if look(_STEP_SECONDS):
                break
    finally:
        end_process(process)


def finish(stage: Stage, command: Sequence[str], look: Look = pause, *, shows_errors: bool = False) -> tuple[str, str]:
    """Run a program to its end, and return what it has written to standard output and error.

    With `shows_errors` standard error is the terminal's. When `look` says so, the program is told to end (SIGTERM), and
    has some seconds to write what it has; one that does not, has written nothing.
    """
    process = start(command, stdout=subprocess.PIPE, stderr=None if shows_errors else subprocess.PIPE)
    deadline = None
    try:
        while True:
            try:
                output, errors = process.communicate(timeout=_STEP_SECONDS)
                return output.decode("utf-8", "replace"), (errors or b"").decode("utf-8", "replace")
            except subprocess.TimeoutExpired:
                stage.step()
            if deadline is None and look(0):
                process.terminate()
                deadline = time.monotonic() + _LAST_WORDS_SECONDS
            elif deadline is not None and time.monotonic() > deadline:
                return "", ""
    finally:
        end_process(process)


def output_of(stage: Stage, pipeline: Sequence[Sequence[str]], look: Look) -> str | None:
    """Run the programs of a pipeline side by side, and return what the last one prints.

    None where the stage has seen to it. Raise StartError for a program that is not installed or that prints more than
    1 MiB. What still runs when the last one has ended, or when `look` says so, is ended.
    """
    given, source = "", None
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for words in pipeline:
            if (logs := stage.logs(words)) is not None:
                given = logs
                continue
            translated = stage.translate(words)
            if translated is None:
                return None
            process = start(
                translated, stdin=source or subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            processes.append(process)
            if source:
                source.close()  # so that the program before notices when this one has ended
            else:
                Thread(target=_feed, args=(process.stdin, given.encode()), daemon=True).start()
            source = process.stdout
        if source is None:
            return given
        output = bytearray()
        reader = Thread(target=_read, args=(source, output), daemon=True)
        reader.start()
        while reader.is_alive():
            stage.step()
            if look(_STEP_SECONDS):
                break
        if len(output) > _OUTPUT_LIMIT_BYTES:
            raise StartError(f"{shlex.join(pipeline[-1])} prints more than 1 MiB.")
        return output.decode("utf-8", "replace")
    finally:
        for process in processes:
            end_process(process)


def _feed(stream: IO[bytes] | None, data: bytes) -> None:
    """Write all to a program, which may have read enough before."""
    try:
        if stream:
            with stream:
                stream.write(data)
    except OSError:
        pass


def _read(stream: IO[bytes], output: bytearray) -> None:
    """Read until the end, or until there is more than anybody reads."""
    try:
        while len(output) <= _OUTPUT_LIMIT_BYTES and (data := stream.read1(65536)):  # type: ignore[attr-defined]
            output += data
    except (OSError, ValueError):
        pass  # it was closed, since what runs was ended
