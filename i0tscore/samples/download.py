"""Images fetched by URL, on request only, with limits on what a caption file can make this machine fetch."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import socket
import threading
import time
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from i0tscore.errors import ImageError, first_line
from i0tscore.files import replace_file
from i0tscore.samples.sample import StoredImage

MAX_BYTES = 50_000_000
MAX_SECONDS = 60
"""Time to fetch one image, redirects included."""
MAX_REDIRECTS = 5

_TIMEOUT = 10  # seconds without a byte
_REDIRECTS = (301, 302, 303, 307, 308)
_RESERVED = "/?%:@!$&'()*+,;=~[]"


class Downloads:
    """Images fetched by URL when they are read.

    Args:
        folder: Keeps the images, so that they are fetched once; None to fetch them in every run.
        private: Whether to fetch from addresses that are not public, such as those of this machine and its network.
    """

    def __init__(self, folder: Path | None = None, *, private: bool = False) -> None:
        self._folder = folder
        self._private = private
        self._images: dict[str, StoredImage] = {}

    def find(self, url: str) -> StoredImage:
        """Return the image at a URL, the same object each time; reading it raises ``ImageError`` if that fails."""
        return self._images.setdefault(url, StoredImage(url, partial(self._read, url)))

    def _read(self, url: str) -> bytes:
        path = self._folder and self._folder / hashlib.sha256(url.encode()).hexdigest()
        if path and path.is_file():
            return path.read_bytes()
        content = fetch(url, private=self._private)
        if path:
            with contextlib.suppress(OSError):  # it is fetched again in the next run
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, content)
        return content


def fetch(url: str, *, private: bool = False) -> bytes:
    """Return what is at a URL.

    Args:
        url: An http or https URL; redirects are followed to such URLs only.
        private: Whether to connect to addresses that are not public.

    Raises:
        ImageError: It cannot be fetched within the limits; the error only states the reason.
    """
    deadline = time.monotonic() + MAX_SECONDS
    try:
        for _ in range(MAX_REDIRECTS + 1):
            found = _request(url, deadline, private=private)
            if time.monotonic() > deadline:  # what was cut off may look complete
                raise TimeoutError
            if isinstance(found, bytes):
                return found
            url = urljoin(url, found)
    except (OSError, HTTPException, ValueError) as error:
        reason = f"it takes longer than {MAX_SECONDS} s" if time.monotonic() > deadline else first_line(error)
        raise ImageError(f"cannot be downloaded ({reason}); check the URL") from error
    raise ImageError(f"cannot be downloaded (more than {MAX_REDIRECTS} redirects); check the URL")


def _request(url: str, deadline: float, *, private: bool) -> bytes | str:
    """Return the content at a URL, or the URL that it redirects to."""
    parts = urlsplit(url)
    kinds = {"http": HTTPConnection, "https": HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise ValueError(f"expected an http or https URL, got {url[:100]!r}")
    connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=_TIMEOUT)
    with contextlib.closing(connection):
        connection.connect()
        peer = connection.sock
        address = peer.getpeername()[0]
        # Names may resolve to another address each time, so the one connected to is checked, before anything is asked.
        if not private and not ipaddress.ip_address(address.partition("%")[0]).is_global:
            raise ValueError(f"{parts.hostname} has the private address {address}, which needs --download-private")
        # A timeout applies to each read, and a slow server may send one byte at a time.
        watchdog = threading.Timer(deadline - time.monotonic(), _shut_down, (peer,))
        watchdog.start()
        try:
            target = parts._replace(scheme="", netloc="", fragment="", path=parts.path or "/").geturl()
            connection.request("GET", quote(target, safe=_RESERVED), headers={"User-Agent": "i0tscore"})
            with connection.getresponse() as response:
                return _read_response(response)
        finally:
            watchdog.cancel()


def _shut_down(peer: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(peer, socket.SHUT_RDWR)  # the connection, not the TLS session that is being read


def _read_response(response: HTTPResponse) -> bytes | str:
    if response.status in _REDIRECTS and (location := response.headers["Location"]):
        return str(location)
    if response.status != 200:
        raise ValueError(f"HTTP status {response.status} {response.reason}".strip())
    kind = response.headers.get_content_type()
    if response.headers["Content-Type"] and (kind.startswith("text/") or kind == "application/json"):
        raise ValueError(f"expected an image, got {kind}")
    content = response.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 10**6} MB")
    if response.length or not content:
        raise ValueError("the connection was closed early")
    return content
