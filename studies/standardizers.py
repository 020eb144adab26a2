"""Whether removing the gap improves agreement with people: every standardizer on Flickr8k-Expert.

Run ``python -m studies.standardizers``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from human_judgments.report import Data, Page, bullets, command_block, difference, dot_plot, intervals_note, percent
from human_judgments.script import Arguments, script
from i0tscore.errors import InputError
from i0tscore.gap import NONE, POST, Moments, Standardizer, Statistics, centroid_distance, dot
from i0tscore.gap.standardizers import all_standardizers
from i0tscore.metrics.functional import combine_references, reference_similarity
from i0tscore.metrics.metric import PREFIX
from i0tscore.metrics.statistics_choice import builtin_statistics
from i0tscore.render.document import Table
from i0tscore.results import Resampling
from i0tscore.results.correlation import CorrelationReport, agreement, compare_agreement, correlation
from i0tscore.results.intervals import Difference
from i0tscore.samples.flickr8k import EXPERT_FILES, read_flickr8k_expert
from i0tscore.samples.ratings import RatingSet
from studies.embedder import Embedder, encoder_note, open_embedder, rows
from studies.flickr8k import read_split
from studies.recall import recall

BUILTIN = "built in"
SAMPLE_SIZES = (32, 128, 512)
VARIANTS = ("free", "free, clipped", "Ref", "Ref, mean")

LEGEND = (
    "`free`: without references. `clipped`: negative scores set to 0, as in the authors' scorer. `Ref`: harmonic mean "
    "with the most similar of the image's five captions, which clips. `Ref, mean`: arithmetic mean, which does not "
    "clip. `gap`: centroid distance of the rated images and captions. `R@1`: image to caption and caption to image, "
    "of the rated images with their own five captions."
)
LITE = (
    "lite is trained on images and captions of the same kind as the rated ones: its figures are not zero-shot, and "
    "what helps it need not help CLIP."
)

Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class RatedVectors:
    """Embeddings of a rating set.

    Attributes:
        x: Image of each item (n, d).
        y: Caption of each item (n, d).
        references: Rows of each item's references in ``z``.
        z: Distinct references (r, d).
        images: Distinct images (m, d).
        own: Rows of each distinct image's captions in ``z`` (m, 5).
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    references: Sequence[NDArray[np.int64]]
    z: NDArray[np.float32]
    images: NDArray[np.float32]
    own: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Condition:
    """A standardizer with the statistics it uses.

    Attributes:
        standardizer: The standardizer.
        statistics: Its statistics.
        source: Where they come from, for tables.
    """

    standardizer: Standardizer
    statistics: Statistics
    source: str

    @property
    def name(self) -> str:
        """Name for tables."""
        name = str(self.standardizer)
        return name if self.standardizer.spec.need is None else f"{name}, {self.source}"


def render(data: Data) -> Page:
    """Render the report."""
    introduction, *notes = data["notes"]
    names, resamples = list(data["gap"]), data["resampling"]["resamples"]
    tau_c, differences, half = data["tau_c"], data["difference"], data["chosen_on_half"]
    agreement_rows = [
        [
            name,
            f"{data['gap'][name]:.3f}",
            *(percent(tau_c[f"{name}; {variant}"]) for variant in VARIANTS),
            "{:.1f} / {:.1f}".format(*data["recall_at_1"][name]),
        ]
        for name in names
    ]
    difference_rows = [
        [name, *(difference(differences.get(f"{name}; {variant}"), resamples) for variant in VARIANTS)]
        for name in names[1:]
    ]
    half_rows = [[name, d["from"], difference(d, resamples)] for name, d in half["tested"].items()]
    model = data["encoder"]["name"]
    blocks: list[str | Table] = [
        f"{introduction} {command_block(data)}",
        f"τ-c × 100. {intervals_note(data, 'images')} {LEGEND}",
        Table(["standardizer", "gap", *VARIANTS, "R@1"], agreement_rows),
        "## Difference from none\n\nFrom the same variant of the score without a standardizer, on the same resamples. "
        "p is two-sided, with Holm's correction within a variant.",
        Table(["standardizer", *VARIANTS], difference_rows),
        "## Strength chosen on one half of the images, tested on the other\n\nChosen on the images at even positions "
        f"of the sorted list: {half['chosen']}. On the others:",
        Table(["scores", "compared with", "difference in τ-c"], half_rows, left=2),
        f"## Conditions\n\n{bullets(notes)}",
    ]
    estimates = {name: tau_c[f"{name}; free"] for name in names}
    figure = dot_plot("Flickr8k-Expert by standardizer, without references", "τ-c × 100", estimates)
    return Page(f"Standardizers and agreement with people, model {model}", blocks, figure)


@script("studies.standardizers", render)
def main(arguments: Arguments) -> tuple[str, Data]:
    """Agreement with Flickr8k-Expert under every standardizer, with and without clipping and references."""
    model, resampling = arguments.required_model(), arguments.resampling
    ratings = read_expert(arguments)
    with open_embedder(model) as embedder:
        rated = encode_ratings(embedder, ratings)
        conditions = list(all_conditions(embedder, rated, arguments.folder()))
    scores = {
        f"{condition.name}; {variant}": values[ratings.item]
        for condition in conditions
        for variant, values in score_variants(condition, rated).items()
    }
    tau_c = {
        name: agreement(values, ratings.rating, ratings.clusters, names=["tau_c"], resampling=resampling)
        for name, values in scores.items()
    }
    chosen, tested = choose_on_half(scores, ratings, resampling)
    fingerprint = embedder.fingerprint
    return f"standardizers-{arguments.label.replace('/', '--')}", {
        "schema": CorrelationReport.SCHEMA,
        "command": arguments.command,
        "encoder": asdict(fingerprint),
        "resampling": asdict(resampling),
        "tau_c": {name: found.estimates["tau_c"].to_dict() for name, found in tau_c.items()},
        "difference": differences_from_none(scores, ratings, resampling),
        "gap": {c.name: residual_gap(c, rated) for c in conditions},
        "recall_at_1": {c.name: recall_at_1(c, rated) for c in conditions},
        "chosen_on_half": {"chosen": chosen, "tested": {d.first: d.to_dict() for d in tested}},
        "notes": [
            f"Flickr8k-Expert, {len(ratings.rating):,} ratings of {len(ratings.samples):,} pairs, model "
            f"{arguments.label}.",
            *[LITE] * (arguments.label == "lite"),
            encoder_note(fingerprint),
        ],
    }


def read_expert(arguments: Arguments) -> RatingSet:
    """Read Flickr8k-Expert from its files, up to the limit of the options.

    Raises:
        InputError: The files are missing.
    """
    file = arguments.local_file(EXPERT_FILES, "Flickr8k (Hodosh et al. 2013)")
    if file is None:
        raise InputError("Expected the files of Flickr8k. Try --data.")
    ratings = read_flickr8k_expert(file, arguments.images)
    return ratings if arguments.limit is None else ratings.limited(arguments.limit)


def encode_ratings(embedder: Embedder, ratings: RatingSet) -> RatedVectors:
    """Encode the images, captions and references of a rating set."""
    images = embedder.images([sample.image for sample in ratings.samples])
    captions = embedder.captions([sample.caption for sample in ratings.samples])
    references = embedder.captions([text for sample in ratings.samples for text in sample.references])
    ends = np.cumsum([len(sample.references) for sample in ratings.samples])[:-1]
    of_item = np.split(references.index, ends)
    first = np.unique(images.index, return_index=True)[1]
    return RatedVectors(
        rows(images),
        rows(captions),
        of_item,
        references.vectors,
        images.vectors[images.index[first]],
        np.stack([of_item[i] for i in first]),
    )


def all_conditions(embedder: Embedder, rated: RatedVectors, folder: Path) -> Iterator[Condition]:
    """Yield every standardizer with the statistics to try it with; warn about those that cannot be tried.

    Raises:
        InputError: No statistics are shipped for the encoder.
    """
    builtin = builtin_statistics(embedder.fingerprint)
    if builtin is None:
        raise InputError(f"No statistics are shipped for {embedder.fingerprint.name}, and this study needs them.")
    yield Condition(NONE, builtin, "")
    yield Condition(POST, builtin, BUILTIN)
    for count in SAMPLE_SIZES:
        yield Condition(POST, _train_sample(embedder, folder, count), f"{count} training pairs")
    own = Statistics("test", "", "", PREFIX, Moments.of(rated.images), Moments.of(rated.z))
    yield Condition(POST, own, "the test set's own")
    for standardizer in all_standardizers():
        need, reason = standardizer.spec.need, None
        if standardizer in (NONE, POST):
            continue
        if standardizer.spec.cross_modal_only:
            reason = "it does not compare captions with references"
        elif need is not None and not builtin.gap_statistics.has(need):
            reason = f"the statistics shipped for {builtin.encoder} have no {need.name}"
        if reason is None:
            yield Condition(standardizer, builtin, BUILTIN)
        else:
            warnings.warn(f"{standardizer} is left out: {reason}", UserWarning, stacklevel=2)


def _train_sample(embedder: Embedder, folder: Path, count: int) -> Statistics:
    split = read_split(folder, "train")
    chosen = np.random.default_rng(0).choice(len(split.images), count, replace=False)
    images = embedder.images([split.images[i] for i in chosen])
    captions = embedder.captions([split.captions[5 * i] for i in chosen])
    return Statistics("sample", "", "", PREFIX, Moments.of(images.vectors), Moments.of(captions.vectors))


def score_variants(condition: Condition, rated: RatedVectors) -> Scores:
    """Return the scores of all items by variant."""
    x, y = condition.statistics.standardize(condition.standardizer, rated.x, rated.y)
    z = condition.statistics.standardize(condition.standardizer, rated.x[:0], rated.z)[1]
    free = dot(x, y).astype(np.float64)
    nearest = reference_similarity(y, [z[own] for own in rated.references], "mean").astype(np.float64)
    values = (free, free.clip(0), combine_references(free, nearest, "harmonic"), (free + nearest) / 2)
    return dict(zip(VARIANTS, values, strict=True))


def differences_from_none(scores: Scores, ratings: RatingSet, resampling: Resampling) -> dict[str, Data]:
    """Return the difference of every score's τ-c from that of the same variant without a standardizer."""
    found = {}
    for variant in VARIANTS:
        same = {name: values for name, values in scores.items() if name.endswith(f"; {variant}")}
        compared = compare_agreement(same, ratings.rating, ratings.clusters, f"none; {variant}", resampling=resampling)
        found.update({d.first: d.to_dict() for d in compared})
    return {name: found[name] for name in scores if name in found}


def in_first_half(images: Sequence[str]) -> NDArray[np.bool_]:
    """Return whether the image of each row is at an even position of the sorted list of images (n,)."""
    mask: NDArray[np.bool_] = np.unique(images, return_inverse=True)[1] % 2 == 0
    return mask


def choose_on_half(scores: Scores, ratings: RatingSet, resampling: Resampling) -> tuple[str, list[Difference]]:
    """Choose the strength of ``covariance`` on every other image; compare it with ``post`` on the rest."""
    half = in_first_half(ratings.clusters)
    names = [name for name in scores if name.startswith("covariance(") and name.endswith("; free")]
    chosen = max(names, key=lambda name: correlation("tau_c", scores[name][half], ratings.rating[half]) or 0.0)
    baseline = f"{POST}, {BUILTIN}; free"
    compared = {name: scores[name][~half] for name in (baseline, f"{NONE}; free", chosen)}
    clusters = np.asarray(ratings.clusters)[~half]
    return chosen, compare_agreement(compared, ratings.rating[~half], clusters, baseline, resampling=resampling)


def residual_gap(condition: Condition, rated: RatedVectors) -> float:
    """Return the centroid distance of the rated images and captions."""
    return centroid_distance(*condition.statistics.standardize(condition.standardizer, rated.images, rated.y))


def recall_at_1(condition: Condition, rated: RatedVectors) -> tuple[float, float]:
    """Return R@1 in percent of the rated images with their own captions, image to caption and caption to image."""
    captions = rated.z[rated.own.ravel()]
    x, y = condition.statistics.standardize(condition.standardizer, rated.images, captions)
    to_caption, to_image = recall(x, y, (1,))
    return to_caption[0], to_image[0]


if __name__ == "__main__":
    main()
