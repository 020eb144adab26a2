"""Encoders: images and captions in, unit vectors of one space out.

``base`` says what an encoder is, ``openclip`` makes one of any open_clip model and ``lite`` of the
embedded one; ``loop`` encodes whole data sets, ``cache`` keeps what was encoded.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from i0tscore.encoders.options import DEFAULT_MODEL
from i0tscore.errors import UsageError

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder


def load_encoder(
    model: str = DEFAULT_MODEL,
    *,
    weights: str | PathLike[str] | None = None,
    precision: str = "fp32",
    device: str = "cpu",
    offline: bool = False,
) -> Encoder:
    """Load an encoder by name.

    Args:
        model: ``lite``, an open_clip model as ``architecture/tag``, or open_clip's ``hf-hub:`` and
            ``local-dir:`` names.
        weights: A file to take the weights from: safetensors, or a torch file of tensors alone.
        precision: ``fp32``, ``bf16`` or ``fp16``. Lower precision is faster where the processor has it
            and moves cosines by some 1e-3.
        device: A torch device, or ``auto`` for the best there is.
        offline: Never reach for the network: weights come from ``weights`` or the hub's cache.

    Raises:
        UsageError: If there is no such model, tag, precision or device, or options contradict.
        WeightsUnavailableError: If the weights are not in the cache and cannot be fetched.
        WeightsRefusedError: If they are unsafe, damaged, or made for another model.
    """
    if model == "lite":
        if weights is not None:
            raise UsageError("--weights does not go with --model lite, whose weights are its own")
        from i0tscore.encoders.lite import load_lite

        return load_lite(precision=precision, device=device)
    from i0tscore.encoders.open_clip_models import load_open_clip

    return load_open_clip(model, weights=weights, precision=precision, device=device, offline=offline)
