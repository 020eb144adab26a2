from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from i0tscore.encoders import images
from i0tscore.encoders.images import decode, load
from i0tscore.errors import ImageError


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """Return smooth colors, different in each corner, to reveal rotations and swapped channels."""
    y, x = np.mgrid[0:48, 0:64] / 63.0
    return Image.fromarray((np.stack([x, y, 1 - x], axis=-1) * 255).astype(np.uint8))


@pytest.fixture(scope="module")
def grey(photo: Image.Image) -> Image.Image:
    return photo.convert("L")


def _stored(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _difference(a: Image.Image, b: Image.Image) -> float:
    assert a.size == b.size
    assert a.mode == b.mode == "RGB"
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG", "GIF", "JPEG2000"])
def test_formats(photo: Image.Image, kind: str) -> None:
    assert _difference(decode(_stored(photo, kind)), photo) < (6 if kind in {"JPEG", "WEBP", "GIF"} else 0.6)


def test_input_types(photo: Image.Image, tmp_path: Path) -> None:
    content = _stored(photo, "PNG")
    path = tmp_path / "ein Bild é.PNG"
    path.write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("photo.png", content)
    array = np.asarray(photo)
    inside = zipfile.Path(tmp_path / "a.zip") / "photo.png"
    for source in (str(path), path, inside, content, photo, array, torch.from_numpy(array.copy())):
        assert _difference(decode(source), photo) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(photo: Image.Image, orientation: int) -> None:
    turns = Image.Transpose
    stored_as = [
        None,
        None,
        turns.FLIP_LEFT_RIGHT,
        turns.ROTATE_180,
        turns.FLIP_TOP_BOTTOM,
        turns.TRANSPOSE,
        turns.ROTATE_90,
        turns.TRANSVERSE,
        turns.ROTATE_270,
    ][orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = photo if stored_as is None else photo.transpose(stored_as)
    for kind, allowed in (("JPEG", 6), ("PNG", 0)):
        assert _difference(decode(_stored(stored, kind, exif=exif)), photo) <= allowed


def test_cmyk(photo: Image.Image) -> None:
    assert _difference(decode(_stored(photo.convert("CMYK"), "JPEG", quality=95)), photo) < 6
    assert _difference(decode(_stored(photo.convert("CMYK"), "TIFF")), photo) < 1


def test_palette(photo: Image.Image) -> None:
    palette = photo.quantize(256)
    assert _difference(decode(_stored(palette, "PNG")), palette.convert("RGB")) == 0
    assert _difference(decode(_stored(palette, "PNG")), photo) < 8


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_images(grey: Image.Image, dtype: type[np.generic]) -> None:
    values = np.asarray(grey).astype(dtype)
    deep = {np.uint16: values * 257, np.int32: values * 257, np.float32: values / 255}[dtype]
    kinds = ["TIFF", "PNG"] if dtype is np.uint16 else ["TIFF"]
    for kind in kinds:
        assert _difference(decode(_stored(Image.fromarray(deep), kind)), grey.convert("RGB")) < 0.6


def test_deep_types_with_eight_bit_values(grey: Image.Image) -> None:
    values = np.asarray(grey)
    for dtype in (np.int32, np.float32):
        assert _difference(decode(Image.fromarray(values.astype(dtype))), grey.convert("RGB")) == 0


def test_sixteen_bit_color_png(photo: Image.Image) -> None:
    deep = np.asarray(photo).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in deep.astype(">u2"))

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *photo.size, 16, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert _difference(decode(content), photo) == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGBa", "RGBX", "YCbCr", "HSV", "LAB", "PA"])
def test_other_modes_become_rgb(photo: Image.Image, mode: str) -> None:
    source = photo.convert("RGBA") if mode == "RGBa" else photo
    image = Image.new(mode, photo.size) if mode in {"LAB", "PA"} else source.convert(mode)
    assert decode(image).mode == "RGB"


def test_transparency_becomes_white(photo: Image.Image) -> None:
    opaque = photo.convert("RGBA")
    assert _difference(decode(_stored(opaque, "PNG")), photo) == 0
    clear = opaque.copy()
    clear.putalpha(0)
    half = opaque.copy()
    half.putalpha(128)
    white = Image.new("RGB", photo.size, "white")
    assert _difference(decode(_stored(clear, "PNG")), white) == 0
    assert _difference(decode(_stored(half, "PNG")), Image.blend(photo, white, 0.5)) < 1
    assert _difference(decode(_stored(clear, "WEBP", lossless=True)), white) == 0
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30] * 256)
    assert decode(_stored(palette, "PNG", transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    keyed = Image.new("RGB", (8, 8), (1, 2, 3))
    assert decode(_stored(keyed, "PNG", transparency=(1, 2, 3))).getpixel((0, 0)) == (255, 255, 255)


def test_animations_use_the_first_frame(photo: Image.Image) -> None:
    others = [Image.new("RGB", photo.size, "red"), Image.new("RGB", photo.size, "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        content = _stored(photo, kind, save_all=True, append_images=others)
        assert _difference(decode(content), photo) < 6


def test_keys_depend_on_the_content(photo: Image.Image, tmp_path: Path) -> None:
    content = _stored(photo, "PNG")
    (tmp_path / "a.png").write_bytes(content)
    (tmp_path / "b.png").write_bytes(content)
    keys = {load(source).key for source in (tmp_path / "a.png", str(tmp_path / "b.png"), content)}
    assert len(keys) == 1
    array = np.asarray(photo)
    assert load(photo).key == load(array).key == load(torch.from_numpy(array.copy())).key
    assert load(torch.from_numpy(array.copy()).permute(2, 0, 1)).key == load(array).key
    assert load(array).key != load(array.reshape(64, 48, 3)).key
    changed = array.copy()
    changed[0, 0, 0] ^= 1
    assert load(changed).key != load(array).key


def test_inputs_are_not_modified(photo: Image.Image) -> None:
    rgba = photo.convert("RGBA")
    rgba.putalpha(100)
    before = rgba.tobytes()
    decode(rgba)
    assert rgba.mode == "RGBA"
    assert rgba.tobytes() == before


def _png_header(width: int, height: int) -> bytes:
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + body))
    data = struct.pack(">I", 9_000) + b"IDAT" + zlib.compress(b"\0" * 99)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + body + crc + data


BAD_FILES = {
    "zero": (b"", "the file is empty"),
    "text": (b"this is not a photograph\n", "is text, not an image"),
    "html": (b"<!DOCTYPE html><html>404</html>", "is a web page"),
    "svg": (b'<?xml version="1.0"?><svg xmlns="x"/>', "is an SVG drawing"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3", "PDF or PostScript"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PDF or PostScript"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC image"),
    "noise": (bytes(range(128, 256)) * 8, "is not an image in a known format"),
    "bomb": (_png_header(60_000, 60_000), "more than 100 million"),
    "large": (_png_header(10_001, 10_000), "more than 100 million"),
    "strip": (_png_header(100_000, 2), "longer than 100 times"),
    "cut": (_png_header(64, 64), "cannot be decoded"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", BAD_FILES)
def test_errors_for_bad_files_give_the_reason(tmp_path: Path, case: str) -> None:
    content, reason = BAD_FILES[case]
    path = tmp_path / f"{case}.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        decode(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_are_errors(kind: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = _stored(noise, kind)
    with pytest.raises(ImageError):
        decode(content[: int(len(content) * share)])


def test_missing_files_folders_and_devices(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "none.jpg", "there is no such file"),
        (tmp_path, "is a folder"),
        (Path("/dev/null"), "is not a regular file"),
        ("a\0b.jpg", "cannot be read"),
        ("", "is a folder"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ):
        with pytest.raises(ImageError, match=reason):
            decode(path)


def test_large_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    (tmp_path / "a.png").write_bytes(b"x" * 11)
    with pytest.raises(ImageError, match="is larger than"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            np.zeros((8, 3, 8), dtype=np.uint8),
            r"must be uint8 \(H, W, 3\) or \(3, H, W\), got uint8 \(8, 3, 8",
        ),
        (torch.zeros((2, 3, 8, 8), dtype=torch.uint8), r"or \(3, H, W\), got uint8 \(2, 3, 8, 8"),
        (np.zeros((8, 8, 3), dtype=np.float32), r"got float32 \(8, 8, 3\); scale values in \[0, 1\] by 255"),
        (np.zeros((8, 8), dtype=np.uint8), "must be uint8"),
        (np.zeros((0, 8, 3), dtype=np.uint8), "pixels"),
        (7, "int is not an image"),
        (None, "NoneType is not an image"),
    ],
)
def test_wrong_values(source: Any, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(source)


@settings(deadline=None, max_examples=80)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_only_raise_image_errors(data: st.DataObject) -> None:
    """A file with changed bytes decodes to an image or raises ``ImageError``."""
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"]))
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    content = bytearray(_stored(noise, kind))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        assert decode(bytes(content)).mode == "RGB"
