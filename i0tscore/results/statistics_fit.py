"""How well fixed reference statistics fit a run: the remaining modality gap, and the gap expected from sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from i0tscore.gap import Statistics, dot
from i0tscore.gap.measures import LOW_SEVERITY, VectorSum
from i0tscore.gap.vectors import View, chunks
from i0tscore.results.report import Part

if TYPE_CHECKING:
    from i0tscore.encoders.encode import EncodedRun

Floats = NDArray[np.float64]


FALSE_ALARMS = 1e-3
"""Significance level of each of the two tests."""

SMALLEST_SHIFT = 0.1
"""Smallest difference between the mean score of mismatched pairs and its expected value that matters."""


@dataclass(frozen=True, slots=True)
class StatisticsFit(Part):
    """The modality gap of a run that remains under fixed statistics, and the gap expected from sampling alone.

    Attributes:
        statistics: Name of the statistics.
        centroid_distance: Distance between the mean image and the mean caption of the run under ``post``.
        expected_distance: Root mean square of that distance if run and statistics are samples of one population.
        mismatched: Mean I0TScore of all images of the run with captions of its other images; None if every image has
            every caption.
        expected_mismatched: Mean of ``mismatched`` if run and statistics are samples of one population.
        mismatched_error: Standard error of ``mismatched`` in that case.
        fits: Whether neither difference is both significant and large; see ``measure_fit``.
    """

    statistics: str
    centroid_distance: float
    expected_distance: float
    mismatched: float | None
    expected_mismatched: float
    mismatched_error: float
    fits: bool

    @classmethod
    def judge(
        cls,
        statistics: str,
        means: tuple[Floats, Floats],
        images: int,
        expected: float,
        freedom: float,
        mismatched: float | None,
        center: float,
        error: float,
    ) -> Self:
        """Decide whether statistics fit; see ``measure_fit``.

        Args:
            statistics: Name of the statistics.
            means: Mean image and mean caption under ``post``, (d,) each.
            images: Number m of images, at least 2.
            expected: tr V.
            freedom: ν.
            mismatched: Mean score of mismatched pairs, or None.
            center: Its expectation.
            error: Its standard error.
        """
        squared = float(((means[0] - means[1]) ** 2).sum())
        critical = expected * float(special.fdtri(freedom, freedom * (images - 1), 1 - FALSE_ALARMS))
        allowed = max(-error * float(special.stdtrit(images - 1, FALSE_ALARMS / 2)), SMALLEST_SHIFT)
        fits = squared <= max(critical, expected + LOW_SEVERITY**2)
        fits &= mismatched is None or abs(mismatched - center) <= allowed
        return cls(statistics, squared**0.5, expected**0.5, mismatched, center, error, fits)

    @classmethod
    def of_means(
        cls, statistics: Statistics, image_mean: Floats, caption_mean: Floats, images: int, captions: int
    ) -> Self | None:
        """Judge the fit from the means of a corpus under ``post``, with upper bounds of the expected values.

        The total variance of images is 1 − ‖mean‖², because they are unit vectors; likewise for captions, which count
        as one draw per image. All pairs count as mismatched, because matched pairs are only a small share of them.

        Args:
            statistics: The statistics.
            image_mean: Mean of the distinct images, (d,).
            caption_mean: Mean of the distinct captions, (d,).
            images: Number of distinct images.
            captions: Number of distinct captions.

        Returns:
            None with fewer than two images or captions.
        """
        if min(images, captions) < 2:
            return None
        variances = [max(1.0 - float(mean @ mean), 0.0) for mean in (image_mean, caption_mean)]
        scale = 1.0 / min(images, captions) + 1.0 / statistics.image.count
        error = scale * (2.0 * variances[0] * variances[1]) ** 0.5
        means, mismatched = (image_mean, caption_mean), float(image_mean @ caption_mean)
        return cls.judge(statistics.name, means, images, scale * sum(variances), 1.0, mismatched, 0.0, error)

    @property
    def notes(self) -> list[str]:
        """A note with the figures and, if the statistics do not fit, a second one for a warning."""
        left = f"the modality gap under post is {self.centroid_distance:.3f}"
        figures = f"{left} (expected for a sample of this size: {self.expected_distance:.3f})"
        if self.mismatched is not None:
            shift = f", and the mean I0TScore of mismatched pairs is {self.mismatched:.3f}"
            left += shift
            figures += f"{shift} (expected: {self.expected_mismatched:.3f} ± {self.mismatched_error:.3f})"
        head = "The statistics {} fit this run" if self.fits else "Fit of the statistics {}"
        notes = [f"{head.format(repr(self.statistics))}: {figures}."]
        if not self.fits:
            shifted = self.mismatched is None or abs(self.mismatched - self.expected_mismatched) > SMALLEST_SHIFT
            zero = "A score near 0 does not mean that a caption is unrelated, and percentiles"
            notes.append(
                f"The statistics {self.statistics!r} do not fit this run: {left}. {zero if shifted else 'Percentiles'} "
                "and p(match) are not valid. If your images or captions are of another kind, fit statistics to similar "
                "images with their own captions (`i0tscore fit captions.json images/ --output stats.safetensors`), and "
                "score with `--statistics stats.safetensors`. If a captioner wrote similar captions for many images, "
                "other statistics may not help; scores under the same statistics remain comparable."
            )
        return notes


def measure_fit(run: EncodedRun, statistics: Statistics) -> StatisticsFit | None:
    """Measure how well statistics fit a run.

    The run and the statistics are taken as two samples of one population, of m images and of N pairs, and each image
    with its captions as one draw. Then the difference D of the run's mean image and mean caption has a covariance V,
    estimated from the m draws and multiplied by 1 + m/N for the sampling of the statistics. So E‖D‖² = tr V, and
    ‖D‖²/tr V has about the distribution F(ν, ν(m − 1)) with ν = (tr V)²/tr V² (Satterthwaite). The mean score of
    mismatched pairs is the product of both means without the run's own pairs. Its expectation is m/N times tr C, with
    C the covariance between both means over draws, and its variance is (1 + m/N)²(tr VxVy + tr C²), since it is a
    degenerate U-statistic.

    Statistics do not fit if a difference is significant at a false-alarm rate of 1 in 1,000 *and* large: an excess
    distance √(‖D‖² − tr V) of .19, from which An et al. 2025 no longer call a gap low, or a mean score of mismatched
    pairs that differs from its expected value by .1, about the standard deviation of the scores of single mismatched
    pairs. Large runs always differ slightly from statistics of other data, which is harmless.

    Args:
        run: A run standardized under ``post``. Equal images and equal captions count once, as does each pair of them.
        statistics: The statistics.

    Returns:
        None with fewer than two images that have a direction.
    """
    pairs = np.unique(np.stack([run.image_index, run.text_index], axis=1), axis=0)
    scores = np.concatenate(
        [
            dot(run.images[part[:, 0]].astype(np.float64), run.texts[part[:, 1]].astype(np.float64))
            for part in (pairs[rows] for rows in chunks(len(pairs)))
        ]
    )
    defined = ~np.isnan(scores)
    (kept, image), (used, text) = (np.unique(rows, return_inverse=True) for rows in pairs[defined].T)
    m, k = len(kept), len(used)
    if m < 2:
        return None
    sums = VectorSum.of(View(run.images, kept)), VectorSum.of(View(run.texts, used))
    means = sums[0].total / m, sums[1].total / k
    own = float(scores[defined].sum())
    mismatched = (m * k * float(means[0] @ means[1]) - own) / (m * k - len(image)) if m * k > len(image) else None
    owners = image[np.unique(text, return_index=True)[1]]  # of a caption of several images, the first
    order = np.argsort(owners, kind="stable")
    vx, vy, c = np.zeros((3, len(means[0]), len(means[0])))
    for block in chunks(m):
        a = (run.images[kept[block]] - means[0]) / m
        captions = order[slice(*np.searchsorted(owners[order], (block.start, block.stop)))]
        b = np.zeros_like(a)
        np.add.at(b, owners[captions] - block.start, (run.texts[used[captions]] - means[1]) / k)
        for total, product in ((vx, a.T @ a), (vy, b.T @ b), (c, a.T @ b)):
            total += m / (m - 1) * product
    inflation = 1.0 + m / statistics.image.count
    v = inflation * (vx + vy - c - c.T)
    expected = float(np.trace(v))
    freedom = expected**2 / (float((v * v).sum()) or 1.0) or 1.0
    error = inflation * max(float((vx * vy).sum() + (c * c.T).sum()), 0.0) ** 0.5
    center = (inflation - 1.0) * float(np.trace(c))
    return StatisticsFit.judge(statistics.name, means, m, expected, freedom, mismatched, center, error)
