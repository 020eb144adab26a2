"""The modality gap and the tasks of An et al. 2025 under every standardizer.

Run ``python -m studies.gap`` for Flickr8k; ``studies.gap_pairs`` measures CLIP's embeddings of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from human_judgments.report import (
    Data,
    Page,
    bullets,
    command_block,
    difference,
    dot_plot,
    estimate,
    intervals_note,
    percent,
)
from human_judgments.script import Arguments, script
from i0tscore.gap import (
    NONE,
    POST,
    GapStatistics,
    Moments,
    NormalizationPair,
    Standardizer,
    Statistics,
    centroid_distance,
    dot,
    normalize,
)
from i0tscore.gap.measures import expected_residual_gap, severity
from i0tscore.gap.standardizers import NEAREST, HubnessBank, all_standardizers
from i0tscore.metrics.metric import PREFIX
from i0tscore.render.document import UNDEFINED, Table
from i0tscore.results import Resampling
from i0tscore.results.comparison import compare_means
from i0tscore.results.correlation import Agreement, agreement, agreement_differences
from i0tscore.results.gap import GapMeasures, measure_gap
from i0tscore.results.intervals import Difference, format_estimate
from i0tscore.results.retrieval import DEPTHS, CrossModalRanks, cross_modal_ranks
from i0tscore.samples.ratings import RatingSet
from i0tscore.training.i0t_async import AsyncRecipe, AsyncTrainer, CachedPairs
from i0tscore.views.report_views import GAP_LEGEND, HEADINGS
from studies.async_ablation import TRAINED, VARIANTS
from studies.classification import Classification, class_vectors, classify
from studies.embedder import Embedder, open_embedder, rows
from studies.flickr8k import CAPTIONS_PER_IMAGE, CLASSES_NOTE, Split, class_features, labeled_rows, read_split
from studies.matching import MatchedPairs, matching_blocks, matching_data
from studies.standardizers import Condition, RatedVectors, encode_ratings, read_expert

Vectors = NDArray[np.float32]
Differences = Mapping[str, Mapping[str, Difference]]

SCHEMA = "i0tscore.gap_report/1"
SIZES = (32, 64, 128, 256, 512, 1024, 2048, 6000)
DRAWS = 5

ASYNC = Standardizer("async")
BANK = 1000
SEED = 7
"""Seed of the training of ``async``, one of the paper's."""
SETTLED = 1000
"""Smallest number of pairs whose running statistics are momentum averages, as in the paper. With fewer, these would
stay near their initial values, so that every batch gets the same weight instead."""

TASKS = {
    "to_caption": "R@1 to captions",
    "to_image": "R@1 to images",
    "accuracy": "class accuracy",
    "expert": "Expert τ-c",
}
EXPERT = ("expert", "expert, clipped")
GAP = ("centroid_distance", "linear_separability", "modality_accuracy", "minimum_cosine_distance", "relative_gap")

IN_SAMPLE = "the test set's own"
LITE = (
    "lite is trained on Flickr8k's training images with the contrastive loss: its figures are not zero-shot, and "
    "statistics of training pairs are of pairs that the model has seen"
)
NOTES = (
    "the paper measures CLIP ViT-B/32, most often fine-tuned, on Flickr30k, CIFAR-100 and Birdsnap; with other data, "
    "compare the direction of changes, not their size",
    CLASSES_NOTE,
    "averaged templates are normalized and then standardized as captions are. As in the paper's code, the averaged "
    "vectors are either of unit length (Birdsnap there; class accuracy) or the output of the text tower (CIFAR-100 "
    "there; class accuracy, features averaged)",
    "class accuracy is class-balanced, as in the paper",
    "retrieval resamples queries; the gallery stays the same. Of equally similar items, mismatched ones rank first",
)

STAGE_1 = "CLIP ViT-B/32 fine-tuned on COCO with long captions (LCCOM)"
CLIP = "CLIP ViT-B/32"
RN50 = "CLIP RN50"
PUBLISHED_CONDITIONS = (
    "Centroid distance, LS and R@1 on Flickr30k's 1,000 test images with one caption each; class-balanced accuracy on "
    "CIFAR-100; Kendall's τ × 100 on Flickr8k-Expert (the paper does not say which τ; most likely τ-b of scores "
    "clipped at 0). I0T_post uses the means of the test set itself (in-sample). No intervals are published. "
    "The class accuracies of MG are doubtful: the authors' code shifts the class vectors once more with every "
    "batch of images."
)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the tables of An et al. 2025.

    Attributes:
        name: Name in the paper.
        table: Number of the table.
        model: Model.
        centroid_distance: CD.
        linear_separability: LS, 1 − MSE.
        to_caption: R@1 from image to caption in percent, one caption per image.
        to_image: R@1 from caption to image in percent.
        accuracy: Accuracy on CIFAR-100 in percent.
        expert: τ × 100 on Flickr8k-Expert.
    """

    name: str
    table: str
    model: str
    centroid_distance: float
    linear_separability: float
    to_caption: float
    to_image: float
    accuracy: float | None = None
    expert: float | None = None


ROWS = (
    Row("LCCOM", "1", STAGE_1, 0.9682, 0.9998, 73.70, 74.60, 64.17, 54.55),
    Row("LCCOM + LN*", "1", STAGE_1, 0.9696, 0.9998, 73.60, 74.10, 64.36, 54.52),
    Row("I0T_async", "1, 2", STAGE_1, 0.4795, 0.9960, 72.50, 73.80, 62.97, 53.33),
    Row("I0T_async without MCSIE", "8", STAGE_1, 0.442, 0.999, 70.9, 72.3),
    Row("I0T_post", "2", STAGE_1, 0.0102, 0.5374, 73.30, 76.30, 63.07, 53.97),
    Row("CLIP", "2", CLIP, 0.7642, 0.9985, 69.60, 67.10, 65.05, 51.00),
    Row("MG λ=.375", "2", CLIP, 0.0291, 0.5632, 45.40, 54.40, 43.26, 42.84),
    Row("MG λ=.5", "2", CLIP, 0.2493, 0.9858, 38.10, 46.50, 44.13, 39.70),
    Row("MG λ=−.5", "2", CLIP, 1.3799, 0.9998, 45.20, 54.40, 9.52),
    Row("CLIP RN50", "9", RN50, 0.7647, 0.9964, 71.30, 67.20),
    Row("CLIP RN50 + post", "9", RN50, 0.0097, -1.8497, 68.00, 70.30),
)
"""Tables 1, 2, 8 and 9."""

SAMPLE_SIZES = {
    32: (0.1880, 70.30, 73.00),
    64: (0.1387, 71.50, 73.30),
    128: (0.0986, 71.90, 73.90),
    256: (0.0710, 72.30, 73.70),
    512: (0.0542, 72.00, 74.00),
    1000: (0.0102, 73.30, 76.30),
}
"""Table 3: centroid distance, R@1 to captions and R@1 to images by number of pairs behind the means of I0T_post. The
1,000 pairs are the test set itself."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change by a standardizer in the paper's tables.

    Attributes:
        standardizer: Name of the standardizer in this package.
        after: Row with it.
        before: Row of the same model without it.
    """

    standardizer: str
    after: Row
    before: Row

    @property
    def name(self) -> str:
        """Names of both rows."""
        return f"{self.after.name} − {self.before.name}"

    def points(self) -> dict[str, float]:
        """Return the change in points by task that both rows have."""
        pairs = {f.name: (getattr(self.after, f.name), getattr(self.before, f.name)) for f in fields(Row)}
        return {task: round(a - b, 2) for task, (a, b) in pairs.items() if task in TASKS and None not in (a, b)}


_BY_NAME = {row.name: row for row in ROWS}
CHANGES = tuple(
    Change(standardizer, _BY_NAME[after], _BY_NAME[before])
    for standardizer, after, before in (
        ("post", "I0T_post", "LCCOM"),
        ("post", "CLIP RN50 + post", "CLIP RN50"),
        ("async", "I0T_async", "LCCOM"),
        ("shift(0.375)", "MG λ=.375", "CLIP"),
        ("shift(0.5)", "MG λ=.5", "CLIP"),
        ("shift(-0.5)", "MG λ=−.5", "CLIP"),
    )
)
"""Published changes that can be measured here too."""


def pair_statistics(images: Vectors, captions: Vectors, name: str) -> Statistics:
    """Return the moments of images (n, d) and captions (m, d), for use within this process."""
    return Statistics(name, "", "", "", Moments.of(images), Moments.of(captions))


def held_out_statistics(images: Vectors, captions: Vectors, name: str) -> Statistics:
    """Return moments of pairs (n, d), (n, d), a trained normalization, and a bank of up to 1,000 of the pairs.

    Hubness is measured by the 256 nearest items of the bank, as in NNN's code, but by no more than a quarter of it: the
    mean over a whole bank is the mean vector, and ``nnn`` would be ``dn``.
    """
    size = min(BANK, len(images))
    bank = HubnessBank.sample(images, captions, size, nearest=max(1, min(NEAREST, size // 4)))
    statistics = pair_statistics(images, captions, name).with_fitted(bank=bank)
    return _with_normalization(statistics, images, captions, _recipe(TRAINED, len(images)))


def conditions(held_out: Statistics) -> Iterator[Condition]:
    """Yield every standardizer, ``none`` first, with statistics of other pairs, if these have what it needs."""
    yield from _usable([*all_standardizers(), *_published()], held_out)


def published_conditions(own: Statistics) -> Iterator[Condition]:
    """Yield the standardizers of the paper's tables with statistics of the measured pairs, as in the paper."""
    yield from _usable(_published(), own)


def async_variants(statistics: Statistics, images: Vectors, captions: Vectors) -> Iterator[Condition]:
    """Yield ``async`` trained on pairs (n, d), (n, d) with the recipes of the ablation, each recipe once."""
    recipes = {_recipe(recipe, len(images)): name for name, recipe in reversed(VARIANTS.items())}
    for recipe, name in reversed(recipes.items()):
        yield Condition(ASYNC, _with_normalization(statistics, images, captions, recipe), name)


def _published() -> list[Standardizer]:
    return [Standardizer.parse(change.standardizer) for change in CHANGES]


def _usable(standardizers: Sequence[Standardizer], statistics: Statistics) -> Iterator[Condition]:
    for standardizer in dict.fromkeys(standardizers):
        if statistics.gap_statistics.has(standardizer.spec.need):
            yield Condition(standardizer, statistics, statistics.name)


def _with_normalization(statistics: Statistics, images: Vectors, captions: Vectors, recipe: AsyncRecipe) -> Statistics:
    pairs = CachedPairs(images, captions, np.arange(len(images)))
    return statistics.with_fitted(normalization=NormalizationPair(*AsyncTrainer(pairs, recipe, SEED).run()))


def _recipe(recipe: AsyncRecipe, pairs: int) -> AsyncRecipe:
    return recipe if pairs >= SETTLED else replace(recipe, momentum=None)


@dataclass(frozen=True, slots=True, eq=False)
class Labeled:
    """Images with classes.

    Attributes:
        images: Embeddings (n, d).
        labels: Row of each image's class (n,), int64.
        classes: Class vectors (c, d).
        by_features: Class vectors by the other rule for templates, or None.
    """

    images: Vectors
    labels: NDArray[np.int64]
    classes: Vectors
    by_features: Vectors | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Unit embeddings to measure.

    Attributes:
        images: Images (n, d).
        captions: Captions (k·n, d), k per image in turn.
        labeled: Images with classes, or None.
        rated: Rated pairs, or None.
    """

    images: Vectors
    captions: Vectors
    labeled: Labeled | None = None
    rated: tuple[RatedVectors, RatingSet] | None = None

    @property
    def captions_per_image(self) -> int:
        """Number of captions per image."""
        return len(self.captions) // len(self.images)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Figures under one condition.

    Attributes:
        gap: Gap between the images and their first captions; None if embeddings do not move (``nnn``).
        ranks: Retrieval by captions per image: 1, and all if there are more.
        classification: Classification, or None without classes.
        agreement: Agreement with ratings by ``EXPERT``; empty without ratings.
        by_features: Classification by the other rule for templates, or None.
    """

    gap: GapMeasures | None
    ranks: dict[int, CrossModalRanks]
    classification: Classification | None
    agreement: dict[str, Agreement]
    by_features: Classification | None = None

    def to_dict(self, resampling: Resampling) -> dict[str, Any]:
        """Return plain data."""
        retrieval = {
            f"{count} captions": {
                f"R@{depth}": {side: e.to_dict() for side, e in ranks.recall(depth, resampling)._asdict().items()}
                for depth in DEPTHS
            }
            for count, ranks in self.ranks.items()
        }
        data: dict[str, Any] = {"gap": None if self.gap is None else self.gap.to_dict(), "retrieval": retrieval}
        for key, found in (
            ("classification", self.classification),
            ("classification_features_averaged", self.by_features),
        ):
            if found is not None:
                data[key] = {
                    "n": len(found.labels),
                    "accuracy": found.accuracy(resampling).to_dict(),
                    "balanced_accuracy": found.balanced_accuracy(resampling).to_dict(),
                }
        return data | {name: found.estimates["tau_c"].to_dict() for name, found in self.agreement.items()}


def measure(condition: Condition, corpus: Corpus, resampling: Resampling) -> Measured:
    """Measure everything under one condition."""

    def standardize(x: Vectors, y: Vectors) -> tuple[NDArray[Any], NDArray[Any]]:
        return condition.statistics.standardize(condition.standardizer, x, y)

    per_image = corpus.captions_per_image
    images, captions = standardize(corpus.images, corpus.captions)
    ranks = {count: cross_modal_ranks(images, captions[:: per_image // count]) for count in {1, per_image}}
    classification = by_features = None
    if (labeled := corpus.labeled) is not None:
        classification, by_features = (
            None if classes is None else classify(*standardize(labeled.images, classes), labeled.labels)
            for classes in (labeled.classes, labeled.by_features)
        )
    agreements = {}
    if corpus.rated is not None:
        rated, ratings = corpus.rated
        scores = dot(*standardize(rated.x, rated.y)).astype(np.float64)[ratings.item]
        for name, values in zip(EXPERT, (scores, scores.clip(0)), strict=True):
            agreements[name] = agreement(
                values, ratings.rating, ratings.clusters, names=["tau_c"], resampling=resampling
            )
    gap = None
    if not condition.standardizer.spec.cross_modal_only:
        gap = measure_gap(normalize(images), normalize(captions[::per_image]), resampling=resampling)
    return Measured(gap, ranks, classification, agreements, by_features)


def differences(found: Mapping[str, Measured], resampling: Resampling) -> dict[str, dict[str, Difference]]:
    """Compare each condition with no standardizer, on the same resamples of images.

    Args:
        found: Figures by condition, with ``none`` among them.
        resampling: Settings of the intervals.

    Returns:
        Differences by task of ``TASKS`` that was measured, and by condition: R@1 with one caption per image,
        class-balanced accuracy with the classes' shares held fixed, and τ-c.
    """
    columns: dict[str, dict[str, NDArray[np.float64]]] = {
        "to_caption": {name: (m.ranks[1].to_caption < 1).astype(np.float64) for name, m in found.items()},
        "to_image": {name: (m.ranks[1].to_image < 1).astype(np.float64) for name, m in found.items()},
    }
    labeled = {name: m.classification for name, m in found.items() if m.classification is not None}
    if labeled:
        columns["accuracy"] = {name: _balanced(one) for name, one in labeled.items()}
    result = {
        task: {d.first: d for d in compare_means(values, None, str(NONE), resampling=resampling)}
        for task, values in columns.items()
    }
    rated = {name: m.agreement["expert"] for name, m in found.items() if m.agreement}
    if rated:
        compared = agreement_differences(rated, str(NONE), "tau_c", resampling.confidence)
        result["expert"] = {d.first: d for d in compared}
    return result


def _balanced(found: Classification) -> NDArray[np.float64]:
    """Return one number per image whose mean is the class-balanced accuracy."""
    counts = np.bincount(found.labels)
    weighted: NDArray[np.float64] = found.right * (
        len(found.labels) / (np.count_nonzero(counts) * counts[found.labels])
    )
    return weighted


def sample_sizes(
    images: Vectors, captions: Vectors, corpus: Corpus, sizes: Sequence[int], draws: int
) -> list[dict[str, Any]]:
    """Measure ``post`` with the means of the first pairs of several shuffles (seeds 0, 1, …) of other pairs.

    Args:
        images: Images to take means of (m, d).
        captions: Their captions (m, d).
        corpus: What is measured, with one caption per image.
        sizes: Numbers of pairs; those above m are left out.
        draws: Number of shuffles; one if all pairs are used.

    Returns:
        Plain data per size: ``count``, the centroid distance (``gaps``) and R@1 with one caption per image
        (``to_caption``, ``to_image``) of each shuffle, and the mean of ``expected_residual_gap`` (``expected``).
    """
    orders = [np.random.default_rng(seed).permutation(len(images)) for seed in range(draws)]
    first = corpus.captions[:: corpus.captions_per_image]
    found: list[dict[str, Any]] = []
    for size in sizes:
        if size > len(images):
            continue
        samples = []
        for order in orders[: 1 if size == len(images) else draws]:
            statistics = pair_statistics(images[order[:size]], captions[order[:size]], "sample")
            x, y = statistics.standardize(POST, corpus.images, first)
            ranks = cross_modal_ranks(x, y)
            recalls = [float((side < 1).mean()) for side in (ranks.to_caption, ranks.to_image)]
            expected = expected_residual_gap(float(dot(x, y).mean()), size)
            samples.append((centroid_distance(x, y), expected, *recalls))
        gaps, expectations, to_caption, to_image = zip(*samples, strict=True)
        row = {"count": size, "gaps": gaps, "expected": float(np.mean(expectations))}
        found.append({**row, "to_caption": to_caption, "to_image": to_image})
    return found


def last_condition(names: Iterator[str] | Sequence[str] | Data) -> dict[str, str]:
    """Return the last condition of each standardizer, which uses in-sample statistics if any does."""
    return {name.partition(", ")[0]: name for name in names}


def replication(compared: Differences, condition_of: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield each published change that was measured here, next to the difference found.

    Args:
        compared: As ``differences`` returns it.
        condition_of: Condition to compare with the paper, by standardizer.
    """
    for change in CHANGES:
        for task, points in change.points().items():
            ours = compared.get(task, {}).get(condition_of.get(change.standardizer, ""))
            if ours is not None and ours.estimate.interval is not None:
                reading = direction(points, *ours.estimate.interval)
                found = {"theirs": change.name, "task": task, "points": points, "ours": ours.to_dict()}
                yield {**found, "reading": reading}


def direction(points: float, low: float, high: float) -> str:
    """Compare the sign of a published change with an interval: same, opposite, or undecided if it contains 0."""
    if low <= 0 <= high or points == 0:
        return "cannot be told"
    return "the same way" if (low > 0) == (points > 0) else "the other way"


def report_data(
    arguments: Arguments,
    corpus: Corpus,
    tried: Sequence[Condition],
    pairs: tuple[Vectors, Vectors],
    *,
    encoder: Data,
    notes: Sequence[str],
    ablation: Sequence[Condition] = (),
    whole: tuple[Corpus, Sequence[Condition]] | None = None,
    foreign: Mapping[str, GapStatistics] | None = None,
    published: bool = True,
) -> Data:
    """Measure everything.

    Args:
        arguments: Options.
        corpus: What is measured.
        tried: Standardizers with their statistics, ``none`` first and in-sample ones last.
        pairs: Images (m, d) and captions (m, d) whose means are sampled.
        encoder: What determines the embeddings.
        notes: Notes for the reader; the first describes the data.
        ablation: Variants of ``async``.
        whole: All pairs, and standardizers with their own statistics, if ``corpus`` is too small for LS.
        foreign: Means of other corpora in the same space, by name.
        published: Whether to compare with the figures of An et al. 2025.
    """
    resampling, count = arguments.resampling, len(pairs[0])

    def figures(items: Sequence[Condition], of: Corpus) -> dict[str, Measured]:
        return {condition.name: measure(condition, of, resampling) for condition in items}

    found = figures(tried, corpus)
    compared = differences(found, resampling)
    sizes = sample_sizes(*pairs, corpus, sorted({*(size for size in SIZES if size < count), count}), DRAWS)
    parts = {
        "conditions": found,
        "ablation": figures(ablation, corpus),
        "whole": figures(whole[1], whole[0]) if whole else {},
    }
    return {
        "schema": SCHEMA,
        "command": arguments.command,
        "encoder": encoder,
        "resampling": asdict(resampling),
        **{key: {name: one.to_dict(resampling) for name, one in part.items()} for key, part in parts.items()},
        "difference": {task: {name: d.to_dict() for name, d in by_name.items()} for task, by_name in compared.items()},
        "sample_sizes": sizes,
        "matching": matching_data(
            MatchedPairs(corpus.images, corpus.captions[:: corpus.captions_per_image]),
            MatchedPairs(*pairs),
            tried[1].source,
            resampling,
            foreign=foreign,
            runs=MatchedPairs(whole[0].images, whole[0].captions) if whole else None,
        ),
        "replication": list(replication(compared, last_condition(found))) if published else [],
        "notes": list(notes),
    }


def render(data: Data) -> Page:
    """Render the report."""
    found, compared, resamples = data["conditions"], data["difference"], data["resampling"]["resamples"]
    introduction, *notes = data["notes"]
    published = data["replication"]
    name, whole = data["encoder"].get("name"), data["whole"]
    title = f"The modality gap on Flickr8k, and what removing it does, model {name}"
    if name is None:
        model, count = data["encoder"]["model"], whole["none"]["gap"]["images"]
        title = f"The modality gap of {count} {model} pairs, and what removing it does"
    comparisons = max(len(by_name) for by_name in compared.values())
    smallest = min(1.0, comparisons * 2 / (resamples + 1))
    floor = (
        f" With {comparisons} comparisons and {resamples:,} resamples, no p is lower than about {smallest:.2f}, "
        "however far the interval is from 0."
    )
    estimates = {name: one["retrieval"]["1 captions"]["R@1"]["to_image"] for name, one in found.items()}
    figure = dot_plot("From caption to image by standardizer, one caption per image", "R@1 × 100", estimates)
    blocks: list[str | Table] = [
        f"{introduction} {command_block(data)}",
        f"Recall, accuracy and τ-c × 100. {intervals_note(data, 'images')}",
        "## The gap, as in Tables 1 and 2 of An et al. 2025",
        gap_table(found),
        f"Between the images and their first captions. {GAP_LEGEND} {gap_notes(found)} `dn` is measured on vectors "
        "scaled to unit length. `nnn` moves no embedding and has no gap.",
    ]
    if whole:
        count = whole["none"]["gap"]["images"]
        blocks += [f"All {count} pairs, with their own statistics (in-sample). {gap_notes(whole)}", gap_table(whole)]
    blocks += [peak_note((whole or found)["none"]["gap"]["peaks"])]
    blocks += [
        "## The tasks, as in the same tables\n\nRetrieval with one caption per image.",
        task_table(found),
        "## Retrieval",
    ]
    for key in sorted(found["none"]["retrieval"], key=lambda key: int(key.split()[0])):
        count = int(key.split()[0])
        captions = "One caption" if count == 1 else f"{count} captions, any of which counts as matched,"
        blocks += [f"{captions} per image:", recall_table(found, key)]
    blocks += [
        "## Difference from none\n\nOn the same resamples of images. p is two-sided, with Holm's correction for the "
        f"comparisons of a column.{floor if resamples else ''}",
        difference_table(compared, resamples),
    ]
    if data["ablation"]:
        blocks += [
            "## I0T_async\n\nTwo batch normalizations after the frozen encoder, trained on embeddings of the "
            "statistics' pairs and therefore without MCSIE, which encodes again "
            "([with it](../docs/research/i0t-async.md)). "
            f"`trained BN` is otherwise the paper's recipe, seed {SEED}; each other row changes one setting.",
            gap_table(data["ablation"]),
            task_table(data["ablation"]),
        ]
    blocks += [
        f"## Number of pairs behind the means, as in Table 3\n\n`post` with the means of {DRAWS} samples of that many "
        f"pairs (shuffles with seeds 0 to {DRAWS - 1}): mean and range. CD expected: the formula of "
        "`expected_residual_gap`, without the noise of the measured pairs themselves."
        + " The paper has one sample each, on Flickr30k; its 1,000 pairs are the test set itself."
        * bool(published),
        size_table(data["sample_sizes"], published=bool(published)),
    ]
    if published:
        blocks += _published_blocks(data)
    blocks += matching_blocks(data["matching"], resamples)
    blocks.append(f"## Conditions\n\n{bullets(notes)}")
    return Page(title, blocks, figure)


def _published_blocks(data: Data) -> list[str | Table]:
    return [
        f"## Published figures\n\nAn et al. 2025. {PUBLISHED_CONDITIONS} `here`: the same standardizer in this report, "
        "with in-sample statistics where there are any.",
        published_table(data),
        "Published changes in points, next to the differences here:",
        replication_table(data),
    ]


def gap_table(found: Data) -> Table:
    """Return a table of the measures of the gap by condition."""
    table = []
    for name, one in found.items():
        gap = one["gap"]
        cells = [UNDEFINED] * (1 + len(GAP))
        if gap is not None:
            cells = [gap["severity"], *(format_estimate(estimate(gap["measures"][measure])) for measure in GAP)]
        table.append([name, *cells])
    return Table(["standardizer", "severity", *(HEADINGS[measure] for measure in GAP)], table, left=2)


def peak_note(peaks: Data) -> str:
    """Return the largest coordinates of the means and what they allow, counted from 1 as in the paper."""
    listed = "; ".join(
        f"{p['coordinate'] + 1}: {p['image_mean']:+.3f}, {p['caption_mean']:+.3f}, {100 * p['share']:.0f} %"
        for p in peaks["largest"]
    )
    return (
        "Coordinates with the largest shares of CD², counted from 1 as in the paper (mean image, mean text, share): "
        f"{listed}. Peaks: {', '.join(str(j + 1) for j in peaks['peaks']) or 'none'}; they limit cosines to at most "
        f"{peaks['ceiling']:.2f}."
    )


def gap_notes(found: Data) -> str:
    """Return the value that LS would have without a gap, and the notes on undefined measures."""
    gaps = [one["gap"] for one in found.values() if one["gap"] is not None]
    lines = []
    if (fitted := gaps[0]["separability_rows"]) is not None:
        lines.append(
            f"LS is fitted to {fitted:,} rows of {gaps[0]['dimensions']} dimensions; without a gap it would be "
            f"{gaps[0]['separability_without_gap']:.3f}."
        )
    notes = dict.fromkeys(note.rstrip(".") for gap in gaps for note in gap["notes"])
    return " ".join([*lines, *(f"{note[0].upper()}{note[1:]}." for note in notes)])


def task_table(found: Data) -> Table:
    """Return a table of the tasks by condition."""
    headings = {
        "classification": "class accuracy",
        "classification_features_averaged": "class accuracy, features averaged",
        "expert": "Expert τ-c",
        "expert, clipped": "Expert τ-c, clipped",
    }
    measured = {key: heading for key, heading in headings.items() if key in next(iter(found.values()))}
    table = []
    for name, one in found.items():
        recall = one["retrieval"]["1 captions"]["R@1"]
        cells = [percent(recall["to_caption"]), percent(recall["to_image"])]
        table.append([name, *cells, *(percent(one[key].get("balanced_accuracy", one[key])) for key in measured)])
    return Table(["standardizer", TASKS["to_caption"], TASKS["to_image"], *measured.values()], table)


def recall_table(found: Data, key: str) -> Table:
    """Return a table of R@1, R@5 and R@10 in both directions."""
    columns = [(side, depth) for side in ("captions", "images") for depth in DEPTHS]
    table = [
        [name, *(percent(one["retrieval"][key][f"R@{depth}"][f"to_{side[:-1]}"]) for side, depth in columns)]
        for name, one in found.items()
    ]
    return Table(["standardizer", *(f"R@{depth} to {side}" for side, depth in columns)], table)


def difference_table(compared: Data, resamples: int) -> Table:
    """Return a table of the differences from none by task."""
    table = [
        [name, *(difference(by_name[name], resamples) for by_name in compared.values())]
        for name in next(iter(compared.values()))
    ]
    return Table(["standardizer", *(TASKS[task] for task in compared)], table)


def size_table(sizes: Sequence[Data], *, published: bool) -> Table:
    """Return a table of means and ranges by number of pairs, optionally next to the published ones."""
    table = []
    for size in sizes:
        row = [f"{size['count']:,}", str(len(size["gaps"])), _range(size["gaps"], 1, 3), f"{size['expected']:.3f}"]
        row += [_range(size[side], 100, 1) for side in ("to_caption", "to_image")]
        if published:
            theirs = SAMPLE_SIZES.get(size["count"])
            row += [UNDEFINED] * 3 if theirs is None else [f"{theirs[0]:.3f}", *(f"{v:.1f}" for v in theirs[1:])]
        table.append(row)
    header = ["pairs", "samples", "CD", "CD expected", "R@1 to captions", "R@1 to images"]
    if published:
        header += ["published CD", "published R@1 to captions", "published R@1 to images"]
    return Table(header, table)


def replication_table(data: Data) -> Table:
    """Return a table of published changes next to the differences measured here."""
    condition_of = last_condition(data["conditions"])
    changes = {change.name: change for change in CHANGES}
    table = []
    for row in data["replication"]:
        change = changes[row["theirs"]]
        cells = [change.name, change.after.model, condition_of[change.standardizer], TASKS[row["task"]]]
        table.append([*cells, f"{row['points']:+.2f}", percent(row["ours"], signed=True)])
    return Table(["published change", "model", "here", "task", "published, points", "here, points"], table, left=4)


def published_table(data: Data) -> Table:
    """Return the rows of the paper's tables, next to the centroid distances and LS measured here."""
    found = {**data["conditions"], **data["whole"]}
    condition_of = {**last_condition(data["conditions"]), **last_condition(data["whole"])}
    names = {change.before.name: str(NONE) for change in CHANGES}
    names |= {change.after.name: condition_of.get(change.standardizer, "") for change in CHANGES}
    table = []
    for row in ROWS:
        published = (f"{row.centroid_distance:.4f} {severity(row.centroid_distance)}", f"{row.linear_separability:.4f}")
        gap = found[names[row.name]]["gap"] if names.get(row.name) in found else None
        here = [UNDEFINED] * 3
        if gap is not None:
            cd, ls = (format_estimate(estimate(gap["measures"][measure])) for measure in GAP[:2])
            here = [names[row.name], f"{cd} {gap['severity']}", ls]
        tasks = (row.to_caption, row.to_image, row.accuracy, row.expert)
        cells = [UNDEFINED if value is None else f"{value:.2f}" for value in tasks]
        table.append([row.name, row.table, row.model, *published, *cells, *here])
    header = ["row", "table", "model", "CD", "LS", TASKS["to_caption"], TASKS["to_image"], "CIFAR-100", "Expert τ"]
    return Table([*header, "here", "CD here", "LS here"], table, left=3)


def _range(values: Sequence[float], scale: float, digits: int) -> str:
    """Format the mean over samples, and their range if there are several."""
    mean, low, high = (scale * v for v in (sum(values) / len(values), min(values), max(values)))
    text = f"{mean:.{digits}f}"
    return text if len(values) == 1 else f"{text} ({low:.{digits}f} to {high:.{digits}f})"


@script(
    "studies.gap",
    render,
    click.option(
        "--fit-on",
        type=click.Choice(["train", "dev"]),
        default="train",
        show_default=True,
        help="Split whose pairs the statistics come from.",
    ),
)
def main(arguments: Arguments, fit_on: Split) -> tuple[str, Data]:
    """The gap, retrieval, classification and agreement with people under every standardizer, on Flickr8k."""
    model, limit = arguments.required_model(), arguments.limit
    with open_embedder(model) as embedder:
        corpus = _corpus(embedder, arguments)
        pairs = _pairs(embedder, arguments.folder(), fit_on, 1, limit)
    held_out = f"{len(pairs[0]):,} {fit_on} pairs"
    known = held_out_statistics(*pairs, held_out)
    own = pair_statistics(corpus.images, corpus.captions[:: corpus.captions_per_image], IN_SAMPLE)
    fingerprint = asdict(embedder.fingerprint)
    labeled = 0 if corpus.labeled is None else len(corpus.labeled.images)
    ratings = 0 if corpus.rated is None else len(corpus.rated[1].rating)
    notes = (
        f"Flickr8k, test split: {len(corpus.images):,} images with {corpus.captions_per_image} captions each, "
        f"{labeled} of them with a class, and {ratings:,} expert ratings; model {arguments.label}. Statistics come "
        f"from {held_out}, images with their first caption, unless stated otherwise: held out, other images of the "
        "same kind.",
        *[LITE] * (arguments.label == "lite"),
        *NOTES,
        f"encoder {', '.join(fingerprint.values())}; prefix {PREFIX!r}",
    )
    return arguments.stem("gap"), report_data(
        arguments,
        corpus,
        [*conditions(known), *published_conditions(own)],
        pairs,
        encoder=fingerprint,
        notes=notes,
        ablation=list(async_variants(known, *pairs)),
    )


def _pairs(embedder: Embedder, folder: Path, split: Split, each: int, limit: int | None) -> tuple[Vectors, Vectors]:
    """Return embeddings of a split's first images (n, d) and of ``each`` of their captions (each·n, d)."""
    read = read_split(folder, split)
    images = read.images[:limit]
    starts = range(0, CAPTIONS_PER_IMAGE * len(images), CAPTIONS_PER_IMAGE)
    captions = [caption for i in starts for caption in read.captions[i : i + each]]
    return rows(embedder.images(images)), rows(embedder.captions(captions))


def _corpus(embedder: Embedder, arguments: Arguments) -> Corpus:
    """Return Flickr8k's test split with its captions, classes and ratings."""
    folder, ratings = arguments.folder(), read_expert(arguments)
    images, captions = _pairs(embedder, folder, "test", CAPTIONS_PER_IMAGE, arguments.limit)
    own, labels = labeled_rows(read_split(folder, "test").captions[: CAPTIONS_PER_IMAGE * len(images)])
    features = class_features(embedder)
    labeled = Labeled(images[own], labels, class_vectors(features), class_vectors(features, "features"))
    return Corpus(images, captions, labeled if len(own) else None, (encode_ratings(embedder, ratings), ratings))


if __name__ == "__main__":
    main()
