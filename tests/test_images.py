from __future__ import annotations

import contextlib
import io
import re
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import AvifImagePlugin, Image, ImageCms

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


_QUALITY = {"JPEG": {"quality": 100, "subsampling": 0}}


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


def _cmyk_profile() -> bytes:
    """Return an ICC profile whose inks are gray, so that its colors differ from those of the simple formula."""
    # Two grid points per ink: the lightness falls by a quarter with each of the four inks.
    levels = [bin(inks).count("1") for inks in range(16)]
    lut = struct.pack(">4sIBBBB9i", b"mft1", 0, 4, 3, 2, 0, *(65536 * (i % 4 == 0) for i in range(9)))
    lut += bytes(range(256)) * 4 + b"".join(bytes([255 - 255 * level // 4, 128, 128]) for level in levels)
    lut += bytes(range(256)) * 3
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    body, entries = b"", b""
    for name, data in ((b"desc", text), (b"wtpt", white), (b"A2B0", lut), (b"A2B1", lut)):
        data += bytes(-len(data) % 4)
        entries += name + struct.pack(">II", 128 + 4 + 48 + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", 180 + len(body), bytes(4), 0x02100000, b"prtr", b"CMYK", b"Lab ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return header + struct.pack(">I", 4) + entries + body


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_with_a_color_profile(photo: Image.Image, kind: str) -> None:
    levels = np.arange(5)[:, None]  # so many inks are full
    inks = np.repeat((levels > np.arange(4)).astype(np.uint8)[:, None] * 255, 9, axis=1).repeat(9, axis=0)
    stored = _stored(Image.fromarray(inks, "CMYK"), kind, icc_profile=_cmyk_profile(), **_QUALITY.get(kind, {}))
    decoded = np.asarray(decode(stored))[4::9, 4]
    # L* of 100, 75, 50, 25 and 0 in sRGB, by the definition of both.
    assert np.abs(decoded.astype(int) - np.array([255, 185, 119, 59, 0])[:, None]).max() <= 3
    assert load(stored).notes == ()


def test_cmyk_with_an_invalid_color_profile(photo: Image.Image) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = _stored(photo.convert("CMYK"), "JPEG", quality=95)
    for profile in (b"not a profile", srgb):
        stored = _stored(photo.convert("CMYK"), "JPEG", quality=95, icc_profile=profile)
        assert _difference(decode(stored), decode(plain)) == 0
        assert load(stored).notes == load(plain).notes == (images.NO_PROFILE,)


def test_profiles_of_rgb_images_are_not_applied(photo: Image.Image) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert _difference(decode(_stored(photo, "PNG", icc_profile=profile)), photo) == 0


def test_progressive_and_interlaced_files(photo: Image.Image) -> None:
    plain, progressive = (_stored(photo, "JPEG", progressive=option) for option in (False, True))
    assert plain != progressive
    assert _difference(decode(progressive), decode(plain)) == 0


def test_one_bit_images(grey: Image.Image) -> None:
    mask = grey.convert("1")
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        assert _difference(decode(_stored(mask, kind)), mask.convert("RGB")) == 0


def test_avif(photo: Image.Image) -> None:
    assert _difference(decode(_stored(photo, "AVIF", quality=100)), photo) < 6


@pytest.mark.filterwarnings("ignore:image file could not be identified")
def test_avif_without_the_decoder(photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    content = _stored(photo, "AVIF")
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    monkeypatch.setattr(images.features, "get_supported", list)
    with pytest.raises(ImageError, match="this Pillow cannot decode: pip install --upgrade pillow"):
        decode(content)


def test_heic(photo: Image.Image) -> None:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(photo).save(buffer, quality=100)
    assert _difference(decode(buffer.getvalue()), photo) < 6
    assert load(buffer.getvalue()).notes == ()


def test_heic_without_its_package(photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(photo).save(buffer)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(ImageError, match=re.escape('needs pillow-heif: pip install "i0tscore[heic]"')):
        decode(buffer.getvalue())


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _exif(tag: int, kind: int, count: int, value: bytes) -> bytes:
    """Return EXIF metadata with orientation 6 and one other entry, whose value is stored behind the entries."""
    entries = struct.pack("<HHHIHH", 2, 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", tag, kind, count, 38)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + entries + struct.pack("<I", 0) + value


@pytest.mark.parametrize(
    "faulty", [_exif(0x8298, 5, 1, struct.pack("<II", 1, 2)), _exif(0x011A, 2, 5, b"72/1\0")], ids=["type", "text"]
)
def test_the_orientation_in_faulty_exif_is_used(photo: Image.Image, faulty: bytes) -> None:
    stored = _stored(photo.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=faulty)
    assert _difference(decode(stored), photo) < 6
    assert load(stored).notes == ()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "chunk",
    [
        _png_chunk(b"eXIf", b"\0\x08\0\2\1\x12\0\3\0\0\0\1\0\6\0\0"),
        _png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n      26\nnot hex at all\n"),
    ],
    ids=["header", "hexadecimal"],
)
def test_images_with_unreadable_exif_are_used_as_stored(photo: Image.Image, chunk: bytes, late: bool) -> None:
    content = _stored(photo, "PNG")
    place = len(content) - 12 if late else 33  # before the end, or behind the header
    stored = content[:place] + chunk + content[place:]
    assert _difference(decode(stored), photo) == 0
    assert load(stored).notes == (images.UNREADABLE_EXIF,)
    assert load(Image.open(io.BytesIO(stored))).notes == (images.UNREADABLE_EXIF,)


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
        assert load(content).notes == load(Image.open(io.BytesIO(content))).notes == (images.SEVERAL_FRAMES,)
        assert load(_stored(photo, kind)).notes == ()
        chosen = Image.open(io.BytesIO(content))
        chosen.seek(1)
        assert _difference(decode(chosen), others[0]) < 6
        assert load(chosen).notes == ()


def test_the_previews_of_a_camera_are_not_frames(photo: Image.Image) -> None:
    content = _stored(photo, "MPO", save_all=True, append_images=[photo.resize((8, 6))])
    assert _difference(decode(content), photo) < 6
    assert load(content).notes == ()


def test_arrays_of_one_and_four_channels_are_read_like_files(photo: Image.Image, grey: Image.Image) -> None:
    values, rgba = np.asarray(grey), photo.convert("RGBA")
    rgba.putalpha(100)
    alpha = np.asarray(rgba)
    gray_file, alpha_file = decode(_stored(grey, "PNG")), decode(_stored(rgba, "PNG"))
    for array in (values, values[..., None], values[None]):
        assert _difference(decode(array), gray_file) == 0
        assert _difference(decode(torch.from_numpy(array.copy())), gray_file) == 0
    for array in (alpha, alpha.transpose(2, 0, 1)):
        assert _difference(decode(array), alpha_file) == 0
    mask = values > 99
    for array in (mask, mask[None]):
        assert _difference(decode(array), decode(_stored(Image.fromarray(mask), "PNG"))) == 0


def test_open_files_are_read_from_their_start(photo: Image.Image, tmp_path: Path) -> None:
    buffer, path = io.BytesIO(), tmp_path / "photo.png"
    photo.save(buffer, "PNG")
    photo.save(path)
    for _ in range(2):
        assert _difference(decode(buffer), photo) == 0
        assert buffer.tell() == len(buffer.getvalue())
    with path.open("rb") as file:
        assert _difference(decode(file), photo) == 0
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "photo.png")
        with archive.open("photo.png") as file:
            assert _difference(decode(file), photo) == 0


def test_files_and_images_that_cannot_be_read(photo: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    photo.save(path)
    with path.open("rb") as closed, Image.open(path) as unread, Image.open(path) as read:
        read.load()
    assert _difference(decode(read), photo) == 0
    read.close()
    with path.open("rb") as file:
        without_file = Image.open(file)
    for source, reason in (
        (closed, "is a closed file; open it again"),
        (unread, "is a closed PIL image; call its load\\(\\)"),
        (read, "is a closed PIL image"),
        (without_file, "is a closed PIL image"),
        (io.StringIO("x"), "opened in text mode"),
        (io.BytesIO(), "the file is empty"),
    ):
        with pytest.raises(ImageError, match=reason):
            decode(source)


def test_reasons_name_the_error_where_it_has_no_message() -> None:
    class Faulty:
        def read_bytes(self) -> bytes:
            raise AssertionError

    with pytest.raises(ImageError, match=r"cannot be decoded \(AssertionError\)"):
        decode(Faulty())


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


class _Detachable:
    """Looks like a tensor in one method only."""

    def detach(self) -> _Detachable:
        return self


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (np.zeros((8, 3, 8), dtype=np.uint8), r"with 1, 3 or 4 channels, got uint8 \(8, 3, 8\)$"),
        (np.zeros(8, dtype=np.uint8), r"got uint8 \(8,\)$"),
        (torch.zeros((2, 3, 8, 8), dtype=torch.uint8), r"must be uint8 \(H, W\), .* got uint8 \(2, 3, 8, 8\)$"),
        (np.zeros((8, 8, 3), dtype=np.float32), r"got float32 \(8, 8, 3\); scale values in \[0, 1\] by 255, round"),
        (torch.zeros((3, 8, 8), dtype=torch.bfloat16), r"got float32 \(3, 8, 8\); scale values in \[0, 1\] by 255"),
        (np.full((8, 8, 3), 254.6), r"got float64 \(8, 8, 3\); keep the values, round them, and convert them to uint8"),
        (np.full((8, 8, 3), 7), r"got int64 \(8, 8, 3\); keep the values, .* convert them to uint8"),
        (np.full((8, 8), 256), r"got int64 \(8, 8\); scale values to \[0, 255\]"),
        (np.full((8, 8, 3), -1.5), r"got float64 \(8, 8, 3\); undo the normalization"),
        (_Detachable(), "_Detachable is not an image"),
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
