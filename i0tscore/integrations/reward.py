"""I0TScore as a reward of sampled captions: tensors in, tensors out, on the device, without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from i0tscore.encoders.base import Encoder
from i0tscore.encoders.pipeline import batches, check_positive
from i0tscore.errors import InputError, StatisticsError
from i0tscore.gap import Statistics
from i0tscore.integrations.validation import embed_images
from i0tscore.metrics.functional import i0t_score
from i0tscore.metrics.metric import PREFIX
from i0tscore.metrics.statistics_choice import fixed_statistics


class I0TReward:
    """Rewards for self-critical training (Rennie et al. 2017) and other policy gradients.

    Args:
        encoder: From ``load_encoder``, on the device of the training.
        statistics: ``builtin``, a file, or ``Statistics``. They must be fixed: under a batch's own
            statistics a caption's reward would depend on what else was sampled.
        undefined: The reward of a caption without a score: an empty one, or one that equals the mean
            of the statistics. By default the lowest score there is, so that no caption is worse: 0 is
            what an unrelated caption gets, and a captioner that does worse would learn to say nothing.
        batch_size: Captions encoded at once.

    Raises:
        StatisticsError: The statistics are not fixed, or belong to another encoder.

    Example:
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
                f"a reward needs fixed statistics, not {statistics!r}: under a batch's own a caption's "
                "reward depends on the others; fit some with `i0tscore fit` and pass the file"
            )
        self.statistics = fixed
        self.undefined = undefined
        self._encoder = encoder
        self._batch_size = batch_size
        self._means = [torch.from_numpy(side.mean).float() for side in (fixed.image, fixed.caption)]

    def embed(self, images: Any, device: str | torch.device = "cpu") -> torch.Tensor:
        """Unit float32 embeddings (n, d) of images on a device: once, before training.

        Args:
            images: As for ``I0TScorer.score``.
            device: Where the rewards will be wanted.

        Raises:
            InputError: An image cannot be read.
        """
        return torch.from_numpy(embed_images(self._encoder, images)).to(device)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor, captions: Sequence[str] | Sequence[Sequence[str]]) -> torch.Tensor:
        """Score captions; each distinct one is encoded once, and cut where it exceeds the context length.

        Args:
            images: Embeddings (n, d), as ``embed`` gives them.
            captions: One an image, or k an image, without prefix.

        Returns:
            Rewards in [−1, 1] or ``undefined``, (n,) or (n, k) as the captions, on the device and in the
            dtype of ``images`` (computed in float32), without gradient.

        Raises:
            InputError: Not one caption, or not the same number of captions, an image; something else than
                a tensor or strings.
        """
        if not isinstance(images, torch.Tensor):
            raise InputError(f"images are embeddings in a tensor, not {type(images).__name__}: see embed")
        alone = all(isinstance(caption, str) for caption in captions)
        rows: list[Sequence[str]] = [[c] if isinstance(c, str) or c is None else c for c in captions]
        k = len(rows[0]) if rows else 1
        if isinstance(captions, str) or len(rows) != len(images) or any(len(row) != k for row in rows):
            raise InputError(f"{len(images)} images need as many captions, or lists of k captions each")
        flat = [caption for row in rows for caption in row]
        if wrong := [type(caption).__name__ for caption in flat if not isinstance(caption, str)]:
            raise InputError(f"captions are strings; there is {wrong[0]} among them: write it, or an empty one")
        shape = (len(rows),) if alone else (len(rows), k)
        if not flat:
            return images.new_empty(shape)
        places: dict[str, int] = {}
        index = torch.tensor([places.setdefault(caption, len(places)) for caption in flat])
        empty = torch.tensor([not caption.strip() for caption in flat])
        y = self._encode(list(places)).to(images.device)[index.to(images.device)]
        x = images.float().repeat_interleave(k, dim=0)
        self._means = [mean.to(images.device) for mean in self._means]
        scores = i0t_score(x, y, *self._means)
        scores = scores.masked_fill(scores.isnan() | empty.to(images.device), self.undefined)
        return scores.view(shape).to(images.dtype)

    def _encode(self, captions: list[str]) -> torch.Tensor:
        """Embeddings of captions, sorted by length on the way so that batches need little padding."""
        tokens = self._encoder.tokenize([PREFIX + caption for caption in captions])
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i].ids), reverse=True)
        parts = [self._encoder.encode_tokens([tokens[i] for i in part]) for part in batches(order, self._batch_size)]
        vectors = torch.cat(parts)
        return vectors[torch.tensor(order, device=vectors.device).argsort()]
