"""Encoders map images and captions to unit vectors in one space.

``base`` defines the interface, ``open_clip_models`` loads open_clip models and ``lite`` the embedded model, ``encode``
and ``loop`` encode whole datasets, and ``cache`` stores embeddings.
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
        model: ``lite``, an open_clip model as ``architecture/tag``, or an ``hf-hub:`` or ``local-dir:`` name of
            open_clip.
        weights: File to load the weights from: safetensors, or a torch file of tensors only.
        precision: ``fp32``, ``bf16``, ``fp16``, or ``auto`` (bf16 where it is faster). Lower precision is faster if the
            hardware supports it, and changes cosines by about 1e-3.
        device: A torch device, or ``auto`` for the best one available.
        offline: Whether to use only local files: ``weights``, or the cache of the hub.

    Raises:
        UsageError: The model, tag, precision, or device does not exist, or options contradict each other.
        WeightsUnavailableError: The weights are not cached and cannot be fetched.
        WeightsRefusedError: The weights are unsafe, damaged, or for another model.
    """
    if model == "lite":
        if weights is not None:
            raise UsageError("--weights cannot be combined with --model lite, which has its own weights.")
        from i0tscore.encoders.lite import load_lite

        return load_lite(precision=precision, device=device)
    from i0tscore.encoders.open_clip_models import load_open_clip

    return load_open_clip(model, weights=weights, precision=precision, device=device, offline=offline)
