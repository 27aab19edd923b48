"""Where manifests come from: files and folders, standard input, pipes and URLs, in the encodings programs write."""

from __future__ import annotations

import codecs
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path, PosixPath

#: What `-f -` reads.
STDIN = Path("-")
#: What is read out of a large cluster may have some megabytes; a file of more than this is none of ours.
LIMIT_BYTES = 8 * 1024 * 1024
#: How long a URL may take, in all.
URL_SECONDS = 20.0
#: How long a source is waited for without a word.
SILENT_SECONDS = 5.0
_WAIT_SECONDS = 10.0
# A command behind a pipe may ask a cluster; one that nobody writes to must not be waited for without a word.
_PIPE_SECONDS = 60.0
_PART_BYTES = 64 * 1024
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
# The longer mark of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


class SourceError(Exception):
    """Why something cannot be read, in words."""


class Url(PosixPath):
    """A URL in the place of a file; as a path it names none, so that nothing but `Sources` reads it."""

    address: str

    def __new__(cls, address: str) -> Url:
        url = super().__new__(cls, address)
        url.address = address
        return url


def parse_source(text: str) -> Path:
    """Return what an argument of `-f` means: a path, or a URL."""
    return Url(text) if text.lower().startswith(("http://", "https://")) else Path(text)


def shown_path(path: Path) -> str:
    """Return a path as a person gave it."""
    if path == STDIN:
        return "standard input"
    return path.address if isinstance(path, Url) else str(path)


def given_paths(paths: Iterable[Path]) -> list[Path]:
    """Return paths as a person gave them: without the folders that `-R` has added."""
    found = list(paths)
    return [path for path in found if not (path.is_dir() and any(other in path.parents for other in found))]


def folders_below(paths: Iterable[Path]) -> list[Path]:
    """Return paths with each folder followed by all folders in it, as `-R` means it."""
    found: list[Path] = []
    for path in paths:
        found.append(path)
        if path.is_dir():
            found += sorted(inner for inner in path.rglob("*") if inner.is_dir())
    return found


def files_of(paths: Iterable[Path]) -> list[Path]:
    """Return the files that `-f` means: a file itself, of a folder its YAML and JSON files in order."""
    files: list[Path] = []
    for path in paths:
        try:
            if path.is_dir():
                files += sorted(inner for inner in path.iterdir() if inner.suffix in _SUFFIXES and inner.is_file())
                continue
        except OSError:
            pass  # reading it will say why
        files.append(path)
    return files


def download(address: str) -> bytes:
    """Return what a URL has, no more than is read of it; raise SourceError."""
    import requests  # which most labs need for nothing, and which takes its time

    deadline = time.monotonic() + URL_SECONDS
    data = b""
    try:
        with requests.get(address, stream=True, timeout=_WAIT_SECONDS) as response:
            if response.status_code != 200:
                raise SourceError(f"is answered with {response.status_code} {response.reason}")
            for part in response.iter_content(_PART_BYTES):
                data += part
                if len(data) > LIMIT_BYTES:
                    break
                if time.monotonic() > deadline:
                    raise SourceError(f"takes more than {URL_SECONDS:g} s")
    except requests.Timeout:
        raise SourceError(f"gives no answer for {_WAIT_SECONDS:g} s") from None
    except (requests.RequestException, ValueError) as error:
        reason = "it is no URL" if isinstance(error, ValueError) else "there is no connection, or it ends too early"
        raise SourceError(f"cannot be read: {reason}") from None
    return data


class Sources:
    """Reads files again and again, and what cannot be read twice (standard input, pipes, URLs) once."""

    def __init__(self, fetch: Callable[[str], bytes] = download, pipe_seconds: float = _PIPE_SECONDS) -> None:
        self._fetch = fetch
        self._pipe_seconds = pipe_seconds
        self._once: dict[Path, bytes] = {}
        self._files: set[Path] = set()

    def read(self, path: Path) -> str:
        """Return the text of a source; raise SourceError."""
        try:
            data = self._once[path] if path in self._once else self._read(path)
        except OSError as error:
            raise SourceError(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
        except ValueError as error:  # such as a path with a NUL
            raise SourceError(f"cannot be read: {error}") from None
        if len(data) > LIMIT_BYTES:
            raise SourceError(f"holds more than {LIMIT_BYTES // 1024**2} MiB")
        mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
        try:
            return data[len(mark) :].decode(_MARKS.get(mark, "utf-8"))
        except UnicodeDecodeError:
            raise SourceError(f"not YAML: not encoded in {_MARKS.get(mark, 'utf-8').upper()[:6].rstrip('-')}") from None

    def _read(self, path: Path) -> bytes:
        if path == STDIN:
            if sys.stdin is None:
                raise SourceError("is closed")
            return self._keep(path, sys.stdin.buffer.read(LIMIT_BYTES + 1))
        if isinstance(path, Url):
            return self._keep(path, self._fetch(path.address))
        if path.is_dir():
            raise SourceError("is a folder that cannot be read")
        if not path.exists():
            raise SourceError("does not exist")
        mode = path.stat().st_mode
        # A pipe in the place of what was a file is a mistake.
        if stat.S_ISFIFO(mode) and path not in self._files:
            return self._keep(path, self._read_pipe(path))
        if not stat.S_ISREG(mode):
            raise SourceError("is not a file")
        with path.open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
        self._files.add(path)
        return data

    def _read_pipe(self, path: Path) -> bytes:
        """Return all that is written to a pipe until its other end is closed."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            data = b""
            while len(data) <= LIMIT_BYTES:
                if not poll.poll(self._pipe_seconds * 1000):
                    raise SourceError(f"is a pipe from which nothing came for {self._pipe_seconds:g} s")
                part = os.read(descriptor, _PART_BYTES)
                if not part:
                    break
                data += part
            return data
        finally:
            os.close(descriptor)

    def _keep(self, path: Path, data: bytes) -> bytes:
        self._once[path] = data
        return data
