"""The data that the heads of ``lite`` are trained and chosen on, as features of its towers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import normalize

from i0tscore.encoders import lite
from i0tscore.encoders.lite_heads import IMAGE_FEATURES, TEXT_FEATURES, ImageHeadInput
from studies.flickr8k import CAPTIONS_PER_IMAGE, Flickr8kSplit
from studies.imagenet import class_captions
from studies.lite_features import PREFIX, STORAGE_VIEWS, VIEWS, FeatureExtractor
from studies.lite_heads import PairFeatures

CAPTIONS_PER_CLASS = 3
STORED = 1000
"""How many training photographs the storage directions are measured on."""
NOTHING = torch.zeros(0, IMAGE_FEATURES + TEXT_FEATURES)


@dataclass(frozen=True, slots=True)
class LiteData:
    """Features of the splits that training may see, image features as the image head takes them.

    Attributes:
        names: One text feature of each ImageNet class, shape (1000, 384).
        removed: Directions taken out of the image features, shape (k, 1664).
        train: The training split.
        classes: Each class's row of the classifier as if it were a photograph, with three captions.
        dev: The dev split.
    """

    names: torch.Tensor
    removed: torch.Tensor
    train: PairFeatures
    classes: PairFeatures
    dev: PairFeatures


def prepare(train: Flickr8kSplit, dev: Flickr8kSplit, folder: Path) -> LiteData:
    """Compute, or take from the folder, all features that training needs."""
    extractor = FeatureExtractor(*lite.build_towers(), folder)

    def captions(name: str, texts: Sequence[str], each: int) -> torch.Tensor:
        return torch.from_numpy(extractor.texts(name, texts)).reshape(len(texts) // each, each, -1)

    def images(name: str, paths: Sequence[Path], view: str = "plain") -> torch.Tensor:
        return torch.from_numpy(extractor.images(name, paths, view))

    of_classes = [caption for each in class_captions() for caption in each]
    prefixed = captions("classes", [PREFIX + text for text in of_classes], CAPTIONS_PER_CLASS)
    names = class_words(prefixed)
    views = [images("train", train.images, view) for view in VIEWS]
    stored = [images("train1000", train.images[:STORED], view) for view in STORAGE_VIEWS]
    removed = storage_directions(ImageHeadInput(*lite.classifier(), names, NOTHING), views[0][:STORED], stored)
    image_input = ImageHeadInput(*lite.classifier(), names, removed)
    # A classifier's row points where its class's photographs are; their usual length makes it one of them.
    rows = normalize(image_input.weight, dim=-1) * views[0].norm(dim=-1).mean()
    dev_captions = captions("dev", [PREFIX + text for text in dev.captions], CAPTIONS_PER_IMAGE)
    return LiteData(
        names=names,
        removed=removed,
        train=PairFeatures(
            torch.stack([image_input(view) for view in views], dim=1),
            captions("train", [PREFIX + text for text in train.captions], CAPTIONS_PER_IMAGE),
            captions("train-bare", train.captions, CAPTIONS_PER_IMAGE),
        ),
        classes=PairFeatures(
            image_input(rows)[:, None], prefixed, captions("classes-bare", of_classes, CAPTIONS_PER_CLASS)
        ),
        dev=PairFeatures(image_input(images("dev", dev.images))[:, None], dev_captions, dev_captions),
    )


def storage_directions(
    image_input: ImageHeadInput, plain: torch.Tensor, stored: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Orthonormal directions in which photographs move when only their storage changes.

    The training photographs lost their fine grain to compression; people's own have it. Left in, these
    directions would move the mean of photographs of another origin, and with it every score.

    Args:
        image_input: What the image head sees, nothing taken out yet.
        plain: Features of photographs as they are, shape (n, f).
        stored: Features of the same, stored otherwise, each of shape (n, f).

    Returns:
        One direction for each way of storing, rounded as they are stored themselves.
    """
    shifts = [(image_input(features) - image_input(plain)).mean(dim=0) for features in stored]
    basis: torch.Tensor = torch.linalg.qr(torch.stack(shifts, dim=1))[0]
    return basis.T.half().float()


def class_words(captions: torch.Tensor) -> torch.Tensor:
    """One unit text feature a class from its name and its name with definition, (n, k, g) to (n, g).

    Rounded as it is stored, so that training sees what the shipped encoder computes.
    """
    return normalize(normalize(captions[:, :2], dim=-1).mean(dim=1), dim=-1).half().float()
