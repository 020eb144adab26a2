"""Where an image supports a text: by the embeddings of its locations, or by hiding parts of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from i0tscore.results.report import Part

Box = tuple[float, float, float, float]
Cells = NDArray[np.bool_]

GRID: Final = 7
"""Rows and columns of the map of an encoder without local embeddings."""
WINDOW: Final = 2
"""Rows and columns of cells that are hidden together."""


@dataclass(frozen=True, slots=True, eq=False)
class RegionMap(Part):
    """How much each location of an image supports a text.

    Attributes:
        text: The caption, or a phrase.
        values: One value for each cell, float64 (rows, columns), from the top left. ``local``: the similarity
            between the location's embedding and the text. ``occlusion``: how much the score falls when the
            cell is hidden, averaged over the windows that contain it.
        method: ``local`` or ``occlusion``.
        box: The part of the image that the cells cover: left, top, right, bottom, as fractions of its size.
        aspect: Width of that part divided by its height, in pixels.
    """

    text: str
    values: NDArray[np.float64]
    method: Literal["local", "occlusion"] = "occlusion"
    box: Box = (0.0, 0.0, 1.0, 1.0)
    aspect: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {**Part.to_dict(self), "values": self.values.tolist()}


def windows() -> list[Cells]:
    """Return the sliding windows that are hidden one by one, each as a mask of cells (GRID, GRID)."""
    masks = []
    for top in range(GRID - WINDOW + 1):
        for left in range(GRID - WINDOW + 1):
            mask = np.zeros((GRID, GRID), dtype=bool)
            mask[top : top + WINDOW, left : left + WINDOW] = True
            masks.append(mask)
    return masks


def occlusion_values(full: float, hidden: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the drop of the score for each cell, from the scores (w,) with each of ``windows`` hidden."""
    masks = np.stack(windows()).astype(np.float64)
    total = np.tensordot(full - hidden, masks, axes=1)
    values: NDArray[np.float64] = total / masks.sum(axis=0)
    return values


def largest(values: NDArray[np.float64], count: int) -> Cells:
    """Return which cells have the largest values."""
    order = np.argsort(-values, axis=None, kind="stable")
    cells: Cells = np.isin(np.arange(values.size), order[:count]).reshape(values.shape)
    return cells


def moved(values: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a map shifted and mirrored at random: regions of the same shapes in other places."""
    shifted = np.roll(values, [int(generator.integers(1, length)) for length in values.shape], axis=(0, 1))
    down, across = generator.choice([-1, 1], size=2)
    return shifted[::down, ::across]


class Hidden(Sequence[Image.Image]):
    """Copies of an RGB image with some cells of a grid filled with its mean color.

    Copies are made on access, because all copies of a large photograph together may not fit in memory.

    Args:
        image: The image.
        masks: The cells to hide in each copy, (rows, columns) each.
        box: The part of the image that the cells cover.
    """

    def __init__(self, image: Image.Image, masks: Sequence[Cells], box: Box = (0.0, 0.0, 1.0, 1.0)) -> None:
        self._image, self._masks, self._box = image, masks, box
        pixels = np.asarray(image).reshape(-1, 3)
        self._mean = tuple(int(value) for value in pixels.mean(axis=0).round())

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, position: Any) -> Any:
        """Return one copy."""
        mask, copy = self._masks[position], self._image.copy()
        rows, columns = mask.shape
        across = _edges(self._box[0], self._box[2], columns, copy.width)
        down = _edges(self._box[1], self._box[3], rows, copy.height)
        for row, column in zip(*np.nonzero(mask), strict=True):
            copy.paste(self._mean, (across[column], down[row], across[column + 1], down[row + 1]))
        return copy


def _edges(start: float, end: float, count: int, length: int) -> Sequence[int]:
    edges: list[int] = np.linspace(start * length, end * length, count + 1).round().astype(int).tolist()
    return edges
