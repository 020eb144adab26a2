"""An encoder with the cache of its embeddings, as the options of the scripts describe them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from i0tscore.cli.options import ModelOptions
from i0tscore.encoders import load_encoder
from i0tscore.encoders.base import Encoder, Fingerprint
from i0tscore.encoders.cache import EmbeddingCache
from i0tscore.encoders.images import ImageInput
from i0tscore.encoders.loop import Embedded, embed_captions, embed_images
from i0tscore.metrics.metric import PREFIX


@dataclass(frozen=True, slots=True)
class Embedder:
    """Embeds images and prefixed captions, each distinct one once.

    Attributes:
        encoder: What encodes.
        cache: Where embeddings are kept, or None.
        batch_size: Images and captions at once.
        workers: Threads that decode images.
    """

    encoder: Encoder
    cache: EmbeddingCache | None
    batch_size: int
    workers: int

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the encoder."""
        return self.encoder.fingerprint

    def images(self, images: Sequence[ImageInput]) -> Embedded:
        """Embeddings of images."""
        return embed_images(
            self.encoder, images, batch_size=self.batch_size, workers=self.workers, cache=self.cache
        )

    def captions(self, captions: Sequence[str]) -> Embedded:
        """Embeddings of captions, each with the prefix."""
        return embed_captions(
            self.encoder, captions, prefix=PREFIX, batch_size=self.batch_size, cache=self.cache
        )


@contextmanager
def open_embedder(model: ModelOptions) -> Iterator[Embedder]:
    """The encoder that the options describe, its cache open for as long as it is used."""
    encoder = load_encoder(model.model, weights=model.weights, precision=model.precision)
    cache = None if model.no_cache else EmbeddingCache(encoder, model.cache_dir)
    try:
        yield Embedder(encoder, cache, model.batch_size, model.workers)
    finally:
        if cache is not None:
            cache.close()
