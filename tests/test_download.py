"""Images are fetched by URL on request only, within limits, from a server on this machine here."""

from __future__ import annotations

import contextlib
import io
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import commands
import numpy as np
import pytest
import tiny_models
from PIL import Image

from i0tscore.encoders.images import decode
from i0tscore.encoders.loop import embed_images
from i0tscore.errors import ImageError, SampleFileError
from i0tscore.samples import download, read_samples
from i0tscore.samples.diagnostics import UnusableError
from i0tscore.samples.download import Downloads, fetch
from i0tscore.samples.images import ImageFolder

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8))


class Handler(BaseHTTPRequestHandler):
    requests: ClassVar = Counter[str]()
    file = b""

    def do_GET(self) -> None:
        self.requests[self.path] += 1
        name = self.path.lstrip("/").partition("?")[0]
        with contextlib.suppress(OSError):  # the client has left
            getattr(self, f"_{name.partition('.')[0]}", self._missing)()

    def _send(self, content: bytes, kind: str = "image/png", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _photo(self) -> None:
        self._send(self.file)

    def _unlabeled(self) -> None:
        self._send(self.file, "application/octet-stream")

    def _missing(self) -> None:
        self.send_error(404)

    def _page(self) -> None:
        self._send(b"<html>Please log in</html>", "text/html")

    def _noise(self) -> None:
        self._send(b"\x80" * 99)

    def _short(self) -> None:
        self._send(self.file[:99], **{"Content-Length": str(len(self.file))})

    def _empty(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")

    def _moved(self) -> None:
        self._send(b"", status=302, Location="photo.png")

    def _loop(self) -> None:
        self._send(b"", status=302, Location=self.path)

    def _local(self) -> None:
        self._send(b"", status=301, Location="file:///etc/passwd")

    def _slow(self) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
            self.wfile.write(bytes([byte]))
            time.sleep(0.02)

    def _drip(self) -> None:
        self._send(b"", **{"Content-Length": "1000"})
        for _ in range(1000):
            self.wfile.write(b"x")
            time.sleep(0.02)

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 10_000)

    def log_message(self, *arguments: object) -> None:
        """Write nothing."""


@pytest.fixture
def server(socket_enabled: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("I0TSCORE_CACHE", str(tmp_path / "cache"))
    buffer = io.BytesIO()
    PHOTO.save(buffer, "PNG")
    monkeypatch.setattr(Handler, "file", buffer.getvalue())
    monkeypatch.setattr(Handler, "requests", Counter())
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["photo.png", "photo.png?size=a b&é=1#part", "unlabeled", "moved"])
def test_images_are_fetched(server: str, name: str) -> None:
    content = fetch(f"{server}/{name}", private=True)
    assert decode(content).tobytes() == PHOTO.tobytes()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.png", "HTTP status 404 Not Found"),
        ("page", "expected an image, got text/html"),
        ("short", "the connection was closed early"),
        ("empty", "the connection was closed early"),
        ("loop", "more than 5 redirects"),
        ("local", "expected an http or https URL, got 'file:///etc/passwd'"),
    ],
)
def test_failures_give_the_reason(server: str, name: str, reason: str) -> None:
    with pytest.raises(ImageError, match=f"^cannot be downloaded .*{reason}"):
        fetch(f"{server}/{name}", private=True)
    assert Handler.requests[f"/{name}"] == (download.MAX_REDIRECTS + 1 if name == "loop" else 1)


@pytest.mark.parametrize("url", ["http://[", "http://127.0.0.1:port/", "http:///photo.png", "http://127.0.0.1:1/"])
def test_urls_that_lead_nowhere(socket_enabled: None, url: str) -> None:
    with pytest.raises(ImageError, match=r"^cannot be downloaded"):
        fetch(url, private=True)


def test_large_contents_are_not_read_to_the_end(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1_000_000)
    with pytest.raises(ImageError, match="larger than 1 MB"):
        fetch(f"{server}/endless", private=True)


@pytest.mark.parametrize("name", ["slow", "drip"])
def test_slow_servers_are_left(server: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_SECONDS", 0.3)
    with pytest.raises(ImageError, match="takes longer than"):
        fetch(f"{server}/{name}", private=True)


def test_private_addresses_are_not_asked(server: str) -> None:
    for url in (server, server.replace("127.0.0.1", "localhost")):
        with pytest.raises(ImageError, match=r"private address 127\.0\.0\.1, which needs --download-private"):
            fetch(f"{url}/photo.png")
    assert not Handler.requests


def test_images_are_kept_and_failures_are_not(server: str, tmp_path: Path) -> None:
    for _ in range(2):
        images = Downloads(tmp_path / "kept", private=True)
        assert decode(images.find(f"{server}/photo.png")).tobytes() == PHOTO.tobytes()
        with pytest.raises(ImageError, match=r"none\.png: cannot be downloaded"):
            decode(images.find(f"{server}/none.png"))
    assert Handler.requests == {"/photo.png": 1, "/none.png": 2}
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert Downloads(tmp_path / "kept").find(f"{server}/photo.png").read_bytes() == Handler.file


def test_without_a_folder_to_keep_them(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (None, tmp_path / "file" / "folder"):
        image = Downloads(folder, private=True).find(f"{server}/photo.png")
        assert [image.read_bytes() == Handler.file for _ in range(2)] == [True, True]
    assert Handler.requests == {"/photo.png": 4}


def test_caption_files_may_name_urls(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "captions.csv"
    file.write_text(f"image,caption\n{server}/photo.png,Noise.\n{server}/photo.png,Static.\n")
    with pytest.raises(SampleFileError, match=r"line 3.*got the URL .*use --download \(download=True\)"):
        read_samples(file)
    first, second = read_samples(file, download_private=True).samples
    assert first.id == f"{server}/photo"
    assert first.image is second.image
    assert not Handler.requests
    assert first.image.read_bytes() == Handler.file
    monkeypatch.setenv("I0TSCORE_CACHE", str(tmp_path / "other"))
    with pytest.raises(ImageError, match="needs --download-private"):
        read_samples(file, download=True).samples[0].image.read_bytes()


def test_the_command_scores_urls_and_skips_failures(server: str, tmp_path: Path) -> None:
    file = tmp_path / "captions.csv"
    file.write_text(f"id,image,caption\na,{server}/photo.png,Noise.\nb,{server}/none,Static.\n")
    arguments = [str(file), "--model", "lite", "--resamples", "0", "--no-cache", "--download-private"]
    run = commands.run(*arguments, "--on-error", "skip", "--format", "csv")
    assert run.code == 0, run.err
    assert [line.partition(",")[0] for line in run.out.splitlines()] == ["id", "a"]
    failed = commands.run(*arguments)
    assert failed.code == 1
    assert f"b: {server}/none: cannot be downloaded (HTTP status 404" in failed.err
    refused = commands.run(*arguments, "--offline")
    assert refused.code == 2
    assert "--download requires the network, which --offline does not allow" in refused.err


def test_failures_are_reported_for_each_image(server: str, tmp_path: Path) -> None:
    (tmp_path / "local.png").write_bytes(Handler.file)
    folder = ImageFolder(tmp_path, Downloads(private=True))
    names = ["local.png", f"{server}/photo.png", f"{server}/noise", f"{server}/none", f"{server}/photo.png"]
    tiny_models.register(tmp_path)
    embedded = embed_images(tiny_models.encoder("tiny"), [folder.find(name) for name in names])
    assert embedded.index.tolist() == [0, 0, -1, -1, 0]
    assert "not an image in a known format" in embedded.failures[2]
    assert embedded.failures[3].startswith(f"{server}/none: cannot be downloaded (HTTP status 404")
    assert Handler.requests["/photo.png"] == 1
    with pytest.raises(UnusableError, match="Download the image"):
        folder.find("ftp://127.0.0.1/photo.png")
