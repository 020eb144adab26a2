"""Decode images of any source to RGB, safely, and with the same result for every storage format."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError, features

from i0tscore.errors import ImageError, first_line
from i0tscore.gap.vectors import is_tensor
from i0tscore.samples.images import IMAGE_FORMATS, MAX_BYTES

if TYPE_CHECKING:
    import torch

Outcome = TypeVar("Outcome")


@runtime_checkable
class HasBytes(Protocol):
    """An object with content, such as ``pathlib.Path`` or ``zipfile.Path``."""

    def read_bytes(self) -> bytes:
        """Return the content."""


ImageInput: TypeAlias = (
    "str | os.PathLike[str] | HasBytes | bytes | IO[bytes] | Image.Image | np.ndarray[Any, Any] | torch.Tensor"
)
"""An image: a path, the bytes of a file, an open binary file, a PIL image, or an array or tensor as for ``decode``."""

MAX_PIXELS = 100_000_000
"""Maximum number of pixels, checked before decoding."""
MAX_ASPECT = 100
"""Maximum aspect ratio: resizing the short side of longer strips would need gigabytes."""

_TOO_LARGE = f"the file is larger than {MAX_BYTES // 10**6} MB; store a smaller one"

SEVERAL_FRAMES = "Only the first frame of images with several frames is scored"
UNREADABLE_EXIF = "Images whose EXIF metadata cannot be read are not rotated"
NO_PROFILE = "Colors of CMYK images without a valid color profile are approximate"

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn an image upright, by EXIF orientation."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Content of an image; files are not decoded yet.

    Attributes:
        key: Hash of the content; equal keys mean equal pixels.
        content: The bytes of a file, or an RGB image.
        notes: What a reader should know about the image, such as ``SEVERAL_FRAMES``.
    """

    key: str
    content: bytes | Image.Image
    notes: tuple[str, ...] = ()


def decode(source: ImageInput) -> Image.Image:
    """Decode an image to RGB, upright, with transparency on white.

    EXIF orientation is applied. CMYK, palette, gray, 16-bit, and transparent images are converted to 8-bit RGB of the
    same appearance. Color profiles are applied to CMYK images only. Only the first of several frames is used.

    Args:
        source: A path or any object with ``read_bytes()``, the bytes of a file, a file opened in binary mode, an
            undecoded cell of a datasets column, a PIL image, or an array or tensor of uint8 or Boolean values with 1
            (gray), 3 (RGB), or 4 (RGBA) channels: (H, W), (H, W, C) or (C, H, W); (3, W, 3) is read as (H, W, 3).

    Raises:
        ImageError: The image cannot be read or decoded, or is larger than ``MAX_PIXELS``.

    Examples:
        >>> decode(np.zeros((2, 3, 3), dtype=np.uint8)).size
        (3, 2)
    """
    try:
        return decode_loaded(load(source))
    except ImageError as error:
        raise ImageError(f"{describe(source)}: {error}") from error


def from_cell(source: Any) -> Any:
    """Return the bytes or path in an undecoded cell of an image column of datasets, and any other image as it is."""
    if isinstance(source, dict) and source.keys() == {"bytes", "path"}:
        return source["path"] if source["bytes"] is None else source["bytes"]
    return source


def describe(source: ImageInput) -> str:
    """Return the name of an image for messages: its path, or the kind of value."""
    source = from_cell(source)
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "PIL image")
    if isinstance(source, str | os.PathLike | HasBytes):
        return str(source)
    if hasattr(source, "read"):
        return str(getattr(source, "name", "open file"))
    return "image bytes" if isinstance(source, bytes) else "image array"


def load(source: ImageInput) -> Loaded:
    """Read an image's content and hash it, without decoding files.

    Raises:
        ImageError: It cannot be read, or the value is not an image; the error only states the reason.
    """
    source = from_cell(source)
    if isinstance(source, bytes):
        return _from_bytes(source)
    if isinstance(source, str | os.PathLike):
        return _from_bytes(_read_file(Path(source)))
    if isinstance(source, HasBytes):
        return _from_bytes(_guarded(source.read_bytes))
    if hasattr(source, "read"):
        return _from_bytes(_guarded(lambda: _read_open_file(source)))
    return _guarded(lambda: _from_image(source if isinstance(source, Image.Image) else _array_image(source)))


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
    notes: tuple[str, ...] = ()
    with contextlib.suppress(Exception), _open(content) as image:  # errors are reported when it is decoded
        # For EXIF metadata Pillow would decode a PNG file, unless it is before the pixels.
        with_exif = image.format != "PNG" or b"eXIf" in content or b"Raw profile type exif" in content
        notes = _notes(image, with_exif=with_exif)
    return Loaded(hashlib.sha256(content).hexdigest(), content, notes)


def _from_image(image: Image.Image) -> Loaded:
    _check_open(image)
    _check_size(image)
    notes = _notes(image, with_exif=True)
    rgb = _to_rgb(image)
    digest = hashlib.sha256(f"pixels {rgb.size}".encode())
    digest.update(rgb.tobytes())
    return Loaded(digest.hexdigest(), rgb, notes)


def _notes(image: Image.Image, *, with_exif: bool) -> tuple[str, ...]:
    """Return notes on an image, which need not be decoded for them."""
    notes = []
    # The first image of an MPO file is the photograph; the others are previews, depth, and the like.
    if getattr(image, "is_animated", False) and image.tell() == 0 and image.format != "MPO":
        notes.append(SEVERAL_FRAMES)
    if with_exif and _orientation(image) is None:
        notes.append(UNREADABLE_EXIF)
    if image.mode == "CMYK" and _cmyk_profile(image) is None:
        notes.append(NO_PROFILE)
    return tuple(notes)


def _read_file(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ImageError("is a folder, not an image")
        if path.exists() and not path.is_file():
            raise ImageError("is not a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(_TOO_LARGE)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError("there is no such file; check the images folder and the name") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _read_open_file(file: Any) -> bytes:
    """Read a file from its start, and leave its position as it was."""
    if file.closed:
        raise ImageError("is a closed file; open it again, or give its path")
    position = file.tell() if file.seekable() else None
    if position is not None:
        file.seek(0)
    content = file.read(MAX_BYTES + 1)
    if position is not None:
        file.seek(position)
    if not isinstance(content, bytes):
        raise ImageError("is a file opened in text mode; open it in binary mode ('rb')")
    if len(content) > MAX_BYTES:
        raise ImageError(_TOO_LARGE)
    return content


def _guarded(step: Callable[[], Outcome]) -> Outcome:
    """Run a step on untrusted content and turn all of its exceptions into ``ImageError``."""
    try:
        return step()
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error and more.
        raise ImageError(f"cannot be decoded ({first_line(error)}); replace the image") from error


def _decode_bytes(content: bytes) -> Image.Image:
    with _open(content) as image:
        return _to_rgb(image)


def _open(content: bytes) -> Image.Image:
    """Read the header of an image file."""
    Image.init()
    if _is_heic(content):
        with contextlib.suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener()
    try:
        return Image.open(io.BytesIO(content), formats=[name for name in IMAGE_FORMATS if name in Image.OPEN])
    except UnidentifiedImageError as error:
        raise ImageError(_describe_content(content)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"has more than {MAX_PIXELS // 10**6} million pixels; scale it down") from error


def _brands(content: bytes) -> set[bytes]:
    """Return the brands of an ISO media file, such as HEIC and AVIF; none for other files."""
    box = content[8 : min(int.from_bytes(content[:4]), 256)] if content[4:8] == b"ftyp" else b""
    return {box[i : i + 4] for i in range(0, len(box), 4)}


def _is_heic(content: bytes) -> bool:
    return not _brands(content).isdisjoint({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})


def _describe_content(content: bytes) -> str:
    start = content[:256].lstrip().lower()
    if b"<svg" in content[:2048].lower():
        return "is an SVG drawing, not a photograph; render it to PNG"
    if start.startswith((b"<!doctype", b"<html")):
        return "is a web page, not an image; the download probably failed"
    if start.startswith((b"%pdf", b"%!ps")):
        return "is a PDF or PostScript document, not an image; render it to PNG"
    if _is_heic(content) and "HEIF" not in Image.OPEN:
        return 'is a HEIC image, which needs pillow-heif: pip install "i0tscore[heic]"'
    if b"avif" in _brands(content) and "avif" not in features.get_supported():
        return "is an AVIF image, which this Pillow cannot decode: pip install --upgrade pillow"
    if start.isascii() and b"\0" not in start:
        return "is text, not an image"
    return f"is not an image in a known format ({', '.join(IMAGE_FORMATS)}), or is damaged from the start"


def _check_open(image: Image.Image) -> None:
    """Check that the pixels of a PIL image can still be read, for which Pillow has no message, or several."""
    closed = False
    if getattr(image, "tile", None):  # not read yet
        file = getattr(image, "fp", None)
        closed = file is None or file.closed
    else:
        try:
            image.getbbox()
        except ValueError:
            closed = True
    if closed:
        raise ImageError("is a closed PIL image; call its load() before closing it, or give the path")


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"has {width} × {height} pixels, more than {MAX_PIXELS // 10**6} million; scale it down")
    if not width or not height or max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"has {width} × {height} pixels, longer than {MAX_ASPECT} times its width; crop it")


def _to_rgb(image: Image.Image) -> Image.Image:
    _check_size(image)
    image.load()
    turn = _UPRIGHT.get(_orientation(image) or 1)
    upright = image.copy() if turn is None else image.transpose(turn)
    if upright.mode == "CMYK" and (profile := _cmyk_profile(upright)):
        return _cmyk_to_rgb(upright, profile)
    if upright.mode.startswith(("I", "F")):
        upright = _deep_to_gray(upright)
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        upright = Image.alpha_composite(white, rgba)
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def _orientation(image: Image.Image) -> int | None:
    """Return the EXIF orientation, 1 by default; None if the metadata cannot be read."""
    try:
        orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises exceptions of many kinds
        return None
    return orientation


def _cmyk_profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """Return the color profile of a CMYK image, or None if it has none that is valid."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    except (KeyError, TypeError, OSError, ImageCms.PyCMSError):
        return None
    return profile if profile.profile.xcolor_space.strip() == "CMYK" else None


def _cmyk_to_rgb(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    target, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    return ImageCms.buildTransform(profile, target, "CMYK", "RGB", intent, flags).apply(image)


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


def _array_image(source: Any) -> Image.Image:
    """Return an array or tensor as a PIL image in gray, RGB, or RGBA."""
    if is_tensor(source):
        tensor = source.detach().cpu()
        source = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    if not isinstance(source, np.ndarray):
        kind = type(source).__name__
        raise ImageError(f"{kind} is not an image: give a path, bytes, an open file, a PIL image or a uint8 array")
    array = source.astype(np.uint8) * 255 if source.dtype == np.bool_ else source
    axis = _channel_axis(array.shape)
    if array.dtype != np.uint8 or axis is None:
        expected = "(H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels"
        raise ImageError(
            f"an image array must be uint8 {expected}, got {source.dtype} {source.shape}{_dtype_hint(source)}"
        )
    array = array if array.ndim == 2 else np.moveaxis(array, axis, 2)
    return Image.fromarray(np.ascontiguousarray(array.squeeze(2) if array.shape[2:] == (1,) else array))


def _channel_axis(shape: tuple[int, ...]) -> int | None:
    """Return the axis of the channels, the last one if there are none; None if the shape is not that of an image."""
    if len(shape) == 2:
        return 1
    axes = ((axis, channels) for channels in (3, 4, 1) for axis in (2, 0)) if len(shape) == 3 else ()
    return next((axis for axis, channels in axes if shape[axis] == channels), None)


def _dtype_hint(array: npt.NDArray[Any]) -> str:
    """Return how to convert numbers to uint8."""
    if array.dtype == np.uint8 or array.dtype.kind not in "iuf" or not array.size:
        return ""
    if array.ndim == 1:
        return "; stack embeddings into one array (n, d)"
    if array.min() < 0:
        step = "undo the normalization to [0, 255]"
    elif array.max() > 255:
        step = "scale values to [0, 255]"
    else:
        step = "scale values in [0, 1] by 255" if array.dtype.kind == "f" and array.max() <= 1 else "keep the values"
    return f"; {step}, round them, and convert them to uint8"
