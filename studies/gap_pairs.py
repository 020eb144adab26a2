"""The gap of real CLIP: 500 pairs embedded by ViT-B/32, released by Liang et al. 2022."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from human_judgments.arguments import Arguments, script
from human_judgments.report import Report
from i0tscore.errors import InputError
from i0tscore.gap import NONE, normalize
from studies.gap_conditions import (
    conditions,
    held_out_statistics,
    pair_statistics,
    published_conditions,
)
from studies.gap_report import SIZES, Study, report
from studies.gap_study import Corpus, Vectors
from studies.standardizer_study import Condition

FILE = Path("clip_vitb32_pairs", "image_text_500.npy")
HELD_OUT, IN_SAMPLE = "the other half", "the scored half"
NOTES = (
    "embeddings only: without images, captions, classes and ratings there is no class accuracy, no agreement "
    "with people, no retrieval with several captions, and no I0T_async with MCSIE",
    "which photographs and captions these are is not said, and whether the captions had a prefix; the "
    "pairs are real CLIP ViT-B/32 embeddings, so the gap is CLIP's own and not that of a substitute",
    "250 pairs are a small gallery: recalls are higher than among 1,000 and their intervals wide",
    "async: 250 pairs are four batches an epoch, within the paper's warm-up, so that only running statistics "
    "matter; every batch weighs the same in them",
    "nnn: a hub is judged by its 62 nearest of a bank of 250, not by 256 of thousands",
    "statistics of the scored half itself are the paper's way for I0T_post; the other half is what a user of "
    "fixed statistics has",
)


@script("studies.gap_pairs")
def main(arguments: Arguments) -> Report:
    """The gap of 500 real CLIP pairs under every standardizer; --data is the .npy file or its folder."""
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
    tried = [*conditions(known), *published_conditions(own)]
    sizes = [*(size for size in SIZES if size < len(fit)), len(fit)]
    return report(
        Study(
            stem=f"gap-clip{count}",
            title=f"The modality gap of {count} CLIP ViT-B/32 pairs, and what removing it does",
            introduction=f"CLIP ViT-B/32 embeddings of {count} image–text pairs (Liang et al. 2022, MIT). "
            f"Statistics come from {len(fit)} pairs (numpy's `default_rng(0).permutation({count})`, first "
            f"half) or from the {len(held)} others, on which everything is measured.",
            corpus=corpus,
            conditions=tried,
            ablation=(),
            condition_of={str(c.standardizer): c.name for c in tried},
            pairs=(images[fit], captions[fit]),
            sizes=sizes,
            notes=[*NOTES, f"file {file.name}, SHA-256 {digest}"],
            signature={"file": file.name, "sha256": digest},
            whole=_whole(images, captions),
        ),
        arguments,
    )


def _whole(images: Vectors, captions: Vectors) -> tuple[Corpus, list[Condition]]:
    """All pairs with their own statistics: enough rows for the linear separability."""
    statistics = pair_statistics(images, captions, f"all {len(images)}")
    return Corpus(images, captions), [Condition(NONE, statistics, ""), *published_conditions(statistics)]


def _read(file: Path) -> tuple[Vectors, Vectors]:
    try:
        array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}): give --data") from error
    except ValueError as error:
        raise InputError(f"{file} is no .npy file of numbers: {error}") from error
    if array.ndim != 3 or len(array) != 2 or array.shape[1] < 64:
        raise InputError(f"{file}: at least 64 pairs of embeddings are (2, n, d), not {array.shape}")
    images, captions = normalize(array.astype(np.float32))
    return images, captions


if __name__ == "__main__":
    main()
