"""The trained parts of ``lite``: what they are and how they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from torch.nn import functional

from i0tscore.errors import WeightsRefusedError

DIMENSION = 256
"""Length of an embedding."""
HIDDEN = 1024
IMAGE_FEATURES = 1280
TEXT_FEATURES = 384
HEADS_FILE = "lite-heads.safetensors"


class ImageHeadInput(nn.Module):
    """What the image head sees: the pooled image feature and, in words, what ImageNet makes of it.

    The words are the class names' text features averaged with the image tower's class probabilities:
    with them the head can place what its own training data do not show. Directions that only tell how
    a photograph was stored (grain, compression) are taken out.

    Args:
        weight: The image tower's classifier, shape (classes, features).
        bias: Shape (classes,).
        names: Text feature of each class name, shape (classes, text features).
        removed: Orthonormal directions, shape (k, features + text features).
    """

    weight: torch.Tensor
    bias: torch.Tensor
    names: torch.Tensor
    removed: torch.Tensor

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, names: torch.Tensor, removed: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("names", names)
        self.register_buffer("removed", removed)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Turn pooled features (n, features) into (n, features + text features)."""
        probabilities = functional.linear(features, self.weight, self.bias).softmax(dim=-1)
        words = functional.normalize(probabilities @ self.names, dim=-1)
        joined = torch.cat([functional.normalize(features, dim=-1), words], dim=-1)
        return joined - (joined @ self.removed.T) @ self.removed


class LiteHead(nn.Module):
    """A projection head: one linear branch and one branch with a hidden GELU layer, added up.

    The feature is scaled to unit length first and not centred, so that its mean, and with it the gap
    between images and texts, reaches the embedding as in CLIP.

    Args:
        features: Length of the input.
        hidden: Width of the hidden layer.
        dimension: Length of the embedding.
        dropout: Share of the inputs of each layer dropped in training.
    """

    def __init__(
        self, features: int, *, hidden: int = HIDDEN, dimension: int = DIMENSION, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, dimension)
        self.hidden = nn.Linear(features, hidden)
        self.out = nn.Linear(hidden, dimension)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Project features (n, features) to embeddings (n, dimension), not yet of unit length."""
        unit = self.dropout(functional.normalize(features, dim=-1))
        hidden = self.dropout(functional.gelu(self.hidden(unit)))
        projected: torch.Tensor = self.linear(unit) + self.out(hidden)
        return projected


@dataclass(frozen=True, slots=True)
class LiteHeads:
    """All that ``lite`` adds to its towers.

    Attributes:
        names: Text feature of each ImageNet class, shape (1000, 384).
        removed: Directions taken out of the image head's input, shape (k, 1664).
        image: The image head.
        text: The text head.
    """

    names: torch.Tensor
    removed: torch.Tensor
    image: LiteHead
    text: LiteHead

    def save(self, path: Path) -> None:
        """Write a safetensors file, in half precision."""
        tensors = {"names": self.names, "removed": self.removed}
        for prefix, head in (("image.", self.image), ("text.", self.text)):
            tensors |= {f"{prefix}{key}": value for key, value in head.state_dict().items()}
        path.write_bytes(save({key: value.half().contiguous() for key, value in tensors.items()}))

    @classmethod
    def load(cls, path: Path) -> LiteHeads:
        """Read a file that ``save`` wrote; the heads are in evaluation mode.

        Raises:
            WeightsRefusedError: It is missing, damaged, or something else.
        """
        image, text = LiteHead(IMAGE_FEATURES + TEXT_FEATURES), LiteHead(TEXT_FEATURES)
        try:
            stored = {key: value.float() for key, value in load_file(path).items()}
            for head, prefix in ((image, "image."), (text, "text.")):
                parts = {key.removeprefix(prefix): v for key, v in stored.items() if key.startswith(prefix)}
                head.load_state_dict(parts)
                head.eval().requires_grad_(False)
            return cls(stored["names"], stored["removed"], image, text)
        except (SafetensorError, OSError, KeyError, RuntimeError) as error:
            raise WeightsRefusedError(
                f"{path}: not heads of the model lite ({error}); reinstall i0tscore or train them anew"
            ) from error

    @classmethod
    def shipped(cls) -> LiteHeads:
        """The heads that come with the package."""
        with as_file(files("i0tscore.encoders").joinpath("data", HEADS_FILE)) as path:
            return cls.load(path)
