"""The gap of CLIP ViT-B/32 on 500 pairs, whose embeddings Liang et al. 2022 released.

Run ``python -m studies.gap_pairs``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from human_judgments.report import Data
from human_judgments.script import Arguments, script
from i0tscore.errors import InputError
from i0tscore.gap import NONE, normalize
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

FILE = Path("clip_vitb32_pairs", "image_text_500.npy")
HELD_OUT, IN_SAMPLE = "the other half", "the scored half"
NOTES = (
    "embeddings only: without images, captions, classes and ratings there is no class accuracy, no agreement with "
    "people, no retrieval with several captions, and no I0T_async with MCSIE",
    "the source does not say which images and captions these are, nor whether the captions had a prefix; the pairs are "
    "real CLIP ViT-B/32 embeddings, so the gap is CLIP's own and not that of a substitute",
    "250 pairs are a small gallery: recall is higher than among 1,000, with wide intervals",
    "async: 250 pairs are four batches per epoch, within the paper's warm-up, so that only running statistics matter; "
    "every batch has the same weight in them",
    "nnn: hubness is measured by the 62 nearest items of a bank of 250, not by 256 of thousands",
    "statistics of the scored half itself are the paper's method for I0T_post; those of the other half are what fixed "
    "statistics give in use",
)


@script("studies.gap_pairs", render)
def main(arguments: Arguments) -> tuple[str, Data]:
    """The gap of 500 CLIP pairs under every standardizer; --data is the .npy file or its folder."""
    folder = arguments.folder()
    file = folder if folder.is_file() else folder / FILE
    images, captions = _read(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    count = len(images)
    order = np.random.default_rng(0).permutation(count)
    fit, held = order[: count // 2], order[count // 2 :]
    corpus = Corpus(images[held], captions[held])
    known = held_out_statistics(images[fit], captions[fit], HELD_OUT)
    own = pair_statistics(corpus.images, corpus.captions, IN_SAMPLE)
    # All pairs with their own statistics have enough rows for the linear separability.
    every = pair_statistics(images, captions, f"all {count}")
    notes = (
        f"CLIP ViT-B/32 embeddings of {count} image–text pairs (Liang et al. 2022, MIT). Statistics come from "
        f"{len(fit)} pairs (numpy's `default_rng(0).permutation({count})`, first half) or from the {len(held)} others, "
        "on which everything is measured.",
        *NOTES,
        f"file {file.name}, SHA-256 {digest}",
    )
    return f"gap-clip{count}", report_data(
        arguments,
        corpus,
        [*conditions(known), *published_conditions(own)],
        (images[fit], captions[fit]),
        encoder={"file": file.name, "sha256": digest},
        notes=notes,
        whole=(Corpus(images, captions), [Condition(NONE, every, ""), *published_conditions(every)]),
    )


def _read(file: Path) -> tuple[Vectors, Vectors]:
    try:
        array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}). Try --data.") from error
    except ValueError as error:
        raise InputError(f"{file}: expected a .npy file of numbers ({error}).") from error
    if array.ndim != 3 or len(array) != 2 or array.shape[1] < 64:
        raise InputError(f"{file}: expected at least 64 pairs of embeddings, shape (2, n, d), got {array.shape}.")
    images, captions = normalize(array.astype(np.float32))
    return images, captions


if __name__ == "__main__":
    main()
