"""Optimization of the pseudo-inputs of one batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from i0tscore.inversion.inverted import InversionConfig, Inverted

DEVIATION = 0.02
"""Standard deviation of the initial pseudo-inputs, whose mean is 0."""
PROGRESS = 1e-4
"""Decrease of the loss that counts as progress for ``patience``."""


def initialize(ids: Sequence[str], width: int, config: InversionConfig) -> torch.Tensor:
    """Sample the initial pseudo-inputs of each item from the seed and its id alone.

    Returns:
        Float32 (n, inputs, width), from N(0, 0.02²).
    """
    items = []
    for name in ids:
        digest = hashlib.sha256(f"{config.seed} {name}".encode("utf-8", "surrogatepass")).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        items.append(torch.randn(config.inputs, width, generator=generator))
    return DEVIATION * torch.stack(items)


def cosine_losses(features: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalize features (n, d) and compute 1 − cosine with their unit targets (n, d).

    Returns:
        The unit features (n, d) and the losses (n,), in the dtype of the targets.
    """
    unit = functional.normalize(features.to(targets.dtype), dim=-1)
    return unit, 1 - (unit * targets).sum(dim=-1)


def descend(
    tower: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    targets: torch.Tensor,
    ids: Sequence[str],
    config: InversionConfig,
    on_step: Callable[[], object],
) -> Inverted:
    """Optimize the pseudo-inputs of one batch with AdamW, each item independently.

    The losses are summed, not averaged, so the gradient of an item does not depend on the batch size.

    Args:
        tower: Function from pseudo-inputs (n, inputs, width) to features (n, d), with gradients.
        start: Initial pseudo-inputs.
        targets: Unit vectors (n, d).
        ids: Ids of the items.
        config: Steps, optimizer, evaluations and patience.
        on_step: Called after each update.

    Returns:
        The result; losses are not finite if the features become infinite or NaN.
    """
    inputs = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([inputs], lr=config.lr, weight_decay=config.weight_decay)
    n, k, device = len(targets), len(config.eval_steps), targets.device
    vectors, losses = torch.zeros_like(targets), torch.full((n,), torch.inf, dtype=targets.dtype, device=device)
    updates = torch.zeros(n, dtype=torch.long, device=device)
    running = torch.ones(n, dtype=torch.bool, device=device)
    eval_losses, eval_vectors = torch.zeros(n, k), torch.zeros(n, k, targets.shape[1])
    evaluated = 0
    for step in range(config.steps + 1):
        with torch.set_grad_enabled(step < config.steps):
            features, current = cosine_losses(tower(inputs), targets)
        unit, loss = features.detach(), current.detach()
        if evaluated < k and step == config.eval_steps[evaluated]:
            # Items that have stopped keep their result.
            eval_losses[:, evaluated] = torch.where(running, loss, losses)
            eval_vectors[:, evaluated] = torch.where(running[:, None], unit, vectors)
            evaluated += 1
        better = running if config.patience is None else running & (loss < losses - PROGRESS)
        vectors = torch.where(better[:, None], unit, vectors)
        losses = torch.where(better, loss, losses)
        updates = torch.where(better, step, updates)
        if config.patience is not None:
            running = running & (step - updates < config.patience)
        if step == config.steps or not running.any():
            break
        (inputs.grad,) = torch.autograd.grad(current.sum(), inputs)
        optimizer.step()
        on_step()
    eval_losses[:, evaluated:], eval_vectors[:, evaluated:] = losses[:, None], vectors[:, None]
    return Inverted(
        tuple(ids),
        vectors=vectors.float().cpu().numpy(),
        losses=losses.float().cpu().numpy(),
        updates=updates.cpu().numpy(),
        eval_losses=eval_losses.numpy(),
        eval_vectors=eval_vectors.numpy(),
        config=config,
    )
