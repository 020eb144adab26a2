"""Peaks of the mean embeddings of known models, to detect embeddings of another model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.open_clip_models import resolve_model_name

KNOWN_PEAKS: dict[str, tuple[dict[int, float], dict[int, float]]] = {
    "ViT-B-32-quickgelu/openai": ({92: -0.60}, {133: 0.45, 312: 0.45}),
    "ViT-B-16-quickgelu/openai": ({442: 0.62}, {362: 0.59}),
}
"""Coordinates, from 0, that dominate the mean unit image and the mean unit caption, with their values.

ViT-B/32: between the values of CC12M (.58, .44), of COCO's images (.60), and of 290 photographs with captions of a
captioning model (.64, .46), all measured here; An et al. 2025 name the same coordinates, counted from 1. ViT-B/16:
COCO's images and captions in the release of Liang et al. 2022 (.63, .59), and COCO's images in that of SpLiCE (.61).
"""


def contradictions(model: str, image_mean: NDArray[np.floating], caption_mean: NDArray[np.floating]) -> list[str]:
    """Return the reasons why embeddings with these means, (d,) each, cannot be from a model; empty if they can.

    The dimension must be that of ``lite`` or of open_clip's configuration, as far as it is known. At a known peak, the
    mean must have the sign of the peak and at least half its size.

    Raises:
        UsageError: There is no such model.

    Examples:
        >>> contradictions("ViT-B-32/openai", np.zeros(768), np.zeros(768))
        ['ViT-B-32-quickgelu/openai has 512 dimensions, but the embeddings have 768.']
    """
    if model == "lite":
        from i0tscore.encoders.lite import DIMENSION

        name, dimension = model, DIMENSION
    else:
        import open_clip

        resolved = resolve_model_name(model)
        name = resolved.name
        hosted = resolved.architecture.startswith(("hf-hub:", "local-dir:"))
        dimension = len(image_mean) if hosted else open_clip.get_model_config(resolved.architecture)["embed_dim"]
    if len(image_mean) != dimension:
        return [f"{name} has {dimension} dimensions, but the embeddings have {len(image_mean)}."]
    sides = zip(("image", "caption"), (image_mean, caption_mean), KNOWN_PEAKS.get(name, ({}, {})), strict=True)
    return [
        f"Expected about {value:.2f} in coordinate {j} of the mean {kind} ({name}), got {mean[j]:.2f}."
        for kind, mean, peaks in sides
        for j, value in peaks.items()
        if mean[j] * np.sign(value) < abs(value) / 2
    ]
