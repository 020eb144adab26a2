"""From whatever a person has to an RGB image, safely, and the same for every way of storing it."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from i0tscore.errors import ImageError
from i0tscore.samples.images import MAX_BYTES

if TYPE_CHECKING:
    import torch

Outcome = TypeVar("Outcome")


@runtime_checkable
class HasBytes(Protocol):
    """Anything path-like with content, such as ``pathlib.Path`` or ``zipfile.Path``-like objects."""

    def read_bytes(self) -> bytes:
        """Return the whole content."""


ImageInput: TypeAlias = "str | os.PathLike[str] | HasBytes | bytes | Image.Image | np.ndarray[Any, Any] | torch.Tensor"
"""An image: a path, the bytes of a file, a PIL image, or a uint8 array or tensor, (H, W, 3) or (3, H, W)."""

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded."""
MAX_ASPECT = 100
"""Longer strips are refused: resizing the short side to the tower's would need gigabytes."""

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is decoded. Pillow knows more, some of which run other programs (EPS)."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image's content, not decoded yet where it is a file.

    Attributes:
        key: Hash of the content: equal keys, equal pixels.
        content: The bytes of a file, or an RGB image.
    """

    key: str
    content: bytes | Image.Image


def decode(source: ImageInput) -> Image.Image:
    """Decode an image to RGB, upright, on white where it is transparent.

    EXIF orientation is applied; CMYK, palette, grey, 16-bit and transparent images become what their
    8-bit RGB originals look like; of several frames the first is taken.

    Args:
        source: A path or anything with ``read_bytes()``, the bytes of a file, a PIL image, or a uint8
            array or tensor, (H, W, 3) or (3, H, W); with 3 at both ends it is read as (H, W, 3).

    Raises:
        ImageError: With the reason, if there is no image to be had, or it is larger than ``MAX_PIXELS``.

    Example:
        >>> decode(np.zeros((2, 3, 3), dtype=np.uint8)).size
        (3, 2)
    """
    try:
        return decode_loaded(load(source))
    except ImageError as error:
        raise ImageError(f"{describe(source)}: {error}") from error


def describe(source: ImageInput) -> str:
    """How messages name an image: its path, or what kind of value it is."""
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "PIL image")
    if isinstance(source, str | os.PathLike | HasBytes):
        return str(source)
    return "image bytes" if isinstance(source, bytes) else "image array"


def load(source: ImageInput) -> Loaded:
    """Read an image's content and hash it, without decoding files.

    Raises:
        ImageError: With the reason alone, if it cannot be read or is not an image's kind of value.
    """
    if isinstance(source, bytes):
        return _from_bytes(source)
    if isinstance(source, str | os.PathLike):
        return _from_bytes(_read_file(Path(source)))
    if isinstance(source, Image.Image):
        image = _guarded(lambda: _to_rgb(source))
    elif isinstance(source, HasBytes):
        return _from_bytes(_guarded(source.read_bytes))
    else:
        image = _guarded(lambda: _to_rgb(Image.fromarray(_checked_array(source))))
    digest = hashlib.sha256(f"pixels {image.size}".encode())
    digest.update(image.tobytes())
    return Loaded(digest.hexdigest(), image)


def decode_loaded(loaded: Loaded) -> Image.Image:
    """Decode what ``load`` read.

    Raises:
        ImageError: With the reason alone.
    """
    content = loaded.content
    return content if isinstance(content, Image.Image) else _guarded(lambda: _decode_bytes(content))


def _from_bytes(content: bytes) -> Loaded:
    if not content:
        raise ImageError("the file is empty; replace it")
    return Loaded(hashlib.sha256(content).hexdigest(), content)


def _read_file(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ImageError("is a folder, not an image")
        if path.exists() and not path.is_file():
            raise ImageError("is not a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(f"the file is larger than {MAX_BYTES // 10**6} MB; store a smaller one")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError("there is no such file; check the images folder and the name") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _guarded(step: Callable[[], Outcome]) -> Outcome:
    """Run one step on untrusted content: whatever a damaged file raises becomes an ``ImageError``."""
    try:
        return step()
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error and more.
        raise ImageError(f"cannot be decoded ({error or type(error).__name__}); replace the image") from error


def _decode_bytes(content: bytes) -> Image.Image:
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        image = Image.open(io.BytesIO(content), formats=known)
    except UnidentifiedImageError as error:
        raise ImageError(_what_it_is(content)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"has more than {MAX_PIXELS // 10**6} million pixels; scale it down") from error
    with image:
        return _to_rgb(image)


def _what_it_is(content: bytes) -> str:
    start = content[:256].lstrip().lower()
    if b"<svg" in content[:2048].lower():
        return "is an SVG drawing, not a photograph; render it to PNG"
    if start.startswith((b"<!doctype", b"<html")):
        return "is a web page, not an image; the download probably failed"
    if start.startswith((b"%pdf", b"%!ps")):
        return "is a PDF or PostScript document, not an image; render it to PNG"
    if content[4:12] in {b"ftypheic", b"ftypheix", b"ftypmif1"}:
        return "is a HEIC image, which is not supported; convert it to JPEG"
    if start.isascii() and b"\0" not in start:
        return "is text, not an image"
    return f"is not an image in a known format ({', '.join(FORMATS)}), or is damaged from the start"


def _to_rgb(image: Image.Image) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"has {width} × {height} pixels, more than {MAX_PIXELS // 10**6} million; scale it down")
    if not width or not height or max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"has {width} × {height} pixels, longer than {MAX_ASPECT} times its width; crop it")
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        upright = _deep_to_grey(upright)
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        upright = Image.alpha_composite(white, rgba)
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def _deep_to_grey(image: Image.Image) -> Image.Image:
    """Scale a 16-bit, 32-bit or float image to 8 bits; Pillow's own conversion clips at 255 instead.

    The full scale is taken from the type, or, where the type does not tell, from the largest value.
    """
    values = np.asarray(image).astype(np.float64)
    top = float(values.max()) if values.size else 0.0
    if image.mode == "F" and top <= 1.0:
        scale = 255.0
    elif image.mode in {"I", "F"} and top <= 255.0:
        scale = 1.0
    else:
        scale = 255.0 / 65535.0
    return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))


def _checked_array(source: object) -> npt.NDArray[np.uint8]:
    detach = getattr(source, "detach", None)  # a tensor, without importing torch for its name
    array = detach().cpu().numpy() if callable(detach) else source
    if not isinstance(array, np.ndarray):
        raise ImageError(f"{type(source).__name__} is not an image: give a path, bytes, PIL image or uint8 array")
    if array.dtype != np.uint8 or array.ndim != 3 or 3 not in (array.shape[0], array.shape[2]):
        hint = "; scale values in [0, 1] by 255 and round them" if array.dtype.kind == "f" else ""
        raise ImageError(f"an image array must be uint8 (H, W, 3) or (3, H, W), got {array.dtype} {array.shape}{hint}")
    return np.ascontiguousarray(array if array.shape[2] == 3 else array.transpose(1, 2, 0))
