"""What every encoder offers, and what it is known by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What decides an encoder's numbers.

    Attributes:
        name: The model as shown, e.g. ``ViT-B-32-quickgelu/openai`` or ``lite``.
        weights: First 12 hex digits of the SHA-256 over all weights (before any change of precision).
        activation: ``quickgelu``, ``gelu``, …
        preprocess: Image size, resize mode and interpolation, with a short hash of mean and deviation.
        precision: ``fp32``, ``bf16`` or ``fp16``.
    """

    name: str
    weights: str
    activation: str
    preprocess: str
    precision: str

    @property
    def space(self) -> str:
        """Identifies the embedding space: all but the name and the precision."""
        return f"{self.weights}.{self.activation}.{self.preprocess}"


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text as the text tower takes it.

    Attributes:
        ids: Token ids without padding, begin and end tokens included, at most the context length.
        cut: How many tokens did not fit; the end token is always kept.
    """

    ids: tuple[int, ...]
    cut: int


@runtime_checkable
class Encoder(Protocol):
    """Images and texts in, unit vectors of one space out.

    Encoders are pure functions of one batch. De-duplication, batching, decoding, caching and long
    captions are the business of ``i0tscore.encoders.loop``.
    """

    @property
    def fingerprint(self) -> Fingerprint:
        """What decides this encoder's numbers."""

    @property
    def dimension(self) -> int:
        """Length of an embedding."""

    @property
    def context_length(self) -> int:
        """Most tokens a text may have, begin and end tokens included."""

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Turn an RGB image into the float32 tensor (3, H, W) the image tower takes."""

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode preprocessed images (n, 3, H, W) to unit float32 embeddings (n, d)."""

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenize texts, each cut to the context length with its end token kept."""

    def encode_tokens(self, tokens: Sequence[Tokens]) -> torch.Tensor:
        """Encode tokenized texts to unit float32 embeddings (n, d), padded no further than the longest."""


@runtime_checkable
class PseudoTokenEncoder(Encoder, Protocol):
    """An encoder that takes vectors in the place of token embeddings, as inversion of images needs."""

    device: torch.device

    @property
    def token_width(self) -> int:
        """Length of a token embedding, the text tower's input."""

    def prompt_tower(self, prompt: Tokens, placeholder: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """The text tower on one prompt, with places for pseudo-tokens.

        Args:
            prompt: The tokenized prompt.
            placeholder: The id in it whose r occurrences the pseudo-tokens replace, in their order.

        Returns:
            From pseudo-tokens (n, r, token_width), before positions are added, to the tower's output
            (n, d), with gradients and not of unit length.
        """


@runtime_checkable
class PseudoPatchEncoder(Encoder, Protocol):
    """An encoder that takes vectors in the place of patch embeddings, as inversion of captions needs.

    Whether a model can is known when its tower is looked at: the properties raise ``ModelError`` where
    the tower has no patches.
    """

    device: torch.device

    @property
    def patch_width(self) -> int:
        """Length of a patch embedding."""

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""

    @property
    def patch_stage(self) -> str:
        """The part of the image tower after which patches enter."""

    def patch_tower(self, count: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """The image tower on a few pseudo-patches.

        Args:
            count: How many there are, at most one for each patch of the grid.

        Returns:
            From pseudo-patches (n, count, patch_width), which are spread over the grid by nearest
            neighbour in reading order, to the tower's output (n, d), with gradients and not of unit
            length. Positions and the class token are added by the tower.
        """
