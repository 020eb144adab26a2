"""Training and validation data of the captioner: embeddings of images by ``lite``, and captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from captioner import Vocabulary
from torch.utils.data import DataLoader, Dataset

from i0tscore.encoders.base import Encoder
from i0tscore.integrations.validation import embed_images
from studies.flickr8k import CAPTIONS_PER_IMAGE, Split, read_split


class Pairs(Dataset[dict[str, torch.Tensor]]):
    """Image features with one caption each.

    Args:
        features: Features of the images (n, d).
        captions: Captions of each image.
        vocabulary: Converts captions to numbers.
    """

    def __init__(self, features: torch.Tensor, captions: Sequence[Sequence[str]], vocabulary: Vocabulary) -> None:
        self.features = features
        self._pairs = [(i, vocabulary.encode(text)) for i, own in enumerate(captions) for text in own]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        image, numbers = self._pairs[position]
        return {"features": self.features[image], "labels": numbers}


@dataclass
class Corpus:
    """Training and validation pairs, with the vocabulary of the training captions."""

    train: Pairs
    validation: Pairs
    vocabulary: Vocabulary

    @classmethod
    def of(
        cls,
        train: tuple[torch.Tensor, Sequence[Sequence[str]]],
        validation: tuple[torch.Tensor, Sequence[Sequence[str]]],
        least: int = 3,
    ) -> Corpus:
        """Make a corpus from features (n, d) and captions of both splits; words need ``least`` occurrences."""
        vocabulary = Vocabulary((text for own in train[1] for text in own), least)
        return cls(Pairs(*train, vocabulary), Pairs(*validation, vocabulary), vocabulary)

    def loaders(self, batch: int, seed: int) -> tuple[DataLoader, DataLoader]:
        """Return loaders of both splits; the training loader shuffles by the seed, in the same way for every loop."""
        order = torch.Generator().manual_seed(seed)
        return (
            DataLoader(self.train, batch, shuffle=True, generator=order),
            DataLoader(self.validation, batch),
        )


def read_flickr8k(data: Path, encoder: Encoder, *, train: int, validation: int, cache_dir: Path | None) -> Corpus:
    """Read the first images of Flickr8k's training and development splits, in the order of their lists."""

    def part(split: Split, n: int) -> tuple[torch.Tensor, list[Sequence[str]]]:
        found = read_split(data, split)
        paths = found.images[:n]
        captions = [found.captions[CAPTIONS_PER_IMAGE * i :][:CAPTIONS_PER_IMAGE] for i in range(len(paths))]
        return torch.from_numpy(embed_images(encoder, paths, cache_dir=cache_dir)), captions

    return Corpus.of(part("train", train), part("dev", validation))
