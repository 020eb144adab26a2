"""Training of the projection heads of ``lite`` on features of its frozen towers."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from i0tscore.encoders.lite_heads import LiteHead
from i0tscore.errors import InputError
from i0tscore.training.losses import contrastive_loss


@dataclass(frozen=True, slots=True)
class HeadRecipe:
    """How heads are trained; the defaults were chosen on the dev split.

    Attributes:
        epochs: Passes over the photographs, each with one view and one caption drawn anew.
        batch_size: Pairs a step.
        learning_rate: Highest of the one-cycle schedule.
        weight_decay: Of AdamW.
        logit_scale: Fixed and high, as CLIP's becomes: it keeps images and texts in separate cones.
        hard_weight: Weight of the own caption in the targets; the rest goes to similar captions.
        target_temperature: Of the softmax over caption–caption cosines.
        image_dropout: Share of the inputs dropped in the image head.
        caption_dropout: The same in the caption head.
        class_pairs: Pairs of class and class caption added to each batch, where there are any.
        hidden: Width of the heads' hidden layer.
        image_intra: Weight of an intra-modal term as in SLIP (Mu et al. 2022): a contrastive loss between
            two views of each photograph, drawn apart and with dropout apart. 0 for none, as CLIP is trained.
        caption_intra: The same between two captions of each photograph.
        intra_scale: Logit scale of both terms, by default SLIP's.
    """

    epochs: int = 40
    batch_size: int = 1000
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    logit_scale: float = 50.0
    hard_weight: float = 0.5
    target_temperature: float = 0.1
    image_dropout: float = 0.5
    caption_dropout: float = 0.3
    class_pairs: int = 100
    hidden: int = 1024
    image_intra: float = 0.0
    caption_intra: float = 0.0
    intra_scale: float = 10.0

    @property
    def intra_modal(self) -> bool:
        """Whether there is an intra-modal term."""
        return self.image_intra > 0 or self.caption_intra > 0


@dataclass(frozen=True, slots=True)
class PairFeatures:
    """Features of n photographs, or of what stands for them, and k captions of each.

    Attributes:
        images: One feature a view, shape (n, views, f).
        captions: What the caption head takes, shape (n, k, g).
        meanings: What the soft targets compare: features of the captions without prefix, (n, k, h).
    """

    images: torch.Tensor
    captions: torch.Tensor
    meanings: torch.Tensor

    def draw(self, rows: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Image, caption and meaning of each row, with a view and a caption drawn at random."""
        views = torch.randint(self.images.shape[1], (len(rows),), generator=generator)
        which = torch.randint(self.captions.shape[1], (len(rows),), generator=generator)
        return self.images[rows, views], self.captions[rows, which], self.meanings[rows, which]


def train_heads(
    features: PairFeatures, recipe: HeadRecipe, seed: int, classes: PairFeatures | None = None
) -> tuple[LiteHead, LiteHead]:
    """Train an image and a caption head; the same seed, features and threads give the same heads.

    Args:
        features: The training data, at least one batch.
        recipe: How.
        seed: Of initial weights, order, views, captions and dropout.
        classes: Further pairs, of which ``recipe.class_pairs`` join each batch.

    Raises:
        InputError: There are fewer photographs than a batch holds.
    """
    size, count = recipe.batch_size, len(features.images)
    if count < size:
        raise InputError(f"{count} photographs do not fill a batch of {size}: train on more")
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    heads = (
        LiteHead(features.images.shape[-1], hidden=recipe.hidden, dropout=recipe.image_dropout),
        LiteHead(features.captions.shape[-1], hidden=recipe.hidden, dropout=recipe.caption_dropout),
    )
    parameters = [parameter for head in heads for parameter in head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * (count // size)
    )
    for epoch in range(recipe.epochs):
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - size + 1, size):
            own = order[start : start + size]
            batch = features.draw(own, generator)
            if classes is not None:
                rows = torch.randint(len(classes.images), (recipe.class_pairs,), generator=generator)
                drawn = zip(batch, classes.draw(rows, generator), strict=True)
                batch = tuple(torch.cat(parts) for parts in drawn)
            other = features.draw(own, generator) if recipe.intra_modal else None
            loss = _loss(heads, batch, recipe, other)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        logging.getLogger("i0tscore").info("seed %d, epoch %d: loss %.4f", seed, epoch + 1, loss.item())
    for head in heads:
        head.eval().requires_grad_(False)
    return heads


@torch.inference_mode()
def embed(head: LiteHead, features: torch.Tensor) -> NDArray[np.float32]:
    """Unit embeddings (n, d) of features (n, f)."""
    vectors: NDArray[np.float32] = _unit(head, features).numpy()
    return vectors


def embed_pairs(
    heads: tuple[LiteHead, LiteHead], pairs: PairFeatures
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit embeddings of the images in their first view (n, d) and of their captions (k·n, d)."""
    return embed(heads[0], pairs.images[:, 0]), embed(heads[1], pairs.captions.flatten(0, 1))


def soft_targets(captions: torch.Tensor, *, hard_weight: float, temperature: float) -> torch.Tensor:
    """Return contrastive targets that give partial credit to similar captions.

    Caption corpora are full of near-duplicates ("a dog runs", "a dog is running"), which one-hot targets
    push apart. Row i mixes the one-hot target with a softmax over caption–caption cosines.

    Args:
        captions: Caption features of a batch, shape (n, d), not necessarily normalized.
        hard_weight: Weight of the one-hot target, in [0, 1].
        temperature: Softmax temperature, greater than 0.

    Returns:
        Probabilities of shape (n, n); each row sums to 1.

    Example:
        >>> soft_targets(torch.eye(2), hard_weight=1.0, temperature=0.1)
        tensor([[1., 0.],
                [0., 1.]])
    """
    unit = functional.normalize(captions, dim=-1)
    soft = (unit @ unit.T / temperature).softmax(dim=-1)
    return hard_weight * torch.eye(len(unit), dtype=soft.dtype) + (1.0 - hard_weight) * soft


def _loss(
    heads: tuple[LiteHead, LiteHead],
    batch: tuple[torch.Tensor, ...],
    recipe: HeadRecipe,
    other: tuple[torch.Tensor, ...] | None,
) -> torch.Tensor:
    """The loss of a batch; ``other`` has further views and captions of its first photographs."""
    images, captions, meanings = batch
    targets = soft_targets(meanings, hard_weight=recipe.hard_weight, temperature=recipe.target_temperature)
    x, y = _unit(heads[0], images), _unit(heads[1], captions)
    loss = contrastive_loss(x, y, recipe.logit_scale, targets)
    if other is not None:
        for weight, head, one, again in (
            (recipe.image_intra, heads[0], x, other[0]),
            (recipe.caption_intra, heads[1], y, other[1]),
        ):
            loss = loss + weight * contrastive_loss(one[: len(again)], _unit(head, again), recipe.intra_scale)
    return loss


def _unit(head: LiteHead, features: torch.Tensor) -> torch.Tensor:
    return functional.normalize(head(features), dim=-1)
