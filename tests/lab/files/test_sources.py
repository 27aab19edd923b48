"""Where manifests come from: encodings, pipes and URLs, each read as often as it can be."""

import codecs
import http.server
import os
import threading
from pathlib import Path

import pytest

from meshdemo.lab.files.sources import (
    LIMIT_BYTES,
    SourceError,
    Sources,
    Url,
    download,
    files_of,
    folders_below,
    parse_source,
    shown_path,
)

TEXT = "a: größe\n"


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
def test_encodings(tmp_path, mark, encoding):
    """The mark at the beginning says the encoding, UTF-8 where there is none."""
    path = tmp_path / "a.yaml"
    path.write_bytes(mark + TEXT.encode(encoding))
    assert Sources().read(path) == TEXT


def test_what_is_not_in_its_encoding(tmp_path):
    """Bytes that the encoding does not have are refused by its name."""
    path = tmp_path / "a.yaml"
    path.write_bytes(codecs.BOM_UTF16_LE + b"a")
    with pytest.raises(SourceError, match=r"^not YAML: not encoded in UTF-16$"):
        Sources().read(path)


def test_a_pipe_is_read_once(tmp_path):
    """A pipe, such as that of `-f <(command)`, is read until it ends, and its text stays."""
    reader, writer = os.pipe()
    os.write(writer, b"a: 1\n")
    os.close(writer)
    sources = Sources()
    try:
        assert sources.read(Path(f"/dev/fd/{reader}")) == "a: 1\n"
        assert sources.read(Path(f"/dev/fd/{reader}")) == "a: 1\n"
    finally:
        os.close(reader)


def test_a_pipe_that_nobody_writes_to(tmp_path):
    """A pipe without a writer is said after a while, and one in the place of a file at once."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match=r"^is a pipe from which nothing came for 0\.01 s$"):
        Sources(pipe_seconds=0.01).read(tmp_path / "pipe")
    path = tmp_path / "a.yaml"
    path.write_text(TEXT)
    sources = Sources()
    sources.read(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SourceError, match="is not a file"):
        sources.read(path)


def test_a_url_is_read_once():
    """A URL is asked once, whatever is in it, and shown as it was typed."""
    asked = []

    def fetch(address):
        asked.append(address)
        return TEXT.encode()

    sources, url = Sources(fetch), parse_source("https://example.com//a?b=http://c/")
    assert [sources.read(url), sources.read(url)] == [TEXT, TEXT]
    assert asked == ["https://example.com//a?b=http://c/"] == [shown_path(url)]
    assert files_of([url]) == [url]
    assert not isinstance(parse_source("httpbin.yaml"), Url)


@pytest.fixture
def address():
    """Run a server that gives a manifest, too much, or an error, and return its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path != "/missing" else 404)
            self.end_headers()
            self.wfile.write(b"#" * (LIMIT_BYTES + 1) if self.path == "/large" else TEXT.encode())

        def log_message(self, *arguments):
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_download(address):
    """What a URL has is read as any file; an error, too much of it, and no answer are said."""
    sources = Sources()
    assert sources.read(parse_source(f"{address}/a.yaml")) == TEXT
    with pytest.raises(SourceError, match=r"^is answered with 404 Not Found$"):
        download(f"{address}/missing")
    with pytest.raises(SourceError, match=r"^holds more than 8 MiB$"):
        sources.read(parse_source(f"{address}/large"))
    with pytest.raises(SourceError, match=r"^cannot be read: there is no connection"):
        download("http://127.0.0.1:1/")
    with pytest.raises(SourceError, match=r"^cannot be read: it is no URL$"):
        download("http://[")


def test_folders_below(tmp_path):
    """With -R a folder means all folders in it, too."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert folders_below([tmp_path, tmp_path / "x.yaml"]) == [
        tmp_path,
        tmp_path / "a",
        tmp_path / "a" / "b",
        tmp_path / "x.yaml",
    ]
