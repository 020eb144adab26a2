"""I0TScore as a reward for sampled captions, on tensors that stay on their device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from i0tscore.encoders.base import Encoder
from i0tscore.encoders.encode import ordered
from i0tscore.encoders.loop import batches, check_positive
from i0tscore.errors import InputError, StatisticsError
from i0tscore.gap import Statistics
from i0tscore.integrations.validation import embed_images
from i0tscore.metrics.functional import i0t_score
from i0tscore.metrics.metric import PREFIX
from i0tscore.metrics.statistics_choice import fixed_statistics


class I0TReward:
    """Rewards for self-critical training (Rennie et al. 2017) and other policy gradients.

    Args:
        encoder: From ``load_encoder``, on the training device.
        statistics: ``builtin``, a file, or ``Statistics``. They must be fixed: under per-run statistics a caption's
            reward would depend on the other captions.
        undefined: Reward of a caption without a score: one that is empty, or equals the reference mean. By default
            the lowest score, so that no caption is worse. An unrelated caption scores about 0, so with 0 a poor
            captioner would learn to write empty captions.
        batch_size: Captions per encoder batch.

    Raises:
        StatisticsError: The statistics are not fixed, or belong to another encoder.

    Examples:
        >>> from i0tscore import load_encoder
        >>> reward = I0TReward(load_encoder("lite"))
        >>> images = torch.nn.functional.normalize(torch.randn(2, 256), dim=1)
        >>> reward(images, [["a dog", "a cat"], ["a red car", ""]]).shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        encoder: Encoder,
        statistics: str | Path | Statistics = "builtin",
        *,
        undefined: float = -1.0,
        batch_size: int = 256,
    ) -> None:
        check_positive(batch_size=batch_size)
        fixed = fixed_statistics(statistics, encoder.fingerprint, PREFIX)
        if fixed is None:
            raise StatisticsError(
                f"Expected fixed statistics, got {statistics!r}. Under per-run statistics a caption's reward depends "
                "on the other captions. Fit statistics with `i0tscore fit` and pass the file."
            )
        self.statistics = fixed
        self.undefined = undefined
        self._encoder = encoder
        self._batch_size = batch_size
        self._means = [torch.from_numpy(side.mean).float() for side in (fixed.image, fixed.caption)]

    def embed(self, images: Any, device: str | torch.device = "cpu") -> torch.Tensor:
        """Return unit float32 embeddings (n, d) of images, to be computed once, before training.

        Args:
            images: As for ``I0TScorer.score``.
            device: Device of the embeddings, and so of the rewards.

        Raises:
            InputError: An image cannot be read.
        """
        return torch.from_numpy(embed_images(self._encoder, images)).to(device)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor, captions: Sequence[str] | Sequence[Sequence[str]]) -> torch.Tensor:
        """Score captions. Each distinct caption is encoded once, and truncated to the context length.

        Args:
            images: Embeddings (n, d) from ``embed``.
            captions: One or k captions per image, without prefix.

        Returns:
            Rewards in [−1, 1] or ``undefined``, (n,) or (n, k) like the captions, on the device and in the dtype of
            ``images`` (computed in float32), without gradient.

        Raises:
            InputError: The numbers of images and captions do not match, ``images`` is not a tensor, or a caption is
                not a string.
        """
        if not isinstance(images, torch.Tensor):
            raise InputError(f"Expected a tensor of embeddings, got {type(images).__name__}. Use embed(images).")
        captions = list(ordered(captions, "captions"))
        single = all(isinstance(caption, str) for caption in captions)
        rows: list[Sequence[str]] = [[c] if isinstance(c, str) or c is None else c for c in captions]
        k = len(rows[0]) if rows else 1
        if len(rows) != len(images) or any(len(row) != k for row in rows):
            raise InputError(f"Expected {len(images)} captions, or {len(images)} lists of k captions, one per image.")
        flat = [caption for row in rows for caption in row]
        if wrong := [type(caption).__name__ for caption in flat if not isinstance(caption, str)]:
            raise InputError(f"Expected captions to be strings, got {wrong[0]}. An empty string is allowed.")
        shape = (len(rows),) if single else (len(rows), k)
        if not flat:
            return images.new_empty(shape)
        positions: dict[str, int] = {}
        index = torch.tensor([positions.setdefault(caption, len(positions)) for caption in flat])
        empty = torch.tensor([not caption.strip() for caption in flat])
        y = self._encode(list(positions)).to(images.device)[index.to(images.device)]
        x = images.float().repeat_interleave(k, dim=0)
        self._means = [mean.to(images.device) for mean in self._means]
        scores = i0t_score(x, y, *self._means)
        scores = scores.masked_fill(scores.isnan() | empty.to(images.device), self.undefined)
        return scores.view(shape).to(images.dtype)

    def _encode(self, captions: list[str]) -> torch.Tensor:
        """Encode captions, sorted by length so that batches need little padding."""
        tokens = self._encoder.tokenize([PREFIX + caption for caption in captions])
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i].ids), reverse=True)
        parts = [self._encoder.encode_tokens([tokens[i] for i in part]) for part in batches(order, self._batch_size)]
        vectors = torch.cat(parts)
        return vectors[torch.tensor(order, device=vectors.device).argsort()]
