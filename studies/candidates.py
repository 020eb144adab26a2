"""Which training-free changes of I0TScore agree better with people: candidates on Flickr8k-Expert.

Run ``python -m studies.candidates``.

Every candidate is a matrix of similarities of images and captions. What it needs besides the built-in statistics is
fitted to the dev split of Flickr8k. Strengths are chosen on one half of the rated images and tested on the other half,
and on the descriptions that blind and low-vision people rated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageOps

from human_judgments.blv_kreiss2022 import QUESTIONS, read_kreiss
from human_judgments.report import Data, Page, bullets, command_block, difference, dot_plot, intervals_note, percent
from human_judgments.script import Arguments, script
from i0tscore.encoders.base import LocalEncoder
from i0tscore.encoders.images import ImageInput, decode
from i0tscore.encoders.loop import embed_captions
from i0tscore.errors import InputError, UsageError
from i0tscore.gap import POST, Standardizer, Statistics, normalize
from i0tscore.metrics.statistics_choice import builtin_statistics
from i0tscore.render.document import Table
from i0tscore.results import Resampling
from i0tscore.results.correlation import CorrelationName, agreement, compare_agreement, correlation
from i0tscore.samples.ratings import RatingSet
from studies.embedder import Embedder, encoder_note, open_embedder
from studies.explanations import FUNCTION_WORDS
from studies.flickr8k import CAPTIONS_PER_IMAGE, read_split
from studies.standardizers import LITE, in_first_half, read_expert

SCHEMA = "i0tscore.candidates/1"
BASELINE = "post"
REF_BASELINE = "reference_rule=mean"
PROMPTS = ("", "a photo of ", "A picture of ")
NEAREST_LOCATIONS = 0.3
"""Share of the locations of an image, the most similar ones, whose similarities are averaged."""
NEIGHBORS = 16
"""Number of neighbors of the hubness correction; more neighbors lower the agreement further."""
BATCH = 32
BLV_QUESTIONS = ("q_overall", "q_imgfit", "q_reconstructivity")

Vectors = NDArray[np.float32]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Embeddings of distinct images (m) and distinct texts (k).

    Attributes:
        images: Shape (m, d).
        mirrored: Embeddings of the mirrored images (m, d).
        locations: Embeddings of the locations of each image (m, l, d).
        captions: Texts with the prefix of the metrics (k, d).
        prompts: Texts with each of ``PROMPTS`` (k, d).
        words: Embeddings of the distinct content words (v, d).
        weights: Share of each word among the content words of each text (k, v).
    """

    images: Vectors
    mirrored: Vectors
    locations: Vectors
    captions: Vectors
    prompts: tuple[Vectors, ...]
    words: Vectors
    weights: Vectors


def encode(embedder: Embedder, images: Sequence[ImageInput], texts: Sequence[str]) -> Encoded:
    """Encode distinct images and distinct texts.

    Raises:
        UsageError: The encoder has no embeddings of locations.
    """
    encoder = embedder.encoder
    if not isinstance(encoder, LocalEncoder) or encoder.location_grid is None:
        raise UsageError(f"{encoder.fingerprint.name} has no embeddings of locations, and this study needs them.")
    mirrored, locations = [], []
    for start in range(0, len(images), BATCH):
        decoded = [decode(image) for image in images[start : start + BATCH]]
        locations.append(encoder.encode_locations(torch.stack([encoder.preprocess(image) for image in decoded])))
        flipped = torch.stack([encoder.preprocess(ImageOps.mirror(image)) for image in decoded])
        mirrored.append(encoder.encode_pixels(flipped))
    content = [sorted(set(re.findall("[a-z]{3,}", text.lower())) - FUNCTION_WORDS) for text in texts]
    vocabulary = sorted({word for words in content for word in words})
    row = {word: number for number, word in enumerate(vocabulary)}
    weights = np.zeros((len(texts), len(vocabulary)), dtype=np.float32)
    for weight, words in zip(weights, content, strict=True):
        weight[[row[word] for word in words]] = 1 / max(len(words), 1)

    def embed(strings: Sequence[str], prefix: str) -> Vectors:
        found = embed_captions(encoder, strings, embedder.options, prefix=prefix, cache=embedder.cache)
        return found.vectors[found.index]

    found = embedder.images(images)
    captions = embedder.captions(texts)
    return Encoded(
        found.vectors[found.index],
        torch.cat(mirrored).numpy(),
        torch.cat(locations).numpy(),
        captions.vectors[captions.index],
        tuple(embed(texts, prompt) for prompt in PROMPTS),
        embed(vocabulary, ""),
        weights,
    )


def candidates(known: Statistics, dev: Encoded, data: Encoded) -> dict[str, Matrix]:
    """Return the similarities of all images and captions (m, k) by the name of the candidate, ``BASELINE`` first."""
    x, y = known.standardize(POST, data.images, data.captions)
    post = _similarity(x, y)
    found = {BASELINE: post}
    for name, strengths in (("post", (0.5, 0.75, 0.9)), ("dn", (0.25, 0.5)), ("covariance", (0.05, 0.1, 0.2))):
        for strength in strengths:
            standardizer = Standardizer(name, strength)
            found[str(standardizer)] = _similarity(*known.standardize(standardizer, data.images, data.captions))
    both_views = normalize(data.images + data.mirrored)
    found["mirrored"] = _similarity(*known.standardize(POST, both_views, data.captions))
    found["prompts"] = _similarity(x, _prompt_mean(known, dev, data))
    local, words = _local(dev, data, data.captions, dev.captions), _words(dev, data)
    for strength in (0.25, 0.5, 1.0):
        found[f"locations({strength:g})"] = post + strength * local
        found[f"words({strength:g})"] = post + strength * words
    bank_x, bank_y = known.standardize(POST, dev.images, dev.captions)
    hub_x = np.sort(_similarity(x, bank_y), axis=1)[:, -NEIGHBORS:].mean(axis=1)
    hub_y = np.sort(_similarity(bank_x, y), axis=0)[-NEIGHBORS:].mean(axis=0)
    for strength in (0.1, 0.25):
        found[f"hubness({strength:g})"] = post - strength * (hub_x[:, None] + hub_y)
    for ridge in (0.1, 1.0):
        found[f"mutual information({ridge:g})"] = _mutual_information(bank_x, bank_y, x, y, ridge)
    return found


def _similarity(x: Any, y: Any) -> Matrix:
    return np.asarray(x @ y.T, dtype=np.float64)


def _prompt_mean(known: Statistics, dev: Encoded, data: Encoded) -> Vectors:
    """Return texts averaged over prompts, each centered on its own mean."""
    total = data.captions - known.caption.mean
    for own, others in zip(data.prompts, dev.prompts, strict=True):
        total = total + own - others.mean(axis=0)
    mean: Vectors = normalize(total)
    return mean


def _local(dev: Encoded, data: Encoded, texts: Vectors, dev_texts: Vectors) -> Matrix:
    """Return the mean similarity of texts with the most similar locations of each image (m, texts)."""
    center = dev.locations.reshape(-1, dev.locations.shape[-1]).mean(axis=0)
    y = normalize(texts - dev_texts.mean(axis=0))
    count = round(NEAREST_LOCATIONS * data.locations.shape[1])
    rows = [np.partition(normalize(own - center) @ y.T, -count, axis=0)[-count:].mean(0) for own in data.locations]
    return np.stack(rows).astype(np.float64)


def _words(dev: Encoded, data: Encoded) -> Matrix:
    """Return the mean over a text's content words of their similarity with the nearest locations of each image."""
    return _local(dev, data, data.words, dev.words) @ data.weights.T.astype(np.float64)


def _mutual_information(dev_x: Any, dev_y: Any, x: Any, y: Any, ridge: float) -> Matrix:
    """Return the pointwise mutual information of Gaussians fitted to matched pairs, as in MID (Kim et al. 2022)."""
    d = x.shape[1]
    pairs = np.concatenate([np.repeat(dev_x, len(dev_y) // len(dev_x), axis=0), dev_y], axis=1)
    mean, covariance = pairs.mean(axis=0), np.cov(pairs.T)
    covariance += ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    joint = np.linalg.inv(covariance)
    own_x = np.linalg.inv(covariance[:d, :d]) - joint[:d, :d]
    own_y = np.linalg.inv(covariance[d:, d:]) - joint[d:, d:]
    u, v = x - mean[:d], y - mean[d:]
    side_x, side_y = (np.einsum("ij,jk,ik->i", a, m, a) for a, m in ((u, own_x), (v, own_y)))
    return np.asarray(0.5 * (side_x[:, None] + side_y) - u @ joint[:d, d:] @ v.T, dtype=np.float64)


def reference_candidates(similarity: NDArray[Any], references: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Return scores (n,) of Ref- candidates by name, ``REF_BASELINE`` first.

    Args:
        similarity: I0TScore of each item (n,).
        references: Similarity of each caption with its references (n, r).
    """
    nearest = np.sort(references, axis=1)[:, ::-1]
    found = {REF_BASELINE: (similarity + nearest[:, 0]) / 2}
    for weight in (0.6, 0.7, 0.8):
        found[f"nearest, weight {weight:g}"] = (1 - weight) * similarity + weight * nearest[:, 0]
    for count in (2, 3, references.shape[1]):
        found[f"mean with the {count} nearest"] = (similarity + nearest[:, :count].sum(axis=1)) / (count + 1)
    return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}


def choose_and_test(
    scores: Mapping[str, NDArray[Any]],
    ratings: NDArray[Any],
    images: Sequence[str],
    baseline: str,
    resampling: Resampling,
) -> dict[str, Any]:
    """Choose the strength of each method on one half of the images, and compare it with the baseline on the other."""
    first = in_first_half(images)
    best: dict[str, tuple[float, str]] = {}
    for name, values in scores.items():
        found = correlation("tau_c", values[first], ratings[first]) or 0.0
        method = re.sub(r"\(.*\)|[\d.]+", "", name)
        if name != baseline and found > best.get(method, (-1.0, ""))[0]:
            best[method] = found, name
    chosen = [baseline, *(name for _, name in best.values())]
    clusters = np.asarray(images)[~first]
    held_out = {name: scores[name][~first] for name in chosen}
    compared = compare_agreement(held_out, ratings[~first], clusters, baseline, resampling=resampling)
    return {
        "images": len(set(clusters)),
        "ratings": int((~first).sum()),
        "first_half": {name: correlation("tau_c", scores[name][first], ratings[first]) for name in scores},
        "tested": {one.first: one.to_dict() for one in compared},
    }


def measure_expert(
    ratings: RatingSet, embedder: Embedder, dev: Encoded, known: Statistics, settings: Resampling
) -> Data:
    """Measure all candidates on Flickr8k-Expert."""
    samples = ratings.samples
    images = list(dict.fromkeys(sample.image for sample in samples))
    own = {sample.image: sample.references for sample in samples}
    references = [text for image in images for text in own[image]]
    texts = list(dict.fromkeys([*references, *(sample.caption for sample in samples)]))
    rows = {image: row for row, image in enumerate(images)}
    columns = {text: column for column, text in enumerate(texts)}
    data = encode(embedder, images, texts)
    matrices = candidates(known, dev, data)
    item_row = np.array([rows[sample.image] for sample in samples])
    item_column = np.array([columns[sample.caption] for sample in samples])
    reference_columns = np.array([columns[text] for text in references])
    scores = {name: matrix[item_row, item_column] for name, matrix in matrices.items()}
    y = known.standardize(POST, data.images[:0], data.captions)[1]
    of_item = np.array([[columns[text] for text in sample.references] for sample in samples])
    with_references = reference_candidates(scores[BASELINE], np.einsum("nd,nrd->nr", y[item_column], y[of_item]))
    found: dict[str, Any] = {}
    for key, family, baseline in (("free", scores, BASELINE), ("references", with_references, REF_BASELINE)):
        rated = {name: values[ratings.item] for name, values in family.items()}
        found[key] = {
            "tau_c": {
                name: agreement(values, ratings.rating, ratings.clusters, names=["tau_c"], resampling=settings)
                .estimates["tau_c"]
                .to_dict()
                for name, values in rated.items()
            },
            **choose_and_test(rated, ratings.rating, ratings.clusters, baseline, settings),
        }
    found["recall_at_1"] = {name: recall_at_1(matrix[:, reference_columns]) for name, matrix in matrices.items()}
    return found


def recall_at_1(similarity: Matrix) -> tuple[float, float]:
    """Return R@1 in percent, image to caption and caption to image, of images (m) and their own captions (5m).

    Example:
        >>> recall_at_1(np.repeat(np.eye(2), 5, axis=1))
        (100.0, 100.0)
    """
    images = np.arange(len(similarity))
    to_caption = (similarity.argmax(axis=1) // CAPTIONS_PER_IMAGE == images).mean()
    to_image = (similarity.argmax(axis=0) == np.repeat(images, CAPTIONS_PER_IMAGE)).mean()
    return 100 * float(to_caption), 100 * float(to_image)


def measure_blv(
    folder: Path, chosen: Sequence[str], embedder: Embedder, dev: Encoded, known: Statistics, settings: Resampling
) -> Data:
    """Compare the chosen candidates with the baseline on the ratings of blind and low-vision people."""
    sets = {question: read_kreiss(folder, question) for question in BLV_QUESTIONS}
    samples = sets[BLV_QUESTIONS[0]].samples
    images = list(dict.fromkeys(sample.image for sample in samples))
    texts = list(dict.fromkeys(sample.caption for sample in samples))
    matrices = candidates(known, dev, encode(embedder, images, texts))
    place = [(images.index(sample.image), texts.index(sample.caption)) for sample in samples]
    name: CorrelationName = "pearson"
    found = {}
    for question, ratings in sets.items():
        scores = {one: np.array([matrices[one][cell] for cell in place])[ratings.item] for one in [BASELINE, *chosen]}
        own = agreement(scores[BASELINE], ratings.rating, ratings.clusters, names=[name], resampling=settings)
        compared = compare_agreement(scores, ratings.rating, ratings.clusters, BASELINE, name=name, resampling=settings)
        found[question] = {
            "ratings": len(ratings.rating),
            "baseline": own.estimates[name].to_dict(),
            "tested": {one.first: one.to_dict() for one in compared},
        }
    return found


def render(data: Data) -> Page:
    """Render the report."""
    resamples = data["resampling"]["resamples"]
    free, references, blv = data["free"], data["references"], data["blv"]

    def rows(found: Data, recall: Data | None) -> list[list[str]]:
        return [
            [
                name,
                percent(value),
                *([] if recall is None else ["{:.1f} / {:.1f}".format(*recall[name])]),
                f"{100 * found['first_half'][name]:.1f}",
                difference(found["tested"].get(name), resamples),
            ]
            for name, value in found["tau_c"].items()
        ]

    columns = ["first half", "second half, difference"]
    blv_rows = [
        [name, *(difference(blv[question]["tested"][name], resamples) for question in blv)]
        for name in blv["q_overall"]["tested"]
    ]
    blocks: list[str | Table] = [
        f"{data['introduction']} {command_block(data)}",
        f"τ-c × 100. {intervals_note(data, 'images')} The strength of each method is chosen on one half of the images, "
        f"at even positions of the sorted list, and compared with the baseline on the other half "
        f"({free['ratings']:,} ratings of {free['images']} images). p has Holm's correction within a table.",
        f"## Without references\n\nThe baseline is `{BASELINE}`. R@1 is that of the rated images with their own five "
        "captions, image to caption and caption to image.",
        Table(["candidate", "all ratings", "R@1", *columns], rows(free, data["recall_at_1"])),
        f"## With references\n\nThe baseline is RefI0TScore with `{REF_BASELINE}`, the mean of the image's similarity "
        "and that of the nearest reference.",
        Table(["candidate", "all ratings", *columns], rows(references, None)),
        "## Descriptions rated by blind and low-vision people\n\nKreiss et al. 2022: Pearson × 100, difference from "
        f"`{BASELINE}` of the candidates chosen above. There are no references. "
        + "; ".join(f"`{q}`: {QUESTIONS[q]}, `{BASELINE}` {percent(blv[q]['baseline'])}" for q in blv)
        + ".",
        Table(["candidate", *blv], blv_rows),
        f"## Conditions\n\n{bullets(data['notes'])}",
    ]
    figure = dot_plot("Candidates on Flickr8k-Expert", "τ-c × 100", {**free["tau_c"], **references["tau_c"]})
    return Page(f"Training-free candidates, model {data['encoder']['name']}", blocks, figure)


@script("studies.candidates", render)
def main(arguments: Arguments) -> tuple[str, Data]:
    """Agreement with people of training-free changes of I0TScore and RefI0TScore."""
    model, resampling = arguments.required_model(), arguments.resampling
    ratings = read_expert(arguments)
    split = read_split(arguments.folder(), "dev")
    with open_embedder(model) as embedder:
        fingerprint = embedder.fingerprint
        known = builtin_statistics(fingerprint)
        if known is None:
            raise InputError(f"No statistics are shipped for {fingerprint.name}, and this study needs them.")
        dev = encode(embedder, split.images, split.captions)
        found = measure_expert(ratings, embedder, dev, known, resampling)
        blv = measure_blv(arguments.folder(), list(found["free"]["tested"]), embedder, dev, known, resampling)
    return arguments.stem("candidates"), {
        "schema": SCHEMA,
        "command": arguments.command,
        "encoder": asdict(fingerprint),
        "resampling": asdict(resampling),
        "introduction": f"Flickr8k-Expert, {len(ratings.rating):,} ratings of {len(ratings.samples):,} pairs, model "
        f"{arguments.label}.",
        **found,
        "blv": blv,
        "notes": [*NOTES, *[LITE] * (arguments.label == "lite"), encoder_note(fingerprint)],
    }


NOTES = (
    f"mirrored: the mean of the embeddings of the image and its mirror image; prompts: the mean over the prefixes "
    f"{', '.join(repr(prompt) for prompt in PROMPTS)} and that of the metrics, each centered on its own mean",
    f"locations(a): I0TScore + a · the mean similarity of the caption with the {NEAREST_LOCATIONS:.0%} most similar "
    "locations of the feature map; words(a): the same for each content word, averaged over the words",
    f"hubness(a): I0TScore − a · the mean similarities of the image and of the caption with their {NEIGHBORS} nearest "
    "captions and images of the dev split",
    "mutual information(r): pointwise mutual information of Gaussians fitted to the dev split (MID, Kim et al. 2022), "
    "with a ridge of r times the mean variance",
    "means of locations, words and prompts, neighbors, and covariances of pairs come from the dev split; all else from "
    "the built-in statistics",
)


if __name__ == "__main__":
    main()
