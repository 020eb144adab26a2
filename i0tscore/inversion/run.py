"""All items of an inversion: checked, in batches, with progress, taken up where a run was broken off."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from i0tscore.encoders.pipeline import batches, check_positive
from i0tscore.errors import InputError, UsageError
from i0tscore.inversion.descent import descend, initial
from i0tscore.inversion.inverted import InversionConfig, Inverted
from i0tscore.inversion.parts import Parts

LISTED = 5
"""How many ids or rows a message names."""


@dataclass(frozen=True, slots=True)
class Run:
    """One inversion, ready for its targets.

    Attributes:
        settings: What it is done with.
        tower: From pseudo-inputs (n, inputs, width) to features (n, d), with gradients.
        width: Length of a pseudo-input.
        dimension: Length of a target.
        device: Where pseudo-inputs and targets are to be.
    """

    settings: InversionConfig
    tower: Callable[[torch.Tensor], torch.Tensor]
    width: int
    dimension: int
    device: torch.device

    def __call__(
        self,
        vectors: ArrayLike,
        ids: Sequence[str] | None,
        *,
        batch_size: int,
        progress: bool,
        resume: str | Path | None,
    ) -> Inverted:
        """Invert targets (n, d); see ``invert_images``."""
        check_positive(batch_size=batch_size)
        _check_settings(self.settings)
        targets = _targets(vectors, self.dimension, self.settings.model)
        names = tuple(str(i) for i in range(len(targets))) if ids is None else tuple(ids)
        _check_ids(names, len(targets))
        parts = Parts.resumed(resume, names, targets, self.settings)
        done = parts.done
        waiting = [row for row, name in enumerate(names) if name not in done]
        with _bar(len(waiting) * self.settings.steps, shown=progress) as bar:
            for count, batch in enumerate(batches(waiting, batch_size), 1):
                chosen = [names[row] for row in batch]
                parts.add(
                    descend(
                        self.tower,
                        initial(chosen, self.width, self.settings).to(self.device),
                        torch.from_numpy(targets[batch]).to(self.device),
                        chosen,
                        self.settings,
                        on_step=partial(bar.update, len(batch)),
                    )
                )
                # A batch that stopped early has left steps out.
                bar.update(min(count * batch_size, len(waiting)) * self.settings.steps - bar.n)
        return Inverted.join(parts.parts, names)


def _bar(total: int, *, shown: bool) -> tqdm[Any]:
    return tqdm(total=total, desc="inverting", unit=" steps", file=sys.stderr, disable=not shown)


def _check_settings(settings: InversionConfig) -> None:
    check_positive(steps=settings.steps)
    if settings.patience is not None:
        check_positive(patience=settings.patience)
    if settings.lr <= 0 or settings.weight_decay < 0:
        raise UsageError(
            f"lr must be above 0 and weight_decay at least 0, got {settings.lr:g} and {settings.weight_decay:g}"
        )
    outside = [step for step in settings.curve if not 0 <= step <= settings.steps]
    if outside or list(settings.curve) != sorted(set(settings.curve)):
        raise UsageError(
            f"curve must be increasing numbers of updates from 0 to {settings.steps}, got {settings.curve}"
        )


def _targets(vectors: ArrayLike, dimension: int, model: str) -> NDArray[np.float32]:
    values = np.asarray(vectors)
    if values.ndim != 2 or not len(values) or values.shape[1] != dimension:
        raise InputError(
            f"embeddings must be of shape (n, {dimension}) with n ≥ 1 for {model}, got {values.shape}: "
            "invert them with the model that made them"
        )
    exact = values.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        listed = ", ".join(map(str, bad[:LISTED]))
        raise InputError(f"{len(bad)} embeddings are zero or not finite (rows {listed}): encode them again")
    unit: NDArray[np.float32] = (exact / norms[:, None]).astype(np.float32)
    return unit


def _check_ids(ids: tuple[str, ...], n: int) -> None:
    if len(ids) != n:
        raise InputError(f"{len(ids)} ids for {n} embeddings; there must be one for each")
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        listed = ", ".join(repeated[:LISTED])
        raise InputError(f"{len(repeated)} ids are there more than once ({listed}); make them differ")
