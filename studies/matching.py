"""How well scores separate matched from mismatched pairs, with statistics of other pairs, few pairs, or other data.

The gap reports contain these figures. AUC is the probability that a matched pair scores higher than a mismatched one:
``auc`` over all pairs, as a threshold or a sorted list of pairs needs it, and ``within`` between an image's own caption
and the captions of other images, as a choice among captions of one image needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from human_judgments.report import Data, difference, estimate, percent
from i0tscore.gap import NONE, POST, GapStatistics, Moments, Standardizer, Statistics, centroid_distance, normalize
from i0tscore.gap.standardizers import all_standardizers
from i0tscore.render.document import UNDEFINED, Table
from i0tscore.results import Resampling
from i0tscore.results.comparison import compare_means
from i0tscore.results.intervals import Estimate, bootstrap_mean, format_estimate

Vectors = NDArray[np.float32]
Values = NDArray[np.float64]

COMPARED = [s for s in all_standardizers() if s.name in ("post", "dn", "covariance")]
CURVE = tuple(map(Standardizer.parse, ("post", "post(0.5)", "dn(0.25)", "covariance(0.2)")))
SIZES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
DRAWS = 10
COSINES = (0.15, 0.2, 0.25, 0.28, 0.3)
PROBABILITIES = (0.1, 0.25, 0.5, 0.75, 0.9)
IDENTICAL = 1 - 1e-5
"""Cosine from which two images, or two captions, count as the same."""

LEGEND = (
    "AUC: probability that a matched pair scores higher than a mismatched one, over all pairs. Within: the same for an "
    "image's own caption and the captions of other images, averaged over images. Both × 100. Intervals resample "
    "images; those of AUC use its first-order (Hájek) projection, one value per image whose mean is the AUC."
)


@dataclass(frozen=True, eq=False)
class MatchedPairs:
    """Unit embeddings of images (n, d) with one caption each (n, d), row by row."""

    images: Vectors
    captions: Vectors

    @cached_property
    def same(self) -> NDArray[np.bool_]:
        """Whether two rows have the same image, shape (n, n)."""
        found: NDArray[np.bool_] = self.images @ self.images.T >= IDENTICAL
        return found

    @cached_property
    def clusters(self) -> NDArray[np.int64]:
        """First row with the same image, shape (n,)."""
        first: NDArray[np.int64] = self.same.argmax(axis=1)
        return first

    @cached_property
    def mismatched(self) -> NDArray[np.bool_]:
        """Whether image i and caption j are a mismatched pair: neither their images nor their captions are the same."""
        found: NDArray[np.bool_] = ~self.same & (self.captions @ self.captions.T < IDENTICAL)
        return found

    def part(self, rows: NDArray[np.int64]) -> MatchedPairs:
        """Return some of the pairs."""
        return MatchedPairs(self.images[rows], self.captions[rows])

    def statistics(self) -> GapStatistics:
        """Return the means and the covariance of these pairs."""
        x, y = Moments.of(self.images), Moments.of(self.captions)
        return GapStatistics(x.mean, y.mean, x.covariance + y.covariance)

    def standardized(self, standardizer: Standardizer, statistics: GapStatistics) -> tuple[Values, Values]:
        """Return the standardized vectors."""
        x = standardizer.apply(self.images, statistics, "image")
        y = standardizer.apply(self.captions, statistics, "caption")
        return x.astype(np.float64), y.astype(np.float64)

    def values(self, standardizer: Standardizer, statistics: GapStatistics) -> dict[str, Values]:
        """Return one value per image for ``auc`` and for ``within``, with these as means."""
        x, y = self.standardized(standardizer, statistics)
        return auc_values(x @ y.T, self.mismatched)

    def gap(self, standardizer: Standardizer, statistics: GapStatistics) -> float:
        """Return the centroid distance of the standardized vectors, scaled to unit length."""
        x, y = self.standardized(standardizer, statistics)
        return centroid_distance(normalize(x), normalize(y))


def auc_values(scores: Values, mismatched: NDArray[np.bool_]) -> dict[str, Values]:
    """Return one value per image whose mean is the AUC of matched against mismatched pairs.

    For ``auc``, over all pairs, the value of an image is the first-order projection of the U-statistic: its part as a
    matched pair and its parts in mismatched ones, as in DeLong et al. 1988. For ``within``, it is the share of other
    captions that score lower with the image than its own. Ties count half.

    Args:
        scores: Score of image i with caption j (n, n), matched on the diagonal.
        mismatched: Which of them are mismatched (n, n).
    """
    n, matched = len(scores), np.diag(scores)
    lower = _share_below(scores[mismatched], matched)
    higher = np.where(mismatched, 1 - _share_below(matched, scores), 0.0)
    auc, weight = float(lower.mean()), n / mismatched.sum()
    projected = [weight * (higher.sum(axis) - auc * mismatched.sum(axis)) for axis in (0, 1)]
    own = matched[:, None]
    below = np.where(mismatched, (scores < own) + (scores == own) / 2, 0.0)
    return {"auc": lower + projected[0] + projected[1], "within": below.sum(1) / mismatched.sum(1)}


def _share_below(values: Values, thresholds: Values) -> Values:
    """Return the share of values below each threshold; ties count half."""
    ordered = np.sort(values)
    counts = np.searchsorted(ordered, thresholds, "left") + np.searchsorted(ordered, thresholds, "right")
    return counts / (2 * len(values))


def shrunk(pairs: MatchedPairs, prior: GapStatistics) -> tuple[GapStatistics, tuple[float, float]]:
    """Return the means of pairs moved toward foreign ones, and the weights of the pairs' own means.

    A modality without a foreign mean keeps its own. Otherwise, its weight w minimizes the leave-one-out error
    Σ ‖v_i − w μ_(−i) − (1 − w) μ_prior‖², which has a closed form.
    """
    means, weights = [], []
    for vectors, toward in ((pairs.images, prior.image_mean), (pairs.captions, prior.caption_mean)):
        if toward is None:
            means.append(vectors.mean(axis=0, dtype=np.float64))
            weights.append(1.0)
            continue
        rows = vectors.astype(np.float64) - toward
        others = (rows.sum(0) - rows) / (len(rows) - 1)
        weight = float(((rows * others).sum() / (others * others).sum()).clip(0, 1))
        means.append(toward + weight * rows.mean(0))
        weights.append(weight)
    return GapStatistics(*means), (weights[0], weights[1])


def matching_data(
    pairs: MatchedPairs,
    others: MatchedPairs,
    name: str,
    resampling: Resampling,
    *,
    foreign: Mapping[str, GapStatistics] | None = None,
    runs: MatchedPairs | None = None,
) -> Data:
    """Measure everything.

    Args:
        pairs: The pairs that are scored.
        others: Pairs that statistics come from.
        name: Name of ``others``.
        resampling: Settings of the intervals.
        foreign: Means of other corpora by name; without a mean caption, that of ``others`` is used. Own means are
            shrunk toward the first.
        runs: Pairs to divide into runs with their own statistics; ``pairs`` if None.
    """
    none = pairs.values(NONE, GapStatistics())
    means = {name: others.statistics()}
    for corpus, known in (foreign or {}).items():
        captions = means[name].caption_mean if known.caption_mean is None else known.caption_mean
        means[corpus] = GapStatistics(known.image_mean, captions)
    tried = [(s, source) for source, known in means.items() for s in COMPARED if known.has(s.spec.need)]
    values = {"none": none, **{f"{s}, {source}": pairs.values(s, means[source]) for s, source in tried}}
    gaps = {"none": pairs.gap(NONE, GapStatistics())}
    gaps |= {f"{s}, {source}": pairs.gap(s, means[source]) for s, source in tried}
    differences = {
        key: {
            kind: _differences({n: v[kind] for n, v in values.items()}, pairs, baseline, resampling)
            for kind in ("auc", "within")
        }
        for key, baseline in (("from_none", "none"), ("from_post", f"{POST}, {name}"))
    }
    sizes = [size for size in SIZES if size < len(others.images)]
    prior = next(iter(foreign.items()), None) if foreign else None
    return {
        "pairs": len(pairs.images),
        "images": len(np.unique(pairs.clusters)),
        "mismatched_pairs": int(pairs.mismatched.sum()),
        "conditions": {
            n: {"gap": gaps[n], **{kind: _estimate(v, pairs, resampling).to_dict() for kind, v in found.items()}}
            for n, found in values.items()
        },
        **differences,
        "prior": None if prior is None else prior[0],
        "sizes": [_size(pairs, others, size, none, prior, resampling) for size in [*sizes, len(others.images)]],
        "runs": list(_runs(runs or pairs, resampling)),
        "kept": list(_kept(pairs, others, resampling)),
    }


def _estimate(values: Values, pairs: MatchedPairs, resampling: Resampling) -> Estimate:
    return Estimate(float(values.mean()), bootstrap_mean(values, pairs.clusters, resampling))


def _differences(
    values: Mapping[str, Values], pairs: MatchedPairs, baseline: str, resampling: Resampling
) -> dict[str, Data]:
    compared = compare_means(values, pairs.clusters, baseline, resampling=resampling)
    return {found.first: found.to_dict() for found in compared}


def _size(
    pairs: MatchedPairs,
    others: MatchedPairs,
    size: int,
    none: Mapping[str, Values],
    prior: tuple[str, GapStatistics] | None,
    resampling: Resampling,
) -> Data:
    """Compare statistics of the first pairs of several shuffles of others (seeds 0, 1, …) with no standardizer."""
    count = len(others.images)
    orders = [np.random.default_rng(seed).permutation(count)[:size] for seed in range(DRAWS if size < count else 1)]
    drawn = [others.part(order) for order in orders]
    own = [part.statistics() for part in drawn]
    mixed = [] if prior is None else [shrunk(part, prior[1]) for part in drawn]
    known = {str(s): (s, own) for s in CURVE}
    known |= {f"{s}, shrunk": (s, [m for m, _ in mixed]) for s in CURVE if mixed and mixed[0][0].has(s.spec.need)}
    values = {n: [pairs.values(s, one)["auc"] for one in known_means] for n, (s, known_means) in known.items()}
    mean = {n: np.mean(found, axis=0) for n, found in values.items()}
    compared = _differences({"none": none["auc"], **mean}, pairs, "none", resampling)
    rows = {}
    for n, (s, known_means) in known.items():
        of_draws = [float(found.mean() - none["auc"].mean()) for found in values[n]]
        gaps = [pairs.gap(s, one) for one in known_means]
        rows[n] = {"gap": float(np.mean(gaps)), "draws": [min(of_draws), max(of_draws)], "from_none": compared[n]}
        if n.endswith(", shrunk"):
            both = {"own": mean[str(s)], "shrunk": mean[n]}
            rows[n]["from_own"] = _differences(both, pairs, "own", resampling)["shrunk"]
    weights = np.mean([w for _, w in mixed], axis=0).tolist() if mixed else None
    return {"count": size, "draws": len(drawn), "weights": weights, "conditions": rows}


def _runs(pairs: MatchedPairs, resampling: Resampling) -> Iterator[Data]:
    """Divide pairs into runs of one size, and compare scores with each run's own means with raw cosines."""
    order = np.random.default_rng(0).permutation(len(pairs.images))
    for size in SIZES:
        count = len(order) // size
        if count < 2:
            return
        found: dict[str, list[float]] = {"none": [], "post": [], "mismatched": []}
        for rows in order[: count * size].reshape(count, size):
            run = pairs.part(rows)
            own = run.statistics()
            x, y = run.standardized(POST, own)
            scores = x @ y.T
            found["none"].append(float(run.values(NONE, own)["auc"].mean()))
            found["post"].append(float(auc_values(scores, run.mismatched)["auc"].mean()))
            found["mismatched"].append(float(scores[run.mismatched].mean()))
        values = {name: np.array(column) for name, column in found.items()}
        mismatched = values.pop("mismatched")
        (compared,) = compare_means(values, None, "none", resampling=resampling)
        unrelated = Estimate(float(mismatched.mean()), bootstrap_mean(mismatched, range(count), resampling))
        yield {"count": size, "runs": count, "from_none": compared.to_dict(), "mismatched": unrelated.to_dict()}


def _kept(pairs: MatchedPairs, others: MatchedPairs, resampling: Resampling) -> Iterator[Data]:
    """Yield the shares of matched and mismatched pairs at or above thresholds of the cosine and of p_match."""
    fitted = Statistics.fit(others.images, others.captions, name="").with_reference(
        others.images, others.captions, others.clusters
    )
    cosines, standardized = pairs.images @ pairs.captions.T, pairs.standardized(POST, fitted.gap_statistics)
    p_match = fitted.reference[str(POST)].p_match(standardized[0] @ standardized[1].T)
    for kind, scores, thresholds in (("cosine", cosines, COSINES), ("p_match", p_match, PROBABILITIES)):
        for threshold in thresholds:
            above = scores >= threshold
            rows = (above & pairs.mismatched).sum(1) / pairs.mismatched.sum(1)
            shares = {"matched": np.diag(above).astype(np.float64), "mismatched": rows}
            estimates = {name: _estimate(share, pairs, resampling).to_dict() for name, share in shares.items()}
            yield {"score": kind, "threshold": threshold, **estimates}


def matching_blocks(data: Data, resamples: int) -> list[str | Table]:
    """Render the figures."""
    found = data["conditions"]
    rows = [
        [name, f"{one['gap']:.3f}", percent(one["auc"], digits=2), percent(one["within"], digits=2)]
        + [
            difference(data[baseline][kind].get(name), resamples, digits=2)
            for baseline, kind in (("from_none", "auc"), ("from_none", "within"), ("from_post", "auc"))
        ]
        for name, one in found.items()
    ]
    header = ["statistics", "CD", "AUC", "within", "AUC from none", "within from none", "AUC from post"]
    runs = [
        [str(r["count"]), str(r["runs"]), difference(r["from_none"], resamples, digits=2), _score(r["mismatched"])]
        for r in data["runs"]
    ]
    kept = [
        [r["score"], f"≥ {r['threshold']:g}", percent(r["matched"]), percent(r["mismatched"])] for r in data["kept"]
    ]
    return [
        f"## Matched against mismatched\n\n{data['pairs']:,} matched pairs of {data['images']:,} images, and all "
        f"{data['mismatched_pairs']:,} pairs of an image with a caption of another image, except equal captions. "
        f"{LEGEND} p is two-sided, with Holm's correction for the comparisons of a column.",
        Table(header, rows),
        f"### With statistics of few pairs\n\nDifference in AUC from none, averaged over {DRAWS} samples of that many "
        "pairs, with the interval over images; in brackets, the range over samples. CD is the distance that remains "
        "between the modalities. The covariance of n pairs spans at most 2(n − 1) dimensions, and `covariance` removes "
        "the others, so it needs more pairs than half the dimensions.",
        *_size_blocks(data, resamples),
        "### With the statistics of the run itself\n\nThe pairs are divided into runs of one size, and each run is "
        "scored with its own means (`--statistics batch`), so only pairs of one run are compared. Intervals over runs. "
        "`mismatched`: mean I0TScore of mismatched pairs, which the run's own mean pushes below 0.",
        Table(["pairs in a run", "runs", "AUC of post from none", "mismatched"], runs),
        "### What a threshold keeps\n\nShare in % of matched pairs, and of mismatched pairs (averaged over images), "
        "that score at least the threshold. `p_match` is that of I0TScore with statistics and reference distributions "
        "of the other pairs, as `i0tscore fit` computes them.",
        Table(["score", "threshold", "matched", "mismatched"], kept, left=2),
    ]


def _size_blocks(data: Data, resamples: int) -> Iterator[str | Table]:
    sizes: Sequence[Data] = data["sizes"]
    names = [str(s) for s in CURVE]
    rows = []
    for size in sizes:
        one = size["conditions"]
        cells = [f"{size['count']:,}", str(size["draws"]), f"{one[names[0]]['gap']:.3f}"]
        rows.append([*cells, *(_curve_cell(one[name], resamples) for name in names)])
    yield Table(["pairs", "samples", "CD under post", *names], rows)
    if data["prior"] is None:
        return
    yield (
        f"The same means moved toward those of {data['prior']}. Each modality's weight of the own mean is chosen by "
        "leave-one-out cross-validation on the sample (squared distance to the left-out embedding). Difference in AUC "
        "from own means alone:"
    )
    names = [name for name in sizes[0]["conditions"] if name.endswith(", shrunk")]
    rows = []
    for size in sizes:
        one, (image, caption) = size["conditions"], size["weights"]
        cells = [f"{size['count']:,}", f"{image:.2f}", f"{caption:.2f}", f"{one['post']['gap']:.3f}"]
        shrunken = [difference(one[name]["from_own"], resamples, digits=2) for name in names]
        rows.append([*cells, f"{one[f'{POST}, shrunk']['gap']:.3f}", *shrunken])
    header = ["pairs", "weight of own images", "of own captions", "CD under post, own", "CD under post, shrunk"]
    yield Table([*header, *names], rows)


def _curve_cell(row: Data, resamples: int) -> str:
    low, high = (100 * value for value in row["draws"])
    return f"{percent(row['from_none'], signed=True, digits=2)} [{low:+.2f}, {high:+.2f}]" if resamples else UNDEFINED


def _score(stored: Data) -> str:
    return format_estimate(estimate(stored), signed=True)
