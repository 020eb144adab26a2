"""An encoder with its embedding cache, as the options of the scripts describe them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from i0tscore.cli.options import ModelOptions
from i0tscore.encoders import load_encoder
from i0tscore.encoders.base import Encoder, Fingerprint
from i0tscore.encoders.cache import EmbeddingCache
from i0tscore.encoders.images import ImageInput
from i0tscore.encoders.loop import Embedded, embed_captions, embed_images
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.encoders.options import EncodeOptions
from i0tscore.errors import UsageError
from i0tscore.metrics.metric import PREFIX


@dataclass(frozen=True, slots=True)
class Embedder:
    """Embeds images and prefixed captions, each distinct one once.

    Attributes:
        encoder: The encoder.
        cache: Embedding cache, or None.
        options: Batch size and number of threads that decode images.
    """

    encoder: Encoder
    cache: EmbeddingCache | None
    options: EncodeOptions

    @property
    def fingerprint(self) -> Fingerprint:
        """Fingerprint of the encoder."""
        return self.encoder.fingerprint

    def images(self, images: Sequence[ImageInput]) -> Embedded:
        """Embed images."""
        return embed_images(self.encoder, images, self.options, cache=self.cache)

    def captions(self, captions: Sequence[str]) -> Embedded:
        """Embed captions, each with the prefix."""
        return embed_captions(self.encoder, captions, self.options, prefix=PREFIX, cache=self.cache)

    def text_features(self, captions: Sequence[str]) -> NDArray[np.float32]:
        """Return the output of the text tower for a few captions with the prefix (n, d), not normalized.

        Raises:
            UsageError: The encoder returns only unit vectors.
        """
        if not isinstance(self.encoder, OpenClipEncoder):
            raise UsageError(f"{self.fingerprint.name} returns only embeddings of unit length.")
        tokens = self.encoder.tokenize([PREFIX + caption for caption in captions])
        with torch.inference_mode():
            features: NDArray[np.float32] = self.encoder.text_features(self.encoder.pad(tokens)).float().cpu().numpy()
        return features


@contextmanager
def open_embedder(model: ModelOptions) -> Iterator[Embedder]:
    """Load the encoder that the options describe, with its cache open inside the ``with`` block."""
    encoder = load_encoder(str(model.model), weights=model.weights, precision=model.precision)
    cache = None if model.no_cache else EmbeddingCache(encoder, model.cache_dir)
    try:
        yield Embedder(encoder, cache, EncodeOptions(batch_size=model.batch_size, workers=model.workers))
    finally:
        if cache is not None:
            cache.close()


def rows(embedded: Embedded) -> NDArray[np.float32]:
    """Return one embedding per input (n, d)."""
    return embedded.vectors[embedded.index]


def encoder_note(fingerprint: Fingerprint) -> str:
    """Describe an encoder in the conditions of a report."""
    return (
        f"encoder {fingerprint.name}, weights {fingerprint.weights}, {fingerprint.preprocess}, {fingerprint.precision}"
    )
