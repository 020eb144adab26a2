"""Whether a threshold keeps its promise: precision and recall of filtering corpora with known mismatched pairs.

Run ``python -m studies.filtering``.

A corpus consists of images with their own captions and of a share of captions of other images. Precision and recall are
those expected over all choices of the mismatched captions: every pair of an image with a caption of another image
counts, weighted to the stated share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from human_judgments.blv_kreiss2022 import read_kreiss
from human_judgments.report import Data, Page, bullets, command_block, dot_plot, intervals_note, percent
from human_judgments.script import Arguments, script
from i0tscore.errors import StatisticsError
from i0tscore.gap import NONE, POST, Standardizer, Statistics
from i0tscore.metrics.statistics_choice import builtin_statistics
from i0tscore.render.document import UNDEFINED, Table
from i0tscore.results import Resampling
from i0tscore.results.intervals import Estimate, cluster_weights, percentile_interval
from i0tscore.results.selection import precision_threshold
from studies.embedder import Embedder, encoder_note, open_embedder, rows
from studies.explanations import LITE
from studies.flickr8k import CAPTIONS_PER_IMAGE, read_split

SCHEMA = "i0tscore.filtering/1"
MISMATCHED = (0.1, 0.3, 0.5)
PRECISIONS = (0.9, 0.95, 0.99)
FIGURES = ("precision", "recall")
DRAWS = 10
FLICKR8K, BLV = "Flickr8k test", "descriptions for blind and low-vision readers"

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Unit embeddings of images (n, d) and of captions (m, d), and the image of each caption (m,)."""

    images: NDArray[np.float32]
    captions: NDArray[np.float32]
    owner: NDArray[np.int64]

    def scores(self, standardizer: Standardizer, statistics: Statistics) -> Values:
        """Return the score of each image with each caption (n, m)."""
        x, y = statistics.standardize(standardizer, self.images, self.captions)
        return (x @ y.T).astype(np.float64)

    def mixed(self, seed: int, mismatched: float) -> NDArray[np.int64]:
        """Return the image of each caption (m,) after a share of the captions got another image."""
        generator = np.random.default_rng(seed)
        moved = generator.random(len(self.owner)) < mismatched
        shift = generator.integers(1, len(self.images), len(self.owner))
        return np.where(moved, (self.owner + shift) % len(self.images), self.owner)

    def fitted(self, captions: NDArray[np.int64], owner: NDArray[np.int64]) -> Statistics:
        """Return statistics with reference distributions of captions (k,) with images (k,)."""
        x, y = self.images[owner], self.captions[captions]
        return Statistics.fit(x, y, name="own").with_reference(x, y, owner)

    def split(self, scores: Values) -> tuple[Values, Values]:
        """Return the sorted scores of matched and of mismatched pairs."""
        own = self.owner == np.arange(len(self.images))[:, None]
        return np.sort(scores[own]), np.sort(scores[~own])


@dataclass(frozen=True, eq=False)
class Kept:
    """How many captions are kept and how many there are, by image.

    Attributes:
        matched: Kept captions with their own image (n,).
        captions: Captions of each image (n,).
        mismatched: Kept captions of image j with image i (n, n).
        pairs: Number of such pairs that could be kept (n, n).
    """

    matched: Values
    captions: Values
    mismatched: Values
    pairs: Values

    @classmethod
    def of(cls, corpus: Corpus, kept: NDArray[np.bool_], possible: NDArray[np.bool_]) -> Kept:
        """Count pairs (n, m) that are kept among those that are possible."""
        belongs = np.eye(len(corpus.images))[corpus.owner]
        counts, pairs = (kept & possible) @ belongs, possible @ belongs
        own = np.eye(len(counts), dtype=np.bool_)
        return cls(np.diag(counts), np.diag(pairs), np.where(own, 0, counts), np.where(own, 0, pairs))

    @classmethod
    def mean(cls, parts: Sequence[Kept]) -> Kept:
        """Return the average of counts of the same corpus."""
        matched, mismatched = (
            np.mean([getattr(one, name) for one in parts], axis=0) for name in ("matched", "mismatched")
        )
        return replace(parts[0], matched=matched, mismatched=mismatched)

    def figures(self, mismatched: float, weights: NDArray[Any]) -> tuple[float, float]:
        """Return precision and recall of a corpus with a share of mismatched pairs, images counted by weights (n,)."""
        recall = float(weights @ self.matched / (weights @ self.captions))
        pairs = weights @ self.pairs @ weights
        false = float(weights @ self.mismatched @ weights / pairs) if pairs else np.nan
        good, bad = (1 - mismatched) * recall, mismatched * false
        return (good / (good + bad) if good + bad > 0 else np.nan), recall

    def estimates(self, mismatched: float, resampling: Resampling) -> dict[str, Data]:
        """Return both figures with intervals over images."""
        n = len(self.captions)
        observed = self.figures(mismatched, np.ones(n))
        draws = [self.figures(mismatched, w) for w in cluster_weights(np.arange(n), n, resampling)]
        columns = np.array(draws).reshape(-1, 2).T
        return {
            name: Estimate(
                None if np.isnan(value) else value, percentile_interval(column, resampling.confidence, n)
            ).to_dict()
            for name, value, column in zip(FIGURES, observed, columns, strict=True)
        }


class Choice(NamedTuple):
    """A threshold, what it keeps, and in how many draws of mismatched captions the precision is within reach."""

    threshold: float
    kept: Kept
    draws: int | None = None


Choose = Callable[[float, float], Choice]
"""Chooses a threshold for a precision and a share of mismatched pairs; raises ``StatisticsError`` out of reach."""


def whole(corpus: Corpus, scores: Values, threshold: float) -> Kept:
    """Count what a threshold keeps of all pairs."""
    return Kept.of(corpus, scores >= threshold, np.ones_like(scores, dtype=np.bool_))


def _shipped(standardizer: Standardizer, statistics: Statistics, corpus: Corpus) -> Choose:
    scores = corpus.scores(standardizer, statistics)
    reference = statistics.reference[str(standardizer)]

    def measure(precision: float, mismatched: float) -> Choice:
        found = precision_threshold("", reference.matched, reference.mismatched, precision, 1 - mismatched)
        return Choice(found.value, whole(corpus, scores, found.value))

    return measure


def _halves(corpus: Corpus, seed: int) -> Choose:
    """Return a function that fits to one half of the images, and keeps pairs of the other half, both ways."""
    side = np.random.default_rng(seed).permutation(len(corpus.images)) % 2
    parts = []
    for half in (0, 1):
        others = np.flatnonzero(side[corpus.owner] != half)
        fitted = corpus.fitted(others, corpus.owner[others])
        possible = (side[:, None] == half) & (side[corpus.owner] == half)
        parts.append((fitted.reference[str(POST)], corpus.scores(POST, fitted), possible))

    def measure(precision: float, mismatched: float) -> Choice:
        kept, thresholds = np.zeros_like(parts[0][2]), []
        for reference, scores, possible in parts:
            found = precision_threshold("", reference.matched, reference.mismatched, precision, 1 - mismatched)
            thresholds.append(found.value)
            kept |= possible & (scores >= thresholds[-1])
        return Choice(float(np.mean(thresholds)), Kept.of(corpus, kept, parts[0][2] | parts[1][2]))

    return measure


def _own(corpus: Corpus, seed: int, *, mixed: bool) -> Choose:
    """Return a function that fits to the corpus itself, mismatched pairs included, averaged over ``DRAWS`` of these.

    Args:
        corpus: The corpus.
        seed: Seed of the first draw.
        mixed: Whether the precision is that of ``--precision-from input``; else, all pairs are taken for matched.
    """
    rows = np.arange(len(corpus.owner))

    def measure(precision: float, mismatched: float) -> Choice:
        thresholds, kept = [], []
        for draw in range(DRAWS):
            owner = corpus.mixed(seed + draw, mismatched)
            fitted = corpus.fitted(rows, owner)
            scores, reference = corpus.scores(POST, fitted), fitted.reference[str(POST)]
            own = np.sort(scores[owner, rows]) if mixed else reference.matched
            with suppress(StatisticsError):
                found = precision_threshold("", own, reference.mismatched, precision, 1 - mismatched, mixed=mixed)
                thresholds.append(found.value)
                kept.append(whole(corpus, scores, found.value))
        if not kept:
            raise StatisticsError("No draw reaches the precision.")
        return Choice(float(np.mean(thresholds)), Kept.mean(kept), len(kept))

    return measure


def _fixed(corpus: Corpus, other: Corpus, statistics: Statistics) -> Choose:
    scores, reference = corpus.scores(NONE, statistics), other.split(other.scores(NONE, statistics))

    def measure(precision: float, mismatched: float) -> Choice:
        threshold = precision_threshold("", *reference, precision, 1 - mismatched).value
        return Choice(threshold, whole(corpus, scores, threshold))

    return measure


METHODS = {
    "shipped": "I0TScore, `--keep-precision` with the shipped statistics (Flickr8k's training images)",
    "halves": "I0TScore, `--keep-precision` with statistics fitted to matched pairs of the other half of the images",
    "own": "I0TScore, `--keep-precision` and `--precision-from input` with statistics fitted to the corpus itself, "
    "mismatched pairs included",
    "as matched": "I0TScore, `--keep-precision` with the same statistics, which count all pairs as matched",
    "cosine": "cosine, `--keep-precision` with the shipped statistics",
    "fixed": "cosine, fixed threshold that has this precision on the other set",
}
"""How thresholds are chosen, by key."""


def measure(corpora: Mapping[str, Corpus], statistics: Statistics, resampling: Resampling) -> list[dict[str, Any]]:
    """Return precision and recall on each corpus, for each share of mismatched pairs, promise, and method."""
    found = []
    for (name, corpus), other in zip(corpora.items(), [*corpora.values()][::-1], strict=True):
        methods = {
            "shipped": _shipped(POST, statistics, corpus),
            "halves": _halves(corpus, resampling.seed),
            "own": _own(corpus, resampling.seed, mixed=True),
            "as matched": _own(corpus, resampling.seed, mixed=False),
            "cosine": _shipped(NONE, statistics, corpus),
            "fixed": _fixed(corpus, other, statistics),
        }
        for mismatched in MISMATCHED:
            for promise in PRECISIONS:
                if promise <= 1 - mismatched:
                    continue  # keeping everything has this precision
                for method, choose in methods.items():
                    row: dict[str, Any] = {"set": name, "mismatched": mismatched, "promise": promise, "method": method}
                    try:
                        threshold, kept, draws = choose(promise, mismatched)
                    except StatisticsError:
                        undefined = {"value": None, "interval": None}
                        found.append({**row, "threshold": None, "draws": None} | dict.fromkeys(FIGURES, undefined))
                        continue
                    estimates = kept.estimates(mismatched, resampling)
                    found.append({**row, "threshold": threshold, "draws": draws, **estimates})
    return found


def render(data: Data) -> Page:
    """Render the report."""
    blocks: list[str | Table] = [
        "This report measures whether a threshold has the precision that it promises: the share of matched pairs among "
        f"the pairs kept, with the model {data['model']['name']}. Recall is the share of matched pairs that are kept. "
        f"{command_block(data)}",
        f"{intervals_note(data, 'images')} They leave the thresholds fixed. All figures × 100. Each corpus consists of "
        "matched pairs and a share of mismatched ones; a figure is the one expected over all choices of the mismatched "
        "captions. `--prior` is the true share of matched pairs. A dash: no threshold is expected to reach the "
        "precision.",
        "Thresholds:\n\n" + "\n".join(f"* {name}: {text}" for name, text in METHODS.items()),
    ]
    for name, size in data["sets"].items():
        blocks.append(f"## {name}\n\n{size['captions']:,} captions of {size['images']:,} images.")
        table = [
            [
                f"{row['mismatched']:.0%}",
                f"{100 * row['promise']:g}",
                row["method"],
                _threshold_cell(row),
                percent(row["precision"]),
                percent(row["recall"]),
            ]
            for row in data["rows"]
            if row["set"] == name
        ]
        header = ["mismatched", "promised precision", "threshold by", "threshold", "precision", "recall"]
        blocks.append(Table(header, table, left=3))
    blocks.append(f"## Conditions\n\n{bullets(data['notes'])}")
    shown = [row for row in data["rows"] if row["promise"] == PRECISIONS[0] and row["mismatched"] == MISMATCHED[-1]]
    figure = {f"{row['set'].partition(' ')[0]}, {row['method']}": row["precision"] for row in shown}
    title = f"Precision where {PRECISIONS[0]:.0%} is promised, {MISMATCHED[-1]:.0%} mismatched"
    return Page(f"Filtering, model {data['model']['name']}", blocks, dot_plot(title, "precision × 100", figure))


def _threshold_cell(row: Data) -> str:
    if row["threshold"] is None:
        return UNDEFINED
    partly = row["draws"] is not None and row["draws"] < DRAWS
    return f"{row['threshold']:.3f}" + (f" ({row['draws']} of {DRAWS} draws)" if partly else "")


def _flickr8k(embedder: Embedder, arguments: Arguments) -> Corpus:
    split = read_split(arguments.folder(), "test")
    images = split.images[: arguments.limit]
    captions = split.captions[: CAPTIONS_PER_IMAGE * len(images)]
    owner = np.repeat(np.arange(len(images)), CAPTIONS_PER_IMAGE)
    return Corpus(rows(embedder.images(images)), rows(embedder.captions(captions)), owner)


def _blv(embedder: Embedder, arguments: Arguments) -> Corpus:
    samples = read_kreiss(arguments.folder() / "blv_kreiss2022").samples
    pairs = list(dict.fromkeys((str(sample.image), sample.caption) for sample in samples))
    images = list(dict.fromkeys(image for image, _ in pairs))
    owner = np.array([images.index(image) for image, _ in pairs])
    return Corpus(rows(embedder.images(images)), rows(embedder.captions([caption for _, caption in pairs])), owner)


@script("studies.filtering", render)
def main(arguments: Arguments) -> tuple[str, Data]:
    """Precision and recall of thresholds on corpora with known mismatched pairs."""
    with open_embedder(arguments.required_model()) as embedder:
        corpora = {FLICKR8K: _flickr8k(embedder, arguments), BLV: _blv(embedder, arguments)}
        statistics, fingerprint = builtin_statistics(embedder.fingerprint), embedder.fingerprint
    if statistics is None:
        raise StatisticsError(f"No statistics are shipped for {fingerprint.name}. Use --model lite.")
    return arguments.stem("filtering"), {
        "schema": SCHEMA,
        "command": arguments.command,
        "model": asdict(fingerprint),
        "resampling": asdict(arguments.resampling),
        "sets": {name: {"images": len(one.images), "captions": len(one.owner)} for name, one in corpora.items()},
        "rows": measure(corpora, statistics, arguments.resampling),
        "notes": [
            encoder_note(fingerprint),
            "halves: each half of the images is filtered with statistics of the other; mismatched pairs are within a "
            f"half. own, as matched: averages over {DRAWS} draws of the mismatched captions that statistics are fitted "
            "to, or over those in which the precision is within reach.",
            *[LITE] * (arguments.label == "lite"),
        ],
    }


if __name__ == "__main__":
    main()
