"""The gap of CLIP on pairs whose embeddings others released: ViT-B/16 (500 pairs) and ViT-B/32 (290 pairs).

Run ``python -m studies.gap_pairs --set clip-vitb32``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from human_judgments.report import Data
from human_judgments.script import Arguments, script
from i0tscore.errors import InputError
from i0tscore.gap import NONE, GapStatistics, normalize
from studies.gap import (
    Corpus,
    Vectors,
    conditions,
    held_out_statistics,
    pair_statistics,
    published_conditions,
    render,
    report_data,
)
from studies.standardizers import Condition

HELD_OUT, IN_SAMPLE = "the other half", "the scored half"
NOTES = (
    "there are only embeddings, without images, classes, and ratings: class accuracy, agreement with people, "
    "retrieval with several captions, and I0T_async with MCSIE are not measured",
    "the gallery is small, so recall is higher than among 1,000 items, and intervals are wide",
    "async: so few pairs are at most four batches per epoch, within the paper's warm-up, so that only running "
    "statistics matter; every batch has the same weight in them",
    "nnn: hubness is measured by the nearest quarter of a bank of all pairs of the half, not by 256 of thousands",
    "COCO's images: SpLiCE's mean of COCO's images (Apache-2.0) with the other half's mean caption",
    "statistics of the scored half itself are the paper's method for I0T_post; those of the other half are what fixed "
    "statistics give in use",
)


@dataclass(frozen=True, slots=True)
class PairSet:
    """Embeddings of image–caption pairs that others released.

    Attributes:
        stem: Name of the report's files.
        model: Model of the embeddings.
        files: One file of shape (2, n, d), images first, or one of images and one of captions, (n, d) each.
        origin: What the pairs are and where they come from.
        notes: Notes on this set.
        coco: Key of the mean of COCO's images in ``MEANS``.
        foreign: Name of another corpus and the keys of its mean image and caption, or None.
        published: Whether the figures of An et al. 2025 are for the same model.
    """

    stem: str
    model: str
    files: tuple[Path, ...]
    origin: str
    notes: tuple[str, ...]
    coco: str
    foreign: tuple[str, str, str] | None = None
    published: bool = False


MEANS = Path("clip_means", "means.npz")
SETS = {
    "clip-vitb16": PairSet(
        "gap-clip500",
        "CLIP ViT-B/16",
        (Path("clip_vitb16_pairs", "image_text_500.npy"),),
        "of COCO's validation images, each with one caption (Liang et al. 2022, MIT)",
        (
            "the release does not name the model of this file; its notebook loads ViT-B/16, and the mean image has a "
            "cosine of .98 with SpLiCE's mean of COCO images for ViT-B/16 and of .03 with that for ViT-B/32",
            "An et al. 2025 measure ViT-B/32 and RN50, so their figures are not compared with these",
        ),
        "coco_image_vitb16",
    ),
    "clip-vitb32": PairSet(
        "gap-clip-vitb32",
        "CLIP ViT-B/32",
        (
            Path("clip_vitb32_model_captions", "image_embeddings.npy"),
            Path("clip_vitb32_model_captions", "caption_embeddings.npy"),
        ),
        "of photographs of ten types of scenes, each with a caption that a captioning model wrote without a prefix",
        (
            "captions of a model fit worse than captions by people, and some images have the same caption",
            "the paper's CLIP is fine-tuned for most rows, and its data are Flickr30k, CIFAR-100 and Birdsnap: compare "
            "the direction of changes, not their size",
            "the means of CC12M (Zhou et al. 2023, for DN) are of captions with the prefix 'A photo depicts', which "
            "these captions do not have",
        ),
        "coco_image_vitb32",
        ("CC12M", "cc12m_prefix_image_vitb32", "cc12m_prefix_text_vitb32"),
        published=True,
    ),
}


@script(
    "studies.gap_pairs",
    render,
    click.option("--set", "name", type=click.Choice(list(SETS)), default="clip-vitb16", show_default=True),
)
def main(arguments: Arguments, name: str) -> tuple[str, Data]:
    """The gap of CLIP's embeddings of pairs under every standardizer."""
    pairs, folder = SETS[name], arguments.folder()
    images, captions = read_pairs([folder / file for file in pairs.files])
    count = len(images)
    fit, held = halves(count)
    corpus = Corpus(images[held], captions[held])
    known = held_out_statistics(images[fit], captions[fit], HELD_OUT)
    own = pair_statistics(corpus.images, corpus.captions, IN_SAMPLE)
    # All pairs with their own statistics may have enough rows for the linear separability.
    every = pair_statistics(images, captions, f"all {count}")
    notes = (
        f"{pairs.model} embeddings of {count} pairs {pairs.origin}. Statistics come from {len(fit)} pairs (numpy's "
        f"`default_rng(0).permutation({count})`, first half) or from the {len(held)} others, on which everything is "
        "measured.",
        *pairs.notes,
        *NOTES,
    )
    files = {file.name: hashlib.sha256((folder / file).read_bytes()).hexdigest()[:12] for file in pairs.files}
    return pairs.stem, report_data(
        arguments,
        corpus,
        [*conditions(known), *published_conditions(own)],
        (images[fit], captions[fit]),
        encoder={"model": pairs.model, "sha256": files},
        notes=notes,
        whole=(Corpus(images, captions), [Condition(NONE, every, ""), *published_conditions(every)]),
        foreign=_foreign(folder / MEANS, pairs),
        published=pairs.published,
    )


def _foreign(file: Path, pairs: PairSet) -> dict[str, GapStatistics]:
    """Return the means of other corpora: of both modalities, if known, and of COCO's images alone."""
    try:
        with np.load(file, allow_pickle=False) as means:
            found = {"COCO's images": GapStatistics(means[pairs.coco])}
            if pairs.foreign is not None:
                name, *keys = pairs.foreign
                found = {name: GapStatistics(*(means[key] for key in keys)), **found}
            return found
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{file}: expected a .npz file with means ({error}). Try --data.") from error


def halves(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the pairs for statistics, and those of the measured pairs."""
    order = np.random.default_rng(0).permutation(count)
    return order[: count // 2], order[count // 2 :]


def read_pairs(files: list[Path]) -> tuple[Vectors, Vectors]:
    """Return unit embeddings of images (n, d) and captions (n, d)."""
    arrays = []
    for file in files:
        try:
            arrays.append(np.load(file, allow_pickle=False))
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror}). Try --data.") from error
        except ValueError as error:
            raise InputError(f"{file}: expected a .npy file of numbers ({error}).") from error
    array = arrays[0] if len(arrays) == 1 else np.stack(arrays)
    if array.ndim != 3 or len(array) != 2 or array.shape[1] < 64:
        raise InputError(f"{files[0]}: expected at least 64 pairs of embeddings, shape (2, n, d), got {array.shape}.")
    images, captions = normalize(array.astype(np.float32))
    return images, captions


if __name__ == "__main__":
    main()
