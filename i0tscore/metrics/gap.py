"""The modality gap of an encoded run, before and after each standardizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.encoded import EncodedRun
from i0tscore.errors import InputError
from i0tscore.gap import NONE, POST, GapStatistics, Standardizer, Statistics, expected_residual_gap
from i0tscore.gap.picture import Panel, panel
from i0tscore.gap.standardizers import default_standardizers
from i0tscore.gap.vectors import normalize
from i0tscore.metrics.signing import SignatureFields, sign
from i0tscore.results import Resampling, Signature
from i0tscore.results.gap import GapMeasures, measure_gap
from i0tscore.samples import Skipped

SCHEMA = "i0tscore.gap/1"

IN_SAMPLE = (
    "in-sample: the statistics are of the measured samples themselves, so the gaps left are smaller than on new data"
)
HELD_OUT = "held-out: the statistics are of other samples than those measured"
EXPECTED = "about {expected:.3f} is expected to be left after post on new data"


@dataclass(frozen=True, slots=True)
class GapReport:
    """The gap of a corpus under several standardizers.

    Attributes:
        measures: By standardizer, ``none`` first.
        statistics: What the standardizers used, or None.
        in_sample: Whether the statistics are of the measured samples; None without statistics.
        signatures: By standardizer.
        resampling: Of the intervals.
        skipped: Samples left out.
        notes: What a reader should know.
    """

    measures: dict[str, GapMeasures]
    statistics: Statistics | None
    in_sample: bool | None
    signatures: dict[str, Signature]
    resampling: Resampling
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in docs/gap.schema.json."""
        known = self.statistics
        return {
            "schema": SCHEMA,
            "statistics": None
            if known is None
            else {
                "name": known.name,
                "digest": known.digest,
                "source": known.source,
                "in_sample": self.in_sample,
            },
            "resampling": {"over": "images", **asdict(self.resampling)},
            "standardizers": {
                name: {**found.to_dict(), "signature": str(self.signatures[name])}
                for name, found in self.measures.items()
            },
            "skipped": [{"id": s.id, "reason": s.reason} for s in self.skipped],
            "notes": list(self.notes),
        }


def report_gap(
    run: EncodedRun,
    statistics: Statistics | None,
    standardizers: Sequence[Standardizer] = (),
    *,
    settings: SignatureFields | None = None,
    skipped: Sequence[Skipped] = (),
    notes: Sequence[str] = (),
) -> GapReport:
    """Measure the gap of a run without a standardizer and under each of several.

    Args:
        run: Embeddings of at least two images with captions.
        statistics: What standardizers need, or None.
        standardizers: Which; if left out, each of the table once. Of those left out, those that the
            statistics do not suffice for are skipped with a note, and so is ``nnn``, which moves nothing.
        settings: For signatures and intervals; those of embeddings if left out.
        skipped: Samples left out before the run.
        notes: What to tell the reader besides.

    Raises:
        InputError: Fewer than two images, or a standardizer that moves nothing was asked for.
        StatisticsError: The statistics lack what a standardizer that was asked for needs.
    """
    settings = settings or SignatureFields((), (), Resampling())
    said = [*notes]
    wanted = list(standardizers) or _usable(statistics, said)
    measures, signatures = {}, {}
    for standardizer in dict.fromkeys([NONE, *wanted]):
        x, y, owners = _standardized(run, statistics, standardizer)
        measures[str(standardizer)] = measure_gap(x, y, owners, settings.resampling)
        signatures[str(standardizer)] = sign("gap", run, standardizer, statistics, settings)
    in_sample = None if statistics is None else _is_of(run, statistics)
    if in_sample is not None:
        said.append(IN_SAMPLE if in_sample else HELD_OUT)
    if in_sample and str(POST) in measures:
        score = measures[str(POST)]["matched"].value or 0.0
        said.append(EXPECTED.format(expected=expected_residual_gap(score, len(run.images))))
    scaled = [str(s) for s in wanted if s.similarity == "dot"]
    if scaled:
        said.append(f"{', '.join(scaled)}: measured on vectors scaled to unit length")
    left_out = (*skipped, *run.skipped)
    return GapReport(measures, statistics, in_sample, signatures, settings.resampling, left_out, tuple(said))


def gap_panels(
    run: EncodedRun, statistics: Statistics | None, standardizers: Sequence[Standardizer]
) -> dict[str, Panel]:
    """What a picture shows of each standardizer, by name; see ``gap.picture.panel``."""
    return {str(s): panel(*_standardized(run, statistics, s)) for s in standardizers}


def _usable(statistics: Statistics | None, notes: list[str]) -> list[Standardizer]:
    known = GapStatistics() if statistics is None else statistics.known
    usable = []
    for standardizer in default_standardizers():
        if standardizer.cross_modal_only:
            notes.append(f"{standardizer} is left out: it moves no embedding, it changes similarities")
        elif known.has(standardizer.need):
            usable.append(standardizer)
        else:
            notes.append(f"{standardizer} is left out: the statistics have no {standardizer.need}")
    return usable


def _standardized(
    run: EncodedRun, statistics: Statistics | None, standardizer: Standardizer
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Unit vectors of the distinct images and of all captions, and the image of each caption."""
    if standardizer.cross_modal_only:
        raise InputError(f"{standardizer} moves no embedding, it changes similarities: it has no gap")
    known = GapStatistics() if statistics is None else statistics.known
    x = standardizer.images(run.images, known)
    y = standardizer.captions(run.texts, known)[run.text_index]
    if standardizer.similarity == "dot":
        x, y = normalize(x), normalize(y)
    return x, y, run.image_index


def _is_of(run: EncodedRun, statistics: Statistics) -> bool:
    """Whether the statistics have the very means of the run."""
    means = (v.mean(axis=0, dtype=np.float64) for v in run.pairs)
    own = (statistics.image.mean, statistics.caption.mean)
    return all(np.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(means, own, strict=True))
