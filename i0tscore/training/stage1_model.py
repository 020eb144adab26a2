"""Stage 1 of I0T as a module: both towers in one forward pass, and the loss over all processes' batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import distributed, nn
from torch.nn import functional

from i0tscore.encoders.attention import attention_dropout
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.errors import UsageError
from i0tscore.training.losses import (
    contrastive_loss,
    cross_modal_cyclic_loss,
    in_modal_cyclic_loss,
    mcsie_loss,
)
from i0tscore.training.positions import KEPT_POSITIONS, LONG_CONTEXT

HIGHEST_SCALE = 100.0
"""Where CLIP stops its logit scale."""


@dataclass(frozen=True, slots=True)
class Stage1Recipe:
    """How a CLIP is fine-tuned before its gap is removed.

    The rows of An et al. 2025, Table 1: LCO is ``cyclic_weight=0, mcsie=False``; LCCO ``mcsie=False``;
    LCCOM the default; "+ LN" is ``layer_norm=True``. Optimiser and dropout are those the paper states for
    its second stage; the logit scale is learned, up to 100.

    Attributes:
        context_length: Positions of the text tower.
        kept_positions: How many of the first stay as they were.
        epochs: Passes over the pairs.
        batch_size: Pairs a step and process.
        learning_rate: Highest of the schedule: a linear warm-up, then a half cosine to 0.
        weight_decay: Of AdamW.
        warmup: Steps of the warm-up.
        cyclic_weight: Weight of each of the two cyclic losses; 0 for the contrastive loss alone.
        mcsie: Whether each batch is encoded twice under dropout and the loss averaged over four pairs.
        dropout: Share of the attention weights dropped for MCSIE.
        layer_norm: Whether a LayerNorm stands behind each encoder while training. It is written to a file
            of its own and no part of the encoder.

    Raises:
        UsageError: A number is out of its range.
    """

    context_length: int = LONG_CONTEXT
    kept_positions: int = KEPT_POSITIONS
    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 1e-6
    weight_decay: float = 1e-2
    warmup: int = 200
    cyclic_weight: float = 0.25
    mcsie: bool = True
    dropout: float = 0.1
    layer_norm: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that no training can use."""
        for name, bound in (("epochs", 1), ("batch_size", 2), ("learning_rate", 0), ("warmup", 0)):
            value = getattr(self, name)
            if not bound <= value < math.inf:
                raise UsageError(f"{name.replace('_', ' ')} must be at least {bound}, got {value}")


class Encoded(NamedTuple):
    """What one forward pass gives.

    Attributes:
        images: Unit embeddings (passes · n, d).
        captions: The same of the captions.
        scale: The logit scale.
    """

    images: torch.Tensor
    captions: torch.Tensor
    scale: torch.Tensor


class PairTowers(nn.Module):
    """Both towers of an encoder behind one ``forward``, as ``DistributedDataParallel`` wants it.

    Args:
        encoder: Its parameters are made trainable.
        recipe: For dropout and LayerNorm.
    """

    def __init__(self, encoder: OpenClipEncoder, recipe: Stage1Recipe) -> None:
        super().__init__()
        self._encoder = encoder
        self._passes = 2 if recipe.mcsie else 1
        self._dropout = recipe.dropout if recipe.mcsie else 0.0
        self.model = encoder.model.requires_grad_(True)
        if getattr(self.model, "logit_bias", None) is not None:
            self.model.logit_bias.requires_grad_(False)  # SigLIP's, which this loss has no use for
        norms = (nn.LayerNorm(encoder.dimension) for _ in range(2)) if recipe.layer_norm else ()
        self.norms = nn.ModuleList(norms).to(encoder.device)

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor) -> Encoded:
        """Encode n images and texts, under MCSIE twice: the passes stand one below the other."""
        pixels, ids = pixels.repeat(self._passes, 1, 1, 1), ids.repeat(self._passes, 1)
        if self._dropout:
            with attention_dropout(self.model, self._dropout):
                features = [self._encoder.image_features(pixels), self._encoder.text_features(ids)]
        else:
            features = [self._encoder.image_features(pixels), self._encoder.text_features(ids)]
        x, y = (functional.normalize(side.float(), dim=-1) for side in features)
        if len(self.norms):
            x, y = (functional.normalize(norm(side), dim=-1) for norm, side in zip(self.norms, (x, y), strict=True))
        return Encoded(x, y, self.model.logit_scale.float().exp().clamp(max=HIGHEST_SCALE))


def stage1_loss(encoded: Encoded, recipe: Stage1Recipe) -> torch.Tensor:
    """The loss of one step over the batches of all processes, the same number in each of them.

    Once ``DistributedDataParallel`` has averaged them, its gradients are those that one process with the
    whole batch would have.
    """
    passes = 2 if recipe.mcsie else 1
    images, captions = ([gather(part) for part in side.chunk(passes)] for side in encoded[:2])

    def of_pair(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss = contrastive_loss(x, y, encoded.scale)
        if recipe.cyclic_weight:
            cyclic = in_modal_cyclic_loss(x, y) + cross_modal_cyclic_loss(x, y)
            loss = loss + recipe.cyclic_weight * cyclic
        return loss

    return mcsie_loss(images, captions, of_pair)


def gather(rows: torch.Tensor) -> torch.Tensor:
    """Rows of all processes (world · n, d); gradients flow to this process's own, times the number of them.

    A process knows its own rows' gradients only, and averaging over processes divides them.
    """
    if not distributed.is_initialized():
        return rows
    world = distributed.get_world_size()
    everyone = [torch.empty_like(rows) for _ in range(world)]
    distributed.all_gather(everyone, rows.detach().contiguous())
    own = rows.clone()
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * world)  # type: ignore[no-untyped-call]
    everyone[distributed.get_rank()] = own
    return torch.cat(everyone)
