"""Pairs of images and captions as I0T_async is trained on them: embedded once, or anew under dropout."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from i0tscore.encoders.attention import attention_dropout, attention_layers
from i0tscore.encoders.images import ImageInput, decode
from i0tscore.errors import UsageError
from i0tscore.training.schedule import Rows

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder


class Passes(NamedTuple):
    """Unit embeddings of one batch.

    Attributes:
        images: Shape (n, d), one tensor a pass.
        captions: The same, row i belonging to image i.
    """

    images: list[torch.Tensor]
    captions: list[torch.Tensor]


class Pairs(Protocol):
    """Where batches come from."""

    @property
    def groups(self) -> Rows:
        """Which image each pair has (n,)."""

    @property
    def dimension(self) -> int:
        """Length of an embedding."""

    @property
    def identity(self) -> str:
        """Hash of the data, to tell whether a checkpoint belongs to it."""

    def passes(self, rows: Rows, seed: int) -> Passes:
        """Embeddings of some pairs; the same rows and seed give the same."""


@dataclass(frozen=True, slots=True, eq=False)
class CachedPairs:
    """Pairs whose embeddings are at hand: one pass a side.

    Attributes:
        images: Unit embeddings (n, d), float32.
        captions: Unit embeddings (n, d), row i belonging to image i.
        groups: Which image each pair has (n,).
    """

    images: NDArray[np.float32]
    captions: NDArray[np.float32]
    groups: Rows

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return int(self.images.shape[1])

    @property
    def identity(self) -> str:
        """Hash of embeddings and groups."""
        arrays = (self.images, self.captions, self.groups)
        return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()

    def passes(self, rows: Rows, seed: int) -> Passes:
        """The embeddings of some pairs; the seed changes nothing."""
        return Passes([torch.from_numpy(self.images[rows])], [torch.from_numpy(self.captions[rows])])


class DropoutPairs:
    """Pairs encoded anew for each batch, two passes a side under dropout inside attention (MCSIE).

    An image tower without attention (``lite``, ResNets) has nothing to drop: its embeddings are taken
    from ``cached``, one pass, which gives the same mean over pairs as two equal ones.

    Args:
        encoder: An ``OpenClipEncoder``; its weights are not touched.
        images: The image of each pair (n).
        captions: The caption of each pair (n), prefix included, cut to the context length.
        cached: The same pairs without dropout.
        dropout: Share of the attention weights dropped.

    Raises:
        UsageError: The encoder shows no model to drop from.
    """

    def __init__(
        self,
        encoder: Encoder,
        images: Sequence[ImageInput],
        captions: Sequence[str],
        cached: CachedPairs,
        dropout: float = 0.1,
    ) -> None:
        model = getattr(encoder, "model", None)
        if not isinstance(model, nn.Module):
            raise UsageError("MCSIE needs a model with attention layers: train without it (--no-mcsie)")
        self._encoder, self._model, self._cached, self._dropout = encoder, model, cached, dropout
        self._images = images if attention_layers(getattr(model, "visual", model)) else None
        self._tokens = encoder.tokenize(captions)
        self.groups = cached.groups
        self.dimension = cached.dimension

    @property
    def identity(self) -> str:
        """Hash of the embeddings without dropout."""
        return self._cached.identity

    def passes(self, rows: Rows, seed: int) -> Passes:
        """Encode some pairs twice; the seed says what is dropped, and torch's generator is left alone."""
        device: Any = getattr(self._encoder, "device", torch.device("cpu"))
        tokens = [self._tokens[row] for row in rows]
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            attention_dropout(self._model, self._dropout),
        ):
            torch.manual_seed(seed)
            images = self._cached.passes(rows, seed).images
            if self._images is not None:
                pixels = torch.stack([self._encoder.preprocess(decode(self._images[row])) for row in rows])
                images = [_plain(self._encoder.encode_pixels(pixels)) for _ in range(2)]
            captions = [_plain(self._encoder.encode_tokens(tokens)) for _ in range(2)]
        return Passes(images, captions)


def _plain(vectors: torch.Tensor) -> torch.Tensor:
    """A tensor that gradients may pass by: encoders give inference tensors, maybe on another device."""
    return vectors.cpu().clone()
