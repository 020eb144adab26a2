"""The data that heads of ``lite`` are trained and measured on to see what training does within a modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from i0tscore.encoders import lite
from i0tscore.encoders.lite_heads import ImageHeadInput, LiteHeads
from studies.flickr8k import CAPTIONS_PER_IMAGE, Split, read_split
from studies.flickr8k_labels import labels_of
from studies.lite_features import PREFIX, FeatureExtractor
from studies.lite_heads import PairFeatures


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What heads are trained and measured on.

    Attributes:
        names: As in ``LiteHeads``.
        removed: As in ``LiteHeads``.
        train: Training photographs, in the views that were asked for.
        test: Other photographs.
        labelled: Rows of those of them that have a label.
        labels: Their labels.
    """

    names: torch.Tensor
    removed: torch.Tensor
    train: PairFeatures
    test: PairFeatures
    labelled: NDArray[np.int64]
    labels: NDArray[np.str_]


def prepare(data: Path, folder: Path, split: Split, photographs: int, views: Sequence[str] = ("plain",)) -> Material:
    """Features of the first photographs of a split and of the test split, kept in a folder.

    Inputs of the image head are made as for the shipped heads, with the storage directions found there.

    Args:
        data: A folder with ``flickr8k/`` in it.
        folder: Where features are kept and looked for.
        split: What is trained on.
        photographs: How many of it.
        views: Of ``VIEWS``: each photograph is trained on in one of them, drawn anew.

    Raises:
        InputError: A file is missing, or features in the folder are of other data.
    """
    extractor = FeatureExtractor(*lite.build_towers(), folder)
    shipped = LiteHeads.shipped()
    head_input = ImageHeadInput(*lite.classifier(), shipped.names, shipped.removed)

    def features(of: Split, count: int | None, views: Sequence[str]) -> tuple[PairFeatures, tuple[str, ...]]:
        read = read_split(data, of)
        images, texts = read.images[:count], read.captions[: count and count * CAPTIONS_PER_IMAGE]
        name = of if len(images) == len(read.images) else f"{of}{len(images)}"
        seen = [head_input(torch.from_numpy(extractor.images(name, images, view))) for view in views]
        captions = torch.from_numpy(extractor.texts(name, [PREFIX + text for text in texts]))
        captions = captions.reshape(len(images), CAPTIONS_PER_IMAGE, -1)
        return PairFeatures(torch.stack(seen, dim=1), captions, captions), texts

    train, _ = features(split, photographs, views)
    test, texts = features("test", None, ("plain",))
    labels = np.array([label or "" for label in labels_of(texts)])
    labelled = np.flatnonzero(labels != "")
    return Material(shipped.names, shipped.removed, train, test, labelled, labels[labelled])
