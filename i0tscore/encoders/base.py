"""The interface of encoders, and the fingerprint that identifies one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything that determines the embeddings of an encoder.

    Attributes:
        name: Display name, e.g. ``ViT-B-32-quickgelu/openai`` or ``lite``.
        weights: First 12 hex digits of the SHA-256 of all weights in their original precision.
        activation: ``quickgelu`` or ``gelu``.
        preprocess: Image size, resize mode, and interpolation, with a short hash of mean and standard deviation.
        precision: ``fp32``, ``bf16``, or ``fp16``.
    """

    name: str
    weights: str
    activation: str
    preprocess: str
    precision: str

    @property
    def space(self) -> str:
        """Identifier of the embedding space: everything except name and precision."""
        return f"{self.weights}.{self.activation}.{self.preprocess}"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of one text.

    Attributes:
        ids: Ids without padding, begin and end tokens included, at most the context length.
        cut: Number of tokens that did not fit; the end token is always kept.
        unknown: Number of ids of unknown tokens.
    """

    ids: tuple[int, ...]
    cut: int
    unknown: int = 0


@runtime_checkable
class Encoder(Protocol):
    """Maps images and texts to unit vectors in one space.

    Encoders are pure functions of one batch. ``i0tscore.encoders.loop`` deduplicates, batches, decodes, and caches.
    """

    @property
    def fingerprint(self) -> Fingerprint:
        """Fingerprint of the encoder."""

    @property
    def dimension(self) -> int:
        """Length of an embedding."""

    @property
    def context_length(self) -> int:
        """Maximum number of tokens of a text, begin and end tokens included."""

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Convert an image to the input of the image tower, float32 (3, H, W).

        Args:
            image: An RGB image of any size.
        """

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode images to unit float32 embeddings (n, d).

        Args:
            pixels: Preprocessed images (n, 3, H, W).
        """

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenize texts, truncated to the context length before the end token.

        Args:
            texts: Captions with their prefix, or references.
        """

    def encode_tokens(self, tokens: Sequence[Tokens]) -> torch.Tensor:
        """Encode texts to unit float32 embeddings (n, d).

        Args:
            tokens: Tokenized texts, to be padded no further than the longest.
        """


@runtime_checkable
class LocalEncoder(Encoder, Protocol):
    """An encoder that also embeds each location of an image, in the same space as whole images."""

    @property
    def location_grid(self) -> tuple[int, int] | None:
        """Rows and columns of locations; None if the image tower has none."""

    def location_box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return the part of an image that the locations cover: left, top, right, bottom, in [0, 1].

        Args:
            size: Width and height of the image.
        """

    def encode_locations(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode each location of images to unit float32 embeddings (n, locations, d).

        Args:
            pixels: Preprocessed images (n, 3, H, W).
        """


@runtime_checkable
class PseudoTokenEncoder(Encoder, Protocol):
    """An encoder that accepts vectors in place of token embeddings, for inversion of images."""

    device: torch.device

    @property
    def token_width(self) -> int:
        """Length of a token embedding, the input of the text tower."""

    def prompt_tower(self, prompt: Tokens, placeholder: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the text tower as a function of the pseudo-tokens in a prompt.

        Args:
            prompt: The tokenized prompt.
            placeholder: Token id whose r occurrences in the prompt are replaced by the pseudo-tokens, in order.

        Returns:
            Function from pseudo-tokens (n, r, token_width), without position embeddings, to text features (n, d), with
            gradients, not normalized.
        """


@runtime_checkable
class PseudoPatchEncoder(Encoder, Protocol):
    """An encoder that accepts vectors in place of patch embeddings, for inversion of captions.

    The properties raise ``ModelError`` if the image tower has no patches.
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
        """Module of the image tower whose output the patches replace."""

    def patch_tower(self, count: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the image tower as a function of pseudo-patches.

        Args:
            count: Number of pseudo-patches, at most one for each patch of the grid.

        Returns:
            Function from pseudo-patches (n, count, patch_width), which are spread over the grid by nearest neighbor in
            reading order, to image features (n, d), with gradients, not normalized. The tower adds positions and the
            class token.
        """
