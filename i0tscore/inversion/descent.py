"""Pseudo-inputs of one batch, moved until the tower's features fit the targets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from i0tscore.errors import ModelError
from i0tscore.inversion.inverted import InversionConfig, Inverted

DEVIATION = 0.02
"""Standard deviation of the initial pseudo-inputs, around 0."""
PROGRESS = 1e-4
"""By how much a loss must fall to count as progress, where ``patience`` is given."""


def initial(ids: Sequence[str], width: int, settings: InversionConfig) -> torch.Tensor:
    """Draw each item's pseudo-inputs from the seed and its id, so that nothing else decides them.

    Returns:
        Float32 (n, inputs, width), from N(0, 0.02²).
    """
    drawn = []
    for name in ids:
        digest = hashlib.sha256(f"{settings.seed} {name}".encode("utf-8", "surrogatepass")).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        drawn.append(torch.randn(settings.inputs, width, generator=generator))
    return DEVIATION * torch.stack(drawn)


def losses_of(features: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale features (n, d) to unit length; 1 − cosine of each with its unit target (n, d).

    Returns:
        The unit features (n, d) and the losses (n,), in the type of the targets.
    """
    unit = functional.normalize(features.to(targets.dtype), dim=-1)
    return unit, 1 - (unit * targets).sum(dim=-1)


def descend(
    tower: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    targets: torch.Tensor,
    ids: Sequence[str],
    settings: InversionConfig,
    on_step: Callable[[], object],
) -> Inverted:
    """Move the pseudo-inputs of one batch with AdamW, each item for itself.

    The losses are added up, not averaged, so an item's gradient does not depend on how many others
    there are.

    Args:
        tower: From pseudo-inputs (n, inputs, width) to features (n, d), with gradients.
        start: The initial pseudo-inputs.
        targets: Unit vectors (n, d).
        ids: The items' ids.
        settings: Steps, optimiser, curve and patience.
        on_step: Called after each update.

    Raises:
        ModelError: If the features stop being finite.
    """
    inputs = start.clone().requires_grad_()
    optimiser = torch.optim.AdamW([inputs], lr=settings.lr, weight_decay=settings.weight_decay)
    record = _Record(targets, settings)
    for step in range(settings.steps + 1):
        last = step == settings.steps
        with torch.set_grad_enabled(not last):
            unit, losses = losses_of(tower(inputs), targets)
        record.note(step, unit.detach(), losses.detach())
        if last or not record.running.any():
            break
        (inputs.grad,) = torch.autograd.grad(losses.sum(), inputs)
        optimiser.step()
        on_step()
    return record.result(ids)


class _Record:
    """Where each item stands: its result so far, whether it still moves, and the curve."""

    def __init__(self, targets: torch.Tensor, settings: InversionConfig) -> None:
        n = len(targets)
        self.settings = settings
        self.vectors = torch.zeros_like(targets)
        self.losses = torch.full((n,), torch.inf, dtype=targets.dtype, device=targets.device)
        self.updates = torch.zeros(n, dtype=torch.long, device=targets.device)
        self.running = torch.ones(n, dtype=torch.bool, device=targets.device)
        self.curve: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def note(self, step: int, unit: torch.Tensor, losses: torch.Tensor) -> None:
        """Take in the features and losses after ``step`` updates."""
        patience = self.settings.patience
        better = self.running if patience is None else self.running & (losses < self.losses - PROGRESS)
        if step in self.settings.curve:
            self.curve[step] = (
                torch.where(self.running, losses, self.losses),
                torch.where(self.running[:, None], unit, self.vectors),
            )
        self.vectors = torch.where(better[:, None], unit, self.vectors)
        self.losses = torch.where(better, losses, self.losses)
        self.updates = torch.where(better, step, self.updates)
        if patience is not None:
            self.running = self.running & (step - self.updates < patience)

    def result(self, ids: Sequence[str]) -> Inverted:
        """The result; in the curve, items that have stopped stay where they are."""
        if not bool(torch.isfinite(self.losses).all()):
            raise ModelError(
                f"{self.settings.model} gave features that are not finite ({self.settings.precision}) while "
                "inverting: use precision fp32, or a smaller lr"
            )
        n, d = self.vectors.shape
        end = (self.losses, self.vectors)
        points = [self.curve.get(step, end) for step in self.settings.curve]
        curve, vectors = (
            torch.stack([point[k] for point in points], dim=1) if points else torch.zeros(n, 0, *tail)
            for k, tail in ((0, ()), (1, (d,)))
        )
        return Inverted(
            tuple(ids),
            vectors=self.vectors.float().cpu().numpy(),
            losses=self.losses.float().cpu().numpy(),
            updates=self.updates.cpu().numpy(),
            curve=curve.float().cpu().numpy(),
            curve_vectors=vectors.float().cpu().numpy(),
            settings=self.settings,
        )
