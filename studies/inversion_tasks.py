"""Retrieval with embeddings as they are and with one side inverted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap import normalize
from i0tscore.results.intervals import Estimate, Resampling, bootstrap_mean
from i0tscore.results.retrieval import cross_modal_ranks, retrieve_by_label
from studies.flickr8k import CAPTIONS_PER_IMAGE
from studies.inversion_material import Crossed, Material, Vectors

Values = Mapping[str, NDArray[np.float64]]
"""By measure, one number a query."""

NATIVE = "as they are"
QUERIES, GALLERY = "queries inverted", "gallery inverted"
PHOTOGRAPHS, CAPTIONS = "their photographs as queries", "the mean of their captions as queries"
WITHIN = ("mAP", "mAP@R", "R-precision", "R@1")


@dataclass(frozen=True, slots=True)
class Line:
    """What was found in one way.

    Attributes:
        what: What was inverted, or ``NATIVE``.
        updates: After how many; None where nothing was.
        cosine: Mean cosine of what was inverted with what it stands for.
        values: By measure, in [0, 1].
        differences: From ``NATIVE`` on the same resamples; empty for itself.
    """

    what: str
    updates: int | None
    cosine: float | None
    values: dict[str, Estimate]
    differences: dict[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "what": self.what,
            "updates": self.updates,
            "cosine": self.cosine,
            "values": {name: estimate.to_dict() for name, estimate in self.values.items()},
            "differences": {name: estimate.to_dict() for name, estimate in self.differences.items()},
        }


@dataclass(frozen=True, slots=True)
class Task:
    """A task in several ways.

    Attributes:
        name: Short name.
        measures: Those that are shown, the most important first.
        queries: How many are in the means.
        left_out: How many have nothing relevant to find.
        photographs: How many are resampled.
        lines: ``NATIVE`` first.
    """

    name: str
    measures: tuple[str, ...]
    queries: int
    left_out: int
    photographs: int
    lines: tuple[Line, ...]

    @property
    def native(self) -> Line:
        """With nothing inverted."""
        return self.lines[0]

    def inverted(self, what: str = QUERIES) -> list[Line]:
        """The lines with this inverted, by number of updates."""
        return [line for line in self.lines if line.what == what]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        counts = {"queries": self.queries, "left_out": self.left_out, "photographs": self.photographs}
        return {**counts, "lines": [line.to_dict() for line in self.lines]}


def text_to_text(material: Material, ovi: Crossed, resampling: Resampling) -> Task:
    """A caption finds the other captions of its photograph."""
    own, every = material.photographs, np.arange(len(material.captions))

    def found(queries: Vectors, gallery: Vectors) -> Values:
        return retrieve_by_label(queries, gallery, own, own, own=every).values

    other = {PHOTOGRAPHS: found(material.images[own], material.captions)}
    return _within("text–text", found, material.captions, ovi, other, own, resampling)


def image_to_image(material: Material, oti: Crossed, resampling: Resampling) -> Task:
    """A photograph with a class finds others of its class."""
    rows, labels = material.labelled, material.labels
    every = np.arange(len(rows))

    def found(queries: Vectors, gallery: Vectors) -> Values:
        return retrieve_by_label(queries, gallery, labels, labels, own=every).values

    five = material.captions.reshape(-1, CAPTIONS_PER_IMAGE, material.captions.shape[1])[rows]
    other = {CAPTIONS: found(normalize(five.mean(axis=1)), material.images[rows])}
    return _within("image–image", found, material.images[rows], oti.part(rows), other, rows, resampling)


def image_to_text(material: Material, oti: Crossed, resampling: Resampling) -> Task:
    """A photograph finds one of its captions."""

    def found(images: Vectors) -> Values:
        return {"R@1": (cross_modal_ranks(images, material.captions).to_caption < 1).astype(np.float64)}

    clusters = np.arange(len(material.images))
    return _across("image–text", found, material.images, oti, clusters, resampling)


def text_to_image(material: Material, ovi: Crossed, resampling: Resampling) -> Task:
    """A caption finds its photograph."""

    def found(captions: Vectors) -> Values:
        return {"R@1": (cross_modal_ranks(material.images, captions).to_image < 1).astype(np.float64)}

    return _across("text–image", found, material.captions, ovi, material.photographs, resampling)


def _within(
    name: str,
    found: Callable[[Vectors, Vectors], Values],
    vectors: Vectors,
    crossed: Crossed,
    other: Mapping[str, Values],
    clusters: NDArray[np.int64],
    resampling: Resampling,
) -> Task:
    """Native, with the queries and with the gallery inverted, and with other queries."""
    native = found(vectors, vectors)
    lines = [_line(NATIVE, None, None, native, None, clusters, resampling)]
    for what in (QUERIES, GALLERY):
        for step, moved in crossed.points.items():
            values = found(moved, vectors) if what == QUERIES else found(vectors, moved)
            lines.append(_line(what, step, crossed.cosine(step), values, native, clusters, resampling))
    lines += [_line(what, None, None, values, native, clusters, resampling) for what, values in other.items()]
    return _task(name, WITHIN, native, clusters, lines)


def _across(
    name: str,
    found: Callable[[Vectors], Values],
    vectors: Vectors,
    crossed: Crossed,
    clusters: NDArray[np.int64],
    resampling: Resampling,
) -> Task:
    """Native, and with the queries inverted into the gallery's own modality."""
    native = found(vectors)
    lines = [_line(NATIVE, None, None, native, None, clusters, resampling)]
    lines += [
        _line(QUERIES, step, crossed.cosine(step), found(moved), native, clusters, resampling)
        for step, moved in crossed.points.items()
    ]
    return _task(name, ("R@1",), native, clusters, lines)


def _task(name: str, measures: tuple[str, ...], native: Values, clusters: NDArray[np.int64], lines: list[Line]) -> Task:
    undefined = np.isnan(native[measures[0]])
    kept = clusters[~undefined]
    return Task(name, measures, len(kept), int(undefined.sum()), len(np.unique(kept)), tuple(lines))


def _line(
    what: str,
    updates: int | None,
    cosine: float | None,
    values: Values,
    native: Values | None,
    clusters: NDArray[np.int64],
    resampling: Resampling,
) -> Line:
    return Line(
        what,
        updates,
        cosine,
        {name: mean_of(column, clusters, resampling) for name, column in values.items()},
        {}
        if native is None
        else {name: mean_of(column - native[name], clusters, resampling) for name, column in values.items()},
    )


def mean_of(values: NDArray[np.float64], clusters: NDArray[np.int64], resampling: Resampling) -> Estimate:
    """Mean of the values (n,) that are defined, with its interval over clusters (n,)."""
    if np.isnan(values).all():
        return Estimate(None, None)
    return Estimate(float(np.nanmean(values)), bootstrap_mean(values, clusters, resampling))
