"""A CLIP that reads longer texts: position embeddings stretched as in Long-CLIP (Zhang et al. 2024)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from i0tscore.encoders.model_names import resolve_model_name
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.encoders.text import Padding, TextTower
from i0tscore.errors import ModelError, UsageError

LONG_CONTEXT = 248
"""Positions of Long-CLIP: the first 20 as they were, the other 57 stretched to four times as many."""
KEPT_POSITIONS = 20
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


def stretch_positions(positions: torch.Tensor, length: int = LONG_CONTEXT, keep: int = KEPT_POSITIONS) -> torch.Tensor:
    """Stretch position embeddings, leaving the first ones, which short captions trained well, as they are.

    Row keep + j of the result is the old table read at keep + j · (old − keep) / (length − keep), linearly
    between two rows, and beyond the last row along the line through the last two.

    Args:
        positions: Shape (old, d), with old ≥ keep + 2.
        length: Rows of the result, at least old.
        keep: Rows that stay.

    Returns:
        Shape (length, d), of the same dtype and device.

    Raises:
        UsageError: There is nothing to stretch, or the result would be shorter.

    Example:
        >>> stretched = stretch_positions(torch.arange(4.0)[:, None], length=8, keep=2)
        >>> [round(value, 3) for value in stretched.flatten().tolist()]
        [0.0, 1.0, 2.0, 2.333, 2.667, 3.0, 3.333, 3.667]
    """
    old = len(positions)
    if length < old or not 0 <= keep <= old - 2:
        raise UsageError(f"{old} positions cannot be stretched to {length} with the first {keep} kept")
    rest = positions[keep:]
    places = torch.arange(length - keep, dtype=torch.float64) * (len(rest) / (length - keep))
    lower = places.long().clamp(max=len(rest) - 2)
    share = (places - lower).to(positions)[:, None]
    stretched = rest[lower] + share * (rest[lower + 1] - rest[lower])
    return torch.cat([positions[:keep], stretched])


def write_stretched(encoder: OpenClipEncoder, model: str, folder: Path, *, length: int, keep: int) -> str:
    """Write a model with stretched positions as a folder that ``local-dir:`` names.

    Args:
        encoder: The model, in fp32.
        model: The name it was loaded by.
        folder: Where to; made if need be.
        length: Its new context length; the old one leaves the positions as they are.
        keep: Positions that stay.

    Returns:
        The name to load it by.

    Raises:
        ModelError: Its text tower is none whose positions can be stretched.
        UsageError: As ``stretch_positions``, or the configuration is not at hand.
    """
    state = encoder.model.state_dict()
    keys = [key for key in ("positional_embedding", "text.positional_embedding") if key in state]
    if not keys or TextTower(encoder.model).padding is not Padding.LONGEST_CAUSAL:
        raise ModelError(f"{encoder.fingerprint.name}: its text tower has no positions that can be stretched")
    config = _configuration(encoder, model)
    state[keys[0]] = stretch_positions(state[keys[0]], length, keep)
    config["model_cfg"]["text_cfg"]["context_length"] = length
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_weights(state, folder)
    return f"local-dir:{folder}"


def write_weights(state: dict[str, torch.Tensor], folder: Path) -> None:
    """Replace the weights in a model's folder, whole or not at all."""
    draft = folder / f".{WEIGHTS_FILE}"
    save_file({key: tensor.detach().cpu().float().contiguous().clone() for key, tensor in state.items()}, draft)
    draft.replace(folder / WEIGHTS_FILE)


def _configuration(encoder: OpenClipEncoder, model: str) -> dict[str, Any]:
    """The model's configuration as a folder of open_clip holds it."""
    import open_clip

    scheme, _, rest = model.partition(":")
    if scheme == "local-dir":
        config: dict[str, Any] = json.loads((Path(rest) / CONFIG_FILE).read_text(encoding="utf-8"))
        return config
    if scheme == "hf-hub":
        raise UsageError(f"{model}: fetch it into a folder first and name that with local-dir:")
    name = resolve_model_name(model, Path("given"))
    settings = open_clip.get_model_config(name.architecture)
    if name.quick_gelu:
        settings["quick_gelu"] = True
    preprocess = {key: value for key, value in encoder.model.visual.preprocess_cfg.items() if key != "mode"}
    return {"model_cfg": settings, "preprocess_cfg": preprocess}
