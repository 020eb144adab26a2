"""Decode images of any source to RGB, safely, and with the same result for every storage format."""

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
    """An object with content, such as ``pathlib.Path`` or ``zipfile.Path``."""

    def read_bytes(self) -> bytes:
        """Return the content."""


ImageInput: TypeAlias = "str | os.PathLike[str] | HasBytes | bytes | Image.Image | np.ndarray[Any, Any] | torch.Tensor"
"""An image: a path, the bytes of a file, a PIL image, or a uint8 array or tensor, (H, W, 3) or (3, H, W)."""

MAX_PIXELS = 100_000_000
"""Maximum number of pixels, checked before decoding."""
MAX_ASPECT = 100
"""Maximum aspect ratio: resizing the short side of longer strips would need gigabytes."""

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Formats that are decoded. Pillow supports more, but some run other programs (EPS)."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Content of an image; files are not decoded yet.

    Attributes:
        key: Hash of the content; equal keys mean equal pixels.
        content: The bytes of a file, or an RGB image.
    """

    key: str
    content: bytes | Image.Image


def decode(source: ImageInput) -> Image.Image:
    """Decode an image to RGB, upright, with transparency on white.

    EXIF orientation is applied. CMYK, palette, gray, 16-bit, and transparent images are converted to 8-bit RGB of the
    same appearance. Only the first of several frames is used.

    Args:
        source: A path or any object with ``read_bytes()``, the bytes of a file, a PIL image, or a uint8 array or
            tensor, (H, W, 3) or (3, H, W); (3, W, 3) is read as (H, W, 3).

    Raises:
        ImageError: The image cannot be read or decoded, or is larger than ``MAX_PIXELS``.

    Example:
        >>> decode(np.zeros((2, 3, 3), dtype=np.uint8)).size
        (3, 2)
    """
    try:
        return decode_loaded(load(source))
    except ImageError as error:
        raise ImageError(f"{describe(source)}: {error}") from error


def describe(source: ImageInput) -> str:
    """Return the name of an image for messages: its path, or the kind of value."""
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "PIL image")
    if isinstance(source, str | os.PathLike | HasBytes):
        return str(source)
    return "image bytes" if isinstance(source, bytes) else "image array"


def load(source: ImageInput) -> Loaded:
    """Read an image's content and hash it, without decoding files.

    Raises:
        ImageError: It cannot be read, or the value is not an image; the error only states the reason.
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
    """Decode the result of ``load``.

    Raises:
        ImageError: It cannot be decoded; the error only states the reason.
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
    """Run a step on untrusted content and turn all of its exceptions into ``ImageError``."""
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
        raise ImageError(_describe_content(content)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"has more than {MAX_PIXELS // 10**6} million pixels; scale it down") from error
    with image:
        return _to_rgb(image)


def _describe_content(content: bytes) -> str:
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
        upright = _deep_to_gray(upright)
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        upright = Image.alpha_composite(white, rgba)
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def _deep_to_gray(image: Image.Image) -> Image.Image:
    """Scale a 16-bit, 32-bit, or float image to 8 bits; Pillow would clip at 255 instead.

    The full scale is that of the type, or else depends on the largest value.
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
