"""What the frozen towers of ``lite`` give for the training data, computed once and kept in a folder."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from i0tscore.encoders.images import decode
from i0tscore.encoders.lite import IMAGE_SIZE
from i0tscore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

Features: TypeAlias = NDArray[np.float32]

PREFIX = "A photo depicts "
"""Put before every caption, in training as in scoring."""
VIEWS = ("plain", "flip", "crop1", "crop2")
"""The views of a photograph that heads are trained on."""
STORAGE_VIEWS = ("noise", "jpeg")
"""Views that change how a photograph is stored and not what it shows."""
CROP_AREA = (0.5, 0.95)
CROP_ASPECT = 0.2
"""Random crops keep this range of the area and change the aspect ratio by up to exp(±0.2)."""
NOISE = (1.0, 6.0)
"""Range of the standard deviation of added noise, in grey levels of 256."""
JPEG_QUALITY = (40, 75)
"""Range of the quality of a further compression."""

_SEEDS = {"crop1": 100_000, "crop2": 200_000, "noise": 300_007, "jpeg": 400_000}

_CHECKED = 8
_LARGEST_DIFFERENCE = 1e-3


class FeatureExtractor:
    """The two towers without heads, with a folder of what they gave before.

    Files are named after their content, e.g. ``image-train-flip.npy``. What is found there is checked
    against the towers on a few rows before it is used.

    Args:
        model: The towers, as ``i0tscore.encoders.lite.build_towers`` gives them.
        tokenizer: Texts to padded token ids.
        preprocess: An RGB image to what the image tower takes.
        folder: Where features are kept.
    """

    def __init__(self, model: Any, tokenizer: Any, preprocess: Any, folder: Path) -> None:
        self._model, self._tokenizer, self._preprocess = model, tokenizer, preprocess
        self._folder = folder
        self._log = logging.getLogger("i0tscore")

    def images(self, name: str, paths: Sequence[Path], view: str = "plain") -> Features:
        """Pooled image features (n, 1280) of one view of photographs, kept under ``image-<name>-<view>``."""

        def encode(positions: Sequence[int]) -> Features:
            seen = [make_view(decode(paths[i]), view, i) for i in positions]
            pixels = torch.stack([self._preprocess(image) for image in seen])
            features: Features = self._model.encode_image(pixels).numpy()
            return features

        return self._kept(f"image-{name}-{view}", len(paths), encode, batch_size=32)

    def texts(self, name: str, texts: Sequence[str]) -> Features:
        """Pooled text features (n, 384), kept under ``text-<name>``."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))

        def encode(positions: Sequence[int]) -> Features:
            ids = self._tokenizer([texts[i] for i in positions])
            longest = int((ids != 0).sum(dim=1).max())
            features: Features = self._model.encode_text(ids[:, :longest]).numpy()
            return features

        return self._kept(f"text-{name}", len(texts), encode, batch_size=64, order=order)

    @torch.inference_mode()
    def _kept(
        self,
        name: str,
        count: int,
        encode: Callable[[Sequence[int]], Features],
        *,
        batch_size: int,
        order: Sequence[int] | None = None,
    ) -> Features:
        path = self._folder / f"{name}.npy"
        if path.exists():
            found: Features = np.load(path, allow_pickle=False)
            _check(path, found, count, encode)
            self._log.info("%s: re-used", path)
            return found
        rows: Features | None = None
        for positions in _batches(order or range(count), batch_size):
            part = encode(positions)
            rows = np.empty((count, part.shape[1]), np.float32) if rows is None else rows
            rows[positions] = part
        if rows is None:
            raise InputError(f"{name}: nothing to encode")
        self._folder.mkdir(parents=True, exist_ok=True)
        np.save(path, rows)
        self._log.info("%s: %d computed", path, count)
        return rows


def make_view(image: Image.Image, view: str, position: int) -> Image.Image:
    """Make one of the views of a photograph.

    Args:
        image: RGB.
        view: One of ``VIEWS`` or ``STORAGE_VIEWS``: as it is, mirrored, a random crop, with noise, or
            compressed more.
        position: Of the photograph in its split; with the view it seeds what is random, so that a view
            is the same in every run.

    Example:
        >>> make_view(Image.new("RGB", (500, 375)), "crop1", position=0).size
        (260, 260)
    """
    if view == "plain":
        return image
    if view == "flip":
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    generator = np.random.default_rng(_SEEDS[view] + position)
    changes = {"noise": _noisy, "jpeg": _compressed}
    return changes.get(view, _cropped)(image, generator)


def _cropped(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    width, height = image.size
    side = generator.uniform(*CROP_AREA) ** 0.5
    aspect = np.exp(generator.uniform(-CROP_ASPECT, CROP_ASPECT))
    w, h = min(width, width * side * aspect), min(height, height * side / aspect)
    left, top = generator.uniform(0, width - w), generator.uniform(0, height - h)
    box = (left, top, left + w, top + h)
    cropped = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC, box=box)
    return cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else cropped


def _noisy(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image).astype(np.float32)
    grain = generator.normal(0.0, 1.0, pixels.shape).astype(np.float32)
    noisy = pixels + grain * generator.uniform(*NOISE)
    return Image.fromarray(np.clip(noisy.round(), 0, 255).astype(np.uint8))


def _compressed(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(generator.integers(*JPEG_QUALITY)))
    return decode(file.getvalue())


def _check(path: Path, found: Features, count: int, encode: Callable[[Sequence[int]], Features]) -> None:
    """Compare some rows of a file with what the towers give now."""
    positions = np.random.default_rng(0).integers(0, count, min(_CHECKED, count)).tolist()
    if len(found) == count:
        difference = float(np.abs(found[positions] - encode(positions)).max())
        if difference < _LARGEST_DIFFERENCE:
            return
    raise InputError(f"{path} does not hold what the towers give for this data: delete it to compute it anew")


def _batches(positions: Iterable[int], size: int) -> Iterator[list[int]]:
    listed = list(positions)
    return (listed[start : start + size] for start in range(0, len(listed), size))
